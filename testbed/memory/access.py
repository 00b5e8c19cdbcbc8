"""What everyone who reads or writes memory takes: bytes and single values by address.

`HostMemory` (by host physical address), `GuestMemory` (by guest physical address, through stage 2) and
whatever translates for a device all have this face, so its user cannot tell them apart. Reference: design,
"one memory interface". Not modelled: memory attributes.
"""

from typing import Final, Protocol

from testbed.errors import MemoryFault
from testbed.spec import page_table

ACCESS_SIZES_BYTES: Final = (1, 2, 4, 8)

_WHY: Final = {
    page_table.DFSC_ADDRESS_SIZE_L0: "leads outside the physical address size",
    page_table.DFSC_TRANSLATION_L0: "is not mapped",
    page_table.DFSC_ACCESS_FLAG_L0: "has its access flag clear",
    page_table.DFSC_PERMISSION_L0: "does not permit the access",
    page_table.DFSC_EXTERNAL_WALK_L0: "has a translation table that is not in memory",
}


class MemoryAccess(Protocol):
    """Memory by address. Every method raises `MemoryFault` outside what is mapped or without the
    permission, and then moves nothing.
    """

    def read(self, address: int, length_bytes: int) -> bytes:
        """Return a copy of a range, which may cross pages."""
        ...

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write a range, which may cross pages."""
        ...

    def view(self, address: int, length_bytes: int) -> memoryview:
        """Return a range as one piece, without copying; `MemoryFault` where it is not contiguous. Read-only
        where the memory is.
        """
        ...

    def load(self, address: int, size_bytes: int) -> int:
        """Return a little-endian value of 1, 2, 4 or 8 bytes: whole where aligned, ordered as an acquire
        load.
        """
        ...

    def store(self, address: int, size_bytes: int, value: int) -> None:
        """Store a value of 1, 2, 4 or 8 bytes: whole where aligned, ordered as a release store."""
        ...


def memory_fault(word: int, address: int, length_bytes: int) -> MemoryFault:
    """Return the exception for a native fault word (negative, `testbed.spec.page_table.FAULT`)."""
    if page_table.FAULT_SPLIT.get(-word):
        return MemoryFault(address, length_bytes, "is not one piece of host memory")
    dfsc = page_table.FAULT_DFSC.get(-word)
    if dfsc == page_table.DFSC_ALIGNMENT:
        return MemoryFault(address, length_bytes, "crosses a page in one access")
    if dfsc == page_table.DFSC_EXTERNAL:
        return MemoryFault(address, length_bytes, "is not backed by memory")
    return MemoryFault(address, length_bytes, _WHY[dfsc & ~3])
