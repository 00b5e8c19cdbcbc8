"""The processes between which interrupts are measured, besides the host's IOMMU: hypervisor, vCPU, device.

Composition root: opens sockets, maps segments, builds the objects and runs the loop. Reference: design,
"Interrupt virtualization". Not modelled: a whole guest.
"""

import time

from testbed.iommu.client import DmaClient, SharedArea
from testbed.irqbench.hypervisor import CAUSE_GPA, MESSAGE_GPA, Hypervisor, Shared
from testbed.irqbench.source import SoftSource, Source
from testbed.irqbench.vcpu import StampingVcpu
from testbed.messages.entries import IrqBenchEntry, ProcessPlan
from testbed.messages.process import ProcessParts, process_parts
from testbed.native import Bell
from testbed.spec import bar_window, dma_area, its, lpi, vcpu_page
from testbed.vmm.its_driver import PRIORITY

IOMMU = "iommu-h0"
_LOOK_NS = 100_000
"""How often a source that is software looks for the handler's stamp while its process sleeps."""


def _hypervisor(parts: ProcessParts, entry: IrqBenchEntry) -> None:
    segments, loop = parts.segments, parts.loop
    window, vcpu = segments[f"{IOMMU}.window"].pinned, segments["vcpu"].pinned
    iommu_bell = parts.doorbell(Bell(window, bar_window.BELL_TO_DEVICE), IOMMU)
    vcpu_bell = parts.doorbell(Bell(vcpu, vcpu_page.BELL_TO_VCPU), "vcpu")
    shared = Shared(
        segments["h0.tables"],
        segments["vpt"],
        window,
        segments[f"{IOMMU}.lpis"].pinned,
        vcpu,
        segments["stamps"].pinned,
    )

    hypervisor = Hypervisor(shared, iommu_bell.ring, vcpu_bell, loop.wait_for, parts.counters)
    loop.watch.add_bell(Bell(window, bar_window.BELL_TO_DRIVER))
    if entry.kind == "vf":
        hypervisor.map(entry.way, entry.stream, entry.its_hpa)
    else:
        device, timing = hypervisor.add_device(entry.kind), (entry.duration_ns, entry.gap_ns)
        source = SoftSource(segments["stamps"].pinned, *device, *timing, parts.counters)
        loop.runnable[source.step] = None
        loop.deadline = lambda: None if source.done else time.monotonic_ns() + _LOOK_NS
    loop.watch.add(hypervisor.lpis.watched, hypervisor.take_lpis)
    loop.watch.add_bell(hypervisor.lpis.bell)
    loop.watch.add(hypervisor.requests, hypervisor.handle_exit)
    loop.watch.add_bell(Bell(vcpu, vcpu_page.BELL_TO_VMM))
    loop.on_tick = lambda: parts.counters.set("bell.sent", vcpu_bell.sent)
    parts.counters.set("bell.wakeups", 0)  # what follows is for interrupts


def _vcpu(parts: ProcessParts, entry: IrqBenchEntry) -> None:
    segments, loop = parts.segments, parts.loop
    page = segments["vcpu"].pinned
    bell = parts.doorbell(Bell(page, vcpu_page.BELL_TO_VMM), "vmm-h0")
    table, stamps = segments["lpi-table"].pinned, segments["stamps"].pinned
    table.bytes_view()[: lpi.VLPIS] = bytes([PRIORITY | lpi.LPI_ENABLE.mask]) * lpi.VLPIS
    cause = CAUSE_GPA if entry.kind == "e1000" else 0
    vcpu = StampingVcpu(page, table, stamps, bell, loop.wait_for, parts.counters, cause_gpa=cause)
    loop.watch.add(vcpu.interface, vcpu.take)
    loop.watch.add_bell(Bell(page, vcpu_page.BELL_TO_VCPU))
    loop.on_tick = lambda: parts.counters.set("bell.sent", bell.sent)


def _device(parts: ProcessParts, entry: IrqBenchEntry) -> None:
    if entry.kind != "vf":
        return
    segments, loop = parts.segments, parts.loop
    page = segments["nic0.dma"].pinned
    bell = parts.doorbell(Bell(page, dma_area.BELL_TO_IOMMU), IOMMU)
    client = DmaClient(SharedArea(page, entry.slots, segments["nic0.sram"].pinned), [entry.stream], bell)
    iova = MESSAGE_GPA + its.ITS["TRANSLATER"].offset % 4096
    source = Source(
        segments["stamps"].pinned,
        client.ports[entry.stream],
        iova,
        entry.duration_ns,
        entry.gap_ns,
        parts.counters,
    )
    loop.watch.add_bell(client.from_iommu)
    loop.on_tick = lambda: parts.counters.set("bell.sent", bell.sent)
    loop.runnable[source.step] = None


_PARTS = {"vmm-h0": _hypervisor, "vcpu": _vcpu, "nic0": _device}


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Run one of the processes until it is told to stop."""
    entry = plan.entry
    assert isinstance(entry, IrqBenchEntry)
    with process_parts(plan, descriptors, run_dir, peers=4) as parts:
        _PARTS[entry.name](parts, entry)
        parts.serve()
