"""A front end's memory: regions that it shares by descriptor, found by guest physical or its own address.

Reference: "Vhost-user Protocol", Memory access. A file that the front end cuts short afterwards is lost, not
fatal: see `PeerMemory`. Not modelled: IOTLB (ACCESS_PLATFORM is not offered), postcopy.
"""

import os
import stat
from collections import Counter
from dataclasses import dataclass
from typing import Final

from testbed.errors import GuestError
from testbed.native import PeerMemory, Pinned, Regions

SLOTS_MAX: Final = 32
"""Regions at a time (GET_MAX_MEM_SLOTS)."""
_ADDRESSES: Final = 1 << 64


def map_file(descriptor: int, offset: int, size_bytes: int, what: str) -> PeerMemory:
    """Map a part of a front end's file; GuestError where the file is not what the front end says it is."""
    held = os.fstat(descriptor)
    if not stat.S_ISREG(held.st_mode):
        raise _refused(f"{what}: its descriptor is no file in memory")
    if size_bytes <= 0 or offset + size_bytes > held.st_size:
        raise _refused(f"{what}: {size_bytes} bytes from {offset:#x} on, in a file of {held.st_size} bytes")
    try:
        # a file of huge pages says so by its block size, and can be mapped only in whole ones
        return PeerMemory(descriptor, offset, size_bytes, max(held.st_blksize, os.sysconf("SC_PAGESIZE")))
    except (OSError, ValueError, OverflowError) as error:
        raise _refused(f"{what}: cannot be mapped: {error}") from error


_Place = tuple[int, int, int]


@dataclass(frozen=True)
class Region:
    """One region: where the guest, the front end and we have it."""

    gpa: int
    size: int
    uva: int
    memory: PeerMemory

    @property
    def place(self) -> _Place:
        """What names it in a message."""
        return self.gpa, self.size, self.uva

    def covers(self, other: "Region") -> bool:
        """Whether the two have a guest physical or a front-end virtual address in common."""
        return _overlap(self.gpa, self.size, other.gpa, other.size) or _overlap(
            self.uva, self.size, other.uva, other.size
        )


class MemoryTable:
    """The regions of one front end; `native` is what rings and device queues look addresses up in."""

    def __init__(self) -> None:
        self.native = Regions()
        self._regions: list[Region] = []
        self._again: Counter[_Place] = Counter()

    def __len__(self) -> int:
        return len(self._regions)

    def add(self, gpa: int, size: int, uva: int, mmap_offset: int, descriptor: int) -> None:
        """Map a region; the descriptor stays the caller's. GuestError where it cannot be."""
        what = f"a region of {size:#x} bytes at {gpa:#x}"
        if len(self._regions) == SLOTS_MAX:
            raise _refused(f"{what}: more than {SLOTS_MAX} regions")
        if not size or max(gpa, uva, mmap_offset) + size > _ADDRESSES:
            raise _refused(f"{what}, {uva:#x} for the front end: is empty or leaves the address space")
        region = Region(gpa, size, uva, map_file(descriptor, mmap_offset, size, what))
        if any(region.covers(other) for other in self._regions):
            raise _refused(f"{what}, {uva:#x} for the front end: overlaps another")
        self.native.add(gpa, Pinned(region.memory))
        self._regions.append(region)

    def add_again(self, gpa: int, size: int, uva: int) -> bool:
        """Note that a region was given once more, and must be taken away once more; False: it is a new one.

        QEMU 7.2 says ADD_MEM_REG and REM_MEM_REG for every pair of queues.
        """
        place = (gpa, size, uva)
        if not any(region.place == place for region in self._regions):
            return False
        self._again[place] += 1
        return True

    def without(self, gpa: int, size: int, uva: int) -> "MemoryTable":
        """Return a table that lacks one region, or has it once less; GuestError where there is none such."""
        if self._again[gpa, size, uva]:
            self._again[gpa, size, uva] -= 1
            return self
        left = [region for region in self._regions if region.place != (gpa, size, uva)]
        if len(left) == len(self._regions):
            raise _refused(f"no region of {size:#x} bytes at {gpa:#x}, {uva:#x} for the front end")
        table = MemoryTable()
        table._again = self._again
        for region in left:
            table.native.add(region.gpa, Pinned(region.memory))
            table._regions.append(region)
        return table

    def translate(self, uva: int) -> int:
        """Return the guest physical address of a front-end virtual one; GuestError outside every region."""
        for region in self._regions:
            if region.uva <= uva < region.uva + region.size:
                return region.gpa + uva - region.uva
        raise GuestError("address", f"{uva:#x} lies in no region of the front end's memory")

    @property
    def lost(self) -> bool:
        """The front end cut a file short that it shares."""
        return any(region.memory.lost for region in self._regions)


def _overlap(first: int, first_size: int, second: int, second_size: int) -> bool:
    return first < second + second_size and second < first + first_size


def _refused(detail: str) -> GuestError:
    return GuestError("protocol", detail)
