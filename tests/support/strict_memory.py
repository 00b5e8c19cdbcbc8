"""Guest memory that shows every access outside of it: each region lies between canary pages.

Regions follow one another in guest physical addresses and are apart in the host, so a buffer that crosses
from one to the next has two pieces. A canary page holds a pattern that `assert_intact` compares; where the
address sanitizer is loaded it is poisoned as well, so that a mere read is reported, too.
"""

import ctypes
import mmap
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.native import Pinned, Regions

BASE_GPA: Final = 0x4000_0000
_PATTERN: Final = bytes(range(251, -1, -3)) * (2 * PAGE_SIZE_BYTES // 84 + 1)


class OutsideMemoryError(Exception):
    """A model or a test asked for bytes that no region has."""


@dataclass(frozen=True)
class Region:
    """`size_bytes` of guest memory at `gpa`, `offset` bytes into the host mapping."""

    gpa: int
    size_bytes: int
    offset: int


def _sanitizer(name: str) -> Callable[[int, int], None] | None:
    """Return an entry point of the address sanitizer, None where it is not loaded."""
    try:
        entry = ctypes.CDLL(None)[name]
    except AttributeError:
        return None
    entry.argtypes, entry.restype = (ctypes.c_void_p, ctypes.c_size_t), None

    def call(address: int, size_bytes: int) -> None:
        entry(address, size_bytes)

    return call


_POISON: Final = _sanitizer("__asan_poison_memory_region")
_UNPOISON: Final = _sanitizer("__asan_unpoison_memory_region")


class StrictMemory:
    """Guest memory of one or more regions, from `base` on without gaps.

    The models use `read` and `write`; native code gets `regions` (a device) or `pinned` (a driver).
    """

    def __init__(self, *sizes_bytes: int, base: int = BASE_GPA) -> None:
        whole = PAGE_SIZE_BYTES + sum(align_up(s, PAGE_SIZE_BYTES) + PAGE_SIZE_BYTES for s in sizes_bytes)
        self._mapping = mmap.mmap(-1, whole)
        self._bytes = memoryview(self._mapping)
        self._pin = Pinned(self._mapping)
        self.regions = Regions()
        self._parts: list[Region] = []
        self._canaries = [(0, PAGE_SIZE_BYTES)]
        offset, gpa = PAGE_SIZE_BYTES, base
        for size in sizes_bytes:
            offset, gpa = self._place(offset, gpa, size)
        self.base, self.end = base, gpa
        for start, stop in self._canaries:
            self._bytes[start:stop] = _PATTERN[: stop - start]
        self._poison()

    def _place(self, offset: int, gpa: int, size: int) -> tuple[int, int]:
        """Add a region; the canary behind it begins at its very last byte."""
        self._parts.append(Region(gpa, size, offset))
        self.regions.add(gpa, self._pin, offset, size)
        after = offset + align_up(size, PAGE_SIZE_BYTES) + PAGE_SIZE_BYTES
        self._canaries.append((offset + size, after))
        return after, gpa + size

    def _poison(self) -> None:
        if _POISON is None or _UNPOISON is None:
            return
        for start, stop in self._canaries:
            _POISON(self._pin.address + start, stop - start)
        weakref.finalize(self, _UNPOISON, self._pin.address, len(self._bytes))

    def assert_intact(self) -> None:
        """Fail where anything was written outside of the regions."""
        if _UNPOISON is not None:
            _UNPOISON(self._pin.address, len(self._bytes))
        for start, stop in self._canaries:
            assert bytes(self._bytes[start:stop]) == _PATTERN[: stop - start], (
                f"canary at {start:#x} was written"
            )
        if _POISON is not None:
            for start, stop in self._canaries:
                _POISON(self._pin.address + start, stop - start)

    def pieces(self, gpa: int, length_bytes: int) -> list[tuple[int, int]]:
        """Return (offset, bytes) of every piece of a range; raises OutsideMemoryError where a byte of it is
        nowhere.
        """
        found = []
        while length_bytes:
            region = next((r for r in self._parts if 0 <= gpa - r.gpa < r.size_bytes), None)
            if region is None:
                raise OutsideMemoryError(f"{length_bytes} bytes at {gpa:#x}")
            size = min(length_bytes, region.gpa + region.size_bytes - gpa)
            found.append((region.offset + gpa - region.gpa, size))
            gpa, length_bytes = gpa + size, length_bytes - size
        return found

    def read(self, gpa: int, length_bytes: int) -> bytes:
        """Return bytes; raises OutsideMemoryError."""
        return b"".join(
            self._bytes[offset : offset + size] for offset, size in self.pieces(gpa, length_bytes)
        )

    def write(self, gpa: int, data: bytes) -> None:
        """Write bytes; raises OutsideMemoryError."""
        done = 0
        for offset, size in self.pieces(gpa, len(data)):
            self._bytes[offset : offset + size] = data[done : done + size]
            done += size

    def load(self, gpa: int, size_bytes: int) -> int:
        """Return a little-endian number."""
        return int.from_bytes(self.read(gpa, size_bytes), "little")

    def store(self, gpa: int, size_bytes: int, value: int) -> None:
        """Write a little-endian number."""
        self.write(gpa, value.to_bytes(size_bytes, "little"))

    def pinned(self, gpa: int, size_bytes: int) -> Pinned:
        """Return a range for a native driver; it must lie in one region."""
        return Pinned(self.view(gpa, size_bytes))

    def view(self, gpa: int, size_bytes: int) -> memoryview:
        """Return a range as it is mapped; it must lie in one region."""
        ((offset, size),) = self.pieces(gpa, size_bytes)
        return self._bytes[offset : offset + size]

    def image(self) -> bytes:
        """Return everything that the guest has, for comparisons."""
        return b"".join(self._bytes[r.offset : r.offset + r.size_bytes] for r in self._parts)
