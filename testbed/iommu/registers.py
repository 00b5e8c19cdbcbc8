"""The registers of a host's SMMU and ITS as their hypervisor reaches them, and the wires back to it.

Reference: testbed/spec/iommu_window.py. An access to a space that nothing answers reads as all ones.
"""

from collections.abc import Mapping
from typing import Protocol

from testbed.native import Pinned, SharedWords
from testbed.spec.bar_window import ALL_ONES
from testbed.spec.iommu_window import IOMMU_WIRES, WIRES_OFFSET


class RegisterBlock(Protocol):
    """One device's registers."""

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load gives."""
        ...

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store."""
        ...


class RegisterSpaces:
    """Register blocks by the number of their space, all of one function."""

    def __init__(self, blocks: Mapping[int, RegisterBlock]) -> None:
        self._blocks = blocks

    def read(self, function: int, space: int, offset: int, size_bytes: int) -> int:
        """Return a register."""
        block = None if function else self._blocks.get(space)
        return ALL_ONES if block is None else block.read(offset, size_bytes)

    def write(self, function: int, space: int, offset: int, size_bytes: int, value: int) -> None:
        """Write a register."""
        block = None if function else self._blocks.get(space)
        if block is not None:
            block.write(offset, size_bytes, value)


class Doorbell(Protocol):
    """What wakes the hypervisor."""

    def ring(self) -> None:
        """Tell it that there is news."""
        ...


class Wire:
    """An interrupt wire into another process: an edge counts a word up and rings."""

    def __init__(self, window: Pinned, name: str, bell: Doorbell) -> None:
        self._words, self._bell = SharedWords(window), bell
        self._at = WIRES_OFFSET + IOMMU_WIRES.offset(name)
        self._edges = 0

    def send(self) -> None:
        """Give one edge."""
        self._edges = (self._edges + 1) % (1 << 32)
        # release: whoever sees the edge sees what it announces
        self._words.store32(self._at, self._edges)
        self._bell.ring()
