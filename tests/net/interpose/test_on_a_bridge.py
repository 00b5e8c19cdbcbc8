"""Chains on the ports of a real bridge: both directions, floods, mirrors, rates, and ports that have none."""

from pathlib import Path

import dpkt
import pytest

from testbed.native import Burst
from testbed.net.bridge import Bridge
from testbed.net.interpose.capture import Capture
from testbed.net.interpose.chain import Chain, Direction
from testbed.net.interpose.counts import PortCounts
from testbed.net.interpose.filter import Filter, compile_filter
from testbed.net.interpose.mirror import Mirror
from testbed.net.interpose.rate import Rate
from tests.net.ring_port import BROADCAST, QUEUE_SIZE, RingPort, attach, frame, mac
from tests.support.recorders import ManualClock

STALL_NS = 1_000_000
UNKNOWN = mac(0x77)


class Net:
    """A bridge with three ports, each with an empty chain until it gets stages."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bridge = Bridge(STALL_NS, clock=self.clock)
        self.a, self.b, self.c = self.ports = [RingPort(number) for number in (1, 2, 3)]
        self.attached = {port.name: attach(self.bridge, port) for port in self.ports}
        self.chains = {port.name: Chain() for port in self.ports}
        for name, attachment in self.attached.items():
            self.bridge.interpose(attachment, self.chains[name])

    def counts(self, port: RingPort) -> PortCounts:
        return PortCounts(port.counters)

    def drop(self, port: RingPort, expression: str, *directions: Direction) -> None:
        stage = Filter(compile_filter(expression), True, self.counts(port))
        self.chains[port.name].add(stage, directions)

    def mirror(self, port: RingPort, to: RingPort, *directions: Direction) -> None:
        target = self.attached[to.name]
        stage = Mirror(lambda burst: self.bridge.mirror(burst, target), self.counts(port))
        self.chains[port.name].add(stage, directions, copies=True)

    def send(self, port: RingPort, *frames: bytes) -> None:
        port.sender.reclaim()
        assert port.send(*frames) == len(frames)
        self.turn(port)

    def turn(self, port: RingPort) -> bool:
        return self.bridge.turn(self.attached[port.name].lanes[0])

    def contents(self, port: RingPort) -> list[int]:
        return [int.from_bytes(taken[14:18], "little") for taken in port.take()]


@pytest.fixture
def net() -> Net:
    return Net()


def test_a_removed_frame_is_neither_delivered_nor_learned_but_its_buffer_comes_back(net: Net) -> None:
    net.drop(net.a, "ether[14] & 1 = 1", "tx")
    net.send(
        net.a, frame(net.b.mac, net.a.mac, 1), frame(net.b.mac, UNKNOWN, 3), frame(net.b.mac, net.a.mac, 2)
    )
    assert net.contents(net.b) == [2]
    assert (net.a.completed, net.a.counter("dropped_filter"), net.a.counter("frames_in")) == (3, 2, 3)
    assert net.bridge.table.find(UNKNOWN) == -1


def test_a_burst_that_is_removed_as_a_whole_is_completed(net: Net) -> None:
    net.drop(net.a, "greater 1", "tx")
    net.send(net.a, frame(BROADCAST, net.a.mac), frame(net.b.mac, net.a.mac))
    assert (net.a.completed, net.b.take(), net.c.take()) == (2, [], [])
    assert net.a.dropped == {}


def test_what_one_receiver_does_not_want_the_others_of_a_flood_still_get(net: Net) -> None:
    net.drop(net.b, "ether[14] = 1", "rx")
    net.send(net.a, *(frame(BROADCAST, net.a.mac, n) for n in range(3)))
    assert net.contents(net.b) == [0, 2]
    assert net.contents(net.c) == [0, 1, 2]
    assert net.b.counter("dropped_filter") == 1


def test_a_full_receiver_with_a_filter_gets_the_rest_in_order_and_sees_each_frame_once(net: Net) -> None:
    net.drop(net.b, "ether[14] & 3 = 1", "rx")
    net.send(net.c, *(frame(net.b.mac, net.c.mac, 100) for _ in range(QUEUE_SIZE - 2)))
    net.send(net.a, *(frame(net.b.mac, net.a.mac, n) for n in range(8)))
    arrived = net.contents(net.b)
    net.bridge.room(net.attached[net.b.name])
    arrived += net.contents(net.b)
    assert [n for n in arrived if n < 100] == [0, 2, 3, 4, 6, 7]
    assert net.b.counter("dropped_filter") == 2
    assert net.a.completed == 8


def test_a_stalled_receiver_drops_only_what_its_filter_left(net: Net) -> None:
    net.drop(net.b, "ether[14] & 1 = 1", "rx")
    net.send(net.c, *(frame(net.b.mac, net.c.mac, 100) for _ in range(QUEUE_SIZE)))
    net.send(net.a, *(frame(net.b.mac, net.a.mac, n) for n in range(6)))
    net.clock.advance(STALL_NS)
    net.bridge.retry()
    assert net.b.dropped == {"stalled": 3}
    assert net.a.completed == 6


def test_a_chain_taken_off_while_a_lane_waits_leaves_what_was_decided(net: Net) -> None:
    net.drop(net.b, "ether[14] = 1", "rx")
    net.send(net.c, *(frame(net.b.mac, net.c.mac, 100) for _ in range(QUEUE_SIZE)))
    net.send(net.a, frame(net.b.mac, net.a.mac, 1), frame(net.b.mac, net.a.mac, 2))
    for attachment in net.attached.values():
        net.bridge.interpose(attachment, None)
    net.b.take()
    net.bridge.room(net.attached[net.b.name])
    assert net.contents(net.b) == [2]
    net.send(net.a, frame(net.b.mac, net.a.mac, 1))
    assert net.contents(net.b) == [1]


def test_a_mirror_copies_both_ways_and_teaches_the_bridge_nothing(net: Net) -> None:
    net.mirror(net.a, net.c, "tx", "rx")
    net.send(net.a, frame(net.b.mac, net.a.mac, 1))
    net.send(net.b, frame(net.a.mac, net.b.mac, 2))
    assert (net.contents(net.b), net.contents(net.a), net.contents(net.c)) == ([1], [2], [1, 2])
    assert net.bridge.table.find(net.a.mac) == net.attached[net.a.name].number
    assert net.a.counter("frames_mirrored") == 2
    assert net.a.completed == 1


def test_a_mirror_that_is_full_holds_nobody_back(net: Net) -> None:
    net.mirror(net.a, net.c, "tx")
    for _ in range(2):
        net.send(net.a, *(frame(net.b.mac, net.a.mac, n) for n in range(QUEUE_SIZE - 1)))
        assert len(net.b.take()) == QUEUE_SIZE - 1
    assert len(net.c.take()) == QUEUE_SIZE
    assert net.c.dropped == {"mirror": QUEUE_SIZE - 2}
    assert net.bridge.deadline_ns() is None


def test_two_ports_may_mirror_each_other_and_filters_see_the_copies(net: Net) -> None:
    net.mirror(net.b, net.c, "tx", "rx")
    net.mirror(net.c, net.b, "tx", "rx")
    net.drop(net.c, "ether[14] = 5", "rx")
    net.send(net.a, frame(net.b.mac, net.a.mac, 4), frame(net.b.mac, net.a.mac, 5))
    assert (net.contents(net.b), net.contents(net.c)) == ([4, 5], [4])


def test_a_mirror_to_a_port_whose_driver_is_down_is_counted_there(net: Net) -> None:
    net.mirror(net.a, net.c, "tx")
    net.c.fail()
    net.bridge.refresh(net.attached[net.c.name])
    net.send(net.a, frame(net.b.mac, net.a.mac, 1))
    assert net.c.dropped == {"mirror": 1}
    net.bridge.detach(net.attached[net.c.name])
    net.send(net.a, frame(net.b.mac, net.a.mac, 2))
    assert net.contents(net.b) == [1, 2]


def test_a_rate_that_holds_fetches_no_more_until_it_is_due(net: Net) -> None:
    rate = Rate(1000, 3, False, True, net.counts(net.a), net.clock)
    net.chains[net.a.name].add(rate, ["tx"])
    net.send(net.a, *(frame(net.b.mac, net.a.mac, n) for n in range(6)))
    assert net.contents(net.b) == [0, 1, 2]
    lane = net.attached[net.a.name].lanes[0]
    assert not net.turn(net.a)
    active = [lane.ring.active]
    assert net.bridge.deadline_ns() == net.clock.now_ns + 1_000_000
    assert not net.bridge.retry()
    net.clock.advance(1_000_000)
    assert net.bridge.retry()
    assert [*active, lane.ring.active] == [False, True]
    assert net.contents(net.b) == [3]


def test_a_held_lane_whose_chain_or_queue_goes_is_let_go(net: Net) -> None:
    attachment = net.attached[net.a.name]
    net.chains[net.a.name].add(Rate(1, 1, False, True, net.counts(net.a), net.clock), ["tx"])
    net.send(net.a, frame(net.b.mac, net.a.mac, 0), frame(net.b.mac, net.a.mac, 1))
    assert not net.turn(net.a)
    net.bridge.interpose(attachment, None)
    assert attachment.lanes[0].ring.active
    assert net.turn(net.a)
    assert net.contents(net.b) == [0, 1]
    net.bridge.interpose(attachment, net.chains[net.a.name])
    assert not net.turn(net.a)
    net.a.fail()
    net.bridge.refresh(attachment)
    assert net.bridge.deadline_ns() is None


def test_a_capture_next_to_the_guest_sees_what_it_sends_and_what_it_gets(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    capture = Capture(str(path), "a.nic0", net.counts(net.a), lambda *_told: None)
    net.drop(net.a, "ether[14] & 1 = 1", "tx", "rx")
    net.chains[net.a.name].add_at_guest(capture, ["tx", "rx"])
    net.send(net.a, frame(net.b.mac, net.a.mac, 1), frame(net.b.mac, net.a.mac, 2))
    net.send(net.b, frame(net.a.mac, net.b.mac, 3), frame(net.a.mac, net.b.mac, 4))
    net.chains[net.a.name].remove(capture)
    net.send(net.a, frame(net.b.mac, net.a.mac, 6))
    capture.close()
    with path.open("rb") as file:
        assert [int.from_bytes(data[14:18], "little") for _, data in dpkt.pcapng.Reader(file)] == [1, 2, 4]


class Looks:
    """A stage that notes what is present."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def apply(self, burst: Burst, direction: Direction) -> None:
        self.seen.append((direction, len(burst.present())))


def test_stages_run_in_order_and_only_in_their_directions(net: Net) -> None:
    before, after = Looks(), Looks()
    chain = net.chains[net.a.name]
    assert chain.empty
    chain.add(before, ["tx", "rx"])
    net.drop(net.a, "ether[14] = 1", "tx")
    chain.add(after, ["tx"])
    net.send(net.a, frame(net.b.mac, net.a.mac, 1), frame(net.b.mac, net.a.mac, 2), bytes(8))
    net.send(net.b, frame(net.a.mac, net.b.mac, 1))
    assert (before.seen, after.seen) == ([("tx", 2), ("rx", 1)], [("tx", 1)])
    assert net.a.counter("dropped_too_short") == 1
