"""The part of a plan that makes a host's NICs: the processes of NICs and IOMMU, and what each may map.

Reference: design, "Processes, and what each can touch". A NIC maps its registers, its memory, its DMA rings
and its wires, and guests' RAM only with ATS; the IOMMU maps what devices may be let into,
and the vCPU pages that its ITS injects into. Host physical
addresses follow those of the host's guests: windows and the physical functions' memory, then the tables of
SMMU and ITS; the ITS's own frames are at the end of the host's stretch, where no memory is. Pure. Not
modelled: functions that move between guests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from launcher.nics import Vf
from launcher.nics.vf import vf_stream
from launcher.own_segments import own_segments
from launcher.topology_records import Guest, Host, HostNic, Wire
from testbed.address import BLOCK_SIZE_BYTES, HPA_HOST_STRIDE_BYTES, PAGE_SIZE_BYTES, align_up
from testbed.messages.entries import (
    DmaEntry,
    DmaFunctionEntry,
    IommuEntry,
    NicProcessEntry,
    PhysicalNicEntry,
    ProcessPlan,
    SegmentEntry,
    VfSettingsEntry,
    VpeEntry,
    WindowEntry,
    WireEntry,
)
from testbed.native import NicEngine
from testbed.observe.catalogue import iommu_counter_names, nic_counter_names
from testbed.spec.bar_window import BAR_WINDOW
from testbed.spec.dma_area import area_bytes
from testbed.spec.iommu_window import WINDOW_BYTES
from testbed.spec.its import VPT_ALIGN_BITS
from testbed.spec.lpi import LPI_PAGE
from testbed.spec.wire import wire_bytes

TABLES_BYTES: Final = 4 << 20
"""Of the SMMU and the ITS of a host."""
PHYSICAL_MEMORY_BYTES: Final = 8 << 20
"""Of a physical function: rings and buffers of the uplink."""
DMA_SLOTS: Final = 4096
"""Requests that a function may have under way."""
ITS_FRAMES_BYTES: Final = BLOCK_SIZE_BYTES
"""Set aside at the end of a host's physical addresses."""
VPT_BYTES: Final = 1 << VPT_ALIGN_BITS
"""Of a virtual pending table: no less than its alignment, so that nothing else is in it."""


@dataclass(frozen=True)
class HostSegments:
    """A guest's segments that a device may be let into, and the pages that the ITS may inject into."""

    ram: SegmentEntry
    stage2: SegmentEntry
    vcpu: SegmentEntry


@dataclass(frozen=True)
class Passthrough:
    """What a host with NICs adds to its plan."""

    processes: tuple[ProcessPlan, ...]
    """The IOMMU, then the NICs."""
    segments: tuple[SegmentEntry, ...]
    """All that they add, counters apart."""
    vmm_segments: tuple[SegmentEntry, ...]
    """Those that the vmm maps."""
    physical: tuple[PhysicalNicEntry, ...]
    iommu: str
    its_hpa: int
    end_hpa: int
    """The first host physical address that is free again."""


class _Space:
    """Hands out host physical addresses."""

    def __init__(self, hpa: int) -> None:
        self.hpa = hpa

    def segment(self, name: str, size_bytes: int) -> SegmentEntry:
        size_bytes = align_up(size_bytes, PAGE_SIZE_BYTES)
        segment = SegmentEntry(name=name, size_bytes=size_bytes, hpa=self.hpa)
        self.hpa = align_up(self.hpa + size_bytes, BLOCK_SIZE_BYTES)
        return segment


def plan_passthrough(
    host: Host,
    names: tuple[str, str],
    guests: Mapping[str, Guest],
    memory: Mapping[str, HostSegments],
    wires: Sequence[Wire],
    base_hpa: int,
    free_hpa: int,
) -> Passthrough:
    """Return the NICs and the IOMMU of a host that has any.

    names: of the vmm's and the IOMMU's process. memory: of each guest of the host. free_hpa: the first
    address behind theirs.
    """
    assert host.iommu is not None
    iommu = names[1]
    space = _Space(free_hpa)
    vfs = {nic.name: _functions(nic, host, guests) for nic in host.nics}
    parts = [_Nic(nic, vfs[nic.name], space) for nic in host.nics]
    tables = space.segment(f"{iommu}.tables", TABLES_BYTES)
    window = SegmentEntry(name=f"{iommu}.window", size_bytes=align_up(WINDOW_BYTES, PAGE_SIZE_BYTES))
    lpis = SegmentEntry(name=f"{iommu}.lpis", size_bytes=LPI_PAGE.size)
    owners = {guest for functions in vfs.values() for guest, _ in functions.values()}
    let_into = tuple(
        segment
        for name in memory
        if name in owners or host.iommu.bypass
        for segment in (memory[name].ram, _read_only(memory[name].stage2))
    )
    direct = [name for name in memory if name in owners and guests[name].interrupts == "direct"]
    vpts = {name: space.segment(f"{name}.vpt", guests[name].vcpus * VPT_BYTES) for name in direct}
    vpes = tuple(
        VpeEntry(guest=name, vcpu=n, page=memory[name].vcpu.name, vpt_hpa=vpt.hpa + n * VPT_BYTES)
        for name, vpt in vpts.items()
        for n in range(guests[name].vcpus)
    )
    own = (window, lpis, tables, *vpts.values())
    pages = tuple(memory[name].vcpu for name in vpts)
    its = its_hpa(base_hpa)
    iommu_process = _iommu(host, names, parts, its, vpes, (*own, *pages, *let_into))
    nics = tuple(_nic_process(host, names, part, wires, let_into) for part in parts)
    physical = tuple(part.physical(part.nic.name == host.uplink, not host.shares_macs) for part in parts)
    wired = (segment for part in parts for segment in _wire_segments(part.nic, wires) if segment)
    return Passthrough(
        processes=(iommu_process, *nics),
        segments=(*own, *(s for part in parts for s in part.segments), *wired),
        vmm_segments=(*own, *(s for part in parts for s in part.vmm_segments)),
        physical=physical,
        iommu=iommu,
        its_hpa=its,
        end_hpa=space.hpa,
    )


def its_hpa(base_hpa: int) -> int:
    """Return where the ITS of the host is whose physical addresses begin at `base_hpa`."""
    return base_hpa + HPA_HOST_STRIDE_BYTES - ITS_FRAMES_BYTES


def _functions(nic: HostNic, host: Host, guests: Mapping[str, Guest]) -> dict[int, tuple[str, Vf]]:
    """Return who has which virtual function of a NIC."""
    found = {}
    for guest in guests.values():
        for vf in guest.nics:
            if guest.host == host.name and isinstance(vf, Vf) and vf.nic == nic.name:
                found[vf.number] = guest.name, vf
    return found


class _Nic:
    """One NIC: its segments, and its part of other processes' entries."""

    def __init__(self, nic: HostNic, vfs: Mapping[int, tuple[str, Vf]], space: _Space) -> None:
        self.nic, self.vfs = nic, vfs
        name, functions = nic.name, nic.vfs + 1
        area = align_up(area_bytes(functions, DMA_SLOTS), PAGE_SIZE_BYTES)
        sram = align_up(NicEngine.memory_bytes(), PAGE_SIZE_BYTES)
        self.dma = SegmentEntry(name=f"{name}.dma", size_bytes=area)
        self.sram = SegmentEntry(name=f"{name}.sram", size_bytes=sram)
        self.window = SegmentEntry(name=f"{name}.window", size_bytes=BAR_WINDOW.size)
        self.memory = space.segment(f"{name}.memory", PHYSICAL_MEMORY_BYTES)
        self.vf_windows = {
            number: space.segment(vf.window, BAR_WINDOW.size) for number, (_, vf) in sorted(vfs.items())
        }

    @property
    def segments(self) -> tuple[SegmentEntry, ...]:
        return (self.dma, self.sram, self.window, self.memory, *self.vf_windows.values())

    @property
    def vmm_segments(self) -> tuple[SegmentEntry, ...]:
        return (self.window, self.memory, *self.vf_windows.values())

    def dma_entry(self) -> DmaEntry:
        name = self.nic.name
        functions = [DmaFunctionEntry(name=f"{name}.pf", stream=self.nic.bdf)]
        functions += [
            DmaFunctionEntry(name=f"{name}.vf{number}", stream=vf_stream(self.nic.bdf, number))
            for number in range(self.nic.vfs)
        ]
        return DmaEntry(nic=name, functions=tuple(functions), slots=DMA_SLOTS, ats=self.nic.ats)

    def physical(self, uplink: bool, replicate: bool) -> PhysicalNicEntry:
        vfs = (self.vfs.get(number) for number in range(self.nic.vfs))
        return PhysicalNicEntry(
            name=self.nic.name,
            stream=self.nic.bdf,
            window=self.window.name,
            memory=self.memory.name,
            vfs=tuple(owner[1].settings_entry() if owner else VfSettingsEntry() for owner in vfs),
            ats=self.nic.ats,
            uplink=uplink,
            replicate=replicate,
        )

    def windows(self, vmm: str) -> tuple[WindowEntry, ...]:
        of_vfs = (
            WindowEntry(segment=segment.name, process=self.vfs[number][0], function=number + 1)
            for number, segment in self.vf_windows.items()
        )
        return (WindowEntry(segment=self.window.name, process=vmm), *of_vfs)


def _iommu(
    host: Host,
    names: tuple[str, str],
    parts: Sequence[_Nic],
    its_hpa: int,
    vpes: tuple[VpeEntry, ...],
    own: tuple[SegmentEntry, ...],
) -> ProcessPlan:
    vmm, name = names
    assert host.iommu is not None
    nics = tuple(part.dma_entry() for part in parts)
    counters = iommu_counter_names(function.name for nic in nics for function in nic.functions)
    entry = IommuEntry(
        name=name,
        host=host.name,
        poll_ns=host.iommu.poll_ns,
        cpus=host.iommu.cpus,
        nics=nics,
        vmm=vmm,
        its_hpa=its_hpa,
        vpes=vpes,
    )
    of_nics = (segment for part in parts for segment in (part.dma, part.sram, part.memory))
    return ProcessPlan(
        name=name,
        role="iommu",
        entry=entry,
        segments=(*own, *of_nics, *own_segments(name, counters)),
        counter_names=counters,
    )


def _nic_process(
    host: Host,
    names: tuple[str, str],
    part: _Nic,
    wires: Sequence[Wire],
    let_into: tuple[SegmentEntry, ...],
) -> ProcessPlan:
    vmm, iommu = names
    nic, counters = part.nic, nic_counter_names()
    entry = NicProcessEntry(
        name=nic.name,
        host=host.name,
        poll_ns=nic.poll_ns,
        cpus=nic.cpus,
        mac=nic.mac,
        bdf=nic.bdf,
        iommu=iommu,
        dma=part.dma_entry(),
        windows=part.windows(vmm),
        wire=_wire_entry(nic, wires),
    )
    memory = (part.memory, *(s for s in let_into if s.writable)) if nic.ats else ()
    wired = tuple(_end_segments(nic, wires))
    own = (part.dma, part.sram, part.window, *(_unaddressed(s) for s in part.vf_windows.values()))
    return ProcessPlan(
        name=nic.name,
        role="nic",
        entry=entry,
        segments=(*own, *wired, *memory, *own_segments(nic.name, counters)),
        counter_names=counters,
    )


def _of(nic: HostNic, wires: Sequence[Wire]) -> Wire | None:
    return next((wire for wire in wires if nic.name in wire.ends), None)


def _peer(nic: HostNic, wire: Wire) -> str:
    return wire.ends[1] if wire.ends[0] == nic.name else wire.ends[0]


def _direction(wire: Wire, sender: str) -> str:
    return f"{wire.name}.{sender}"


def _wire_entry(nic: HostNic, wires: Sequence[Wire]) -> WireEntry | None:
    wire = _of(nic, wires)
    if wire is None:
        return None
    return WireEntry(
        peer=_peer(nic, wire),
        outgoing=_direction(wire, nic.name),
        incoming=_direction(wire, _peer(nic, wire)),
        latency_ns=wire.latency_ns,
        bits_per_second=wire.bits_per_second,
        loss=wire.loss,
        seed=nic.bdf + wire.ends.index(nic.name),
    )


def _wire_segments(nic: HostNic, wires: Sequence[Wire]) -> tuple[SegmentEntry, ...]:
    """Return what a NIC sends by: each end makes its own direction."""
    wire = _of(nic, wires)
    return () if wire is None else (_wire_segment(wire, nic.name),)


def _end_segments(nic: HostNic, wires: Sequence[Wire]) -> tuple[SegmentEntry, ...]:
    wire = _of(nic, wires)
    return () if wire is None else tuple(_wire_segment(wire, end) for end in (nic.name, _peer(nic, wire)))


def _wire_segment(wire: Wire, sender: str) -> SegmentEntry:
    return SegmentEntry(name=_direction(wire, sender), size_bytes=wire_bytes())


def _read_only(segment: SegmentEntry) -> SegmentEntry:
    return SegmentEntry(name=segment.name, size_bytes=segment.size_bytes, hpa=segment.hpa, writable=False)


def _unaddressed(segment: SegmentEntry) -> SegmentEntry:
    """A window is memory of the host to its guest only."""
    return SegmentEntry(name=segment.name, size_bytes=segment.size_bytes)
