"""What the tries of one measurement come to: rounds, each the mean of its better tries.

What else a machine does only ever costs, and a virtual machine's processors are moved about by their host,
for 10 ms to seconds: the same work takes up to two and a half times as long where they share no cache. A
median of tries is one of two figures then, by chance; the mean of the better half is not, and it leaves out
what stood still. The tries of a round are several passes apart, so that each round has seen the whole time.
Pure. Not modelled: a machine that is disturbed more than half of the time.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MORE_IS_BETTER: Final = frozenset({"frames_per_second", "bits_per_second"})
LESS_IS_BETTER: Final = frozenset({"p50_us", "p99_us", "cpu_ns"})
"""What is counted (exits, doorbells, copies) is no better or worse for what else the machine does."""


@dataclass(frozen=True)
class Sample:
    """One try of a measurement, or the round that several come to."""

    figures: Mapping[str, float]
    cpu_ns: Mapping[str, float]
    """Of a frame, by process; together `figures["cpu_ns"]`."""
    exits: Mapping[str, int]
    frames: int


Tries = tuple[Sample, ...]
"""The same measurement several times over; at least once."""


def in_rounds(samples: Sequence[Sample], rounds: int) -> list[Tries]:
    """Return by round what was measured pass by pass: every pass is a try of the next round."""
    return [tuple(samples[number::rounds]) for number in range(rounds)]


def better_half(tries: Iterable[Sample], figure: str) -> list[Sample]:
    """Return the half of the tries, or more by one where they are odd, in which a figure is better."""
    ranked = sorted(tries, key=_of(figure), reverse=figure in MORE_IS_BETTER)
    return ranked[: (len(ranked) + 1) // 2]


def round_of(tries: Tries) -> Sample:
    """Return what tries come to: means of each figure's own better half, or of all where it is counted."""
    calm = better_half(tries, "cpu_ns")
    processes = dict.fromkeys(name for one in calm for name in one.cpu_ns)
    return Sample(
        figures={name: _mean(tries, name) for name in tries[0].figures},
        cpu_ns={name: statistics.fmean(one.cpu_ns.get(name, 0.0) for one in calm) for name in processes},
        exits=_exits(tries),
        frames=sum(one.frames for one in tries),
    )


def _of(figure: str) -> Callable[[Sample], float]:
    return lambda sample: sample.figures[figure]


def _mean(tries: Tries, figure: str) -> float:
    timed = figure in MORE_IS_BETTER or figure in LESS_IS_BETTER
    return statistics.fmean(map(_of(figure), better_half(tries, figure) if timed else tries))


def _exits(tries: Tries) -> dict[str, int]:
    """Return the exits of all tries: one that must not be counts wherever it is."""
    reasons = dict.fromkeys(reason for one in tries for reason in one.exits)
    return {reason: sum(one.exits.get(reason, 0) for one in tries) for reason in reasons}
