"""Network namespaces of a topology's guests: made, held, and emptied.

A namespace has no name: only descriptors lead to it, one of the launcher and one of its fork server, so it is
gone with them, whatever ends them. Its devices are gone with the descriptors of their guest. What runs in it
(`virtbed exec`) is ended before that, or it would keep it.

A thread makes them, because a thread can be in a namespace of its own and takes nobody else with it.
Reference: namespaces(7), network_namespaces(7), unshare(2), setns(2). Not modelled: other kinds of
namespaces.
"""

import ctypes
import errno
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from launcher import netns_device
from launcher.netns_programs import OWN_NAMESPACE, inhabitants, signal_all
from launcher.problems import did_you_mean
from testbed.errors import MachineError
from testbed.messages.entries import GuestEntry, Plan, ProcessPlan

_CLONE_NEWNET: Final = 0x4000_0000
_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Namespace:
    """A guest's namespace and the devices in it."""

    descriptor: int
    inode: int
    """By which /proc shows who is in it."""
    taps: dict[str, int]
    """Descriptors of its devices by the name under which the guest gets them."""

    def close(self) -> None:
        """Let it go; what was handed over lives on."""
        os.close(self.descriptor)
        self.close_taps()

    def close_taps(self) -> None:
        """Let the devices go: their guest has them."""
        for descriptor in self.taps.values():
            os.close(descriptor)
        self.taps.clear()


class Namespaces:
    """The namespaces of a plan, by guest."""

    def __init__(self, plan: Plan) -> None:
        """Take note of what is wanted; nothing is made before `create`."""
        self._wanted = [guest for guest in guests_of(plan) if guest.taps]
        self._made: dict[str, Namespace] = {}

    @property
    def descriptors(self) -> list[int]:
        """The namespaces, for whoever is to hold them too."""
        return [namespace.descriptor for namespace in self._made.values()]

    def create(self) -> None:
        """Make every namespace and its devices; on an error the caller closes what was made.

        Raises MachineError with what to do when the system refuses.
        """
        for guest in self._wanted:
            self._made[guest.name] = in_own_thread(partial(_make, guest))

    def find(self, guest: str) -> Namespace | None:
        """Return the namespace of a guest; None where it has none."""
        return self._made.get(guest)

    def files(self, process: ProcessPlan) -> tuple[int, ...]:
        """Return the descriptors of a process's devices in the order of its `files`."""
        return tuple(self._made[process.name].taps[name] for name in process.files)

    def spawned(self, process: ProcessPlan) -> None:
        """Let go of the devices of a process that has them now."""
        if process.name in self._made:
            self._made[process.name].close_taps()

    @property
    def _inodes(self) -> set[int]:
        return {namespace.inode for namespace in self._made.values()}

    def inhabited(self) -> bool:
        """Say whether any process is in one of them."""
        return bool(inhabitants(self._inodes))

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to every process in them; say whether there are any."""
        return signal_all(self._inodes, number)

    def close(self) -> None:
        """Let all of them go."""
        for namespace in self._made.values():
            namespace.close()
        self._made.clear()


def guests_of(plan: Plan) -> list[GuestEntry]:
    """Return the guests of a plan."""
    return [process.entry for process in plan.processes if isinstance(process.entry, GuestEntry)]


def why_none(plan: Plan, guest: str) -> str:
    """Say why a guest has no namespace."""
    guests = {entry.name: entry for entry in guests_of(plan)}
    if guest not in guests:
        hint = did_you_mean(guest, guests) or f"; the guests are {', '.join(list(guests)[:8])}"
        return f"topology {plan.topology} has no guest {guest}{hint}"
    with_one = ", ".join(name for name, entry in guests.items() if entry.taps)
    there = f"only {with_one}" if with_one else "no guest has one"
    return (
        f"guest {guest} has no network namespace ({there}): give it the workload "
        f"{{kind: netns, guest: {guest}, address: 10.0.0.1/24}}"
    )


def check_possible(plan: Plan) -> None:
    """Raise MachineError where a plan has namespaces and this process may not make them."""
    if any(guest.taps for guest in guests_of(plan)):
        in_own_thread(_try)


def enter(path: str, inode: int) -> None:
    """Have the calling thread be in the namespace that a descriptor of another process leads to.

    Raises MachineError where that is not allowed, or the namespace is gone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MachineError("the namespace is gone: its topology has ended") from None
    except PermissionError:
        raise MachineError("only root can run programs in a guest's namespace: use sudo") from None
    with os.fdopen(descriptor, "rb"):
        if os.fstat(descriptor).st_ino != inode:
            raise MachineError("the namespace is gone: its topology has ended")
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            why = os.strerror(ctypes.get_errno())
            raise MachineError(f"the namespace cannot be entered: {why}; only root can (CAP_SYS_ADMIN)")


def in_own_thread(work: Callable[[], _T]) -> _T:
    """Return what `work` returns, or raise what it raises, run in a thread with a new namespace of its own.

    Raises MachineError where the system refuses either.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            _unshare()
            results.append(work())
        except BaseException as error:  # raised again below, in the thread that asked
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors and isinstance(errors[0], OSError):
        raise _refused(errors[0])
    if errors:
        raise errors[0]
    return results[0]


def _unshare() -> None:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _make(guest: GuestEntry) -> Namespace:
    descriptor = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    namespace = Namespace(descriptor, os.fstat(descriptor).st_ino, {})
    try:
        netns_device.bring_up(netns_device.LOOPBACK)
        for tap in guest.taps:
            nic = guest.nics[tap.nic]
            namespace.taps[tap.descriptor] = netns_device.open_tap(tap.interface, offload=tap.offload)
            netns_device.configure(tap.interface, nic.mac, nic.mtu, tap.address)
    except OSError:
        namespace.close()
        raise
    return namespace


def _try() -> None:
    os.close(netns_device.open_tap("try0"))


def _refused(error: OSError) -> MachineError:
    what = f"network namespaces and TAP devices cannot be made here: {error.strerror}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return MachineError(f"{what}; workloads of kind netns need root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        device = netns_device.TUN_DEVICE
        return MachineError(f"{what}; {device} must be there: modprobe tun, or give it to the container")
    return MachineError(f"{what}; see network_namespaces(7)")
