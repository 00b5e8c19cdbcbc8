"""Builds VMSAv8-64 translation tables in memory: map, unmap and change permissions of ranges.

Reference: DDI 0487 D8.3 (descriptors), D8.14.3 (break-before-make: a valid descriptor is first made invalid
and the translation invalidated before another takes its place). The owner of the table passes in what
invalidates. Not modelled: level-1 blocks, the contiguous hint, sharing of tables between two trees, changes
to one tree by two threads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from testbed.address import BLOCK_SIZE_BYTES, PAGE_SIZE_BYTES
from testbed.errors import MemoryFault
from testbed.memory.access import MemoryAccess
from testbed.memory.host import FrameAllocator
from testbed.spec import page_table as pt

BLOCK_LEVEL = 2

Invalidate = Callable[[int, int], None]
"""(input address, length): returns when no translation of the range is cached any more."""


def _nothing_caches(_address: int, _length_bytes: int) -> None:
    """Stand in for an invalidation where nothing caches translations."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a mapping permits and how it behaves."""

    read: bool = True
    write: bool = True
    unprivileged: bool = True
    """Stage 1 only: AP[1]."""
    is_global: bool = False
    """Stage 1 only: shared by every ASID."""
    device: bool = False
    """Device memory; stage 2's MemAttr."""


def stage2_leaf(attributes: Attributes) -> int:
    """Return a stage-2 leaf's attribute bits."""
    memory = pt.S2_MEM_ATTR_DEVICE if attributes.device else pt.S2_MEM_ATTR_NORMAL
    permission = int(attributes.read) | int(attributes.write) << 1
    return pt.S2_MEM_ATTR.put(memory) | pt.S2AP.put(permission) | _shared()


def stage1_leaf(attributes: Attributes) -> int:
    """Return a stage-1 leaf's attribute bits; stage 1 cannot refuse reads only, so `read` must be set."""
    if not attributes.read:
        raise MemoryFault(0, 0, "stage 1 has no write-only permission; unmap the range instead")
    permission = int(attributes.unprivileged) | int(not attributes.write) << 1
    index = pt.ATTR_INDX.put(pt.ATTR_INDX_NORMAL)
    return index | pt.AP.put(permission) | pt.NG.put(int(not attributes.is_global)) | _shared()


def _shared() -> int:
    return pt.SH.put(pt.SH_INNER) | pt.AF.put(1) | pt.VALID.put(1)


def table_frames(*ranges: tuple[int, int, int]) -> int:
    """Return a number of frames that suffices for tables that map ranges of (input, output, length)."""
    frames = 1
    for base, output, length_bytes in ranges:
        for level in range(1, pt.LAST_LEVEL):
            frames += _spanned(base, length_bytes, pt.LEVEL_SHIFTS[level - 1])
        if (base ^ output) % BLOCK_SIZE_BYTES:
            frames += _spanned(base, length_bytes, pt.LEVEL_SHIFTS[BLOCK_LEVEL])
        else:
            frames += bool(base % BLOCK_SIZE_BYTES) + bool((base + length_bytes) % BLOCK_SIZE_BYTES)
    return frames


def _spanned(base: int, length_bytes: int, shift: int) -> int:
    return ((base + length_bytes - 1) >> shift) - (base >> shift) + 1


class TableBuilder:
    """One tree of tables for 48-bit input addresses, its root at `root`.

    `memory` holds the tables, `frames` supplies them (by the same kind of address); for a stage-1 table in
    a guest both are by guest physical address. Ranges are whole pages. Every method raises MemoryFault
    before it changes anything where a rule is broken; where the frames run out midway, what was mapped
    until then stays.
    """

    def __init__(
        self,
        memory: MemoryAccess,
        frames: FrameAllocator,
        stage: Literal[1, 2] = 2,
        invalidate: Invalidate = _nothing_caches,
    ) -> None:
        self._memory, self._frames, self._invalidate = memory, frames, invalidate
        self._leaf_bits = stage1_leaf if stage == 1 else stage2_leaf
        self.root = frames.allocate()

    def map(self, address: int, output: int, length_bytes: int, attributes: Attributes | None = None) -> None:
        """Map a range to `output`, by 2 MiB blocks where both are aligned, else by 4 KiB pages; an overlap
        is refused.
        """
        bits = self._leaf_bits(attributes or Attributes())
        _check_range(output, length_bytes)
        for start, size, _ in self._leaves(address, length_bytes):
            raise MemoryFault(address, length_bytes, f"is already mapped at {start:#x} ({size:#x} bytes)")
        done = 0
        while done < length_bytes:
            level = _leaf_level(address + done, output + done, length_bytes - done)
            slot = self._slot(address + done, level)
            page = pt.TABLE_OR_PAGE.put(int(level == pt.LAST_LEVEL))
            self._set(slot, (output + done) | bits | page)
            done += 1 << pt.LEVEL_SHIFTS[level]

    def unmap(self, address: int, length_bytes: int) -> None:
        """Remove what is mapped in a range; a block that sticks out is split first. Tables left empty are
        given back.
        """
        self._split_edges(address, length_bytes)
        leaves = list(self._leaves(address, length_bytes))
        for _, _, slot in leaves:
            self._set(slot, 0)
        if leaves:
            self._invalidate(address, length_bytes)
        self._drop_empty(address, length_bytes)

    def protect(self, address: int, length_bytes: int, attributes: Attributes) -> None:
        """Change the attributes of everything mapped in a range, break before make."""
        bits = self._leaf_bits(attributes)
        self._split_edges(address, length_bytes)
        for start, size, slot in list(self._leaves(address, length_bytes)):
            old = self._get(slot)
            kept = old & (pt.OUTPUT_ADDRESS.mask | pt.TABLE_OR_PAGE.mask)
            self._break_then_make(slot, start, size, kept | bits)

    def lookup(self, address: int) -> int | None:
        """Return the output address, or None where nothing is mapped."""
        for start, size, slot in self._leaves(address & -PAGE_SIZE_BYTES, PAGE_SIZE_BYTES):
            return (self._get(slot) & pt.OUTPUT_ADDRESS.mask & -size) + address - start
        return None

    def _get(self, slot: int) -> int:
        return self._memory.load(slot, pt.DESCRIPTOR_BYTES)

    def _set(self, slot: int, descriptor: int) -> None:
        # A release store: whoever walks to a new table finds it filled (D8.2.6 asks for a barrier here).
        self._memory.store(slot, pt.DESCRIPTOR_BYTES, descriptor)

    def _break_then_make(self, slot: int, address: int, size: int, descriptor: int) -> None:
        # D8.14.3: never valid-to-valid
        self._set(slot, 0)
        self._invalidate(address, size)
        self._set(slot, descriptor)

    def _slot(self, address: int, level: int) -> int:
        """Return the address of the descriptor at `level`, making the tables above it."""
        table = int(self.root)
        for above in range(level):
            slot = _entry(table, address, above)
            descriptor = self._get(slot)
            if not pt.VALID.get(descriptor):
                descriptor = int(self._frames.allocate()) | pt.VALID.mask | pt.TABLE_OR_PAGE.mask
                self._set(slot, descriptor)
            table = descriptor & pt.NEXT_LEVEL_TABLE.mask
        return _entry(table, address, level)

    def _leaves(self, address: int, length_bytes: int) -> Iterator[tuple[int, int, int]]:
        """Yield (first input address, bytes, descriptor's address) of every leaf that meets a range."""
        _check_range(address, length_bytes)
        end = address + length_bytes
        while address < end:
            slot, level = self._deepest(address)
            size = 1 << pt.LEVEL_SHIFTS[level]
            start = address & -size
            if pt.VALID.get(self._get(slot)):
                yield start, size, slot
            address = start + size

    def _deepest(self, address: int) -> tuple[int, int]:
        """Return the last descriptor on the way to an address, and its level."""
        table = int(self.root)
        for level in range(pt.LAST_LEVEL):
            slot = _entry(table, address, level)
            descriptor = self._get(slot)
            if not _is_table(descriptor):
                return slot, level
            table = descriptor & pt.NEXT_LEVEL_TABLE.mask
        return _entry(table, address, pt.LAST_LEVEL), pt.LAST_LEVEL

    def _split_edges(self, address: int, length_bytes: int) -> None:
        for edge in (address, address + length_bytes):
            if edge % BLOCK_SIZE_BYTES:
                self._split(edge)

    def _split(self, address: int) -> None:
        """Turn the block that holds an address into a table of the same pages, break before make."""
        slot, level = self._deepest(address)
        block = self._get(slot)
        if level != BLOCK_LEVEL or not pt.VALID.get(block):
            return
        table = self._frames.allocate()
        for i in range(pt.ENTRIES):
            self._set(table + i * pt.DESCRIPTOR_BYTES, (block + i * PAGE_SIZE_BYTES) | pt.TABLE_OR_PAGE.mask)
        start = address & -BLOCK_SIZE_BYTES
        self._break_then_make(slot, start, BLOCK_SIZE_BYTES, table | pt.VALID.mask | pt.TABLE_OR_PAGE.mask)

    def _drop_empty(self, address: int, length_bytes: int) -> None:
        """Give back the tables of a range that hold no valid descriptor, lowest level first."""
        for level in range(BLOCK_LEVEL, -1, -1):
            step = 1 << pt.LEVEL_SHIFTS[level]
            for start in range(address & -step, address + length_bytes, step):
                self._drop_if_empty(start, level)

    def _drop_if_empty(self, address: int, level: int) -> None:
        table = int(self.root)
        slot = _entry(table, address, 0)
        for depth in range(level + 1):
            slot = _entry(table, address, depth)
            descriptor = self._get(slot)
            if not _is_table(descriptor):
                return
            table = descriptor & pt.NEXT_LEVEL_TABLE.mask
        if any(self._memory.read(table, PAGE_SIZE_BYTES)):
            return
        self._set(slot, 0)
        # A walk may hold the table's address, so it is free only when the invalidation is complete.
        self._invalidate(address, 1 << pt.LEVEL_SHIFTS[level])
        self._frames.free(table)


def _is_table(descriptor: int) -> bool:
    return bool(pt.VALID.get(descriptor) and pt.TABLE_OR_PAGE.get(descriptor))


def _entry(table: int, address: int, level: int) -> int:
    return table + (address >> pt.LEVEL_SHIFTS[level]) % pt.ENTRIES * pt.DESCRIPTOR_BYTES


def _leaf_level(address: int, output: int, left_bytes: int) -> int:
    blocks = not (address | output) % BLOCK_SIZE_BYTES and left_bytes >= BLOCK_SIZE_BYTES
    return BLOCK_LEVEL if blocks else pt.LAST_LEVEL


def _check_range(address: int, length_bytes: int) -> None:
    if (address | length_bytes) % PAGE_SIZE_BYTES or length_bytes <= 0 or address < 0:
        raise MemoryFault(address, length_bytes, f"must be whole pages of {PAGE_SIZE_BYTES} bytes")
    if address + length_bytes > 1 << pt.INPUT_BITS_MAX:
        raise MemoryFault(address, length_bytes, f"leads outside {pt.INPUT_BITS_MAX} bits of address")
