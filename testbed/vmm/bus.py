"""Which device answers at an address: of memory that stage 2 does not map, or of a port."""

from bisect import bisect_right
from dataclasses import dataclass
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


class RegisterCounts(Protocol):
    """Which counter an access goes to."""

    def index(self, offset: int, *, write: bool) -> int:
        """Return the counter's word."""
        ...


@dataclass(frozen=True)
class Window:
    """One device's register block."""

    base: int
    size_bytes: int
    device: MmioDevice
    registers: RegisterCounts | None
    """Where its accesses are counted by register."""
    is_paced: bool = False
    """Accesses move no frames: what answering takes is charged to the guest (exit_pace.py)."""


class Bus:
    """Windows of one guest's address space, none overlapping another."""

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._windows: list[Window] = []

    def add(
        self,
        base: int,
        size_bytes: int,
        device: MmioDevice,
        registers: RegisterCounts | None = None,
        *,
        is_paced: bool = False,
    ) -> None:
        """Put a device at a window; DeviceError where it overlaps another."""
        at = bisect_right(self._bases, base)
        before_end = self._bases[at - 1] + self._windows[at - 1].size_bytes if at else 0
        if before_end > base or (at < len(self._bases) and base + size_bytes > self._bases[at]):
            raise DeviceError(f"a window of {size_bytes:#x} bytes at {base:#x} overlaps another device")
        self._bases.insert(at, base)
        self._windows.insert(at, Window(base, size_bytes, device, registers, is_paced))

    def find(self, address: int, size_bytes: int) -> Window | None:
        """Return the window that holds the whole access, or None."""
        at = bisect_right(self._bases, address) - 1
        if at < 0:
            return None
        window = self._windows[at]
        return window if address - window.base + size_bytes <= window.size_bytes else None
