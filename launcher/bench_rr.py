"""`virtbed bench rr`: a round trip between two guests that sleep, beside the wake-ups it is made of.

A request wakes the vmm, the vmm the answering guest, its answer the vmm again, and that the guest that
asked: four wake-ups one after another. The same number of bare ZeroMQ wake-ups between sleeping processes
is measured in turn.
Not modelled: polling; `bench virtio --path echo --in-flight 1` measures that.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from rich.table import Table

from launcher import figures
from launcher.forkclient import ROLES
from launcher.peers import wakeups
from launcher.placement import place
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Machine, machine
from launcher.run import run_plan
from launcher.rundir import Holder
from launcher.spread import Spread, ratios
from launcher.table import new_table
from launcher.topology import parse_topology
from launcher.watcher import Watcher
from testbed.messages.entries import Plan

FIGURES: Final = ("p50_us", "p99_us", "p999_us", "wakeups_us", "ratio_to_wakeups")
"""What `--at-least` and `--at-most` can name."""
WAKEUPS: Final = 4
"""One-way wake-ups in a round trip."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    frame_bytes: int = 60
    seconds: float = 1.0
    pairs: int = 3


class RrResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    schema: int
    settings: Settings
    latency_us: dict[str, Spread]
    """p50, p99, p999 of a round trip."""
    wakeups_us: Spread
    """Four times the median one-way wake-up."""
    ratio_to_wakeups: Spread
    """p50 by `wakeups_us`, pair by pair."""
    load_average: float
    """Of the minute before the bench began."""
    machine: Machine

    def figures(self) -> dict[str, Spread]:
        """Return every figure by the name that a bound gives it."""
        named = {f"{name}_us": spread for name, spread in self.latency_us.items()}
        return named | {"wakeups_us": self.wakeups_us, "ratio_to_wakeups": self.ratio_to_wakeups}


def topology(settings: Settings) -> dict[str, Any]:
    """Return the topology file that is measured: nobody polls."""
    duration = f"{settings.seconds}s"
    flow = {"kind": "rr", "from": "a", "to": "b", "frame": settings.frame_bytes, "duration": duration}
    return {"name": f"bench-rr-{os.getpid()}", "poll": 0, "guests": {"a": {}, "b": {}}, "workloads": [flow]}


def measure_rr(settings: Settings, told: Callable[[str], None], roles: Mapping[str, str] = ROLES) -> RrResult:
    """Measure every pair; `told` is given a line about each. Raises as `bench_virtio.measure_virtio`."""
    text, load_average = msgspec.json.encode(topology(settings)).decode(), os.getloadavg()[0]
    plan = plan_fitting(parse_topology(text, "bench rr"))
    plan = place(plan, sorted(os.sched_getaffinity(0)))  # as a topology that runs alone
    latencies: list[dict[str, float]] = []
    bare_us: list[float] = []
    for number in range(1, settings.pairs + 1):
        latencies.append(_ours(plan, roles))
        bare_us.append(WAKEUPS * statistics.median(wakeups.measure(settings.seconds)))
        p50 = latencies[-1]["p50"]
        told(f"pair {number} of {settings.pairs}: p50 {p50:,.1f} us, four bare wake-ups {bare_us[-1]:,.1f}")
    return RrResult(
        schema=1,
        settings=settings,
        latency_us={name: Spread.of(each[name] for each in latencies) for name in latencies[0]},
        wakeups_us=Spread.of(bare_us),
        ratio_to_wakeups=ratios([each["p50"] for each in latencies], bare_us),
        load_average=round(load_average, 2),
        machine=machine(),
    )


def _ours(plan: Plan, roles: Mapping[str, str]) -> dict[str, float]:
    holder = Holder(plan.topology, os.getpid(), "bench", time.time())
    result = run_plan(plan, holder, Watcher(), roles)
    if result.exit_code or not result.flows[0].latency_us:
        raise BenchFailed(result)
    return result.flows[0].latency_us


def rr_table(measured: RrResult) -> Table:
    """Return the figures as a table."""
    settings = measured.settings
    pairs = figures.plural(settings.pairs, "pair")
    title = f"rr between sleeping guests, {settings.frame_bytes} bytes"
    table = new_table(title, [pairs], ["min", "median", "max"])
    rows = {f"{name} us": spread for name, spread in measured.latency_us.items()}
    rows |= {"four bare wake-ups us": measured.wakeups_us, "ratio to wake-ups": measured.ratio_to_wakeups}
    for name, spread in rows.items():
        table.add_row(name, *(f"{value:,.4g}" for value in (spread.min, spread.median, spread.max)))
    return table
