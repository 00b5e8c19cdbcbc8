"""The sink's copies, the echo's addresses, and the bare ring that ours are measured against."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.native import DROP, BareRing, Burst, EchoDrain, FrameStore, Pinned, SinkStore
from testbed.spec.flow import ETHERNET
from testbed.spec.port_counters import PORT_COUNTERS

FRAME_MAX = 300
STORE_BYTES = 4 * FRAME_MAX


def counters() -> Pinned:
    return Pinned(bytearray(PORT_COUNTERS.size))


def counted(page: Pinned, name: str) -> int:
    return int(page.words(PORT_COUNTERS.offset(name), 8)[0])


def loaded(frames: list[bytes]) -> FrameStore:
    store = FrameStore()
    store.load(frames)
    return store


def contents(burst: Burst) -> list[bytes]:
    return [burst.frame_bytes(i) for i in range(len(burst))]


def is_sound(frame: bytes) -> bool:
    return ETHERNET.size <= len(frame) <= FRAME_MAX


@given(st.lists(st.binary(max_size=2 * FRAME_MAX), max_size=40))
def test_a_sink_takes_every_sound_frame_once_part_by_part(frames: list[bytes]) -> None:
    source, store, page = loaded(frames), SinkStore(STORE_BYTES, FRAME_MAX), counters()
    taken: list[bytes] = []
    first = 0
    while first < len(frames):
        reached = store.take(source, first, page)
        assert reached > first
        taken += contents(store)
        first = reached

    sound = [frame for frame in frames if is_sound(frame)]
    assert taken == sound
    assert counted(page, "frames_in") == len(frames)
    assert counted(page, "bytes_in") == sum(map(len, sound))
    assert counted(page, "dropped_too_long") == sum(len(frame) > FRAME_MAX for frame in frames)
    assert counted(page, "dropped_too_short") == sum(len(frame) < ETHERNET.size for frame in frames)


def test_a_sink_has_copies_of_its_own() -> None:
    source, store = loaded([b"a" * 60, b"b" * 60]), SinkStore(STORE_BYTES, FRAME_MAX)
    store.take(source, 0, counters())
    source.load([b"c" * 60, b"d" * 60])

    assert contents(store) == [b"a" * 60, b"b" * 60]


def test_a_sink_that_keeps_nothing_counts_the_same() -> None:
    source, store, page = loaded([b"a" * 60] * 3), SinkStore(STORE_BYTES, FRAME_MAX), counters()

    assert store.take(source, 0, page, keep=False) == 3
    assert len(store) == 0
    assert (counted(page, "frames_in"), counted(page, "bytes_in")) == (3, 180)


def test_a_store_must_hold_the_longest_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame of 300 bytes"):
        SinkStore(FRAME_MAX - 1, FRAME_MAX)


def test_counters_must_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        SinkStore(STORE_BYTES, FRAME_MAX).take(loaded([b"a" * 60]), 0, counters(), offset=8)


@given(st.lists(st.binary(max_size=2 * FRAME_MAX), max_size=40))
def test_an_echo_addresses_sound_frames_and_drops_the_others(frames: list[bytes]) -> None:
    burst, page = loaded(frames), counters()
    assert not EchoDrain(3, FRAME_MAX, page).take_burst(burst)

    assert [burst.destination(i) for i in range(len(frames))] == [
        3 if is_sound(frame) else DROP for frame in frames
    ]
    assert counted(page, "frames_in") == len(frames)
    assert counted(page, "bytes_in") == sum(len(frame) for frame in frames if is_sound(frame))


@pytest.mark.parametrize(
    "roles", [(BareRing.SEND, BareRing.SINK), (BareRing.SEND | BareRing.RECEIVE, BareRing.FORWARD)]
)
@pytest.mark.parametrize("in_flight", [0, 1])
def test_a_bare_ring_moves_frames_until_it_is_stopped(roles: tuple[int, int], in_flight: int) -> None:
    shared = Pinned(bytearray(BareRing.bytes_needed(64, 60)))
    ring = BareRing(shared, 64, 60)
    ring.prepare()
    limit = in_flight if roles[0] & BareRing.RECEIVE else 0
    sides = [threading.Thread(target=BareRing(shared, 64, 60).run, args=(role, limit)) for role in roles]
    for side in sides:
        side.start()
    while ring.frames < 1000:
        pass
    ring.stop()
    for side in sides:
        side.join()

    assert ring.frames >= 1000


@pytest.mark.parametrize(("size", "frame_bytes"), [(0, 60), (48, 60), (65536, 60), (64, 59)])
def test_a_bare_ring_of_no_possible_size_is_refused(size: int, frame_bytes: int) -> None:
    with pytest.raises(ValueError, match="a power of two"):
        BareRing(Pinned(bytearray(1 << 20)), size, frame_bytes)


def test_a_bare_ring_needs_its_memory() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        BareRing(Pinned(bytearray(4096)), 64, 60)
