"""A host's ITS and the LPIs of its processor as their hypervisor drives them.

Reference: ARM IHI 0069 H.b §5.2 (tables), §5.3 (commands), §6.1 (LPIs), §12.11, §12.19. The device table has
two levels, of which the second appears with the first device that needs it; collections and vPEs have flat
tables. Everything is mapped to the one processor that the hypervisor has. Not modelled: several processors
that take LPIs (vPEs move between residency and none), EventIDs that come back once a device is unmapped.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.errors import DeviceError
from testbed.memory.access import MemoryAccess
from testbed.pci.access import SizedBus
from testbed.spec import gic_registers as g
from testbed.spec import its as s
from testbed.spec import its_commands as c
from testbed.spec import lpi
from testbed.spec.layout import Bits, RegisterMap

PAGE_BYTES: Final = s.PAGE_SIZES_BYTES[0]
VPE_PAGES: Final = 4
QUEUE_BYTES: Final = s.QUEUE_PAGE_BYTES
PRIORITY: Final = 0xA0
COLLECTION: Final = 0
PROCESSOR: Final = 0
VPT_BYTES: Final = 1 << s.VPT_ALIGN_BITS
PATIENCE_NS: Final = 2_000_000_000


class ItsDriver:
    """Drives one ITS and one redistributor.

    Parameters
    ----------
    its, redistributor, memory: the register blocks, and memory by the addresses that they use.
    allocate: zeroed memory of so many bytes, a power of two, aligned to its size.
    pause: called while the ITS is waited for.
    """

    def __init__(
        self,
        its: SizedBus,
        redistributor: SizedBus,
        memory: MemoryAccess,
        allocate: Callable[[int], int],
        pause: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._its, self._redistributor, self._memory = its, redistributor, memory
        self._allocate, self._pause, self._clock_ns = allocate, pause, clock_ns
        self._queue = self._config = self._devices = 0
        self._writer = 0
        self._level2: set[int] = set()
        self._lpis = self._vpes = 0
        self.commands = 0
        """How many were issued."""

    def start(self) -> None:
        """Give both their tables and enable them; map the processor's collection."""
        self._enable_lpis()
        for n in range(s.BASERS):
            self._program_table(n)
        self._queue = self._allocate(QUEUE_BYTES)
        _set(self._its, s.ITS, "CBASER", s.VALID.put(1) | self._queue)
        _set(self._its, s.ITS, "CWRITER", 0)
        _set(self._its, s.ITS, "CTLR", s.CTLR_ENABLED.put(1))
        target = (c.COMMAND_ICID, COLLECTION), (c.COMMAND_RDBASE, PROCESSOR)
        self.command(c.OP_MAPC, *target, (c.COMMAND_V, 1))
        self.command(c.OP_INVALL, (c.COMMAND_ICID, COLLECTION))
        self.sync()

    # devices and events

    def map_device(self, device: int, events: int) -> None:
        """Give a device so many EventIDs, from 0."""
        bits = max((events - 1).bit_length(), 1)
        self._second_level(device)
        itt = self._allocate(max(s.ITE_BYTES << bits, 1 << s.ITT_ALIGN_BITS))
        fields = (c.MAPD_SIZE, bits - 1), (c.MAPD_ITT, itt >> s.ITT_ALIGN_BITS), (c.COMMAND_V, 1)
        self.command(c.OP_MAPD, (c.COMMAND_DEVICE, device), *fields)
        self.sync()

    def unmap_device(self, device: int) -> None:
        """Have none of a device's events lead anywhere any more."""
        self.command(c.OP_MAPD, (c.COMMAND_DEVICE, device))
        self.sync()

    def map_lpi(self, device: int, event: int) -> int:
        """Lead an event to the hypervisor; return the LPI, enabled."""
        intid = self._enabled_lpi()
        fields = (c.MAPTI_PINTID, intid), (c.COMMAND_ICID, COLLECTION)
        self._of_event(c.OP_MAPTI, device, event, *fields)
        self._of_event(c.OP_INV, device, event)
        self.sync()
        return intid

    def map_vlpi(self, device: int, event: int, vpe: int, vintid: int, doorbell: int) -> None:
        """Lead an event straight to a vPE."""
        fields = (c.VMAPTI_VINTID, vintid), (c.VMAPTI_DOORBELL, doorbell), (c.COMMAND_VPE, vpe)
        self._of_event(c.OP_VMAPTI, device, event, *fields)
        self._vsync(vpe)

    def move_vlpi(self, device: int, event: int, vpe: int) -> None:
        """Lead an event to another vPE, with what is pending and the same doorbell."""
        self._of_event(c.OP_VMOVI, device, event, (c.COMMAND_VPE, vpe))
        self._vsync(vpe)

    def unmap_event(self, device: int, event: int) -> None:
        """Lead an event nowhere; what is pending of it is not any more."""
        self._of_event(c.OP_DISCARD, device, event)
        self.sync()

    def vlpi_changed(self, device: int, event: int) -> None:
        """The guest has configured the virtual LPI of an event anew."""
        self._of_event(c.OP_INV, device, event)
        self.sync()

    # vPEs

    def allocate_vpt(self) -> int:
        """Return a zeroed virtual pending table."""
        return self._allocate(VPT_BYTES)

    def map_vpe(self, vpt: int) -> int:
        """Make a vPE of a virtual pending table; return its vPEID."""
        vpe = self._vpes
        self._vpes += 1
        size = (c.VMAPP_VPT_SIZE, lpi.ID_BITS_MIN - 1), (c.VMAPP_VPT, vpt >> s.VPT_ALIGN_BITS)
        self.command(c.OP_VMAPP, (c.COMMAND_VPE, vpe), (c.COMMAND_RDBASE, PROCESSOR), *size, (c.COMMAND_V, 1))
        self._vsync(vpe)
        return vpe

    def unmap_vpe(self, vpe: int) -> None:
        """Forget a vPE; events that lead to it lead nowhere."""
        self.command(c.OP_VMAPP, (c.COMMAND_VPE, vpe))
        self.sync()

    def doorbell(self) -> int:
        """Return an enabled LPI that nothing is mapped to, for vPEs that are not resident."""
        intid = self._enabled_lpi()
        # no event leads to it that INV could name (GICv4.0 has no INVDB)
        self.command(c.OP_INVALL, (c.COMMAND_ICID, COLLECTION))
        self.sync()
        return intid

    def _vsync(self, vpe: int) -> None:
        self.command(c.OP_VSYNC, (c.COMMAND_VPE, vpe))
        self.sync()

    # the queue

    def command(self, opcode: int, *fields: tuple[Bits, int]) -> None:
        """Put a command into the queue; waits where that is full. DeviceError: the ITS has stalled."""
        image = c.COMMAND_OPCODE.put(opcode)
        for field, value in fields:
            image = field.put(value, image)
        following = (self._writer + c.COMMAND_BYTES) % QUEUE_BYTES
        self._until(lambda: self._reader() != following)
        self._memory.write(self._queue + self._writer, image.to_bytes(c.COMMAND_BYTES, "little"))
        self._writer = following
        self.commands += 1
        _set(self._its, s.ITS, "CWRITER", following)

    def sync(self) -> None:
        """Return when every command before is complete. DeviceError: the ITS stalled, or takes too long."""
        self.command(c.OP_SYNC, (c.COMMAND_RDBASE, PROCESSOR))
        self._until(lambda: self._reader() == self._writer)

    def _reader(self) -> int:
        reader = _get(self._its, s.ITS, "CREADR")
        if s.CREADR_STALLED.get(reader):
            raise DeviceError(f"the ITS has stalled at the command at offset {reader & ~1:#x} of its queue")
        return reader

    def _until(self, done: Callable[[], bool]) -> None:
        if done():
            return
        deadline_ns = self._clock_ns() + PATIENCE_NS
        while not done():
            if self._clock_ns() > deadline_ns:
                raise DeviceError(f"the ITS has not completed its commands in {PATIENCE_NS / 1e9:g} s")
            self._pause()

    def _of_event(self, opcode: int, device: int, event: int, *fields: tuple[Bits, int]) -> None:
        self.command(opcode, (c.COMMAND_DEVICE, device), (c.COMMAND_EVENT, event), *fields)

    # tables

    def _enable_lpis(self) -> None:
        bits = lpi.ID_BITS_MIN
        self._config = self._allocate(lpi.config_bytes(bits))
        pending = self._allocate(1 << g.PENDBASER_ADDRESS.lsb)
        _set(self._redistributor, g.GICR_RD, "PROPBASER", g.PROPBASER_IDBITS.put(bits - 1, self._config))
        _set(self._redistributor, g.GICR_RD, "PENDBASER", g.PENDBASER_PTZ.put(1, pending))
        _set(self._redistributor, g.GICR_RD, "CTLR", g.GICR_CTLR_ENABLE_LPIS.put(1))

    def _program_table(self, n: int) -> None:
        kind = s.BASER_TYPE.get(_get(self._its, s.ITS, "BASER", n))
        if kind == s.TYPE_NONE:
            return
        pages = VPE_PAGES if kind == s.TYPE_VPES else 1
        base = self._allocate(pages * PAGE_BYTES)
        value = s.VALID.put(1) | s.BASER_SIZE.put(pages - 1) | base
        if kind == s.TYPE_DEVICES:
            self._devices = base
            value |= s.BASER_INDIRECT.put(1)
        _set(self._its, s.ITS, "BASER", value, n)

    def _second_level(self, device: int) -> None:
        page = device * s.DTE_BYTES // PAGE_BYTES
        if page not in self._level2:
            entry = s.LEVEL1_VALID.put(1) | self._allocate(PAGE_BYTES)
            self._memory.store(self._devices + page * s.LEVEL1_ENTRY_BYTES, s.LEVEL1_ENTRY_BYTES, entry)
            self._level2.add(page)

    def _enabled_lpi(self) -> int:
        if self._lpis == lpi.HOST_LPIS:
            raise DeviceError(f"a host has {lpi.HOST_LPIS} LPIs, and all are mapped")
        intid = lpi.LPI_FIRST + self._lpis
        self._lpis += 1
        self._memory.write(self._config + lpi.config_offset(intid), bytes([PRIORITY | lpi.LPI_ENABLE.mask]))
        return intid


def _get(registers: SizedBus, block: RegisterMap, name: str, index: int = 0) -> int:
    reg = block[name]
    return registers.read(reg.at(index), reg.size)


def _set(registers: SizedBus, block: RegisterMap, name: str, value: int, index: int = 0) -> None:
    reg = block[name]
    registers.write(reg.at(index), reg.size, value)
