"""`virtbed bench irq`: how long an interrupt takes from its source's signal to its handler's first line.

`vf`: a device writes MSIs, one at a time; a running vCPU handles them. By list registers the ITS raises an
LPI at the hypervisor, which makes the vCPU exit and fills a list register; directly the ITS makes it pending
at the vCPU itself. `virtio` and `e1000`: the device is software in the hypervisor and raises an edge or a
line, which the handler has lowered by a load that traps. `timer` and `ipi`: workloads of a guest. What is no
MSI of a function goes by list registers either way, as on a GICv4.0. Both ways are measured in turn, so that
a machine's mood meets both. Not modelled: a driver's work behind the handler's first lines.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import uvloop
from rich.table import Table

from launcher import irq_plan
from launcher.bench_irq_guests import GuestKind, measure_guest
from launcher.figures import plural
from launcher.forkclient import ROLES
from launcher.irq_plan import DEVICE, HYPERVISOR, VCPU, DeviceKind, Timing, Way
from launcher.irq_plan import irq_plan as make_plan
from launcher.result import BenchFailed, Machine, Result, machine
from launcher.run import Run
from launcher.rundir import Holder, claim
from launcher.spread import Spread, ratios
from launcher.table import new_table
from launcher.watcher import Watcher
from testbed.errors import MachineError

Kind = DeviceKind | GuestKind
WAYS: Final[tuple[Way, ...]] = ("list-registers", "direct")
_LOOK_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 10.0
"""Beyond the length of a measurement."""
_NS_PER_SECOND: Final = 1_000_000_000
_NS_PER_US: Final = 1e3
FIGURES: Final = (
    "p50_us",
    "p99_us",
    "exits_per_interrupt",
    "vmm_messages_per_interrupt",
    "messages_per_interrupt",
    "interrupts_per_second",
)
"""What is measured of each way; a bound names it with the way in front (`direct.p50_us`)."""
NAMES: Final = (*(f"{way}.{name}" for way in WAYS for name in FIGURES), "p50_ratio")


class IrqSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    ways: tuple[Way, ...] = WAYS
    kind: Kind = "vf"
    seconds: float = 1.0
    pairs: int = 3
    poll_ns: int = 0
    """Of IOMMU and hypervisor."""
    gap_ns: int = 0
    """From one handler to the next signal."""


class IrqResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    schema: int
    settings: IrqSettings
    ways: dict[str, dict[str, Spread]]
    """Figures by way."""
    p50_ratio: Spread | None
    """p50 of direct by that of list registers, pair by pair, where both were measured."""
    interrupts: int
    load_average: float
    machine: Machine

    def figures(self) -> dict[str, Spread]:
        """Return every figure by the name that a bound gives it."""
        named = {f"{way}.{name}": spread for way, each in self.ways.items() for name, spread in each.items()}
        return named if self.p50_ratio is None else named | {"p50_ratio": self.p50_ratio}


def measure_irq(
    settings: IrqSettings, told: Callable[[str], None], roles: Mapping[str, str] | None = None
) -> IrqResult:
    """Measure every pair; `told` is given a line about each. Raises MachineError where one is lost or a
    process dies.
    """
    load_average = os.getloadavg()[0]
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in settings.ways}
    interrupts = 0
    for number in range(1, settings.pairs + 1):
        for way in settings.ways:
            figures, count = _measure(way, settings, roles)
            runs[way].append(figures)
            interrupts += count
            told(f"pair {number} of {settings.pairs}: {way}: p50 {figures['p50_us']:,.1f} us")
    ways = {
        way: {name: Spread.of(run[name] for run in each) for name in FIGURES} for way, each in runs.items()
    }
    both = len(settings.ways) == len(WAYS)
    p50s = [[run["p50_us"] for run in runs[way]] for way in ("direct", "list-registers")] if both else []
    return IrqResult(
        schema=1,
        settings=settings,
        ways=ways,
        p50_ratio=ratios(p50s[0], p50s[1]) if both else None,
        interrupts=interrupts,
        load_average=round(load_average, 2),
        machine=machine(),
    )


def _measure(
    way: Way, settings: IrqSettings, roles: Mapping[str, str] | None
) -> tuple[dict[str, float], int]:
    """Return the figures of one run, and how many interrupts they are of."""
    kind = settings.kind
    if kind == "timer" or kind == "ipi":
        parts = (settings.seconds, settings.gap_ns, settings.poll_ns)
        return measure_guest(way, kind, *parts, roles or ROLES)
    counters = uvloop.run(_run(way, kind, settings, roles or irq_plan.ROLES))
    source = counters[_source(kind)]
    return _figures(counters, source), source["interrupts"]


def _source(kind: DeviceKind) -> str:
    """Return the process in which the device is."""
    return DEVICE if kind == "vf" else HYPERVISOR


async def _run(
    way: Way, kind: DeviceKind, settings: IrqSettings, roles: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Run the processes until the device is done; return every counter."""
    duration_ns = int(settings.seconds * _NS_PER_SECOND)
    plan = make_plan(
        way, Timing(duration_ns=duration_ns, gap_ns=settings.gap_ns, poll_ns=settings.poll_ns), kind
    )
    with claim(Holder(plan.topology, os.getpid(), "bench", time.time())) as directory:
        run = Run(plan, directory, Watcher(), stay=True, roles=roles)
        execution = asyncio.ensure_future(run.execute())
        done = asyncio.ensure_future(_until_done(run, _source(kind), settings.seconds + _PATIENCE_SECONDS))
        await asyncio.wait([execution, done], return_when=asyncio.FIRST_COMPLETED)
        counters = (
            run.supervisor.segments.read_counters(zeros=True) if done.done() and done.result() else None
        )
        done.cancel()
        run.stop("measured")
        result = await execution
    if result.interrupted:
        raise BenchFailed(result)
    if counters is None or counters[_source(kind)]["lost"]:
        raise MachineError(_why(way, result))
    return counters


async def _until_done(run: Run, source: str, seconds: float) -> bool:
    """Wait for the device's figures; False: they do not come."""
    await run.idle.wait()
    deadline = time.monotonic() + seconds
    while not run.supervisor.segments.read_counters(zeros=True)[source]["done"]:
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_SECONDS)
    # everybody's last counts are written within one look of theirs
    await asyncio.sleep(_LOOK_SECONDS)
    return True


def _why(way: str, result: Result) -> str:
    reasons: Sequence[str] = [
        *([result.error] if result.error else ()),
        *(f"{died.name} {died.how}" for died in result.died),
        *(f"{report.device} {report.reason}: {report.detail}" for report in result.reports),
    ]
    return f"interrupts by {way} did not arrive: " + ("; ".join(reasons) or "one was lost")


def _figures(counters: Mapping[str, Mapping[str, int]], device: Mapping[str, int]) -> dict[str, float]:
    vmm, vcpu = counters[HYPERVISOR], counters[VCPU]
    signalled = device["signalled"]
    return {
        "p50_us": device["p50_ns"] / _NS_PER_US,
        "p99_us": device["p99_ns"] / _NS_PER_US,
        "exits_per_interrupt": vcpu["exits"] / signalled,
        "vmm_messages_per_interrupt": (vmm["bell.wakeups"] + vmm["bell.sent"]) / signalled,
        "messages_per_interrupt": sum(each["bell.wakeups"] for each in counters.values()) / signalled,
        "interrupts_per_second": device["interrupts"] / (device["measured_ns"] / _NS_PER_SECOND),
    }


def irq_table(measured: IrqResult) -> Table:
    """Return the figures as a table."""
    pairs = plural(measured.settings.pairs, "pair")
    table = new_table(
        f"Interrupts ({measured.settings.kind}) to a vCPU", [pairs, ""], ["min", "median", "max"]
    )
    for way, each in measured.ways.items():
        for name, spread in each.items():
            table.add_row(way, name.replace("_", " "), *_cells(spread))
    if measured.p50_ratio is not None:
        table.add_row("direct", "p50 by list registers'", *_cells(measured.p50_ratio))
    return table


def _cells(spread: Spread) -> list[str]:
    return [f"{value:,.4g}" for value in (spread.min, spread.median, spread.max)]
