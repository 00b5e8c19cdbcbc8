"""Rings that change while they are read, and rings that change at every step.

A second process scribbles over descriptors, indices and tables, half of the time with what is right: whatever
the native device sees, it stays in guest memory, comes to an end, and names a fault that there is. A state
machine drives one device through any sequence of calls and writes, beside a neighbour that must not notice.
"""

import random
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from testbed.native import Burst, FrameStore
from testbed.spec.port_counters import fault_name
from tests.support.conversation import MODEL, NATIVE, Transmission, frames_of
from tests.support.raw_ring import AVAIL, INDIRECT, NEXT, USED, WRITE, avail_flags
from tests.support.ring_model import Features
from tests.support.ring_pair import PACKED, PORT, SPLIT, NativeDevice, Rig, Setup
from tests.support.scribbler import Target, scribbling

SIZE: Final = 16
SLOT_BYTES: Final = 2048
LIVES: Final = 10_000
"""So many devices at least are put upon a changing ring, one after the other,"""
LIVES_MAX: Final = 200_000
BROKEN: Final = 50
"""and more until so many of them have met a fault, where the other process gets its turn at all."""
EVERYTHING: Final = Features(event_idx=True, indirect=True, merge=True)
IN_ORDER: Final = Features(indirect=True, merge=True, in_order=True)
FAULTS: Final = {
    "avail_jump", "head_range", "next_range", "loop", "chain_length", "address", "length", "zero_length",
    "nested_indirect", "indirect_next", "indirect_length", "writable", "readable", "header", "alignment",
}  # fmt: skip


class ChangingRing:
    """A ring of valid single descriptors, each with an indirect table beside it, and what to change of it."""

    def __init__(self, ring_format: str, device_writes: bool, features: Features) -> None:
        self.rig = Rig(Setup(ring_format, SIZE, features, 4, SLOT_BYTES, device_writes))
        self.way = WRITE * device_writes
        self.targets: list[Target] = []
        self.faults: set[str] = set()
        for index in range(SIZE):
            self._target_descriptor(self.rig.places[0] + 16 * index, index, ring_format == SPLIT)
        tables = self.rig.tables_gpa
        assert tables is not None
        for entry in range(8):
            self._target_descriptor(tables + 16 * entry, entry, True)
        if ring_format == SPLIT:
            avail = self.rig.places[1]
            self.targets.append(Target(avail + 2, 2, SIZE, (0, 1, SIZE + 1, 0x8000)))
            self.targets += [Target(avail + 4 + 2 * i, 2, i, (0, SIZE, 0xFFFF)) for i in range(SIZE)]

    def _target_descriptor(self, gpa: int, index: int, split: bool) -> None:
        memory, tables = self.rig.memory, self.rig.tables_gpa or 0
        good, end = self.rig.slots_gpa + index * SLOT_BYTES, memory.end
        self.targets.append(Target(gpa, 8, good, (tables, end - 64, end, (1 << 64) - 8)))
        self.targets.append(Target(gpa + 8, 4, 1500, (128, 0, 11, 4096, 0xFFFF_FFFF)))
        self.targets.append(
            Target(gpa + (14 if split else 12), 2, min(index + 1, SIZE - 1), (index, 0, SIZE))
        )
        mark = 0 if split else avail_flags(True)
        odd = [self.way | NEXT, self.way | INDIRECT, self.way ^ WRITE]
        flags = tuple(flag | mark for flag in odd) + (() if split else (self.way | avail_flags(False),))
        self.targets.append(Target(gpa + (12 if split else 14), 2, self.way | mark, flags))

    def devices(self) -> Iterator[NativeDevice]:
        """Change the ring from another process; put one device after the other upon it, each time as it was
        at first.
        """
        rig, broken = self.rig, 0
        with scribbling(rig.memory, self.targets):
            queue = rig.memory.read(rig.queue_gpa, rig.queue_bytes)
            for life in range(LIVES_MAX):
                if life >= LIVES and broken >= BROKEN:
                    break
                rig.memory.write(rig.queue_gpa, queue)
                device = rig.native_device()
                yield device
                if device.fault:
                    broken += 1
                    self.faults.add(fault_name(device.fault))
        rig.memory.assert_intact()


rings = pytest.mark.parametrize(
    ("ring_format", "features"),
    [(SPLIT, EVERYTHING), (PACKED, EVERYTHING), (PACKED, IN_ORDER)],
    ids=("split", "packed", "packed-in_order"),
)


@rings
def test_transmit_queue_that_changes_while_it_is_read(ring_format: str, features: Features) -> None:
    ring, burst, frames = ChangingRing(ring_format, False, features), Burst(), 0
    for device in ring.devices():
        for _ in range(2):
            frames += device.fetch(burst)
            _read(burst)
            device.complete(burst)
    assert frames >= LIVES
    assert ring.faults <= FAULTS


def _read(burst: Burst) -> None:
    """Read every frame through its segments, as a receiver does."""
    for i in range(len(burst)):
        if burst.frame_length(i) < 1 << 17:
            burst.frame_bytes(i)


@rings
def test_receive_queue_that_changes_while_it_is_filled(ring_format: str, features: Features) -> None:
    ring, store = ChangingRing(ring_format, True, features), FrameStore()
    store.load([bytes(60), bytes(1514), bytes(4000)] * 3)
    for device in ring.devices():
        for _ in range(2):
            device.deliver(store, 0, PORT)
            device.publish()
    assert ring.rig.counter("frames_out") >= LIVES
    assert ring.faults <= FAULTS


words16 = st.one_of(st.integers(0, SIZE + 1), st.sampled_from((0x7FFF, 0x8000, 0xFFFF)))
offsets = st.integers(0, SIZE * SLOT_BYTES - 2048)
indices = st.integers(0, SIZE - 1)


class AnySequence(RuleBasedStateMachine):
    """One native device, a driver that writes anything at any time, and a sound neighbour."""

    ring_format = SPLIT
    device_writes = False

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(Setup(self.ring_format, SIZE, EVERYTHING, 4, SLOT_BYTES, self.device_writes))
        self.device: NativeDevice = self.rig.native_device()
        self.bursts: list[Burst] = []
        self.fault = 0
        self.turn = 0
        rng = random.Random(0)
        neighbour = Rig(Setup(self.ring_format, 4, EVERYTHING, 1, 128))
        self.neighbour = Transmission(neighbour, NATIVE, MODEL, frames_of(rng, 500, 60), rng)

    @rule(index=indices, offset=offsets, length=st.integers(1, 2048), odd=st.integers(0, 9), link=words16)
    def describe(self, index: int, offset: int, length: int, odd: int, link: int) -> None:
        """Write a descriptor, one time in ten with an odd address, flag or length."""
        flags = WRITE * (self.device_writes ^ (odd == 0)) | NEXT * (odd == 1) | INDIRECT * (odd == 2)
        addr = self.rig.memory.end - length // 2 if odd == 3 else self.rig.slots_gpa + offset
        length = 0 if odd == 4 else length
        if self.ring_format == SPLIT:
            self.rig.split.describe(index, addr, length, flags, link)
        else:
            mark = avail_flags(odd % 2 == 0) if odd < 9 else AVAIL | USED
            self.rig.packed.describe(index, addr, length, flags | mark, link)

    @precondition(lambda self: self.ring_format == SPLIT)
    @rule(heads=st.lists(indices, min_size=1, max_size=4))
    def offer(self, heads: list[int]) -> None:
        """Make chains available."""
        self.rig.split.offer(*heads)

    @precondition(lambda self: self.ring_format == SPLIT)
    @rule(index=words16)
    def jump(self, index: int) -> None:
        """Set the available index to anything."""
        self.rig.split.avail_idx = index

    @rule(offset=st.integers(0, 4 * SIZE), value=words16)
    def scribble(self, offset: int, value: int) -> None:
        """Write anything into the parts that follow the descriptors."""
        gpa = min(self.rig.places[1] + 2 * offset, self.rig.memory.end - 2)
        self.rig.memory.store(gpa, 2, value)

    @precondition(lambda self: not self.device_writes)
    @rule(limit=st.sampled_from((1, 5, 256)))
    def fetch(self, limit: int) -> None:
        """Take frames; a broken queue has none."""
        burst = Burst()
        count = self.device.fetch(burst, limit)
        assert count <= limit
        assert not (count and self.fault)
        _read(burst)
        self.bursts.append(burst)

    @precondition(lambda self: self.bursts)
    @rule()
    def complete(self) -> None:
        """Give the oldest burst back."""
        self.device.complete(self.bursts.pop(0))

    @precondition(lambda self: self.device_writes)
    @rule(lengths=st.lists(st.sampled_from((14, 60, 1514, 9000)), min_size=1, max_size=4))
    def deliver(self, lengths: list[int]) -> None:
        """Put frames in; a broken queue drops them all."""
        store = FrameStore()
        store.load([bytes(length) for length in lengths])
        dropped = self.rig.counter("dropped_device_broken")
        reached = self.device.deliver(store, 0, PORT)
        assert reached <= len(lengths)
        if self.fault:
            assert reached == len(lengths)
            assert self.rig.counter("dropped_device_broken") == dropped + len(lengths)
        self.device.publish()

    @rule()
    def arm(self) -> None:
        """Ask for kicks; a broken queue never has work."""
        assert not (self.device.arm() and self.fault)
        assert not (self.device.ready and self.fault)

    @rule()
    def disarm(self) -> None:
        """Ask for none."""
        self.device.disarm()

    @rule()
    def reset(self) -> None:
        """The driver resets the device and starts over with a zeroed queue."""
        self.rig.memory.write(self.rig.queue_gpa, bytes(self.rig.queue_bytes))
        self.device, self.fault, self.bursts = self.rig.native_device(), 0, []

    @invariant()
    def first_fault_stays(self) -> None:
        """One fault, with a name, until the reset."""
        if self.fault:
            assert self.device.fault == self.fault
        elif self.device.fault:
            self.fault = self.device.fault
            assert fault_name(self.fault) in FAULTS

    @invariant()
    def nothing_outside_was_written(self) -> None:
        """The canaries are as they were."""
        self.rig.memory.assert_intact()

    @invariant()
    def neighbour_goes_on(self) -> None:
        """Another guest's queue moves its frames meanwhile."""
        self.turn += 1
        turns = self.neighbour.turns()
        turns[self.turn % len(turns)]()


class AnySplitReception(AnySequence):
    device_writes = True


class AnyPackedTransmission(AnySequence):
    ring_format = PACKED


class AnyPackedReception(AnySequence):
    ring_format = PACKED
    device_writes = True


BRIEF: Final = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    "machine", [AnySequence, AnySplitReception, AnyPackedTransmission, AnyPackedReception]
)
def test_any_sequence_of_calls_and_writes(machine: type[AnySequence]) -> None:
    run_state_machine_as_test(machine, settings=BRIEF)
