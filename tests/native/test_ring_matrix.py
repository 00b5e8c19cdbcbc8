"""Every combination of ring format, features, queue size, buffer layout and frame size, native code and model
on either side.

Layouts and frame sizes are drawn for each case by a generator seeded with the case: over all cases each pair
of them comes up often.
"""

import itertools
import random

import pytest

from tests.support.conversation import MODEL, NATIVE, Conversation, Reception, Transmission, frames_of
from tests.support.ring_model import HEADER_BYTES, Features
from tests.support.ring_pair import PACKED, SPLIT, Rig, Setup

FEATURES = [Features(*bits) for bits in itertools.product((False, True), repeat=4)]
PAIRS = ((NATIVE, NATIVE), (NATIVE, MODEL), (MODEL, NATIVE))
SIZES = (1, 2, 4, 256)
PACKED_SIZES = (3, 7)
"""§2.8: a packed queue's size need not be a power of two."""
LARGEST_SIZE = 32768
FRAME_BYTES = (14, 60, 1514, 9000, 65550)
PARTS = (1, 2, 3, 4)
LAYOUTS_PER_CASE = 2

features = pytest.mark.parametrize("features", FEATURES, ids=str)
pairs = pytest.mark.parametrize(("driver", "device"), PAIRS)
queues = pytest.mark.parametrize(
    ("ring_format", "size"),
    [*((SPLIT, n) for n in SIZES), *((PACKED, n) for n in SIZES + PACKED_SIZES)],
)


def fits(ring_format: str, size: int, features: Features, parts: int) -> bool:
    """Say whether buffers of `parts` descriptors can go into the ring."""
    # §2.7.5.1: with IN_ORDER a chain goes on at the table's head, which fixed descriptors of a buffer do not
    table_end = ring_format == SPLIT and features.in_order and not features.indirect
    return parts <= size and not (table_end and size % parts)


def layouts(
    ring_format: str, size: int, features: Features, rng: random.Random
) -> list[tuple[int, int, int]]:
    """Return some (parts, bytes of a frame, frames)."""
    possible = [p for p in PARTS if fits(ring_format, size, features, p)]
    drawn = rng.sample(list(itertools.product(possible, FRAME_BYTES)), LAYOUTS_PER_CASE)
    return [(parts, length, 30 if length < 2000 else 6) for parts, length in drawn]


@queues
@features
@pairs
def test_transmit_queue_keeps_every_frame_and_every_notification(
    ring_format: str, size: int, features: Features, driver: str, device: str
) -> None:
    rng = random.Random(f"{ring_format} {size} {features} {driver} {device}")
    for parts, length, count in layouts(ring_format, size, features, rng):
        slot_bytes = HEADER_BYTES + length + rng.randrange(5)
        setup = Setup(ring_format, size, features, parts, slot_bytes, buffers_max=rng.choice((2, 1000)))
        Transmission(Rig(setup), driver, device, frames_of(rng, count, length), rng).run()


@queues
@features
@pairs
def test_receive_queue_keeps_every_frame_and_every_notification(
    ring_format: str, size: int, features: Features, driver: str, device: str
) -> None:
    rng = random.Random(f"{ring_format} {size} {features} {driver} {device}")
    for parts, length, count in layouts(ring_format, size, features, rng):
        setup = receive_setup(ring_format, size, features, parts, length, rng)
        Reception(Rig(setup), driver, device, frames_of(rng, count, length), rng).run()


def receive_setup(
    ring_format: str, size: int, features: Features, parts: int, length: int, rng: random.Random
) -> Setup:
    """Return buffers for frames of `length` bytes; with MRG_RXBUF a frame takes several, at most all."""
    need = HEADER_BYTES + length
    whole = Setup(ring_format, size, features, parts, need, device_writes=True)
    over = rng.randint(1, min(whole.buffers, 40)) if features.merge else 1
    slot_bytes = max(HEADER_BYTES + parts, -(-need // over))
    return Setup(ring_format, size, features, parts, slot_bytes, device_writes=True)


some_features = pytest.mark.parametrize(
    "features", [Features(), Features(event_idx=True), Features(True, True, True, True)], ids=str
)


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
@some_features
@pairs
def test_largest_queue_wraps(ring_format: str, features: Features, driver: str, device: str) -> None:
    rng = random.Random(f"{ring_format} {features} {driver} {device}")
    index = LARGEST_SIZE - 300 if driver == MODEL else 0
    count = 700 if MODEL in (driver, device) else LARGEST_SIZE + 300
    frames = frames_of(rng, count, 14)
    sending = Setup(ring_format, LARGEST_SIZE, features, 2, 32, buffers_max=200)
    receiving = Setup(ring_format, LARGEST_SIZE, features, 1, 32, device_writes=True, buffers_max=200)
    Transmission(Rig(sending), driver, device, frames, rng, index).run()
    Reception(Rig(receiving), driver, device, frames, rng, index).run()


@pytest.mark.parametrize("size", [1, 4, 256, LARGEST_SIZE])
@some_features
def test_free_running_index_wraps_at_65536_under_the_native_device(size: int, features: Features) -> None:
    rng = random.Random(f"{size} {features}")
    frames = frames_of(rng, 120, 60)
    sending = Setup(SPLIT, size, features, 1, 80, buffers_max=50)
    receiving = Setup(SPLIT, size, features, 1, 80, device_writes=True, buffers_max=50)
    Transmission(Rig(sending), MODEL, NATIVE, frames, rng, 65500).run()
    Reception(Rig(receiving), MODEL, NATIVE, frames, rng, 65500).run()


@pytest.mark.parametrize("kind", [Transmission, Reception])
def test_free_running_index_wraps_at_65536_under_the_native_driver(kind: type[Conversation]) -> None:
    rng = random.Random(kind.__name__)
    setup = Setup(SPLIT, 256, Features(event_idx=True), 1, 32, device_writes=kind is Reception)
    conversation = kind(Rig(setup), NATIVE, NATIVE, frames_of(rng, 65536 - 100, 14), rng)
    conversation.run()
    conversation.replace_device_by_model()
    conversation.say(frames_of(rng, 300, 14))
    conversation.run()
