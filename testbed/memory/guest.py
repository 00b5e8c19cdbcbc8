"""A guest's memory by guest physical address, through its stage-2 table.

Reference: design, "Addresses"; DDI 0487 D8. Used by whoever acts for the guest: its vCPU, its drivers, and
the vmm's device models. Every access walks the table as it is then; a `view` is resolved once and stays
what it was, so its owner must drop it before the range is unmapped. Not modelled: caches; accesses that
cross a page are split, except `load` and `store`, which refuse (alignment fault).
"""

from testbed.address import Gpa, Hpa
from testbed.errors import MemoryFault
from testbed.memory.access import memory_fault
from testbed.memory.host import HostMemory
from testbed.native import Stage2
from testbed.spec import page_table as pt


class GuestMemory:
    """`MemoryAccess` by Gpa. `stage2` is the native translation, for code that works on whole bursts."""

    def __init__(self, host: HostMemory, root: Hpa) -> None:
        self._host = host
        self.stage2 = Stage2(host.host_map, root)

    def translate(self, gpa: Gpa, write: bool = False) -> Hpa:
        """Return the host physical address behind a guest physical one."""
        hpa = self.stage2.translate(gpa, write)
        if hpa < 0:
            raise memory_fault(hpa, gpa, 1)
        return Hpa(hpa)

    def read(self, address: int, length_bytes: int) -> bytes:
        """Return a copy of a range; MemoryFault where any of it may not be read."""
        self._check(address, length_bytes)
        data = self.stage2.read(address, length_bytes)
        if isinstance(data, int):
            raise memory_fault(data, address, length_bytes)
        return data

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write a range; MemoryFault, and nothing written, where any of it may not be."""
        length_bytes = memoryview(data).nbytes
        self._check(address, length_bytes)
        fault = self.stage2.write(address, data)
        if fault < 0:
            raise memory_fault(fault, address, length_bytes)

    def view(self, address: int, length_bytes: int) -> memoryview:
        """Return a range that is one piece of host memory; read-only where stage 2 or the mapping is."""
        self._check(address, length_bytes)
        pointer = self.stage2.resolve(address, length_bytes)
        if pointer < 0:
            raise memory_fault(pointer, address, length_bytes)
        view = self._host.view(self.translate(Gpa(address)), length_bytes)
        writable = self.stage2.resolve(address, length_bytes, True) >= 0
        return view if writable else view.toreadonly()

    def load(self, address: int, size_bytes: int) -> int:
        """Return a value of 1, 2, 4 or 8 bytes (acquire)."""
        self._check(address, size_bytes)
        value = self.stage2.load(address, size_bytes)
        if value < 0:
            raise memory_fault(value, address, size_bytes)
        return value

    def store(self, address: int, size_bytes: int, value: int) -> None:
        """Store a value of 1, 2, 4 or 8 bytes (release)."""
        self._check(address, size_bytes)
        fault = self.stage2.store(address, size_bytes, value)
        if fault < 0:
            raise memory_fault(fault, address, size_bytes)

    def _check(self, address: int, length_bytes: int) -> None:
        """Refuse what native code cannot even be asked: negative numbers and more than 64 bits."""
        if address < 0 or length_bytes < 0 or address + length_bytes > 1 << pt.INPUT_BITS_MAX:
            raise MemoryFault(address, length_bytes)
