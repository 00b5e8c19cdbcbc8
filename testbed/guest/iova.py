"""I/O virtual addresses of a guest's own: the stage 1 with which its operating system confines its devices.

Reference: ARM IHI 0070 G.b §3.3.2 (context descriptors), §3.9 (SubstreamID), §5.3, §5.4; DDI 0487 D8. Tables
and context descriptors are in the guest's RAM, at guest physical addresses; the SMMU that the driver programs
is the guest's, and what it does to it the guest cannot tell from a machine's. A device that carries a
SubstreamID with its requests has a space for each process; requests without one use space 0.

Not modelled: giving spaces back, sharing a process's CPU tables with a device, ASIDs that run out.
"""

from dataclasses import dataclass
from typing import Final

from testbed.address import BLOCK_SIZE_BYTES, IOVA_BASE, PAGE_SIZE_BYTES, Gpa, Iova, align_up
from testbed.errors import MachineError
from testbed.guest.ram import RamAllocator
from testbed.memory.access import MemoryAccess
from testbed.memory.host import FrameAllocator
from testbed.memory.tables import Attributes, TableBuilder
from testbed.native import Pinned
from testbed.pci import smmu_entries as entries
from testbed.pci.access import SizedBus
from testbed.pci.smmu_driver import SmmuDriver
from testbed.spec import smmu as s

CONTEXT_BITS: Final = 4
"""Each device may have 16 spaces."""
TABLE_BYTES: Final = 1 << 20
"""RAM for the stage-1 tables of one space."""
_SPAN_BYTES: Final = 1 << 40
"""Address space of one space, so that an address of one is never an address of another."""


@dataclass(frozen=True, slots=True)
class DmaPiece:
    """RAM that a device can reach: its address for the device, and where the guest has it mapped."""

    iova: int
    pinned: Pinned


class PhysicalDma:
    """RAM for a device that uses guest physical addresses; `offset` is added to them where it is past any
    IOMMU and the guest knows the machine's.
    """

    def __init__(self, ram: RamAllocator, offset: int = 0) -> None:
        self._ram, self._offset = ram, offset

    def take(self, size_bytes: int, purpose: str) -> DmaPiece:
        """Return zeroed, page-aligned RAM; MachineError where there is too little."""
        piece = self._ram.take(size_bytes, purpose)
        return DmaPiece(piece.gpa + self._offset, piece.pinned)

    def gpa_of(self, iova: int) -> int:
        """Return the guest physical address of what a device reaches by an address."""
        return iova - self._offset

    def aimed_at(self, page: int) -> int:
        """Return by what address a device would reach a page: whatever it is, nothing of ours stops it."""
        return page


class ConfinedDma:
    """RAM for a device that reaches nothing but what is mapped in a space of its own."""

    def __init__(self, ram: RamAllocator, space: "IovaSpace") -> None:
        self._ram, self._space = ram, space
        self._aimed: dict[int, int] = {}

    def take(self, size_bytes: int, purpose: str) -> DmaPiece:
        """Return zeroed, page-aligned RAM, mapped; MachineError where there is too little."""
        piece = self._ram.take(size_bytes, purpose)
        return DmaPiece(self._space.map(piece.gpa, piece.size_bytes), piece.pinned)

    def gpa_of(self, iova: int) -> int:
        """Return the guest physical address of what is mapped there; MachineError where nothing is."""
        gpa = self._space.lookup(iova)
        if gpa is None:
            raise MachineError(f"nothing is mapped at I/O address {iova:#x}")
        return gpa

    def aimed_at(self, page: int) -> int:
        """Return by what address a device would reach a page: mapped here, whatever the guest physical
        address, so that only what is past our own SMMU can stop it.
        """
        if page not in self._aimed:
            self._aimed[page] = self._space.map(Gpa(page), PAGE_SIZE_BYTES)
        return self._aimed[page]


class IovaSpace:
    """One address space of a device's: what a device may reach with a SubstreamID, and how."""

    def __init__(self, tables: TableBuilder, asid: int) -> None:
        self._tables, self.asid = tables, asid
        self._next = IOVA_BASE + (asid - 1) * _SPAN_BYTES

    @property
    def root(self) -> int:
        """Where its tables begin."""
        return self._tables.root

    def map(self, gpa: Gpa, length_bytes: int, write: bool = True, device: bool = False) -> Iova:
        """Let the device reach whole pages; return by what address."""
        length_bytes = align_up(length_bytes, PAGE_SIZE_BYTES)
        # as far from a block's beginning as the RAM: what holds a whole block is mapped by one descriptor
        iova = align_up(self._next, BLOCK_SIZE_BYTES) + gpa % BLOCK_SIZE_BYTES
        self._next = iova + length_bytes
        self._tables.map(iova, gpa, length_bytes, Attributes(write=write, device=device))
        return Iova(iova)

    def map_at(self, iova: Iova, gpa: Gpa, length_bytes: int) -> None:
        """Let the device reach a range by an address that is chosen: the page to which it writes its MSIs."""
        self._tables.map(iova, gpa, length_bytes, Attributes(device=True))

    def lookup(self, iova: int) -> int | None:
        """Return what an address leads to; None: nothing."""
        return self._tables.lookup(iova)

    def unmap(self, iova: Iova, length_bytes: int) -> None:
        """Return when the device can reach the range no more."""
        self._tables.unmap(iova, align_up(length_bytes, PAGE_SIZE_BYTES))


class GuestIommu:
    """A guest's SMMU, with a set of spaces for each of its devices.

    Parameters
    ----------
    registers: the SMMU as the guest reaches it.
    memory, ram: RAM by guest physical address, and who hands it out.
    """

    def __init__(self, registers: SizedBus, memory: MemoryAccess, ram: RamAllocator) -> None:
        self._memory, self._ram = memory, ram
        self.driver = SmmuDriver(registers, memory, self._allocate)
        self._contexts: dict[int, int] = {}
        """Where the context descriptors of a stream are."""
        self._asid = 0

    def start(self) -> None:
        """Bring the SMMU up; from then on a device reaches what it is let into, and nothing else."""
        self.driver.start()

    def attach(self, stream: int) -> IovaSpace:
        """Confine a device to a space of its own, for its requests without SubstreamID."""
        table = self._allocate(s.CD_BYTES << CONTEXT_BITS)
        self._contexts[stream] = table
        space = self._new_space()
        self._describe(stream, 0, space)
        self.driver.set_entry(stream, entries.stage1_entry(table, CONTEXT_BITS, s.S1DSS_SUBSTREAM0))
        return space

    def add_space(self, stream: int, substream: int) -> IovaSpace:
        """Give an attached device one more space, for the requests of a process."""
        if not 0 < substream < 1 << CONTEXT_BITS:
            raise MachineError(f"a SubstreamID is 1 to {(1 << CONTEXT_BITS) - 1}, not {substream}")
        space = self._new_space()
        self._describe(stream, substream, space)
        return space

    def _describe(self, stream: int, substream: int, space: IovaSpace) -> None:
        at = self._contexts[stream] + substream * s.CD_BYTES
        descriptor = entries.context_descriptor(space.root, space.asid)
        self._memory.write(at, descriptor.to_bytes(s.CD_BYTES, "little"))
        self.driver.command(entries.invalidate_context(stream, substream))
        self.driver.sync()

    def _new_space(self) -> IovaSpace:
        self._asid += 1
        asid = self._asid
        piece = self._ram.take(TABLE_BYTES, "translation tables of a device")
        frames = FrameAllocator(self._memory, piece.gpa, piece.size_bytes)

        def invalidate(address: int, length_bytes: int) -> None:
            self._invalidate(asid, address, length_bytes)

        return IovaSpace(TableBuilder(self._memory, frames, 1, invalidate), asid)

    def _invalidate(self, asid: int, address: int, length_bytes: int) -> None:
        self.driver.invalidate_stage1(asid, address, length_bytes)
        self.driver.sync()

    def _allocate(self, size_bytes: int) -> int:
        """Return RAM for a queue or table, aligned to its size."""
        piece = self._ram.take(2 * max(size_bytes, PAGE_SIZE_BYTES), "a queue or table of the SMMU")
        return align_up(piece.gpa, max(size_bytes, PAGE_SIZE_BYTES))
