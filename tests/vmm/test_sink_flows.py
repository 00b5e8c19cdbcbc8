"""Flows that end in a sink: what is expected, what is answered, and when."""

import pytest

from testbed.messages.control import Cancel, Collect, Expect, Expecting, FromProcess, Received
from testbed.messages.entries import FlowEntry
from testbed.net.reflect import Sink
from testbed.vmm.sink_flows import QUIET_NS, SinkFlows
from tests.net.ring_port import RingPort
from tests.net.test_reflect import flow_frames, run_all
from tests.support.recorders import ManualClock

NIC = "a.nic0"


def entry(flow_id: int = 1, kind: str = "pktgen", verify: bool = True) -> FlowEntry:
    return FlowEntry(
        id=flow_id,
        name=f"flow {flow_id}",
        kind="replay" if kind == "replay" else "pktgen",
        source="a",
        destination="vmm-h0",
        source_mac="02:00:00:00:00:01",
        destination_mac="02:00:00:00:00:01",
        frame_bytes=(60,),
        verify=verify,
    )


class Rig:
    """One sink behind one NIC, and what the launcher hears."""

    def __init__(self) -> None:
        self.clock, self.heard = ManualClock(), list[FromProcess]()
        self.port = RingPort(1)
        self.sink = Sink(self.port, self.port.counters, 0, self.clock)
        self.sink.refresh()
        self.flows = SinkFlows({NIC: self.sink}, self.heard.append, self.clock)

    def expect(self, flow: FlowEntry) -> None:
        self.flows.handle(Expect(flow=flow))
        assert self.heard.pop() == Expecting(flow_id=flow.id)

    def arrive(self, *frames: bytes) -> None:
        self.port.sender.reclaim()
        assert self.port.send(*frames) == len(frames)
        self.clock.advance(1000)
        run_all(self.sink)

    def collect(self, flow_id: int, sent: int) -> Received:
        """Ask for a flow that is complete."""
        self.flows.handle(Collect(flow_id=flow_id, sent=sent))
        self.flows.tick()
        answer = self.heard.pop()
        assert isinstance(answer, Received)
        return answer


def test_a_verified_flow_is_checked_and_told() -> None:
    rig, frames = Rig(), flow_frames(1, 5)
    rig.expect(entry())
    rig.arrive(*frames[:2])
    rig.arrive(frames[2], frames[4][:-1] + b"?", frames[3])

    assert rig.collect(1, 5) == Received(
        flow_id=1, received=4, reordered=0, corrupted=1, duplicated=0, bytes=240, seconds=1e-6
    )


@pytest.mark.parametrize("kind", ["pktgen", "replay"])
def test_an_unverified_flow_is_counted_from_where_it_begins(kind: str) -> None:
    rig = Rig()
    rig.arrive(b"0" * 60)
    rig.expect(entry(kind=kind, verify=False))
    rig.arrive(b"1" * 100)
    rig.arrive(b"2" * 60, b"3" * 60)

    answer = rig.collect(1, 3)
    assert (answer.received, answer.bytes, answer.seconds) == (3, 220, 1e-6)


def test_unverified_flows_that_share_a_sink_are_told_apart_by_their_tags() -> None:
    rig = Rig()
    rig.expect(entry(1, verify=False))
    rig.expect(entry(2, verify=False))
    rig.arrive(*flow_frames(1, 3), *flow_frames(2, 2))

    assert (rig.collect(1, 3).received, rig.collect(2, 2).received) == (3, 2)


def test_an_answer_waits_for_what_was_sent_but_not_for_ever() -> None:
    rig = Rig()
    rig.expect(entry())
    rig.arrive(*flow_frames(1, 2))
    rig.flows.handle(Collect(flow_id=1, sent=3))
    rig.flows.tick()
    assert rig.heard == []
    due = rig.flows.deadline_ns()
    assert due == rig.clock() + QUIET_NS

    rig.clock.advance(QUIET_NS)
    rig.flows.tick()
    (answer,) = rig.heard
    assert isinstance(answer, Received)
    assert answer.received == 2
    assert rig.flows.deadline_ns() is None


def test_frames_that_still_come_put_the_end_off() -> None:
    rig = Rig()
    rig.expect(entry(verify=False))
    rig.flows.handle(Collect(flow_id=1, sent=9))
    rig.clock.advance(QUIET_NS - 1000)
    rig.arrive(b"1" * 60)
    rig.flows.tick()

    assert rig.heard == []
    assert rig.flows.deadline_ns() == rig.clock() + QUIET_NS


def test_a_cancelled_flow_is_expected_no_more() -> None:
    rig = Rig()
    rig.expect(entry())
    rig.flows.handle(Cancel(flow_id=1))
    rig.flows.handle(Collect(flow_id=1, sent=0))
    rig.flows.tick()

    assert rig.heard == []
    rig.expect(entry())
    rig.arrive(*flow_frames(1, 1))
    assert rig.collect(1, 1).received == 1
