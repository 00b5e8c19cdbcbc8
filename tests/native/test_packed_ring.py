"""The native packed queue by itself: what it writes where and when, what it asks for, and what it refuses.

What it does with frames is in test_ring_matrix; reference: virtio 1.2 §2.8.
"""

import pytest

from testbed.native import Burst, FrameStore, PackedDevice, PackedDriver, Pinned, SplitDriver
from testbed.spec.port_counters import PORT_COUNTERS
from tests.support.raw_ring import AVAIL, EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, INDIRECT, NEXT, USED, WRITE
from tests.support.ring_model import HEADER_BYTES, Features
from tests.support.ring_pair import PACKED, Rig, Setup, fill
from tests.support.strict_memory import StrictMemory

SIZE = 5
PLAIN = Features()
EVENTS = Features(event_idx=True)
FRAME = bytes(range(60))
WRAP = 0x8000
"""§2.8.14: the wrap counter in an event structure."""


def rig_of(features: Features = PLAIN, parts: int = 1, device_writes: bool = False) -> Rig:
    """Return a queue of five descriptors."""
    return Rig(Setup(PACKED, SIZE, features, parts, 256, device_writes))


def sides(rig: Rig) -> tuple[PackedDriver, PackedDevice]:
    driver, device = rig.native_driver(), rig.native_device()
    assert isinstance(driver, PackedDriver)
    assert isinstance(device, PackedDevice)
    return driver, device


def send(driver: PackedDriver | SplitDriver, count: int) -> bool:
    """Send frames; return whether the device wants a kick."""
    burst = Burst()
    assert driver.reserve(burst, count) == count
    fill(burst, [FRAME] * count)
    return driver.send(burst)


def take(device: PackedDevice) -> bool:
    """Take and give back whatever is available; return whether the driver wants a call."""
    burst = Burst()
    device.fetch(burst)
    return device.complete(burst)


# What is written


def test_driver_marks_descriptors_available_with_its_wrap_counter() -> None:
    """§2.8.1: AVAIL as the counter, USED not."""
    rig = rig_of()
    driver, device = sides(rig)
    send(driver, 5)
    assert [rig.packed.descriptor(i).flags for i in range(5)] == [AVAIL] * 5
    take(device)
    assert [rig.packed.descriptor(i).flags for i in range(5)] == [AVAIL | USED] * 5
    send(driver, 3)
    assert [rig.packed.descriptor(i).flags for i in range(5)] == [USED] * 3 + [AVAIL | USED] * 2
    take(device)
    assert [rig.packed.descriptor(i).flags for i in range(5)] == [0] * 3 + [AVAIL | USED] * 2
    assert device.position == ((3, False), (3, False))


def test_list_is_linked_by_next_and_has_its_id_in_the_last() -> None:
    """§2.8.6: all flags are right in every descriptor of the list."""
    rig = rig_of(parts=2)
    driver, _ = sides(rig)
    send(driver, 2)
    rows = [rig.packed.descriptor(i) for i in range(4)]
    assert [r.flags for r in rows] == [AVAIL | NEXT, AVAIL, AVAIL | NEXT, AVAIL]
    assert [r.len for r in rows] == [HEADER_BYTES, 60] * 2
    assert (rows[1].next, rows[3].next) == (0, 1)


def test_list_that_goes_over_the_end_has_the_next_lap_s_flags() -> None:
    rig = rig_of(parts=2)
    driver, device = sides(rig)
    for _ in range(2):
        send(driver, 1)
        take(device)
        driver.reclaim()
    send(driver, 1)
    assert rig.packed.descriptor(4).flags == AVAIL | NEXT
    assert rig.packed.descriptor(0).flags == USED
    burst = Burst()
    assert device.fetch(burst) == 1
    assert burst.frame_bytes(0) == FRAME


def test_indirect_descriptor_has_no_write_flag_and_its_table_only_that() -> None:
    """§2.8.7."""
    rig = rig_of(Features(indirect=True), 3, True)
    driver, _ = sides(rig)
    driver.post_all()
    assert rig.tables_gpa is not None
    row = rig.packed.descriptor(2)
    assert (row.addr, row.len, row.flags) == (rig.tables_gpa + 96, 48, AVAIL | INDIRECT)
    assert [rig.memory.load(rig.tables_gpa + 96 + 16 * i + 14, 2) for i in range(3)] == [WRITE] * 3


def test_nothing_is_visible_before_it_is_published() -> None:
    rig = rig_of(device_writes=True)
    driver, device = sides(rig)
    driver.post_all()
    store = FrameStore()
    store.load([FRAME, FRAME])
    device.deliver(store, 0, 1)
    assert rig.packed.descriptor(0).flags == AVAIL | WRITE
    assert not driver.ready
    device.publish()
    rows = [rig.packed.descriptor(i) for i in range(2)]
    assert [(r.flags, r.len, r.next) for r in rows] == [(AVAIL | USED | WRITE, 72, i) for i in range(2)]
    assert driver.ready


def test_used_transmit_descriptor_says_that_nothing_was_written() -> None:
    """§2.8.4, §2.8.5: without WRITE the length means nothing."""
    rig = rig_of()
    driver, device = sides(rig)
    send(driver, 1)
    take(device)
    assert rig.packed.descriptor(0).flags & WRITE == 0
    assert driver.reclaim() == SIZE


def test_in_order_device_writes_one_descriptor_for_a_batch() -> None:
    """§2.8.8: where the batch begins, with the id of its last buffer; both sides skip the rest."""
    rig = rig_of(Features(in_order=True))
    driver, device = sides(rig)
    send(driver, 4)
    take(device)
    assert [rig.packed.descriptor(i).flags for i in range(4)] == [AVAIL | USED, AVAIL, AVAIL, AVAIL]
    assert rig.packed.descriptor(0).next == 3
    assert driver.reclaim() == SIZE
    send(driver, 3)
    assert take(device)
    assert driver.reclaim() == SIZE


def test_publishing_nothing_writes_nothing_and_calls_nobody() -> None:
    rig = rig_of()
    driver, device = sides(rig)
    image = rig.memory.image()
    assert not device.publish()
    assert not driver.send(Burst())
    assert rig.memory.image() == image


# What is asked for


def test_without_event_idx_events_are_on_or_off() -> None:
    """§2.8.10."""
    rig = rig_of()
    driver, device = sides(rig)
    device.disarm()
    assert rig.packed.device_event_flags == EVENT_DISABLE
    assert not send(driver, 1)
    assert device.arm()
    assert rig.packed.device_event_flags == EVENT_ENABLE
    assert send(driver, 1)
    driver.disarm()
    assert rig.packed.driver_event_flags == EVENT_DISABLE
    assert not take(device)
    assert driver.arm()
    assert rig.packed.driver_event_flags == EVENT_ENABLE


def test_with_event_idx_the_next_descriptor_is_named() -> None:
    rig = rig_of(EVENTS)
    driver, device = sides(rig)
    for place in (0 | WRAP, 3 | WRAP, 1, 4):
        assert not device.arm()
        assert not driver.arm()
        named = rig.packed.device_event_desc, rig.packed.driver_event_desc
        assert named == (place, place)
        assert rig.packed.device_event_flags == rig.packed.driver_event_flags == EVENT_DESC
        assert send(driver, 3)
        assert take(device)
        driver.reclaim()


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (2 | WRAP, False),
        (3 | WRAP, True),
        (4 | WRAP, True),
        (0, True),
        (1, False),
        (3, False),
        (0 | WRAP, False),
    ],
)
def test_call_is_made_where_the_event_is_among_the_new_descriptors(event: int, wanted: bool) -> None:
    """§2.8.10: descriptors 3 and 4 of the first lap and 0 of the second are new."""
    rig = rig_of(EVENTS)
    driver, device = sides(rig)
    send(driver, 3)
    take(device)
    driver.reclaim()
    send(driver, 3)
    rig.packed.driver_event_desc, rig.packed.driver_event_flags = event, EVENT_DESC
    assert take(device) == wanted


# What is refused

BASE = 0x4000_0000


@pytest.mark.parametrize(
    ("desc", "driver", "device"),
    [
        (BASE - 16, BASE + 256, BASE + 260),
        (BASE + 4096 - 64, BASE + 256, BASE + 260),
        (BASE, BASE + 4096, BASE + 260),
        (BASE, BASE + 256, (1 << 64) - 4),
    ],
)
def test_queue_that_leaves_memory_is_refused(desc: int, driver: int, device: int) -> None:
    with pytest.raises(ValueError, match="leaves the guest's memory"):
        device_at(desc, driver, device)


@pytest.mark.parametrize(
    ("desc", "driver", "device"),
    [(BASE + 8, BASE + 256, BASE + 260), (BASE, BASE + 258, BASE + 264), (BASE, BASE + 256, BASE + 261)],
)
def test_unaligned_queue_is_refused(desc: int, driver: int, device: int) -> None:
    with pytest.raises(ValueError, match="not aligned to 16, 4 and 4 bytes"):
        device_at(desc, driver, device)


@pytest.mark.parametrize("size", [0, 32769, 1 << 31])
def test_size_that_no_packed_queue_has_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size is 1 to 32768, not {size}"):
        device_at(BASE, BASE + 256, BASE + 260, size)


@pytest.mark.parametrize("places", [(5, True, 0, True), (0, True, 5, False), (65535, True, 0, True)])
def test_position_outside_of_the_ring_is_refused(places: tuple[int, bool, int, bool]) -> None:
    with pytest.raises(ValueError, match="a ring of 5 descriptors has no position"):
        device_at(BASE, BASE + 256, BASE + 260).resume(*places)


def device_at(desc: int, driver: int, device: int, size: int = SIZE) -> PackedDevice:
    memory, counters = StrictMemory(4096), Pinned(bytearray(PORT_COUNTERS.size))
    return PackedDevice(memory.regions, size, desc, driver, device, counters)
