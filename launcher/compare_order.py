"""The three methods in order, as guests' frames to the wire have it: frames a second, CPU time of a frame.

Ratios are taken round by round. Pure. Not modelled: an order by anything else.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from launcher.compare_result import MethodOrder, WayResult
from launcher.compare_ways import METHODS, STOCK
from launcher.spread import Spread, ratios

FRAME_BYTES: Final = 60


def order_of(ways: Mapping[str, WayResult]) -> tuple[MethodOrder, ...]:
    """Return the methods that were measured, the one expected to be slowest first."""
    known = [(method, STOCK[method]) for method in METHODS if STOCK[method] in ways]
    found: list[MethodOrder] = []
    before: WayResult | None = None
    for method, name in known:
        way = ways[name]
        rate, cpu_ns = _to_wire(way, "frames_per_second"), _to_wire(way, "cpu_ns")
        found.append(
            MethodOrder(
                method=method,
                way=name,
                frames_per_second=rate.median,
                cpu_ns=cpu_ns.median,
                speed_up=_ratio(rate, _to_wire(before, "frames_per_second")) if before else None,
                saving=_ratio(_to_wire(before, "cpu_ns"), cpu_ns) if before else None,
            )
        )
        before = way
    return tuple(found)


def order_problems(order: Sequence[MethodOrder]) -> list[str]:
    """Return where a method is not ahead of the one before it."""
    problems = []
    for one, other in zip(order[1:], order, strict=False):
        for what, ratio in (("frames a second", one.speed_up), ("CPU time of a frame", one.saving)):
            if ratio is not None and ratio <= 1:
                problems.append(
                    f"{one.method} ({one.way}) must be ahead of {other.method} ({other.way}) in {what}, "
                    f"and is {ratio:g} times as good"
                )
    return problems


def _to_wire(way: WayResult, figure: str) -> Spread:
    return way.at("wire", "pktgen", FRAME_BYTES).figures[figure]


def _ratio(one: Spread, other: Spread) -> float:
    return ratios(one.values, other.values).median
