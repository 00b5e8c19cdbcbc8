"""The hypervisor of the measured vCPU: leads a device's event to it by one way or the other.

Reference: design, "Interrupt virtualization". By list registers the event is an LPI of this process's, which
makes it pending in the guest's interrupt controller, has the vCPU exit and fills a list register; directly
the ITS delivers to the vCPU, and nothing comes here. Both run the classes that vmm and guest run. Not
modelled: memory, devices and registers of a guest.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from testbed.address import PAGE_SIZE_BYTES
from testbed.irqbench.source import EVENT
from testbed.memory.arena import Arena
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.segment import Segment
from testbed.memory.tables import Attributes, TableBuilder
from testbed.messages.doorbell import Ringer
from testbed.native import ExitRequests, ListRegisters, Pinned, SharedWords, VpePort
from testbed.observe.counters import Counters
from testbed.pci.bar_window import BarPort, Requester, Wait
from testbed.pci.smmu_driver import SmmuDriver
from testbed.pci.smmu_entries import stage2_entry
from testbed.spec import gic, its, lpi, vcpu_page
from testbed.spec.iommu_window import SPACE_GICR, SPACE_ITS, SPACE_SMMU
from testbed.spec.irq_stamps import IRQ_STAMPS
from testbed.vmm.host_lpis import HostLpis, ScheduledVpe
from testbed.vmm.interrupt_line import SpiEdge, SpiLine
from testbed.vmm.its_driver import PRIORITY, ItsDriver
from testbed.vmm.vgic import VcpuParts, Vgic

MESSAGE_GPA: Final = 0x0809_0000
"""Where the guest has the ITS's page; its register is at the same offset."""
EVENTS: Final = 8
VLPI: Final = lpi.LPI_FIRST + 70
SPI: Final = gic.SPI_FIRST + 3
CAUSE_GPA: Final = 0x0A00_00C0
"""Any address of a device that stage 2 does not map."""
_GROUPS: Final = 0b11
_STAGE2_FRAMES: Final = 32
_VMID: Final = 1


@dataclass(frozen=True, slots=True)
class Shared:
    """What the hypervisor shares with IOMMU and vCPU."""

    tables: Segment
    vpt: Segment
    window: Pinned
    lpis: Pinned
    vcpu: Pinned
    stamps: Pinned


class Hypervisor:
    """Maps one event of one device to one vCPU."""

    def __init__(
        self,
        shared: Shared,
        ring_iommu: Callable[[], None],
        vcpu_bell: Ringer,
        wait: Wait,
        counters: Counters,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        requester = Requester(shared.window, ring_iommu, wait)
        self.memory = HostMemory([shared.tables, shared.vpt])
        arena = Arena(self.memory, shared.tables.hpa, shared.tables.size_bytes)
        self._smmu = SmmuDriver(BarPort(requester, SPACE_SMMU), self.memory, arena.allocate)
        self._its = ItsDriver(
            BarPort(requester, SPACE_ITS), BarPort(requester, SPACE_GICR), self.memory, arena.allocate
        )
        self._allocate = arena.allocate
        self.lpis = HostLpis(shared.lpis)
        self._shared, self._bell, self._counters, self._clock_ns = shared, vcpu_bell, counters, clock_ns
        self._stamps = SharedWords(shared.stamps)
        parts = VcpuParts(ListRegisters(shared.vcpu), SharedWords(shared.vcpu), vcpu_bell)
        self._line: SpiLine | None = None
        self._vgic = Vgic([parts], counters, lambda _reason, _detail: None, clock_ns)
        cpu = self._vgic.cpus[0]
        cpu.lpis_on = True
        cpu.lpis.config = lambda _number: PRIORITY | lpi.LPI_ENABLE.mask
        self._vgic.groups_changed(_GROUPS)
        self.requests = ExitRequests(shared.vcpu, cpu.enter)
        cpu.is_out = lambda: self.requests.ready

    def map(self, way: Literal["list-registers", "direct"], device: int, its_hpa: int) -> None:
        """Bring SMMU and ITS up, let the device write to the ITS, and lead its event."""
        self._smmu.start()
        self._its.start()
        self._let_in(device, its_hpa)
        self._its.map_device(device, EVENTS)
        if way == "direct":
            self._map_direct(device)
        else:
            self.lpis.on(self._its.map_lpi(device, EVENT), self._inject)
        self._stamps.store32(IRQ_STAMPS.offset("mapped"), 1)

    def _let_in(self, device: int, its_hpa: int) -> None:
        """Give the device the one page that it may write to."""
        base = self._allocate(_STAGE2_FRAMES * PAGE_SIZE_BYTES)
        frames = FrameAllocator(self.memory, base, _STAGE2_FRAMES * PAGE_SIZE_BYTES)
        builder = TableBuilder(self.memory, frames, 2)
        page = its_hpa + its.ITS["TRANSLATER"].offset & -PAGE_SIZE_BYTES
        builder.map(MESSAGE_GPA, page, PAGE_SIZE_BYTES, Attributes(device=True))
        self._smmu.set_entry(device, stage2_entry(_VMID, builder.root, False))

    def _map_direct(self, device: int) -> None:
        vpt = self._shared.vpt
        table = Pinned(vpt.view[lpi.PENDING_RESERVED_BYTES :][: lpi.VLPI_WORDS * 8])
        vpe_id, doorbell = self._its.map_vpe(vpt.hpa), self._its.doorbell()
        port = VpePort(self._shared.vcpu, table)
        vpe = ScheduledVpe(vpe_id, port, self._bell.ring, lambda wanted: wanted.enter())
        self.lpis.on(doorbell, vpe.rung)
        self._its.map_vlpi(device, EVENT, vpe_id, VLPI, doorbell)
        vpe.enter()

    def _inject(self) -> None:
        self._stamps.store64(IRQ_STAMPS.offset("vmm_ns"), self._clock_ns())
        self._vgic.send_lpi(0, VLPI)

    def add_device(self, kind: Literal["virtio", "e1000"]) -> tuple[Callable[[], object], Callable[[], bool]]:
        """Give the guest a device whose model is here; return what raises its interrupt, and what says that
        its line is low.
        """
        vgic, bit = self._vgic, 1 << SPI - gic.SPI_FIRST
        vgic.spis.group1 |= bit
        vgic.spis.enabled |= bit
        vgic.spis.set_priority(SPI - gic.SPI_FIRST, PRIORITY)
        self._stamps.store32(IRQ_STAMPS.offset("mapped"), 1)
        if kind == "virtio":
            vgic.spis.edge |= bit
            return SpiEdge(vgic, SPI, self._counters, "interrupts.virtio").pulse, lambda: True
        self._line = SpiLine(vgic, SPI, self._counters, "interrupts.e1000")
        return partial(self._line.set_level, True), lambda: not vgic.spis.line & bit

    def take_lpis(self) -> bool:
        """Take what is raised at this processor."""
        moved = self.lpis.take()
        self._counters.set("lpis.taken", self.lpis.taken)
        return moved

    def handle_exit(self) -> bool:
        """Answer the vCPU's exit: it goes on with its list registers filled."""
        asked = self.requests.take()
        if asked is None:
            return False
        if asked[0] == vcpu_page.EXIT_EXCEPTION and self._line is not None:
            self._line.set_level(False)  # its causes were read
        self.requests.answer(0)
        self._counters.add("exits.answered")
        self._bell.ring()
        return True
