"""Kinds of address, each a type of its own, on disjoint bases.

A forgotten translation must fail at once, so the planner places the spaces where none overlaps another:
guest physical addresses stay below `GPA_LIMIT`, host physical addresses begin at `HPA_BASE` and I/O virtual
addresses that a guest's own stage 1 hands out begin at `IOVA_BASE`.
"""

from collections.abc import Iterator
from typing import Final, NewType

Hva = NewType("Hva", int)
"""Host virtual address: a pointer in one process."""
Hpa = NewType("Hpa", int)
"""Host physical address: an offset into a host's segments, from `HPA_BASE` up."""
Gpa = NewType("Gpa", int)
"""Guest physical address (intermediate physical address in Arm's words)."""
Iova = NewType("Iova", int)
"""Address that a device puts on the bus."""
StreamId = NewType("StreamId", int)
"""What the SMMU indexes its stream table with; the requester ID of a PCI function."""
Bdf = NewType("Bdf", int)
"""PCI bus, device, function as 16 bits: the requester ID."""

PAGE_SHIFT: Final = 12
PAGE_SIZE_BYTES: Final = 1 << PAGE_SHIFT
CACHE_LINE_BYTES: Final = 64
BLOCK_SIZE_BYTES: Final = 1 << 21
"""A level-2 block of the 4 KiB granule."""

GPA_LIMIT: Final = Gpa(1 << 39)
HPA_BASE: Final = Hpa(1 << 40)
HPA_HOST_STRIDE_BYTES: Final = 1 << 40
"""Each host of a topology owns one TiB of host physical address space."""
IOVA_BASE: Final = Iova(0x7000_0000_0000)
ADDRESS_BITS: Final = 48

GUEST_GICD_GPA: Final = Gpa(0x0800_0000)
"""The distributor of a guest's interrupt controller, where QEMU's `virt` machine has it."""
GUEST_ITS_GPA: Final = Gpa(0x0808_0000)
"""Its ITS, where it has one: control frame, then translation frame."""
GUEST_GICR_GPA: Final = Gpa(0x080A_0000)
"""The redistributors, one after another."""
GUEST_RAM_GPA: Final = Gpa(0x4000_0000)
"""Where a guest's RAM begins; below it are device windows."""


def align_up(value: int, alignment: int) -> int:
    """Return the least multiple of `alignment` (a power of two) that is not below `value`."""
    return (value + alignment - 1) & -alignment


def split_pages(
    address: int, length_bytes: int, page_bytes: int = PAGE_SIZE_BYTES
) -> Iterator[tuple[int, int]]:
    """Yield (address, length) pieces of a range, none of which crosses a page border."""
    end = address + length_bytes
    while address < end:
        piece = min(end, (address & -page_bytes) + page_bytes) - address
        yield address, piece
        address += piece
