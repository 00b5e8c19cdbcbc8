"""The statistics registers of the 82576, those of its virtual functions, and drops by receive queue.

Reference: 82576 datasheet (320961, revision 2.63) §8.18: a count is cleared when it is read and sticks at its
greatest value; the halves of a 64-bit octet count are both cleared when the high half is read. §8.26: counts
of a virtual function are never cleared but by a reset and show their low 32 bits. §8.10: RQDPC, 12 bits.
Native code counts in `pinned` (STATISTICS) and `pools` (VF_STATISTICS, one after another), one 64-bit word a
count. Always zero, because nothing here can cause them: errors of the wire, deferral, management.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from testbed.memory.register_file import RegisterFile
from testbed.native import Pinned
from testbed.spec import igb
from testbed.spec.igb_statistics import OCTET_PAIRS, STATISTICS, STATISTICS_NAMES, VF_STATISTICS

_MAX_32: Final = 0xFFFF_FFFF
_WORD_BYTES: Final = 8
_LOWS: Final = {high: low for low, high in OCTET_PAIRS.items()}
_RQDPC_MAX: Final = igb.mask("RQDPC", "RQDPC")


def _member(name: str) -> str:
    """Return the name of the count behind a register."""
    low = _LOWS.get(name, name)
    return (low[:-1] if low in OCTET_PAIRS else low).lower()


class Statistics:
    """The counts and their registers."""

    def __init__(self, registers: RegisterFile) -> None:
        self.pinned = Pinned(bytearray(STATISTICS.size))
        self.pools = Pinned(bytearray(VF_STATISTICS.size * igb.POOLS))
        self._words = self.pinned.words(0, STATISTICS.size)
        self._pool_words = self.pools.words(0, VF_STATISTICS.size * igb.POOLS)
        self._dropped = [0] * igb.QUEUES
        for name in STATISTICS_NAMES:
            registers.on_read(name, self._reader(name))
        registers.on_read_each("RQDPC", self._take_dropped)

    def __getitem__(self, name: str) -> int:
        """Return a count (`gprc`, `tor`, ...) without clearing it."""
        return int(self._words[STATISTICS.offset(name) // _WORD_BYTES])

    def add(self, name: str, amount: int) -> None:
        """Count `amount` more."""
        self._words[STATISTICS.offset(name) // _WORD_BYTES] += amount

    def dropped(self, queue: int, frames: int) -> None:
        """Count frames for which a receive queue had no descriptor."""
        self._dropped[queue] = min(self._dropped[queue] + frames, _RQDPC_MAX)
        self.add("rnbc", frames)

    def pool(self, pool: int, name: str) -> int:
        """Return a count of a pool (`vfgprc`, ...) as its register shows it."""
        index = (pool * VF_STATISTICS.size + VF_STATISTICS.offset(name)) // _WORD_BYTES
        return int(self._pool_words[index]) & _MAX_32

    def reset(self) -> None:
        """Set every count to zero."""
        for index in range(len(self._words)):
            self._words[index] = 0
        for pool in range(igb.POOLS):
            self.reset_pool(pool)
        self._dropped = [0] * igb.QUEUES

    def reset_pool(self, pool: int) -> None:
        """Set the counts of a pool to zero."""
        first, count = pool * VF_STATISTICS.size // _WORD_BYTES, VF_STATISTICS.size // _WORD_BYTES
        for index in range(first, first + count):
            self._pool_words[index] = 0

    def _reader(self, name: str) -> Callable[[], int]:
        index = STATISTICS.offset(_member(name)) // _WORD_BYTES
        if name in OCTET_PAIRS:
            return partial(self._low, index)
        return partial(self._high if name in _LOWS else self._take, index)

    def _take(self, index: int) -> int:
        value, self._words[index] = self._words[index], 0
        return min(int(value), _MAX_32)

    def _low(self, index: int) -> int:
        return int(self._words[index]) & _MAX_32

    def _high(self, index: int) -> int:
        value, self._words[index] = self._words[index], 0
        return int(value) >> 32

    def _take_dropped(self, queue: int) -> int:
        value, self._dropped[queue] = self._dropped[queue], 0
        return value
