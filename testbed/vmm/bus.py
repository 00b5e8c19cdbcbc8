"""Which device answers at a guest physical address that stage 2 does not map."""

from bisect import bisect_right
from typing import Protocol

from testbed.errors import DeviceError


class MmioDevice(Protocol):
    """A register block: offsets are relative to its window."""

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load gives."""
        ...

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Take a store."""
        ...


class Bus:
    """Windows of one guest's address space, none overlapping another."""

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._windows: list[tuple[int, MmioDevice]] = []

    def add(self, gpa: int, size_bytes: int, device: MmioDevice) -> None:
        """Put a device at a window; DeviceError where it overlaps another."""
        at = bisect_right(self._bases, gpa)
        before_end = self._bases[at - 1] + self._windows[at - 1][0] if at else 0
        if before_end > gpa or (at < len(self._bases) and gpa + size_bytes > self._bases[at]):
            raise DeviceError(f"a window of {size_bytes:#x} bytes at {gpa:#x} overlaps another device")
        self._bases.insert(at, gpa)
        self._windows.insert(at, (size_bytes, device))

    def find(self, gpa: int, size_bytes: int) -> tuple[MmioDevice, int] | None:
        """Return the device that holds the whole access and the offset in it, or None."""
        at = bisect_right(self._bases, gpa) - 1
        if at < 0:
            return None
        window_bytes, device = self._windows[at]
        offset = gpa - self._bases[at]
        return (device, offset) if offset + size_bytes <= window_bytes else None
