"""The bridge's bookkeeping under any order of events: no frame is lost unseen, no ring watched in vain."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from testbed.net.bridge import Bridge
from tests.net.ring_port import QUEUE_SIZE, RingPort, attach, frame
from tests.support.recorders import ManualClock

PORTS = 3
RECEIVE_SIZE = 2
STALL_NS = 1_000
PORT = st.integers(0, PORTS - 1)


class BridgeStates(RuleBasedStateMachine):
    """Three ports that send to each other's addresses, drain, break and come back."""

    native = False

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.bridge = Bridge(STALL_NS, clock=self.clock)
        self.ports = [RingPort(number + 1, RECEIVE_SIZE) for number in range(PORTS)]
        for port in self.ports:
            port.native = self.native
        self.attached = [attach(self.bridge, port) for port in self.ports]
        self.out = 0
        """Frames given to receive rings that are gone."""

    @rule(source=PORT, receivers=st.lists(PORT, min_size=1, max_size=QUEUE_SIZE))
    def send(self, source: int, receivers: list[int]) -> None:
        port = self.ports[source]
        port.sender.reclaim()
        port.send(*(frame(self.ports[to].mac, port.mac, n) for n, to in enumerate(receivers)))
        self.turn(source)

    @rule(source=PORT)
    def turn(self, source: int) -> None:
        for lane in self.attached[source].lanes:
            if lane.ring.active:
                self.bridge.turn(lane)

    @rule(port=PORT)
    def drain(self, port: int) -> None:
        if self.ports[port].up:
            self.ports[port].take()

    @rule(port=PORT)
    def room(self, port: int) -> None:
        self.bridge.room(self.attached[port])

    @rule(ns=st.integers(1, 2 * STALL_NS))
    def retry(self, ns: int) -> None:
        self.clock.advance(ns)
        self.bridge.retry()

    @rule(port=PORT)
    def fail(self, port: int) -> None:
        self.ports[port].fail()
        self.bridge.refresh(self.attached[port])

    @rule(port=PORT)
    def restart(self, port: int) -> None:
        self.out += self.ports[port].frames_out()
        self.ports[port].restart()
        self.ports[port].up = self.ports[port].receiving = True
        self.bridge.refresh(self.attached[port])

    @rule(port=PORT)
    def link(self, port: int) -> None:
        target = self.ports[port]
        target.receiving = target.up and not target.receiving
        self.bridge.refresh(self.attached[port])

    @rule(port=PORT, victim=PORT)
    def break_in_deliver(self, port: int, victim: int) -> None:
        def breaks() -> None:
            self.ports[port].on_deliver = lambda: None
            self.fail(victim)

        self.ports[port].on_deliver = breaks

    @invariant()
    def a_blocked_lane_waits_and_a_waiting_lane_is_blocked(self) -> None:
        lanes = [lane for attached in self.attached for lane in attached.lanes]
        for lane in lanes:
            assert not lane.closed
            assert lane.loaded == bool(lane.waiting) == bool(lane.blocked_on) == (not lane.ring.active)
        waits = any(lane.waiting for lane in lanes)
        assert (self.bridge.deadline_ns() is not None) == waits

    @invariant()
    def receive_rings_are_watched_exactly_while_someone_waits(self) -> None:
        lanes = [lane for attached in self.attached for lane in attached.lanes]
        for attached in self.attached:
            assert attached.waiters == sum(attached in lane.blocked_on for lane in lanes)
            for ring in attached.port.room:
                assert ring.active == (attached.waiters > 0)

    @invariant()
    def every_fetched_frame_is_delivered_dropped_for_a_reason_or_waits(self) -> None:
        lanes = [lane for attached in self.attached for lane in attached.lanes]
        waits = sum(lane.burst.count_for(to, first) for lane in lanes for to, first in lane.waiting.items())
        delivered = self.out + sum(port.frames_out() for port in self.ports)
        dropped = sum(port.dropped.total() for port in self.ports)
        dropped += sum(
            port.counter(f"dropped_{reason}")
            for port in self.ports
            for reason in ("no_receiver", "same_port")
        )
        fetched = sum(port.counter("frames_in") for port in self.ports)
        assert fetched == delivered + dropped + waits


class NativeBridgeStates(BridgeStates):
    """The same with rings that are moved natively."""

    native = True


TestNativeBridgeStates = NativeBridgeStates.TestCase
TestNativeBridgeStates.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBridgeStates = BridgeStates.TestCase
TestBridgeStates.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
