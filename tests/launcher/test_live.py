"""What a person sees: plain lines without a terminal, a table that moves with one, tables at the end."""

import asyncio
import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from launcher import figures
from launcher.live import LiveView, PlainView, choose_view, flow_line
from launcher.result import Died, FlowResult, ProcessResult, Result, failed_flow, machine
from launcher.run import Run
from launcher.rundir import Holder, claim
from launcher.table import PROCESS_ROWS_MAX, console, result_view
from launcher.watcher import Watcher
from testbed.messages.control import GuestReport
from tests.support.plans import flow, plan
from tests.support.roles import ROLES

GOOD = FlowResult(
    name="pktgen a->b", kind="pktgen", phase=1, source="a", destination="b", frame_bytes=60, sent=11_058,
    received=11_058, seconds=2.0, frames_per_second=5529.0, bits_per_second=2_653_920.0,
)  # fmt: skip
LOSSY = FlowResult(
    name="[red]x", kind="rr", phase=1, source="a", destination="b", frame_bytes=60, sent=10, received=7,
    lost=3, seconds=2.0, latency_us={"p50": 20.5, "p99": 31.0, "p999": 90.0},
)  # fmt: skip


def _text(renderable: object, width: int = 200) -> str:
    written = io.StringIO()
    Console(file=written, width=width).print(renderable)
    return written.getvalue()


def _result(**parts: object) -> Result:
    return Result(**{"topology": "t", "seconds": 1.5, "exit_code": 0, "machine": machine(), **parts})  # type: ignore[arg-type]


def test_the_table_has_every_figure_of_a_flow() -> None:
    text = _text(result_view(_result(flows=(GOOD, LOSSY))))

    for figure in ("pktgen a->b", "11,058", "0.00553", "0.00265", "good", "20.5", "31.0", "90.0", "FAILED"):
        assert figure in text


def test_a_name_is_never_markup() -> None:
    assert "[red]x" in _text(result_view(_result(flows=(LOSSY,))))


def test_what_died_is_told_with_its_last_words() -> None:
    died = Died(name="b", role="guest", pid=7, code=1, log=("Traceback", "RuntimeError: [no]"))
    text = _text(result_view(_result(died=(died,), exit_code=3)))

    assert "b (guest, pid 7) exited with code 1" in text
    assert "  RuntimeError: [no]" in text
    assert "t: a process died or the machine refused" in text


def test_drops_and_faults_are_told_with_their_reason() -> None:
    process = ProcessResult(name="vmm-h0", role="vmm", pid=7, cpu_seconds=1.25, pss_bytes=3 << 20)
    counters = {"vmm-h0": {"a.nic0.dropped.stalled": 5, "a.nic0.fault.loop": 2, "exits.mmio_read": 70}}
    text = _text(result_view(_result(processes=(process,), counters=counters)))
    row = next(line.split() for line in text.splitlines() if line.startswith("vmm-h0 "))

    assert row == ["vmm-h0", "vmm", "7", "1.25", "3.0", "70", "-", "-", "-", "-", "5", "2"]
    assert "vmm-h0 counted 5 a.nic0.dropped.stalled" in text
    assert "vmm-h0 counted 2 a.nic0.fault.loop" in text


def test_a_rule_that_a_guest_broke_is_told() -> None:
    report = GuestReport(guest="a", device="a.nic0", reason="ring_error", detail="loop of 3")

    assert "a.nic0 of a broke a rule: ring_error: loop of 3" in _text(result_view(_result(reports=(report,))))


def test_many_processes_are_summed_up() -> None:
    processes = tuple(
        ProcessResult(name=f"g{i}", role="guest", pid=i + 1, cpu_seconds=i, pss_bytes=1 << 20)
        for i in range(PROCESS_ROWS_MAX + 5)
    )
    text = _text(result_view(_result(processes=processes)))

    assert "and 5 more" in text
    assert f"g{PROCESS_ROWS_MAX + 4} " in text
    assert "g0 " not in text


def test_a_table_without_a_terminal_is_not_squeezed(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(result_view(_result(flows=(GOOD,))))
    row = next(line for line in capsys.readouterr().out.splitlines() if "pktgen a->b" in line)

    assert row.rstrip().endswith("good")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (GOOD, "11,058 frames in 2.00 s, [green]none lost"),
        (LOSSY, "[red]3 lost[/], p50 20.5 us"),
        (failed_flow(flow(1, "a", "b"), 1, "b is gone"), "[red]a-b failed[/]: b is gone"),
    ],
)
def test_the_outcome_of_a_flow_is_one_line(result: FlowResult, said: str) -> None:
    assert said in flow_line(result)


@pytest.mark.parametrize(
    ("terminal", "quiet", "view"), [(True, False, LiveView), (False, False, PlainView), (True, True, Watcher)]
)
def test_the_view_fits_the_terminal(terminal: bool, quiet: bool, view: type) -> None:
    chosen = choose_view(Console(file=io.StringIO(), force_terminal=terminal), quiet=quiet)

    assert type(chosen) is view


async def _watched(view_console: Console, *guests: str) -> None:
    small = plan(guests, [flow(1, guests[0], guests[1])], [flow(2, guests[1], guests[0], "rr")])
    with claim(Holder(small.topology, os.getpid())) as directory:
        view = choose_view(view_console, quiet=False)
        await Run(small, directory, view, roles=ROLES).execute()


async def test_plain_lines_say_what_happens_in_order(run_parent: Path) -> None:
    written = io.StringIO()
    await _watched(Console(file=written, width=200), "a", "b")
    lines = written.getvalue().splitlines()

    assert lines[0] == "small: starting 1 vmm and 2 guests"
    assert lines[1].startswith("3 processes ready in ")
    assert lines[2] == "phase 1 of 2: a-b"
    assert lines[3].startswith("  a-b: 1,000 frames in 0.500 s, none lost, reordered or corrupted, 0.00200")
    assert lines[4:] == [
        "phase 2 of 2: b-a",
        "  b-a: 1,000 frames in 0.500 s, none lost, reordered or corrupted, p50 20.0 us",
    ]


async def test_the_live_view_shows_flows_and_processes(run_parent: Path) -> None:
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, width=200, height=60)
    run_console = asyncio.ensure_future(_watched(terminal, "a", "dies"))
    await run_console
    text = written.getvalue()

    for shown in ("small", "a-dies", "h0", "waiting", "starting", "killed by SIGKILL"):
        assert shown in text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (figures.count(0), "-"),
        (figures.count(1234567), "1,234,567"),
        (figures.mega(12_345_678), "12.3"),
        (figures.mega(1_000), "0.00100"),
        (figures.giga(0), "-"),
        (figures.mebibytes(None), "-"),
        (figures.mebibytes(3 << 19), "1.5"),
        (figures.seconds(0.1234), "0.123 s"),
        (figures.seconds(99.96), "1 min 40 s"),
        (figures.seconds(200), "3 min 20 s"),
        (figures.plural(1, "guest"), "1 guest"),
        (figures.plural(2, "process"), "2 processes"),
    ],
)
def test_figures(written: str, expected: str) -> None:
    assert written == expected
