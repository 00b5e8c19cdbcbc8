"""The bridge over real rings: forwarding, back-pressure, stalled receivers, ports that change midway."""

import pytest

from testbed.errors import ConfigError
from testbed.net.bridge import AGE_SECONDS, Attachment, Bridge
from tests.net.ring_port import BROADCAST, QUEUE_SIZE, RingPort, attach, frame, mac
from tests.support.recorders import ManualClock

STALL_NS = 1_000_000
SECOND_NS = 1_000_000_000
UNKNOWN = mac(0x77)


@pytest.fixture(autouse=True, params=[False, True], ids=["stepped", "native"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test twice: ports that are asked for each burst, and ports whose rings are moved natively."""
    monkeypatch.setattr(RingPort, "native", request.param)


class Net:
    """A bridge with three ports."""

    def __init__(self, ports: int = 3) -> None:
        self.clock = ManualClock()
        self.bridge = Bridge(STALL_NS, clock=self.clock)
        self.ports = [RingPort(number) for number in range(1, ports + 1)]
        self.attached = [attach(self.bridge, port) for port in self.ports]

    @property
    def a(self) -> RingPort:
        return self.ports[0]

    @property
    def b(self) -> RingPort:
        return self.ports[1]

    @property
    def c(self) -> RingPort:
        return self.ports[2]

    def turn(self, port: RingPort) -> bool:
        return self.bridge.turn(self.at(port).lanes[0])

    def at(self, port: RingPort) -> Attachment:
        return self.attached[self.ports.index(port)]

    def fill(self, target: RingPort) -> None:
        """Send `target` as many frames as it has buffers, from the last port."""
        last = self.ports[-1]
        last.send(*(frame(target.mac, last.mac, n) for n in range(QUEUE_SIZE)))
        assert self.turn(last)

    def stall_b(self, frames: int) -> None:
        """Have the first port wait for the second, which never drains, until it is given up."""
        self.fill(self.b)
        self.a.send(*(frame(self.b.mac, self.a.mac, n) for n in range(frames)))
        self.turn(self.a)
        self.clock.advance(STALL_NS)
        self.bridge.retry()
        assert self.b.dropped == {"stalled": frames}


@pytest.fixture
def net() -> Net:
    return Net()


def test_bridge_unicast_reaches_only_the_port_of_its_address(net: Net) -> None:
    sent = frame(net.b.mac, net.a.mac)
    net.a.send(sent)
    assert net.turn(net.a)
    assert (net.b.take(), net.c.take()) == ([sent], [])
    assert net.a.completed == 1


def test_bridge_broadcast_reaches_everyone_but_its_sender(net: Net) -> None:
    sent = frame(BROADCAST, net.a.mac)
    net.a.send(sent)
    net.turn(net.a)
    assert (net.a.take(), net.b.take(), net.c.take()) == ([], [sent], [sent])


def test_bridge_unknown_unicast_is_flooded_until_its_address_is_learned(net: Net) -> None:
    net.a.send(frame(UNKNOWN, net.a.mac))
    net.turn(net.a)
    assert (len(net.b.take()), len(net.c.take())) == (1, 1)
    net.b.send(frame(net.a.mac, UNKNOWN))
    net.turn(net.b)
    net.a.send(frame(UNKNOWN, net.a.mac))
    net.turn(net.a)
    assert (len(net.b.take()), len(net.c.take())) == (1, 0)


def test_bridge_learned_address_is_forgotten_after_its_age(net: Net) -> None:
    net.b.send(frame(net.a.mac, UNKNOWN))
    net.turn(net.b)
    net.clock.advance(2 * AGE_SECONDS * SECOND_NS)
    net.bridge.refresh_clock()
    assert net.bridge.table.find(UNKNOWN) == -1
    assert net.bridge.table.find(net.b.mac) == net.at(net.b).number


def test_bridge_address_of_a_port_cannot_be_learned_away_while_its_driver_is_down(net: Net) -> None:
    net.b.fail()
    net.bridge.refresh(net.at(net.b))
    net.c.send(frame(net.a.mac, net.b.mac))
    net.turn(net.c)
    assert net.bridge.table.find(net.b.mac) == net.at(net.b).number


def test_bridge_frame_for_a_port_that_is_down_is_counted_at_its_sender(net: Net) -> None:
    net.b.fail()
    net.bridge.refresh(net.at(net.b))
    net.a.send(frame(net.b.mac, net.a.mac))
    assert net.turn(net.a)
    assert net.a.counter("dropped_no_receiver") == 1
    assert (net.a.completed, net.c.take()) == (1, [])


def test_bridge_flood_that_nobody_can_take_is_counted_at_its_sender(net: Net) -> None:
    for port in (net.b, net.c):
        port.fail()
        net.bridge.refresh(net.at(port))
    net.a.send(frame(BROADCAST, net.a.mac), frame(UNKNOWN, net.a.mac))
    assert net.turn(net.a)
    assert net.a.dropped == {"no_receiver": 2}
    assert net.a.completed == 2


def test_bridge_frame_to_its_own_port_is_dropped(net: Net) -> None:
    net.a.send(frame(net.a.mac, net.a.mac))
    net.turn(net.a)
    assert net.a.counter("dropped_same_port") == 1


def test_bridge_turn_without_frames_moves_nothing(net: Net) -> None:
    assert not net.turn(net.a)
    assert net.bridge.deadline_ns() is None
    assert not net.bridge.retry()


def test_bridge_full_receiver_holds_its_sender_back_and_loses_nothing(net: Net) -> None:
    sent = [frame(net.b.mac, net.a.mac, n) for n in range(QUEUE_SIZE + 3)]
    net.a.send(*sent[:QUEUE_SIZE])
    net.turn(net.a)
    net.a.sender.reclaim()
    net.a.send(*sent[QUEUE_SIZE:])
    assert not net.turn(net.a)
    assert not net.at(net.a).lanes[0].ring.active
    assert net.b.receive.active
    arrived = net.b.take()
    assert net.bridge.room(net.at(net.b))
    arrived += net.b.take()
    assert arrived == sent
    assert net.a.completed == len(sent)
    assert net.at(net.a).lanes[0].ring.active
    assert not net.b.receive.active


def test_bridge_room_at_one_port_leaves_lanes_that_wait_for_another_alone(net: Net) -> None:
    net.fill(net.b)
    net.a.send(frame(net.b.mac, net.a.mac))
    net.turn(net.a)
    assert not net.bridge.room(net.at(net.c))
    assert net.at(net.b).waiters == 1


def test_bridge_two_senders_wait_for_one_receiver_until_both_are_done() -> None:
    net = Net(4)
    a, b, c = net.ports[:3]
    net.fill(b)
    for port in (a, c):
        port.send(frame(b.mac, port.mac))
        net.turn(port)
    watched = [(net.at(b).waiters, b.receive.active)]
    b.take()
    for port in (a, c):
        net.turn(port)
        watched.append((net.at(b).waiters, b.receive.active))
    assert watched == [(2, True), (1, True), (0, False)]
    assert len(b.take()) == 2


def test_bridge_receiver_that_never_drains_is_dropped_for_when_its_time_is_up(net: Net) -> None:
    net.fill(net.b)
    net.a.send(*(frame(net.b.mac, net.a.mac, n) for n in range(3)))
    net.turn(net.a)
    deadline = net.bridge.deadline_ns()
    assert deadline == net.clock() + STALL_NS
    net.clock.advance(STALL_NS - 1)
    assert not net.bridge.retry()
    net.clock.advance(1)
    assert net.bridge.retry()
    assert net.b.dropped == {"stalled": 3}
    assert net.a.completed == 3
    assert net.bridge.deadline_ns() is None


def test_bridge_stalled_receiver_holds_nobody_back_again(net: Net) -> None:
    net.stall_b(frames=3)
    net.a.send(frame(net.b.mac, net.a.mac))
    assert net.turn(net.a)
    assert net.b.dropped == {"stalled": 4}
    assert net.bridge.deadline_ns() is None


def test_bridge_stalled_receiver_is_not_forgiven_for_frames_to_others(net: Net) -> None:
    net.stall_b(frames=3)
    net.a.send(frame(net.c.mac, net.a.mac), frame(net.b.mac, net.a.mac))
    assert net.turn(net.a)
    assert net.b.dropped == {"stalled": 4}
    assert len(net.c.take()) == 1
    assert net.at(net.b).stalled


def test_bridge_stalled_receiver_that_drains_is_waited_for_again(net: Net) -> None:
    net.stall_b(frames=3)
    net.b.take()
    net.a.sender.reclaim()
    net.a.send(*(frame(net.b.mac, net.a.mac, n) for n in range(QUEUE_SIZE)))
    assert net.turn(net.a)
    assert not net.at(net.b).stalled
    net.a.sender.reclaim()
    net.a.send(frame(net.b.mac, net.a.mac))
    assert not net.turn(net.a)
    assert net.b.dropped == {"stalled": 3}


def test_bridge_stalled_receiver_does_not_delay_a_broadcast_to_others(net: Net) -> None:
    net.fill(net.b)
    net.a.send(frame(BROADCAST, net.a.mac))
    net.turn(net.a)
    assert len(net.c.take()) == 1
    net.clock.advance(STALL_NS)
    net.bridge.retry()
    assert net.a.completed == 1
    assert net.b.dropped == {"stalled": 1}


def test_bridge_progress_of_one_receiver_starts_the_lane_s_time_anew(net: Net) -> None:
    net.fill(net.b)
    net.a.send(*(frame(net.b.mac, net.a.mac, n) for n in range(2)))
    net.turn(net.a)
    net.clock.advance(STALL_NS - 1)
    net.b.receiver.collect()
    assert net.bridge.retry()
    assert net.b.dropped == {}


def test_bridge_link_change_keeps_what_a_sender_has_in_flight(net: Net) -> None:
    net.fill(net.b)
    net.a.send(frame(net.b.mac, net.a.mac))
    net.turn(net.a)
    lane = net.at(net.a).lanes[0]
    net.a.receiving = False
    net.bridge.refresh(net.at(net.a))
    assert net.at(net.a).lanes == [lane]
    net.b.take()
    net.bridge.retry()
    assert (len(net.b.take()), net.a.completed) == (1, 1)


def test_bridge_reset_of_a_sender_drops_its_burst_and_never_completes_it(net: Net) -> None:
    net.fill(net.b)
    net.a.send(*(frame(net.b.mac, net.a.mac, n) for n in range(3)))
    net.turn(net.a)
    old = net.at(net.a).lanes[0]
    net.a.restart()
    net.bridge.refresh(net.at(net.a))
    assert net.b.dropped == {"device_broken": 3}
    assert net.at(net.b).waiters == 0
    net.a.send(frame(net.c.mac, net.a.mac))
    assert not net.bridge.turn(old)
    assert net.turn(net.a)
    assert net.a.completed == 1


def test_bridge_receiver_that_comes_back_is_watched_for_those_that_waited(net: Net) -> None:
    net.fill(net.b)
    net.a.send(frame(net.b.mac, net.a.mac))
    net.turn(net.a)
    net.b.restart()
    net.bridge.refresh(net.at(net.b))
    assert net.b.receive.active
    assert net.bridge.room(net.at(net.b))
    assert len(net.b.take()) == 1


def test_bridge_receiver_that_breaks_while_it_is_given_frames_stops_nobody(net: Net) -> None:
    def breaks() -> None:
        net.b.fail()
        net.bridge.refresh(net.at(net.b))

    net.b.on_deliver = breaks
    net.a.send(frame(BROADCAST, net.a.mac), frame(net.b.mac, net.a.mac))
    assert net.turn(net.a)
    assert net.a.completed == 2
    assert len(net.c.take()) == 1
    net.a.send(frame(net.b.mac, net.a.mac))
    net.turn(net.a)
    assert net.a.counter("dropped_no_receiver") == 1


def test_bridge_receiver_that_leaves_while_it_is_given_frames_stops_nobody(net: Net) -> None:
    net.fill(net.b)
    net.b.on_deliver = lambda: net.bridge.detach(net.at(net.b))
    net.a.send(frame(BROADCAST, net.a.mac))
    assert net.turn(net.a)
    assert net.a.completed == 1
    assert len(net.c.take()) == 1
    assert net.b.dropped == {"device_broken": 1}


def test_bridge_receiver_that_leaves_before_its_turn_is_skipped(net: Net) -> None:
    def leave() -> None:
        net.b.on_deliver = lambda: None
        net.bridge.detach(net.at(net.c))

    net.b.on_deliver = leave
    net.a.send(frame(BROADCAST, net.a.mac))
    assert net.turn(net.a)
    assert (len(net.b.take()), net.c.take(), net.a.completed) == (1, [], 1)


def test_bridge_sender_that_is_reset_in_the_middle_of_its_turn_is_not_completed(net: Net) -> None:
    def reset() -> None:
        net.b.on_deliver = lambda: None
        net.a.restart()
        net.bridge.refresh(net.at(net.a))

    net.b.on_deliver = reset
    net.a.send(frame(BROADCAST, net.a.mac))
    assert net.turn(net.a)
    assert net.a.completed == 0
    assert net.c.dropped == {"device_broken": 1}


def test_bridge_sender_that_breaks_as_its_burst_is_completed_leaves_no_lane(net: Net) -> None:
    def breaks() -> None:
        net.a.fail()
        net.bridge.refresh(net.at(net.a))

    net.a.on_complete = breaks
    lane = net.at(net.a).lanes[0]
    net.a.send(frame(net.b.mac, net.a.mac))
    assert net.turn(net.a)
    assert net.at(net.a).lanes == []
    assert not net.bridge.turn(lane)


def test_bridge_detach_lets_go_whoever_waits_for_the_port(net: Net) -> None:
    net.fill(net.b)
    net.a.send(frame(net.b.mac, net.a.mac))
    net.turn(net.a)
    net.bridge.detach(net.at(net.b))
    assert net.b.dropped == {"device_broken": 1}
    assert net.bridge.retry()
    assert net.a.completed == 1
    assert net.bridge.deadline_ns() is None


def test_bridge_number_of_a_port_that_left_is_given_again(net: Net) -> None:
    number = net.at(net.b).number
    net.bridge.detach(net.at(net.b))
    fourth = RingPort(4)
    assert attach(net.bridge, fourth).number == number
    net.a.send(frame(net.b.mac, net.a.mac), frame(fourth.mac, net.a.mac))
    net.turn(net.a)
    assert frame(fourth.mac, net.a.mac) in fourth.take()


def test_bridge_retry_survives_a_lane_that_another_lane_s_turn_removes(net: Net) -> None:
    net.fill(net.b)
    for port in (net.a, net.c):
        port.sender.reclaim()
        port.send(frame(net.b.mac, port.mac))
        net.turn(port)

    def reset() -> None:
        net.b.on_deliver = lambda: None
        net.c.restart()
        net.bridge.refresh(net.at(net.c))

    net.b.take()
    net.b.on_deliver = reset
    net.clock.advance(STALL_NS)
    net.bridge.retry()
    assert net.a.completed == 1
    assert net.c.completed == QUEUE_SIZE
    assert net.b.dropped == {"device_broken": 1}


def test_bridge_broadcast_reaches_more_ports_than_a_burst_can_name() -> None:
    net = Net(80)
    net.a.send(frame(BROADCAST, net.a.mac))
    net.turn(net.a)
    assert [len(port.take()) for port in net.ports] == [0] + [1] * 79


def test_bridge_without_a_free_port_says_so() -> None:
    bridge, port = Bridge(STALL_NS), RingPort(1)
    for _ in range(1024):
        bridge.attach(port, port.counters, 0)
    with pytest.raises(ConfigError, match=r"^g1\.nic0 finds no port: a bridge has ports 0 to 1023, not 1024"):
        bridge.attach(port, port.counters, 0)
