"""Register accesses to a PCI function that lives in another process, with nobody in between.

Reference: testbed/spec/bar_window.py (the record), PCI Express Base Specification §2.4 (ordering), §2.8
(completion timeout), §2.3.2 (a read that nobody completes gives all ones). A write is posted in a ring in
shared memory, which costs no exit and no wait; a read waits for its completion, which comes behind every
write posted before it. Tail registers are doorbells: the device takes their writes natively. Not modelled:
write combining, accesses that cross a register.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from testbed.budget import TokenBucket
from testbed.native import BarCompleter, BarRequester, Bell, DoorbellWord, Pinned, TailDoorbell
from testbed.spec import bar_window as spec

_SIZES_BYTES: Final = (1, 2, 4, 8)
_PATIENCE_WITH_GONE_NS: Final = 1_000_000
"""How long a device that did not answer is waited for the next time."""
_WRITES_A_STEP: Final = 64
"""Register writes that one step takes from one window, so that a flood of them delays nobody for long."""
BURST_NS: Final = 10_000_000
"""Time for accesses that a driver may take at once: it comes up in a few hundred, 3 ms."""
SHARE_OF: Final = 16
"""Accesses of a driver that never rests take one part in so many of the device's time."""
QUANTUM_NS: Final = 200_000
"""Who has spent the time goes on when there is so much again: accesses that wait are then made in one go."""
_ROUND_NS: Final = 5_000
"""What it costs the device beside, each time, to turn to accesses from whatever it does."""


class Wait(Protocol):
    """Blocks until a condition holds or a time (CLOCK_MONOTONIC) is reached."""

    def __call__(self, ready: Callable[[], bool], deadline_ns: int | None = None) -> None: ...


class FunctionRegisters(Protocol):
    """The functions of a device as their registers are accessed: BARs by number, and configuration space."""

    def read(self, function: int, space: int, offset: int, size_bytes: int) -> int:
        """Return a register; all ones where nothing answers."""
        ...

    def write(self, function: int, space: int, offset: int, size_bytes: int, value: int) -> None:
        """Write a register; what nothing answers is ignored."""
        ...


def target_word(function: int, space: int, size_bytes: int) -> int:
    """Return the word that says in a window what an access is for."""
    return (
        spec.TARGET_FUNCTION.put(function) | spec.TARGET_SPACE.put(space) | spec.TARGET_SIZE.put(size_bytes)
    )


class Requester:
    """The driver's side of a window: posts writes, waits for reads.

    Parameters
    ----------
    window: the shared pages (`BAR_WINDOW`).
    ring: tells the device that there is something (its bell is `device_bell`).
    wait: how this process waits.
    is_gone: says that the device's process has ended, so that nothing of it is waited for.
    """

    def __init__(
        self,
        window: Pinned,
        ring: Callable[[], None],
        wait: Wait,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._native, self._ring, self._wait, self._clock_ns = BarRequester(window), ring, wait, clock_ns
        self.is_gone = is_gone
        self.gone = False
        """The device did not answer the last time."""
        self.writes = self.reads = 0

    @property
    def native(self) -> BarRequester:
        """Posts writes and takes answers."""
        return self._native

    def write(self, function: int, space: int, offset: int, size_bytes: int, value: int) -> None:
        """Post a write; waits only where the ring is full. What a device that is gone misses is lost."""
        target = target_word(function, space, size_bytes)
        self.writes += 1
        while not self._native.post(target, offset, value):
            self._ring()
            if not self._until(lambda: self._native.ready):
                return
        self._ring()

    def read(self, function: int, space: int, offset: int, size_bytes: int) -> int:
        """Return a register; all ones where the device does not answer."""
        self.reads += 1
        mask = (1 << 8 * size_bytes) - 1
        self._native.ask(target_word(function, space, size_bytes), offset)
        self._ring()
        if not self._until(lambda: self._native.answer() is not None):
            return spec.ALL_ONES & mask
        answer = self._native.answer()
        assert answer is not None
        return answer & mask

    def _until(self, ready: Callable[[], bool]) -> bool:
        """Wait for the device; False where it is gone."""
        if not ready() and not self.is_gone():
            patience_ns = _PATIENCE_WITH_GONE_NS if self.gone else spec.COMPLETION_TIMEOUT_NS
            self._wait(lambda: ready() or self.is_gone(), self._clock_ns() + patience_ns)
        self.gone = not ready()
        return not self.gone


class BarPort:
    """One register space of one function, as a driver has it mapped."""

    def __init__(self, requester: Requester, space: int, function: int = 0) -> None:
        self._requester, self._space, self._function = requester, space, function

    def doorbell(self, offset: int, bell: Bell) -> TailDoorbell:
        """Return a 32-bit register for native code to write; `bell` is the device's."""
        target = target_word(self._function, self._space, 4)
        return TailDoorbell(self._requester.native, target, offset, bell)

    def read32(self, offset: int) -> int:
        """Return a register."""
        return self._requester.read(self._function, self._space, offset, 4)

    def write32(self, offset: int, value: int) -> None:
        """Write a register."""
        self._requester.write(self._function, self._space, offset, 4, value)

    def read(self, offset: int, size_bytes: int) -> int:
        """Return a register of 1, 2, 4 or 8 bytes."""
        return self._requester.read(self._function, self._space, offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Write a register of 1, 2, 4 or 8 bytes."""
        self._requester.write(self._function, self._space, offset, size_bytes, value)


def access_budget() -> TokenBucket:
    """Return how much of a device's time (tokens are ns) the accesses of an untrusted driver may take.

    Doorbells take none. A driver that runs makes an access or two each time that it sleeps. Whoever takes
    more is waited for by its own posted writes, which find no room, as writes find no credits where a real
    device is slower than its driver. Measured: without that, or with 25,000 accesses a second, a driver that
    writes registers without end costs the frames of all others a fourth to a half of their speed.
    """
    return TokenBucket(BURST_NS, SHARE_OF)


class Completer:
    """The device's side of a window.

    Parameters
    ----------
    window: the shared pages.
    registers: what is accessed.
    ring: tells the driver that its read was answered.
    function: the one function that the window is of, whatever the other side writes; None: any.
    spaces: what the window gives access to; None: every BAR and configuration space.
    budget: time for accesses, a token a nanosecond; None: any, for drivers that are trusted.
    work_clock_ns: time that this thread has worked: what it waits for a processor is nobody's doing.
    """

    def __init__(
        self,
        window: Pinned,
        registers: FunctionRegisters,
        ring: Callable[[], None],
        function: int | None = None,
        spaces: frozenset[int] | None = None,
        budget: TokenBucket | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        work_clock_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self.watched = BarCompleter(window, function)
        self.bell = Bell(window, spec.BELL_TO_DEVICE)
        """Rung by the driver; to be armed before this process sleeps."""
        self._registers, self._ring, self._spaces = registers, ring, spaces
        self._budget, self._clock_ns, self._work_clock_ns = budget, clock_ns, work_clock_ns
        self.throttled = 0
        """How often the budget was spent."""
        self.access_ns = 0
        """Time that accesses with a budget have taken."""
        self.refused = 0
        """Accesses of a size or to a space that the window does not have."""

    def add_doorbell(self, function: int, space: int, offset: int, word: DoorbellWord) -> None:
        """Have 32-bit writes of a register go straight into `word`."""
        self.watched.add_doorbell(target_word(function, space, 4), offset, word)

    def step(self) -> bool:
        """Do what was asked, a limited number of accesses; say whether there was anything."""
        if not self.watched.ready:
            return False
        if self._budget is None:
            self._serve()
        else:
            begun_ns = self._work_clock_ns()
            self._serve()
            self._charge(self._budget, self._work_clock_ns() - begun_ns + _ROUND_NS)
        return True

    def deadline_ns(self) -> int | None:
        """Return when accesses that wait for the budget may be made, None where none does."""
        if self.watched.active or self._budget is None:
            return None
        return self._budget.due_ns(QUANTUM_NS) or 0

    def resume(self, now_ns: int) -> None:
        """Go on with accesses that waited for the budget, where it allows that."""
        if self._budget is None or self.watched.active:
            return
        if self._budget.available(now_ns) >= min(QUANTUM_NS, self._budget.burst):
            self.watched.active, self.watched.paused = True, False

    def _serve(self) -> None:
        """Make accesses in the order of coming: a read waits for the writes before it."""
        for _ in range(_WRITES_A_STEP):
            posted = self.watched.take()
            if posted is None:
                break
            self._write(*posted)
        asked = self.watched.take_read()
        if asked is not None:
            self.watched.reply(self._read(*asked))
            self._ring()

    def _charge(self, budget: TokenBucket, took_ns: int) -> None:
        self.access_ns += took_ns
        budget.spend(took_ns, self._clock_ns())
        if budget.due_ns() is not None:
            self.watched.active, self.watched.paused = False, True
            self.throttled += 1

    def _write(self, target: int, offset: int, value: int) -> None:
        if not self._permits(target):
            return
        size = spec.TARGET_SIZE.get(target)
        function, space = spec.TARGET_FUNCTION.get(target), spec.TARGET_SPACE.get(target)
        self._registers.write(function, space, offset, size, value & (1 << 8 * size) - 1)

    def _read(self, target: int, offset: int) -> int:
        if not self._permits(target):
            return spec.ALL_ONES
        function, space = spec.TARGET_FUNCTION.get(target), spec.TARGET_SPACE.get(target)
        return self._registers.read(function, space, offset, spec.TARGET_SIZE.get(target))

    def _permits(self, target: int) -> bool:
        permitted = spec.TARGET_SIZE.get(target) in _SIZES_BYTES and (
            self._spaces is None or spec.TARGET_SPACE.get(target) in self._spaces
        )
        self.refused += not permitted
        return permitted
