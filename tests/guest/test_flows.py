"""The flows of a guest as the launcher asks for them: expect, start, collect, cancel."""

from collections.abc import Callable

import pytest

from testbed.errors import DeviceError
from testbed.guest.flows import QUIET_NS, Flows
from testbed.guest.senders import Senders
from testbed.guest.workloads.receiver import Receiver
from testbed.guest.workloads.requester import ANSWER_NS
from testbed.messages.control import (
    Cancel,
    Collect,
    Expect,
    Expecting,
    FromProcess,
    Received,
    Sent,
    Start,
)  # fmt: skip
from testbed.messages.entries import FlowEntry
from testbed.observe.counters import Counters
from tests.guest.rig_driver import RigDriver, flow
from tests.guest.test_receiver import frames_of
from tests.support.recorders import ManualClock

SIZE = 16


class Guest:
    """A guest with one NIC; its loop runs what is runnable when it is told to."""

    def __init__(self) -> None:
        self.clock, self.device = ManualClock(), RigDriver(SIZE)
        self.runnable: dict[Callable[[], bool], None] = {}
        self.said: list[FromProcess] = []
        counters = Counters(("nic0.foreign_frames",))
        self.receiver = Receiver(self.device, counters, "nic0.foreign_frames", self.clock)
        self.flows = Flows(Senders(self), [self.receiver], self.said.append, self.clock)

    def turn(self) -> list[bytes]:
        """Run everything once and return what was sent."""
        for action in tuple(self.runnable):
            action()
        while self.receiver.step():
            pass
        self.flows.tick()
        return self.device.take_sent()

    def after(self, ns: int) -> list[bytes]:
        self.clock.advance(ns)
        return self.turn()

    def expect(self, entry: FlowEntry) -> None:
        self.flows.handle(Expect(flow=entry))
        assert self.said.pop() == Expecting(flow_id=entry.id)

    def collect(self, entry: FlowEntry, sent: int) -> None:
        self.flows.handle(Collect(flow_id=entry.id, sent=sent))


@pytest.fixture
def guest() -> Guest:
    return Guest()


def results(guest: Guest) -> list[tuple[int, int]]:
    """Return (flow, frames) of what the guest told to have received."""
    return [(m.flow_id, m.received) for m in guest.said if isinstance(m, Received)]


def test_flows_that_are_started_run_until_they_are_sent(guest: Guest) -> None:
    guest.flows.handle(Start(flow=flow(count=40)))
    sent = [len(guest.turn()) for _ in range(4)]
    assert sent == [16, 16, 8, 0]
    assert guest.said == [Sent(flow_id=7, sent=40, seconds=0.0)]
    assert guest.runnable == {}
    assert guest.flows.deadline_ns() is None


def test_flows_of_one_nic_share_its_buffers(guest: Guest) -> None:
    for number in (1, 2):
        guest.flows.handle(Start(flow=flow(id=number, count=20)))
    for _ in range(6):
        guest.turn()
    assert {m.flow_id for m in guest.said} == {1, 2}  # type: ignore[union-attr]


def test_flows_look_at_sent_buffers_only_while_one_lacks_them(guest: Guest) -> None:
    guest.flows.handle(Start(flow=flow(count=0, duration_ns=10**9, frames_per_second=1000.0)))
    guest.turn()
    looked = [guest.device.tx_watch.active]
    guest.flows.handle(Start(flow=flow(id=8, count=1_000)))
    for action in (*guest.runnable, *guest.runnable):
        action()
    looked.append(guest.device.tx_watch.active)
    guest.flows.handle(Cancel(flow_id=8))
    looked.append(guest.device.tx_watch.active)
    assert looked == [False, True, False]


def test_flows_received_whole_are_told_at_once(guest: Guest) -> None:
    entry = flow()
    guest.expect(entry)
    guest.device.put(*frames_of(entry, 10))
    guest.turn()
    assert guest.said == []
    guest.collect(entry, sent=10)
    guest.turn()
    assert results(guest) == [(7, 10)]
    assert guest.receiver.sinks == {}


def test_flows_whose_frames_are_still_in_flight_are_waited_for(guest: Guest) -> None:
    entry = flow()
    guest.expect(entry)
    frames = frames_of(entry, 10)
    guest.collect(entry, sent=10)
    for index in range(10):
        guest.device.put(frames[index])
        guest.after(QUIET_NS - 1)
    assert results(guest) == [(7, 10)]


def test_flows_that_lost_frames_are_told_after_a_quiet_time(guest: Guest) -> None:
    entry = flow()
    guest.expect(entry)
    guest.collect(entry, sent=10)
    guest.device.put(*frames_of(entry, 9))
    guest.after(QUIET_NS // 2)
    assert guest.flows.deadline_ns() == guest.clock() + QUIET_NS
    guest.after(QUIET_NS - 1)
    assert results(guest) == []
    guest.after(1)
    assert results(guest) == [(7, 9)]


def test_flows_that_lost_frames_are_not_kept_waiting_by_others(guest: Guest) -> None:
    lossy, endless = flow(id=1), flow(id=2)
    guest.expect(lossy)
    guest.expect(endless)
    guest.collect(lossy, sent=10)
    frames = frames_of(endless, 3)
    for index in range(3):
        guest.device.put(frames[index])
        guest.after(QUIET_NS // 2)
    assert results(guest) == [(1, 0)]


def test_flows_with_corrupted_frames_are_complete_without_them(guest: Guest) -> None:
    entry = flow()
    guest.expect(entry)
    frames = frames_of(entry, 2)
    guest.device.put(frames[0], frames[1][:-1] + b"!")
    guest.collect(entry, sent=2)
    guest.turn()
    assert results(guest) == [(7, 1)]


def test_flows_doubled_frames_make_up_for_no_loss(guest: Guest) -> None:
    entry = flow()
    guest.expect(entry)
    guest.collect(entry, sent=3)
    frames = frames_of(entry, 3)
    guest.device.put(frames[0], frames[1], frames[1])
    guest.after(QUIET_NS - 1)
    assert results(guest) == []
    guest.after(QUIET_NS)
    assert results(guest) == [(7, 2)]


def test_flows_request_without_an_answer_does_not_hang(guest: Guest) -> None:
    guest.flows.handle(Start(flow=flow(kind="rr", count=1)))
    assert len(guest.turn()) == 1
    assert guest.flows.deadline_ns() == guest.clock() + ANSWER_NS
    guest.after(ANSWER_NS)
    assert guest.said == [Sent(flow_id=7, sent=1, answered=0, seconds=0.5)]
    assert (guest.runnable, guest.receiver.sinks) == ({}, {})


def test_flows_that_are_cancelled_send_and_tell_nothing_more(guest: Guest) -> None:
    sending, receiving, asking = flow(id=1, count=1_000), flow(id=2), flow(id=3, kind="rr")
    guest.expect(receiving)
    guest.flows.handle(Start(flow=sending))
    guest.flows.handle(Start(flow=asking))
    guest.collect(receiving, sent=10)
    guest.turn()
    for number in (1, 2, 3, 4):
        guest.flows.handle(Cancel(flow_id=number))
    assert guest.after(2 * QUIET_NS) == []
    assert (guest.said, guest.runnable, guest.receiver.sinks) == ([], {}, {})
    assert guest.flows.deadline_ns() is None


def test_flows_on_a_device_that_breaks_end_the_guest(guest: Guest) -> None:
    guest.flows.handle(Start(flow=flow(count=1_000)))
    guest.turn()
    guest.device.broken = True
    with pytest.raises(DeviceError):
        guest.turn()
    assert guest.said == []


def test_flows_that_come_back_are_asked_and_told_by_one_guest(guest: Guest) -> None:
    entry = flow(source="a", destination="a", count=3)
    guest.expect(entry)
    guest.flows.handle(Start(flow=entry))
    guest.device.put(*guest.turn())
    guest.collect(entry, sent=3)
    guest.turn()
    assert results(guest) == [(7, 3)]
