"""What goes through several native steps at once does what the steps do one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.native import (
    FLOOD,
    Burst,
    DeviceRing,
    DriverRing,
    FlowSink,
    FlowSource,
    Forward,
    ForwardTable,
    Inspector,
    MacTable,
    Pinned,
    SinkDrain,
    SinkStore,
)
from testbed.spec.flow import FRAME_BYTES_MIN, MAGIC_DATA, MAGIC_REQUEST
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.spec.virtio_net import FRAME_BYTES_MAX
from tests.support.raw_ring import avail_flags
from tests.support.ring_model import Features
from tests.support.ring_pair import PACKED, SPLIT, Rig, Setup, contents

SIZE, SLOT_BYTES, FLOW = 256, 256, 7
PEER, OWN = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))
HEADERS = PEER + OWN + b"\x08\x00" + bytes(28)
rings = pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
orders = pytest.mark.parametrize("in_order", [False, True], ids=["any order", "in order"])


class Way:
    """One queue, both of its sides."""

    def __init__(
        self, ring_format: str, in_order: bool, device_writes: bool = False, size: int = SIZE
    ) -> None:
        features = Features(in_order=in_order)
        setup = Setup(
            ring_format=ring_format,
            size=size,
            slot_bytes=SLOT_BYTES,
            features=features,
            device_writes=device_writes,
        )
        self.rig = Rig(setup)
        self.driver: DriverRing = self.rig.native_driver()
        self.device: DeviceRing = self.rig.native_device()


def source(magic: int = MAGIC_DATA) -> FlowSource:
    return FlowSource(FLOW, magic, [FRAME_BYTES_MIN, 100], [HEADERS, HEADERS])


def expected(count: int) -> list[bytes]:
    """Return the first frames of the flow as the steps write them."""
    way, flow, frames = Way(SPLIT, False, size=1024), source(), Burst()
    written: list[bytes] = []
    while len(written) < count:
        way.driver.reserve(frames, min(256, count - len(written)))
        flow.fill(frames)
        written += contents(frames)
        way.driver.send(frames)
        way.device.fetch(taken := Burst())
        way.device.complete(taken)
    return written


FRAMES = expected(1500)


@rings
@orders
@given(
    wants=st.lists(st.integers(0, 400), max_size=6),
    takes=st.lists(st.integers(0, 256), min_size=1, max_size=6),
)
def test_transmit_sends_what_the_steps_would(
    ring_format: str, in_order: bool, wants: list[int], takes: list[int]
) -> None:
    way, flow, got = Way(ring_format, in_order), source(), list[bytes]()
    through, taken, sent_so_far = Burst(), Burst(), 0
    for turn, want in enumerate(wants):
        room = way.driver.reclaim()
        sent, byte_count, _kick = way.driver.transmit(flow, through, want)
        assert sent == min(want, room)
        assert byte_count == sum(map(len, FRAMES[sent_so_far : sent_so_far + sent]))
        sent_so_far += sent
        way.device.fetch(taken, takes[turn % len(takes)])
        got += contents(taken)
        way.device.complete(taken)
    while way.device.fetch(taken):
        got += contents(taken)
        way.device.complete(taken)
    assert got == FRAMES[:sent_so_far]


@rings
@orders
def test_transmit_leaves_crumbs(ring_format: str, in_order: bool) -> None:
    way, flow, through = Way(ring_format, in_order), source(), Burst()
    assert way.driver.transmit(flow, through, SIZE - 10)[0] == SIZE - 10
    assert way.driver.transmit(flow, through, 100, 11)[0] == 0
    assert way.driver.transmit(flow, through, 100, 10)[0] == 10


@rings
def test_transmit_refuses_frames_too_long_for_its_buffers(ring_format: str) -> None:
    way = Way(ring_format, False)
    flow = FlowSource(FLOW, MAGIC_DATA, [SLOT_BYTES], [HEADERS])
    with pytest.raises(ValueError, match="no room"):
        way.driver.transmit(flow, Burst(), 1)
    assert flow.sequence == 0


@rings
@orders
@given(sent=st.integers(0, SIZE), limit=st.integers(1, 300), checks=st.booleans())
def test_a_sink_takes_everything_up_to_the_limit(
    ring_format: str, in_order: bool, sent: int, limit: int, checks: bool
) -> None:
    way, inspector, counters = Way(ring_format, in_order), Inspector(), Pinned(bytearray(PORT_COUNTERS.size))
    sink = FlowSink(FLOW, MAGIC_DATA)
    inspector.add(sink)
    way.driver.transmit(source(), Burst(), sent)
    drain = SinkDrain(SinkStore(128 * 1024, FRAME_BYTES_MAX), inspector, counters)
    drain.begin(5, checks)
    taken, _call, stays = way.device.drain(drain, Burst(), limit)
    words = counters.words(0, PORT_COUNTERS.size)
    assert (taken, stays) == (min(sent, limit), False)
    assert words[PORT_COUNTERS.offset("frames_in") // 8] == taken
    assert (sink.received, sink.corrupted) == (taken if checks else 0, 0)
    way.driver.reclaim()
    assert way.driver.free == SIZE - sent + taken


class Switch:
    """A bridge's native part: a sender's queue, a receiver's, and where the receiver's address is."""

    def __init__(self, ring_format: str, in_order: bool, receive_size: int = SIZE) -> None:
        self.out = Way(ring_format, in_order)
        self.back = Way(ring_format, in_order, True, receive_size)
        self.back.driver.post_all()
        self.back.driver.disarm()
        self.table, self.counters = MacTable(), Pinned(bytearray(PORT_COUNTERS.size))
        for port, mac in enumerate((OWN, PEER)):
            self.table.open_port(port, True)
            self.table.fix(mac, port)
        self.ports = ForwardTable(self.table)
        self.forward = Forward(self.ports, 0, self.counters, 0, FRAME_BYTES_MAX)
        self.through = Burst()

    def move(self, limit: int = 1000) -> tuple[int, bool]:
        done, _call, stays = self.out.device.drain(self.forward, self.through, limit)
        return done, stays


@rings
@orders
@given(sent=st.integers(1, SIZE), room=st.sampled_from([16, 64, 256]))
def test_frames_for_one_port_go_there_until_it_is_full(
    ring_format: str, in_order: bool, sent: int, room: int
) -> None:
    net = Switch(ring_format, in_order, room)
    net.ports.open(1, [net.back.device])
    net.out.driver.transmit(source(), Burst(), sent)
    done, stays = net.move()
    sink, inspector = FlowSink(FLOW, MAGIC_DATA), Inspector()
    inspector.add(sink)
    got, _bytes, foreign, _requests, _kick = net.back.driver.receive(inspector, Burst(), 1000, 1)
    assert (got, foreign, sink.received, sink.reordered, sink.corrupted) == (min(sent, room), 0, got, 0, 0)
    assert stays == (sent > room)
    if stays:
        assert net.forward.targets == ([1], False)
        assert done + net.forward.reached == room
        assert len(net.through) > net.forward.reached


@rings
def test_what_only_python_can_deliver_stays(ring_format: str) -> None:
    net = Switch(ring_format, False)
    net.out.driver.transmit(source(), Burst(), 10)
    assert net.move() == (0, True)
    assert net.forward.targets == ([1], False)
    assert (net.forward.reached, len(net.through)) == (0, 10)
    net.ports.open(1, [net.back.device])
    net.ports.close(1)
    net.out.device.complete(net.through)
    net.out.driver.transmit(source(), Burst(), 10)
    assert net.move() == (0, True)


@rings
def test_frames_for_nobody_known_stay_to_be_flooded(ring_format: str) -> None:
    net = Switch(ring_format, False)
    net.ports.open(1, [net.back.device])
    net.table.drop_port(1)
    net.out.driver.transmit(source(), Burst(), 10)
    assert net.move() == (0, True)
    assert net.forward.targets[1]
    assert net.through.destination(0) == FLOOD


@rings
def test_a_pass_ends_where_a_driver_wants_a_call(ring_format: str) -> None:
    net = Switch(ring_format, False)
    net.ports.open(1, [net.back.device])
    net.back.driver.arm()
    net.out.driver.transmit(source(), Burst(), 200)
    done, stays = net.move()
    assert (0 < done < 200, stays) == (True, False)
    assert net.forward.take_called() == (1, True)
    assert net.forward.take_called() == (-1, False)
    net.back.driver.disarm()
    assert net.move() == (200 - done, False)


@rings
def test_a_queue_that_breaks_is_named_without_a_call(ring_format: str) -> None:
    net = Switch(ring_format, False)
    net.ports.open(1, [net.back.device])
    if ring_format == SPLIT:
        net.back.rig.split.avail_idx = SIZE + 1
    else:
        packed = net.back.rig.packed
        packed.describe(0, net.back.rig.slots_gpa, 0, avail_flags(True) | 2)
    net.out.driver.transmit(source(), Burst(), 5)
    assert net.move() == (5, False)
    assert net.back.device.fault
    assert net.forward.take_called() == (1, False)
    assert net.back.rig.counter("dropped_device_broken") == 5


@rings
@orders
def test_requests_stay_to_be_answered(ring_format: str, in_order: bool) -> None:
    net = Switch(ring_format, in_order)
    net.ports.open(1, [net.back.device])
    sink, inspector, through = FlowSink(FLOW, MAGIC_REQUEST), Inspector(), Burst()
    inspector.add(sink)
    net.out.driver.transmit(source(MAGIC_REQUEST), Burst(), 100)
    net.move()
    first = net.back.driver.receive(inspector, through, 1000, 1)
    assert 0 < first[0] < 100
    assert (first[3], len(through)) == (first[0], first[0])
    net.back.driver.post(through)
    rest = net.back.driver.receive(inspector, through, 1000, 1)
    assert (first[0] + rest[0], sink.received) == (100, 100)
