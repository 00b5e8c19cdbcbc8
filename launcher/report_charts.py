"""Charts of the report: inline SVG whose widths are shares of what the page gives, so that their text is as
large on a phone as on a desk.

Every number that is shown is in a `data-value` attribute beside its text, as the comparison has it. Pure. Not
modelled: interaction.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Final

from launcher.spread import Spread

_ROW: Final = 42
_BAR_TOP: Final = 20
_BAR: Final = 14
_LEFT: Final = 11.0
"""Where a line chart's area begins, in per cent of its width."""
_WIDTH: Final = 86.0
_TOP: Final = 14
_HEIGHT: Final = 210
_END_PX: Final = 5


@dataclass(frozen=True)
class Bar:
    """One bar: its label, the class that colours it, its value and how that reads; a whisker from `low` to
    `high` where these differ.
    """

    label: str
    css: str
    value: float
    shown: str
    low: float = 0.0
    high: float = 0.0


def bars(items: Sequence[Bar], title: str) -> str:
    """Return horizontal bars, a label and a value above each, all to one scale."""
    top = max((max(item.value, item.high) for item in items), default=0.0) or 1.0
    rows = "".join(_bar(item, number * _ROW, top) for number, item in enumerate(items))
    return _svg(rows, len(items) * _ROW, title)


def _bar(item: Bar, y: int, top: float) -> str:
    label = f'<text x="0" y="{y + 14}">{escape(item.label)}</text>'
    value = (
        f'<text class="value" x="100%" y="{y + 14}" text-anchor="end" data-value="{item.value!r}">'
        f"{escape(item.shown)}</text>"
    )
    bar_y = y + _BAR_TOP
    track = f'<rect class="track" x="0" y="{bar_y}" width="100%" height="{_BAR}" rx="3"/>'
    share = max(item.value / top * 100, 0.4)
    rect = f'<rect class="{item.css}" x="0" y="{bar_y}" width="{share:.2f}%" height="{_BAR}" rx="3"/>'
    return label + value + track + rect + _whisker(item, bar_y + _BAR // 2, top)


def _whisker(item: Bar, y: int, top: float) -> str:
    if item.high <= item.low:
        return ""
    low, high = (f"{value / top * 100:.2f}%" for value in (item.low, item.high))
    return f'<line class="whisker" x1="{low}" y1="{y}" x2="{high}" y2="{y}"/>'


@dataclass(frozen=True)
class Stack:
    """One bar of parts: `parts` are (class, value); `shown` reads as their total `value`."""

    label: str
    parts: Sequence[tuple[str, float]]
    value: float
    shown: str


def stacks(items: Sequence[Stack], title: str) -> str:
    """Return bars of the same length, each divided as its parts are."""
    rows = "".join(_stack(item, number * _ROW) for number, item in enumerate(items))
    return _svg(rows, len(items) * _ROW, title)


def _stack(item: Stack, y: int) -> str:
    head = _bar(Bar(item.label, "track", item.value, item.shown), y, item.value or 1.0)
    total, at = sum(value for _, value in item.parts) or 1.0, 0.0
    rects = []
    for css, value in item.parts:
        share = value / total * 100
        rects.append(
            f'<rect class="{css}" x="{at:.2f}%" y="{y + _BAR_TOP}" width="{share:.2f}%" height="{_BAR}" '
            f'data-value="{value!r}"/>'
        )
        at += share
    return head + "".join(rects)


def lines(series: Mapping[str, tuple[str, Spread]], title: str, unit: str) -> str:
    """Return a line for each series, by repetition, on a logarithmic scale; `series` are (class, values)."""
    values = [value for _, spread in series.values() for value in spread.values if value > 0]
    if not values:
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    scale = _Scale(low, max(high, low + 1), max(len(spread.values) for _, spread in series.values()))
    drawn = scale.grid(unit) + "".join(scale.line(css, spread) for css, spread in series.values())
    return _svg(drawn, _TOP + _HEIGHT + 26, title)


@dataclass(frozen=True)
class _Scale:
    """Where values are drawn: decades from `low` to `high` upwards, `count` repetitions to the right."""

    low: int
    high: int
    count: int

    def x(self, number: int) -> float:
        return _LEFT + _WIDTH * (number / (self.count - 1) if self.count > 1 else 0.5)

    def y(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return _TOP + _HEIGHT * (1 - share)

    def grid(self, unit: str) -> str:
        parts = []
        for decade in range(self.low, self.high + 1):
            y = self.y(10.0**decade)
            parts.append(
                f'<line class="axis" x1="{_LEFT}%" y1="{y:.1f}" x2="{_LEFT + _WIDTH}%" y2="{y:.1f}"/>'
            )
            label = f"{_power(decade)}{unit}"
            parts.append(
                f'<text class="soft" x="{_LEFT - 1.5}%" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
            )
        for number in range(self.count):
            parts.append(
                f'<text class="soft" x="{self.x(number):.2f}%" y="{_TOP + _HEIGHT + 20}" '
                f'text-anchor="middle">{number + 1}</text>'
            )
        return "".join(parts)

    def line(self, css: str, spread: Spread) -> str:
        points = [(self.x(i), self.y(v), v) for i, v in enumerate(spread.values) if v > 0]
        segments = (
            f'<line class="series {css}" x1="{x:.2f}%" y1="{y:.1f}" x2="{to_x:.2f}%" y2="{to_y:.1f}"/>'
            for (x, y, _), (to_x, to_y, _) in pairwise(points)
        )
        dots = (
            f'<circle class="{css}" cx="{x:.2f}%" cy="{y:.1f}" r="3.5" data-value="{value!r}"/>'
            for x, y, value in points
        )
        return "".join((*segments, *dots))


def _power(decade: int) -> str:
    names = {3: "1k", 4: "10k", 5: "100k", 6: "1M", 7: "10M", 8: "100M"}
    return names.get(decade, f"{10.0**decade:g}")


def _svg(inside: str, height: int, title: str) -> str:
    title = escape(title)
    return f'<svg height="{height}" role="img" aria-label="{title}"><title>{title}</title>{inside}</svg>'
