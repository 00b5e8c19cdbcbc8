"""Drivers drawn by seed: native device and model must take the same frames, name a rule that is really
broken, and leave the same memory.

The rings hold anything: valid chains, chains that overlap, loop, leave memory or contradict themselves.
Buffers that the device writes lie apart from the rings, so that what it writes cannot change what it reads
next.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import pytest

from testbed.address import PAGE_SIZE_BYTES
from testbed.native import Burst, FrameStore, PackedDevice, Pinned, SplitDevice
from testbed.spec.port_counters import PORT_COUNTERS, fault_name
from tests.support.packed_model import PackedModelDevice
from tests.support.raw_ring import (
    AVAIL,
    INDIRECT,
    NEXT,
    USED,
    WRITE,
    RawPackedRing,
    RawSplitRing,
    write_packed_entry,
    write_table_entry,
)
from tests.support.ring_model import FRAME_BYTES_MAX, Features, ModelNetDevice
from tests.support.ring_pair import PORT, contents
from tests.support.split_model import SplitModelDevice
from tests.support.strict_memory import BASE_GPA, StrictMemory

QUEUE_GPA: Final = BASE_GPA
TABLE_GPA: Final = BASE_GPA + PAGE_SIZE_BYTES
DATA_GPA: Final = TABLE_GPA + PAGE_SIZE_BYTES
SECOND_GPA: Final = DATA_GPA + PAGE_SIZE_BYTES
END_GPA: Final = SECOND_GPA + PAGE_SIZE_BYTES
TABLE_ENTRIES: Final = 6
SEEDS: Final = 600


@dataclass(frozen=True)
class Row:
    """One descriptor in the ring or a table."""

    addr: int
    length: int
    flags: int
    link: int


@dataclass(frozen=True)
class Driver:
    """What a driver wrote before the device looks."""

    size: int
    features: Features
    ring: tuple[Row, ...]
    table: tuple[Row, ...]
    heads: tuple[int, ...]
    ahead: int
    event: tuple[int, int]
    """Flags and event index, or event word, of the driver."""


class Author:
    """Writes drivers that are right in most respects; how wrong they are is drawn, too."""

    def __init__(self, seed: int, device_writes: bool, packed: bool) -> None:
        self.rng = random.Random(seed)
        self.device_writes, self.packed = device_writes, packed
        self.wrong = self.rng.choice((0.0, 0.02, 0.1))

    def odd(self, right: int, *odd: int) -> int:
        """Return what is right, seldom something odd."""
        return self.rng.choice(odd) if self.rng.random() < self.wrong else right

    def address(self) -> int:
        rng = self.rng
        near = rng.choice((SECOND_GPA, SECOND_GPA, END_GPA)) + rng.randrange(-600, 2)
        anywhere = rng.randrange(DATA_GPA, END_GPA - 1100)
        right = near if near < SECOND_GPA + 600 and rng.random() < 0.3 else anywhere
        return self.odd(right, near, END_GPA - 1, END_GPA, 0, BASE_GPA - 1, (1 << 64) - 16, (1 << 64) - 1)

    def row(self, size: int, refers: bool) -> Row:
        rng = self.rng
        flags = self.odd(WRITE * self.device_writes, WRITE * (not self.device_writes))
        link = self.odd(rng.randrange(size), size, 0xFFFF)
        if refers and rng.random() < 0.25:
            flags |= INDIRECT | self.odd(0, NEXT)
            addr = TABLE_GPA + self.odd(0, 8, 3, PAGE_SIZE_BYTES, -2 * PAGE_SIZE_BYTES)
            length = 16 * self.odd(rng.randint(1, TABLE_ENTRIES), 0, 300) + self.odd(0, 1, 8)
            return Row(addr, length, flags, link)
        flags |= NEXT * (rng.random() < 0.35) | self.odd(0, INDIRECT)
        length = self.odd(
            rng.choice((rng.randint(12, 40), rng.randint(40, 1000))), 0, 1, 11, 70_000, 0xFFFF_FFFF
        )
        return Row(self.address(), length, flags, link)

    def driver(self) -> Driver:
        rng = self.rng
        size = rng.randint(1, 9) if self.packed else rng.choice((1, 2, 4, 8))
        features = Features(*(rng.random() < chance for chance in (0.5, 0.8, 0.5, 0.5)))
        ring = [self.row(size, features.indirect or rng.random() < self.wrong) for _ in range(size)]
        if self.packed:
            ring = [replace(r, flags=r.flags | self.odd(AVAIL, USED, AVAIL | USED, 0)) for r in ring]
            if (
                self.device_writes
            ):  # a list that runs into what was used meanwhile reads differently each time
                ring[-1] = replace(ring[-1], flags=ring[-1].flags & ~NEXT)
        heads = [self.odd(rng.randrange(size), size, 0xFFFF) for _ in range(size)]
        ahead = self.odd(rng.choice((size, rng.randint(0, size))), size + 1, 0xFFFF, 0x8000)
        event = rng.randint(0, 1), rng.randrange(10)
        if self.packed:
            event = rng.randint(0, 1 + features.event_idx), rng.randrange(size) | rng.choice((0, 0x8000))
        table = [self.row(TABLE_ENTRIES, False) for _ in range(TABLE_ENTRIES)]
        return Driver(size, features, tuple(ring), tuple(table), tuple(heads), ahead, event)

    def frames(self) -> list[bytes]:
        rng = self.rng
        return [rng.randbytes(rng.choice((14, 60, rng.randint(14, 1600)))) for _ in range(rng.randint(0, 6))]


class Scene:
    """The same driver in two memories: the native device works in one, the model in the other."""

    def __init__(self, driver: Driver, packed: bool) -> None:
        self.driver, self.packed = driver, packed
        self.memory, self.model_memory = self._memory(), self._memory()
        size, features = driver.size, driver.features
        negotiated = (features.event_idx, features.indirect, features.merge, features.in_order)
        self.counters = Pinned(bytearray(PORT_COUNTERS.size))
        make = PackedDevice if packed else SplitDevice
        self.native = make(self.memory.regions, size, *self.places, self.counters, 0, *negotiated)
        ring = (
            PackedModelDevice(self.model_memory, self._packed(self.model_memory), features)
            if packed
            else SplitModelDevice(self.model_memory, self._split(self.model_memory), features)
        )
        self.model = ModelNetDevice(ring, self.model_memory, size, features)

    @property
    def places(self) -> tuple[int, int, int]:
        size = self.driver.size
        if self.packed:
            return QUEUE_GPA, QUEUE_GPA + 16 * size, QUEUE_GPA + 16 * size + 4
        return QUEUE_GPA, QUEUE_GPA + 16 * size, QUEUE_GPA + 20 * size + 8

    def _packed(self, memory: StrictMemory) -> RawPackedRing:
        return RawPackedRing(memory, self.driver.size, *self.places)

    def _split(self, memory: StrictMemory) -> RawSplitRing:
        return RawSplitRing(memory, self.driver.size, *self.places)

    def _memory(self) -> StrictMemory:
        memory = StrictMemory(*[PAGE_SIZE_BYTES] * 4)
        driver, ring = self.driver, self._packed(memory) if self.packed else self._split(memory)
        write = write_packed_entry if self.packed else write_table_entry
        for i, row in enumerate(driver.ring):
            ring.describe(i, row.addr, row.length, row.flags, row.link)
        for i, row in enumerate(driver.table):
            write(memory, TABLE_GPA + 16 * i, row.addr, row.length, row.flags, row.link)
        memory.write(DATA_GPA, bytes(i * 31 >> 3 & 0xFF for i in range(2 * PAGE_SIZE_BYTES)))
        if isinstance(ring, RawPackedRing):
            ring.driver_event_flags, ring.driver_event_desc = driver.event
        else:
            for i, head in enumerate(driver.heads):
                ring.set_head(i, head)
            ring.avail_idx = driver.ahead
            ring.avail_flags, ring.used_event = driver.event
        return memory

    def counter(self, name: str) -> int:
        return int(self.counters.words(PORT_COUNTERS.offset(name), 8)[0])

    def assert_same_end(self) -> None:
        """Both say the same of the ring, and left the same memory."""
        if self.native.fault:
            assert fault_name(self.native.fault) in self.model.broken
        else:
            assert not self.model.broken
        self.memory.assert_intact()
        assert self.memory.image() == self.model_memory.image()


def transmit(driver: Driver, packed: bool) -> None:
    """Fetch and complete everything on both sides."""
    scene, burst = Scene(driver, packed), Burst()
    scene.native.fetch(burst)
    expected = scene.model.fetch(256)
    assert len(burst) == len(expected)
    for i, frame in enumerate(expected):
        assert min(burst.frame_length(i), FRAME_BYTES_MAX + 1) == min(len(frame), FRAME_BYTES_MAX + 1)
    if burst.byte_count < 1 << 20:
        assert contents(burst) == expected
    assert scene.native.complete(burst) == scene.model.complete()
    scene.assert_same_end()
    fault = scene.native.fault
    assert scene.native.fetch(burst) == 0 or not fault
    assert scene.native.fault == fault or not fault


def receive(driver: Driver, packed: bool, sent: list[bytes]) -> None:
    """Deliver frames on both sides until one has to wait."""
    scene, store = Scene(driver, packed), FrameStore()
    store.load(sent)
    reached = scene.native.deliver(store, 0, PORT)
    outcomes = [scene.model.deliver(frame) for frame in sent[: reached + 1]]
    assert outcomes.count("wait") == (reached < len(sent))
    assert scene.counter("frames_out") == outcomes.count("delivered")
    assert scene.counter("dropped_rx_too_small") == outcomes.count("too_small")
    assert scene.counter("dropped_device_broken") == outcomes.count("broken")
    assert scene.native.publish() == scene.model.publish()
    scene.assert_same_end()


Case = Callable[[int, bool], None]


def transmitted(seed: int, packed: bool) -> None:
    transmit(Author(seed, False, packed).driver(), packed)


def received(seed: int, packed: bool) -> None:
    author = Author(seed, True, packed)
    receive(author.driver(), packed, author.frames())


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("case", [transmitted, received])
def test_any_ring_is_read_and_filled_as_by_the_model(case: Case, packed: bool) -> None:
    for seed in range(SEEDS):
        try:
            case(seed, packed)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
