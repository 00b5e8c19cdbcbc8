"""Each rule of the standard that a driver can break in its rings, by name, and a device that breaks its own.

A fault ends the queue and nothing else: frames before it stand, what follows reads as empty, no byte outside
of guest memory is touched.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import pytest

from testbed.native import Burst, FrameStore, PackedDevice, Regions, SplitDevice
from testbed.spec.port_counters import fault_name
from tests.support.raw_ring import INDIRECT, NEXT, WRITE, avail_flags, write_packed_entry, write_table_entry
from tests.support.ring_model import HEADER_BYTES, PIECES_MAX, TABLE_ENTRIES_MAX, Features
from tests.support.ring_pair import PACKED, PORT, SPLIT, NativeDevice, Rig, Setup

SIZE: Final = 8
SLOT_BYTES: Final = 4096
TOP: Final = 1 << 64
FRAMES: Final = 3
FRAME: Final = bytes(range(60))


@dataclass(frozen=True)
class Row:
    """One descriptor: `addr` None is a sound buffer, `flags` is put upon what is right, `link` None is the
    next descriptor.
    """

    addr: int | None = None
    length: int = 100
    flags: int = 0
    link: int | None = None


class HostileDriver:
    """Writes chains of any rows into a ring of either format."""

    def __init__(self, ring_format: str, device_writes: bool, features: Features) -> None:
        self.rig = Rig(Setup(ring_format, SIZE, features, 1, SLOT_BYTES, device_writes))
        self.memory, self.device_writes = self.rig.memory, device_writes
        self.table_gpa = self.rig.slots_gpa + 3 * SLOT_BYTES
        self._next = 0

    @property
    def split(self) -> bool:
        return self.rig.setup.ring_format == SPLIT

    def chain(self, *rows: Row) -> None:
        """Make one chain available; its descriptors follow those of the chain before."""
        first, self._next = self._next, self._next + len(rows)
        for i, row in enumerate(rows):
            self._describe(first + i, row, i + 1 == len(rows))
        if self.split:
            self.rig.split.offer(first)

    def _describe(self, index: int, row: Row, last: bool) -> None:
        flags = (WRITE * self.device_writes | (0 if last else NEXT)) ^ row.flags
        addr = self.rig.slots_gpa + index * 128 if row.addr is None else row.addr
        link = (0 if last else index + 1) if row.link is None else row.link
        if self.split:
            self.rig.split.describe(index, addr, row.length, flags, link)
        else:
            self.rig.packed.describe(index, addr, row.length, flags | avail_flags(True), link)

    def table(self, *rows: Row) -> None:
        """Write an indirect table at `table_gpa`."""
        write = write_table_entry if self.split else write_packed_entry
        for i, row in enumerate(rows):
            following = NEXT if self.split and i + 1 < len(rows) else 0
            flags = (WRITE * self.device_writes | following) ^ row.flags
            addr = self.rig.slots_gpa if row.addr is None else row.addr
            link = i + 1 if row.link is None else row.link
            write(self.memory, self.table_gpa + 16 * i, addr, row.length, flags, link)

    def refer(self, addr: int | None = None, entries: float = 1, flags: int = 0) -> None:
        """Make a chain of one descriptor available that refers to an indirect table."""
        addr = self.table_gpa if addr is None else addr
        self.chain(Row(addr, int(16 * entries), INDIRECT ^ flags))


Attack = Callable[[HostileDriver], None]


def rows(*chain: Row) -> Attack:
    return lambda driver: driver.chain(*chain)


def at_end(before: int, length: int) -> Attack:
    """A buffer that begins so many bytes before memory ends."""
    return lambda driver: driver.chain(Row(driver.memory.end - before, length))


def table(*entries: Row) -> Attack:
    def attack(driver: HostileDriver) -> None:
        driver.table(*entries)
        driver.refer(entries=len(entries))

    return attack


def refer(offset: int = 0, entries: float = 1, flags: int = 0) -> Attack:
    return lambda driver: driver.refer(driver.table_gpa + offset, entries, flags)


def table_at_end(before: int, entries: int) -> Attack:
    return lambda driver: driver.refer(driver.memory.end - before, entries)


def endless_list(driver: HostileDriver) -> None:
    """Every descriptor of a packed ring goes on, also the first one."""
    driver.chain(*[Row()] * (SIZE - 2), Row(flags=NEXT))
    driver.rig.packed.set_flags(0, avail_flags(False) | NEXT | WRITE * driver.device_writes)


BOTH: Iterable[tuple[str, str, Attack]] = [
    ("zero_length", "alone", rows(Row(length=0))),
    ("zero_length", "last of two", rows(Row(), Row(length=0))),
    ("zero_length", "in a table", table(Row(), Row(length=0))),
    ("address", "zero", rows(Row(0))),
    ("address", "behind the end", at_end(0, 1)),
    ("address", "over the end", at_end(99, 100)),
    ("address", "before the start", lambda d: d.chain(Row(d.memory.base - 1, 100))),
    ("address", "all that 32 bits can say", lambda d: d.chain(Row(d.memory.base, 0xFFFF_FFFF))),
    ("address", "top of the address space", rows(Row(TOP - 2, 1))),
    ("address", "in a table", table(Row(), Row(0))),
    ("length", "wraps 64 bits", rows(Row(TOP - 16, 32))),
    ("length", "wraps to a sound address", lambda d: d.chain(Row(TOP - 1, d.memory.base & 0xFFFF_FFFF))),
    ("length", "ends at the top", rows(Row(TOP - 1, 1))),
    ("direction", "alone", rows(Row(flags=WRITE))),
    ("direction", "last of two", rows(Row(), Row(flags=WRITE))),
    ("direction", "in a table", table(Row(), Row(flags=WRITE))),
    ("indirect_next", "table and next", refer(flags=NEXT)),
    ("indirect_length", "zero", refer(entries=0)),
    ("indirect_length", "half an entry", refer(entries=0.5)),
    ("indirect_length", "odd", refer(entries=2.125)),
    ("indirect_length", "huge", refer(entries=TABLE_ENTRIES_MAX + 1)),
    ("indirect_length", "all that 32 bits can say", refer(entries=0xFFFF_FFF0 / 16)),
    ("address", "table behind the end", table_at_end(0, 1)),
    ("address", "table over the end", table_at_end(16, 2)),
    ("address", "table at the top of the address space", lambda d: d.refer(TOP - 16, 2)),
    ("alignment", "table", refer(offset=4)),
    ("chain_length", "table", table(*[Row(length=1)] * (PIECES_MAX + 1))),
]

SPLIT_ONLY: Iterable[tuple[str, str, Attack]] = [
    ("head_range", "size", lambda d: d.rig.split.offer(SIZE)),
    ("head_range", "largest", lambda d: d.rig.split.offer(0xFFFF)),
    ("next_range", "size", rows(Row(flags=NEXT, link=SIZE))),
    ("next_range", "largest", rows(Row(flags=NEXT, link=0xFFFF))),
    ("next_range", "in a table", table(Row(), Row(flags=NEXT, link=2 + SIZE))),
    ("loop", "itself", rows(Row(flags=NEXT, link=1))),
    ("loop", "two", rows(Row(), Row(flags=NEXT, link=1))),
    ("loop", "in a table", table(Row(), Row(flags=NEXT, link=0))),
    ("loop", "into the table's head", table(Row(flags=NEXT, link=0))),
    ("nested_indirect", "first", table(Row(flags=INDIRECT))),
    ("nested_indirect", "second", table(Row(), Row(flags=INDIRECT))),
    ("indirect_next", "behind a direct one", rows(Row(), Row(flags=INDIRECT | NEXT))),
    ("indirect_length", "behind a direct one", rows(Row(), Row(flags=INDIRECT))),
    ("avail_jump", "one too many", lambda d: setattr(d.rig.split, "avail_idx", SIZE + 2)),
    ("avail_jump", "backwards", lambda d: setattr(d.rig.split, "avail_idx", 0)),
]

PACKED_ONLY: Iterable[tuple[str, str, Attack]] = [
    ("loop", "every descriptor goes on", endless_list),
    ("indirect_next", "table in a list", rows(Row(), Row(flags=INDIRECT))),
]

CASES = [
    pytest.param(ring_format, fault, attack, id=f"{ring_format}-{fault}-{what}".replace(" ", "_"))
    for ring_format, cases in ((SPLIT, [*BOTH, *SPLIT_ONLY]), (PACKED, [*BOTH, *PACKED_ONLY]))
    for fault, what, attack in cases
]


def three_frames() -> FrameStore:
    store = FrameStore()
    store.load([FRAME] * FRAMES)
    store.send_all_to(PORT)
    return store


def assert_broken(device: NativeDevice, fault: str) -> None:
    assert fault_name(device.fault) == fault
    assert not device.ready
    assert not device.arm()


@pytest.mark.parametrize(("ring_format", "fault", "attack"), CASES)
def test_transmit_queue_ends_with_the_fault(ring_format: str, fault: str, attack: Attack) -> None:
    driver, burst = HostileDriver(ring_format, False, Features(indirect=True)), Burst()
    device = driver.rig.native_device()
    driver.chain(Row())
    assert device.fetch(burst) == 1
    attack(driver)
    written = driver.memory.image()

    assert device.fetch(burst) == 0

    assert_broken(device, "writable" if fault == "direction" else fault)
    assert device.fetch(burst) == 0
    assert driver.memory.image() == written
    driver.memory.assert_intact()


@pytest.mark.parametrize(("ring_format", "fault", "attack"), CASES)
def test_receive_queue_ends_with_the_fault(ring_format: str, fault: str, attack: Attack) -> None:
    driver, frames = HostileDriver(ring_format, True, Features(indirect=True)), three_frames()
    device = driver.rig.native_device()
    driver.chain(Row())
    assert device.deliver(frames, 2, PORT) == FRAMES
    attack(driver)
    written = driver.memory.image()

    assert device.deliver(frames, 0, PORT) == FRAMES

    assert_broken(device, "readable" if fault == "direction" else fault)
    assert driver.rig.counter("frames_out") == 1
    assert driver.rig.counter("dropped_device_broken") == FRAMES
    assert driver.memory.image() == written
    driver.memory.assert_intact()


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
@pytest.mark.parametrize("device_writes", [False, True])
def test_indirect_table_that_was_not_negotiated_is_a_fault(ring_format: str, device_writes: bool) -> None:
    driver = HostileDriver(ring_format, device_writes, Features())
    driver.table(Row())
    driver.refer()
    device = driver.rig.native_device()
    if device_writes:
        device.deliver(three_frames(), 0, PORT)
    else:
        device.fetch(Burst())
    assert_broken(device, "indirect_off")


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
def test_frames_before_the_fault_stand(ring_format: str) -> None:
    driver, burst = HostileDriver(ring_format, False, Features()), Burst()
    driver.chain(Row(length=72))
    driver.chain(Row(length=72), Row(length=60))
    driver.chain(Row(0))
    device = driver.rig.native_device()

    assert device.fetch(burst) == 2

    assert [burst.frame_length(i) for i in range(2)] == [60, 120]
    assert_broken(device, "address")
    assert device.complete(burst)


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
@pytest.mark.parametrize("parts", [(11,), (5, 6), (1, 1, 1)])
def test_chain_shorter_than_its_header_is_a_fault(ring_format: str, parts: tuple[int, ...]) -> None:
    driver = HostileDriver(ring_format, False, Features())
    driver.chain(*(Row(length=n) for n in parts))
    device = driver.rig.native_device()
    assert device.fetch(Burst()) == 0
    assert_broken(device, "header")


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
@pytest.mark.parametrize("length", [HEADER_BYTES, HEADER_BYTES + 13])
def test_frame_shorter_than_an_ethernet_header_is_a_frame(ring_format: str, length: int) -> None:
    driver, burst = HostileDriver(ring_format, False, Features()), Burst()
    driver.chain(Row(length=length))
    device = driver.rig.native_device()
    assert device.fetch(burst) == 1
    assert burst.frame_length(0) == length - HEADER_BYTES
    assert device.fault == 0


def test_packed_indirect_entries_ignore_every_flag_but_write() -> None:
    """§2.8.7: others are reserved and are ignored by the device."""
    driver, burst = HostileDriver(PACKED, False, Features(indirect=True)), Burst()
    driver.table(Row(flags=INDIRECT | NEXT | 0x8080), Row(flags=0xFFFF & ~WRITE))
    driver.refer(entries=2)
    device = driver.rig.native_device()
    assert device.fetch(burst) == 1
    assert burst.frame_length(0) == 200 - HEADER_BYTES


def test_packed_buffer_id_is_the_driver_s_to_choose() -> None:
    """§2.8: the device returns the id and does nothing else with it."""
    driver, burst = HostileDriver(PACKED, False, Features()), Burst()
    driver.chain(Row(link=0xBEEF))
    device = driver.rig.native_device()
    assert device.fetch(burst) == 1
    device.complete(burst)
    assert driver.rig.packed.descriptor(0).next == 0xBEEF


@pytest.mark.parametrize("features", [Features(), Features(in_order=True)], ids=str)
def test_packed_driver_that_makes_used_up_descriptors_available_again_is_at_fault(features: Features) -> None:
    """§2.8.17: a driver must not change a descriptor that is not used; the device never has more than the
    ring.
    """
    driver, burst, second = HostileDriver(PACKED, False, features), Burst(), Burst()
    for _ in range(SIZE):
        driver.chain(Row())
    device = driver.rig.native_device()
    assert device.fetch(burst) == SIZE
    for i in range(SIZE):
        driver.rig.packed.set_flags(i, avail_flags(False))

    assert device.fetch(second) == 0

    assert_broken(device, "avail_jump")
    device.complete(burst)
    driver.memory.assert_intact()


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
def test_frame_longer_than_any_is_dropped_and_not_copied(ring_format: str) -> None:
    """A chain may say so many bytes that no frame has; nothing of it goes into a receiver's buffers."""
    sender = HostileDriver(ring_format, False, Features(indirect=True))
    sender.table(*[Row(length=SLOT_BYTES)] * 40)
    sender.refer(entries=40)
    receiver = HostileDriver(ring_format, True, Features(merge=True, indirect=True))
    receiver.table(*[Row(length=SLOT_BYTES)] * 40)
    receiver.refer(entries=40)
    burst, image = Burst(), receiver.memory.image()
    assert sender.rig.native_device().fetch(burst) == 1
    burst.send_all_to(PORT)

    assert receiver.rig.native_device().deliver(burst, 0, PORT) == 1

    assert receiver.rig.counter("dropped_too_long") == 1
    assert receiver.memory.image() == image


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
def test_offload_that_was_not_negotiated_does_not_reach_the_receiver(ring_format: str) -> None:
    """§5.1.6.4.1: without GUEST_CSUM flags are zero, without GUEST_TSO4 and the like gso_type is NONE."""
    sender = HostileDriver(ring_format, False, Features())
    receiver = HostileDriver(ring_format, True, Features())
    sender.memory.write(sender.rig.slots_gpa, b"\xff" * HEADER_BYTES + FRAME)
    sender.chain(Row(length=HEADER_BYTES + len(FRAME)))
    receiver.chain(Row())
    burst = Burst()
    assert sender.rig.native_device().fetch(burst) == 1
    burst.send_all_to(PORT)
    assert receiver.rig.native_device().deliver(burst, 0, PORT) == 1
    assert receiver.memory.read(receiver.rig.slots_gpa, HEADER_BYTES) == bytes(10) + b"\1\0"


@pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
@pytest.mark.parametrize("distance", [-200, -12, -1, 0, 1, 12, 200])
def test_guest_that_sends_from_where_it_receives_harms_itself_alone(ring_format: str, distance: int) -> None:
    """A back end that reflects frames copies within one guest: the two buffers may overlap."""
    sender = HostileDriver(ring_format, False, Features())
    receiver = HostileDriver(ring_format, True, Features())
    middle = sender.rig.slots_gpa + 3000
    receiver.chain(Row(middle + distance, 1000), Row(middle + distance + 1000, 1000))
    sender.chain(Row(middle, 700), Row(middle + 700, 900))
    burst = Burst()
    assert sender.rig.native_device().fetch(burst) == 1
    burst.send_all_to(PORT)
    ring = receiver.rig
    device = (PackedDevice if ring_format == PACKED else SplitDevice)(
        both(sender, receiver), SIZE, *shifted(ring.places), ring.counters
    )
    assert device.deliver(burst, 0, PORT) == 1
    sender.memory.assert_intact()
    receiver.memory.assert_intact()


SHIFT: Final = 1 << 32


def shifted(places: tuple[int, int, int]) -> tuple[int, int, int]:
    return places[0] + SHIFT, places[1] + SHIFT, places[2] + SHIFT


def both(sender: HostileDriver, receiver: HostileDriver) -> Regions:
    """Return one guest's memory: the sender's buffers, and the receiver's ring further up."""
    memory = Regions()
    setup = sender.rig.setup
    memory.add(sender.memory.base, sender.memory.pinned(sender.memory.base, setup.buffers * setup.slot_bytes))
    queue = receiver.rig
    memory.add(queue.queue_gpa + SHIFT, receiver.memory.pinned(queue.queue_gpa, queue.queue_bytes))
    return memory
