"""What a person sees while a topology runs: a table that moves, or plain lines where there is no terminal.

Figures come from the counter pages, so that looking disturbs nobody; four looks a second. The rate of a flow
is that of its receiver's NIC. Not modelled: history.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from launcher import figures, usage
from launcher.attack_run import Attack
from launcher.attack_table import attack_line
from launcher.flow_counters import received_frames
from launcher.netns import guests_of
from launcher.processes import Process
from launcher.result import AttackResult, Died, FlowResult, Result
from launcher.table import died_line, new_table
from launcher.watcher import Watcher
from launcher.workload_run import Flow
from testbed.messages.attack import AttackEntry
from testbed.messages.control import GuestReport
from testbed.messages.entries import FlowEntry, Plan

if TYPE_CHECKING:
    from launcher.run import Run

UPDATES_PER_SECOND: Final = 4
PROCESS_ROWS_MAX: Final = 10
NAMES_MAX: Final = 8
_NS_PER_SECOND: Final = 1e9


class PlainView(Watcher):
    """A line for everything that happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phases = 0

    def _say(self, text: str) -> None:
        self._console.print(text)

    def starting(self, plan: Plan) -> None:
        self._phases = len(plan.phases)
        roles = Counter(process.role for process in plan.processes)
        what = " and ".join(figures.plural(count, role) for role, count in roles.items())
        self._say(f"{escape(plan.topology)}: starting {what}")
        for guest in guests_of(plan):
            for tap in guest.taps:
                where = f"[bold]{guest.name}[/] {tap.interface} {tap.address}"
                self._say(f"  network of {where}: virtbed exec {plan.topology} {guest.name} -- PROGRAM")

    def ready(self, processes: int, seconds: float) -> None:
        self._say(f"{figures.plural(processes, 'process')} ready in {figures.seconds(seconds)}")

    def phase_started(self, phase: int, flows: Sequence[FlowEntry | AttackEntry]) -> None:
        more = f" and {len(flows) - NAMES_MAX} more" if len(flows) > NAMES_MAX else ""
        names = ", ".join(flow.name for flow in flows[:NAMES_MAX]) + more
        self._say(f"phase {phase} of {self._phases}: {escape(names)}")

    def flow_ended(self, result: FlowResult) -> None:
        self._say("  " + flow_line(result))

    def attack_ended(self, result: AttackResult) -> None:
        self._say("  " + attack_line(result))

    def died(self, died: Died) -> None:
        self._say(died_line(died))

    def reported(self, report: GuestReport) -> None:
        self._say(f"[yellow]{escape(report.device)}[/]: {escape(report.reason)}: {escape(report.detail)}")

    def stopping(self, why: str) -> None:
        self._say(f"[yellow]ending in order ({escape(why)}); once more to end at once[/]")


def flow_line(flow: FlowResult) -> str:
    """Say the outcome of a flow in one line."""
    name = escape(flow.name)
    if flow.failed:
        return f"[red]{name} failed[/]: {escape(flow.failed)}"
    if flow.is_interrupts:
        return _interrupts_line(flow)
    wrong = [
        f"{number:,} {what}"
        for number, what in (
            (flow.lost, "lost"),
            (flow.reordered, "reordered"),
            (flow.corrupted, "corrupted"),
            (flow.duplicated, "duplicated"),
        )
        if number
    ]
    said = f"[red]{', '.join(wrong)}[/]" if wrong else "[green]none lost, reordered or corrupted[/]"
    line = f"{name}: {flow.received:,} frames in {figures.seconds(flow.seconds)}, {said}"
    if flow.latency_us:
        return f"{line}, p50 {flow.latency_us.get('p50', 0):,.1f} us"
    rates = figures.mega(flow.frames_per_second), figures.giga(flow.bits_per_second)
    return f"{line}, {rates[0]} Mframe/s, {rates[1]} Gbit/s"


class _Gauge:
    """A number that grows, and how fast it grew since the last look."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.value = 0
        self.rate = 0.0
        self._at_ns = 0

    def look(self, value: int, at_ns: int) -> None:
        if self.first is None:
            self.first = value
        elif at_ns > self._at_ns:
            self.rate = (value - self.value) / ((at_ns - self._at_ns) / _NS_PER_SECOND)
        self.value, self._at_ns = value, at_ns

    @property
    def grown(self) -> int:
        """How much it has grown since it was first looked at."""
        return self.value - (self.first or 0)


class LiveView(PlainView):
    """The table that moves; what happens to a process is said above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._task: asyncio.Task[None] | None = None
        self._gauges: dict[tuple[str, str], _Gauge] = {}
        self._started: dict[str, float] = {}

    def begin(self, run: "Run") -> None:
        self._live.start()
        self._task = asyncio.get_running_loop().create_task(self._refresh(run))

    async def end(self, result: Result) -> None:
        del result  # told when the view is gone
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._live.stop()

    def phase_started(self, phase: int, flows: Sequence[FlowEntry | AttackEntry]) -> None:
        del phase  # the table shows it
        self._started.update((flow.name, time.monotonic()) for flow in flows)

    async def _refresh(self, run: "Run") -> None:
        while True:
            self._live.update(self._picture(run), refresh=True)
            await asyncio.sleep(1 / UPDATES_PER_SECOND)

    def _picture(self, run: "Run") -> RenderableType:
        now = time.monotonic_ns()
        counters = run.supervisor.segments.read_counters(zeros=True)
        up = figures.seconds(time.monotonic() - run.started)
        title = f"[bold]{escape(run.plan.topology)}[/] {run.state}, {up}"
        flows = self._flow_table(run.workloads.flows, counters, now)
        self._add_attacks(flows, run.workloads.attacks)
        processes = self._process_table(list(run.supervisor.processes.values()), counters, now)
        return Group(title, "", flows, "", processes)

    def _gauge(self, owner: str, name: str, value: int, now: int) -> _Gauge:
        gauge = self._gauges.setdefault((owner, name), _Gauge())
        gauge.look(value, now)
        return gauge

    def _flow_table(self, flows: Sequence[Flow], counters: dict[str, dict[str, int]], now: int) -> Table:
        table = new_table("", ["flow", "progress"], ["received", "Mframe/s", "dropped"])
        rows_max = max(4, self._console.height - PROCESS_ROWS_MAX - 12)
        for flow in sorted(flows, key=_interest)[:rows_max]:
            table.add_row(*self._flow_row(flow, counters, now))
        return table

    def _add_attacks(self, table: Table, attacks: Sequence[Attack]) -> None:
        """Add a row for each attack: how many attempts there were."""
        for attack in attacks:
            state: RenderableType = f"[dim]{attack.state}[/]"
            if attack.state == "attacking":
                total = attack.entry.duration_ns / _NS_PER_SECOND
                begun = self._started.get(attack.entry.name, time.monotonic())
                state = ProgressBar(total=total, completed=time.monotonic() - begun, width=20)
            elif attack.result is not None:
                state = "[green]stopped[/]" if attack.result.good else "[red]failed[/]"
            table.add_row(escape(attack.entry.name), state, figures.count(attack.attempts), "", "")

    def _flow_row(
        self, flow: Flow, counters: dict[str, dict[str, int]], now: int
    ) -> tuple[RenderableType, ...]:
        entry = flow.entry
        head = escape(entry.name)
        if flow.result:
            result = flow.result
            said = "[green]done[/]" if result.good else "[red]failed[/]"
            return (
                head,
                said,
                figures.count(result.received),
                figures.mega(result.frames_per_second),
                figures.count(result.lost),
            )
        if flow.state == "waiting":
            return (head, "[dim]waiting[/]", "", "", "")
        gauge = self._gauge(
            entry.name, f"flow{entry.id}", received_frames(entry, counters.get(entry.destination, {})), now
        )
        drops = self._gauge(entry.name, "drops", _drops(entry, counters), now).grown
        return (
            head,
            self._progress(flow, gauge.grown),
            figures.count(gauge.grown),
            figures.mega(gauge.rate),
            figures.count(drops),
        )

    def _progress(self, flow: Flow, received: int) -> RenderableType:
        entry = flow.entry
        if flow.state == "collecting" and flow.sent:
            return ProgressBar(total=max(1, flow.sent.sent), completed=received, width=20)
        if entry.duration_ns:
            elapsed = time.monotonic() - self._started.get(entry.name, time.monotonic())
            return ProgressBar(total=entry.duration_ns / _NS_PER_SECOND, completed=elapsed, width=20)
        if entry.count:
            return ProgressBar(total=entry.count, completed=received, width=20)
        return flow.state

    def _process_table(
        self, processes: Sequence[Process], counters: dict[str, dict[str, int]], now: int
    ) -> Table:
        table = new_table(
            "", ["process", "role", "state"], ["CPU %", "exits/s", "bells sent/s", "wake-ups/s"]
        )
        for process in processes[:PROCESS_ROWS_MAX]:
            values = counters.get(process.name, {})
            cpu_ns = int((usage.cpu_seconds(process.pid) or 0.0) * _NS_PER_SECOND) if process.alive else 0
            cpu = self._gauge(process.name, "cpu", cpu_ns, now).rate / _NS_PER_SECOND * 100
            rates = (
                self._gauge(
                    process.name, name, sum(v for k, v in values.items() if k.startswith(name)), now
                ).rate
                for name in ("exits.", "bell.sent", "bell.wakeups")
            )
            state = "[red]gone[/]" if process.state == "gone" else process.state
            table.add_row(
                escape(process.name),
                process.plan.role,
                state,
                figures.count(max(0, cpu)),
                *map(figures.count, rates),
            )
        if len(processes) > PROCESS_ROWS_MAX:
            table.add_row(f"[dim]and {len(processes) - PROCESS_ROWS_MAX} more[/]")
        return table


def _interrupts_line(flow: FlowResult) -> str:
    if flow.kind == "storm":
        return f"{escape(flow.name)}: {flow.received:,} acts in {figures.seconds(flow.seconds)}"
    wrong = [
        f"{number:,} {what}" for number, what in ((flow.lost, "lost"), (flow.spurious, "spurious")) if number
    ]
    said = f"[red]{', '.join(wrong)}[/]" if wrong else "[green]none lost or spurious[/]"
    p50_us = (flow.latency_us or {}).get("p50", 0)
    taken = f"{escape(flow.name)}: {flow.received:,} interrupts in {figures.seconds(flow.seconds)}"
    return f"{taken}, {said}, p50 {p50_us:,.1f} us"


def _interest(flow: Flow) -> tuple[int, int]:
    """Flows under way first, then those that failed, those to come, those that are done."""
    if flow.result:
        return (3 if flow.result.good else 1), -flow.phase
    return (2 if flow.state == "waiting" else 0), flow.phase


def _drops(flow: FlowEntry, counters: dict[str, dict[str, int]]) -> int:
    """Return what the vmm's ports of both ends have dropped."""
    ports = (
        f"{flow.source}.nic{flow.source_nic}.dropped.",
        f"{flow.destination}.nic{flow.destination_nic}.dropped.",
    )
    return sum(
        value for values in counters.values() for name, value in values.items() if name.startswith(ports)
    )


def choose_view(console: Console, *, quiet: bool) -> Watcher:
    """Return the view that fits: none, the table that moves, or plain lines."""
    if quiet:
        return Watcher()
    return LiveView(console) if console.is_terminal else PlainView(console)
