"""Conversations on one virtqueue: turns drawn from a seeded generator, and what must be true after each.

Every frame arrives once, in order and intact; a full ring holds the sender back; kicks and calls are as the
model decides.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from testbed.native import FRAMES_MAX
from tests.support.ring_model import HEADER_BYTES
from tests.support.ring_pair import PACKED, NotificationOracle, Rig, RxDevice, RxDriver, TxDevice, TxDriver

NATIVE: Final = "native"
MODEL: Final = "model"
TURNS_MAX: Final = 20_000
"""No conversation needs so many: more means that it stands still."""


class Conversation:
    """Frames on their way through a rig; `driver` and `device` are NATIVE or MODEL, `index` needs a MODEL
    driver.
    """

    def __init__(
        self,
        rig: Rig,
        driver: str,
        device: str,
        frames: Sequence[bytes],
        rng: random.Random,
        index: int = 0,
    ) -> None:
        self.rig, self.capacity, self.rng = rig, rig.setup.buffers, rng
        if driver == MODEL:
            self.capacity = min(self.capacity, rig.setup.buffers_max)
        self.oracle = NotificationOracle(rig, index)
        self.waiting, self.expected = deque(frames), deque(frames)
        driver_side = rig.native_driver() if driver == NATIVE else rig.model_driver(index)
        device_side = rig.native_device(index) if device == NATIVE else rig.model_device(index)
        self.shows_at_once = device == MODEL and rig.setup.ring_format == PACKED
        """The model of the packed device writes used descriptors at once, whole requests at a time."""
        self.driver, self.device = RxDriver(driver_side), RxDevice(device_side)

    def run(self) -> None:
        """Take turns until every frame has arrived."""
        turns = self.turns()
        for _ in range(TURNS_MAX):
            if not self.expected:
                break
            self.rng.choice(turns)()
        assert not self.expected, f"{len(self.expected)} frames never arrived"
        assert self.device.fault == ""
        self.rig.memory.assert_intact()

    def say(self, frames: Sequence[bytes]) -> None:
        """Put more frames on their way."""
        self.waiting.extend(frames)
        self.expected.extend(frames)

    def replace_device_by_model(self) -> None:
        """Let the model go on where the native device of a split queue stands."""
        self.give_back()
        self.device = RxDevice(self.rig.model_device(self.rig.split.used_idx))

    def give_back(self) -> None:
        """Complete or publish whatever the device still holds."""
        raise NotImplementedError

    def turns(self) -> list[Callable[[], None]]:
        """What may happen next."""
        return [self.device_asks, self.device_hushes, self.driver_asks, self.driver_hushes]

    def device_asks(self) -> None:
        """The device wants a kick; it hears whether there is work already."""
        assert self.device.ask() in (None, self.work_for_device())

    def driver_asks(self) -> None:
        """The driver wants a call; it hears whether there is something already."""
        assert self.driver.ask() in (None, self.work_for_driver())

    def device_hushes(self) -> None:
        """The device wants no kicks."""
        self.device.hush()

    def driver_hushes(self) -> None:
        """The driver wants no calls."""
        self.driver.hush()

    def work_for_device(self) -> bool:
        """Something is available that the device has not taken."""
        raise NotImplementedError

    def work_for_driver(self) -> bool:
        """Something is used that the driver has not taken back."""
        raise NotImplementedError


class Transmission(Conversation):
    """A transmit queue."""

    def __init__(
        self,
        rig: Rig,
        driver: str,
        device: str,
        frames: Sequence[bytes],
        rng: random.Random,
        index: int = 0,
    ) -> None:
        super().__init__(rig, driver, device, frames, rng, index)
        self.in_ring = self.fetched = self.used = 0

    def turns(self) -> list[Callable[[], None]]:
        return [*super().turns(), self.send, self.fetch, self.fetch, self.complete, self.reclaim]

    def send(self) -> None:
        """As many go out as there are buffers that the device does not have."""
        frames = list(itertools.islice(self.waiting, self.rng.choice((1, 2, 7, FRAMES_MAX))))
        free = self.capacity - self.in_ring - self.fetched
        if len(frames) > self.capacity - self.in_ring - self.fetched - self.used:
            self.used = 0  # the driver takes back what was used when it needs it
        sent, kick = TxDriver.send(self.driver, frames)
        assert sent == min(len(frames), free)
        assert kick == self.oracle.kick(sent)
        self.in_ring += sent
        for _ in range(sent):
            self.waiting.popleft()

    def fetch(self) -> None:
        """Frames come out as they went in."""
        limit = self.rng.choice((1, 3, FRAMES_MAX))
        frames = TxDevice.fetch(self.device, limit)
        assert len(frames) <= limit
        assert bool(frames) == bool(self.in_ring)
        for frame in frames:
            assert frame == self.expected.popleft()
        self.in_ring -= len(frames)
        self.fetched += len(frames)

    def complete(self) -> None:
        """A call is made exactly where the driver asked for it."""
        for frames, call in self.device.complete():
            assert call == self.oracle.call(frames)
        self.used += self.fetched
        self.fetched = 0

    give_back = complete

    def reclaim(self) -> None:
        """Every used buffer comes back."""
        self.driver.reclaim()
        self.used = 0

    def work_for_device(self) -> bool:
        return self.in_ring > 0

    def work_for_driver(self) -> bool:
        return self.used > 0


class Reception(Conversation):
    """A receive queue; all frames of one conversation have the same length."""

    def __init__(
        self,
        rig: Rig,
        driver: str,
        device: str,
        frames: Sequence[bytes],
        rng: random.Random,
        index: int = 0,
    ) -> None:
        super().__init__(rig, driver, device, frames, rng, index)
        need = HEADER_BYTES + len(frames[0])
        self.buffers_each = -(-need // rig.setup.slot_bytes)
        assert self.driver.post_all() == self.oracle.kick(self.capacity)
        self.posted, self.known, self.delivered, self.unpublished = self.capacity, 0, 0, 0

    def turns(self) -> list[Callable[[], None]]:
        return [*super().turns(), self.deliver, self.deliver, self.publish, self.collect]

    def deliver(self) -> None:
        """As many frames are taken as there are buffers for; the rest waits."""
        frames = list(itertools.islice(self.waiting, self.rng.choice((1, 2, 7, 200))))
        done = self.device.deliver(frames)
        assert done == min(len(frames), self.posted // self.buffers_each)
        self.posted -= done * self.buffers_each
        # buffers that do not suffice for the frame that waits are no work, until there are more
        self.known = self.posted if done < len(frames) else 0
        self.unpublished += done
        for _ in range(done):
            self.waiting.popleft()
        if self.shows_at_once:
            self.publish()

    def publish(self) -> None:
        """A call is made exactly where the driver asked for it."""
        assert self.device.publish() == self.oracle.call(self.unpublished * self.buffers_each)
        self.delivered += self.unpublished
        self.unpublished = 0

    give_back = publish

    def collect(self) -> None:
        """Frames arrive whole, once and in order; their buffers go out again."""
        frames, kick = self.driver.collect()
        assert len(frames) <= self.delivered
        assert bool(frames) == bool(self.delivered)
        for frame in frames:
            assert frame == self.expected.popleft()
        buffers = len(frames) * self.buffers_each
        assert kick == self.oracle.kick(buffers)
        self.delivered -= len(frames)
        self.posted += buffers

    def work_for_device(self) -> bool:
        return self.posted > self.known

    def work_for_driver(self) -> bool:
        return self.delivered > 0


def frames_of(rng: random.Random, count: int, length: int) -> list[bytes]:
    """Return frames that differ from one another."""
    return [rng.randbytes(length) for _ in range(count)]
