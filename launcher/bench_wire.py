"""`virtbed bench wire`: frames from a guest to a wire, by emulation, paravirtually, and through a virtual
function.

Each pair runs every way, one after another, so that what disturbs the machine for a while disturbs them all.
A frame counts when the NIC at the wire's far end has taken it off; the rate is that NIC's, from the first
frame to the last. Ratios are taken pair by pair. Not modelled: peers.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from rich.console import Group, RenderableType

from launcher import figures
from launcher.forkclient import ROLES
from launcher.result import Machine, machine
from launcher.spread import Spread, ratios
from launcher.table import new_table
from launcher.wire_ways import (
    WAYS,
    WAYS_DEFAULT,
    Cost,
    Far,
    Traffic,
    WayRun,
    find_way,
    idle_run,
    run_way,
)

RATES: Final = tuple(f"{way}.frames_per_second" for way in WAYS)
RATIOS: Final = tuple(f"{one}_to_{other}" for one in WAYS for other in WAYS if one != other)
FIGURES: Final = (*RATES, *RATIOS)
"""What `--at-least` and `--at-most` can name, of the ways that are measured."""
SHOWN_RATIOS: Final = ("virtio_to_e1000", "vf_to_virtio", "vf-ats_to_virtio", "vf-ats_to_e1000")
"""Those in the table, where both ways are measured."""


class WireSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    ways: tuple[str, ...] = WAYS_DEFAULT
    far: Far = "wire"
    frame_bytes: int = 60
    seconds: float = 1.0
    """Of each measurement."""
    pairs: int = 3

    @property
    def traffic(self) -> Traffic:
        """What each run sends."""
        return Traffic(far=self.far, frame_bytes=self.frame_bytes, seconds=self.seconds)


class WayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one way."""

    frames_per_second: Spread
    bits_per_second: Spread
    cost: Cost
    """Of the last run."""


class WireResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    schema: int
    settings: WireSettings
    ways: dict[str, WayResult]
    load_average: float
    """Of the minute before the bench began: what else kept the machine busy."""
    machine: Machine

    def figures(self) -> dict[str, Spread]:
        """Return every figure by the name that a bound gives it."""
        rates = {name: way.frames_per_second for name, way in self.ways.items()}
        found = {f"{name}.frames_per_second": rate for name, rate in rates.items()}
        for one, its in rates.items():
            for other, others in rates.items():
                if one != other:
                    found[f"{one}_to_{other}"] = ratios(its.values, others.values)
        return found


def measure_wire(
    settings: WireSettings, told: Callable[[str], None], roles: Mapping[str, str] = ROLES
) -> WireResult:
    """Measure every pair; `told` is given a line about each.

    Raises ConfigError for settings that cannot be, BenchFailed where a run does not end well.
    """
    traffic, ways = settings.traffic, [find_way(name) for name in settings.ways]
    load_average = os.getloadavg()[0]
    idle = {way.name: idle_run(way, traffic, roles) for way in ways}
    runs: dict[str, list[WayRun]] = {way.name: [] for way in ways}
    for number in range(1, settings.pairs + 1):
        for way in ways:
            runs[way.name].append(run_way(way, traffic, idle[way.name], roles))
        rates = ", ".join(f"{name} {figures.mega(each[-1].frames_per_second)}" for name, each in runs.items())
        told(f"pair {number} of {settings.pairs}: {rates} Mframe/s")
    return WireResult(
        schema=1,
        settings=settings,
        ways={name: _result(each) for name, each in runs.items()},
        load_average=round(load_average, 2),
        machine=machine(),
    )


def _result(runs: Sequence[WayRun]) -> WayResult:
    return WayResult(
        frames_per_second=Spread.of(run.frames_per_second for run in runs),
        bits_per_second=Spread.of(run.bits_per_second for run in runs),
        cost=runs[-1].cost,
    )


def wire_table(measured: WireResult) -> RenderableType:
    """Return the figures as a table, a column for each way."""
    settings, ways = measured.settings, measured.ways
    end = "the wire" if settings.far == "wire" else "a guest across the wire"
    table = new_table(f"A guest to {end}, {settings.frame_bytes} bytes", [""], list(ways))
    rates = [way.frames_per_second for way in ways.values()]
    table.add_row("Mframe/s, median", *(figures.mega(rate.median) for rate in rates))
    table.add_row(
        "Mframe/s, min to max", *(f"{figures.mega(rate.min)} to {figures.mega(rate.max)}" for rate in rates)
    )
    for name, value in _COSTS.items():
        table.add_row(f"{name} a frame", *(_shown(value(way.cost)) for way in ways.values()))
    for process in dict.fromkeys(name for way in ways.values() for name in way.cost.cpu_ns):
        cells = (_shown(way.cost.cpu_ns.get(process, 0.0)) for way in ways.values())
        table.add_row(f"CPU ns a frame, {process}", *cells)
    found = measured.figures()
    lines = [f"{name.replace('_', ' ')}: {found[name].median:.3g}" for name in SHOWN_RATIOS if name in found]
    note = f"[dim]medians of ratios: {', '.join(lines) or 'none'}; load average before: "
    return Group(table, f"{note}{measured.load_average:g}[/]")


_COSTS: Final[dict[str, Callable[[Cost], float]]] = {
    "exits": lambda cost: cost.exits,
    "doorbells asked": lambda cost: cost.doorbells,
    "messages sent": lambda cost: cost.messages,
    "interrupts": lambda cost: cost.interrupts,
    "bytes copied by vmms": lambda cost: cost.vmm_bytes,
    "DMA requests": lambda cost: cost.dma_requests,
    "bytes of DMA": lambda cost: cost.dma_bytes,
    "translations": lambda cost: cost.translations,
}


def _shown(value: float) -> str:
    return f"{value:,.3g}" if value else figures.NOTHING
