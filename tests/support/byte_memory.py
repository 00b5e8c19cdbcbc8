"""Private memory in the place of a host's: for walks of tables that no process shares."""

from testbed.errors import MemoryFault
from testbed.memory.access import ACCESS_SIZES_BYTES


class ByteMemory:
    """`MemoryAccess` over one piece of private memory that begins at `base`."""

    def __init__(self, base: int, size_bytes: int) -> None:
        self.base = base
        self.data = bytearray(size_bytes)

    def view(self, address: int, length_bytes: int) -> memoryview:
        """Return a range as one piece."""
        start = address - self.base
        if length_bytes < 0 or start < 0 or start + length_bytes > len(self.data):
            raise MemoryFault(address, length_bytes)
        return memoryview(self.data)[start : start + length_bytes]

    def read(self, address: int, length_bytes: int) -> bytes:
        """Return a copy of a range."""
        return bytes(self.view(address, length_bytes))

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write a range."""
        self.view(address, memoryview(data).nbytes)[:] = data

    def load(self, address: int, size_bytes: int) -> int:
        """Return a little-endian value."""
        assert size_bytes in ACCESS_SIZES_BYTES
        return int.from_bytes(self.view(address, size_bytes), "little")

    def store(self, address: int, size_bytes: int, value: int) -> None:
        """Store a little-endian value."""
        assert size_bytes in ACCESS_SIZES_BYTES
        self.view(address, size_bytes)[:] = value.to_bytes(size_bytes, "little")
