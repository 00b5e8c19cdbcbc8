"""`virtbed compare`: the same work over every way of a guest's frames, measured in turn, several times over.

Every repetition runs every way once, so that what disturbs the machine for a while disturbs them all; a
figure is the median of the measurements, with minimum and maximum. Not modelled: machines whose clock rate
changes between repetitions.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from launcher import figures
from launcher.bench_virtio import BenchFailed
from launcher.compare_order import order_of, order_problems
from launcher.compare_result import FIGURES, SCHEMA, Comparison, Lecture, Measured, Settings, WayResult
from launcher.compare_ways import PLACES, REFERENCE, WAYS, Step, Way, steps, topology
from launcher.forkclient import ROLES
from launcher.phase_meter import Phase, PhaseMeter
from launcher.prepare import plan_fitting
from launcher.result import Machine, machine
from launcher.run import run_plan
from launcher.rundir import Holder
from launcher.spread import Spread
from launcher.topology import parse_topology
from launcher.wire_ways import Cost
from testbed.messages.entries import Plan

_ROLE_NAMES: Final = {"a": "sender", "b": "receiver", "c": "receiver", "d": "sender"}
_INTERRUPTED: Final = "irq"
"""The exit with which a vmm has a guest take an interrupt from its list registers."""


@dataclass(frozen=True)
class Sample:
    """One measurement of one repetition."""

    figures: Mapping[str, float]
    cpu_ns: Mapping[str, float]
    exits: Mapping[str, int]
    frames: int


def measure_ways(
    settings: Settings, told: Callable[[str], None], roles: Mapping[str, str] = ROLES
) -> dict[str, dict[Step, list[Sample]]]:
    """Run every way as often as the settings say; `told` is given a line about each repetition.

    Raises ConfigError for settings that cannot be, BenchFailed where a run does not end well.
    """
    settings.check()
    plans = {name: _plan(WAYS[name], settings) for name in settings.ways}
    found: dict[str, dict[Step, list[Sample]]] = {name: {s: [] for s in steps()} for name in plans}
    for number in range(1, settings.repetitions + 1):
        for name, plan in plans.items():
            for step, sample in _run(plan, settings.rounds, roles):
                found[name][step].append(sample)
        to_wire = Step(place="wire", kind="pktgen", frame_bytes=60)
        rates = (
            f"{name} {figures.mega(each[to_wire][-1].figures['frames_per_second'])}"
            for name, each in found.items()
        )
        told(f"repetition {number} of {settings.repetitions}, to the wire: {', '.join(rates)} Mframe/s")
    return found


def _plan(way: Way, settings: Settings) -> Plan:
    text = msgspec.json.encode(topology(way, settings.seconds, settings.rounds)).decode()
    return plan_fitting(parse_topology(text, "compare"))


def _run(plan: Plan, rounds: int, roles: Mapping[str, str]) -> list[tuple[Step, Sample]]:
    meter = PhaseMeter()
    holder = Holder(plan.topology, os.getpid(), "bench", time.time())
    result = run_plan(plan, holder, meter, roles)
    if result.exit_code:
        raise BenchFailed(result)
    kinds = {process.name: process.role for process in result.processes}
    made = [step for _ in range(rounds) for step in steps()]
    return [
        (step, _sample(step, phase, kinds, result.machine))
        for step, phase in zip(made, meter.phases, strict=True)
    ]


def _sample(step: Step, phase: Phase, kinds: Mapping[str, str], where: Machine) -> Sample:
    flow, cost = phase.flow, phase.cost(kinds, where)
    cpu_ns = {_ROLE_NAMES.get(name, name): ns for name, ns in cost.cpu_ns.items()}
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


def summed(found: Mapping[str, Mapping[Step, Sequence[Sample]]]) -> dict[str, WayResult]:
    """Return what the repetitions come to. Pure."""
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


def _measured(step: Step, samples: Sequence[Sample], reference: Sequence[Sample]) -> Measured:
    names = [name for name in FIGURES if name in samples[0].figures]
    spreads = {name: Spread.of(sample.figures[name] for sample in samples) for name in names}
    by = "p50_us" if step.kind == "rr" else "frames_per_second"
    pairs = zip(samples, reference, strict=True)
    spreads["ratio"] = Spread.of(one.figures[by] / other.figures[by] for one, other in pairs)
    frames = sum(sample.frames for sample in samples)
    processes = dict.fromkeys(name for sample in samples for name in sample.cpu_ns)
    reasons = dict.fromkeys(name for sample in samples for name in sample.exits)
    return Measured(
        place=step.place,
        kind=step.kind,
        frame_bytes=step.frame_bytes,
        figures=spreads,
        cpu_ns={
            name: float(f"{statistics.median(s.cpu_ns.get(name, 0.0) for s in samples):.4g}")
            for name in processes
        },
        exits={name: float(f"{sum(s.exits.get(name, 0) for s in samples) / frames:.4g}") for name in reasons},
    )


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
    ways = summed(measure_ways(settings, told, roles))
    order = order_of(ways)
    return Comparison(
        schema=SCHEMA,
        settings=settings,
        ways=ways,
        order=order,
        lecture=look(ways) if look else None,
        problems=(*order_problems(order), *exit_problems(ways)),
        seconds=round(time.monotonic() - began, 1),
        load_average=round(load_average, 2),
        command=command,
        machine=machine(),
    )
