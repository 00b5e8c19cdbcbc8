"""A comparison of made-up figures, for tests of what is made of one."""

from collections.abc import Mapping

from launcher.compare import summed
from launcher.compare_order import order_of, order_problems
from launcher.compare_result import SCHEMA, Cell, Comparison, Lecture, Row, Settings, WayResult
from launcher.compare_rounds import Sample
from launcher.compare_ways import METHODS, WAYS, Step, steps
from launcher.result import machine
from launcher.spread import Spread

RATES = {"emulated": 10_000.0, "paravirtual": 1_000_000.0, "passthrough": 3_000_000.0}


def sample(step: Step, rate: float, exits: Mapping[str, int] | None = None) -> Sample:
    """Return one measurement whose figures all follow from a rate."""
    per_frame = {"exits": 0.5, "doorbells": 0.25, "messages": 0.125, "interrupts": 0.0625}
    figures = {"cpu_ns": 1e9 / rate, **per_frame, "copies": 2.0, "translations": 1.25}
    if step.kind == "rr":
        figures |= {"p50_us": 1e8 / rate, "p99_us": 3e8 / rate}
    else:
        figures |= {"frames_per_second": rate, "bits_per_second": rate * 8 * step.frame_bytes}
    used = {"sender": 0.25e9 / rate, "vmm-h0": 0.75e9 / rate}
    return Sample(figures, used, exits or {}, 1000)


def ways(factor: float = 1.0, exits: Mapping[str, Mapping[str, int]] | None = None) -> dict[str, WayResult]:
    """Return every way, measured three times; `factor` is that of the passthrough ones' rates."""
    found = {}
    for number, (name, way) in enumerate(WAYS.items()):
        rate = (RATES[way.method] + number) * (factor if way.method == "passthrough" else 1.0)
        turns = (0.9, 1.0, 1.2)
        left = (exits or {}).get(name)
        found[name] = {
            step: [(sample(step, rate * turn, left), sample(step, rate * turn / 2, left)) for turn in turns]
            for step in steps()
        }
    return summed(found)


def comparison(factor: float = 1.0) -> Comparison:
    """Return a whole comparison."""
    measured = ways(factor)
    order = order_of(measured)
    cells = {
        method: Cell(found="yes", evidence="7 of 7 <frames>", lecture="no", agrees=False, why="because")
        for method in METHODS
    }
    return Comparison(
        schema=SCHEMA,
        settings=Settings(seconds=0.125, repetitions=3, rounds=1),
        ways=measured,
        order=order,
        lecture=Lecture(rows=(Row(name="interposition", experiment="a capture", cells=cells),)),
        problems=tuple(order_problems(order)),
        machine_speed=Spread.of([30e8, 31e8, 36e8]),
        seconds=77.5,
        load_average=0.75,
        command="virtbed compare --html <report>",
        machine=machine(),
    )
