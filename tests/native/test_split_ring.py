"""The native split queue by itself: what it writes where and when, what it asks for, and what it refuses.

What it does with frames is in test_ring_matrix; reference: virtio 1.2 §2.7.
"""

import random

import pytest

from testbed.native import Burst, FrameStore, Pinned, Regions, SplitDevice, SplitDriver
from testbed.spec.port_counters import PORT_COUNTERS
from tests.support.raw_ring import INDIRECT, NEXT, WRITE, write_table_entry
from tests.support.ring_model import HEADER_BYTES, Features
from tests.support.ring_pair import SPLIT, Rig, Setup, contents, fill
from tests.support.strict_memory import StrictMemory

PLAIN = Features()
EVENTS = Features(event_idx=True)
FRAME = bytes(range(60))


def rig_of(features: Features = PLAIN, parts: int = 1, device_writes: bool = False) -> Rig:
    """Return a queue of eight entries."""
    return Rig(Setup(SPLIT, 8, features, parts, 256, device_writes))


def send(driver: SplitDriver, count: int) -> bool:
    """Send frames; return whether the device wants a kick."""
    burst = Burst()
    driver.reserve(burst, count)
    fill(burst, [FRAME] * count)
    return driver.send(burst)


def sides(rig: Rig) -> tuple[SplitDriver, SplitDevice]:
    driver, device = rig.native_driver(), rig.native_device()
    assert isinstance(driver, SplitDriver)
    assert isinstance(device, SplitDevice)
    return driver, device


# What is written


def test_driver_writes_descriptors_and_entries_and_only_then_the_index() -> None:
    rig = rig_of(parts=3)
    driver, _ = sides(rig)
    assert rig.split.avail_idx == 0
    send(driver, 2)
    rows = [rig.split.descriptor(i) for i in range(6)]
    slots = [rig.slots_gpa, rig.slots_gpa + 256]
    assert [r.flags for r in rows] == [NEXT, NEXT, 0] * 2
    assert [r.next for r in rows] == [1, 2, 0, 4, 5, 0]
    assert [r.len for r in rows] == [HEADER_BYTES, 30, 30] * 2
    assert [r.addr for r in rows[:3]] == [slots[0], slots[0] + 12, slots[0] + 42]
    assert [rig.split.head(i) for i in range(2)] == [0, 3]
    assert rig.split.avail_idx == 2


def test_driver_s_indirect_descriptor_refers_to_a_table_of_its_own() -> None:
    rig = rig_of(features=Features(indirect=True), parts=2, device_writes=True)
    driver, _ = sides(rig)
    driver.post_all()
    assert rig.tables_gpa is not None
    for i in range(8):
        row = rig.split.descriptor(i)
        assert (row.addr, row.len, row.flags) == (rig.tables_gpa + 32 * i, 32, INDIRECT)
    assert rig.memory.load(rig.tables_gpa + 12, 2) == NEXT | WRITE
    assert rig.memory.load(rig.tables_gpa + 16 + 12, 2) == WRITE
    assert [rig.split.head(i) for i in range(8)] == list(range(8))


def test_driver_clears_the_header_of_what_it_sends() -> None:
    """§5.1.6.2: no offload is asked for, num_buffers is zero."""
    rig = rig_of()
    driver, _ = sides(rig)
    rig.memory.write(rig.slots_gpa, b"\xff" * 256)
    send(driver, 1)
    assert rig.memory.read(rig.slots_gpa, 72) == bytes(12) + FRAME


def test_used_elements_are_not_visible_before_they_are_published() -> None:
    rig = rig_of(device_writes=True)
    driver, device = sides(rig)
    driver.post_all()
    store = FrameStore()
    store.load([FRAME, FRAME])
    device.deliver(store, 0, 1)
    assert rig.split.used_idx == 0
    assert not driver.ready
    assert device.publish()
    assert rig.split.used_idx == 2
    assert [rig.split.used_element(i) for i in range(2)] == [(0, 72), (1, 72)]


def test_transmit_buffer_is_used_with_no_byte_written() -> None:
    """§2.7.8: len is what the device wrote."""
    rig = rig_of(parts=2)
    driver, device = sides(rig)
    send(driver, 3)
    burst = Burst()
    device.fetch(burst)
    device.complete(burst)
    assert [rig.split.used_element(i) for i in range(3)] == [(0, 0), (2, 0), (4, 0)]


def test_in_order_device_writes_one_element_for_a_batch() -> None:
    """§2.7.9: where the batch begins, with the head of its last buffer."""
    rig = rig_of(features=Features(in_order=True), parts=2)
    driver, device = sides(rig)
    send(driver, 3)
    rig.split.set_used_element(1, 0xAA, 0xAA)
    burst = Burst()
    device.fetch(burst)
    device.complete(burst)
    assert rig.split.used_idx == 3
    assert [rig.split.used_element(i) for i in range(2)] == [(4, 0), (0xAA, 0xAA)]
    assert driver.reclaim() == 4


def test_publishing_nothing_writes_nothing_and_calls_nobody() -> None:
    rig = rig_of()
    driver, device = sides(rig)
    image = rig.memory.image()
    assert not device.publish()
    assert not driver.send(Burst())
    assert not driver.post(Burst())
    assert rig.memory.image() == image


# What is asked for


def test_without_event_idx_the_flags_are_the_wish() -> None:
    """§2.7.7, §2.7.10."""
    rig = rig_of()
    driver, device = sides(rig)
    assert send(driver, 1)
    device.disarm()
    assert rig.split.used_flags == 1
    assert not send(driver, 1)
    assert device.arm()
    assert rig.split.used_flags == 0
    burst = Burst()
    assert device.fetch(burst) == 2
    driver.disarm()
    assert rig.split.avail_flags == 1
    assert not device.complete(burst)
    assert driver.arm()
    assert rig.split.avail_flags == 0


def test_with_event_idx_the_index_is_the_wish_and_flags_stay_zero() -> None:
    """§2.7.7.1, §2.7.10.2."""
    rig = rig_of(features=EVENTS)
    driver, device = sides(rig)
    device.disarm()
    driver.disarm()
    assert (rig.split.used_flags, rig.split.avail_flags) == (0, 0)
    assert send(driver, 1)
    assert not send(driver, 2)
    burst = Burst()
    assert device.fetch(burst) == 3
    assert not device.arm()
    assert rig.split.avail_event == 3
    assert send(driver, 1)
    assert not driver.arm()
    assert rig.split.used_event == 0
    assert device.complete(burst)
    assert driver.arm()


@pytest.mark.parametrize(
    ("event", "wanted"),
    [(0, False), (4, False), (5, True), (6, True), (7, True), (8, False), (0xFFFF, False)],
)
def test_call_is_made_where_the_event_is_among_the_new_elements(event: int, wanted: bool) -> None:
    """§2.7.7.2: elements 5, 6 and 7 are new; the event names the one that the driver waits for."""
    rig = rig_of(features=EVENTS)
    driver, device = sides(rig)
    burst = Burst()
    send(driver, 5)
    device.fetch(burst)
    device.complete(burst)
    send(driver, 3)
    device.fetch(burst)
    rig.split.used_event = event
    assert device.complete(burst) == wanted


def test_flags_are_ignored_with_event_idx_and_the_event_without() -> None:
    """§2.7.7.2: the lower bit of flags, or used_event."""
    rig = rig_of(features=EVENTS)
    driver, device = sides(rig)
    rig.split.used_flags, rig.split.avail_event = 1, 0
    assert send(driver, 1)
    plain = rig_of()
    driver, device = sides(plain)
    plain.split.used_flags, plain.split.avail_event = 0, 77
    assert send(driver, 1)
    assert not device.fault


# What is read


def test_table_may_follow_direct_descriptors() -> None:
    """§2.7.5.3.2: the device must handle normal descriptors followed by one that refers to a table; its WRITE
    is ignored.
    """
    rig = rig_of(features=Features(indirect=True))
    _, device = sides(rig)
    frame = random.Random(1).randbytes(90)
    rig.memory.write(rig.slots_gpa, bytes(12) + frame)
    table = rig.slots_gpa + 1024
    write_table_entry(rig.memory, table, rig.slots_gpa + 50, 20, NEXT, 3)
    write_table_entry(rig.memory, table + 48, rig.slots_gpa + 70, 32)
    rig.split.describe(5, rig.slots_gpa, 5, NEXT, 2)
    rig.split.describe(2, rig.slots_gpa + 5, 45, NEXT, 7)
    rig.split.describe(7, table, 64, INDIRECT | WRITE)
    rig.split.offer(5)
    burst = Burst()
    assert device.fetch(burst) == 1
    assert contents(burst) == [frame]
    device.complete(burst)
    assert rig.split.used_element(0) == (5, 0)


def test_chain_as_long_as_the_queue_is_no_loop() -> None:
    rig = rig_of()
    _, device = sides(rig)
    order = [3, 1, 4, 0, 5, 2, 7, 6]
    for i, index in enumerate(order):
        last = i == 7
        rig.split.describe(
            index, rig.slots_gpa + 20 * i, 20, 0 if last else NEXT, 0 if last else order[i + 1]
        )
    rig.split.offer(3)
    burst = Burst()
    assert device.fetch(burst) == 1
    assert burst.frame_length(0) == 8 * 20 - HEADER_BYTES


def test_fetch_takes_no_more_than_its_limit() -> None:
    rig = rig_of()
    driver, device = sides(rig)
    send(driver, 8)
    burst = Burst()
    assert [device.fetch(burst, limit) for limit in (0, 3, 1, 100)] == [0, 3, 1, 4]


def test_burst_ends_before_its_segments_do() -> None:
    """A frame may have 1024 segments, a burst 2048: what does not fit comes with the next."""
    rig = Rig(Setup(SPLIT, 64, Features(indirect=True), 1, 4096))
    _, device = sides(rig)
    table = rig.slots_gpa + 4096
    for i in range(500):
        write_table_entry(rig.memory, table + 16 * i, rig.slots_gpa, 1, NEXT if i < 499 else 0, i + 1)
    for i in range(6):
        rig.split.describe(i, table, 16 * 500, INDIRECT)
    rig.split.offer(*range(6))
    burst = Burst()
    assert [device.fetch(burst) for _ in range(4)] == [3, 3, 0, 0]
    assert device.fault == 0


def test_device_goes_on_at_the_position_it_is_given() -> None:
    rig = rig_of()
    _, device = sides(rig)
    rig.split.used_idx = rig.split.avail_idx = 0xFFFE
    device.position = 0xFFFE
    for i in range(8):
        rig.split.describe(i, rig.slots_gpa, 72)
    rig.split.offer(1, 2, 3)
    burst = Burst()
    assert device.fetch(burst) == 3
    assert device.position == 1
    device.complete(burst)
    assert rig.split.used_idx == 1
    assert [rig.split.used_element(i) for i in (0xFFFE, 0xFFFF, 0)] == [(1, 0), (2, 0), (3, 0)]


# What is refused

BASE = 0x4000_0000


@pytest.mark.parametrize(
    ("desc", "avail", "used"),
    [
        (BASE - 16, BASE + 256, BASE + 512),
        (BASE, BASE + 4096 - 8, BASE + 512),
        (BASE, BASE + 256, BASE + 4096 - 64),
        (0, BASE + 256, BASE + 512),
        (BASE, (1 << 64) - 2, BASE + 512),
        (BASE, BASE + 256, (1 << 64) - 4),
    ],
)
def test_queue_that_leaves_memory_is_refused(desc: int, avail: int, used: int) -> None:
    with pytest.raises(ValueError, match="leaves the guest's memory"):
        device_at(desc, avail, used)


@pytest.mark.parametrize(
    ("desc", "avail", "used"),
    [
        (BASE + 8, BASE + 256, BASE + 512),
        (BASE, BASE + 257, BASE + 512),
        (BASE, BASE + 256, BASE + 514),
    ],
)
def test_unaligned_queue_is_refused(desc: int, avail: int, used: int) -> None:
    with pytest.raises(ValueError, match="not aligned to 16, 2 and 4 bytes"):
        device_at(desc, avail, used)


def test_queue_with_the_least_alignment_works() -> None:
    device_at(BASE + 16, BASE + 258, BASE + 516)


def test_queue_over_two_regions_is_refused() -> None:
    """Its parts are used in one piece."""
    memory = StrictMemory(4096, 4096)
    with pytest.raises(ValueError, match="leaves the guest's memory"):
        SplitDevice(memory.regions, 8, BASE + 4096 - 64, BASE + 5000, BASE + 6000, counters())


@pytest.mark.parametrize("size", [0, 3, 100, 65536])
def test_size_that_is_no_power_of_two_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"power of two up to 32768, not {size}"):
        device_at(BASE, BASE + 2048, BASE + 2560, size)


def test_queue_without_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves the guest's memory"):
        SplitDevice(Regions(), 8, 0, 256, 512, counters())


@pytest.mark.parametrize("offset", [-8, 8, PORT_COUNTERS.size])
def test_counters_outside_of_their_page_are_refused(offset: int) -> None:
    memory = StrictMemory(4096)
    with pytest.raises(ValueError, match="do not fit"):
        SplitDevice(memory.regions, 8, BASE, BASE + 256, BASE + 512, counters(), offset)


def counters() -> Pinned:
    return Pinned(bytearray(PORT_COUNTERS.size))


def device_at(desc: int, avail: int, used: int, size: int = 8) -> SplitDevice:
    memory = StrictMemory(4096)
    return SplitDevice(memory.regions, size, desc, avail, used, counters())


@pytest.mark.parametrize(("slot_bytes", "slots_bytes"), [(256, 2047), (100_000, 4096)])
def test_driver_without_room_for_its_buffers_is_refused(slot_bytes: int, slots_bytes: int) -> None:
    rings, slots = Pinned(bytearray(4096)), Pinned(bytearray(slots_bytes))
    with pytest.raises(ValueError, match="do not fit"):
        SplitDriver(rings, BASE, 8, BASE, BASE + 256, BASE + 512, slots, BASE + 4096, slot_bytes, False)


@pytest.mark.parametrize(("parts", "slot_bytes"), [(0, 256), (9, 256), (1, 12), (3, 14)])
def test_buffers_that_do_not_go_into_the_ring_are_refused(parts: int, slot_bytes: int) -> None:
    rings, slots = Pinned(bytearray(4096)), Pinned(bytearray(4096))
    with pytest.raises(ValueError, match=f"{slot_bytes} bytes in {parts} parts do not go into a ring of 8"):
        SplitDriver(
            rings, BASE, 8, BASE, BASE + 256, BASE + 512, slots, BASE + 4096, slot_bytes, False, parts
        )
