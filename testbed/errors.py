"""Exception types of the testbed.

    VirtbedError
    ├── ConfigError      a person's mistake in a file or on the command line (exit code 2)
    ├── MachineError     this machine lacks something, or a process died (exit code 3)
    ├── GuestError       a guest broke a rule of a standard; counted and contained by the device
    │   ├── MemoryFault  an access outside what is mapped, or without the permission
    │   ├── RingError    a virtqueue that breaks the virtio standard
    │   └── ItsFault     a command or a signalled event that the ITS's tables have nothing for
    ├── DeviceError      a device or back end broke a rule towards its driver
    ├── PeerGone         the process at the other end went away (we did not close it)
    └── StopRequested    we were told to stop in the middle of a wait; not a failure

A bug of our own is an AssertionError or TypeError and ends the process: it is never caught.
"""


class VirtbedError(Exception):
    """Root of every exception that virtbed raises on purpose."""


class ConfigError(VirtbedError):
    """A person's mistake: the text names the subject, the rule and the value.

    `problems` holds one line for every mistake found, so that all can be mended in one go.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = problems


class MachineError(VirtbedError):
    """The machine lacks something, or a process of the topology died; the text says what to do."""


class GuestError(VirtbedError):
    """A guest broke a rule; `reason` is the name of the counter that records it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class MemoryFault(GuestError):
    """An access outside what is mapped, or one that the mapping does not permit."""

    def __init__(self, address: int, length_bytes: int, why: str = "is not mapped") -> None:
        super().__init__("memory_fault", f"{length_bytes} bytes at {address:#x}: {why}")
        self.address = address
        self.length_bytes = length_bytes


class RingError(GuestError):
    """A virtqueue that breaks the virtio standard."""


class ItsFault(GuestError):
    """A command or a signalled event that the ITS's tables have nothing for."""


class DeviceError(VirtbedError):
    """A device broke a rule towards the driver that uses it."""


class PeerGone(VirtbedError):
    """The process at the other end went away."""


class StopRequested(VirtbedError):
    """Stop arrived while an action waited: the action is abandoned, the process leaves in order."""
