"""`virtbed compare`: the same work over every way of a guest's frames, measured in turn, several times over.

All ways are up at once and make each measurement one after the other, pass by pass, so that what disturbs the
machine for a while disturbs them all. The passes are many and short, and come to rounds
(launcher/compare_rounds.py); a figure is the median of the rounds, with minimum and maximum. What the machine
itself can do at the moment is measured in between. Not modelled: machines whose clock rate changes from one
measurement to the next.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from launcher.compare_order import order_of, order_problems
from launcher.compare_result import FIGURES, SCHEMA, Comparison, Lecture, Measured, Settings, WayResult
from launcher.compare_rounds import Sample, Tries, in_rounds, round_of
from launcher.compare_turns import run_in_turns
from launcher.compare_ways import (
    ENDS,
    PLACES,
    REFERENCE,
    WAYS,
    Step,
    Way,
    processes,
    steps,
    topology,
    warm_ups,
)
from launcher.forkclient import ROLES
from launcher.phase_meter import Phase
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Result, machine
from launcher.spread import Spread
from launcher.topology import parse_topology
from launcher.wire_ways import Cost
from testbed.messages.entries import Plan

_ROLE_NAMES: Final = ("sender", "receiver")
_INTERRUPTED: Final = "irq"
"""The exit with which a vmm has a guest take an interrupt from its list registers."""
_LINES: Final = 10
"""How often a comparison says how far it is."""


Samples = dict[str, dict[Step, list[Tries]]]
"""By way and measurement, round by round."""


@dataclass(frozen=True)
class Measurements:
    """All that was measured."""

    samples: Samples
    speeds: list[float]
    """Of the machine, as `machine_speed` has it: the median of each pass through all measurements."""


def measure_ways(
    settings: Settings, told: Callable[[str], None], roles: Mapping[str, str] = ROLES
) -> Measurements:
    """Run every way as often as the settings say; `told` is given a line now and then.

    Raises ConfigError for settings that cannot be, BenchFailed where a run does not end well.
    """
    settings.check()
    plans = {name: _plan(WAYS[name], settings) for name in settings.ways}
    found = Measurements({name: {s: [] for s in steps()} for name in plans}, [])
    for number in range(1, settings.repetitions + 1):
        told(f"bringing up {len(plans)} topologies, {number} of {settings.repetitions}")
        _repeat(plans, settings, found, told, roles)
    return found


def _repeat(
    plans: Mapping[str, Plan],
    settings: Settings,
    found: Measurements,
    told: Callable[[str], None],
    roles: Mapping[str, str],
) -> None:
    """Bring every way up once, and add what is measured."""
    measured = list(steps())
    each, before = len(measured), len(list(warm_ups()))

    def reached(phase: int) -> None:
        number, step = divmod(phase - before, each)
        if phase == 0:
            told("warming up")
        elif number >= 0 and step == 0:
            _tell_pass(number + 1, settings.passes, told)

    outcomes = run_in_turns(list(plans.values()), roles, reached)
    for outcome in outcomes:
        if outcome.result.exit_code:
            raise BenchFailed(outcome.result)
    for name, outcome in zip(plans, outcomes, strict=True):
        for at, step in enumerate(measured):
            phases = outcome.phases[before + at :: each]
            samples = [_sample(WAYS[name], step, phase, outcome.result) for phase in phases]
            found.samples[name][step] += in_rounds(samples, settings.rounds)
    for first in range(before, before + settings.passes * each, each):
        part = slice(first, first + each)
        found.speeds.append(statistics.median(outcomes[0].speeds[part]))


def _tell_pass(number: int, passes: int, told: Callable[[str], None]) -> None:
    """Say which pass begins: each where there are few, and ten of many."""
    if (number - 1) % max(1, passes // _LINES) == 0:
        told(f"pass {number} of {passes}")


def _plan(way: Way, settings: Settings) -> Plan:
    file = topology(way, settings.seconds, settings.passes, sorted(os.sched_getaffinity(0)))
    return plan_fitting(parse_topology(msgspec.json.encode(file).decode(), "compare"))


def _sample(way: Way, step: Step, phase: Phase, result: Result) -> Sample:
    kinds = {process.name: process.role for process in result.processes}
    flow, cost = phase.flow, phase.cost(kinds, result.machine)
    roles = dict(zip(ENDS[step.place], _ROLE_NAMES, strict=True))
    cpu_ns = {
        roles.get(name, name): cost.cpu_ns[name] for name in processes(way, step.place) if name in cost.cpu_ns
    }
    measured = {"cpu_ns": sum(cpu_ns.values()), **_costs(cost, step.frame_bytes)}
    if flow.latency_us:
        measured |= {"p50_us": flow.latency_us["p50"], "p99_us": flow.latency_us["p99"]}
    else:
        measured |= {
            "frames_per_second": flow.frames_per_second,
            "bits_per_second": flow.bits_per_second,
        }
    guests = [name for name, kind in kinds.items() if kind == "guest"]
    return Sample(measured, cpu_ns, phase.exits(guests), max(1, flow.received))


def _costs(cost: Cost, frame_bytes: int) -> dict[str, float]:
    return {
        "exits": cost.exits,
        "doorbells": cost.doorbells,
        "messages": cost.messages,
        "interrupts": cost.interrupts,
        "copies": float(f"{(cost.vmm_bytes + cost.dma_bytes) / frame_bytes:.4g}"),
        "translations": cost.translations,
    }


def summed(found: Mapping[str, Mapping[Step, Sequence[Tries]]]) -> dict[str, WayResult]:
    """Return what the rounds come to. Pure."""
    reference = found[REFERENCE]
    return {
        name: WayResult(
            text=WAYS[name].text,
            method=WAYS[name].method,
            interrupts=WAYS[name].interrupts,
            measured=tuple(_measured(step, samples, reference[step]) for step, samples in each.items()),
        )
        for name, each in found.items()
    }


def _measured(step: Step, tried: Sequence[Tries], reference: Sequence[Tries]) -> Measured:
    samples = [round_of(tries) for tries in tried]
    names = [name for name in FIGURES if name in samples[0].figures]
    spreads = {name: Spread.of(sample.figures[name] for sample in samples) for name in names}
    by = "p50_us" if step.kind == "rr" else "frames_per_second"
    pairs = zip(samples, map(round_of, reference), strict=True)
    spreads["ratio"] = Spread.of(one.figures[by] / other.figures[by] for one, other in pairs)
    processes = dict.fromkeys(name for sample in samples for name in sample.cpu_ns)
    return Measured(
        place=step.place,
        kind=step.kind,
        frame_bytes=step.frame_bytes,
        figures=spreads,
        cpu_ns={
            name: float(f"{statistics.median(s.cpu_ns.get(name, 0.0) for s in samples):.4g}")
            for name in processes
        },
        exits=_exits(samples),
    )


def _exits(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the exits of a frame by reason: the mean, for one that must not be counts wherever it is."""
    frames = sum(sample.frames for sample in samples)
    reasons = dict.fromkeys(name for sample in samples for name in sample.exits)
    return {name: float(f"{sum(s.exits.get(name, 0) for s in samples) / frames:.4g}") for name in reasons}


def exit_problems(ways: Mapping[str, WayResult]) -> list[str]:
    """Return where a guest with a function left for its vmm in traffic: never, but to take an interrupt from
    its list registers, and with direct ones not even that.
    """
    problems = []
    for name, way in ways.items():
        allowed = () if way.interrupts == "direct" else (_INTERRUPTED,)
        for measured in way.measured if way.method == "passthrough" else ():
            wrong = {reason: n for reason, n in measured.exits.items() if n and reason not in allowed}
            if wrong:
                told = ", ".join(f"{n:g} {reason}" for reason, n in wrong.items())
                problems.append(f"{name}, {PLACES[measured.place]}: no exit may be taken, and were: {told}")
    return problems


def run_comparison(
    settings: Settings,
    told: Callable[[str], None],
    look: Callable[[dict[str, WayResult]], Lecture] | None,
    command: str,
    roles: Mapping[str, str] = ROLES,
) -> Comparison:
    """Measure every way, put the methods in order, and make the lecture's table (`look`).

    Raises as `measure_ways`.
    """
    began, load_average = time.monotonic(), os.getloadavg()[0]
    measured = measure_ways(settings, told, roles)
    ways = summed(measured.samples)
    order = order_of(ways)
    return Comparison(
        schema=SCHEMA,
        settings=settings,
        ways=ways,
        order=order,
        lecture=look(ways) if look else None,
        problems=(*order_problems(order), *exit_problems(ways)),
        machine_speed=Spread.of(measured.speeds),
        seconds=round(time.monotonic() - began, 1),
        load_average=round(load_average, 2),
        command=command,
        machine=machine(),
    )
