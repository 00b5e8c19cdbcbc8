"""Brings up a guest's NICs: a driver for each kind, and what its interrupts and its sleep need.

Not modelled: NICs that come or go while the guest runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from testbed.errors import DeviceError
from testbed.guest.drivers.driver import NetDriver, NetQueue
from testbed.guest.drivers.e1000 import E1000Driver, E1000DriverConfig
from testbed.guest.drivers.vhost_user import SharedRam, VhostUserPort
from testbed.guest.drivers.virtio_mmio import VirtioMmioPort
from testbed.guest.drivers.virtio_net import PairPlace, VirtioNetDriver
from testbed.guest.drivers.virtio_port import VirtioPort
from testbed.guest.interrupts import Interrupts
from testbed.guest.mmio import MmioWindow, PortWindow
from testbed.guest.ram import RamAllocator
from testbed.guest.vcpu import Vcpu, Wait
from testbed.guest.vf import VfParts, bring_up_vf
from testbed.messages.descriptors import Descriptors
from testbed.messages.entries import E1000Entry, GuestEntry, NicEntry, VfEntry, VirtioNetEntry
from testbed.messages.peer_socket import connect_within
from testbed.net.mac import parse_mac
from testbed.observe.counters import Counters

CONNECT_SECONDS: Final = 3.0
"""How long a back end in another process is waited for."""


@dataclass(frozen=True)
class Outside:
    """What a guest shares with back ends in other processes, and where they wake it.

    `pause` lets seconds pass, and hears Stop meanwhile.
    """

    ram: SharedRam
    descriptors: Descriptors
    pause: Callable[[float], None]


class Spread(Protocol):
    """Queue pairs of a virtio-net NIC over vCPUs."""

    def place(self, pair: int, mmio_gpa: int) -> PairPlace:
        """Return from where a pair is used."""
        ...

    def steer(self, queues: Sequence[NetQueue]) -> None:
        """Wake the vCPUs whose queues have work: the device has one interrupt, which the first takes."""
        ...


@dataclass(frozen=True)
class NicParts:
    """What a guest has for its drivers; `wait` blocks as the guest's loop does."""

    vcpu: Vcpu
    ram: RamAllocator
    counters: Counters
    interrupts: Interrupts
    wait: Wait
    outside: Outside | None = None
    """What back ends in other processes need; None: the guest has none."""
    functions: VfParts | None = None
    """What functions of a NIC in the guest's own hands need; None: it has none."""
    spread: "Spread | None" = None
    """Whose vCPU each queue pair is; None: all are the first's."""


def check_driver(guest: GuestEntry, nic: NicEntry) -> None:
    """Raise DeviceError where no driver of the guest's is for a NIC of this kind."""
    kind = str(nic.__struct_config__.tag)
    if kind not in guest.drivers:
        raise DeviceError(
            f"{nic.name}: no driver of guest {guest.name} is for a NIC of kind {kind}; "
            f"it has {', '.join(guest.drivers)}"
        )


def bring_up(parts: NicParts, nic: NicEntry, index: int) -> NetDriver:
    """Return the driver of a NIC that is up; DeviceError where it does not come up, MachineError where RAM is
    short.
    """
    prefix = f"nic{index}"
    match nic:
        case VirtioNetEntry():
            port = _virtio_port(parts, nic)
            parts.interrupts.driver.enable_spi(nic.intid, edge=True)  # an edge before that would be lost
            spread = parts.spread if nic.queue_pairs > 1 and not nic.vhost_user else None
            place = partial(spread.place, mmio_gpa=nic.mmio_gpa) if spread else None
            virtio = VirtioNetDriver(port, parts.ram, parts.counters, prefix, nic, parts.wait, place)
            steer = partial(spread.steer, virtio.queues) if spread else None
            parts.interrupts.on_edge(nic.intid, virtio.handle_interrupt, "interrupts.virtio", steer)
            return virtio
        case E1000Entry():
            parts.interrupts.driver.enable_spi(nic.intid, edge=False)
            e1000 = _e1000(parts, nic, prefix)
            parts.interrupts.on_level(nic.intid, e1000.handle_interrupt, "interrupts.e1000")
            return e1000
        case VfEntry():
            assert parts.functions is not None
            return bring_up_vf(parts.functions, nic, prefix)


def _virtio_port(parts: NicParts, nic: VirtioNetEntry) -> VirtioPort:
    if not nic.vhost_user:
        return VirtioMmioPort(parts.vcpu, nic.mmio_gpa)
    assert parts.outside is not None
    connection = connect_within(nic.vhost_user, CONNECT_SECONDS, parts.outside.pause)
    descriptors = parts.outside.descriptors
    port = VhostUserPort(
        connection,
        parts.outside.ram,
        parse_mac(nic.mac),
        nic.queue_pairs,
        lambda call: descriptors.add(call, _used_buffers, edge=True),
    )
    descriptors.add(connection.fileno(), port.hear)
    return port


def _used_buffers() -> None:
    """A call says only that the guest is to look at its rings."""


def _e1000(parts: NicParts, nic: E1000Entry, prefix: str) -> E1000Driver:
    config = E1000DriverConfig(nic.ring_size, nic.mtu, nic.frames_per_kick, nic.throttle_ns)
    ports = PortWindow(parts.vcpu, nic.io_port) if nic.reset == "io" else None
    window = MmioWindow(parts.vcpu, nic.bar_gpa)
    return E1000Driver(window, parts.ram, parts.counters, prefix, config, ports)


def sleep_hook(drivers: Sequence[NetDriver]) -> Callable[[], bool]:
    """Return what a guest does before it sleeps; True: a NIC has work."""

    def before_sleep() -> bool:
        found = False
        for driver in drivers:  # every one of them, not up to the first
            found |= driver.before_sleep()
        return found

    return before_sleep
