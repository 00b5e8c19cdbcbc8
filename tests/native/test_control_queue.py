"""Commands of a control queue as the native devices take and answer them, from sound and from hostile
drivers.

Reference: virtio 1.2 §5.1.6.5: what the driver wrote, then one byte for the answer; §2.7.4.2: what is read
comes before what is written.
"""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from testbed.spec.port_counters import fault_name
from tests.support.raw_ring import INDIRECT, NEXT, WRITE, avail_flags, write_packed_entry, write_table_entry
from tests.support.ring_model import Features
from tests.support.ring_pair import PACKED, SPLIT, Rig, Setup

SIZE = 16
formats = pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
READ, WRITTEN = False, True
Part = tuple[bytes | int, bool]
"""Bytes that the device reads, or how many it may write."""


class Driver:
    """Makes commands of any parts available; part i of a command lies at `where(i)`."""

    def __init__(self, ring_format: str) -> None:
        self.rig = Rig(Setup(ring_format, SIZE, Features(indirect=True), 1, 8192))
        self.split, self._next = ring_format == SPLIT, 0
        self.device = self.rig.native_device()

    def where(self, index: int) -> int:
        return self.rig.slots_gpa + 6000 * index

    def command(self, *parts: Part) -> None:
        """Make one chain available."""
        rows = self._rows(parts)
        for i, (addr, length, flags) in enumerate(rows):
            flags |= NEXT * (i + 1 < len(rows))
            if self.split:
                self.rig.split.describe(self._next + i, addr, length, flags, self._next + i + 1)
            else:
                self.rig.packed.describe(self._next + i, addr, length, flags | avail_flags(True), 77)
        if self.split:
            self.rig.split.offer(self._next)
        self._next += len(rows)

    def table(self, *parts: Part) -> None:
        """Make one descriptor available that refers to a table."""
        table = self.rig.slots_gpa + 15 * 8192
        for i, (addr, length, flags) in enumerate(self._rows(parts)):
            if self.split:
                flags |= NEXT * (i + 1 < len(parts))
                write_table_entry(self.rig.memory, table + 16 * i, addr, length, flags, i + 1)
            else:
                write_packed_entry(self.rig.memory, table + 16 * i, addr, length, flags)
        if self.split:
            self.rig.split.describe(0, table, 16 * len(parts), INDIRECT)
            self.rig.split.offer(0)
        else:
            self.rig.packed.describe(0, table, 16 * len(parts), INDIRECT | avail_flags(True), 77)

    def _rows(self, parts: Sequence[Part]) -> list[tuple[int, int, int]]:
        rows = []
        for i, (content, way) in enumerate(parts):
            if isinstance(content, bytes):
                self.rig.memory.write(self.where(i), content)
            length = len(content) if isinstance(content, bytes) else content
            rows.append((self.where(i), length, WRITE * way))
        return rows

    def used(self) -> tuple[int, int]:
        """Return (id, len) of the first used element."""
        if self.split:
            return self.rig.split.used_element(0)
        row = self.rig.packed.descriptor(0)
        assert row.flags & WRITE
        return row.next, row.len


@formats
def test_command_is_what_was_written_and_its_answer_one_byte(ring_format: str) -> None:
    driver = Driver(ring_format)
    driver.command((b"\4\0", READ), (b"\3\0", READ), (4, WRITTEN))
    assert driver.device.take_command() == b"\4\0\3\0"
    assert driver.device.answer_command(1)
    assert driver.rig.memory.read(driver.where(2), 4) == b"\1\0\0\0"
    assert driver.used() == (0 if driver.split else 77, 1)
    assert driver.device.take_command() is None
    assert not driver.device.fault


@formats
def test_command_may_be_in_a_table(ring_format: str) -> None:
    driver = Driver(ring_format)
    driver.table((b"ab", READ), (b"cd", READ), (1, WRITTEN))
    assert driver.device.take_command() == b"abcd"
    driver.device.answer_command(7)
    assert driver.rig.memory.read(driver.where(2), 1) == b"\7"


@formats
def test_command_may_be_cut_anywhere(ring_format: str) -> None:
    for seed in range(40):
        rng, driver = random.Random(seed), Driver(ring_format)
        content = rng.randbytes(rng.choice((3, 100, 4096)))
        cuts = [0, *sorted(rng.sample(range(1, len(content)), 2)), len(content)]
        parts: list[Part] = [(content[a:b], READ) for a, b in pairwise(cuts)]
        driver.command(*parts, (rng.randint(1, 9), WRITTEN), (5, WRITTEN))
        assert driver.device.take_command() == content
        driver.device.answer_command(0xA5)
        assert driver.rig.memory.read(driver.where(3), 1) == b"\xa5"
        driver.rig.memory.assert_intact()


@formats
def test_command_of_nothing_but_room_for_an_answer_is_empty(ring_format: str) -> None:
    driver = Driver(ring_format)
    driver.command((1, WRITTEN))
    assert driver.device.take_command() == b""
    driver.device.answer_command(1)
    assert driver.rig.memory.read(driver.where(0), 1) == b"\1"


@formats
@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ([(b"\4\0\3\0", READ)], "header"),
        ([(b"\4", READ), (1, WRITTEN), (b"\0", READ)], "order"),
        ([(1, WRITTEN), (b"\4\0", READ)], "order"),
        ([(bytes(4096), READ), (b"x", READ), (1, WRITTEN)], "length"),
        ([(bytes(4097), READ), (1, WRITTEN)], "length"),
        ([(b"", READ), (1, WRITTEN)], "zero_length"),
        ([(b"ab", READ), (0, WRITTEN)], "zero_length"),
    ],
)
def test_command_that_cannot_be_breaks_the_queue(ring_format: str, parts: list[Part], fault: str) -> None:
    driver = Driver(ring_format)
    driver.command(*parts)
    image = driver.rig.memory.image()
    assert driver.device.take_command() is None
    assert fault_name(driver.device.fault) == fault
    assert driver.device.take_command() is None
    assert not driver.device.ready
    assert driver.rig.memory.image() == image


@formats
def test_answer_without_a_command_is_refused(ring_format: str) -> None:
    driver = Driver(ring_format)
    with pytest.raises(ValueError, match="command that was taken"):
        driver.device.answer_command(0)
    driver.command((b"ab", READ), (1, WRITTEN))
    driver.device.take_command()
    driver.device.answer_command(0)
    with pytest.raises(ValueError, match="command that was taken"):
        driver.device.answer_command(0)


@formats
def test_control_queue_without_commands_sleeps_until_there_is_one(ring_format: str) -> None:
    driver = Driver(ring_format)
    driver.command((b"ab", READ), (1, WRITTEN))
    driver.device.take_command()
    assert (driver.device.ready, driver.device.arm()) == (False, False)
    driver.command((b"cd", READ), (1, WRITTEN))
    assert (driver.device.ready, driver.device.arm()) == (True, True)
