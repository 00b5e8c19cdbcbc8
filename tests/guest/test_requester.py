"""Request and response: one question at a time, its time taken, a lost one given up after a while."""

import pytest

from testbed.guest.workloads.requester import ANSWER_NS, LOST_IN_A_ROW_MAX, Requester
from testbed.messages.control import Sent
from testbed.messages.entries import FlowEntry
from testbed.native import Burst, FlowSink, FrameStore, Inspector, echo
from testbed.spec.flow import MAGIC_REQUEST
from tests.guest.rig_driver import RigDriver, flow
from tests.support.recorders import ManualClock


class Bench:
    """A requester, and a far end that answers when it is told to."""

    def __init__(self, entry: FlowEntry) -> None:
        self.clock, self.device, self.told = ManualClock(), RigDriver(8), list[Sent]()
        self.requester = Requester(entry, self.device, self.told.append, self.clock)
        self.inspector = Inspector()
        self.inspector.add(self.requester.sink)
        self.requester.start()

    def ask(self) -> list[bytes]:
        """Take a step and return the request that came of it, if any."""
        self.requester.step()
        return self.device.take_sent()

    def answer(self, requests: list[bytes], after_ns: int = 0) -> None:
        """Have answers to requests arrive after some time."""
        self.clock.advance(after_ns)
        questions = FrameStore()
        questions.load(requests)
        replies = FrameStore()
        replies.load([bytes(len(request)) for request in requests])
        assert echo(questions, replies) == len(requests)
        assert self.inspector.inspect(replies, self.clock())[2] == len(requests)


def test_requester_asks_again_only_after_the_answer() -> None:
    bench = Bench(flow(kind="rr", count=3))
    request = bench.ask()
    assert len(request) == 1
    assert bench.ask() == []
    bench.answer(request)
    assert len(bench.ask()) == 1


def test_requester_ends_with_its_count_and_tells_the_times() -> None:
    bench = Bench(flow(kind="rr", count=4))
    for latency_ns in (100, 200, 300, 400):
        bench.answer(bench.ask(), after_ns=latency_ns)
    assert bench.ask() == []
    assert bench.requester.finished
    (sent,) = bench.told
    assert (sent.sent, sent.answered, sent.seconds) == (4, 4, 1e-06)
    assert sent.latency_ns == {"p50": 200, "p99": 400, "p999": 400}


def test_requester_ends_with_its_time_once_its_last_answer_is_here() -> None:
    bench = Bench(flow(kind="rr", count=0, duration_ns=1_000))
    request = bench.ask()
    bench.clock.advance(1_000)
    assert bench.ask() == []
    assert not bench.requester.finished
    bench.answer(request)
    bench.ask()
    assert bench.told[0].answered == 1


def test_requester_gives_a_lost_answer_up_and_asks_again() -> None:
    bench = Bench(flow(kind="rr", count=2))
    bench.ask()
    assert bench.requester.wake_ns() == bench.clock() + ANSWER_NS
    bench.clock.advance(ANSWER_NS - 1)
    assert bench.ask() == []
    bench.clock.advance(1)
    bench.answer(bench.ask(), after_ns=50)
    bench.ask()
    (sent,) = bench.told
    assert (sent.sent, sent.answered, sent.latency_ns) == (2, 1, {"p50": 50, "p99": 50, "p999": 50})


def test_requester_takes_a_late_answer_for_no_other_s() -> None:
    bench = Bench(flow(kind="rr", count=2))
    late = bench.ask()
    bench.clock.advance(ANSWER_NS)
    second = bench.ask()
    bench.answer(late, after_ns=1)
    assert bench.ask() == []
    bench.answer(second, after_ns=1)
    bench.ask()
    assert bench.told[0].answered == 1
    assert bench.told[0].latency_ns == {"p50": 2, "p99": 2, "p999": 2}


def test_requester_that_nobody_answers_ends() -> None:
    bench = Bench(flow(kind="rr", count=1_000_000))
    for _ in range(LOST_IN_A_ROW_MAX):
        assert len(bench.ask()) == 1
        bench.clock.advance(ANSWER_NS)
    assert bench.ask() == []
    assert bench.told == [Sent(flow_id=7, sent=4, answered=0, seconds=2.0, latency_ns=None)]


def test_requester_without_room_waits_for_room_or_its_end() -> None:
    bench = Bench(flow(kind="rr", count=0, duration_ns=1_000))
    bench.device.tx_reserve(held := Burst(), 8)
    assert bench.ask() == []
    assert bench.requester.starved
    assert bench.requester.wake_ns() == bench.clock() + 1_000
    bench.device.tx_release(held, 0)
    assert len(bench.ask()) == 1


def test_requester_without_room_and_without_an_end_has_no_deadline() -> None:
    bench = Bench(flow(kind="rr", count=5))
    bench.device.tx_reserve(Burst(), 8)
    bench.ask()
    assert bench.requester.wake_ns() is None


def test_requester_that_has_not_asked_yet_is_due() -> None:
    bench = Bench(flow(kind="rr", count=5))
    assert bench.requester.wake_ns() == bench.clock()


@pytest.mark.parametrize("sizes", [(60,), (60, 1514)])
def test_requester_sends_sound_requests(sizes: tuple[int, ...]) -> None:
    bench, far = Bench(flow(kind="rr", count=4, frame_bytes=sizes)), Inspector()
    sink = FlowSink(7, MAGIC_REQUEST)
    far.add(sink)
    for _ in range(4):
        requests = bench.ask()
        arrived = FrameStore()
        arrived.load(requests)
        assert far.inspect(arrived, 0) == (0, 1, 0, 0)
        bench.answer(requests)
    assert (sink.received, sink.corrupted, sink.byte_count) == (4, 0, 4 * sum(sizes) // len(sizes))
