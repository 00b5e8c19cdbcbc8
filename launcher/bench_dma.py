"""`virtbed bench dma`: what a device's request costs in the IOMMU, alone and between two processes.

The rate between two processes is measured in turn with a bare split ring that moves frames of the same size
between two: the copies are as many, so what the ratio leaves is translation, checks and attribution.
Not modelled: refusals; `testbed` counts those, tests bound them.
"""

import os
from collections.abc import Callable
from typing import Final

import msgspec
from rich.table import Table

from launcher import figures
from launcher.peers import bare_ring, cpus_of, dma_pair
from launcher.result import Machine, machine
from launcher.spread import Spread, ratios
from launcher.table import new_table

FIGURES: Final = ("hit_ns", "miss_ns", "serve_ns", "requests_per_second", "bare_per_second", "ratio_to_bare")
"""What `--at-least` and `--at-most` can name."""
_ROUNDS: Final = 400


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    frame_bytes: int = 60
    seconds: float = 1.0
    pairs: int = 3


class DmaResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    schema: int
    settings: Settings
    hit_ns: Spread
    """A translation that is cached, in a burst."""
    miss_ns: Spread
    """One that is walked, nested, 4 levels by 4: up to 24 descriptors."""
    serve_ns: Spread
    """A request served in one process: taken, checked, translated, copied."""
    requests_per_second: Spread
    """From one process to another."""
    bare_per_second: Spread
    """Frames of a bare ring."""
    ratio_to_bare: Spread
    load_average: float
    """Of the minute before the bench began."""
    machine: Machine

    def figures(self) -> dict[str, Spread]:
        """Return every figure by the name that a bound gives it."""
        return {name: getattr(self, name) for name in FIGURES}


def measure_dma(settings: Settings, told: Callable[[str], None]) -> DmaResult:
    """Measure every pair; `told` is given a line about each. Raises MachineError where nothing moves."""
    load_average = os.getloadavg()[0]
    ring = bare_ring.Ring(dma_pair.SLOTS, settings.frame_bytes)
    hits, misses, served, rates, bare = [], [], [], [], []
    for number in range(1, settings.pairs + 1):
        hits.append(dma_pair.hit_ns(settings.frame_bytes, _ROUNDS))
        misses.append(dma_pair.miss_ns(settings.frame_bytes, _ROUNDS))
        served.append(dma_pair.serve_ns(settings.frame_bytes, _ROUNDS))
        rates.append(dma_pair.requests_per_second(settings.frame_bytes, settings.seconds))
        bare.append(bare_ring.measure("sink", ring, settings.seconds, cpus_of("sink")))
        told(
            f"pair {number} of {settings.pairs}: hit {hits[-1]:.1f} ns, miss {misses[-1]:.0f} ns, "
            f"request {served[-1]:.1f} ns, {rates[-1]:,.0f} requests/s, bare ring {bare[-1]:,.0f} frames/s"
        )
    return DmaResult(
        schema=1,
        settings=settings,
        hit_ns=Spread.of(hits),
        miss_ns=Spread.of(misses),
        serve_ns=Spread.of(served),
        requests_per_second=Spread.of(rates),
        bare_per_second=Spread.of(bare),
        ratio_to_bare=ratios(rates, bare),
        load_average=round(load_average, 2),
        machine=machine(),
    )


def dma_table(measured: DmaResult) -> Table:
    """Return the figures as a table."""
    settings = measured.settings
    pairs = figures.plural(settings.pairs, "pair")
    table = new_table(f"DMA requests of {settings.frame_bytes} bytes", [pairs], ["min", "median", "max"])
    rows = {
        "cached translation ns": measured.hit_ns,
        "walked translation ns": measured.miss_ns,
        "request ns": measured.serve_ns,
        "requests/s between processes": measured.requests_per_second,
        "bare ring frames/s": measured.bare_per_second,
        "ratio to bare ring": measured.ratio_to_bare,
    }
    for name, spread in rows.items():
        table.add_row(name, *(f"{value:,.4g}" for value in (spread.min, spread.median, spread.max)))
    return table
