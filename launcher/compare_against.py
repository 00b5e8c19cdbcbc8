"""Two comparisons beside each other: which figures are better or worse by more than so much.

Rates, round trips (medians) and CPU time of a frame are set against each other, medians by medians. What
became faster or slower alike in all methods is taken off: that is the machine, for the methods have little
else in common. As it could also be a change to what they do have in common, it must be near what a fixed loop
says of the machine (launcher/machine_speed.py), whose figure also serves where there are fewer methods. Not
modelled: figures of a way that only one comparison has.
"""

import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Group, RenderableType

from launcher import figures
from launcher.compare_result import FIGURES, SCHEMA, Comparison, Measured
from launcher.compare_ways import METHODS, PLACES, Method, Place
from launcher.table import new_table
from testbed.errors import ConfigError

BETTER_IS_MORE: Final = {"frames_per_second": True, "p50_us": False, "cpu_ns": False}
"""The figures that are set against each other."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of both comparisons."""

    way: str
    method: Method
    place: Place
    kind: str
    frame_bytes: int
    figure: str
    before: float
    after: float
    machine: float = 1.0
    """How many times as fast the machine itself is now."""

    @property
    def ratio(self) -> float:
        """How many times as much it is now, had the machine's own speed stayed."""
        told = self.after / self.before
        return told / self.machine if BETTER_IS_MORE[self.figure] else told * self.machine

    @property
    def speed(self) -> float:
        """How many times as fast it is now, the machine's own speed with it."""
        told = self.after / self.before
        return told if BETTER_IS_MORE[self.figure] else 1 / told

    @property
    def is_worse(self) -> bool:
        """Whether it has changed for the worse, however little."""
        return (self.ratio < 1) == BETTER_IS_MORE[self.figure]

    def exceeds(self, percent: float) -> bool:
        """Say whether the greater one is more than so much above the smaller one."""
        return max(self.ratio, 1 / self.ratio) > 1 + percent / 100

    @property
    def text(self) -> str:
        """What was measured, in words."""
        return f"{self.way}, {PLACES[self.place]}, {self.kind} {self.frame_bytes}"


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """Both comparisons' figures."""

    percent: float
    """What they may differ by."""
    all: tuple[Difference, ...]
    machine: float
    """How many times as fast all methods are, as far as they have it in common."""
    loop: float
    """How many times as fast a fixed loop is."""

    @property
    def beyond(self) -> tuple[Difference, ...]:
        """Those that differ by more, the worst first."""
        found = [difference for difference in self.all if difference.exceeds(self.percent)]
        return tuple(sorted(found, key=lambda d: -max(d.ratio, 1 / d.ratio)))

    @property
    def problems(self) -> tuple[str, ...]:
        """What is worse by more than it may."""
        each = (
            f"{d.text}: {FIGURES[d.figure]}: was {d.before:,.4g}, is {d.after:,.4g}: {d.ratio:.3g} times that"
            for d in self.beyond
            if d.is_worse
        )
        return (*self._together, *each)

    @property
    def _together(self) -> Iterator[str]:
        """What all have in common may be slower than the machine explains by no more either."""
        if self.loop / self.machine > 1 + self.percent / 100:
            yield (
                f"all methods together are {self.machine:.3g} times as fast, a fixed loop on this machine "
                f"{self.loop:.3g} times: what they have in common is slower"
            )


def read_comparison(file: Path) -> Comparison:
    """Return what `virtbed compare --json` wrote. Raises ConfigError for anything else."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Comparison)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{file}: must be what virtbed compare --json wrote: {error}") from None
    if found.schema != SCHEMA:
        raise ConfigError(
            f"{file}: must be a comparison of schema {SCHEMA}, not {found.schema}: measure again"
        )
    return found


def against(before: Comparison, after: Comparison, percent: float) -> Against:
    """Return every figure that both have. Pure.

    Raises ConfigError where they have none in common.
    """
    found = tuple(_differences(before, after))
    if not found:
        raise ConfigError("two comparisons must have a way in common")
    loop = after.machine_speed.median / before.machine_speed.median
    machine = _in_common(found) or loop
    at_its_speed = tuple(msgspec.structs.replace(difference, machine=machine) for difference in found)
    return Against(percent=percent, all=at_its_speed, machine=machine, loop=loop)


def _in_common(found: Iterable[Difference]) -> float | None:
    """Return how many times as fast the methods are, the middle one of them: a change to one of them is not
    it. None where not all methods are there.
    """
    by_method: dict[Method, list[float]] = {method: [] for method in METHODS}
    for difference in found:
        by_method[difference.method].append(difference.speed)
    if not all(by_method.values()):
        return None
    return statistics.median(statistics.median(speeds) for speeds in by_method.values())


def _differences(before: Comparison, after: Comparison) -> Iterator[Difference]:
    for name, way in after.ways.items():
        if name not in before.ways:
            continue
        for one in way.measured:
            other = before.ways[name].at(one.place, one.kind, one.frame_bytes)
            yield from _of_measurement(name, way.method, other, one)


def _of_measurement(way: str, method: Method, before: Measured, after: Measured) -> Iterator[Difference]:
    for figure in BETTER_IS_MORE:
        if figure in before.figures and figure in after.figures:
            yield Difference(
                way=way,
                method=method,
                place=after.place,
                kind=after.kind,
                frame_bytes=after.frame_bytes,
                figure=figure,
                before=before.figures[figure].median,
                after=after.figures[figure].median,
            )


def against_view(found: Against) -> RenderableType:
    """Return what differs by more than it may, and how much there is in all."""
    table = new_table(
        f"Medians that differ by more than {found.percent:g} %",
        ["measurement", "figure"],
        ["before", "now", "times"],
    )
    for one in found.beyond:
        colour = "red" if one.is_worse else "green"
        times = f"[{colour}]{one.ratio:.3g}[/]"
        table.add_row(one.text, FIGURES[one.figure], f"{one.before:,.4g}", f"{one.after:,.4g}", times)
    within = len(found.all) - len(found.beyond)
    said = (
        f"{within} of {figures.plural(len(found.all), 'median')} within {found.percent:g} %; "
        f"all methods together are {found.machine:.3g} times as fast, which is taken off; "
        f"a fixed loop is {found.loop:.3g} times as fast"
    )
    return Group(table, f"[dim]{said}[/]") if found.beyond else Group(f"[dim]{said}[/]")
