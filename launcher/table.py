"""The tables that a person reads at the end of a run.

What went wrong is said in words below the tables; what is zero is a dash. Not modelled: charts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from launcher import figures
from launcher.attack_table import LEFT, RIGHT, attack_problems, attack_table
from launcher.result import INTERRUPTED, Died, FlowResult, ProcessResult, Result
from testbed.observe.catalogue import EXIT_REASONS

PROCESS_ROWS_MAX: Final = 16
PLAIN_WIDTH: Final = 160
"""Columns where there is no terminal to ask."""
WIDE_COLUMNS: Final = 100
WIDE_GAP: Final = 2
NARROW_GAP: Final = 1
_QUIET_COUNTERS: Final = ("dropped.", "fault.")
_EXITS: Final = tuple(f"exits.{reason}" for reason in (*EXIT_REASONS, "doorbell"))
_REFUSED: Final = ("exits.unknown_address", "exits.bad_syndrome")


def console(*, stderr: bool = False) -> Console:
    """Return a console that does not squeeze tables where there is no terminal."""
    chosen = Console(stderr=stderr, highlight=False)
    return (
        chosen
        if chosen.is_terminal
        else Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH, soft_wrap=True)
    )


def new_table(title: str, left: Sequence[str], right: Sequence[str], *, gap: int = WIDE_GAP) -> Table:
    """Return a table with columns of text and columns of numbers."""
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, gap, 0, 0),
    )
    for name in left:
        table.add_column(name, overflow="fold", header_style="dim", vertical="bottom")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True, header_style="dim", vertical="bottom")
    return table


def _alarm(number: float) -> str:
    return f"[bold red]{number:,.0f}[/]" if number else figures.NOTHING


def _verdict(flow: FlowResult) -> str:
    if flow.good:
        return "[green]good[/]"
    return "[yellow]ended early[/]" if flow.failed == INTERRUPTED else "[bold red]FAILED[/]"


def flow_table(flows: Sequence[FlowResult], *, gap: int = WIDE_GAP) -> Table:
    """Return the flows (their names say kind, sender and receiver): what was sent, what arrived, how fast."""
    has_duplicates = any(flow.duplicated for flow in flows)
    counts = ["bytes", "sent", "received", "lost", "re-\nordered", "cor-\nrupted"]
    counts += ["dupli-\ncated"] if has_duplicates else []
    table = new_table("Flows", ["flow"], [*counts, "Mframe/s", "Gbit/s", ""], gap=gap)
    for flow in flows:
        duplicates = [_alarm(flow.duplicated)] if has_duplicates else []
        table.add_row(
            escape(flow.name),
            f"{flow.frame_bytes:g}",
            figures.count(flow.sent),
            figures.count(flow.received),
            *(_alarm(number) for number in (flow.lost, flow.reordered, flow.corrupted)),
            *duplicates,
            figures.mega(flow.frames_per_second),
            figures.giga(flow.bits_per_second),
            _verdict(flow),
        )
    return table


def interrupts_table(flows: Sequence[FlowResult], *, gap: int = WIDE_GAP) -> Table:
    """Return the flows of interrupts: how many were sent (a timer: fired), what became of them, how soon."""
    columns = ["sent", "taken", "lost", "spurious", "per second", "p50 us", "p99 us", "p99.9 us", ""]
    table = new_table("Interrupts", ["flow"], columns, gap=gap)
    for flow in flows:
        times = [(flow.latency_us or {}).get(name, 0.0) for name in ("p50", "p99", "p999")]
        table.add_row(
            escape(flow.name),
            figures.count(flow.sent),
            figures.count(flow.received),
            _alarm(flow.lost),
            _alarm(flow.spurious),
            f"{flow.interrupts_per_second:,.0f}",
            *(f"{time:,.1f}" for time in times),
            _verdict(flow),
        )
    return table


def latency_table(flows: Iterable[FlowResult], *, gap: int = WIDE_GAP) -> Table:
    """Return the round-trip times of the flows that measured them."""
    table = new_table("Latency", ["flow"], ["p50 us", "p99 us", "p99.9 us"], gap=gap)
    for flow in flows:
        if flow.latency_us:
            times = (flow.latency_us.get(name, 0.0) for name in ("p50", "p99", "p999"))
            table.add_row(escape(flow.name), *(f"{time:,.1f}" for time in times))
    return table


class _Counted:
    """A process's counters, summed as the table shows them."""

    def __init__(self, counters: Mapping[str, int]) -> None:
        self._counters = counters

    def sum(self, *parts: str) -> int:
        """Return the sum of the counters whose name has one of these parts at its start or after a dot."""
        return sum(value for name, value in self._counters.items() if _has_part(name, parts))


def _has_part(name: str, parts: Iterable[str]) -> bool:
    return any(name.startswith(part) or f".{part}" in name for part in parts)


def process_table(
    processes: Sequence[ProcessResult],
    counters: Mapping[str, Mapping[str, int]],
    *,
    gap: int = WIDE_GAP,
) -> Table:
    """Return what each process used and did, the busiest first where there are many."""
    used = ["pid", "CPU\ns", "PSS\nMiB"]
    did = ["exits", "inter-\nrupts", "bells\nasked", "bells\nsent", "wake-\nups", "drops", "faults"]
    table = new_table("Processes", ["process", "role"], [*used, *did], gap=gap)
    shown = processes
    if len(processes) > PROCESS_ROWS_MAX:
        shown = sorted(processes, key=lambda process: -process.cpu_seconds)[:PROCESS_ROWS_MAX]
    for process in shown:
        counted = _Counted(counters.get(process.name, {}))
        table.add_row(
            escape(process.name),
            process.role,
            str(process.pid),
            f"{process.cpu_seconds:.2f}",
            figures.mebibytes(process.pss_bytes),
            *(
                figures.count(counted.sum(*parts))
                for parts in (_EXITS, ["interrupts."], ["bell.asked"], ["bell.sent"], ["bell.wakeups"])
            ),
            *(_alarm(counted.sum(part)) for part in _QUIET_COUNTERS),
        )
    if len(shown) < len(processes):
        table.add_row(*_rest(processes, shown))
    return table


def _rest(processes: Sequence[ProcessResult], shown: Sequence[ProcessResult]) -> tuple[str, ...]:
    names = {process.name for process in shown}
    rest = [process for process in processes if process.name not in names]
    cpu = f"{sum(process.cpu_seconds for process in rest):.2f}"
    return (
        f"and {len(rest)} more",
        "",
        "",
        cpu,
        figures.mebibytes(sum(process.pss_bytes or 0 for process in rest)),
    )


def _notable(counters: Mapping[str, Mapping[str, int]]) -> Iterable[str]:
    """Say every drop, fault and refused access, each with its reason."""
    for process, values in counters.items():
        for name, value in values.items():
            if _has_part(name, (*_QUIET_COUNTERS, *_REFUSED)) and value:
                yield f"[yellow]{escape(process)}[/] counted {value:,} {escape(name)}"


def died_line(died: Died) -> str:
    """Say who died and how."""
    return f"[bold red]{escape(died.name)}[/] ({died.role}, pid {died.pid}) {escape(died.how)}"


def problem_lines(result: Result) -> Iterable[str]:
    """Say everything that went wrong, a line each."""
    if result.error:
        yield f"[bold red]{escape(result.error)}[/]"
    for died in result.died:
        yield died_line(died)
        yield from (f"  [dim]{escape(line)}[/]" for line in died.log)
    for flow in result.flows:
        if flow.failed and flow.failed != INTERRUPTED:
            yield f"flow [bold red]{escape(flow.name)}[/] failed: {escape(flow.failed)}"
    yield from attack_problems(result.attacks)
    for report in result.reports:
        where = f"[yellow]{escape(report.device)}[/] of {escape(report.guest)}"
        yield f"{where} broke a rule: {escape(report.reason)}: {escape(report.detail)}"


def result_view(result: Result, width: int = PLAIN_WIDTH) -> RenderableType:
    """Return the whole result as a person reads it on so many columns."""
    gap = WIDE_GAP if width >= WIDE_COLUMNS else NARROW_GAP
    parts: list[RenderableType] = []
    frames = [flow for flow in result.flows if not flow.is_interrupts]
    if frames:
        parts += [flow_table(frames, gap=gap), ""]
    if interrupts := [flow for flow in result.flows if flow.is_interrupts]:
        parts += [interrupts_table(interrupts, gap=gap), ""]
    if result.attacks:
        parts += [attack_table(result.attacks, new_table("Attacks", LEFT, RIGHT, gap=gap)), ""]
    if any(flow.latency_us for flow in frames):
        parts += [latency_table(frames, gap=gap), ""]
    if started := [process for process in result.processes if process.pid]:
        parts += [process_table(started, result.counters, gap=gap), ""]
    parts += [*_notable(result.counters), *problem_lines(result), _last_line(result)]
    return Group(*parts)


def _last_line(result: Result) -> str:
    good = sum(flow.good for flow in result.flows)
    stopped = sum(attack.good for attack in result.attacks)
    flows = f", {good} of {figures.plural(len(result.flows), 'flow')} good" if result.flows else ""
    if result.attacks:
        flows += f", {stopped} of {figures.plural(len(result.attacks), 'attack')} stopped"
    colour = "green" if result.exit_code == 0 else "red"
    verdict = {0: "good", 1: "expectation failed", 3: "a process died or the machine refused"}
    said = verdict.get(result.exit_code, INTERRUPTED)
    return f"[bold {colour}]{escape(result.topology)}: {said}[/]{flows}, {figures.seconds(result.seconds)}"


def show_result(result: Result, *, quiet: bool) -> None:
    """Print the result to standard output; when quiet only what went wrong, to standard error."""
    if not quiet:
        output = console()
        output.print(result_view(result, output.width))
        return
    for line in problem_lines(result):
        console(stderr=True).print(line)
