"""Topology to `Plan`: which processes there are, what each may map, every address, number and name. Pure.

The same topology gives the same plan. Host physical addresses: each host owns a stretch of
`HPA_HOST_STRIDE_BYTES`; in it come, guest by guest, its RAM and its stage-2 tables, each on a 2 MiB border.
Guest physical addresses: device windows as `launcher.nics.kind` has them, RAM from `GUEST_RAM_GPA`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from launcher.attack_plan import plan_attacks
from launcher.external import external_entries, journals
from launcher.nics import Nic, Vf
from launcher.nics.kind import SMMU_ERROR_INTID, SMMU_EVENT_INTID, SMMU_GPA, Place
from launcher.own_segments import own_segments
from launcher.passthrough_plan import (
    ITS_FRAMES_BYTES,
    HostSegments,
    Passthrough,
    its_hpa,
    plan_passthrough,
)
from launcher.topology import iommu_name, vmm_name
from launcher.topology_records import End, Flow, Guest, Host, Tap, Topology
from launcher.units import format_size
from testbed.address import (
    BLOCK_SIZE_BYTES,
    GUEST_RAM_GPA,
    HPA_BASE,
    HPA_HOST_STRIDE_BYTES,
    PAGE_SIZE_BYTES,
    align_up,
)
from testbed.errors import ConfigError
from testbed.messages.entries import (
    BridgeEntry,
    ExternalEntry,
    FlowEntry,
    GuestEntry,
    GuestSmmuEntry,
    Plan,
    ProcessPlan,
    SegmentEntry,
    TapEntry,
    VfEntry,
    VmmEntry,
)
from testbed.observe.catalogue import guest_counter_names, smmu_counters, vmm_counter_names
from testbed.spec.its import ITS
from testbed.spec.layout import RegisterMap
from testbed.spec.smmu import SMMU
from testbed.spec.vcpu_page import VCPU_PAGE

WIRE_END_MAC: Final = "02:76:77:00:00:00"
"""Where frames go that a NIC is to count and nobody is to get: the testbed gives it to no NIC."""
TABLE_SPARE_PAGES: Final = 16
"""For what is mapped into a guest later, one page at a time."""
_SMMU: Final = GuestSmmuEntry(gpa=SMMU_GPA, event_intid=SMMU_EVENT_INTID, error_intid=SMMU_ERROR_INTID)
_L2_TABLE_SPAN_BYTES: Final = BLOCK_SIZE_BYTES << 9
_L1_TABLE_SPAN_BYTES: Final = _L2_TABLE_SPAN_BYTES << 9


@dataclass(frozen=True)
class _Placed:
    """A guest with its entry and the segments that only it and its vmm have."""

    entry: GuestEntry
    segments: tuple[SegmentEntry, SegmentEntry, SegmentEntry]
    """RAM, stage-2 tables, vCPU pages: as the vmm sees them."""
    registers: Mapping[str, tuple[RegisterMap, ...]]
    """By NIC, the register blocks whose exits the vmm counts."""


def plan_topology(topology: Topology) -> Plan:
    """Return the plan of a topology.

    Raises ConfigError where the guests of a host do not fit its physical address space.
    """
    placed: dict[str, list[_Placed]] = defaultdict(list)
    bases = {host.name: HPA_BASE + i * HPA_HOST_STRIDE_BYTES for i, host in enumerate(topology.hosts)}
    free = dict(bases)
    bypassed = {host.name for host in topology.hosts if host.iommu is not None and host.iommu.bypass}
    for index, guest in enumerate(_ours(topology)):
        member, free[guest.host] = _place(guest, index, free[guest.host])
        if guest.host in bypassed:
            member = _told_of_machine(member, bases[guest.host])
        placed[guest.host].append(member)
    functions: dict[str, Passthrough] = {}
    for host in topology.hosts:
        if host.iommu is not None:
            made = _passthrough(topology, host, placed[host.name], bases[host.name], free[host.name])
            functions[host.name], free[host.name] = made, made.end_hpa + ITS_FRAMES_BYTES
    for name, base in bases.items():
        _check_space(name, free[name] - base)
    vmms = [
        _vmm(host, placed[host.name], external_entries(topology, host.name), functions.get(host.name))
        for host in topology.hosts
    ]
    guests = sorted((member for members in placed.values() for member in members), key=_index)
    services = tuple(process for made in functions.values() for process in made.processes)
    processes = (*services, *vmms, *(_guest(member, functions.get(member.entry.host)) for member in guests))
    return Plan(
        topology=topology.name,
        segments=tuple(_segments(guests, functions.values(), processes)),
        processes=processes,
        phases=_phases(topology),
        attacks=plan_attacks(
            topology, {member.entry.name: (member.entry, member.segments[0]) for member in guests}
        ),
    )


def _passthrough(
    topology: Topology, host: Host, members: Sequence[_Placed], base_hpa: int, free_hpa: int
) -> Passthrough:
    names = (vmm_name(host.name), iommu_name(host.name))
    memory = {member.entry.name: HostSegments(*member.segments) for member in members}
    guests = {guest.name: guest for guest in _ours(topology)}
    return plan_passthrough(host, names, guests, memory, topology.wires, base_hpa, free_hpa)


def _ours(topology: Topology) -> Iterator[Guest]:
    """Yield the guests that get a process."""
    return (guest for guest in topology.guests if guest.external is None)


def table_bytes(ram_bytes: int) -> int:
    """Return the size of a guest's stage-2 tables: four levels, its RAM as 2 MiB blocks, and spare pages.

    Source: DDI 0487 D8.2, 4 KiB granule: a table is one page of 512 entries.
    """
    end = GUEST_RAM_GPA + ram_bytes
    level2 = -(-end // _L2_TABLE_SPAN_BYTES) - GUEST_RAM_GPA // _L2_TABLE_SPAN_BYTES
    level1 = -(-end // _L1_TABLE_SPAN_BYTES) - GUEST_RAM_GPA // _L1_TABLE_SPAN_BYTES
    return (1 + level1 + level2 + TABLE_SPARE_PAGES) * PAGE_SIZE_BYTES


def _index(member: _Placed) -> int:
    return member.entry.index


def _place(guest: Guest, index: int, hpa: int) -> tuple[_Placed, int]:
    """Give a guest its addresses from `hpa` on; return it and the first address after it."""
    stage2_hpa = align_up(hpa + guest.memory_bytes, BLOCK_SIZE_BYTES)
    stage2_bytes = table_bytes(guest.memory_bytes)
    places = [Place(guest.name, i, guest.interrupts == "direct") for i in range(len(guest.nics))]
    entry = GuestEntry(
        name=guest.name,
        host=guest.host,
        index=index,
        memory_bytes=guest.memory_bytes,
        ram_gpa=GUEST_RAM_GPA,
        stage2_hpa=stage2_hpa,
        vcpus=guest.vcpus,
        interrupts=guest.interrupts,
        poll_ns=guest.poll_ns,
        cpus=guest.cpus,
        drivers=guest.drivers,
        nics=tuple(nic.entry(place) for nic, place in zip(guest.nics, places, strict=True)),
        taps=tuple(_tap(guest.name, tap) for tap in guest.taps),
        iommu=iommu_name(guest.host) if any(isinstance(nic, Vf) for nic in guest.nics) else "",
        smmu=_SMMU if guest.has_smmu else None,
    )
    segments = (
        SegmentEntry(name=f"{guest.name}.ram", size_bytes=guest.memory_bytes, hpa=hpa),
        SegmentEntry(name=f"{guest.name}.stage2", size_bytes=stage2_bytes, hpa=stage2_hpa),
        SegmentEntry(name=f"{guest.name}.vcpu", size_bytes=guest.vcpus * VCPU_PAGE.size),
    )
    registers = {place.name: nic.registers for nic, place in zip(guest.nics, places, strict=True)}
    if guest.has_smmu:
        registers[smmu_counters(guest.name)] = (SMMU,)
    return _Placed(entry, segments, registers), align_up(stage2_hpa + stage2_bytes, BLOCK_SIZE_BYTES)


def _told_of_machine(member: _Placed, base_hpa: int) -> _Placed:
    """Return a guest that knows the host physical addresses that its functions have to use."""
    entry, ram = member.entry, member.segments[0]
    message = its_hpa(base_hpa) + ITS["TRANSLATER"].offset
    nics = tuple(
        msgspec.structs.replace(nic, ram_offset=ram.hpa - entry.ram_gpa, msi_address=message)
        if isinstance(nic, VfEntry)
        else nic
        for nic in entry.nics
    )
    return replace(member, entry=msgspec.structs.replace(entry, nics=nics))


def _check_space(host: str, used_bytes: int) -> None:
    if used_bytes > HPA_HOST_STRIDE_BYTES:
        raise ConfigError(
            f"host {host}: its guests must fit {format_size(HPA_HOST_STRIDE_BYTES)} of physical addresses, "
            f"not take {format_size(used_bytes)}: spread them over more hosts"
        )


def _tap(guest: str, tap: Tap) -> TapEntry:
    name = f"{guest}.tap{tap.nic}"
    interface = f"eth{tap.nic}"
    return TapEntry(
        nic=tap.nic, interface=interface, address=tap.address, descriptor=name, offload=tap.offload
    )


def _guest(member: _Placed, functions: Passthrough | None) -> ProcessPlan:
    """A guest maps its RAM, vCPU pages and counters, and the windows of functions that it has; its stage-2
    tables it may only walk.
    """
    entry = member.entry
    taps = (tap.nic for tap in entry.taps)
    names = guest_counter_names(len(entry.nics), taps, entry.smmu is not None, entry.vcpus)
    ram, stage2, vcpu = member.segments
    walked = SegmentEntry(name=stage2.name, size_bytes=stage2.size_bytes, hpa=stage2.hpa, writable=False)
    segments = (ram, walked, vcpu, *_windows(entry, functions), *own_segments(entry.name, names))
    return ProcessPlan(
        name=entry.name,
        role="guest",
        entry=entry,
        segments=segments,
        counter_names=names,
        files=tuple(tap.descriptor for tap in entry.taps),
    )


def _windows(entry: GuestEntry, functions: Passthrough | None) -> Iterator[SegmentEntry]:
    """Yield the register windows of a guest's functions."""
    wanted = {nic.window for nic in entry.nics if isinstance(nic, VfEntry)}
    return (segment for segment in (functions.segments if functions else ()) if segment.name in wanted)


def _vmm(
    host: Host,
    members: Sequence[_Placed],
    externals: tuple[ExternalEntry, ...],
    functions: Passthrough | None,
) -> ProcessPlan:
    name = vmm_name(host.name)
    guests = tuple(member.entry for member in members)
    registers = {name: maps for member in members for name, maps in member.registers.items()}
    ports = [nic.name for guest in guests for nic in guest.nics if not isinstance(nic, VfEntry)]
    ports += [external.nic.name for external in externals] + ([host.uplink] if host.uplink else [])
    names = vmm_counter_names(ports, registers, _function_names(functions))
    entry = VmmEntry(
        name=name,
        host=host.name,
        poll_ns=host.poll_ns,
        cpus=host.cpus,
        guests=guests,
        externals=externals,
        restarts=host.restart,
        bridge=BridgeEntry(stall_ns=host.stall_ns),
        iommu=functions.iommu if functions else "",
        iommu_bypass=host.iommu is not None and host.iommu.bypass,
        its_hpa=functions.its_hpa if functions else 0,
        physical=functions.physical if functions else (),
    )
    of_guests = (segment for member in members for segment in member.segments)
    own = (*(journals(externals) if host.restart else ()), *own_segments(name, names))
    segments = (*of_guests, *(functions.vmm_segments if functions else ()), *own)
    return ProcessPlan(name=name, role="vmm", entry=entry, segments=segments, counter_names=names)


def _function_names(functions: Passthrough | None) -> Iterator[str]:
    """Yield the virtual functions of a host's NICs."""
    for nic in functions.physical if functions else ():
        yield from (f"{nic.name}.vf{number}" for number in range(len(nic.vfs)))


def _segments(
    guests: Sequence[_Placed], functions: Iterable[Passthrough], processes: Iterable[ProcessPlan]
) -> Iterator[SegmentEntry]:
    shared = [segment for member in guests for segment in member.segments]
    shared += [segment for made in functions for segment in made.segments]
    yield from shared
    names = {segment.name for segment in shared}
    for process in processes:
        yield from (segment for segment in process.segments if segment.name not in names)


def _phases(topology: Topology) -> tuple[tuple[FlowEntry, ...], ...]:
    guests = {guest.name: guest for guest in topology.guests}
    phases: list[tuple[FlowEntry, ...]] = []
    flow_id = 1
    for flows in topology.phases:
        phases.append(tuple(_flow(topology, flow, flow_id + i, guests) for i, flow in enumerate(flows)))
        flow_id += len(flows)
    return tuple(phases)


def _through(topology: Topology, flow: Flow) -> Iterator[str]:
    """Yield the NICs of hosts that a flow's frames pass, each behind its host's IOMMU."""
    for host in topology.hosts:
        passed = [nic.name for nic in host.nics if nic.name in flow.way]
        yield from [iommu_name(host.name), *passed] if passed else []


def _interrupts(flow: Flow, flow_id: int, guest: Guest) -> FlowEntry:
    through = [vmm_name(guest.host)]
    if flow.kind == "steer":
        function = guest.nics[flow.source.nic]
        assert isinstance(function, Vf)
        through += [iommu_name(guest.host), function.nic]
    return FlowEntry(
        id=flow_id,
        name=flow.name,
        kind=flow.kind,
        source=flow.source.guest,
        destination=flow.destination.guest,
        source_vcpu=flow.vcpus[0],
        destination_vcpu=flow.vcpus[1],
        source_nic=flow.source.nic,
        destination_nic=flow.destination.nic,
        interval_ns=flow.interval_ns,
        storm=flow.storm,
        duration_ns=flow.duration_ns,
        count=flow.count,
        through=tuple(through),
    )


def _flow(topology: Topology, flow: Flow, flow_id: int, guests: dict[str, Guest]) -> FlowEntry:
    if flow.is_interrupts:
        return _interrupts(flow, flow_id, guests[flow.source.guest])

    def nic(end: End) -> Nic:
        return guests[end.guest].nics[end.nic]

    host = guests[flow.source.guest].host
    wired = WIRE_END_MAC if flow.ends_at else nic(flow.destination).mac
    sunk = nic(flow.source).backend == "sink"
    mean_bytes = sum(flow.frame_bytes) / len(flow.frame_bytes) if flow.frame_bytes else 0.0
    return FlowEntry(
        id=flow_id,
        name=flow.name,
        kind=flow.kind,
        source=flow.source.guest,
        destination=flow.ends_at or (vmm_name(host) if sunk else flow.destination.guest),
        source_nic=flow.source.nic,
        destination_nic=flow.destination.nic,
        source_mac=nic(flow.source).mac,
        destination_mac=wired,
        frame_bytes=flow.frame_bytes,
        duration_ns=flow.duration_ns,
        count=flow.count,
        frames_per_second=flow.rate.frames(mean_bytes) if mean_bytes else 0.0,
        verify=flow.verify,
        capture=flow.capture,
        loops=flow.loops,
        captured_times=flow.captured_times,
        through=tuple(_through(topology, flow)),
        ends_on_wire=bool(flow.ends_at),
        padded_bytes=max(nic(end).padded_bytes for end in (flow.source, flow.destination)),
    )
