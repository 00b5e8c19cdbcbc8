"""Messages between the launcher and the processes it started (ZeroMQ, msgspec JSON).

Each process has one DEALER socket to the launcher's ROUTER; its identity is its name. Nothing here is on a
data path. A process speaks first (`Ready`), then answers what it is asked. Times are CLOCK_MONOTONIC
nanoseconds, the same clock in every process of a machine.
"""

import msgspec

from testbed.messages.attack import AttackEntry, Behaviour
from testbed.messages.entries import FlowEntry


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Root of every control message."""


class Ready(Message, frozen=True, kw_only=True):
    """The process is up; a guest's NICs have reached DRIVER_OK."""

    at_ns: int


class Failed(Message, frozen=True, kw_only=True):
    """The process cannot go on and says why before it exits."""

    reason: str


class GuestReport(Message, frozen=True, kw_only=True):
    """A guest broke a rule; told once for each kind, counted always."""

    guest: str
    device: str
    reason: str
    detail: str


class Expect(Message, frozen=True, kw_only=True):
    """To a receiving guest: get ready to check this flow; answered by `Expecting`."""

    flow: FlowEntry


class Expecting(Message, frozen=True, kw_only=True):
    """The receiver checks the flow from now on."""

    flow_id: int


class Start(Message, frozen=True, kw_only=True):
    """To a sending guest: send this flow; answered by `Sent` when the device has its last frame."""

    flow: FlowEntry


class Sent(Message, frozen=True, kw_only=True):
    """The sender is done. Latencies only for request/response flows."""

    flow_id: int
    sent: int
    answered: int = 0
    seconds: float
    latency_ns: dict[str, int] | None = None
    """p50, p99, p999."""


class Collect(Message, frozen=True, kw_only=True):
    """To the receiver: `sent` frames were sent; answer `Received` when all are here or nothing more comes."""

    flow_id: int
    sent: int


class Received(Message, frozen=True, kw_only=True):
    """What arrived of a flow. `bytes` counts frames without FCS."""

    flow_id: int
    received: int
    reordered: int
    corrupted: int
    duplicated: int
    bytes: int
    seconds: float
    """From the first frame's arrival to the last one's."""


class Cancel(Message, frozen=True, kw_only=True):
    """Forget a flow: its other end is gone or the run is over."""

    flow_id: int


class StartCapture(Message, frozen=True, kw_only=True):
    """To a vmm: write the frames of a NIC to a pcapng file or pipe; answered by `CaptureStarted`."""

    capture_id: int
    nic: str
    file: str
    expression: str = ""
    """Only frames that match; empty: all."""
    count: int = 0
    """End after so many; 0: when it is stopped."""


class CaptureStarted(Message, frozen=True, kw_only=True):
    """Every frame from now on is captured, unless `refused` says why not."""

    capture_id: int
    refused: str = ""


class StopCapture(Message, frozen=True, kw_only=True):
    """To a vmm: end a capture; nothing happens where it has ended."""

    capture_id: int


class CaptureStopped(Message, frozen=True, kw_only=True):
    """A capture that had started has ended, whatever the reason, and its file is whole; told once."""

    capture_id: int
    frames: int
    missed: int
    """Frames that a pipe's reader was too slow for."""
    error: str = ""


class VfState(msgspec.Struct, frozen=True, kw_only=True):
    """One virtual function of a NIC: what the operator wants of it, and what its driver did."""

    number: int
    guest: str
    """Who has it; empty: nobody."""
    mac: str
    vlan: int
    rate_bits_per_second: int
    """0: no limit."""
    spoof_check: bool
    trust: bool
    drop: bool
    """Frames for which it has no descriptors are dropped at once."""
    link: bool
    running: bool
    """Its driver is up and may send."""
    resets: int
    messages: int
    """Of its driver, in the mailbox; `refused` of them were answered with NACK."""
    refused: int
    throttled: int
    """Times that its mailbox was not listened to for a while."""
    spoof_events: int


class NicState(msgspec.Struct, frozen=True, kw_only=True):
    """A NIC with virtual functions, as the driver of its physical function has it."""

    name: str
    link_up: bool
    vfs: tuple[VfState, ...]


class VfChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a virtual function that are to be others; None: as it is."""

    mac: str | None = None
    vlan: int | None = None
    rate_bits_per_second: int | None = None
    spoof_check: bool | None = None
    trust: bool | None = None
    drop: bool | None = None
    link: bool | None = None


class ShowVfs(Message, frozen=True, kw_only=True):
    """To a vmm: say what virtual functions its host has; answered by `VfStates`."""

    request_id: int


class VfStates(Message, frozen=True, kw_only=True):
    """The NICs of a host."""

    request_id: int
    nics: tuple[NicState, ...]


class SetVf(Message, frozen=True, kw_only=True):
    """To a vmm: change settings of a virtual function; answered by `VfSet`."""

    request_id: int
    nic: str
    number: int
    changes: VfChanges


class VfSet(Message, frozen=True, kw_only=True):
    """The settings are in force, unless `refused` says why not."""

    request_id: int
    refused: str = ""


class InspectInterrupts(Message, frozen=True, kw_only=True):
    """To a vmm or an IOMMU: tell the state of interrupts; answered by `InterruptState`."""

    inspection_id: int


class ListRegister(msgspec.Struct, frozen=True, kw_only=True):
    """One list register that is not empty (ICH_LR<n>_EL2)."""

    intid: int
    state: str
    priority: int
    group: int


class VcpuInterrupts(msgspec.Struct, frozen=True, kw_only=True):
    """The interrupts of one vCPU, as its page has them."""

    guest: str
    vcpu: int
    way: str
    """How a device function's interrupts get in: `list-registers` or `direct`."""
    running: bool
    resident: int | None
    """The host processor on which its vPE is scheduled."""
    pending: tuple[int, ...] = ()
    """Virtual LPIs that wait to be taken."""
    list_registers: tuple[ListRegister, ...] = ()
    active_priorities: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()
    """Pending and enabled in the interrupt controller, and in no list register."""
    disabled: tuple[int, ...] = ()
    """Pending there and not enabled."""
    active: tuple[int, ...] = ()
    """Active there, and in no list register."""


class EventRoute(msgspec.Struct, frozen=True, kw_only=True):
    """Where the ITS leads an event."""

    device: int
    event: int
    virtual: bool
    intid: int
    target: int
    """Collection or vPE."""
    processor: int | None = None
    """None: the target is not mapped."""
    doorbell: int | None = None
    function: str = ""
    """Of whom the DeviceID is."""
    vcpu: str = ""
    """Whose vPE it leads to."""


class InterruptState(Message, frozen=True, kw_only=True):
    """What a vmm's vCPUs, or an IOMMU's ITS, have."""

    inspection_id: int
    vcpus: tuple[VcpuInterrupts, ...] = ()
    routes: tuple[EventRoute, ...] = ()


class PeerDied(Message, frozen=True, kw_only=True):
    """To a process: a NIC or an IOMMU that it works with is gone and does not come back."""

    name: str


class BeginAttack(Message, frozen=True, kw_only=True):
    """To a guest: let a hostile driver have a virtual function; answered by `Attacking`."""

    attack: AttackEntry


class Attacking(Message, frozen=True, kw_only=True):
    """The function is in the hostile driver's hands, which does nothing wrong yet."""

    attack_id: int
    page_gpa: int
    """A page of the guest's own that the driver uses for DMA."""


class Turn(Message, frozen=True, kw_only=True):
    """To an attacking guest: be hostile, do the same work with what is your own, or rest; answered by
    `Turned`, behind everything that was done before.
    """

    attack_id: int
    behave: Behaviour
    target: int = 0
    """Address in another's memory, where the attack has one."""


class Turned(Message, frozen=True, kw_only=True):
    """The driver is as it was told to be."""

    attack_id: int
    attempts: int
    """Hostile ones, since the attack began."""
    through: int
    """Those that succeeded, as far as the attacker can see."""


class EndAttack(Message, frozen=True, kw_only=True):
    """To an attacking guest: give the function back to its ordinary driver; answered by `Attacked`."""

    attack_id: int


class Attacked(Message, frozen=True, kw_only=True):
    """The attack is over."""

    attack_id: int
    attempts: int
    through: int
    recovered: bool
    """The ordinary driver has brought the function up again."""


class Guard(Message, frozen=True, kw_only=True):
    """To a guest or a vmm: watch a page from now on; answered by `Guarding`.

    A vmm that is given the attacker's page takes it away from it, or its right to write it.
    """

    attack: AttackEntry
    page_gpa: int


class Guarding(Message, frozen=True, kw_only=True):
    """The page holds a pattern; or it is none that can be watched."""

    attack_id: int
    address: int = 0
    """Guest physical from a guest, host physical from a vmm."""
    refused: str = ""


class Inspect(Message, frozen=True, kw_only=True):
    """To whoever guards a page: look at it, and put things as they were; answered by `Inspected`."""

    attack_id: int


class Inspected(Message, frozen=True, kw_only=True):
    """What became of a page."""

    attack_id: int
    changed_bytes: int


class Stop(Message, frozen=True, kw_only=True):
    """Leave in order: quiesce, close, exit 0."""


ToProcess = (
    Expect
    | Start
    | Collect
    | Cancel
    | StartCapture
    | StopCapture
    | ShowVfs
    | SetVf
    | InspectInterrupts
    | PeerDied
    | BeginAttack
    | Turn
    | EndAttack
    | Guard
    | Inspect
    | Stop
)
FromProcess = (
    Ready
    | Failed
    | GuestReport
    | Expecting
    | Sent
    | Received
    | CaptureStarted
    | CaptureStopped
    | VfStates
    | VfSet
    | InterruptState
    | Attacking
    | Turned
    | Attacked
    | Guarding
    | Inspected
)
