"""One virtual machine as its hypervisor has it: memory, stage-2 tables, exits and devices.

Assembled from its plan entry. Reference: design, "Processes, and what each can touch". Not modelled: more
than one vCPU, memory that comes or goes while the guest runs.
"""

import time
from collections.abc import Callable

from testbed.address import Hpa
from testbed.e1000.device import E1000, E1000Config
from testbed.errors import DeviceError
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.segment import Segment
from testbed.memory.tables import TableBuilder
from testbed.messages.doorbell import Ringer
from testbed.messages.entries import E1000Entry, GuestEntry, VirtioNetEntry
from testbed.native import Bell, Pinned, Regions, SharedWords
from testbed.net.mac import parse_mac
from testbed.observe.counters import Counters
from testbed.spec import e1000 as e1000_spec
from testbed.spec import vcpu_page
from testbed.spec import virtio as virtio_spec
from testbed.virtio.mmio import VirtioMmio
from testbed.virtio.net import VirtioNet
from testbed.virtio.net_config import NetConfig
from testbed.vmm.bus import Bus
from testbed.vmm.exit_counts import ExitCounts
from testbed.vmm.exits import ExitHandler, Report
from testbed.vmm.interrupt_line import VcpuEdge, VcpuLevel

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
        bell: Ringer,
    ) -> None:
        self.entry, self.name = entry, entry.name
        self.ram, self.vcpu_page = ram, vcpu.pinned
        self.memory = Regions()
        self.memory.add(entry.ram_gpa, ram.pinned)
        self.bus, self.ports = Bus(), Bus()
        self.bell = bell
        self.from_guest = Bell(vcpu.pinned, vcpu_page.BELL_TO_VMM)
        self.nics: list[Device] = []
        self._counters, self._counter_page = counters, Pinned(counters.buffer)
        self._doorbells = 0
        self.stage2 = _map_ram(entry, ram, tables)

    def add_exits(self, report: Report) -> ExitHandler:
        """Return what answers this guest's exits."""
        return ExitHandler(self.vcpu_page, self.bus, self.ports, self.bell, self._counters, report)

    def add_virtio_net(
        self, nic: VirtioNetEntry, changed: Callable[[VirtioNet], None], report: Report
    ) -> VirtioNet:
        """Build a virtio-net device behind its register block and its doorbell."""
        interrupt = VcpuEdge(self.vcpu_page, nic.intid, self.bell, self._counters, "interrupts.virtio")
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
        line = VcpuLevel(self.vcpu_page, nic.intid, self.bell, self._counters, "interrupts.e1000")
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
        words = SharedWords(self.vcpu_page)
        words.store64(base + vcpu_page.DOORBELL_MATCH.offset("gpa"), gpa)
        words.store32(base + vcpu_page.DOORBELL_MATCH.offset("valid"), 1)
        self._doorbells += 1


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
