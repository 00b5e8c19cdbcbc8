"""The statistics registers of the 82540EM.

Reference: 8254x SDM §13.7: a count is cleared when it is read and sticks at its greatest value; the halves
of a 64-bit octet count are both cleared when the high half is read. Native code counts in `words`, one
64-bit word a count. Always zero, because nothing here can cause them: errors of the wire, collisions,
deferral, management.
"""

from functools import partial
from typing import Final

from testbed.memory.register_file import RegisterFile
from testbed.native import Pinned
from testbed.spec.e1000 import OCTET_PAIRS, STATISTICS, STATISTICS_NAMES

_MAX_32: Final = 0xFFFF_FFFF
_MAX_64: Final = 0xFFFF_FFFF_FFFF_FFFF


def _member(name: str) -> str:
    """Return the name of the count behind a register."""
    halves = {high: low for low, high in OCTET_PAIRS.items()}
    low = halves.get(name, name)
    return (low[:-1] if low in OCTET_PAIRS else low).lower()


class Statistics:
    """The counts and their registers."""

    def __init__(self, registers: RegisterFile) -> None:
        self.pinned = Pinned(bytearray(STATISTICS.size))
        self.words = self.pinned.words(0, STATISTICS.size)
        for name in STATISTICS_NAMES:
            registers.on_read(name, self._reader(name))

    def __getitem__(self, name: str) -> int:
        """Return a count (`gprc`, `tor`, ...) without clearing it."""
        return int(self.words[STATISTICS.offset(name) // 8])

    def add(self, name: str, amount: int) -> None:
        """Count `amount` more."""
        index = STATISTICS.offset(name) // 8
        self.words[index] = min(self.words[index] + amount, _MAX_64)

    def reset(self) -> None:
        """Set every count to zero."""
        for index in range(len(self.words)):
            self.words[index] = 0

    def _reader(self, name: str) -> partial[int]:
        index = STATISTICS.offset(_member(name)) // 8
        if name in OCTET_PAIRS:
            return partial(self._low, index)
        if name in OCTET_PAIRS.values():
            return partial(self._high, index)
        return partial(self._take, index)

    def _take(self, index: int) -> int:
        value, self.words[index] = self.words[index], 0
        return min(int(value), _MAX_32)

    def _low(self, index: int) -> int:
        return int(self.words[index]) & _MAX_32

    def _high(self, index: int) -> int:
        value, self.words[index] = self.words[index], 0
        return int(value) >> 32
