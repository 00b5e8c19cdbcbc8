"""To which vCPU a guest's message vectors lead, and how it has them lead to another one, as a kernel's IRQ
affinity.

Reference: ARM IHI 0069 §3.3 (SPIs: GICD_IROUTER), §5.3 (LPIs: MAPTI, MOVI of the guest's ITS). By either an
interrupt that is under way arrives once, at the old vCPU or at the new one. Handlers are every vCPU's; what a
handler does with a device is done on the vCPU that serves it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from testbed.address import GUEST_ITS_GPA
from testbed.guest.gic import GicDriver
from testbed.guest.interrupts import Handler, Interrupts
from testbed.guest.mmio import RegisterBlock
from testbed.guest.ram import RamAllocator
from testbed.guest.vcpu import Vcpu
from testbed.memory.guest import GuestMemory
from testbed.pci.its_software import ItsSoftware


class Routes(Protocol):
    """How events of devices become interrupts of vCPUs."""

    def add_device(self, device: int, events: int) -> None:
        """Know a device of so many events."""
        ...

    def enable(self, device: int, event: int, intid: int, vcpu: int) -> None:
        """Have an event's interrupt delivered to a vCPU."""
        ...

    def steer(self, device: int, event: int, intid: int, vcpu: int) -> None:
        """Have it delivered to another vCPU from now on."""
        ...


class SpiRoutes:
    """Vectors that are edge-triggered SPIs."""

    def __init__(self, driver: GicDriver) -> None:
        self._driver = driver

    def add_device(self, device: int, events: int) -> None:
        """There is nothing to tell the distributor of a device."""

    def enable(self, device: int, event: int, intid: int, vcpu: int) -> None:  # noqa: ARG002
        """Route and enable the SPI."""
        self._driver.enable_spi(intid, edge=True, vcpu=vcpu)

    def steer(self, device: int, event: int, intid: int, vcpu: int) -> None:  # noqa: ARG002
        """Write GICD_IROUTER."""
        self._driver.route_spi(intid, vcpu)


class LpiRoutes:
    """Vectors that are LPIs, by the guest's ITS; `drivers`: the interrupt controller as each vCPU has it."""

    def __init__(
        self, cpu: Vcpu, memory: GuestMemory, ram: RamAllocator, drivers: Sequence[GicDriver]
    ) -> None:
        drivers[0].start_lpis(ram, drivers)
        self._driver = drivers[0]

        def allocate(size_bytes: int) -> int:
            return int(ram.take(size_bytes, "a table of the ITS").gpa)

        self._its = ItsSoftware(RegisterBlock(cpu, GUEST_ITS_GPA), memory, allocate)
        self._its.start(len(drivers))

    def add_device(self, device: int, events: int) -> None:
        """MAPD."""
        self._its.map_device(device, events)

    def enable(self, device: int, event: int, intid: int, vcpu: int) -> None:
        """Enable the LPI in its table, then MAPTI and INV."""
        self._driver.enable_lpi(intid)
        self._its.map_event(device, event, intid, vcpu)

    def steer(self, device: int, event: int, intid: int, vcpu: int) -> None:  # noqa: ARG002 the ITS knows it
        """MOVI."""
        self._its.move_event(device, event, vcpu)


class Vectors:
    """A device's message vectors; vector N writes event N. All of it is the first vCPU's but the handlers.

    interrupts: of each vCPU. post: has a call made on the first vCPU's thread. affinity: the vCPU of each
    vector.
    """

    def __init__(
        self,
        routes: Routes,
        interrupts: Sequence[Interrupts],
        post: Callable[[Callable[[], None]], None],
        device: int,
        intids: Sequence[int],
        affinity: Sequence[int],
    ) -> None:
        self._routes, self._interrupts, self._post = routes, interrupts, post
        self._device, self._intids = device, intids
        routes.add_device(device, len(intids))
        for event, (intid, vcpu) in enumerate(zip(intids, affinity, strict=True)):
            routes.enable(device, event, intid, vcpu)

    @property
    def vcpus(self) -> int:
        """How many vCPUs a vector can lead to."""
        return len(self._interrupts)

    def steer(self, vector: int, vcpu: int) -> None:
        """Have a vector lead to a vCPU."""
        self._routes.steer(self._device, vector, self._intids[vector], vcpu)

    def on(self, vector: int, handler: Handler, counter: str) -> None:
        """Have a vector handled on the first vCPU's thread, whichever vCPU takes it."""
        first, *others = self._interrupts
        first.on_vector(self._intids[vector], handler, counter)
        for other in others:
            other.on_vector(self._intids[vector], partial(self._hand_over, handler), counter)

    def on_any(self, vector: int, handler: Handler, counter: str) -> None:
        """Have a vector handled on the thread of the vCPU that takes it."""
        for interrupts in self._interrupts:
            interrupts.on_vector(self._intids[vector], handler, counter)

    def _hand_over(self, handler: Handler) -> bool:
        self._post(partial(_handle, handler))
        return True


def _handle(handler: Handler) -> None:
    handler()
