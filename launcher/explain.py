"""`virtbed explain`: one frame, or one interrupt, sent through a small topology whose processes record what
they do.

The topology comes up, some frames go the same way before, and then one more with tracing on. Nothing here
knows what will happen: the steps are the events that the processes recorded. Reference: design, "The three
paths", "Interrupt virtualization".
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import msgspec
import uvloop

from launcher import rundir
from launcher.explain_steps import Counts, Step, counts_of, steps_of, way_of
from launcher.forkclient import ROLES
from launcher.prepare import prepare
from launcher.result import BenchFailed
from launcher.run import Run
from launcher.rundir import Holder
from launcher.trace_names import Names
from launcher.watcher import Watcher
from launcher.workload_run import Flow
from testbed.errors import MachineError
from testbed.messages.entries import Plan
from testbed.observe.trace import Record
from testbed.spec import trace as events
from testbed.spec.trace import Event

WayName = Literal["emulated", "virtio", "passthrough", "list-registers", "direct"]
_WARM_FRAMES: Final = 16
_LATE_SECONDS: Final = 0.06
"""Behind the warm-up, until drivers have done what they do late (`guest.interrupts.LATE_NS`)."""
_ASLEEP_SECONDS: Final = 0.03
"""Until whoever was told of the flow sleeps again."""
_TAIL_SECONDS: Final = 0.02
_ARRIVED: Final = (events.FRAME_CHECKED, events.ENDED)
_ONE_WIRE: Final = "h0: {nics: {nic0: {vfs: 2, wire: w0}}}, h1: {nics: {nic1: {vfs: 2, wire: w0}}}"


@dataclass(frozen=True)
class Way:
    """A way to explain."""

    title: str
    hosts: str
    guests: str
    first: Event
    last: tuple[Event, ...]
    settle_seconds: float = _LATE_SECONDS
    wait_seconds: float = _ASLEEP_SECONDS
    """Between telling the receiver and sending: 0 where it must not have gone to sleep again."""

    @property
    def text(self) -> str:
        """The topology's file."""
        return (
            f"name: explain-{os.getpid()}\nhosts: {{{self.hosts}}}\nguests: {{{self.guests}}}\nworkloads:\n"
            f"  - {{kind: pktgen, from: a, to: b, frame: 60, count: {_WARM_FRAMES}}}\n"
            "  - {kind: pktgen, from: a, to: b, frame: 60, count: 1}\n"
        )


def _interrupt(way: str) -> Way:
    """A guest that runs: it polls for a while behind the launcher's word, with its vectors unmasked."""
    return Way(
        f"One interrupt of a virtual function, {way}",
        "h0: {nics: {nic0: {vfs: 2}}}",
        "a: {nics: [{kind: vf, nic: nic0}]}, "
        f"b: {{interrupts: {way}, poll: 250ms, nics: [{{kind: vf, nic: nic0}}]}}",
        events.MSI_RAISED,
        (events.ENDED,),
        settle_seconds=0.5,
        wait_seconds=0.0,
    )


WAYS: Final[Mapping[WayName, Way]] = {
    "emulated": Way(
        "One frame between two emulated 82540EM, through the vmm's bridge", "h0: {}",
        "a: {nics: [{kind: e1000}]}, b: {nics: [{kind: e1000}]}", events.FRAME_MADE, _ARRIVED,
    ),
    "virtio": Way(
        "One frame between two virtio-net devices, through the vmm's bridge", "h0: {}", "a: {}, b: {}",
        events.FRAME_MADE, _ARRIVED,
    ),
    "passthrough": Way(
        "One frame between virtual functions of two hosts' NICs, across a wire", _ONE_WIRE,
        "a: {host: h0, interrupts: direct, iommu: smmu, nics: [{kind: vf, nic: nic0}]}, "
        "b: {host: h1, interrupts: direct, iommu: smmu, nics: [{kind: vf, nic: nic1}]}",
        events.FRAME_MADE, _ARRIVED,
    ),
    "list-registers": _interrupt("list-registers"),
    "direct": _interrupt("direct"),
}  # fmt: skip


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one frame or interrupt."""

    schema: int = 1
    way: WayName
    title: str
    steps: list[Step]
    counts: Counts
    microseconds: float
    missing: dict[str, int]
    """Events that a process's ring has lost; none in a ring that is large enough."""


@dataclass(frozen=True)
class Traced:
    """What was recorded, and of which topology; `counters`: by how much they rose meanwhile."""

    plan: Plan
    records: list[Record]
    missing: dict[str, int]
    counters: dict[str, dict[str, int]]
    way: list[Record] = field(default_factory=list)
    """Those of `records` that are the way."""


def explain(name: WayName, roles: Mapping[str, str] = ROLES) -> tuple[Explained, Traced]:
    """Send one frame (or interrupt) its way and return the steps, with what was recorded.

    Raises MachineError where it did not come to its end.
    """
    way = WAYS[name]
    traced = record(way, roles)
    records = way_of(traced.records, way.first, way.last)
    if not records:
        raise MachineError(
            f"explain {name}: no {way.last[-1].name} was recorded; run it again on a quieter machine"
        )
    traced = replace(traced, way=records)
    explained = Explained(
        way=name,
        title=way.title,
        steps=steps_of(Names(traced.plan), records),
        counts=counts_of(records),
        microseconds=(records[-1].at_ns - records[0].at_ns) / 1000,
        missing=traced.missing,
    )
    return explained, traced


def record(way: Way, roles: Mapping[str, str] = ROLES) -> Traced:
    """Bring a way's topology up, warm it, and record one frame more."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "explain.yaml"
        file.write_text(way.text)
        plan = prepare(file)
    return uvloop.run(_record(plan, way, roles))


async def _record(plan: Plan, way: Way, roles: Mapping[str, str]) -> Traced:
    holder = Holder(plan.topology, os.getpid(), "run", time.time(), "")
    with rundir.claim(holder) as directory:
        run = Run(plan, directory, Watcher(), workloads=False, stay=True, roles=roles)
        execution = asyncio.ensure_future(run.execute())
        up = asyncio.ensure_future(run.idle.wait())
        try:
            await asyncio.wait((execution, up), return_when=asyncio.FIRST_COMPLETED)
            traced = None if execution.done() else await _one_more(run, way)
        finally:
            up.cancel()
            run.stop("all is recorded")
            result = await execution
    if result.interrupted or result.died:
        raise BenchFailed(result)
    if traced is None:
        raise MachineError(result.error or "the topology did not come up")
    return traced


async def _one_more(run: Run, way: Way) -> Traced:
    """Send the warm-up, then one frame with tracing on."""
    warm, one = run.workloads.flows
    segments = run.supervisor.segments
    await _send(run, warm)
    await asyncio.sleep(way.settle_seconds)
    before = segments.read_counters(zeros=True)
    segments.trace.begin()
    await run.workloads.expect(one)
    await asyncio.sleep(way.wait_seconds)
    await run.workloads.transfer(one)
    await asyncio.sleep(_TAIL_SECONDS)
    segments.trace.end()
    records, missing = segments.trace.read()
    after = segments.read_counters(zeros=True)
    risen = {
        process: {name: value - before[process][name] for name, value in counters.items()}
        for process, counters in after.items()
    }
    return Traced(run.plan, records, missing, risen)


async def _send(run: Run, flow: Flow) -> None:
    await run.workloads.expect(flow)
    await run.workloads.transfer(flow)
