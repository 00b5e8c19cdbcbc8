"""No wake-up is lost and none is sent in vain: bells and rings between two processes, and the watch over many
things.

Both sides work and sleep as the testbed's processes do: look, ask for a message, look once more, block. A
lost wake-up would leave both asleep.
"""

import mmap
import os
import random
from collections.abc import Iterator
from typing import Final

import pytest

from testbed.native import (
    Bell,
    Burst,
    FrameStore,
    Pinned,
    SharedWords,
    Watch,
    Watched,
    WordChanges,
)
from testbed.spec.vcpu_page import BELL
from tests.support.beside import Messages, beside
from tests.support.ring_model import Features
from tests.support.ring_pair import (
    PACKED,
    PORT,
    SPLIT,
    NativeDevice,
    NativeDriver,
    Rig,
    Setup,
    contents,
    fill,
)

ROUNDS: Final = 3000
FRAMES: Final = 4000
WORD: Final = 128


@pytest.fixture
def page() -> Pinned:
    return Pinned(mmap.mmap(-1, mmap.PAGESIZE))


@pytest.fixture
def lines() -> Iterator[tuple[Messages, Messages]]:
    both = Messages(), Messages()
    yield both
    for line in both:
        line.close()


class Party:
    """One of two processes: a word that it counts up, the other's word that it watches, a bell each way."""

    def __init__(self, page: Pinned, number: int, inbox: Messages, outbox: Messages, seed: int) -> None:
        self._words, self._number = SharedWords(page), number
        self._theirs = WordChanges(page, WORD + 4 * (1 - number))
        self._bell_out, self._bell_in = Bell(page, 64 * (1 - number)), Bell(page, 64 * number)
        self._inbox, self._outbox = inbox, outbox
        self._watch: Watch[str] = Watch()
        self._watch.add(self._theirs, "word")
        self._watch.add_bell(self._bell_in)
        self._rng = random.Random(seed)

    def say(self, value: int) -> None:
        """Publish a number and wake the other where it sleeps."""
        self._words.store32(WORD + 4 * self._number, value)
        if self._bell_out.ring():
            self._outbox.send()

    def hear(self) -> int:
        """Return the other's number once it has changed; sleeps where it must."""
        while not self._watch.ready():
            for _ in range(self._rng.choice((0, 0, 1, 50, 400))):  # poll for a while, or not at all
                os.sched_yield()
            if self._watch.arm():
                self._inbox.sleep()
                self._watch.disarm()
        return self._theirs.take()


def test_two_processes_that_answer_each_other_never_both_sleep(
    page: Pinned, lines: tuple[Messages, Messages]
) -> None:
    first, second = Party(page, 0, lines[0], lines[1], 1), Party(page, 1, lines[1], lines[0], 2)

    def answer() -> None:
        for number in range(1, ROUNDS + 1):
            while second.hear() != number:
                pass
            second.say(number)

    with beside(answer):
        for number in range(1, ROUNDS + 1):
            first.say(number)
            while first.hear() != number:
                pass
    assert_no_message_twice(page, lines[0], 0)


def test_process_that_is_rung_at_any_rate_sees_the_last_ring(
    page: Pinned, lines: tuple[Messages, Messages]
) -> None:
    listener, ringer = Party(page, 0, lines[0], lines[1], 3), Party(page, 1, lines[1], lines[0], 4)

    def ring() -> None:
        rng = random.Random(4)
        for number in range(1, 10 * ROUNDS + 1):
            ringer.say(number)
            for _ in range(rng.choice((0, 0, 0, 5, 100))):
                os.sched_yield()

    with beside(ring):
        while listener.hear() != 10 * ROUNDS:
            pass
    assert_no_message_twice(page, lines[0], 0)
    assert Bell(page, 0).rung == 10 * ROUNDS


def assert_no_message_twice(page: Pinned, inbox: Messages, bell: int) -> None:
    """Every message stands for one arming, and no more were sent than rung."""
    rung = Bell(page, 64 * bell)
    assert inbox.received + inbox.waiting() == rung.sent
    assert rung.sent <= rung.rung


class Side:
    """A process with one side of a ring; it sleeps until the other side's notification."""

    def __init__(self, ring: NativeDevice | NativeDriver, inbox: Messages, outbox: Messages) -> None:
        self._ring, self._inbox, self._outbox = ring, inbox, outbox

    def notify(self, wanted: bool) -> None:
        """Send a kick or a call where the ring says so."""
        if wanted:
            self._outbox.send()

    def sleep(self) -> None:
        """Ask for a notification and block, but not where there is something already."""
        if not self._ring.arm():
            self._inbox.sleep()
        self._ring.disarm()


ring_kinds = pytest.mark.parametrize("ring_format", [SPLIT, PACKED])
event_kinds = pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event_idx"])
sizes = pytest.mark.parametrize("size", [1, 4, 64])


def numbered(first: int, count: int) -> list[bytes]:
    return [n.to_bytes(4, "little") * 4 for n in range(first, first + count)]


@ring_kinds
@event_kinds
@sizes
def test_sender_and_device_never_both_sleep(
    ring_format: str, event_idx: bool, size: int, lines: tuple[Messages, Messages]
) -> None:
    rig = Rig(Setup(ring_format, size, Features(event_idx=event_idx), slot_bytes=32))
    driver, device = rig.native_driver(), rig.native_device()
    driver.disarm()
    device.disarm()

    def send() -> None:
        rng, side, burst, sent = random.Random(size), Side(driver, lines[1], lines[0]), Burst(), 0
        while sent < FRAMES:
            if not driver.reserve(burst, min(rng.randint(1, size), FRAMES - sent)):
                side.sleep()
                continue
            fill(burst, numbered(sent, len(burst)))
            sent += len(burst)
            side.notify(driver.send(burst))

    side, burst, arrived = Side(device, *lines), Burst(), 0
    with beside(send):
        while arrived < FRAMES:
            if not device.fetch(burst, 1 + arrived % 7):
                side.sleep()
                continue
            assert contents(burst) == numbered(arrived, len(burst))
            arrived += len(burst)
            side.notify(device.complete(burst))
    assert device.fault == 0


@ring_kinds
@event_kinds
@sizes
def test_device_and_receiver_never_both_sleep(
    ring_format: str, event_idx: bool, size: int, lines: tuple[Messages, Messages]
) -> None:
    rig = Rig(Setup(ring_format, size, Features(event_idx=event_idx), slot_bytes=32, device_writes=True))
    driver, device = rig.native_driver(), rig.native_device()
    driver.disarm()
    device.disarm()

    def deliver() -> None:
        rng, side, store, sent = random.Random(size), Side(device, lines[1], lines[0]), FrameStore(), 0
        while sent < FRAMES:
            store.load(numbered(sent, min(rng.randint(1, 9), FRAMES - sent)))
            reached = device.deliver(store, 0, PORT)
            sent += reached
            side.notify(device.publish())
            if reached < len(store):
                side.sleep()

    side, burst, arrived = Side(driver, *lines), Burst(), 0
    with beside(deliver):
        side.notify(driver.post_all())
        while arrived < FRAMES:
            if not driver.collect(burst):
                side.sleep()
                continue
            assert contents(burst) == numbered(arrived, len(burst))
            arrived += len(burst)
            side.notify(driver.post(burst))
    assert not driver.broken


# One process


def test_bell_sends_one_message_for_one_arming(page: Pinned) -> None:
    bell, watch = Bell(page), Watch[int]()
    watch.add_bell(bell)
    assert [bell.ring() for _ in range(3)] == [False] * 3
    assert watch.arm()
    assert bell.armed
    assert [bell.ring() for _ in range(3)] == [True, False, False]
    assert (bell.armed, bell.rung, bell.sent) == (False, 6, 1)


def test_bell_lies_where_the_record_says(page: Pinned) -> None:
    bell, words = Bell(page, BELL.size), SharedWords(page)
    words.store32(BELL.size + BELL.offset("armed"), 1)
    assert bell.ring()
    assert words.load64(BELL.size + BELL.offset("rung")) == 1
    assert words.load64(BELL.size + BELL.offset("sent")) == 1
    assert words.load32(BELL.size + BELL.offset("armed")) == 0


@pytest.mark.parametrize("offset", [-64, mmap.PAGESIZE - 8, mmap.PAGESIZE])
def test_bell_outside_of_its_page_is_refused(page: Pinned, offset: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Bell(page, offset)


def test_shared_words_are_little_endian_and_bounded(page: Pinned) -> None:
    words = SharedWords(page)
    words.store64(8, 0x1122_3344_5566_7788)
    assert (words.load32(8), words.load32(12)) == (0x5566_7788, 0x1122_3344)
    assert words.set_bits64(8, 1) == 0x1122_3344_5566_7788
    assert words.clear_bits64(8, 0x89) == 0x1122_3344_5566_7789
    assert words.load64(8) == 0x1122_3344_5566_7700
    with pytest.raises(ValueError, match="do not fit"):
        words.load64(mmap.PAGESIZE - 4)
    with pytest.raises(ValueError, match="do not fit"):
        words.store32(-1, 0)


class Watching:
    """Two words that are watched under their names, and a bell."""

    def __init__(self, page: Pinned) -> None:
        self.words, self.bell, self.watch = SharedWords(page), Bell(page), Watch[str]()
        self.items: dict[str, Watched] = {"a": WordChanges(page, WORD), "b": WordChanges(page, WORD + 4)}
        for name, item in self.items.items():
            self.watch.add(item, name)
        self.watch.add_bell(self.bell)

    def change(self, name: str) -> None:
        at = WORD + 4 * (name == "b")
        self.words.store32(at, self.words.load32(at) + 1)


def test_watch_names_what_has_work(page: Pinned) -> None:
    seen = Watching(page)
    assert seen.watch.ready() == []
    seen.change("b")
    assert seen.watch.ready() == ["b"]
    seen.change("a")
    assert seen.watch.ready() == ["a", "b"]


def test_watch_arms_only_where_there_is_no_work(page: Pinned) -> None:
    seen = Watching(page)
    assert seen.watch.arm()
    assert seen.bell.armed
    seen.watch.disarm()
    seen.change("a")
    assert not seen.watch.arm()
    assert not seen.bell.armed


def test_item_that_is_not_active_is_not_looked_at(page: Pinned) -> None:
    seen = Watching(page)
    seen.items["a"].active = False
    seen.change("a")
    assert seen.watch.ready() == []
    assert seen.watch.arm()
    seen.items["a"].active = True
    assert seen.watch.ready() == ["a"]


def test_item_that_was_discarded_is_not_looked_at(page: Pinned) -> None:
    seen = Watching(page)
    seen.change("a")
    seen.change("b")
    seen.watch.discard(seen.items["a"])
    seen.watch.discard(seen.items["a"])
    assert seen.watch.ready() == ["b"]


def test_watch_over_nothing_sleeps(page: Pinned) -> None:
    assert Watch[int]().arm()
    assert Watch[int]().ready() == []


def test_watched_ring_is_armed_and_disarmed_with_the_watch() -> None:
    rig = Rig(Setup(SPLIT, 4, slot_bytes=64))
    device, watch = rig.native_device(), Watch[str]()
    watch.add(device, "ring")
    watch.disarm()
    assert rig.split.used_flags == 1
    assert watch.arm()
    assert rig.split.used_flags == 0
    rig.split.avail_idx = 1
    assert watch.ready() == ["ring"]
    assert not watch.arm()
    assert rig.split.used_flags == 1
