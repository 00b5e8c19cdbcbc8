"""The wire: order, room, latency, rate, seeded loss, and an end that writes nonsense."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.native import Pinned, SharedWords, WireReceiver, WireSender
from testbed.spec import wire as spec
from tests.support.recorders import ManualClock


class Wire:
    """Both ends of one direction, and a clock."""

    def __init__(self, ring_bytes: int = spec.RING_BYTES_MIN, **shape: float) -> None:
        self.page = Pinned(bytearray(spec.wire_bytes(ring_bytes)))
        self.sender = WireSender(self.page, **shape)  # type: ignore[arg-type]
        self.receiver = WireReceiver(self.page)
        self.clock = ManualClock()

    def put(self, frame: bytes) -> bool:
        return self.sender.put(frame, self.clock())

    def take(self) -> bytes | None:
        return self.receiver.take(self.clock())

    def take_all(self) -> list[bytes]:
        frames = []
        while (frame := self.take()) is not None:
            frames.append(frame)
        return frames


def test_frames_arrive_in_order_and_whole() -> None:
    wire = Wire()
    frames = [bytes([n]) * (60 + n) for n in range(20)]
    assert all(wire.put(frame) for frame in frames)
    assert wire.receiver.ready
    assert wire.take_all() == frames
    assert not wire.receiver.ready


def test_full_wire_takes_no_frame_and_loses_none() -> None:
    wire = Wire()
    sent = 0
    while wire.put(sent.to_bytes(4, "big") * 15):
        sent += 1
    assert sent == spec.RING_BYTES_MIN // 80
    assert not wire.sender.has_room()
    assert [int.from_bytes(f[:4], "big") for f in wire.take_all()] == list(range(sent))
    assert wire.sender.has_room()
    assert wire.put(bytes(60))


@given(st.lists(st.integers(18, spec.FRAME_BYTES_MAX), max_size=60), st.integers(1, 5))
def test_frames_of_any_size_cross_the_rings_end(sizes: list[int], together: int) -> None:
    wire = Wire()
    expected, got = [], []
    for number, size in enumerate(sizes):
        frame = bytes([number % 256]) * size
        if not wire.put(frame):
            got += wire.take_all()
            assert wire.put(frame)
        expected.append(frame)
        if number % together == 0:
            got += wire.take_all()
    assert got + wire.take_all() == expected


def test_latency_delays_every_frame() -> None:
    wire = Wire(latency_ns=1000)
    wire.put(b"a" * 60)
    wire.clock.advance(400)
    wire.put(b"b" * 60)
    assert wire.take() is None
    wire.clock.advance(600)
    assert wire.take() == b"a" * 60
    assert wire.take() is None
    wire.clock.advance(400)
    assert wire.take() == b"b" * 60


def test_rate_spaces_frames_by_what_they_cost_on_the_wire() -> None:
    wire = Wire(bits_per_second=1_000_000_000)
    for _ in range(10):
        wire.put(bytes(60))
    wire.clock.advance(671)
    assert wire.take() is None, "84 bytes are 672 ns at 1 Gb/s"
    wire.clock.advance(1)
    assert wire.take() is not None
    wire.clock.advance(8 * 672 - 1)
    assert len(wire.take_all()) == 7
    wire.clock.advance(673)
    assert len(wire.take_all()) == 2


def losses(seed: int) -> list[int]:
    wire = Wire(loss=0.25, seed=seed)
    got = []
    for number in range(2000):
        assert wire.put(number.to_bytes(4, "big") * 5)
        got += [int.from_bytes(f[:4], "big") for f in wire.take_all()]
    assert wire.sender.lost == 2000 - len(got)
    return got


def test_loss_is_what_the_seed_says() -> None:
    first = losses(7)
    assert first == losses(7)
    assert first != losses(8)
    assert 1400 < len(first) < 1600
    assert first == sorted(first)


@pytest.mark.parametrize("loss", [-0.1, 1.1])
def test_loss_is_a_share(loss: float) -> None:
    with pytest.raises(ValueError, match="share"):
        Wire(loss=loss)


@pytest.mark.parametrize("ring_bytes", [0, 4096, 65536 + 16, 100_000])
def test_ring_must_be_a_power_of_two(ring_bytes: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Wire(ring_bytes)


@given(st.integers(0, 2**32 - 1))
def test_receiver_survives_any_content(seed: int) -> None:
    wire = Wire()
    dice = random.Random(seed)
    view = wire.page.bytes_view()
    view[spec.WIRE.size : spec.WIRE.size + 512] = dice.randbytes(512)
    SharedWords(wire.page).store64(
        spec.WIRE.offset("produced"), dice.choice([16, 64, 65536, 2**63, 2**64 - 16])
    )
    for _ in range(200):
        if wire.receiver.take(2**63) is None:
            break
    assert wire.receiver.broken or wire.receiver.take(2**63) is None


@pytest.mark.parametrize(
    "produced", [32, spec.RING_BYTES_MIN - 16, 2 * spec.RING_BYTES_MIN, 2**63, 2**64 - 16]
)
def test_ring_that_is_skipped_for_ever_is_broken(produced: int) -> None:
    wire = Wire()
    wire.page.bytes_view()[spec.WIRE.size :][:4] = spec.SKIP.to_bytes(4, "little")
    SharedWords(wire.page).store64(spec.WIRE.offset("produced"), produced)
    assert wire.receiver.take(0) is None
    assert wire.receiver.broken


def test_frame_that_is_not_all_there_is_none() -> None:
    wire = Wire()
    wire.put(bytes(60))
    SharedWords(wire.page).store64(spec.WIRE.offset("produced"), 16)
    assert wire.take() is None
    assert wire.receiver.broken


def test_who_waits_for_room_says_so() -> None:
    wire = Wire()
    words = SharedWords(wire.page)
    waits = spec.WIRE.offset("sender_waits")
    while wire.put(bytes(9000)):
        assert words.load32(waits) == 0
    assert words.load32(waits) == 1
    wire.take_all()
    assert wire.put(bytes(60))
    assert words.load32(waits) == 0
