"""A device that breaks its own rules: whatever it writes into a ring, the native driver believes nothing that
cannot be.

It takes a buffer back only where the device has it, a frame only where its lengths are possible, and once the
device has given back what it never had, nothing more.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from testbed.native import Burst
from tests.support.raw_ring import WRITE, avail_flags, used_flags
from tests.support.ring_model import HEADER_BYTES, Features
from tests.support.ring_pair import PACKED, SPLIT, NativeDriver, Rig, Setup, contents, fill

SIZE = 16
SLOT_BYTES = 256
SEEDS = 300
formats = pytest.mark.parametrize("ring_format", [SPLIT, PACKED])


@dataclass(frozen=True)
class Used:
    """One used element: buffer id as the ring names it, bytes written."""

    ident: int
    length: int


class HostileDevice:
    """Writes used elements of its liking into the ring of a native driver."""

    def __init__(self, ring_format: str, parts: int, device_writes: bool, features: Features) -> None:
        self.rig = Rig(Setup(ring_format, SIZE, features, parts, SLOT_BYTES, device_writes))
        self.driver: NativeDriver = self.rig.native_driver()
        self.parts, self.split = parts, ring_format == SPLIT
        self._next = 0

    def ident(self, buffer: int) -> int:
        """Return how a used element names a buffer: by its head descriptor, or by its id."""
        return buffer * self.parts if self.split else buffer

    def use(self, *elements: Used) -> None:
        """Write elements and show them."""
        for element in elements:
            self._write(element)
        if self.split:
            self.rig.split.used_idx = self._next

    def _write(self, used: Used) -> None:
        if self.split:
            self.rig.split.set_used_element(self._next, used.ident, used.length)
            self._next += 1
            return
        place = self.rig.place(self._next)
        flags = used_flags(place.wrap) | WRITE * (used.length > 0)
        self.rig.packed.describe(place.offset, 0, used.length, flags, used.ident)
        self._next += self.parts

    def write_header(self, buffer: int, num_buffers: int) -> None:
        """Write a virtio_net_hdr into a receive buffer."""
        header = bytes(10) + num_buffers.to_bytes(2, "little")
        self.rig.memory.write(self.rig.slots_gpa + buffer * SLOT_BYTES, header)

    def assert_broken(self) -> None:
        """The driver takes nothing more, even where the device writes something sound."""
        assert self.driver.broken
        assert not self.driver.ready
        free = self.driver.free
        self.use(*(Used(self.ident(i), 60) for i in range(self.driver.buffers)))
        burst = Burst()
        assert self.driver.collect(burst) == 0
        assert self.driver.reclaim() == free
        assert not self.driver.ready
        self.rig.memory.assert_intact()


def send_all(device: HostileDevice) -> None:
    burst = Burst()
    assert device.driver.reserve(burst) == device.driver.buffers
    fill(burst, [bytes(60)] * device.driver.buffers)
    device.driver.send(burst)


@formats
@pytest.mark.parametrize("parts", [1, 3])
def test_driver_takes_back_only_what_the_device_has(ring_format: str, parts: int) -> None:
    for seed in range(SEEDS):
        rng, device = random.Random(seed), HostileDevice(ring_format, parts, False, Features())
        send_all(device)
        buffers = device.driver.buffers
        elements = [Used(device.ident(i), 0) for i in rng.sample(range(buffers), rng.randint(1, buffers))]
        sound = len(elements)
        if rng.random() < 0.7:
            sound = rng.randrange(len(elements))
            twice = [used.ident for used in elements[:sound]]
            no_head = [1] if device.split and parts > 1 else []
            elements[sound:] = [Used(rng.choice([SIZE, 0xFFFF, *twice, *no_head]), 0)]
        device.use(*elements)

        assert device.driver.reclaim() == sound

        assert device.driver.broken == (sound < len(elements))
        if device.driver.broken:
            device.assert_broken()


@pytest.mark.parametrize("index", [SIZE + 1, 0xFFFF, 0x8000])
def test_used_index_that_jumps_breaks_the_queue(index: int) -> None:
    device = HostileDevice(SPLIT, 1, False, Features())
    send_all(device)
    device.rig.split.used_idx = index
    assert device.driver.reclaim() == 0
    device.assert_broken()


def expected_frames(
    elements: Sequence[Used], headers: dict[int, int], merge: bool, in_flight: set[int]
) -> tuple[list[int], bool]:
    """Return the lengths of the frames that are sound, and whether all were."""
    frames: list[int] = []
    queue = list(elements)
    while queue:
        wanted, length = 1, 0
        for n in range(SIZE * 2):
            if n == wanted:
                break
            if not queue or queue[0].ident not in in_flight:
                return frames, False
            used = queue.pop(0)
            in_flight.discard(used.ident)
            if not (HEADER_BYTES if n == 0 else 0) <= used.length <= SLOT_BYTES:
                return frames, False
            if n == 0:
                wanted = max(headers[used.ident], 1) if merge else 1
            length += used.length - (HEADER_BYTES if n == 0 else 0)
        frames.append(length)
    return frames, True


@formats
@pytest.mark.parametrize("merge", [False, True])
def test_driver_takes_only_frames_that_can_be(ring_format: str, merge: bool) -> None:
    for seed in range(SEEDS):
        rng, device = random.Random(seed), HostileDevice(ring_format, 1, True, Features(merge=merge))
        device.driver.post_all()
        headers = {i: rng.choice((0, 1, 1, 1, 2, 3, rng.choice((1, 40, 0xFFFF)))) for i in range(SIZE)}
        for buffer, count in headers.items():
            device.write_header(buffer, count)
        elements = [
            Used(i, rng.choice((HEADER_BYTES, SLOT_BYTES, rng.randint(HEADER_BYTES, SLOT_BYTES))))
            for i in rng.sample(range(SIZE), rng.randint(1, SIZE))
        ]
        if rng.random() < 0.5:
            odd = Used(rng.choice((0, 5, SIZE, 0xFFFF)), rng.choice((0, 11, SLOT_BYTES + 1, 0xFFFF_FFFF)))
            elements[rng.randrange(len(elements))] = odd
        device.use(*elements)

        burst = Burst()
        device.driver.collect(burst)

        frames, sound = expected_frames(elements, headers, merge, set(range(SIZE)))
        assert [len(frame) for frame in contents(burst)] == frames, f"seed {seed}"
        assert device.driver.broken != sound, f"seed {seed}"
        if device.driver.broken:
            device.assert_broken()


@formats
@pytest.mark.parametrize("parts", [1, 2])
def test_in_order_batch_gives_back_every_buffer_up_to_its_last(ring_format: str, parts: int) -> None:
    device = HostileDevice(ring_format, parts, False, Features(in_order=True))
    send_all(device)
    _use_batch(device, last=4, buffers=5)
    assert (device.driver.ready, device.driver.reclaim()) == (True, 5)
    assert (device.driver.ready, device.driver.broken) == (False, False)


@formats
@pytest.mark.parametrize("last", [2, SIZE, 0xFFFF])
def test_in_order_batch_that_ends_outside_of_what_the_device_has_breaks_the_queue(
    ring_format: str, last: int
) -> None:
    device = HostileDevice(ring_format, 1, False, Features(in_order=True))
    send_all(device)
    _use_batch(device, last=4, buffers=5)
    assert device.driver.reclaim() == 5
    _use_batch(device, last=last, buffers=1)
    assert device.driver.reclaim() == 5
    device.assert_broken()


def _use_batch(device: HostileDevice, last: int, buffers: int) -> None:
    """One used element for so many buffers (§2.7.9, §2.8.8)."""
    first = device._next
    device._write(Used(device.ident(last), 0))
    device._next = first + buffers * (1 if device.split else device.parts)
    if device.split:
        device.rig.split.used_idx = device._next


def test_in_order_packed_driver_has_work_while_a_batch_is_not_taken_back() -> None:
    """A receive batch of which only a part was collected: no used descriptor stands for its rest."""
    device = HostileDevice(PACKED, 1, True, Features(in_order=True))
    device.driver.post_all()
    for buffer in range(SIZE):
        device.write_header(buffer, 1)
    device._write(Used(3, 60))
    burst = Burst()
    assert device.driver.collect(burst, 2) == 2
    assert (device.driver.ready, device.driver.arm()) == (True, True)
    assert device.driver.collect(burst) == 2
    assert (device.driver.ready, device.driver.arm()) == (False, False)


def test_frames_of_more_buffers_than_one_burst_holds_are_collected_burst_by_burst() -> None:
    """513 buffers a frame: the fourth frame does not fit beside three others, and comes with the next."""
    setup = Setup(SPLIT, 4096, Features(merge=True), 1, 128, device_writes=True)
    rig = Rig(setup)
    driver, device = rig.native_driver(), rig.model_device()
    driver.post_all()
    frame = bytes(range(256)) * 256
    assert [device.deliver(frame) for _ in range(6)] == ["delivered"] * 6
    device.publish()
    burst, arrived = Burst(), 0
    while driver.collect(burst):
        assert set(contents(burst)) == {frame}
        arrived += len(burst)
        driver.post(burst)
    assert arrived == 6
    assert not driver.broken


@formats
def test_packed_flags_of_descriptors_that_were_never_made_available_are_no_work(ring_format: str) -> None:
    device = HostileDevice(ring_format, 1, False, Features())
    if not device.split:
        device.rig.packed.set_flags(0, avail_flags(True))
    assert not device.driver.ready
    assert device.driver.reclaim() == SIZE
