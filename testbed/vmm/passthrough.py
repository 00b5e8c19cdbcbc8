"""The NICs of a host as its hypervisor has them: the physical function driven here, virtual ones given away.

Reference: design, "The three paths" (passthrough), "Interrupt virtualization"; ARM IHI 0069 §5.3 (MAPD,
MAPTI). The physical function's DMA is confined like any other's: to its own memory, by host physical
addresses, and to the page of the ITS. A virtual function is given to its guest with three things, after which
nothing of its traffic passes here: its registers and the ITS's page at the guest's stage 2, its stream table
entry, and the routes of its interrupts.

Not modelled: virtual functions that move between guests while these run.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.deadline import earliest
from testbed.errors import MachineError
from testbed.memory.host import FrameAllocator
from testbed.memory.segment import Segment
from testbed.memory.tables import Attributes, TableBuilder
from testbed.messages.entries import PhysicalNicEntry, VfEntry, VfSettingsEntry
from testbed.native import Pinned
from testbed.net.mac import parse_mac
from testbed.pci.access import MsiMessage
from testbed.pci.bar_window import BarPort, Requester
from testbed.pci.smmu_entries import EventRecord
from testbed.spec import igb_pci, its
from testbed.spec.bar_window import SPACE_CONFIGURATION
from testbed.vmm.assignment import Assigned, Report, Window
from testbed.vmm.direct import DirectGuests
from testbed.vmm.host_iommu import HostIommu
from testbed.vmm.host_lpis import HostLpis
from testbed.vmm.its_driver import ItsDriver
from testbed.vmm.pf_driver import VECTOR_OTHER, VECTORS, PfBus, PfDriver, PfDriverConfig
from testbed.vmm.pf_functions import VfSettings
from testbed.vmm.pf_uplink import PfUplink
from testbed.vmm.vm import Vm
from testbed.vmm.vsmmu import GuestStage1

_TABLES_BYTES: Final = 1 << 16
"""For the tables of one physical function: its memory is one range, the page of the ITS another."""
_PF_VMID: Final = 0x8000
"""Physical functions' address spaces are numbered from here, guests' from 1."""


class Edge(Protocol):
    """An interrupt into a guest."""

    def pulse(self) -> None:
        """Give one edge."""
        ...


@dataclass(frozen=True, slots=True)
class HostParts:
    """What every NIC of a host needs."""

    iommu: HostIommu
    its: ItsDriver
    lpis: HostLpis
    its_hpa: int
    report: Report
    iommu_name: str = ""
    """Of its process."""
    bypass: bool = False
    """The IOMMU stops nothing of what guests' functions do."""

    @property
    def translater_hpa(self) -> int:
        """Where an MSI is written."""
        return self.its_hpa + its.ITS["TRANSLATER"].offset


class Passthrough:
    """A host's NICs."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        self.nics: list[PfDriver] = []
        self.uplinks: dict[str, PfUplink] = {}
        """By the name of their NIC."""
        self._streams: dict[str, list[int]] = defaultdict(list)
        """Of each NIC's functions."""
        self.direct = DirectGuests(parts.its, parts.lpis)

    def start(self) -> None:
        """Bring SMMU and ITS up."""
        self._parts.iommu.start()
        self._parts.its.start()

    def add_nic(self, entry: PhysicalNicEntry, window: Requester, memory: Segment) -> PfDriver:
        """Bring a NIC up; DeviceError where it does not come up."""
        self._confine(entry, memory)
        self._streams[entry.name].append(entry.stream)
        lpis = self._route(entry.stream, VECTORS)
        vfs = [_settings(vf) for vf in entry.vfs]
        config = PfDriverConfig(
            entry.name, self._messages(VECTORS), vfs, replicate=entry.replicate, uplink=entry.uplink
        )
        report = partial(self._told, entry.name)
        on_link = partial(self._set_link, entry.name)
        driver = PfDriver(_bus(window, len(entry.vfs)), config, time.monotonic_ns, on_link, report)
        for vector, intid in enumerate(lpis):
            self._parts.lpis.on(intid, partial(self._handle, driver, vector))
        driver.start()
        self.nics.append(driver)
        return driver

    def join(self, uplink: PfUplink) -> None:
        """Have a NIC's own queues be a port of the bridge."""
        self.uplinks[uplink.name] = uplink
        uplink.start()

    def before_sleep(self) -> bool:
        """Unmask the uplinks' interrupts; True: there is work, do not sleep."""
        return sum(uplink.before_sleep() for uplink in self.uplinks.values()) > 0  # every one of them

    def _set_link(self, nic: str, up: bool) -> None:
        if nic in self.uplinks:
            self.uplinks[nic].set_link(up)

    def _handle(self, driver: PfDriver, vector: int) -> None:
        uplink = self.uplinks.get(driver.config.name)
        if vector == VECTOR_OTHER:
            driver.handle_interrupt(vector)
        elif uplink is not None:
            uplink.interrupted()

    def give(self, vf: VfEntry, vm: Vm, window: Segment) -> None:
        """Give a virtual function, whose events are led there (`route_edges`, `direct`), to a guest.

        One with an SMMU of its own gets that (`Vm.add_smmu`) when it has all its functions.
        """
        driver = next(nic for nic in self.nics if nic.config.name == vf.nic)
        driver.reset_function(vf.number)
        driver.open_function(vf.number)
        page_hpa = self._parts.translater_hpa & -PAGE_SIZE_BYTES
        windows = (Window(vf.window_gpa, window.hpa, window.size_bytes), Window(vf.msi_gpa, page_hpa))
        vmid = 1 + vm.entry.index
        self._streams[vf.nic].append(vf.stream)
        self._parts.iommu.assignments.assign(
            Assigned(
                vf.function,
                vf.stream,
                vm.name,
                vmid,
                vm.stage2,
                vf.ats,
                windows,
                on_event=partial(_of_stage1, vm),
                bypass=self._parts.bypass,
            )
        )

    def stage1_of(self, vm: Vm) -> GuestStage1:
        """Return the host's side of a guest's SMMU, whose functions are those that it has."""
        streams = {vf.guest_stream: vf.stream for vf in vm.entry.nics if isinstance(vf, VfEntry)}
        return GuestStage1(self._parts.iommu.assignments, 1 + vm.entry.index, streams)

    def lose(self, name: str) -> None:
        """A NIC, or the IOMMU, is gone: bridges lose their uplinks, and a NIC's functions reach nothing."""
        for driver in self.nics:
            nic = driver.config.name
            if name in (nic, self._parts.iommu_name):
                driver.lose()
            if name == nic:
                self._parts.iommu.assignments.lose(self._streams[nic])

    def route_edges(self, stream: int, edges: Sequence[Edge]) -> None:
        """Lead a function's events here, and on to where each of its vectors leads."""
        for intid, edge in zip(self._route(stream, len(edges)), edges, strict=True):
            self._parts.lpis.on(intid, edge.pulse)

    def take_page(self) -> tuple[int, memoryview]:
        """Return a page of the hypervisor's own: its host physical address, and where it is mapped."""
        iommu = self._parts.iommu
        hpa = iommu.arena.allocate(PAGE_SIZE_BYTES)
        return hpa, iommu.memory.view(hpa, PAGE_SIZE_BYTES)

    def forget_range(self, guest: str, gpa: int, length_bytes: int) -> None:
        """Return when no function of a guest can use an old translation of a range any more."""
        self._parts.iommu.assignments.forget_range(guest, gpa, length_bytes)

    def deadline_ns(self) -> int | None:
        """Return when `on_timer` has something to do."""
        due = (driver.deadline_ns() for driver in self.nics)
        return earliest(due)

    def on_timer(self, now_ns: int) -> None:
        """Do what is due."""
        for driver in self.nics:
            driver.on_timer(now_ns)

    def _confine(self, entry: PhysicalNicEntry, memory: Segment) -> None:
        """Let a physical function reach its own memory and the ITS, by host physical addresses."""
        iommu = self._parts.iommu
        frames = FrameAllocator(iommu.memory, iommu.arena.allocate(_TABLES_BYTES), _TABLES_BYTES)
        space = TableBuilder(iommu.memory, frames, 2)
        space.map(memory.hpa, memory.hpa, memory.size_bytes)
        page_hpa = self._parts.translater_hpa & -PAGE_SIZE_BYTES
        space.map(page_hpa, page_hpa, PAGE_SIZE_BYTES, Attributes(device=True))
        vmid = _PF_VMID + len(self.nics)
        iommu.assignments.assign(Assigned(f"{entry.name}.pf", entry.stream, "", vmid, space, entry.ats))

    def _route(self, stream: int, events: int) -> list[int]:
        """Lead a function's events to the hypervisor; return the LPIs."""
        self._parts.its.map_device(stream, events)
        return [self._parts.its.map_lpi(stream, event) for event in range(events)]

    def _messages(self, count: int) -> list[MsiMessage]:
        return [MsiMessage(self._parts.translater_hpa, event) for event in range(count)]

    def _told(self, nic: str, vf: int, reason: str, detail: str) -> None:
        self._parts.report("", f"{nic}.vf{vf}", reason, detail)


@dataclass(frozen=True, slots=True)
class PhysicalPiece:
    """Memory of a physical function's: its address for the device, and where the vmm has it mapped."""

    iova: int
    pinned: Pinned


class PhysicalMemory:
    """A physical function's memory; its device addresses are host physical ones."""

    def __init__(self, segment: Segment) -> None:
        self._segment, self._used = segment, 0

    def take(self, size_bytes: int, purpose: str) -> PhysicalPiece:
        """Return zeroed, page-aligned memory; MachineError where there is too little."""
        at, size_bytes = self._used, align_up(size_bytes, PAGE_SIZE_BYTES)
        if at + size_bytes > self._segment.size_bytes:
            left = self._segment.size_bytes - at
            raise MachineError(
                f"{purpose}: needs {size_bytes} bytes of {self._segment.name}, which has {left}"
            )
        self._used += size_bytes
        return PhysicalPiece(self._segment.hpa + at, Pinned(self._segment.view[at : at + size_bytes]))


def _of_stage1(vm: Vm, event: EventRecord) -> bool:
    return vm.smmu is not None and vm.smmu.take(event)


def _bus(window: Requester, vfs: int) -> PfBus:
    registers, messages = (BarPort(window, space) for space in (igb_pci.REGISTERS_BAR, igb_pci.MSIX_BAR))
    spaces = [BarPort(window, SPACE_CONFIGURATION, function) for function in range(vfs + 1)]
    return PfBus(registers, messages, spaces[0], spaces[1:])


def _settings(entry: VfSettingsEntry) -> VfSettings:
    return VfSettings(
        mac=parse_mac(entry.mac) if entry.mac else bytes(6),
        vlan=entry.vlan,
        rate_bits_per_second=entry.rate_bits_per_second,
        spoof_check=entry.spoof_check,
        trust=entry.trust,
        drop=entry.drop,
        promiscuous=entry.promiscuous,
        link=entry.link,
    )
