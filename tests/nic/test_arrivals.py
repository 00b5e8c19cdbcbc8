"""Flows that end at a NIC's wire: what is counted there, when it answers, and what it does not count."""

import pytest

from testbed.messages.control import Cancel, Collect, Expect, Expecting, FromProcess, Received
from testbed.messages.entries import FlowEntry
from testbed.nic.arrivals import QUIET_NS, WireArrivals
from tests.support.nic_bench import NicBench, frame, mac_of

NOBODY = bytes.fromhex("02ffffffff02")
STRANGER = bytes.fromhex("02ffffffff01")
FLOW = FlowEntry(
    id=7, name="f", kind="pktgen", source="a", destination="nic1", source_mac="02:00:00:00:00:01",
    destination_mac="02:00:00:00:00:02", ends_on_wire=True,
)  # fmt: skip


class World:
    """A NIC with a wire, the flow's end, and what it said."""

    def __init__(self) -> None:
        self.nic = NicBench()
        self.said: list[FromProcess] = []
        self.end = WireArrivals(self.nic.engine, self.said.append, self.nic.clock)

    def arrive(self, to: bytes, count: int, size: int = 60) -> None:
        for n in range(count):
            assert self.nic.to_nic.put(frame(to, STRANGER, n, size), self.nic.clock())
            self.nic.run()
            self.nic.clock.advance(1000)


@pytest.fixture
def world() -> World:
    return World()


def test_a_flow_is_what_nobody_here_takes(world: World) -> None:
    rx = world.nic.rx(1)
    world.arrive(NOBODY, 3)  # before it began
    world.end.handle(Expect(flow=FLOW))
    world.arrive(NOBODY, 5, 100)
    world.arrive(mac_of(1), 2)
    world.end.handle(Collect(flow_id=7, sent=5))
    world.end.tick()
    assert world.said == [
        Expecting(flow_id=7),
        Received(flow_id=7, received=5, reordered=0, corrupted=0, duplicated=0, bytes=500, seconds=4e-6),
    ]
    assert len(rx.take_all()) == 2
    assert world.end.total + world.nic.engine.unclaimed[0] == 8


def test_what_does_not_come_is_lost_when_it_has_been_quiet_for_long(world: World) -> None:
    world.end.handle(Expect(flow=FLOW))
    world.arrive(NOBODY, 2)
    world.end.handle(Collect(flow_id=7, sent=3))
    world.end.tick()
    assert world.said == [Expecting(flow_id=7)]
    due_ns = world.end.deadline_ns()
    assert due_ns == world.nic.clock() + QUIET_NS
    world.nic.clock.advance(QUIET_NS)
    world.end.tick()
    answer = world.said[-1]
    assert isinstance(answer, Received)
    assert answer.received == 2
    assert world.end.deadline_ns() is None


def test_a_flow_that_was_given_up_is_not_answered_for(world: World) -> None:
    world.end.handle(Expect(flow=FLOW))
    world.arrive(NOBODY, 2)
    world.end.handle(Collect(flow_id=7, sent=2))
    world.end.handle(Cancel(flow_id=7))
    world.end.tick()
    assert world.said == [Expecting(flow_id=7)]
