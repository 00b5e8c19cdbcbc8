"""Hands out pieces of a guest's RAM to its drivers: the guest kernel's allocator for rings and buffers.

Reference: design, "Addresses". Not modelled: giving RAM back.
"""

from dataclasses import dataclass

from testbed.address import PAGE_SIZE_BYTES, Gpa, Iova, align_up
from testbed.errors import MachineError
from testbed.memory.guest import GuestMemory
from testbed.native import Pinned


@dataclass(frozen=True)
class Piece:
    """A contiguous piece of RAM: its guest physical address and where the guest has it mapped."""

    gpa: Gpa
    size_bytes: int
    pinned: Pinned

    @property
    def iova(self) -> Iova:
        """Its address for a device whose transactions no stage 1 of the guest translates."""
        return Iova(self.gpa)


class RamAllocator:
    """Hands out RAM from the bottom up; nothing is given back."""

    def __init__(self, memory: GuestMemory, base: Gpa, size_bytes: int) -> None:
        self._memory, self._next, self._end = memory, int(base), base + size_bytes

    def take(self, size_bytes: int, purpose: str) -> Piece:
        """Return zeroed, page-aligned RAM; MachineError where the guest has too little."""
        size_bytes = align_up(size_bytes, PAGE_SIZE_BYTES)
        if self._next + size_bytes > self._end:
            left = self._end - self._next
            raise MachineError(
                f"{purpose}: needs {size_bytes} bytes of the guest's RAM, where {left} are left; "
                "give the guest more memory"
            )
        gpa = Gpa(self._next)
        self._next += size_bytes
        return Piece(gpa, size_bytes, Pinned(self._memory.view(gpa, size_bytes)))
