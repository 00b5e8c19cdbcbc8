"""A host's physical memory as one process has it mapped, and the frames of which translation tables are made.

Reference: design, "Addresses". Not modelled: caches, memory attributes.
"""

from bisect import bisect_right
from collections.abc import Iterable

from testbed.address import PAGE_SIZE_BYTES, Hpa
from testbed.errors import MachineError, MemoryFault
from testbed.memory.access import MemoryAccess, memory_fault
from testbed.memory.segment import Segment
from testbed.native import HostMap


class HostMemory:
    """`MemoryAccess` by host physical address over the segments that this process may touch."""

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self.host_map = HostMap()
        self._segments: list[Segment] = []
        self._bases: list[int] = []
        for segment in segments:
            self.add(segment)

    def add(self, segment: Segment) -> None:
        """Add a segment at its host physical base; not while another thread walks tables in this memory."""
        try:
            self.host_map.add(segment.hpa, segment.pinned, segment.writable)
        except ValueError as error:
            raise MachineError(f"segment {segment.name} cannot be host memory: {error}") from error
        at = bisect_right(self._bases, segment.hpa)
        self._bases.insert(at, segment.hpa)
        self._segments.insert(at, segment)

    def segment_of(self, address: int, length_bytes: int) -> Segment:
        """Return the segment that holds a range whole."""
        at = bisect_right(self._bases, address) - 1
        if length_bytes < 0 or at < 0 or not self._segments[at].contains(address, length_bytes):
            raise MemoryFault(address, length_bytes)
        return self._segments[at]

    def view(self, address: int, length_bytes: int) -> memoryview:
        """Return a range as one piece, read-only where its segment is."""
        segment = self.segment_of(address, length_bytes)
        start = address - segment.hpa
        return segment.view[start : start + length_bytes]

    def read(self, address: int, length_bytes: int) -> bytes:
        """Return a copy of a range of one segment."""
        return bytes(self.view(address, length_bytes))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write a range of one segment."""
        target = self.view(address, memoryview(data).nbytes)
        if target.readonly:
            raise MemoryFault(address, target.nbytes, "is read-only here")
        target[:] = data

    def load(self, address: int, size_bytes: int) -> int:
        """Return a little-endian value of 1, 2, 4 or 8 bytes (acquire)."""
        value = self.host_map.load(address, size_bytes)
        if value < 0:
            raise memory_fault(value, address, size_bytes)
        return value

    def store(self, address: int, size_bytes: int, value: int) -> None:
        """Store a little-endian value of 1, 2, 4 or 8 bytes (release)."""
        fault = self.host_map.store(address, size_bytes, value)
        if fault < 0:
            raise memory_fault(fault, address, size_bytes)


class FrameAllocator:
    """Hands out zeroed 4 KiB frames of one range of memory, lowest first; freed frames are used again
    before new ones.
    """

    def __init__(self, memory: MemoryAccess, base: int, size_bytes: int) -> None:
        self._memory, self.base, self.size_bytes = memory, base, size_bytes
        self._next = base
        self._free: list[int] = []

    @property
    def used(self) -> int:
        """Frames handed out and not given back."""
        return (self._next - self.base) // PAGE_SIZE_BYTES - len(self._free)

    def allocate(self) -> Hpa:
        """Return the address of a zeroed frame; MemoryFault where the range has none left."""
        if self._free:
            frame = self._free.pop()
        elif self._next + PAGE_SIZE_BYTES <= self.base + self.size_bytes:
            frame = self._next
            self._next += PAGE_SIZE_BYTES
        else:
            raise MemoryFault(self.base, self.size_bytes, "has no frame left for another translation table")
        self._memory.write(frame, bytes(PAGE_SIZE_BYTES))
        return Hpa(frame)

    def free(self, frame: int) -> None:
        """Take a frame back; nothing may point at it any more."""
        assert frame not in self._free
        assert self.base <= frame < self._next
        self._free.append(frame)
