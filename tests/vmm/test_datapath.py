"""Bridge and loop joined: rings are looked at from a port's coming up to its going away, and no longer."""

from collections.abc import Callable

import pytest

from testbed.native import Watch
from testbed.net.bridge import Bridge
from testbed.vmm.datapath import Datapath
from tests.net.ring_port import QUEUE_SIZE, RingPort, frame
from tests.support.recorders import ManualClock

STALL_NS = 1_000


class Bench:
    """Two ports on a datapath; `turn` is one turn of a loop."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.watch: Watch[Callable[[], bool]] = Watch()
        self.datapath = Datapath(self.watch, Bridge(STALL_NS, clock=self.clock))
        self.a, self.b = RingPort(1), RingPort(2)
        for port in (self.a, self.b):
            self.datapath.attach(port, port.counters, 0)

    def up(self) -> None:
        for port in (self.a, self.b):
            self.datapath.changed(port)

    def turn(self) -> bool:
        return any([action() for action in self.watch.ready()])  # noqa: C419 - every action, not the first

    def fill(self) -> None:
        """Give the second port as many frames as it has buffers."""
        self.a.send(*(frame(self.b.mac, self.a.mac, n) for n in range(QUEUE_SIZE)))
        assert self.turn()
        self.a.sender.reclaim()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_datapath_looks_at_no_ring_of_a_port_that_never_came_up(bench: Bench) -> None:
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    assert not bench.turn()
    bench.up()
    assert bench.turn()
    assert len(bench.b.take()) == 1


def test_datapath_takes_no_notice_of_a_port_that_is_not_attached(bench: Bench) -> None:
    bench.datapath.changed(RingPort(3))
    assert bench.watch.ready() == []


def test_datapath_waits_for_room_and_goes_on(bench: Bench) -> None:
    bench.up()
    bench.fill()
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    assert not bench.turn()
    assert bench.watch.ready() == []
    assert len(bench.b.take()) == QUEUE_SIZE
    assert bench.turn()
    assert (len(bench.b.take()), bench.a.completed) == (1, QUEUE_SIZE + 1)


def test_datapath_arms_the_full_receiver_and_not_its_waiting_sender(bench: Bench) -> None:
    bench.up()
    bench.fill()
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    bench.turn()
    assert bench.watch.arm()
    assert bench.b.take()
    assert not bench.watch.arm()


def test_datapath_change_twice_looks_at_each_ring_once(bench: Bench) -> None:
    bench.up()
    bench.up()
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    assert len(bench.watch.ready()) == 1


def test_datapath_action_taken_from_the_watch_before_a_reset_does_nothing(bench: Bench) -> None:
    bench.up()
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    (action,) = bench.watch.ready()
    bench.a.restart()
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    bench.datapath.changed(bench.a)
    assert not action()
    assert bench.turn()
    assert bench.a.completed == 1


def test_datapath_change_of_a_link_keeps_the_ring_of_a_waiting_sender_unwatched(bench: Bench) -> None:
    bench.up()
    bench.fill()
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    bench.turn()
    bench.datapath.changed(bench.a)
    bench.datapath.changed(bench.b)
    assert bench.watch.ready() == []
    bench.b.take()
    assert bench.turn()
    assert bench.a.completed == QUEUE_SIZE + 1


def test_datapath_tick_gives_up_on_a_receiver_whose_time_is_over(bench: Bench) -> None:
    bench.up()
    bench.fill()
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    bench.turn()
    bench.clock.advance(STALL_NS)
    bench.datapath.tick()
    assert (bench.b.dropped, bench.a.completed) == ({"stalled": 1}, QUEUE_SIZE + 1)


def test_datapath_detached_port_is_forgotten(bench: Bench) -> None:
    bench.up()
    bench.b.send(frame(bench.a.mac, bench.b.mac))
    bench.datapath.detach(bench.b)
    assert bench.watch.ready() == []
    bench.a.send(frame(bench.b.mac, bench.a.mac))
    bench.turn()
    assert bench.a.dropped == {"no_receiver": 1}
