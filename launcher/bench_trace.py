"""`virtbed bench trace`: what tracepoints cost a forwarded frame while tracing is off.

Three workers take turns on one processor: the testbed as it is, the testbed built without tracepoints, and
as a control the testbed as it is once more. A figure of a turn is the nanoseconds that all native steps of a
frame take from the sender's fill to the receiver's check, both ends in one process: whole topologies scatter
by more than there is to be seen. A cost is that of one turn against the turn beside it; what the control
costs says how far a cost may be trusted. Not modelled: tracing that is on; where two builds lay their code.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from rich.console import Group, RenderableType

from launcher import figures
from launcher.peers import untraced
from launcher.result import Machine, machine
from launcher.spread import Spread
from launcher.table import new_table

Ring = Literal["split", "packed"]
RINGS: Final[tuple[Ring, ...]] = ("split", "packed")
FIGURES: Final = tuple(
    f"{figure}_{ring}_{unit}"
    for ring in RINGS
    for figure, unit in (("frame", "ns"), ("untraced", "ns"), ("cost", "percent"), ("control", "percent"))
)
"""What `--at-least` and `--at-most` can name."""
_WORKERS: Final = ("frame", "untraced", "control")


class TraceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    frame_bytes: int = 60
    seconds: float = 0.05
    """Of each turn."""
    pairs: int = 31
    """Turns of each worker, for each ring."""


class TraceResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    schema: int
    settings: TraceSettings
    measured: dict[str, Spread]
    """By the names in `FIGURES`."""
    load_average: float
    """Of the minute before the bench began."""
    machine: Machine

    def figures(self) -> dict[str, Spread]:
        """Return every figure by the name that a bound gives it."""
        return self.measured


def measure_trace(
    settings: TraceSettings, told: Callable[[str], None], without: Path | None = None
) -> TraceResult:
    """Measure every turn; `without`: a tree that was built without tracepoints before.

    Raises MachineError where the testbed cannot be built without tracepoints.
    """
    load_average = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        if without is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="virtbed-untraced-"))
            without = Path(directory) / "tree"
            told("building the native code without tracepoints")
            untraced.build(without)
        cpu = max(os.sched_getaffinity(0))
        trees = {"frame": untraced.ROOT, "untraced": without, "control": untraced.ROOT}
        workers = {name: stack.enter_context(untraced.Worker(tree, cpu)) for name, tree in trees.items()}
        measured: dict[str, Spread] = {}
        for ring in RINGS:
            measured |= spreads(ring, _turns(ring, workers, settings))
            told(f"{ring}: tracing off costs {measured[f'cost_{ring}_percent'].median:+.2f} %")
    return TraceResult(
        schema=1,
        settings=settings,
        measured=measured,
        load_average=round(load_average, 2),
        machine=machine(),
    )


def _turns(
    ring: Ring, workers: Mapping[str, untraced.Worker], settings: TraceSettings
) -> dict[str, list[float]]:
    """Return what each worker measured; each is first as often as the others."""
    found: dict[str, list[float]] = {name: [] for name in _WORKERS}
    for turn in range(settings.pairs):
        first = turn % len(_WORKERS)
        for name in _WORKERS[first:] + _WORKERS[:first]:
            found[name].append(workers[name].frame_ns(ring, settings.frame_bytes, settings.seconds))
    return found


def spreads(ring: Ring, turns: Mapping[str, Sequence[float]]) -> dict[str, Spread]:
    """Return the figures of one ring by their names. Pure."""
    return {
        f"frame_{ring}_ns": Spread.of(turns["frame"]),
        f"untraced_{ring}_ns": Spread.of(turns["untraced"]),
        f"cost_{ring}_percent": _more(turns["frame"], turns["untraced"]),
        f"control_{ring}_percent": _more(turns["frame"], turns["control"]),
    }


def _more(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    return Spread.of(100 * (our / their - 1) for our, their in zip(ours, theirs, strict=True))


def trace_table(measured: TraceResult) -> RenderableType:
    """Return the figures as a table."""
    settings = measured.settings
    turns = figures.plural(settings.pairs, "turn")
    title = f"Tracepoints while tracing is off: forwarded frames of {settings.frame_bytes} bytes"
    table = new_table(title, [turns], ["min", "median", "max"])
    shown = {
        "frame": "{ring}: a frame, ns",
        "untraced": "{ring}: compiled without tracepoints, ns",
        "cost": "{ring}: cost of tracepoints, %",
        "control": "{ring}: the same against itself, %",
    }
    for name, spread in measured.measured.items():
        what, ring, _unit = name.split("_")
        values = (f"{value:,.2f}" for value in (spread.min, spread.median, spread.max))
        table.add_row(shown[what].format(ring=ring), *values)
    return Group(table, f"[dim]load average before: {measured.load_average:g}[/]")
