"""One virtual machine as its hypervisor has it: memory, stage-2 tables, interrupt controller, exits, devices.

Assembled from its plan entry. Reference: design, "Processes, and what each can touch". Not modelled: memory
that comes or goes while the guest runs.
"""

import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial

from testbed.address import GUEST_GICD_GPA, GUEST_GICR_GPA, GUEST_ITS_GPA, Hpa
from testbed.e1000.device import E1000, E1000Config
from testbed.errors import DeviceError
from testbed.memory.guest import GuestMemory
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.segment import Segment
from testbed.memory.tables import TableBuilder
from testbed.messages.doorbell import Ringer, vcpu_inbox
from testbed.messages.entries import E1000Entry, GuestEntry, GuestSmmuEntry, VirtioNetEntry
from testbed.native import Bell, ListRegisters, Pinned, Regions, SharedWords
from testbed.net.mac import parse_mac
from testbed.observe.catalogue import smmu_counters
from testbed.observe.counters import Counters
from testbed.observe.trace import process_number
from testbed.spec import e1000 as e1000_spec
from testbed.spec import gic_registers, vcpu_page
from testbed.spec import virtio as virtio_spec
from testbed.spec.smmu import SMMU
from testbed.virtio.mmio import VirtioMmio
from testbed.virtio.net import VirtioNet
from testbed.virtio.net_config import NetConfig
from testbed.vmm.bus import Bus
from testbed.vmm.exit_counts import ExitCounts, GicExitCounts
from testbed.vmm.exit_pace import ExitPace
from testbed.vmm.exits import ExitHandler, Report
from testbed.vmm.guest_its import GuestEvents, GuestIts
from testbed.vmm.interrupt_line import SpiEdge, SpiLine
from testbed.vmm.vgic import VcpuParts, Vgic
from testbed.vmm.vgic_distributor import Distributor
from testbed.vmm.vgic_redistributor import Redistributor
from testbed.vmm.vsmmu import GuestSmmu, GuestStage1

Device = VirtioNet | E1000
"""Every kind of NIC that is served here."""


class Vm:
    """A guest's half of the machine that the guest itself cannot touch."""

    def __init__(
        self,
        entry: GuestEntry,
        ram: Segment,
        tables: Segment,
        vcpu: Segment,
        counters: Counters,
        bells: Sequence[Ringer],
        report: Report,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`bells` ring the vCPUs."""
        self.entry, self.name = entry, entry.name
        self.ram, self._tables = ram, tables
        self.pages = [Pinned(page) for page in _pages(vcpu, entry.vcpus)]
        self.memory = Regions()
        self.memory.add(entry.ram_gpa, ram.pinned, hpa=ram.hpa)
        self.bus, self.ports = Bus(), Bus()
        self.bells = bells
        self.from_guest = [Bell(page, vcpu_page.BELL_TO_VMM) for page in self.pages]
        self.nics: list[Device] = []
        self.smmu: GuestSmmu | None = None
        self._counters, self._counter_page = counters, Pinned(counters.buffer)
        self._doorbells = 0
        self.stage2 = _map_ram(entry, ram, tables)
        self.vgic = self._add_vgic(report, clock)
        self.pace = ExitPace(clock)
        self.exits = [
            ExitHandler(page, self.bus, self.ports, cpu, bell, counters, report, self.pace)
            for page, cpu, bell in zip(self.pages, self.vgic.cpus, bells, strict=True)
        ]
        """What answers the exits of each vCPU."""
        for handler, cpu in zip(self.exits, self.vgic.cpus, strict=True):
            cpu.is_out = partial(getattr, handler.requests, "ready")
            cpu.who = handler.requests.who = process_number(vcpu_inbox(self.name, cpu.number))

    def _add_vgic(self, report: Report, clock: Callable[[], int]) -> Vgic:
        """Build the interrupt controller behind its registers."""
        parts = [
            VcpuParts(ListRegisters(page), SharedWords(page), bell)
            for page, bell in zip(self.pages, self.bells, strict=True)
        ]
        counters = self._counters
        vgic = Vgic(parts, counters, lambda reason, detail: report("gic", reason, detail), clock)

        counts = GicExitCounts(counters)

        def odd() -> None:
            counters.add("vgic.odd_access")

        self.bus.add(GUEST_GICD_GPA, gic_registers.GICD_BYTES, Distributor(vgic, odd), counts, is_paced=True)
        for cpu in vgic.cpus:
            is_last = cpu.number == len(parts) - 1
            redistributor = Redistributor(vgic, cpu, is_last, self._byte, odd)
            gpa = GUEST_GICR_GPA + cpu.number * gic_registers.GICR_V3_STRIDE_BYTES
            self.bus.add(gpa, gic_registers.GICR_V3_STRIDE_BYTES, redistributor, counts, is_paced=True)
        return vgic

    def _byte(self, gpa: int) -> int | None:
        """Return a byte of the guest's RAM; None where there is none."""
        at = gpa - self.entry.ram_gpa
        return self.ram.view[at] if 0 <= at < self.ram.size_bytes else None

    def add_virtio_net(
        self, nic: VirtioNetEntry, changed: Callable[[VirtioNet], None], report: Report
    ) -> VirtioNet:
        """Build a virtio-net device behind its register block and its doorbell."""
        interrupt = SpiEdge(self.vgic, nic.intid, self._counters, "interrupts.virtio")
        device = VirtioNet(
            net_config(nic),
            self.memory,
            interrupt,
            self._counter_page,
            self._counters.offset(f"{nic.name}.frames_in"),
            lambda: changed(device),
            lambda reason, detail: report(nic.name, reason, detail),
        )
        self.bus.add(
            nic.mmio_gpa,
            virtio_spec.MMIO_STRIDE_BYTES,
            VirtioMmio(device.device, device.count_fault),
            ExitCounts(self._counters, nic.name, virtio_spec.MMIO),
        )
        self._add_doorbell(nic.mmio_gpa + virtio_spec.MMIO["QueueNotify"].offset)
        self.nics.append(device)
        return device

    def add_e1000(
        self,
        nic: E1000Entry,
        changed: Callable[[E1000], None],
        report: Report,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> E1000:
        """Build an 82540EM behind its memory BAR and its I/O BAR."""
        line = SpiLine(self.vgic, nic.intid, self._counters, "interrupts.e1000")
        device = E1000(
            E1000Config(nic.name, parse_mac(nic.mac)),
            self.memory,
            line,
            self._counter_page,
            self._counters.offset(f"{nic.name}.frames_in"),
            lambda: changed(device),
            lambda reason, detail: report(nic.name, reason, detail),
            clock,
        )
        counts = ExitCounts(self._counters, nic.name, e1000_spec.REGISTERS)
        self.bus.add(nic.bar_gpa, e1000_spec.BAR_BYTES, device, counts)
        io_counts = ExitCounts(self._counters, nic.name, e1000_spec.IO_REGISTERS)
        self.ports.add(nic.io_port, e1000_spec.IO_BAR_BYTES, device.io, io_counts)
        self.nics.append(device)
        return device

    def add_smmu(
        self, smmu: GuestSmmuEntry, stage1: GuestStage1, runnable: MutableMapping[Callable[[], bool], None]
    ) -> None:
        """Put the guest's functions behind an SMMU of its own: they reach nothing until it lets them."""
        events = SpiEdge(self.vgic, smmu.event_intid, self._counters, "interrupts.smmu")
        errors = SpiEdge(self.vgic, smmu.error_intid, self._counters, "interrupts.smmu")
        memory = GuestMemory(HostMemory([self.ram, self._tables]), self.stage2.root)
        self.smmu = GuestSmmu(memory, stage1, events, errors, runnable)
        counts = ExitCounts(self._counters, smmu_counters(self.name), SMMU)
        self.bus.add(smmu.gpa, SMMU.size, self.smmu, counts)

    def add_its(
        self,
        events: GuestEvents,
        devices: Mapping[int, int],
        report: Report,
        runnable: MutableMapping[Callable[[], bool], None],
    ) -> None:
        """Give the guest an ITS: its functions' events lead nowhere until it says so.

        `devices` as `GuestIts`.
        """
        memory = GuestMemory(HostMemory([self.ram, self._tables]), self.stage2.root)
        told = partial(report, "its")
        its = GuestIts(memory, self.entry.vcpus, devices, events, told, runnable, self.pace)
        counts = GicExitCounts(self._counters)
        self.bus.add(GUEST_ITS_GPA, gic_registers.FRAME_BYTES, its, counts, is_paced=True)

    def counter_page(self) -> Pinned:
        """Return the vmm's counter segment, for native code."""
        return self._counter_page

    def _add_doorbell(self, gpa: int) -> None:
        """Have stores to `gpa` ring the hypervisor's bell instead of waiting for an answer."""
        if self._doorbells == vcpu_page.DOORBELL_MATCHES:
            raise DeviceError(
                f"guest {self.name}: a vCPU page has room for {vcpu_page.DOORBELL_MATCHES} doorbells"
            )
        base = vcpu_page.VCPU_PAGE.offset("doorbells") + self._doorbells * vcpu_page.DOORBELL_MATCH.size
        for page in self.pages:
            words = SharedWords(page)
            words.store64(base + vcpu_page.DOORBELL_MATCH.offset("gpa"), gpa)
            words.store32(base + vcpu_page.DOORBELL_MATCH.offset("valid"), 1)
        self._doorbells += 1


def _pages(segment: Segment, vcpus: int) -> Iterator[memoryview]:
    """Yield the page of each vCPU."""
    for number in range(vcpus):
        yield segment.view[number * vcpu_page.VCPU_PAGE.size : (number + 1) * vcpu_page.VCPU_PAGE.size]


def _map_ram(entry: GuestEntry, ram: Segment, tables: Segment) -> TableBuilder:
    memory = HostMemory([tables])
    builder = TableBuilder(memory, FrameAllocator(memory, tables.hpa, tables.size_bytes), stage=2)
    if builder.root != Hpa(entry.stage2_hpa):
        raise DeviceError(
            f"guest {entry.name}: stage-2 root at {builder.root:#x}, planned at {entry.stage2_hpa:#x}"
        )
    builder.map(entry.ram_gpa, ram.hpa, entry.memory_bytes)
    return builder


def net_config(nic: VirtioNetEntry) -> NetConfig:
    """Return what a NIC's device is to offer."""
    return NetConfig(
        name=nic.name,
        mac=parse_mac(nic.mac),
        queue_size=nic.queue_size,
        queue_pairs=nic.queue_pairs,
        mtu=nic.mtu,
        indirect=nic.indirect,
        event_idx=nic.event_idx,
        mrg_rxbuf=nic.mrg_rxbuf,
        packed=nic.ring == "packed",
        in_order=nic.in_order,
    )
