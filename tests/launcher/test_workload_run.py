"""The questions that a workload asks, and in what order."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from launcher.supervisor import Supervisor
from launcher.watcher import Watcher
from launcher.workload_run import WorkloadRun
from testbed.errors import PeerGone
from testbed.messages.control import Cancel, Collect, Expect, Expecting, Received, Sent, Start, ToProcess
from tests.support.plans import flow, plan


class Scripted:
    """A supervisor whose guests answer at once; those in `dead` are gone."""

    def __init__(self, *dead: str) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.cancelled: list[str] = []
        self.collected: list[Collect] = []
        self.processes = {name: SimpleNamespace(alive=name not in dead) for name in ("a", "b", "c", "d")}
        self._dead = dead

    async def ask(self, name: str, message: Any, reply: Any, flow_id: int, also: str = "") -> Any:
        await asyncio.sleep(0)
        for needed in (name, also):
            if needed in self._dead:
                raise PeerGone(f"{needed} killed by SIGKILL")
        self.asked.append((name, type(message).__name__, flow_id))
        if isinstance(message, Collect):
            self.collected.append(message)
        return {
            Expecting: Expecting(flow_id=flow_id),
            Sent: Sent(flow_id=flow_id, sent=7, answered=7, seconds=1.0),
            Received: Received(
                flow_id=flow_id, received=7, reordered=0, corrupted=0, duplicated=0, bytes=420, seconds=1.0
            ),
        }[reply]

    async def tell(self, name: str, message: ToProcess) -> bool:
        assert isinstance(message, Cancel)
        self.cancelled.append(name)
        return True


async def _run(supervisor: Scripted, *phases: list[Any]) -> WorkloadRun:
    run = WorkloadRun(plan(["a", "b", "c", "d"], *phases), cast(Supervisor, supervisor), Watcher())
    await run.run()
    return run


async def test_a_flow_is_three_questions() -> None:
    supervisor = Scripted()
    run = await _run(supervisor, [flow(1, "a", "b")])

    assert supervisor.asked == [
        ("b", Expect.__name__, 1),
        ("a", Start.__name__, 1),
        ("b", Collect.__name__, 1),
    ]
    assert supervisor.collected == [Collect(flow_id=1, sent=7)]
    assert [result.good for result in run.results] == [True]


async def test_all_receivers_of_a_phase_expect_before_the_first_sender_starts() -> None:
    supervisor = Scripted()
    await _run(supervisor, [flow(1, "a", "b"), flow(2, "c", "d")])

    assert [kind for _, kind, _ in supervisor.asked[:2]] == ["Expect", "Expect"]


async def test_a_phase_begins_when_the_one_before_is_over() -> None:
    supervisor = Scripted()
    await _run(supervisor, [flow(1, "a", "b"), flow(2, "c", "d")], [flow(3, "b", "a")])

    assert [number for _, _, number in supervisor.asked[-3:]] == [3, 3, 3]
    assert 3 not in [number for _, _, number in supervisor.asked[:-3]]


async def test_a_flow_whose_receiver_is_gone_is_cancelled_at_its_sender() -> None:
    supervisor = Scripted("b")
    run = await _run(supervisor, [flow(1, "a", "b"), flow(2, "c", "d")])

    assert supervisor.cancelled == ["a"]
    assert ("a", "Start", 1) not in supervisor.asked
    assert {result.name: result.failed for result in run.results} == {
        "a-b": "b killed by SIGKILL",
        "c-d": None,
    }


async def test_abandon_accounts_for_flows_under_way_only() -> None:
    phases = [flow(1, "a", "b"), flow(2, "c", "d")], [flow(3, "a", "b")]
    run = WorkloadRun(plan(["a", "b", "c", "d"], *phases), cast(Supervisor, Scripted()), Watcher())
    run.flows[0].state = "sending"
    run.abandon("interrupted")
    run.abandon("again")

    assert [(result.name, result.failed) for result in run.results] == [("a-b", "interrupted")]
