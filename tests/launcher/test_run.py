"""A whole run with the test roles.

Up, workloads, deaths, stops, down; nothing is ever left (see `run_parent`).
"""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from launcher.result import Died, FlowResult, Result
from launcher.run import Run, run_plan
from launcher.rundir import Holder, claim
from launcher.watcher import Watcher
from testbed.messages.attack import AttackEntry
from testbed.messages.control import GuestReport
from testbed.messages.entries import FlowEntry, Plan
from tests.support.plans import flow, plan
from tests.support.roles import FRAMES, ROLES, SECONDS

pytestmark = pytest.mark.usefixtures("run_parent")


class Acting(Watcher):
    """Does something when a phase starts, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.deaths: list[Died] = []
        self.run: Run

    def begin(self, run: Run) -> None:
        self.run = run

    def ready(self, processes: int, seconds: float) -> None:
        del seconds
        self.heard.append(f"{processes} ready")

    def phase_started(self, phase: int, flows: Sequence[FlowEntry | AttackEntry]) -> None:
        self.heard.append(f"phase {phase}: {', '.join(flow.name for flow in flows)}")
        self.act()

    def flow_ended(self, result: FlowResult) -> None:
        self.heard.append(f"{result.name} {'failed' if result.failed else 'done'}")

    def died(self, died: Died) -> None:
        self.heard.append(f"{died.name} died")
        self.deaths.append(died)

    def reported(self, report: GuestReport) -> None:
        self.heard.append(f"{report.guest} reported")

    def stopping(self, why: str) -> None:
        self.heard.append(f"stopping: {why}")

    def act(self) -> None:
        """Do nothing; a test says otherwise."""

    def pid(self, name: str) -> int:
        """Return the pid of a process of the run."""
        return self.run.supervisor.processes[name].pid


async def _execute(plan: Plan, watcher: Watcher | None = None, **options: bool) -> Result:
    with claim(Holder(plan.topology, os.getpid())) as directory:
        return await Run(plan, directory, watcher or Watcher(), roles=ROLES, **options).execute()


def _named(result: Result, name: str) -> FlowResult:
    return next(flow for flow in result.flows if flow.name == name)


async def test_a_good_run_has_every_flow_process_and_counter() -> None:
    watcher = Acting()
    result = await _execute(plan(["a", "b"], [flow(1, "a", "b")], [flow(2, "b", "a", "rr")]), watcher)

    assert result.exit_code == 0
    assert watcher.heard == ["3 ready", "phase 1: a-b", "a-b done", "phase 2: b-a", "b-a done"]
    assert [(f.phase, f.sent, f.received, f.lost, f.good) for f in result.flows] == [
        (1, FRAMES, FRAMES, 0, True),
        (2, FRAMES, FRAMES, 0, True),
    ]
    assert [(p.name, p.role) for p in result.processes] == [("h0", "vmm"), ("a", "guest"), ("b", "guest")]
    assert all(process.cpu_seconds > 0 and process.pss_bytes for process in result.processes)
    assert result.counters == {"h0": {"exits": 7}, "a": {"frames": 7}, "b": {"frames": 7}}
    assert (result.died, result.reports, result.error) == ((), (), None)


def test_a_run_on_uvloop_is_good() -> None:
    small = plan(["a", "b"], [flow(1, "a", "b")])
    result = run_plan(small, Holder(small.topology, os.getpid()), Watcher(), ROLES)

    assert [flow.good for flow in result.flows] == [True]


async def test_flows_of_a_phase_run_at_the_same_time() -> None:
    names = ["a", "b", "c", "d"]
    result = await _execute(plan(names, [flow(1, "a", "b"), flow(2, "c", "d"), flow(3, "d", "a")]))

    assert [flow.good for flow in result.flows] == [True] * 3


async def test_a_lost_frame_is_an_expectation_that_failed() -> None:
    result = await _execute(plan(["a", "loses"], [flow(1, "a", "loses")]))

    assert (result.exit_code, result.flows[0].lost) == (1, 3)


async def test_many_guests_come_up() -> None:
    names = [f"g{i}" for i in range(60)]
    flows = [flow(i + 1, name, names[i - 1]) for i, name in enumerate(names)]
    result = await _execute(plan(names, flows))

    assert (result.exit_code, len(result.flows), result.died) == (0, 60, ())


@pytest.mark.parametrize(
    ("guest", "code", "said"),
    [("raises", 1, "RuntimeError: the guest's kernel is upside down"), ("exits", 5, None)],
)
async def test_a_process_that_ends_before_it_is_ready_ends_the_run(
    guest: str, code: int, said: str | None
) -> None:
    result = await _execute(plan(["a", guest], [flow(1, "a", guest)]))

    assert result.exit_code == 3
    assert [(died.name, died.code) for died in result.died] == [(guest, code)]
    assert (result.died[0].log or (None,))[-1] == said
    assert result.flows == ()


async def test_a_process_that_is_never_ready_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.supervisor.READY_SECONDS", 0.5)
    result = await _execute(plan(["a", "hangs"]))

    assert result.exit_code == 3
    assert result.error == (
        "every process must be ready within 0.5 s, 1 of 3 were not (hangs); hangs said: nothing"
    )
    assert result.died == ()


async def test_a_process_that_the_system_refuses_is_told_with_what_to_do() -> None:
    class Refuse(Acting):
        def starting(self, plan: Plan) -> None:
            super().starting(plan)
            self.run.supervisor.refused("a", "Resource temporarily unavailable")

    result = await _execute(plan(["a", "b"]), Refuse())

    assert result.exit_code == 3
    assert result.error == (
        "a cannot be started: Resource temporarily unavailable; see ulimit -u and the memory in use"
    )


async def test_a_guest_that_dies_fails_its_flows_only() -> None:
    phase = [flow(1, "dies", "a"), flow(2, "b", "c")]
    later = [flow(3, "a", "b"), flow(4, "a", "dies")]
    watcher = Acting()
    result = await _execute(plan(["dies", "a", "b", "c"], phase, later), watcher)

    assert result.exit_code == 3
    assert {f.name: f.failed for f in result.flows} == {
        "dies-a": "dies killed by SIGKILL",
        "b-c": None,
        "a-b": None,
        "a-dies": "dies killed by SIGKILL",
    }
    assert [(died.name, died.signal, died.code) for died in result.died] == [("dies", "SIGKILL", None)]
    assert watcher.heard.count("dies died") == 1


async def test_the_death_of_the_receiver_ends_the_waiting_for_the_sender() -> None:
    class KillReceiver(Acting):
        def act(self) -> None:
            os.kill(self.pid("a"), signal.SIGKILL)

    result = await _execute(plan(["sleeps", "a"], [flow(1, "sleeps", "a")]), KillReceiver())

    assert result.flows[0].failed == "a killed by SIGKILL"


async def test_what_a_process_says_before_it_ends_is_in_the_result() -> None:
    result = await _execute(plan(["fails", "a"], [flow(1, "fails", "a")]))

    assert result.flows[0].failed == "fails exited with code 3: the capture is unreadable"
    assert result.died[0].reason == "the capture is unreadable"


async def test_a_process_that_sends_nonsense_is_ended() -> None:
    result = await _execute(plan(["babbles", "a"], [flow(1, "babbles", "a")]))

    assert result.died[0].signal == "SIGKILL"
    assert result.died[0].reason.startswith("sent what is no control message")


async def test_a_report_of_a_guest_is_in_the_result_and_harms_nobody() -> None:
    result = await _execute(plan(["reports", "a"], [flow(1, "reports", "a")]))

    assert result.reports == (
        GuestReport(guest="reports", device="reports.nic0", reason="ring_error", detail="loop"),
    )
    assert result.exit_code == 0


@pytest.mark.parametrize("victim", ["h0", "forkserver"])
async def test_the_death_of_vmm_or_fork_server_ends_the_run(victim: str) -> None:
    class Kill(Acting):
        def act(self) -> None:
            server = self.run.supervisor.server_pid
            os.kill(server if victim == "forkserver" else self.pid(victim), signal.SIGKILL)

    result = await _execute(plan(["sleeps", "a"], [flow(1, "sleeps", "a")]), Kill())

    assert result.exit_code == 3
    assert (result.died[0].name, result.died[0].signal) == (victim, "SIGKILL")
    assert result.flows[0].failed == f"{victim} killed by SIGKILL"


async def test_a_process_that_does_not_stop_is_ended_and_told() -> None:
    result = await _execute(plan(["stays", "a"], [flow(1, "a", "stays")]))

    assert result.exit_code == 3
    assert [(died.name, died.signal) for died in result.died] == [("stays", "SIGKILL")]
    assert result.died[0].reason == "did not stop within 1 s and was ended"


async def test_a_stopped_process_does_not_hold_up_the_end() -> None:
    class Stop(Acting):
        def act(self) -> None:
            os.kill(self.pid("b"), signal.SIGSTOP)

    result = await _execute(plan(["a", "b", "c"], [flow(1, "a", "c")]), Stop())

    assert [died.name for died in result.died] == ["b"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_is_an_orderly_stop_with_partial_results(number: signal.Signals) -> None:
    class Interrupt(Acting):
        def act(self) -> None:
            if "a-b done" in self.heard:
                os.kill(os.getpid(), number)

    watcher = Interrupt()
    result = await _execute(
        plan(["a", "b", "sleeps"], [flow(1, "a", "b")], [flow(2, "sleeps", "a")]), watcher
    )

    assert (result.exit_code, result.interrupted) == (128 + number, True)
    assert f"stopping: {number.name}" in watcher.heard
    assert _named(result, "a-b").good
    assert _named(result, "sleeps-a").failed == "interrupted"


async def test_a_second_signal_ends_everything_at_once() -> None:
    class Impatient(Acting):
        def act(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        def stopping(self, why: str) -> None:
            super().stopping(why)
            asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)

    result = await _execute(plan(["stays", "a"], [flow(1, "a", "stays")]), Impatient())

    assert (result.exit_code, result.died) == (130, ())
    assert result.seconds < 1.0 + SECONDS


async def test_a_signal_while_processes_start_ends_the_run() -> None:
    class Early(Acting):
        def starting(self, plan: Plan) -> None:
            super().starting(plan)
            os.kill(os.getpid(), signal.SIGINT)

    result = await _execute(plan(["a", "hangs"]), Early())

    assert (result.exit_code, result.error) == (130, None)


async def test_a_run_that_stays_ends_when_it_is_stopped() -> None:
    small = plan(["a", "b"], [flow(1, "a", "b")])
    with claim(Holder(small.topology, os.getpid())) as directory:
        run = Run(small, directory, Watcher(), roles=ROLES, stay=True)
        execution = asyncio.ensure_future(run.execute())
        await run.idle.wait()
        alive = [process.alive for process in run.supervisor.processes.values()]
        run.stop("enough")
        result = await execution

    assert alive == [True] * 3
    assert (result.exit_code, result.interrupted) == (0, False)


async def test_without_workloads_nothing_is_sent() -> None:
    result = await _execute(plan(["a", "b"], [flow(1, "a", "b")]), workloads=False)

    assert (result.exit_code, result.flows) == (0, ())


async def test_two_topologies_run_at_the_same_time() -> None:
    both = [plan(["a", "b"], [flow(1, "a", "b")], name=name) for name in ("one", "two")]
    results = [await result for result in [asyncio.ensure_future(_execute(each)) for each in both]]

    assert [(r.topology, r.exit_code) for r in results] == [("one", 0), ("two", 0)]


async def test_no_descriptor_is_left_open() -> None:
    await _execute(plan(["a", "b"], [flow(1, "a", "b")]))
    before = psutil.Process().num_fds()
    await _execute(plan(["a", "b"], [flow(1, "a", "b")]))

    assert psutil.Process().num_fds() == before


def test_the_logs_are_gone_with_the_run(run_parent: Path) -> None:
    small = plan(["raises", "a"])
    run_plan(small, Holder(small.topology, os.getpid()), Watcher(), ROLES)

    assert list(run_parent.iterdir()) == []
