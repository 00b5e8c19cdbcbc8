"""Tables laid out by hand for walk tests, with numbers typed here and not taken from the package."""

from testbed.memory.host import HostMemory
from testbed.memory.segment import Segment
from tests.support.byte_memory import ByteMemory

HPA = 0x100_0000_0000
PAGE = 4096


def host_memory(*sizes_bytes: int) -> HostMemory:
    """Return host memory of segments at 1 TiB, 1 TiB + 1 GiB and so on."""
    return HostMemory(
        Segment(f"s{i}", size, HPA + (i << 30), bytearray(size)) for i, size in enumerate(sizes_bytes)
    )


def byte_memory(base: int = 0x1000, pages: int = 16) -> ByteMemory:
    """Return private memory for tables."""
    return ByteMemory(base, pages * PAGE)


def chain(memory: ByteMemory, address: int, leaf: int, leaf_level: int = 3, table_bits: int = 0b11) -> int:
    """Write tables from a root at 0x1000 down to `leaf` for an input address; return the root."""
    table = 0x1000
    for level in range(leaf_level + 1):
        slot = table + ((address >> (39 - 9 * level)) & 511) * 8
        if level == leaf_level:
            memory.store(slot, 8, leaf)
        else:
            memory.store(slot, 8, (table + PAGE) | table_bits)
            table += PAGE
    return 0x1000
