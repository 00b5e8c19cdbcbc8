"""Brings up a virtual function that the guest has in its own hands.

Reference: design, "The three paths", passthrough. The guest finds the function's registers at a guest
physical address, like any device's; that no access to them leaves the guest is stage 2's doing. Its MSIs are
written to the page of the interrupt controller, event N for vector N.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from testbed.address import PAGE_SIZE_BYTES, Gpa
from testbed.guest.drivers.igbvf import VECTOR_SEND, IgbVfConfig, IgbVfDriver, SendTail, VfBus
from testbed.guest.iova import ConfinedDma, GuestIommu, PhysicalDma
from testbed.guest.ram import RamAllocator
from testbed.guest.vectors import Vectors
from testbed.memory.guest import GuestMemory
from testbed.messages.doorbell import Doorbell
from testbed.messages.entries import VfEntry
from testbed.native import Bell, Pinned
from testbed.observe.counters import Counters
from testbed.pci.access import MsiMessage
from testbed.pci.bar_window import BarPort, Requester, Wait
from testbed.spec import bar_window, igb_pci
from testbed.spec.igb import EITR_UNIT_NS
from testbed.spec.igb_vf import REGISTERS
from testbed.spec.its import ITS


@dataclass(frozen=True)
class VfParts:
    """What a guest has for a function's driver.

    memory: by guest physical address, windows included. vectors: has a function's vectors lead where its
    entry says. wait: blocks as the guest's loop does. doorbell:
    given a window's bell and the name of the NIC's process, returns what wakes that. listen: has a bell
    armed before the guest sleeps.
    """

    memory: GuestMemory
    ram: RamAllocator
    counters: Counters
    vectors: Callable[[VfEntry], Vectors]
    wait: Wait
    doorbell: Callable[[Bell, str], Doorbell]
    listen: Callable[[Bell], None]
    is_gone: Callable[[str], bool] = lambda _process: False
    """Says that the process of a device has ended."""
    iommu: GuestIommu | None = None
    """The guest's SMMU; None: its functions use guest physical addresses."""


COUNTER: Final = "interrupts.vf"


class FunctionVector:
    """The vector of sent frames, in the hands of a workload: raised by software, on its way to any vCPU.

    The device masks it when it sends the message, so each `fire` is one interrupt, whatever else was pending.
    """

    def __init__(self, driver: IgbVfDriver, vectors: Vectors) -> None:
        self._registers, self._driver, self._vectors = driver.bus.registers, driver, vectors

    @property
    def vcpus(self) -> int:
        """How many vCPUs it can lead to."""
        return self._vectors.vcpus

    def begin(self, handler: Callable[[], bool]) -> None:
        """Have it handled by `handler`, on the thread of the vCPU that takes it."""
        self._vectors.on_any(VECTOR_SEND, handler, COUNTER)

    def end(self) -> None:
        """Give it back to the driver; it leads to the first vCPU again."""
        self._vectors.steer(VECTOR_SEND, 0)
        self._vectors.on(VECTOR_SEND, partial(self._driver.handle_vector, VECTOR_SEND), COUNTER)

    def steer(self, vcpu: int) -> None:
        """Have it lead to a vCPU."""
        self._vectors.steer(VECTOR_SEND, vcpu)

    def fire(self) -> None:
        """Set its cause, and unmask it."""
        for name in ("VTEICS", "VTEIMS"):
            self._registers.write32(REGISTERS[name].offset, 1 << VECTOR_SEND)


def bring_up_vf(parts: VfParts, nic: VfEntry, prefix: str) -> IgbVfDriver:
    """Return the driver of a function that is up; DeviceError where it does not come up."""
    size = bar_window.BAR_WINDOW.size
    window = Pinned(parts.memory.view(nic.window_gpa, size))
    parts.listen(Bell(window, bar_window.BELL_TO_DRIVER))
    bell = Bell(window, bar_window.BELL_TO_DEVICE)
    device = parts.doorbell(bell, nic.nic)
    requester = Requester(window, device.ring, parts.wait, is_gone=lambda: parts.is_gone(nic.nic))
    registers = BarPort(requester, igb_pci.REGISTERS_BAR)
    tail = SendTail(registers.doorbell(REGISTERS["TDT"].offset, bell), device)
    bus = VfBus(registers, BarPort(requester, igb_pci.MSIX_BAR), send_tail=tail)
    dma, msi_page = _dma(parts, nic)
    address = nic.msi_address or msi_page + ITS["TRANSLATER"].offset % PAGE_SIZE_BYTES
    vectors = [MsiMessage(address, event) for event in range(len(nic.intids))]
    throttle_us = nic.throttle_ns // EITR_UNIT_NS
    config = IgbVfConfig(vectors, nic.ring_size, nic.mtu, throttle_us, all_multicast=True)
    routed = parts.vectors(nic)
    driver = IgbVfDriver(bus, dma, parts.counters, prefix, config, lambda ns: _pass(parts.wait, ns))
    driver.steering = FunctionVector(driver, routed)
    for vector in range(len(nic.intids)):
        routed.on(vector, partial(driver.handle_vector, vector), COUNTER)
    return driver


def _dma(parts: VfParts, nic: VfEntry) -> tuple[PhysicalDma | ConfinedDma, int]:
    """Return where the function's driver gets memory, and where the function finds the page of the interrupt
    controller: a write of an MSI is translated like any other.
    """
    if parts.iommu is None:
        return PhysicalDma(parts.ram, nic.ram_offset), nic.msi_gpa
    space = parts.iommu.attach(nic.guest_stream)
    msi_page = space.map(Gpa(nic.msi_gpa), PAGE_SIZE_BYTES, device=True)
    return ConfinedDma(parts.ram, space), msi_page


def _pass(wait: Wait, duration_ns: int) -> None:
    wait(lambda: False, time.monotonic_ns() + duration_ns)
