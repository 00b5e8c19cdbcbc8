"""Register accesses through shared pages: order, completions, doorbells; what a hostile side may write."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.budget import TokenBucket
from testbed.native import Bell, DoorbellWord, Pinned, SharedWords
from testbed.pci.bar_window import QUANTUM_NS, BarPort, Completer, Requester, target_word
from testbed.spec import bar_window as spec
from tests.support.recorders import ManualClock


class RecordingRegisters:
    """Registers that remember every access; a read gives its own number."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def read(self, function: int, space: int, offset: int, size_bytes: int) -> int:
        self.seen.append(("r", function, space, offset, size_bytes))
        return 0x1111_2222_3333_4400 + len(self.seen)

    def write(self, function: int, space: int, offset: int, size_bytes: int, value: int) -> None:
        self.seen.append(("w", function, space, offset, size_bytes, value))


class Ends:
    """Both sides of one window; the device works while the driver waits, unless it is dead."""

    def __init__(self, function: int | None = None, spaces: frozenset[int] | None = None) -> None:
        self.page = Pinned(bytearray(spec.BAR_WINDOW.size))
        self.words = SharedWords(self.page)
        self.registers = RecordingRegisters()
        self.clock = ManualClock()
        self.dead = False
        to_device = Bell(self.page, spec.BELL_TO_DEVICE)
        to_driver = Bell(self.page, spec.BELL_TO_DRIVER)
        self.requester = Requester(self.page, lambda: self._rung(to_device), self._wait, self.clock)
        self.completer = Completer(self.page, self.registers, lambda: self._rung(to_driver), function, spaces)
        self.rings = 0

    def _rung(self, bell: Bell) -> None:
        self.rings += 1
        bell.ring()

    def _wait(self, ready: Callable[[], bool], deadline_ns: int | None = None) -> None:
        while not ready():
            if self.dead:
                assert deadline_ns is not None
                self.clock.now_ns = deadline_ns
                return
            assert self.completer.step()

    def drain(self) -> None:
        while self.completer.step():
            pass


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_read_comes_behind_every_write_before_it(ends: Ends) -> None:
    port = BarPort(ends.requester, space=0, function=2)
    port.write32(0x100, 7)
    port.write32(0x104, 0x1_0000_0008)
    value = port.read32(0x108)

    assert ends.registers.seen == [("w", 2, 0, 0x100, 4, 7), ("w", 2, 0, 0x104, 4, 8), ("r", 2, 0, 0x108, 4)]
    assert value == 0x3333_4403
    assert ends.requester.reads == 1


def test_accesses_of_every_size_and_space(ends: Ends) -> None:
    port = BarPort(ends.requester, space=spec.SPACE_CONFIGURATION, function=8)
    port.write(0x4, 2, 0x1_0406)
    port.write(0x10, 8, 1 << 63)
    assert port.read(0, 1) == 0x03
    assert port.read(0, 8) == 0x1111_2222_3333_4404
    assert ends.registers.seen[0] == ("w", 8, 16, 4, 2, 0x0406)
    assert ends.registers.seen[1] == ("w", 8, 16, 0x10, 8, 1 << 63)


def test_doorbell_is_taken_natively_and_in_order(ends: Ends) -> None:
    word = DoorbellWord()
    ends.completer.add_doorbell(1, 0, 0x3818, word)
    port = BarPort(ends.requester, space=0, function=1)
    at_write: list[int] = []
    ends.registers.write = lambda *_: at_write.append(word.value)  # type: ignore[method-assign]

    port.write32(0x3818, 5)
    port.write32(0x3828, 1)
    port.write32(0x3818, 9)
    ends.drain()

    assert at_write == [5]
    assert (word.value, word.writes) == (9, 2)


def test_doorbell_of_another_function_size_or_space_is_a_register(ends: Ends) -> None:
    word = DoorbellWord()
    ends.completer.add_doorbell(1, 0, 0x3818, word)
    ends.requester.write(2, 0, 0x3818, 4, 5)
    ends.requester.write(1, 3, 0x3818, 4, 5)
    ends.requester.write(1, 0, 0x3818, 8, 5)
    ends.drain()
    assert word.writes == 0
    assert len(ends.registers.seen) == 3


def test_window_of_one_function_cannot_reach_another() -> None:
    ends = Ends(function=4, spaces=frozenset({0, 3}))
    word = DoorbellWord()
    ends.completer.add_doorbell(4, 0, 0x3818, word)
    ends.requester.write(0, 0, 0x3818, 4, 11)
    ends.requester.write(0, 0, 0x100, 4, 1)
    ends.requester.write(4, spec.SPACE_CONFIGURATION, 0, 4, 1)
    assert ends.requester.read(0, spec.SPACE_CONFIGURATION, 0, 4) == 0xFFFF_FFFF
    assert ends.requester.read(7, 3, 0x10, 4) == 0x3333_4402

    assert word.value == 11
    assert ends.registers.seen == [("w", 4, 0, 0x100, 4, 1), ("r", 4, 3, 0x10, 4)]
    assert ends.completer.refused == 2


def test_full_ring_makes_the_driver_wait(ends: Ends) -> None:
    for number in range(spec.POSTED_MAX + 3):
        ends.requester.write(0, 0, 4 * number, 4, number)
    ends.drain()
    assert [row[3] for row in ends.registers.seen] == [4 * n for n in range(spec.POSTED_MAX + 3)]


def test_dead_device_reads_as_all_ones_and_blocks_nobody(ends: Ends) -> None:
    ends.dead = True
    port = BarPort(ends.requester, space=0)
    begun_ns = ends.clock.now_ns
    assert port.read32(0) == 0xFFFF_FFFF
    assert ends.requester.gone
    assert ends.clock.now_ns - begun_ns == spec.COMPLETION_TIMEOUT_NS
    for number in range(2 * spec.POSTED_MAX):
        port.write32(0, number)
    assert port.read(0, 8) == (1 << 64) - 1

    ends.dead = False
    ends.drain()
    assert port.read32(0x40) == 0x3333_4400 + len(ends.registers.seen)
    assert not ends.requester.gone


def test_flood_of_writes_is_taken_in_limited_steps(ends: Ends) -> None:
    for number in range(200):
        ends.requester.write(0, 0, 0x100, 4, number)
    ends.completer.step()
    assert len(ends.registers.seen) == 64


ACCESS_NS = 1000


def budgeted(ends: Ends) -> Completer:
    """Return a completer of the same window, each access to which takes a while, with a budget."""
    seen = ends.registers.seen
    return Completer(
        ends.page,
        ends.registers,
        lambda: None,
        1,
        budget=TokenBucket(burst=QUANTUM_NS, token_ns=10),
        clock_ns=ends.clock,
        work_clock_ns=lambda: len(seen) * ACCESS_NS,
    )


def test_whose_accesses_take_too_long_waits_for_time_to_pass_and_loses_none(ends: Ends) -> None:
    completer = budgeted(ends)
    for number in range(256):
        ends.requester.write(1, 0, 0x100, 4, number)
    while completer.watched.active:
        assert completer.step()
    made = len(ends.registers.seen)
    assert QUANTUM_NS <= completer.access_ns <= QUANTUM_NS + 64 * ACCESS_NS + 5_000
    assert (made < 256, completer.throttled) == (True, 1)
    due_ns = completer.deadline_ns()
    assert due_ns is not None
    assert due_ns >= ends.clock.now_ns + 10 * QUANTUM_NS
    for now_ns, active in ((due_ns - 10, False), (due_ns, True)):
        ends.clock.now_ns = now_ns
        completer.resume(now_ns)
        assert completer.watched.active is active
    while len(ends.registers.seen) < 256:
        completer.step()
        ends.clock.now_ns += QUANTUM_NS
        completer.resume(ends.clock.now_ns)
    assert [write[-1] for write in ends.registers.seen] == list(range(256))


def test_a_read_is_an_access_and_a_doorbell_is_none(ends: Ends) -> None:
    completer, word = budgeted(ends), DoorbellWord()
    completer.add_doorbell(1, 0, 0x20, word)
    for number in range(400):
        ends.requester.write(1, 0, 0x20, 4, number)
    completer.step()
    assert (word.value, word.writes, completer.watched.coalesced) == (399, 400, 399)
    assert completer.watched.active
    native = SharedWords(ends.page)
    for number in range(1, 50):
        if completer.watched.active:
            native.store32(spec.BAR_WINDOW.offset("read_number"), number)
            completer.step()
    assert 2 <= completer.refused < 49  # of no size
    assert not completer.watched.active


def test_doorbells_of_two_queues_in_turn_are_not_coalesced(ends: Ends) -> None:
    words = [DoorbellWord(), DoorbellWord()]
    for queue, word in enumerate(words):
        ends.completer.add_doorbell(0, 0, 0x20 + 4 * queue, word)
    for number in range(4):
        ends.requester.write(0, 0, 0x20 + 4 * (number % 2), 4, number)
    ends.completer.step()
    assert ([word.value for word in words], ends.completer.watched.coalesced) == ([2, 3], 0)


def test_new_completer_goes_on_where_the_last_one_ended(ends: Ends) -> None:
    port = BarPort(ends.requester, space=0)
    port.read32(0)
    port.write32(8, 1)
    again = Completer(ends.page, ends.registers, lambda: None)
    assert again.step()
    assert ends.registers.seen[-1] == ("w", 0, 0, 8, 4, 1)
    assert not again.step()


def test_claiming_more_writes_than_the_ring_has_is_counted_and_skipped(ends: Ends) -> None:
    ends.words.store32(spec.BAR_WINDOW.offset("produced"), 0x8000_0000)
    ends.drain()
    assert ends.registers.seen == []
    assert ends.completer.watched.overruns == 1
    assert not ends.completer.watched.ready


@given(seed=st.integers(0, 2**32 - 1))
def test_scribbled_window_ends_and_reaches_its_own_function_only(seed: int) -> None:
    ends = Ends(function=3, spaces=frozenset({0}))
    dice = random.Random(seed)
    ends.completer.add_doorbell(3, 0, 0x3818, DoorbellWord())
    for _ in range(4):
        ends.page.bytes_view()[:] = dice.randbytes(spec.BAR_WINDOW.size)
        for _ in range(20):
            ends.completer.step()
    assert all(row[1] == 3 and row[2] == 0 for row in ends.registers.seen)


def test_target_word_names_function_space_and_size() -> None:
    assert target_word(8, 3, 4) == 0x0403_0008
