"""`virtbed bench e1000`: why emulation is slow: frames a second, and what a frame costs in exits.

Each pair runs every number of frames a TDT write, one after another, so that what disturbs the machine for a
while disturbs them all. Rates are the receiver's. Exits and interrupts of bringing the guests up, measured by
themselves, are taken off before the rest is divided by frames. Not modelled: peers.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from rich.console import Group, RenderableType

from launcher import figures
from launcher.forkclient import ROLES
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Machine, Result, machine
from launcher.run import run_plan
from launcher.rundir import Holder
from launcher.spread import Spread, ratios
from launcher.table import new_table
from launcher.topology import parse_topology
from launcher.watcher import Watcher
from testbed.messages.entries import Plan

SENDER: Final = "sender"
RECEIVER: Final = "receiver"
KICKS: Final = (1, 32)
"""Frames for each write of TDT, where nothing else is asked for."""
EXITS_SHOWN: Final = 0.0005
"""Registers with fewer exits a frame are left out."""
Path = Literal["sink", "echo", "forward"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    path: Path = "sink"
    kicks: tuple[int, ...] = KICKS
    frame_bytes: int = 60
    seconds: float = 1.0
    """Of each measurement."""
    pairs: int = 3
    ring_size: int = 256
    verify: bool = True
    pin: bool = True
    """Give the vmm one processor and the guests another; else the system decides."""

    @property
    def figures(self) -> tuple[str, ...]:
        """What `--at-least` and `--at-most` can name."""
        return tuple(f"{name}_{kick}" for kick in self.kicks for name in ("frames_per_second", "exits"))


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame costs, of the last run."""

    exits: float
    """Of the guest, all reasons."""
    exits_by_register: dict[str, float]
    """`REGISTER.read` or `.write`."""
    interrupts: float
    """Rises of its line."""


class KickResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured with one number of frames a TDT write."""

    frames_per_kick: int
    frames_per_second: Spread
    bits_per_second: Spread
    copies: float
    """Of a frame, from the sender's memory to where it ends."""
    sent: Cost
    """By frames sent; with an echo the sender receives as many."""
    received: Cost | None
    """By frames received, of the guest that receives."""


class E1000Result(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    schema: int
    settings: Settings
    kicks: tuple[KickResult, ...]
    speed_up: Spread | None
    """The last number of frames a TDT write by the first, pair by pair; None where there is one."""
    load_average: float
    """Of the minute before the bench began: what else kept the machine busy."""
    machine: Machine

    def figures(self) -> dict[str, Spread]:
        """Return every figure by the name that a bound gives it."""
        rates = {f"frames_per_second_{kick.frames_per_kick}": kick.frames_per_second for kick in self.kicks}
        return rates | {f"exits_{kick.frames_per_kick}": Spread.of([kick.sent.exits]) for kick in self.kicks}


def topology(settings: Settings, kick: int, *, idle: bool = False) -> dict[str, Any]:
    """Return the topology file that is measured; `idle`: without its workload."""
    nic = {
        "kind": "e1000",
        "ring_size": settings.ring_size,
        "frames_per_kick": kick,
        "backend": "bridge" if settings.path == "forward" else settings.path,
    }
    flow = {
        "kind": "pktgen",
        "from": SENDER,
        "frame": settings.frame_bytes,
        "duration": f"{settings.seconds}s",
        "verify": settings.verify,
    }
    guests = [SENDER]
    if settings.path == "forward":
        flow["to"] = RECEIVER
        guests.append(RECEIVER)
    cpus = sorted(os.sched_getaffinity(0))
    place = {"cpus": [cpus[-1]]} if settings.pin else {}
    return {
        "name": f"bench-e1000-{os.getpid()}",
        "hosts": {"h0": {"cpus": cpus[:1]} if settings.pin else {}},
        "guests": {name: {"nics": [nic], **place} for name in guests},
        "workloads": [] if idle else [flow],
    }


def measure_e1000(
    settings: Settings, told: Callable[[str], None], roles: Mapping[str, str] = ROLES
) -> E1000Result:
    """Measure every pair; `told` is given a line about each.

    Raises ConfigError for settings that cannot be, BenchFailed where a run does not end well.
    """
    plans = [_plan(settings, kick) for kick in settings.kicks]
    load_average = os.getloadavg()[0]
    results: list[list[Result]] = [[] for _ in plans]
    for number in range(1, settings.pairs + 1):
        for runs, plan in zip(results, plans, strict=True):
            runs.append(_run(plan, roles))
        rates = ", ".join(
            f"{kick} a kick {figures.mega(runs[-1].flows[0].frames_per_second)} Mframe/s"
            for kick, runs in zip(settings.kicks, results, strict=True)
        )
        told(f"pair {number} of {settings.pairs}: {rates}")
    idle = _run(_plan(settings, settings.kicks[0], idle=True), roles).counters["vmm-h0"]
    kicks = tuple(_summed(settings, idle, *both) for both in zip(settings.kicks, results, strict=True))
    return E1000Result(
        schema=1,
        settings=settings,
        kicks=kicks,
        speed_up=ratios(_rates(results[-1]), _rates(results[0])) if len(results) > 1 else None,
        load_average=round(load_average, 2),
        machine=machine(),
    )


def _plan(settings: Settings, kick: int, *, idle: bool = False) -> Plan:
    text = msgspec.json.encode(topology(settings, kick, idle=idle)).decode()
    return plan_fitting(parse_topology(text, "bench e1000"))


def _run(plan: Plan, roles: Mapping[str, str]) -> Result:
    holder = Holder(plan.topology, os.getpid(), "bench", time.time())
    result = run_plan(plan, holder, Watcher(), roles)
    if result.exit_code:
        raise BenchFailed(result)
    return result


def _rates(results: Sequence[Result]) -> list[float]:
    return [result.flows[0].frames_per_second for result in results]


def _summed(settings: Settings, idle: Mapping[str, int], kick: int, results: Sequence[Result]) -> KickResult:
    last = results[-1]
    flow, counters = last.flows[0], last.counters["vmm-h0"]
    vmm = {name: max(0, n - idle.get(name, 0)) for name, n in counters.items()}
    received = {"echo": SENDER, "forward": RECEIVER}.get(settings.path)
    return KickResult(
        frames_per_kick=kick,
        frames_per_second=Spread.of(_rates(results)),
        bits_per_second=Spread.of(result.flows[0].bits_per_second for result in results),
        copies=_rounded(vmm["frames_copied"] / flow.received),
        sent=_cost(vmm, SENDER, flow.sent),
        received=_cost(vmm, received, flow.received) if received else None,
    )


def _cost(vmm: Mapping[str, int], guest: str, frames: int) -> Cost:
    prefix = f"exits.{guest}.nic0."
    exits = {name.removeprefix(prefix): n for name, n in vmm.items() if name.startswith(prefix)}
    shown = {name: _rounded(n / frames) for name, n in exits.items() if n / frames >= EXITS_SHOWN}
    return Cost(
        exits=_rounded(sum(exits.values()) / frames),
        exits_by_register=dict(sorted(shown.items(), key=lambda item: -item[1])),
        interrupts=_rounded(vmm.get(f"{guest}.nic0.calls", 0) / frames),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def e1000_table(measured: E1000Result) -> RenderableType:
    """Return the figures as a table, a column for each number of frames a TDT write."""
    settings = measured.settings
    title = f"e1000 {settings.path}, {settings.frame_bytes} bytes, by frames a write of TDT"
    table = new_table(title, [""], [str(kick.frames_per_kick) for kick in measured.kicks])
    rates = [kick.frames_per_second for kick in measured.kicks]
    table.add_row("Mframe/s, median", *(figures.mega(rate.median) for rate in rates))
    table.add_row(
        "Mframe/s, min to max", *(f"{figures.mega(rate.min)} to {figures.mega(rate.max)}" for rate in rates)
    )
    table.add_row("copies a frame", *(f"{kick.copies:g}" for kick in measured.kicks))
    _add_costs(table.add_row, "sent", [kick.sent for kick in measured.kicks])
    received = [kick.received for kick in measured.kicks if kick.received]
    if received:
        _add_costs(table.add_row, "received", received)
    return Group(table, f"[dim]load average before: {measured.load_average:g}[/]")


def _add_costs(add: Callable[..., None], what: str, costs: Sequence[Cost]) -> None:
    add(f"exits a frame {what}", *(f"{cost.exits:g}" for cost in costs))
    for register in dict.fromkeys(name for cost in costs for name in cost.exits_by_register):
        values = (cost.exits_by_register.get(register, 0.0) for cost in costs)
        add(f"  {register}", *(f"{value:g}" if value else figures.NOTHING for value in values))
    add(f"interrupts a frame {what}", *(f"{cost.interrupts:g}" for cost in costs))
