"""Frames of workloads: what the digest notices, and that loss, reordering, doubling and corruption are
counted exactly.

The oracle works on the list of what arrived, not frame by frame with a window, and knows what was done to it.
"""

import random
from array import array
from collections.abc import Sequence
from threading import Thread

import pytest

from testbed.native import (
    Burst,
    FlowSink,
    FlowSource,
    FrameStore,
    Gate,
    Inspector,
    ReplaySource,
    echo,
    frame_digest,
)
from testbed.spec.flow import (
    FRAME_BYTES_MAX,
    FRAME_BYTES_MIN,
    MAGIC_DATA,
    MAGIC_REPLY,
    MAGIC_REQUEST,
    TAG,
    TAG_OFFSET,
)
from tests.support.ring_model import Features
from tests.support.ring_pair import SPLIT, Rig, RxDevice, Setup, contents
from tests.support.transit import HEADERS, Mischief, Slots, counts, generated, inspect, replay

WINDOW = 65536
"""So far behind the newest frame late and double ones are told apart."""


# The digest and the frames


def test_digest_notices_every_single_bit() -> None:
    frame = bytearray(random.Random(1).randbytes(211))
    sound = frame_digest(frame)
    for bit in range(8 * len(frame)):
        frame[bit // 8] ^= 1 << bit % 8
        assert frame_digest(frame) != sound, f"bit {bit}"
        frame[bit // 8] ^= 1 << bit % 8


def test_digest_notices_swapped_words_and_another_length() -> None:
    rng = random.Random(2)
    frame = rng.randbytes(400)
    words = [frame[i : i + 4] for i in range(0, 400, 4)]
    for _ in range(300):
        a, b = rng.sample(range(100), 2)
        swapped = list(words)
        swapped[a], swapped[b] = words[b], words[a]
        assert frame_digest(b"".join(swapped)) != frame_digest(frame)
    lengths = {frame_digest(bytes(n)) for n in range(100)}
    assert len(lengths) == 100


@pytest.mark.parametrize("length", [0, 1, 3, 4, 65550, 65600, 65601, 300_000])
def test_digest_takes_any_length(length: int) -> None:
    """A capture may hold more than any frame has; what lies behind is not read."""
    assert frame_digest(bytes(length)) == frame_digest(bytearray(length))


def test_generated_frame_is_headers_payload_and_tag() -> None:
    frames = generated(7, (60, 61, 1514))
    assert [len(f) for f in frames] == [60, 61, 1514, 60, 61, 1514, 60]
    for sequence, frame in enumerate(frames):
        assert frame[:TAG_OFFSET] == HEADERS
        tag = TAG.unpack(frame, TAG_OFFSET)
        unsealed = frame[: TAG_OFFSET + 14] + bytes(4) + frame[TAG_OFFSET + 18 :]
        assert (tag["magic"], tag["flow"], tag["sequence"]) == (MAGIC_DATA, 1, sequence)
        assert tag["digest"] == frame_digest(unsealed)


def test_sequence_goes_on_from_burst_to_burst() -> None:
    source, slots = FlowSource(3, MAGIC_DATA, [60], [HEADERS]), Slots()
    slots.frames(source, 300)
    assert source.sequence == 300
    assert TAG.unpack(slots.frames(source, 1)[0], TAG_OFFSET)["sequence"] == 300


@pytest.mark.parametrize("sizes", [[], [59], [FRAME_BYTES_MAX + 1], [60] * 65])
def test_impossible_frame_sizes_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="frame"):
        FlowSource(1, MAGIC_DATA, sizes, [HEADERS] * len(sizes))


def test_headers_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="frame"):
        FlowSource(1, MAGIC_DATA, [60], [HEADERS[:-1]])


def test_buffer_that_is_too_small_is_not_written() -> None:
    with pytest.raises(ValueError, match="no room for a frame of 1514 bytes"):
        Slots(1513).frames(FlowSource(1, MAGIC_DATA, [60, 1514], [HEADERS] * 2), 1)
    with pytest.raises(ValueError, match="no room for a frame of 100 bytes"):
        Slots(99).frames(replay([bytes(100)]), 1)


@pytest.mark.parametrize("offsets", [[], [0], [0, 11], [4, 2], [0, 6, 4, 10], [0xFFFF_FFFF, 0xFFFF_FFFF]])
def test_offsets_that_leave_the_capture_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="replay"):
        ReplaySource(bytes(10), array("I", offsets).tobytes())


# What arrives of a generated flow


def test_untouched_flow_is_sound() -> None:
    inspector, sink = Inspector(), FlowSink(1, MAGIC_DATA)
    inspector.add(sink)
    frames = generated(1000, (60, 200, 1514))
    assert inspect(inspector, frames[:500], 100) == [500, 0, 0, 0]
    assert inspect(inspector, frames[500:], 350) == [500, 0, 0, 0]
    assert counts(sink) == (1000, 0, 0, 0)
    assert (sink.byte_count, sink.span_ns) == (sum(map(len, frames)), 250)


def test_every_kind_of_mischief_is_counted_exactly() -> None:
    for seed in range(80):
        rng = random.Random(seed)
        frames = generated(rng.choice((20, 300)), rng.choice(((60,), (60, 71, 594, 1514))))
        mischief = Mischief(rng, frames)
        for act in rng.sample(
            (mischief.lose, mischief.double, mischief.shuffle, mischief.flip), rng.randint(1, 4)
        ):
            act()
        inspector, sink = Inspector(), FlowSink(1, MAGIC_DATA)
        inspector.add(sink)
        mischief.corrupt = {p for p in mischief.corrupt if p < len(mischief.order)}
        inspect(inspector, mischief.arriving(frames))
        assert counts(sink) == mischief.expected(), f"seed {seed}"


def test_flow_that_arrives_in_two_threads_is_accounted_once() -> None:
    frames = generated(24_000, (1514,))
    inspectors, sink = (Inspector(), Inspector()), FlowSink(1, MAGIC_DATA)
    gate = Gate()
    for inspector in inspectors:
        inspector.share(gate)
        inspector.add(sink)
    threads = [
        Thread(target=inspect, args=(inspector, frames[part::2])) for part, inspector in enumerate(inspectors)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sink.received, sink.corrupted, sink.duplicated) == (24_000, 0, 0)
    assert (sink.byte_count, sink.next_sequence) == (24_000 * 1514, 24_000)


@pytest.mark.parametrize(("behind", "duplicated", "reordered"), [(WINDOW, 1, 0), (WINDOW + 1, 0, 1)])
def test_double_frame_is_told_from_a_late_one_within_the_window(
    behind: int, duplicated: int, reordered: int
) -> None:
    source, slots = FlowSource(1, MAGIC_DATA, [60], [HEADERS]), Slots()
    first = slots.frames(source, 1)
    inspector, sink = Inspector(), FlowSink(1, MAGIC_DATA)
    inspector.add(sink)
    inspect(inspector, first)
    inspect(inspector, slots.frames(source, behind - 1))
    inspect(inspector, first)
    assert (sink.duplicated, sink.reordered) == (duplicated, reordered)


@pytest.mark.parametrize("gap", [1, 63, 64, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW])
def test_gap_of_any_width_is_loss_and_what_comes_late_is_late(gap: int) -> None:
    source, slots = FlowSource(1, MAGIC_DATA, [60], [HEADERS]), Slots()
    inspector, sink = Inspector(), FlowSink(1, MAGIC_DATA)
    inspector.add(sink)
    inspect(inspector, slots.frames(source, 70))
    missing = slots.frames(source, gap)
    inspect(inspector, slots.frames(source, 5))
    assert (sink.received, sink.next_sequence) == (75, 75 + gap)
    late = missing[-100:]
    inspect(inspector, late)
    assert counts(sink) == (75 + len(late), len(late), 0, 0)
    inspect(inspector, late)
    assert counts(sink) == (75 + len(late), len(late), len(late), 0)


def test_frames_of_several_flows_are_kept_apart() -> None:
    inspector, sinks = Inspector(), [FlowSink(i, MAGIC_DATA) for i in range(3)]
    for sink in sinks:
        inspector.add(sink)
    flows = [generated(40, flow=i) for i in range(3)]
    mixed = [frame for row in zip(*flows, strict=True) for frame in row]
    assert inspect(inspector, mixed) == [120, 0, 0, 0]
    assert [counts(sink) for sink in sinks] == [(40, 0, 0, 0)] * 3


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(13),
        bytes(60),
        generated(1, flow=2)[0],
        generated(1, magic=MAGIC_REPLY)[0],
        generated(1)[0][:59],
        bytes(65550),
    ],
)
def test_frame_of_no_expected_flow_is_foreign(frame: bytes) -> None:
    inspector, sink = Inspector(), FlowSink(1, MAGIC_DATA)
    inspector.add(sink)
    assert inspect(inspector, [frame]) == [0, 0, 0, 1]
    assert inspector.foreign == 1
    assert counts(sink) == (0, 0, 0, 0)


def test_flow_that_is_no_longer_expected_is_foreign() -> None:
    inspector, sink = Inspector(), FlowSink(1, MAGIC_DATA)
    inspector.add(sink)
    inspector.remove(sink)
    inspector.remove(sink)
    assert inspect(inspector, generated(3)) == [0, 0, 0, 3]


def test_flow_expected_anew_replaces_the_one_before() -> None:
    inspector = Inspector()
    for _ in range(3):
        sink = FlowSink(1, MAGIC_DATA)
        inspector.add(sink)
        assert inspect(inspector, generated(5)) == [5, 0, 0, 0]
        assert counts(sink) == (5, 0, 0, 0)


def test_unchecked_flow_sees_loss_but_no_corruption() -> None:
    inspector, sink = Inspector(), FlowSink(1, MAGIC_DATA, checked=False)
    inspector.add(sink)
    frames = generated(10)
    frames[3] = frames[3][:-1] + b"\xff" if len(frames[3]) > 60 else frames[3]
    inspect(inspector, frames[:5] + frames[6:])
    assert counts(sink) == (9, 0, 0, 0)
    assert sink.next_sequence == 10


def test_frame_over_several_buffers_is_checked_as_one() -> None:
    rig = Rig(Setup(SPLIT, 256, Features(merge=True), 1, 100, device_writes=True))
    driver, device = rig.native_driver(), RxDevice(rig.native_device())
    driver.post_all()
    frames = generated(10, (60, 1000, 1514))
    assert device.deliver(frames) == 10
    device.publish()
    inspector, sink, burst = Inspector(), FlowSink(1, MAGIC_DATA), Burst()
    inspector.add(sink)
    driver.collect(burst)
    assert inspector.inspect(burst, 0) == (10, 0, 0, 0)
    assert counts(sink) == (10, 0, 0, 0)


# Requests and replies


def test_every_request_is_answered_once_and_both_ends_see_it_sound() -> None:
    requests = generated(20, (60, 333), magic=MAGIC_REQUEST)
    server, client = Inspector(), Inspector()
    asked, answered = FlowSink(1, MAGIC_REQUEST), FlowSink(1, MAGIC_REPLY)
    server.add(asked)
    client.add(answered)
    assert inspect(server, requests) == [0, 20, 0, 0]
    replies = answers(requests, 20)
    assert inspect(client, replies) == [0, 0, 20, 0]
    assert counts(asked) == counts(answered) == (20, 0, 0, 0)
    for request, reply in zip(requests, replies, strict=True):
        assert (reply[:6], reply[6:12]) == (request[6:12], request[:6])
        assert (reply[26:30], reply[30:34]) == (request[30:34], request[26:30])
        assert (reply[34:36], reply[36:38]) == (request[36:38], request[34:36])
        assert len(reply) == len(request)


def answers(requests: Sequence[bytes], room: int, slot_bytes: int = 2048) -> list[bytes]:
    rig, store, burst = Rig(Setup(SPLIT, 256, slot_bytes=slot_bytes)), FrameStore(), Burst()
    store.load(list(requests))
    driver = rig.native_driver()
    driver.reserve(burst, room)
    written = echo(store, burst)
    driver.release(burst, written)
    return contents(burst)


def test_only_requests_that_fit_are_answered() -> None:
    data, request = generated(1)[0], generated(1, magic=MAGIC_REQUEST)[0]
    large = generated(1, (500,), magic=MAGIC_REQUEST)[0]
    assert len(answers([data, request, b"", bytes(59), large, request], 6, slot_bytes=200)) == 2
    assert len(answers([request] * 5, 3)) == 3
    assert answers([request], 0) == []


def test_smallest_generated_frame_is_the_smallest_of_ethernet() -> None:
    assert FRAME_BYTES_MIN == 60
