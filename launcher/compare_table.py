"""The comparison as a person reads it in a terminal.

Not modelled: colours by value; the report has charts.
"""

from typing import Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from launcher import figures
from launcher.compare_result import Cell, Comparison, Lecture, Measured, MethodOrder
from launcher.compare_ways import FRAMES, METHODS, PLACES, Place
from launcher.spread import Spread
from launcher.table import new_table

_NARROW: Final = 2
_RATE_COLUMNS: Final = ("Mframe/s", "min to max", "Gbit/s", "CPU ns", "exits", "copies", "transl.")
_COST_COLUMNS: Final = ("asked", "sent", "interrupts")


def comparison_view(compared: Comparison) -> RenderableType:
    """Return every table, the order, and what did not hold."""
    parts: list[RenderableType] = []
    for place, title in PLACES.items():
        for frame_bytes in FRAMES:
            parts += [_rates(compared, place, title, frame_bytes), ""]
    for place, title in PLACES.items():
        if place != "wire":
            parts += [_latencies(compared, place, title), ""]
    parts += [_processes(compared), "", _order(compared.order), ""]
    if compared.lecture:
        parts += [*_lecture(compared.lecture), ""]
    if compared.problems:
        parts += [f"[bold red]does not hold[/]: {escape(problem)}" for problem in compared.problems]
    else:
        parts.append("[green]the order holds, and no guest with a function left for its vmm in traffic[/]")
    minute = figures.seconds(compared.seconds)
    settings = compared.settings
    runs = figures.plural(settings.repetitions * settings.rounds, "round")
    parts.append(
        f"[dim]medians of {runs}, each the better half of {settings.tries} tries; {minute}; "
        f"load average before: {compared.load_average:g}[/]"
    )
    speed = compared.machine_speed
    least, most = (100 * value / speed.median for value in (speed.min, speed.max))
    parts.append(
        f"[dim]the machine's own speed: {least:.0f} to {most:.0f} % of its median, by a fixed loop[/]"
    )
    return Group(*parts)


def _rates(compared: Comparison, place: Place, title: str, frame_bytes: int) -> Table:
    columns = [*_RATE_COLUMNS, *_COST_COLUMNS]
    table = new_table(f"{title}, {frame_bytes} bytes", ["way"], columns, gap=_NARROW)
    for name, way in compared.ways.items():
        measured = way.at(place, "pktgen", frame_bytes)
        rate = measured.figures["frames_per_second"]
        table.add_row(
            name,
            figures.mega(rate.median),
            f"{figures.mega(rate.min)} to {figures.mega(rate.max)}",
            figures.giga(measured.figures["bits_per_second"].median),
            f"{measured.figures['cpu_ns'].median:,.4g}",
            *(_small(measured, name) for name in ("exits", "copies", "translations")),
            *(_small(measured, name) for name in ("doorbells", "messages", "interrupts")),
        )
    return table


def _latencies(compared: Comparison, place: Place, title: str) -> Table:
    table = new_table(
        f"Request and answer, {title}, 60 bytes",
        ["way"],
        ["p50 us", "min to max", "p99 us", "CPU us", "exits", "asked", "sent", "interrupts"],
        gap=_NARROW,
    )
    for name, way in compared.ways.items():
        measured = way.at(place, "rr", FRAMES[0])
        median: Spread = measured.figures["p50_us"]
        table.add_row(
            name,
            f"{median.median:,.1f}",
            f"{median.min:,.0f} to {median.max:,.0f}",
            f"{measured.figures['p99_us'].median:,.1f}",
            f"{measured.figures['cpu_ns'].median / 1000:,.1f}",
            *(_small(measured, name) for name in ("exits", "doorbells", "messages", "interrupts")),
        )
    return table


def _processes(compared: Comparison) -> Table:
    rows = {name: way.at("guest", "pktgen", FRAMES[0]).cpu_ns for name, way in compared.ways.items()}
    processes = list(dict.fromkeys(process for used in rows.values() for process in used))
    table = new_table(f"CPU ns a frame by process, {PLACES['guest']}", ["way"], processes, gap=_NARROW)
    for name, used in rows.items():
        table.add_row(name, *(f"{ns:,.3g}" if (ns := used.get(p, 0.0)) else "-" for p in processes))
    return table


def _small(measured: Measured, name: str) -> str:
    value = measured.figures[name].median
    return f"{value:,.3g}" if value else figures.NOTHING


def _order(order: tuple[MethodOrder, ...]) -> Table:
    table = new_table(
        "The methods in order: 60 bytes to the wire",
        ["method", "way"],
        ["Mframe/s", "times the one above", "CPU ns a frame", "one above by it"],
        gap=_NARROW,
    )
    for one in order:
        table.add_row(
            one.method,
            one.way,
            figures.mega(one.frames_per_second),
            f"{one.speed_up:,.3g}" if one.speed_up else figures.NOTHING,
            f"{one.cpu_ns:,.4g}",
            f"{one.saving:,.3g}" if one.saving else figures.NOTHING,
        )
    return table


def _lecture(lecture: Lecture) -> list[RenderableType]:
    table = Table(title="The lecture's table, found out", title_justify="left", title_style="bold", box=None)
    for column in ("", *METHODS):
        table.add_column(column, header_style="dim", overflow="fold")
    for row in lecture.rows:
        table.add_row(row.name, *(_cell(row.cells[m]) if m in row.cells else "" for m in METHODS))
    return [table, *_disagreements(lecture)]


def _cell(cell: Cell) -> str:
    mark = "" if cell.agrees else f" [yellow](lecture: {escape(cell.lecture)})[/]"
    return f"[bold]{escape(cell.found)}[/]{mark}\n[dim]{escape(cell.evidence)}[/]"


def _disagreements(lecture: Lecture) -> list[RenderableType]:
    return [
        f"[yellow]{row.name}, {method}[/]: {escape(cell.why)}"
        for row in lecture.rows
        for method, cell in row.cells.items()
        if cell.why
    ]
