"""Decodes accesses to a frame of a GIC's registers.

Reference: ARM IHI 0069 §12.1.3 (access sizes): registers are accessed whole; 64-bit registers also by halves,
byte-wise ones (priorities) also by bytes. What is no register, or reserved, reads as zero and ignores writes;
such accesses are counted. The registers keep no storage here: handlers, one a name, read and write the state.
"""

from collections.abc import Callable, Mapping
from typing import Final

from testbed.spec.layout import Access, Reg, RegisterMap

Read = Callable[[int], int]
Write = Callable[[int, int], None]
_WORD_BYTES: Final = 4


class Frame:
    """One frame. Handlers are given the index in the register's family; `odd` counts what no driver does."""

    def __init__(
        self,
        registers: RegisterMap,
        reads: Mapping[str, Read],
        writes: Mapping[str, Write],
        odd: Callable[[], None],
        by_byte: frozenset[str] = frozenset(),
    ) -> None:
        self._registers, self._reads, self._writes = registers, reads, writes
        self._odd, self._by_byte = odd, by_byte

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load gives."""
        found = self._find(offset, size_bytes)
        if found is None:
            self._odd()
            return 0
        reg, index, first = found
        return self._whole(reg, index) >> 8 * first & (1 << 8 * size_bytes) - 1

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store."""
        found = self._find(offset, size_bytes)
        if found is None or found[0].access is Access.RO:
            self._odd()
            return
        reg, index, first = found
        handler = self._writes.get(reg.name)
        if handler is None:
            return
        if size_bytes < reg.size:
            mask = (1 << 8 * size_bytes) - 1 << 8 * first
            others = self._whole(reg, index) & ~mask if reg.access is Access.RW else 0
            value = others | value << 8 * first & mask
        handler(index, value)

    def _whole(self, reg: Reg, index: int) -> int:
        handler = self._reads.get(reg.name)
        return reg.reset if handler is None else handler(index)

    def _find(self, offset: int, size_bytes: int) -> tuple[Reg, int, int] | None:
        """Return the register, its index in its family, and the first byte of it that is meant."""
        if size_bytes not in (1, _WORD_BYTES, 2 * _WORD_BYTES) or offset % size_bytes:
            return None
        for start in (offset, offset & ~3, offset & ~7):
            found = self._registers.find(start)
            if found is not None and offset + size_bytes <= start + found[0].size:
                whole = size_bytes >= _WORD_BYTES or found[0].name in self._by_byte
                return (*found, offset - start) if whole else None
        return None
