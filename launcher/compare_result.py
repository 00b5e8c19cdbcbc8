"""What `virtbed compare` finds, as plain data: the table and the report are made of it and of nothing else.

Figures of a measurement are spreads over the rounds, by the names in `FIGURES`. Not modelled: figures
of another machine beside these.
"""

from typing import Final

import msgspec

from launcher.compare_ways import REFERENCE, WAYS, Method, Place
from launcher.result import Machine
from launcher.spread import Spread
from testbed.errors import ConfigError

SCHEMA: Final = 4


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    seconds: float = 0.012
    """Of each try: many short ones scatter less together than few long ones."""
    repetitions: int = 1
    """How often all ways are brought up."""
    rounds: int = 6
    """How many figures each measurement has then, of which the median is told."""
    tries: int = 10
    """Of each measurement in each round, one pass apart; the better half of them counts."""
    ways: tuple[str, ...] = tuple(WAYS)

    @property
    def passes(self) -> int:
        """How often everything is measured each time."""
        return self.rounds * self.tries

    def check(self) -> None:
        """Raise ConfigError for a way that there is none of, or without the one the others are divided by."""
        unknown = [name for name in self.ways if name not in WAYS]
        if unknown or REFERENCE not in self.ways:
            raise ConfigError(
                f"ways must be of {', '.join(WAYS)} and {REFERENCE} among them, not {', '.join(self.ways)}"
            )


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work at one place, by one way."""

    place: Place
    kind: str
    """pktgen or rr."""
    frame_bytes: int
    figures: dict[str, Spread]
    """By the names in `FIGURES`; those that a kind does not have are left out."""
    cpu_ns: dict[str, float]
    """Of a frame, by process: medians."""
    exits: dict[str, float]
    """Of a frame, by reason, in all tries together."""


class WayResult(msgspec.Struct, frozen=True, kw_only=True):
    """One way."""

    text: str
    method: Method
    interrupts: str
    measured: tuple[Measured, ...]

    def at(self, place: Place, kind: str, frame_bytes: int) -> Measured:
        """Return one measurement."""
        return next(
            m for m in self.measured if (m.place, m.kind, m.frame_bytes) == (place, kind, frame_bytes)
        )


class MethodOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One method, as its way to the wire has it."""

    method: Method
    way: str
    frames_per_second: float
    cpu_ns: float
    """Of a frame, all processes."""
    speed_up: float | None
    """Median of its frames a second by those of the method before; None for the first."""
    saving: float | None
    """Median of the other's CPU time a frame by its own."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What an experiment says of one method."""

    found: str
    """In a word or two."""
    evidence: str
    """What was run or counted, with numbers."""
    lecture: str
    """What the lecture's table says."""
    agrees: bool
    why: str = ""
    """Where they disagree."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One property of the three methods."""

    name: str
    experiment: str
    """How it is found out."""
    cells: dict[Method, Cell]


class Lecture(msgspec.Struct, frozen=True, kw_only=True):
    """The table that compares the three methods, each cell an experiment."""

    rows: tuple[Row, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    schema: int
    settings: Settings
    ways: dict[str, WayResult]
    order: tuple[MethodOrder, ...]
    lecture: Lecture | None
    problems: tuple[str, ...]
    """What must hold and did not."""
    machine_speed: Spread
    """Bytes a second of a fixed native loop, pass by pass: what the machine itself could do then."""
    seconds: float
    load_average: float
    """Of the minute before it began: what else kept the machine busy."""
    command: str
    machine: Machine


FIGURES: Final[dict[str, str]] = {
    "frames_per_second": "frames/s",
    "bits_per_second": "bit/s",
    "ratio": f"frames/s by those of {REFERENCE}",
    "p50_us": "round trip, median, us",
    "p99_us": "round trip, 99 %, us",
    "cpu_ns": "CPU time a frame, ns",
    "exits": "exits a frame",
    "doorbells": "doorbells asked for a frame",
    "messages": "doorbells sent a frame",
    "interrupts": "interrupts a frame",
    "copies": "times a frame's bytes are moved, descriptors with them",
    "translations": "translations a frame",
}
"""Every figure: its name and what it is."""
