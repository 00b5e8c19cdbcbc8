"""Bursts between rings: the face for Python, gathering and scattering, receivers that fall behind, merged
buffers.
"""

import random
from collections.abc import Callable

import pytest

from testbed.native import (
    DROP,
    FLOOD,
    FRAMES_MAX,
    Burst,
    FrameStore,
    MacTable,
    Pinned,
    Regions,
    SplitDevice,
    deliver_spread,
)
from testbed.spec.port_counters import PORT_COUNTERS
from tests.support.raw_ring import NEXT, RawSplitRing
from tests.support.ring_model import HEADER_BYTES, NUM_BUFFERS_OFFSET, Features
from tests.support.ring_pair import (
    PACKED,
    PORT,
    SPLIT,
    Rig,
    RxDevice,
    RxDriver,
    Setup,
    TxDevice,
    TxDriver,
    contents,
)
from tests.support.strict_memory import StrictMemory

formats = pytest.mark.parametrize("ring_format", [SPLIT, PACKED])


def store_of(*frames: bytes) -> FrameStore:
    store = FrameStore()
    store.load(list(frames))
    return store


def test_store_keeps_frames_as_they_are() -> None:
    frames = [b"", b"a", bytes(65550), b"xyz"]
    store = store_of(*frames)
    assert len(store) == 4
    assert contents(store) == frames
    assert [store.frame_length(i) for i in range(4)] == [len(f) for f in frames]
    assert store.byte_count == sum(len(f) for f in frames)
    assert [store.destination(i) for i in range(4)] == [FLOOD] * 4


def test_store_refuses_more_than_a_burst_holds() -> None:
    store = store_of(*[b"x"] * FRAMES_MAX)
    assert len(store) == FRAMES_MAX
    with pytest.raises(ValueError, match=f"holds {FRAMES_MAX} frames, not {FRAMES_MAX + 1}"):
        store.load([b"x"] * (FRAMES_MAX + 1))


@pytest.mark.parametrize("read", [Burst.frame_bytes, Burst.frame_length, Burst.destination])
def test_index_behind_the_last_frame_is_refused(read: Callable[[Burst, int], object]) -> None:
    with pytest.raises(IndexError, match="a burst of 2 frames has no frame 2"):
        read(store_of(b"a", b"b"), 2)


def test_truncated_burst_has_its_first_frames() -> None:
    store = store_of(b"a", b"bb", b"ccc")
    store.truncate(5)
    assert len(store) == 3
    store.truncate(2)
    assert contents(store) == [b"a", b"bb"]
    store.clear()
    assert (len(store), store.byte_count) == (0, 0)


def test_frames_for_a_port_are_its_own_and_the_flooded() -> None:
    store = store_of(*[b"x"] * 5)
    assert store.count_for(3, 0) == 5
    store.send_all_to(3)
    assert (store.count_for(3, 0), store.count_for(3, 4), store.count_for(2, 0)) == (5, 1, 0)
    store.send_all_to(DROP)
    assert store.count_for(3, 0) == 0


def test_regions_are_bounds() -> None:
    memory = Regions()
    memory.add(0x1000, Pinned(bytearray(0x100)), 0x10, 0x20)
    memory.add(0x1020, Pinned(bytearray(b"b" * 16)))
    assert memory.contains(0x1000, 0x20)
    assert not memory.contains(0x1000, 0x21)
    assert not memory.contains(0xFFF, 1)
    assert not memory.contains((1 << 64) - 1, 2)
    assert memory.read(0x1020, 16) == b"b" * 16
    assert memory.read(0x1020, 17) is None
    assert memory.write(0x102F, b"c")
    assert not memory.write(0x1030, b"c")
    assert memory.read(0x101F, 1) == b"\0"


@pytest.mark.parametrize(("offset", "size_bytes"), [(-1, 1), (0, 17), (16, 1), (17, -1)])
def test_region_outside_of_its_buffer_is_refused(offset: int, size_bytes: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Regions().add(0x1000, Pinned(bytearray(16)), offset, size_bytes)


def test_region_that_wraps_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Regions().add((1 << 64) - 8, Pinned(bytearray(16)))


class RandomLayout:
    """A split queue whose one chain is cut anywhere, also at the border of two regions."""

    def __init__(self, rng: random.Random, length: int, device_writes: bool) -> None:
        self.rng, self.length = rng, length
        self.memory = StrictMemory(4096, 4096, 4096)
        base = self.memory.base + 8192
        self.ring = RawSplitRing(self.memory, 16, base, base + 256, base + 296)
        self.places = (base, base + 256, base + 296)
        self.gpa = rng.randrange(self.memory.base, self.memory.base + 8192 - length)
        cuts = sorted(rng.sample(range(1, length), min(length - 1, rng.randint(0, 12))))
        ends = [*cuts, length]
        starts = [0, *cuts]
        for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
            flags = 2 * device_writes | NEXT * (i + 1 < len(ends))
            self.ring.describe(i, self.gpa + start, end - start, flags, (i + 1) % 16)
        self.ring.offer(0)
        self.rig = Rig(Setup(SPLIT, 16))  # for its counters

    def device(self) -> SplitDevice:
        """Return the native device on it."""
        return SplitDevice(self.memory.regions, 16, *self.places, self.rig.counters)


def test_frames_pass_between_any_two_cuts_of_their_buffers() -> None:
    for seed in range(400):
        rng = random.Random(seed)
        length = rng.choice((13, 26, 72, rng.randint(13, 4000)))
        sender, receiver = RandomLayout(rng, length, False), RandomLayout(rng, length, True)
        frame = rng.randbytes(length - HEADER_BYTES)
        sender.memory.write(sender.gpa, bytes(HEADER_BYTES) + frame)
        burst, to, source = Burst(), receiver.device(), sender.device()
        assert source.fetch(burst) == 1
        assert contents(burst) == [frame], f"seed {seed}"
        burst.send_all_to(PORT)
        assert to.deliver(burst, 0, PORT) == 1
        assert receiver.memory.read(receiver.gpa + HEADER_BYTES, len(frame)) == frame, f"seed {seed}"
        assert to.bytes_copied == len(frame)
        sender.memory.assert_intact()
        receiver.memory.assert_intact()


@formats
def test_receivers_that_fall_behind_get_every_frame_in_order(ring_format: str) -> None:
    """Floods and frames for one port, mixed; each receiver has its own cursor and as many buffers as it
    likes.
    """
    for seed in range(60):
        rng = random.Random(seed)
        receivers = {port: Receiver(ring_format, rng.choice((1, 2, 4, 8))) for port in (1, 2, 7)}
        for _ in range(4):
            store, destinations = mixed_burst(rng, list(receivers))
            cursors = dict.fromkeys(receivers, 0)
            while cursors:
                port = rng.choice(list(cursors))
                cursors[port] = receivers[port].deliver(store, cursors[port], port)
                if rng.random() < 0.5:
                    receivers[port].collect()
                if cursors[port] == len(store):
                    del cursors[port]
            for port, receiver in receivers.items():
                receiver.collect()
                expected = [
                    f for f, to in zip(contents(store), destinations, strict=True) if to in (port, FLOOD)
                ]
                assert receiver.frames == expected, f"seed {seed}"
                receiver.frames = []


class Receiver:
    """A receive queue with a few buffers."""

    def __init__(self, ring_format: str, size: int) -> None:
        rig = Rig(Setup(ring_format, size, slot_bytes=128, device_writes=True))
        self.ring, self._driver = rig.native_device(), RxDriver(rig.native_driver())
        self._driver.post_all()
        self.frames: list[bytes] = []

    def deliver(self, burst: Burst, first: int, port: int) -> int:
        reached = self.ring.deliver(burst, first, port)
        self.ring.publish()
        return reached

    def collect(self) -> None:
        self.frames += self._driver.collect()[0]


def mixed_burst(rng: random.Random, ports: list[int]) -> tuple[FrameStore, list[int]]:
    """Return a burst classified to the ports, to all and to none."""
    table, source, unknown = MacTable(64), b"\2" + bytes(5), b"\4" + bytes(5)
    macs = {port: bytes((2, 0, 0, 0, 1, port)) for port in ports}
    for port in (*ports, 9):
        table.open_port(port, True)
    for port, mac in macs.items():
        table.fix(mac, port)
    table.fix(b"\x06" + bytes(5), 9)
    to = [rng.choice((*ports, FLOOD, DROP)) for _ in range(rng.randint(1, 30))]
    frames = [
        (macs[port] if port in macs else unknown if port == FLOOD else b"\x06" + bytes(5))
        + source
        + rng.randbytes(48)
        for port in to
    ]
    store = store_of(*frames)
    table.classify(store, 9, 0, Pinned(bytearray(PORT_COUNTERS.size)), 0, 65550)
    assert [store.destination(i) for i in range(len(to))] == to
    return store, to


@formats
@pytest.mark.parametrize("buffers", [1, 2, 5, 8])
def test_num_buffers_says_how_many_buffers_a_frame_took(ring_format: str, buffers: int) -> None:
    rig = Rig(Setup(ring_format, 8, Features(merge=True), 1, 64, device_writes=True))
    device, driver = rig.native_device(), rig.native_driver()
    driver.post_all()
    frame = bytes(range(256)) * 2
    frame = frame[: 64 * buffers - HEADER_BYTES]
    assert device.deliver(store_of(frame), 0, FLOOD) == 1
    device.publish()
    assert rig.memory.load(rig.slots_gpa + NUM_BUFFERS_OFFSET, 2) == buffers
    burst = Burst()
    assert driver.collect(burst) == 1
    assert contents(burst) == [frame]


@formats
def test_num_buffers_is_one_where_buffers_are_not_merged(ring_format: str) -> None:
    """§5.1.6.3.2: always 1 without MRG_RXBUF."""
    rig = Rig(Setup(ring_format, 8, Features(), 1, 64, device_writes=True))
    device, driver = rig.native_device(), rig.native_driver()
    rig.memory.write(rig.slots_gpa, b"\xff" * 64)
    driver.post_all()
    assert device.deliver(store_of(bytes(52)), 0, FLOOD) == 1
    assert rig.memory.read(rig.slots_gpa, HEADER_BYTES) == bytes(10) + b"\1\0"


@formats
@pytest.mark.parametrize("features", [Features(), Features(merge=True)], ids=str)
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_frame_that_never_fits_is_dropped_and_takes_no_buffer(
    ring_format: str, features: Features, parts: int
) -> None:
    """Without MRG_RXBUF one buffer must hold it, with it all buffers that the ring can have."""
    rig = Rig(Setup(ring_format, 8, features, parts, 128, device_writes=True))
    device, driver = rig.native_device(), RxDriver(rig.native_driver())
    driver.post_all()
    most = 128 * (8 // parts if features.merge else 1) - HEADER_BYTES
    frames = [bytes(most + 1), b"\1" * most, bytes(most + 1)]
    assert device.deliver(store_of(*frames[:1]), 0, FLOOD) == 1
    assert device.deliver(store_of(*frames[1:2]), 0, FLOOD) == 1
    device.publish()
    assert driver.collect()[0] == [b"\1" * most]
    assert (rig.counter("frames_out"), rig.counter("dropped_rx_too_small")) == (1, 1)
    assert device.fault == 0


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_frame_over_more_small_buffers_than_we_handle_is_dropped_and_breaks_nothing(parts: int) -> None:
    """§5.1.6.3.1 allows buffers as small as a header: such a driver is odd, not hostile."""
    rig = Rig(Setup(SPLIT, 8192, Features(merge=True, indirect=True), parts, 24, device_writes=True))
    device, driver = rig.native_device(), RxDriver(rig.native_driver())
    driver.post_all()
    assert device.deliver(store_of(bytes(65550), b"small" * 12), 0, FLOOD) == 2
    device.publish()
    assert driver.collect()[0] == [b"small" * 12]
    assert rig.counter("dropped_rx_too_small") == 1
    assert device.fault == 0


@formats
@pytest.mark.parametrize("features", [Features(merge=True), Features(merge=True, event_idx=True)], ids=str)
def test_too_few_buffers_for_a_frame_are_no_work_until_there_are_more(
    ring_format: str, features: Features
) -> None:
    """Else whoever waits with such a frame would never sleep."""
    rig = Rig(Setup(ring_format, 4, features, 1, 128, device_writes=True))
    device, driver, burst = rig.native_device(), rig.native_driver(), Burst()
    driver.post_all()
    two_buffers, three_buffers = store_of(bytes(200)), store_of(bytes(300))
    assert device.deliver(two_buffers, 0, FLOOD) == 1
    device.publish()
    assert driver.collect(burst) == 1
    assert device.deliver(three_buffers, 0, FLOOD) == 0
    assert (device.ready, device.arm()) == (False, False)

    assert driver.post(burst)

    assert (device.ready, device.arm()) == (True, True)
    assert device.deliver(three_buffers, 0, FLOOD) == 1


@formats
def test_buffers_that_do_not_suffice_for_one_frame_still_serve_another(ring_format: str) -> None:
    rig = Rig(Setup(ring_format, 4, Features(merge=True), 1, 128, device_writes=True))
    device, driver, burst = RxDevice(rig.native_device()), rig.native_driver(), Burst()
    driver.post_all()
    assert device.deliver([bytes(200)]) == 1
    assert device.deliver([bytes(300)]) == 0
    assert device.deliver([b"x" * 60]) == 1
    device.publish()
    driver.collect(burst)
    assert contents(burst) == [bytes(200), b"x" * 60]


@formats
def test_released_buffers_are_free_again(ring_format: str) -> None:
    rig = Rig(Setup(ring_format, 8, slot_bytes=128))
    driver, burst = rig.native_driver(), Burst()
    assert driver.buffers == 8
    assert driver.reserve(burst, 5) == 5
    driver.release(burst, 2)
    assert (len(burst), driver.free) == (2, 6)
    driver.release(burst)
    assert (len(burst), driver.free) == (0, 8)
    frames = [bytes((i,)) * 60 for i in range(8)]
    assert TxDriver(driver).send(frames)[0] == 8
    assert TxDevice(rig.native_device()).fetch(FRAMES_MAX) == frames


def flow_frame(rng: random.Random, flow: int, number: int) -> bytes:
    """Return a UDP frame of one of a few flows, with its number behind the headers."""
    addresses = bytes((10, 0, 0, flow, 10, 0, 0, 99))
    ip = b"\x45" + bytes(8) + b"\x11" + bytes(2) + addresses
    return (
        bytes(12) + b"\x08\0" + ip + (1000 + flow).to_bytes(2, "big") + bytes(6) + number.to_bytes(4, "big")
    )


@formats
def test_flows_are_spread_over_queues_and_each_keeps_its_order(ring_format: str) -> None:
    """Whichever queue is full, its flow waits and nothing is lost, doubled or overtaken within a flow."""
    for seed in range(20):
        rng = random.Random(seed)
        queues = [Receiver(ring_format, rng.choice((1, 2, 8))) for _ in range(rng.randint(1, 4))]
        frames = [flow_frame(rng, rng.randrange(12), n) for n in range(60)]
        store, first = store_of(*frames), 0
        store.send_all_to(PORT)
        while first < len(store):
            first = deliver_spread([queue.ring for queue in queues], store, first, PORT)
            for queue in queues:
                queue.ring.publish()
                queue.collect()
        by_flow = {frame[29]: {i for i, q in enumerate(queues) if frame in q.frames} for frame in frames}
        assert all(len(used) == 1 for used in by_flow.values()), f"seed {seed}"
        for queue in queues:
            for flow in by_flow:
                arrived = [f for f in queue.frames if f[29] == flow]
                assert arrived == [f for f in frames if f[29] == flow and f in queue.frames]
        assert sorted(f for q in queues for f in q.frames) == sorted(frames)


def test_many_flows_use_every_queue() -> None:
    queues = [Receiver(SPLIT, 256) for _ in range(4)]
    store = store_of(*(flow_frame(random.Random(0), n, n) for n in range(200)))
    store.send_all_to(PORT)
    assert deliver_spread([queue.ring for queue in queues], store, 0, PORT) == 200
    for queue in queues:
        queue.ring.publish()
        queue.collect()
        assert len(queue.frames) > 20
