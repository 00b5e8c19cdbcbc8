"""A register block as a driver has it: loads and stores at a base, or port I/O.

Whether an access traps or reaches the device is decided by stage 2, not here. Not modelled: accesses that
cross a register.
"""

from typing import Protocol


class Accessor(Protocol):
    """Loads and stores by guest physical address."""

    def load(self, gpa: int, size_bytes: int = 4) -> int:
        """Return a value."""
        ...

    def store(self, gpa: int, value: int, size_bytes: int = 4) -> None:
        """Store a value."""
        ...


class PortAccessor(Protocol):
    """Port I/O."""

    def port_out(self, port: int, value: int, size_bytes: int = 4) -> None:
        """Write to a port."""
        ...


class MmioWindow:
    """The registers of a memory BAR at `gpa`."""

    def __init__(self, cpu: Accessor, gpa: int) -> None:
        self._load, self._store, self._gpa = cpu.load, cpu.store, gpa

    def read32(self, offset: int) -> int:
        """Return a register."""
        return self._load(self._gpa + offset)

    def write32(self, offset: int, value: int) -> None:
        """Write a register."""
        self._store(self._gpa + offset, value)


class RegisterBlock:
    """The registers of a device whose accesses are of several sizes, at `gpa`."""

    def __init__(self, cpu: Accessor, gpa: int) -> None:
        self._cpu, self._gpa = cpu, gpa

    def read(self, offset: int, size_bytes: int) -> int:
        """Return a register."""
        return self._cpu.load(self._gpa + offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Write a register."""
        self._cpu.store(self._gpa + offset, value, size_bytes)


class PortWindow:
    """The ports of an I/O BAR at `port`."""

    def __init__(self, cpu: PortAccessor, port: int) -> None:
        self._cpu, self._port = cpu, port

    def write32(self, offset: int, value: int) -> None:
        """Write a port."""
        self._cpu.port_out(self._port + offset, value)
