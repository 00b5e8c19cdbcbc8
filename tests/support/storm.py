"""Processes between which one device's interrupts are measured while another floods the same host.

Those of `virtbed bench irq` (device, IOMMU, hypervisor, vCPU) and a second device, which posts as many
requests as its ring takes, one kind after another: nothing at all, harmless writes into memory, and storms
of MSIs. The first device files each latency by what the second did meanwhile and compares each phase with
the quiet one of its round, so whatever else is slow for longer than a round counts for nothing.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import uvloop

from launcher.irq_plan import DEVICE, HYPERVISOR, IOMMU, ROLES, VCPU, Timing, Way, irq_plan
from launcher.result import Result
from launcher.run import Run
from launcher.rundir import Holder, claim
from launcher.watcher import Watcher
from testbed.address import PAGE_SIZE_BYTES
from testbed.iommu.client import DmaClient, SharedArea
from testbed.irqbench.hypervisor import EVENTS, Hypervisor, Shared
from testbed.irqbench.source import Source, quantile
from testbed.irqbench.vcpu import StampingVcpu
from testbed.memory.host import FrameAllocator
from testbed.memory.segment import Segment
from testbed.memory.tables import Attributes, TableBuilder
from testbed.messages.entries import (
    DmaEntry,
    DmaFunctionEntry,
    IommuEntry,
    IrqBenchEntry,
    Plan,
    ProcessPlan,
    SegmentEntry,
    VpeEntry,
)
from testbed.messages.process import ProcessParts, process_parts
from testbed.native import Bell, Pinned, SharedWords, VpePort
from testbed.observe.catalogue import iommu_counter_names
from testbed.observe.counters import segment_bytes
from testbed.pci.dma import DmaPort
from testbed.pci.smmu_entries import stage2_entry
from testbed.spec import bar_window, dma_area, dma_request, its, lpi, vcpu_page
from testbed.spec.irq_stamps import IRQ_STAMPS
from testbed.vmm.host_lpis import ScheduledVpe
from testbed.vmm.its_driver import PRIORITY

STORMS: Final = ("quiet", "harmless", "delivered", "unmapped", "doorbell", "physical")
"""What the second device does in turn. Its events are mapped so: to a resident vPE, nowhere, to a vPE that is
never resident, to the hypervisor.
"""
QUIET: Final = STORMS[0]
PHASE_NS: Final = 10_000_000
STORM: Final = "nic1"
ROLE: Final = "tests.support.storm:main"
POLL_NS: Final = 2_000_000
"""Of IOMMU and hypervisor: what a wake-up costs is not what is compared."""
_MESSAGE_GPA: Final = 0x0809_0000
_MEMORY_GPA: Final = 0x4000_0000
_STREAM: Final = 0x181
_VMID: Final = 2
_BURST: Final = 32
_BURST_REFUSED: Final = 8
"""Fewer of what the IOMMU lets wait, so that what is left of it is soon over."""
_SLOTS: Final = 64
_FRAMES: Final = 32
_EVENT_OF: Final = {"delivered": 0, "doorbell": 1, "physical": 2, "unmapped": 7}
_VICTIM: Final = tuple(
    f"{storm}.{what}" for storm in STORMS for what in ("rounds", "p50_permille", "p99_permille")
)
_TRANSLATER: Final = its.ITS["TRANSLATER"].offset
_MORE_PAGES: Final = ("vcpu1", "vcpu2")
_MORE_VPTS: Final = {"vpt1": 0x120_0000_0000, "vpt2": 0x130_0000_0000}


def storm_plan(way: Way, seconds: float) -> Plan:
    """Return the plan: that of the bench, and a second device."""
    base = irq_plan(way, Timing(duration_ns=int(seconds * 1e9), gap_ns=0, poll_ns=POLL_NS))
    vpt_bytes = 1 << its.VPT_ALIGN_BITS
    names = ("sleeps", "polls", "bell.sent", "bell.wakeups", "posted")
    new = [
        *(SegmentEntry(name=name, size_bytes=PAGE_SIZE_BYTES) for name in _MORE_PAGES),
        *(SegmentEntry(name=name, size_bytes=vpt_bytes, hpa=hpa) for name, hpa in _MORE_VPTS.items()),
        SegmentEntry(name=f"{STORM}.dma", size_bytes=dma_area.area_bytes(1, _SLOTS)),
        SegmentEntry(name=f"{STORM}.sram", size_bytes=64 << 10),
        SegmentEntry(name=f"{STORM}.counters", size_bytes=segment_bytes(names)),
    ]
    segments = {segment.name: segment for segment in (*base.segments, *new)}
    counters = {
        IOMMU: iommu_counter_names([f"{DEVICE}.vf0", f"{STORM}.vf0"]),
        DEVICE: (*next(p.counter_names for p in base.processes if p.name == DEVICE), *_VICTIM),
    }
    for name, kept in counters.items():
        size_bytes = segment_bytes(kept)
        segments[f"{name}.counters"] = SegmentEntry(name=f"{name}.counters", size_bytes=size_bytes)
    more = {
        IOMMU: (*_MORE_PAGES, *_MORE_VPTS, f"{STORM}.dma", f"{STORM}.sram"),
        HYPERVISOR: (*_MORE_PAGES, *_MORE_VPTS),
    }
    processes = [
        _changed(process, segments, counters, more.get(process.name, ())) for process in base.processes
    ]
    entry = next(process.entry for process in processes if process.name == DEVICE)
    uses = (f"{STORM}.dma", f"{STORM}.sram", "stamps", f"{STORM}.counters")
    processes.append(
        ProcessPlan(
            name=STORM,
            role="guest",
            entry=entry,
            segments=tuple(segments[use] for use in uses),
            counter_names=names,
        )
    )
    topology = f"test-storm-{os.getpid()}"
    return Plan(topology=topology, segments=tuple(segments.values()), processes=tuple(processes), phases=())


def _changed(
    process: ProcessPlan, segments: Mapping[str, SegmentEntry], counters: Mapping[str, tuple[str, ...]],
    more: tuple[str, ...],
) -> ProcessPlan:  # fmt: skip
    entry = process.entry
    if isinstance(entry, IommuEntry):
        function = DmaFunctionEntry(name=f"{STORM}.vf0", stream=_STREAM)
        vpes = [
            VpeEntry(guest=VCPU, page=page, vpt_hpa=hpa)
            for page, hpa in zip(_MORE_PAGES, _MORE_VPTS.values(), strict=True)
        ]
        nic = DmaEntry(nic=STORM, functions=(function,), slots=_SLOTS)
        entry = msgspec.structs.replace(entry, nics=(*entry.nics, nic), vpes=(*entry.vpes, *vpes))
    names = (*(segment.name for segment in process.segments), *more)
    return msgspec.structs.replace(
        process,
        entry=entry,
        segments=tuple(segments[name] for name in names),
        counter_names=counters.get(process.name, process.counter_names),
    )


def run_storm(way: Way, seconds: float) -> tuple[dict[str, dict[str, int]], Result]:
    """Run it; return every counter, and what the launcher says."""
    return uvloop.run(_run(storm_plan(way, seconds), seconds))


async def _run(plan: Plan, seconds: float) -> tuple[dict[str, dict[str, int]], Result]:
    roles = {**ROLES, "vmm": ROLE, "guest": ROLE}
    with claim(Holder(plan.topology, os.getpid(), "bench", time.time())) as directory:
        run = Run(plan, directory, Watcher(), stay=True, roles=roles)
        execution = asyncio.ensure_future(run.execute())
        done = asyncio.ensure_future(_until_done(run, seconds + 20))
        await asyncio.wait([execution, done], return_when=asyncio.FIRST_COMPLETED)
        counters = run.supervisor.segments.read_counters(zeros=True) if done.done() else {}
        done.cancel()
        run.stop("measured")
        return counters, await execution


async def _until_done(run: Run, seconds: float) -> None:
    await run.idle.wait()
    deadline = time.monotonic() + seconds
    while not run.supervisor.segments.read_counters(zeros=True)[DEVICE]["done"]:
        assert time.monotonic() < deadline, "no figures come"
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)


# the second device


def storm_of(stamps: SharedWords) -> int:
    """Return which of `STORMS` blows."""
    return stamps.load32(IRQ_STAMPS.size - 4)


class Storm:
    """Posts as much as its ring takes; another kind every `PHASE_NS`."""

    def __init__(self, port: DmaPort, stamps: Pinned, posted: Callable[[int], None]) -> None:
        self._port, self._words, self._posted = port, SharedWords(stamps), posted
        self._kind = self._until_ns = 0

    def step(self) -> bool:
        """Fill the ring."""
        if not self._words.load32(IRQ_STAMPS.offset("mapped")):
            return False
        ring, now_ns = self._port.ring, time.monotonic_ns()
        if now_ns >= self._until_ns:
            if ring.completed != ring.next:
                return False  # what is left of one storm does not count as the next
            self._kind, self._until_ns = (self._kind + 1) % len(STORMS), now_ns + PHASE_NS
            self._words.store32(IRQ_STAMPS.size - 4, self._kind)
        kind = STORMS[self._kind]
        burst = _BURST_REFUSED if kind == "unmapped" else _BURST
        if kind == QUIET or ring.next - ring.completed > burst:
            return False
        event = _EVENT_OF.get(kind)
        for _ in range(burst):
            if event is None:
                ring.post(dma_request.KIND_WRITE, _MEMORY_GPA, 4, 0)
            else:
                ring.post(dma_request.KIND_MSI, _MESSAGE_GPA + _TRANSLATER % PAGE_SIZE_BYTES, 4, event)
        self._port.submit()
        self._posted(burst)
        os.sched_yield()  # a device takes nobody's processor: what its requests cost is what is measured
        return True


class Victim(Source):
    """Files each latency by the storm that blew from its signal to its handler."""

    phases: list[tuple[int, list[int]]]
    """Which storm blew, and the latencies beside it; begun again whenever another begins."""
    storm: SharedWords
    began = 0

    def _signal(self) -> bool:
        self.began = storm_of(self.storm)
        return super()._signal()

    def _take(self) -> bool:
        count = len(self._latencies_ns)
        moved = super()._take()
        if len(self._latencies_ns) > count and storm_of(self.storm) == self.began:
            if not self.phases or self.phases[-1][0] != self.began:
                self.phases.append((self.began, []))
            self.phases[-1][1].append(self._latencies_ns[-1])
        return moved

    def _finish(self, now_ns: int) -> None:
        for kind, name in enumerate(STORMS):
            rounds = self._rounds(kind)
            self._counters.set(f"{name}.rounds", len(rounds))
            for figure, share in (("p50_permille", 0.5), ("p99_permille", 0.99)):
                ratios = [1000 * quantile(storm, share) // quantile(quiet, share) for quiet, storm in rounds]
                self._counters.set(f"{name}.{figure}", quantile(ratios, 0.5))
        super()._finish(now_ns)

    def _rounds(self, kind: int) -> list[tuple[list[int], list[int]]]:
        """Return the latencies of each round: in its quiet phase, and beside a storm of this kind."""
        found, quiet = [], list[int]()
        for storm, latencies in self.phases:
            if STORMS[storm] == QUIET:
                quiet = latencies
            if storm == kind and quiet:
                found.append((quiet, latencies))
        return found


# composition


def _device(parts: ProcessParts, entry: IrqBenchEntry) -> None:
    port = _port(parts, DEVICE, entry.stream, entry.slots)
    iova = _MESSAGE_GPA + _TRANSLATER % PAGE_SIZE_BYTES
    stamps = parts.segments["stamps"].pinned
    victim = Victim(stamps, port, iova, entry.duration_ns, entry.gap_ns, parts.counters)
    victim.phases, victim.storm = [], SharedWords(stamps)
    parts.loop.runnable[victim.step] = None


def _storm(parts: ProcessParts, _entry: IrqBenchEntry) -> None:
    stamps = parts.segments["stamps"].pinned
    storm = Storm(_port(parts, STORM, _STREAM, _SLOTS), stamps, lambda n: parts.counters.add("posted", n))
    parts.loop.runnable[storm.step] = None


def _port(parts: ProcessParts, nic: str, stream: int, slots: int) -> DmaPort:
    page = parts.segments[f"{nic}.dma"].pinned
    bell = parts.doorbell(Bell(page, dma_area.BELL_TO_IOMMU), IOMMU)
    client = DmaClient(SharedArea(page, slots, parts.segments[f"{nic}.sram"].pinned), [stream], bell)
    parts.loop.watch.add_bell(client.from_iommu)
    return client.ports[stream]


def _vcpu(parts: ProcessParts, _entry: IrqBenchEntry) -> None:
    segments, loop = parts.segments, parts.loop
    page = segments["vcpu"].pinned
    bell = parts.doorbell(Bell(page, vcpu_page.BELL_TO_VMM), HYPERVISOR)
    table = segments["lpi-table"].pinned
    table.bytes_view()[: lpi.VLPIS] = bytes([PRIORITY | lpi.LPI_ENABLE.mask]) * lpi.VLPIS
    vcpu = StampingVcpu(page, table, segments["stamps"].pinned, bell, loop.wait_for, parts.counters)
    loop.watch.add(vcpu.interface, vcpu.take)
    loop.watch.add_bell(Bell(page, vcpu_page.BELL_TO_VCPU))


class StormHypervisor(Hypervisor):
    """Leads the second device's events, too, each to where its storm is to go."""

    def lead_storm(self, its_hpa: int, vcpus: list[tuple[Pinned, Segment]]) -> None:
        """Give the second device a page of memory and the ITS's, and map its events."""
        base = self._allocate(_FRAMES * PAGE_SIZE_BYTES)
        builder = TableBuilder(self.memory, FrameAllocator(self.memory, base, _FRAMES * PAGE_SIZE_BYTES), 2)
        page = its_hpa + _TRANSLATER & -PAGE_SIZE_BYTES
        builder.map(_MESSAGE_GPA, page, PAGE_SIZE_BYTES, Attributes(device=True))
        builder.map(_MEMORY_GPA, self._allocate(PAGE_SIZE_BYTES), PAGE_SIZE_BYTES)
        self._smmu.set_entry(_STREAM, stage2_entry(_VMID, builder.root, False))
        self._its.map_device(_STREAM, EVENTS)
        for event, (vcpu, vpt) in zip((_EVENT_OF["delivered"], _EVENT_OF["doorbell"]), vcpus, strict=True):
            table = Pinned(vpt.view[lpi.PENDING_RESERVED_BYTES :][: lpi.VLPI_WORDS * 8])
            vpe_id, doorbell = self._its.map_vpe(vpt.hpa), self._its.doorbell()
            vpe = ScheduledVpe(vpe_id, VpePort(vcpu, table), lambda: None, lambda _wanted: None)
            self.lpis.on(doorbell, vpe.rung)
            self._its.map_vlpi(_STREAM, event, vpe_id, lpi.LPI_FIRST, doorbell)
            if event == _EVENT_OF["delivered"]:
                vpe.enter()
        self.lpis.on(self._its.map_lpi(_STREAM, _EVENT_OF["physical"]), lambda: None)


def _hypervisor(parts: ProcessParts, entry: IrqBenchEntry) -> None:
    segments, loop = parts.segments, parts.loop
    window, vcpu = segments[f"{IOMMU}.window"].pinned, segments["vcpu"].pinned
    iommu_bell = parts.doorbell(Bell(window, bar_window.BELL_TO_DEVICE), IOMMU)
    vcpu_bell = parts.doorbell(Bell(vcpu, vcpu_page.BELL_TO_VCPU), VCPU)
    shared = Shared(
        segments["h0.tables"],
        segments["vpt"],
        window,
        segments[f"{IOMMU}.lpis"].pinned,
        vcpu,
        segments["stamps"].pinned,
    )
    hypervisor = StormHypervisor(shared, iommu_bell.ring, vcpu_bell, loop.wait_for, parts.counters)
    loop.watch.add_bell(Bell(window, bar_window.BELL_TO_DRIVER))
    hypervisor.map(entry.way, entry.stream, entry.its_hpa)
    pages = [segments[page].pinned for page in _MORE_PAGES]
    hypervisor.lead_storm(entry.its_hpa, list(zip(pages, [segments[vpt] for vpt in _MORE_VPTS], strict=True)))
    loop.watch.add(hypervisor.lpis.watched, hypervisor.take_lpis)
    loop.watch.add_bell(hypervisor.lpis.bell)
    loop.watch.add(hypervisor.requests, hypervisor.handle_exit)
    loop.watch.add_bell(Bell(vcpu, vcpu_page.BELL_TO_VMM))


_PARTS = {HYPERVISOR: _hypervisor, VCPU: _vcpu, DEVICE: _device, STORM: _storm}


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Run one of the processes until it is told to stop."""
    entry = plan.entry
    assert isinstance(entry, IrqBenchEntry)
    with process_parts(plan, descriptors, run_dir, peers=4) as parts:
        _PARTS[plan.name](parts, entry)
        parts.serve()
