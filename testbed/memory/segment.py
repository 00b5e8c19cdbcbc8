"""A POSIX shared memory segment as this process has it mapped.

Reference: POSIX shm_open(3), mmap(2). The launcher creates segments and unlinks their names at once; a
process receives descriptors and maps them here. Not modelled: growing a segment.
"""

import mmap
import os

from testbed.errors import MachineError
from testbed.native import Pinned

SegmentBuffer = mmap.mmap | bytearray | memoryview


class Segment:
    """`size_bytes` of memory that begin at host physical address `hpa` (0 where it is not host memory)."""

    def __init__(
        self, name: str, size_bytes: int, hpa: int, buffer: SegmentBuffer, writable: bool = True
    ) -> None:
        self.name, self.size_bytes, self.hpa, self.buffer, self.writable = (
            name,
            size_bytes,
            hpa,
            buffer,
            writable,
        )
        view = memoryview(buffer)[:size_bytes]
        if view.nbytes != size_bytes:
            raise MachineError(
                f"segment {name}: {view.nbytes} bytes are mapped where {size_bytes} are needed"
            )
        self.view = view if writable else view.toreadonly()
        self.pinned = Pinned(self.view, writable)

    @classmethod
    def map(
        cls, descriptor: int, name: str, size_bytes: int, hpa: int = 0, writable: bool = True
    ) -> "Segment":
        """Map a descriptor and close it.

        Raises MachineError where the descriptor holds fewer bytes than `size_bytes` or cannot be mapped as
        asked.
        """
        protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        try:
            held = os.fstat(descriptor).st_size
            if held < size_bytes:
                raise MachineError(f"segment {name} has {held} bytes where {size_bytes} are needed")
            buffer = mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED, protection)
        except OSError as error:
            raise MachineError(f"segment {name} of {size_bytes} bytes cannot be mapped: {error}") from error
        finally:
            os.close(descriptor)
        return cls(name, size_bytes, hpa, buffer, writable)

    def contains(self, hpa: int, length_bytes: int) -> bool:
        """Tell whether a range of host physical addresses lies inside."""
        return self.hpa <= hpa and hpa + length_bytes <= self.hpa + self.size_bytes
