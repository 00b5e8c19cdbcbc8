"""Hands out contiguous pieces of memory for queues and tables that hardware reads, each aligned to its size.

Reference: ARM IHI 0070 G.b §6.3.24 to §6.3.29 (alignment of tables and queues). Not modelled: giving memory
back; who programs an SMMU or ITS does so once.
"""

from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.errors import MemoryFault
from testbed.memory.access import MemoryAccess


class Arena:
    """A range of memory, handed out from the bottom up."""

    def __init__(self, memory: MemoryAccess, base: int, size_bytes: int) -> None:
        self._memory, self._base, self._next, self._end = memory, base, base, base + size_bytes

    @property
    def used_bytes(self) -> int:
        """What was handed out, with what alignment cost."""
        return self._next - self._base

    def allocate(self, size_bytes: int) -> int:
        """Return the address of zeroed memory: at least a page, a power of two, aligned to its size.

        MemoryFault where the range has too little left.
        """
        rounded = max(1 << (size_bytes - 1).bit_length(), PAGE_SIZE_BYTES)
        at = align_up(self._next, rounded)
        if at + rounded > self._end:
            raise MemoryFault(self._base, self._end - self._base, f"has no room for {size_bytes} bytes more")
        self._memory.write(at, bytes(rounded))
        self._next = at + rounded
        return at
