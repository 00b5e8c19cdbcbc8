"""A device as its driver has it: register spaces that can be read and written, and what its vectors write.

Reference: PCI Express Base Specification 5.0 §6.1.4 (an MSI is a write of a value to an address). What is
behind a space (a shared window, a trapped address, a model in the same process) no driver knows.
"""

from dataclasses import dataclass
from typing import Protocol


class RegisterBus(Protocol):
    """A space of 32-bit registers."""

    def read32(self, offset: int) -> int:
        """Return a register."""
        ...

    def write32(self, offset: int, value: int) -> None:
        """Write a register."""
        ...


class SizedBus(Protocol):
    """A space of registers of 1, 2, 4 or 8 bytes: configuration space, an SMMU's or an ITS's block."""

    def read(self, offset: int, size_bytes: int) -> int:
        """Return a register."""
        ...

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Write a register."""
        ...


@dataclass(frozen=True, slots=True)
class MsiMessage:
    """What an interrupt controller wants a vector to write."""

    address: int
    data: int
