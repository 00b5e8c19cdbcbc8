"""The steps of a way as a sequence diagram: one self-contained SVG, light or dark as its reader prefers.

A lifeline for each process, a row for each step, an arrow from a cause in one process to its effect in
another, the sentence beside them. Pure.
"""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from launcher.explain_steps import Step

_ROW: Final = 22
_TOP: Final = 84
_LEFT: Final = 124
_LANE: Final = 92
_TEXT_GAP: Final = 34
_CHARACTER: Final = 6.7
_HUES: Final = {
    "driver": 140, "doorbell": 45, "loop": 0, "exit": 5, "device": 215, "address": 275, "dma": 185,
    "wire": 320, "interrupt": 25,
}  # fmt: skip
_STYLE: Final = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --dim: #6b7280; --line: #d0d5dd; --paper: #ffffff; --l: 40%; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --dim: #98a2b3; --line: #3b4350; --paper: #14171c; --l: 68%; }
}
svg { background: var(--paper); font: 12px ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
text { fill: var(--ink); }
.title { font-size: 15px; font-weight: 600; }
.dim { fill: var(--dim); }
.life { stroke: var(--line); stroke-width: 1; }
.rule { stroke: var(--line); stroke-width: 1; stroke-dasharray: 1 5; }
.arrow { stroke: var(--dim); stroke-width: 1.2; fill: none; }
.head { fill: var(--dim); }
.lane { font-weight: 600; text-anchor: middle; }
.right { text-anchor: end; }
"""


def sequence_svg(title: str, steps: Sequence[Step]) -> str:
    """Return the diagram of some steps."""
    lanes = {name: index for index, name in enumerate(dict.fromkeys(step.process for step in steps))}
    text_x = _LEFT + len(lanes) * _LANE + _TEXT_GAP
    longest = max((len(step.text) for step in steps), default=0)
    width, height = round(text_x + longest * _CHARACTER * 1.09 + 24), _TOP + len(steps) * _ROW + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}{_colours()}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>',
        f'<text class="title" x="16" y="28">{escape(title)}</text>',
        f'<text class="dim right" x="{_LEFT - 40}" y="{_TOP - 22}">us</text>',
        *_lifelines(lanes, height),
        *(_row(step, lanes, text_x) for step in steps),
        *_arrows(steps, lanes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _colours() -> str:
    return "\n".join(f".{group} {{ fill: hsl({hue} 62% var(--l)); }}" for group, hue in _HUES.items())


def _x(lanes: dict[str, int], process: str) -> int:
    return _LEFT + lanes[process] * _LANE


def _y(number: int) -> int:
    return _TOP + number * _ROW - _ROW // 2


def _lifelines(lanes: dict[str, int], height: int) -> Iterator[str]:
    for name in lanes:
        x = _x(lanes, name)
        yield f'<text class="lane" x="{x}" y="{_TOP - 22}">{escape(name)}</text>'
        yield f'<line class="life" x1="{x}" y1="{_TOP - 10}" x2="{x}" y2="{height - 16}"/>'


def _row(step: Step, lanes: dict[str, int], text_x: int) -> str:
    x, y = _x(lanes, step.process), _y(step.number)
    return (
        f'<line class="rule" x1="{x}" y1="{y}" x2="{text_x - 8}" y2="{y}"/>'
        f'<text class="dim right" x="{_LEFT - 90}" y="{y + 4}">{step.number}</text>'
        f'<text class="dim right" x="{_LEFT - 40}" y="{y + 4}">{step.us:,.0f}</text>'
        f'<circle class="{step.group}" cx="{x}" cy="{y}" r="5"><title>{escape(step.event)}</title></circle>'
        f'<text x="{text_x}" y="{y + 4}">{escape(step.text)}</text>'
    )


def _arrows(steps: Sequence[Step], lanes: dict[str, int]) -> Iterator[str]:
    for step in steps:
        if not step.cause:
            continue
        cause = steps[step.cause - 1]
        if cause.process == step.process:
            continue
        x1, x2 = _x(lanes, cause.process), _x(lanes, step.process)
        towards = 6 if x2 > x1 else -6
        yield (
            f'<path class="arrow" marker-end="url(#tip)" '
            f'd="M{x1 + towards} {_y(cause.number)}L{x2 - towards} {_y(step.number)}"/>'
        )
