"""The comparison as one HTML file: charts, the lecture's table, the machine, and the commands to repeat it.

Pure: the page is made of the comparison and of nothing else. Each number stands in a `<data value>` (or a
`data-value` in a chart) that has it as the comparison has it, beside how it reads. No script, nothing that is
loaded from elsewhere. Not modelled: several comparisons on one page.
"""

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import Final

from launcher import figures
from launcher.compare_result import Cell, Comparison, Measured, MethodOrder, Row, WayResult
from launcher.compare_ways import FRAMES, METHODS, PLACES, Place
from launcher.report_charts import Bar, Stack, bars, lines, stacks
from launcher.report_style import STYLE

_FINE: Final = 0.01
"""What is less has two digits that mean something, not three."""
_HARDLY: Final = 1e-4
"""What is less is not worth its digits: once in ten thousand frames."""
_COST_FIGURES: Final = {
    "exits": "exits",
    "doorbells": "doorbells asked",
    "messages": "doorbells sent",
    "interrupts": "interrupts",
    "copies": "copies",
    "translations": "translations",
}
_METHOD_TEXT: Final = {
    "emulated": "the vmm pretends to be a NIC; its registers trap",
    "paravirtual": "guest and vmm share rings in memory",
    "passthrough": "the guest drives a function of the NIC itself",
}


def render(compared: Comparison) -> str:
    """Return the page."""
    sections = (
        _head(compared),
        _order(compared.order),
        *(_rates(compared, place) for place in PLACES),
        _latencies(compared),
        _processor(compared),
        _costs(compared),
        _repetitions(compared),
        _lecture(compared),
        _repeat(compared),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>virtbed compare</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def number(value: float, shown: str) -> str:
    """Return a number as the comparison has it and as it reads."""
    return f'<data value="{value!r}">{escape(shown)}</data>'


def _small(value: float) -> str:
    """Return a number for each frame: never with an exponent, which nobody compares at a glance."""
    if not value:
        return number(value, figures.NOTHING)
    if value < _HARDLY:
        return number(value, f"<{_HARDLY:.4f}")
    exponent = math.floor(math.log10(value))
    digits = max(2, (2 if value >= _FINE else 1) - exponent)
    return number(value, f"{value:,.{min(digits, 7)}f}".rstrip("0").rstrip("."))


def _rate(value: float) -> str:
    """Return a rate with the prefix that suits it: frames a second are few by emulation and millions else."""
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:#.3g} {prefix}".replace(". ", " ")
    return f"{value:,.3g} "


def _time_ns(value: float) -> str:
    for scale, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g} ns"


def _head(compared: Comparison) -> str:
    settings, machine = compared.settings, compared.machine
    problems = "".join(f'<p class="problem">Does not hold: {escape(text)}</p>' for text in compared.problems)
    good = (
        ""
        if problems
        else "<p>The order holds, and no guest with a function left for its vmm in traffic.</p>"
    )
    return (
        "<header><h1>Emulation, paravirtualization, passthrough</h1>"
        '<p class="lead">The same work over every way of a guest\'s frames, measured by virtbed on one '
        f"machine: {escape(machine.cpu)}, {_count(machine.cpus)} processors, {escape(machine.time)}. "
        f"All ways were up at once ({_plural(settings.repetitions, 'time')}) and measured in turn, "
        f"{_plural(settings.rounds, 'round')} of {_count(settings.tries)} tries, each of "
        f"{number(settings.seconds, f'{settings.seconds:g}')} s; the better half of a round counts: "
        "figures are medians, thin lines go from the least to the most.</p>"
        f"{problems}{good}</header>"
    )


def _count(value: int) -> str:
    return number(value, str(value))


def _plural(value: int, what: str) -> str:
    return number(value, figures.plural(value, what))


def _order(order: Iterable[MethodOrder]) -> str:
    cards = "".join(_method(one) for one in order)
    return (
        "<section><h2>The order</h2><p>Frames of 60 bytes from a guest to the wire, by one way of "
        "each method.</p>"
        f'<div class="grid three">{cards}</div></section>'
    )


def _method(one: MethodOrder) -> str:
    rate = number(one.frames_per_second, f"{_rate(one.frames_per_second)}frames/s")
    used = number(one.cpu_ns, _time_ns(one.cpu_ns))
    ratios = ""
    if one.speed_up is not None and one.saving is not None:
        ratios = (
            f"<p>{number(one.speed_up, f'{one.speed_up:,.3g}')} times the frames of the one before, "
            f"{number(one.saving, f'{one.saving:,.3g}')} times less CPU time</p>"
        )
    return (
        f'<div class="card"><div class="name {one.method}">{one.method}</div>'
        f'<p class="soft">{escape(one.way)}: {_METHOD_TEXT[one.method]}</p>'
        f'<div class="big">{rate}</div><p>{used} of CPU a frame</p>{ratios}</div>'
    )


def _rates(compared: Comparison, place: Place) -> str:
    cards = "".join(_rate_card(compared, place, frame_bytes) for frame_bytes in FRAMES)
    return f'<section><h2>{_title(PLACES[place])}</h2><div class="grid">{cards}</div></section>'


def _title(text: str) -> str:
    return escape(text[0].upper() + text[1:])


def _rate_card(compared: Comparison, place: Place, frame_bytes: int) -> str:
    chart = [
        _bar(name, way, way.at(place, "pktgen", frame_bytes), "frames_per_second", _frames)
        for name, way in compared.ways.items()
    ]
    bits = ", ".join(
        f"{escape(name)} {number(value, f'{_rate(value)}bit/s')}"
        for name, way in compared.ways.items()
        for value in (way.at(place, "pktgen", frame_bytes).figures["bits_per_second"].median,)
    )
    title = f"Frames a second, {frame_bytes} bytes, {PLACES[place]}"
    return _card(f"Frames a second, {frame_bytes} bytes", bars(chart, title), f"In bits: {bits}.")


def _frames(value: float) -> str:
    return f"{_rate(value)}frames/s"


def _bar(name: str, way: WayResult, measured: Measured, figure: str, shown: Callable[[float], str]) -> Bar:
    spread = measured.figures[figure]
    return Bar(name, way.method, spread.median, shown(spread.median), spread.min, spread.max)


def _card(title: str, chart: str, caption: str) -> str:
    return f'<figure class="card"><h3>{escape(title)}</h3>{chart}<figcaption>{caption}</figcaption></figure>'


def _latencies(compared: Comparison) -> str:
    cards = "".join(_latency(compared, place) for place in PLACES if place != "wire")
    return (
        "<section><h2>Request and answer</h2><p>One frame of 60 bytes at a time; who has nothing to "
        "do polls, and hardly anybody sleeps before the next one comes: "
        "<code>virtbed bench rr</code> has what waking somebody costs."
        f'</p><div class="grid">{cards}</div></section>'
    )


def _latency(compared: Comparison, place: Place) -> str:
    measured = {name: way.at(place, "rr", FRAMES[0]) for name, way in compared.ways.items()}
    chart = [
        _bar(name, compared.ways[name], one, "p50_us", lambda us: _time_ns(us * 1e3))
        for name, one in measured.items()
    ]
    slow = ", ".join(
        f"{escape(name)} {number(p99, _time_ns(p99 * 1e3))}"
        for name, one in measured.items()
        for p99 in (one.figures["p99_us"].median,)
    )
    title = f"Median round trip, {PLACES[place]}"
    return _card(title, bars(chart, title), f"99 of 100 are faster than: {slow}.")


_ROLES: Final = (("guest", "guests"), ("vmm", "vmm"), ("iommu", "IOMMU"), ("nic", "NIC"))


def _role(process: str) -> str:
    return next((role for role, _ in _ROLES[1:] if process.startswith(role)), "guest")


def _processor(compared: Comparison) -> str:
    legend = "".join(f'<span class="{role}">{text}</span>' for role, text in _ROLES)
    cards = "".join(
        _card(_title(PLACES[place]), stacks(_shares(compared, place), f"CPU time, {PLACES[place]}"), "")
        for place in PLACES
    )
    return (
        "<section><h2>Who works for a frame</h2><p>CPU time of a 60-byte frame, of all processes "
        "together, and who "
        f'used it.</p><p class="legend">{legend}</p><div class="grid three">{cards}</div></section>'
    )


def _shares(compared: Comparison, place: Place) -> list[Stack]:
    found = []
    for name, way in compared.ways.items():
        measured = way.at(place, "pktgen", FRAMES[0])
        total = measured.figures["cpu_ns"].median
        order = [role for role, _ in _ROLES]
        parts = sorted(measured.cpu_ns.items(), key=lambda item: (order.index(_role(item[0])), item[0]))
        found.append(Stack(name, [(_role(p), ns) for p, ns in parts], total, _time_ns(total)))
    return found


def _costs(compared: Comparison) -> str:
    tables = "".join(
        f"<h3>{_title(PLACES[place])}, {kind}</h3>{_cost_table(compared, place, key)}"
        for place in PLACES
        for key, kind in (("pktgen", "60-byte frames"), ("rr", "requests"))
        if (place, key) != ("wire", "rr")
    )
    return (
        "<section><h2>What a frame costs</h2><p>Exits of guests, doorbells (asked for, and those "
        "that had to wake "
        "somebody), interrupts, how often a frame's bytes are moved (descriptors with them), and addresses "
        f"translated for devices: each for one frame, or for one request with its "
        f"answer.</p>{tables}</section>"
    )


def _cost_table(compared: Comparison, place: Place, kind: str) -> str:
    head = "".join(f'<th class="n">{text}</th>' for text in _COST_FIGURES.values())
    rows = []
    for name, way in compared.ways.items():
        measured = way.at(place, kind, FRAMES[0])
        cells = "".join(f'<td class="n">{_small(measured.figures[f].median)}</td>' for f in _COST_FIGURES)
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    body = "".join(rows)
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _repetitions(compared: Comparison) -> str:
    series = {
        name: (way.method, way.at("wire", "pktgen", FRAMES[0]).figures["frames_per_second"])
        for name, way in compared.ways.items()
    }
    legend = "".join(f'<span class="{method}">{method}</span>' for method in METHODS)
    chart = lines(series, "Frames a second to the wire, by measurement", "")
    return (
        "<section><h2>How much it varies</h2><p>Frames of 60 bytes a second to the wire in each measurement, "
        "every way a line; a step upwards is ten times as many.</p>"
        f'<figure class="card"><p class="legend">{legend}</p>{chart}'
        "<figcaption>Measurements, one after another; every way had each of them before any had the next."
        "</figcaption></figure></section>"
    )


def _lecture(compared: Comparison) -> str:
    if compared.lecture is None:
        return ""
    head = "".join(f"<th>{method}</th>" for method in METHODS)
    rows = "".join(_lecture_row(row) for row in compared.lecture.rows)
    return (
        "<section><h2>The lecture's table, found out</h2><p>Each cell is an experiment. Where it "
        "and the lecture "
        "disagree, the cell says what the lecture has, and why.</p>"
        f"<table "
        f'class="lecture"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></section>'
    )


def _lecture_row(row: Row) -> str:
    cells = "".join(
        f'<td data-method="{method}">{_cell(row.cells[method])}</td>'
        for method in METHODS
        if method in row.cells
    )
    name = f'{_title(row.name)}<div class="evidence">{escape(row.experiment)}</div>'
    return f"<tr><th>{name}</th>{cells}</tr>"


def _cell(cell: Cell) -> str:
    differs = ""
    if not cell.agrees:
        why = f": {escape(cell.why)}" if cell.why else ""
        differs = f'<div class="differs">The lecture: {escape(cell.lecture)}{why}</div>'
    return (
        f'<strong>{escape(cell.found)}</strong><div class="evidence">{escape(cell.evidence)}</div>{differs}'
    )


def _speed(compared: Comparison) -> str:
    """What a fixed loop made of it, pass by pass: what is no way's doing."""
    speed = compared.machine_speed
    least, median, most = (
        number(value, f"{value / 1e9:.3g} GB/s") for value in (speed.min, speed.median, speed.max)
    )
    return f"{median}, from {least} to {most} of a fixed loop on one processor, between the measurements"


_AGAIN: Final = {
    "all of this": "",
    "the same again, set against these figures": "virtbed compare --against FILE",
    "performance: rates and costs to the wire": "virtbed bench wire",
    "performance: one emulated NIC, by frames a kick": "virtbed bench e1000 --path forward",
    "performance: round trips of guests that sleep": "virtbed bench rr",
    "guest's kernel, old systems: who has a driver for which NIC": "virtbed run configs/old-guest.yaml",
    "complexity of the VMM: the way of a frame, with its exits": "virtbed explain emulated",
    "the same, paravirtual": "virtbed explain virtio",
    "the same, passed through": "virtbed explain passthrough",
    "interposition: what the vmm sees and may do": "virtbed run configs/interposition.yaml",
    "hardware: with a NIC that has functions, and an IOMMU": "virtbed run configs/passthrough.yaml",
    "hardware: without an IOMMU": "virtbed why dma",
    "hardware: without SR-IOV": "virtbed why share",
    "interrupts, by list registers and directly": "virtbed bench irq",
}
"""The command of every experiment; the first is the comparison's own."""


def _repeat(compared: Comparison) -> str:
    machine, gib = compared.machine, compared.machine.memory_bytes / (1 << 30)
    facts = {
        "processor": escape(machine.cpu),
        "processors": _count(machine.cpus),
        "memory": number(machine.memory_bytes, f"{gib:.1f} GiB"),
        "kernel": escape(machine.kernel),
        "Python": escape(machine.python),
        "virtbed": escape(machine.virtbed),
        "its speed": _speed(compared),
        "load average before": number(compared.load_average, f"{compared.load_average:g}"),
        "the comparison took": number(compared.seconds, figures.seconds(compared.seconds)),
    }
    rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in facts.items())
    ways = "".join(
        f'<tr><th><span class="name {way.method}">{escape(name)}</span></th><td>{escape(way.text)}</td></tr>'
        for name, way in compared.ways.items()
    )
    return (
        f"<section><h2>The ways</h2><table><tbody>{ways}</tbody></table>"
        f"<h2>The machine</h2><table><tbody>{rows}</tbody></table>"
        f"<h2>Do it again</h2>{_again(compared.command)}</section>"
    )


def _again(command: str) -> str:
    rows = "".join(
        f"<tr><th>{escape(what)}</th><td><code>{escape(how or command)}</code></td></tr>"
        for what, how in _AGAIN.items()
    )
    return f'<table class="again"><tbody>{rows}</tbody></table>'
