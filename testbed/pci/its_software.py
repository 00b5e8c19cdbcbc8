"""An ITS as software drives it, a hypervisor or a guest's kernel: tables, command queue, devices, events.

Reference: ARM IHI 0069 H.b §5.2 (tables), §5.3 (commands), §12.19. The device table has two levels, of which
the second appears with the first device that needs it; collections and vPEs have flat tables. Collection N is
processor N's. Not modelled: EventIDs that come back once a device is unmapped, collections that move.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.errors import DeviceError
from testbed.memory.access import MemoryAccess
from testbed.pci.access import SizedBus
from testbed.spec import its as s
from testbed.spec import its_commands as c
from testbed.spec.layout import Bits, RegisterMap

PAGE_BYTES: Final = s.PAGE_SIZES_BYTES[0]
VPE_PAGES: Final = 4
QUEUE_BYTES: Final = s.QUEUE_PAGE_BYTES
PROCESSOR: Final = 0
PATIENCE_NS: Final = 2_000_000_000


class ItsSoftware:
    """Drives one ITS.

    Parameters
    ----------
    its, memory: the register block, and memory by the addresses that it uses.
    allocate: zeroed memory of so many bytes, a power of two, aligned to its size.
    pause: called while the ITS is waited for.
    """

    def __init__(
        self,
        its: SizedBus,
        memory: MemoryAccess,
        allocate: Callable[[int], int],
        pause: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._its, self._memory = its, memory
        self._allocate, self._pause, self._clock_ns = allocate, pause, clock_ns
        self._queue = self._devices = self._writer = 0
        self._seen = 0
        """How far the ITS was when it was last asked."""
        self._level2: set[int] = set()
        self.commands = 0
        """How many were issued."""

    def start(self, processors: int = 1) -> None:
        """Give it its tables and enable it; map each processor's collection."""
        for n in range(s.BASERS):
            self._program_table(n)
        self._queue = self._allocate(QUEUE_BYTES)
        put(self._its, s.ITS, "CBASER", s.VALID.put(1) | self._queue)
        put(self._its, s.ITS, "CWRITER", 0)
        put(self._its, s.ITS, "CTLR", s.CTLR_ENABLED.put(1))
        for processor in range(processors):
            target = (c.COMMAND_ICID, processor), (c.COMMAND_RDBASE, processor)
            self.command(c.OP_MAPC, *target, (c.COMMAND_V, 1))
            self.command(c.OP_INVALL, (c.COMMAND_ICID, processor))
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

    def map_event(self, device: int, event: int, intid: int, processor: int = PROCESSOR) -> None:
        """Lead an event to an LPI of a processor, whose configuration is looked at anew."""
        self.of_event(c.OP_MAPTI, device, event, (c.MAPTI_PINTID, intid), (c.COMMAND_ICID, processor))
        self.of_event(c.OP_INV, device, event)
        self.sync()

    def move_event(self, device: int, event: int, processor: int) -> None:
        """Lead an event to another processor, with what is pending."""
        self.of_event(c.OP_MOVI, device, event, (c.COMMAND_ICID, processor))
        self.sync()

    def unmap_event(self, device: int, event: int) -> None:
        """Lead an event nowhere; what is pending of it is not any more."""
        self.of_event(c.OP_DISCARD, device, event)
        self.sync()

    def configured_anew(self, device: int, event: int) -> None:
        """Have the configuration of an event's LPI looked at again."""
        self.of_event(c.OP_INV, device, event)
        self.sync()

    def raise_event(self, device: int, event: int) -> None:
        """Do what a device does that writes the event."""
        self.of_event(c.OP_INT, device, event)
        self.sync()

    def clear_event(self, device: int, event: int) -> None:
        """Have what is pending of an event pending no more."""
        self.of_event(c.OP_CLEAR, device, event)
        self.sync()

    # the queue

    def command(self, opcode: int, *fields: tuple[Bits, int]) -> None:
        """Put a command into the queue; waits where that is full. DeviceError: the ITS has stalled."""
        image = c.COMMAND_OPCODE.put(opcode)
        for field, value in fields:
            image = field.put(value, image)
        following = (self._writer + c.COMMAND_BYTES) % QUEUE_BYTES
        if following == self._seen:
            self._until(lambda: self._reader() != following)
        self._memory.write(self._queue + self._writer, image.to_bytes(c.COMMAND_BYTES, "little"))
        self._writer = following
        self.commands += 1
        put(self._its, s.ITS, "CWRITER", following)

    def sync(self) -> None:
        """Return when every command before is complete. DeviceError: the ITS stalled, or takes too long."""
        self.command(c.OP_SYNC, (c.COMMAND_RDBASE, PROCESSOR))
        self._until(lambda: self._reader() == self._writer)

    def _reader(self) -> int:
        reader = get(self._its, s.ITS, "CREADR")
        if s.CREADR_STALLED.get(reader):
            raise DeviceError(f"the ITS has stalled at the command at offset {reader & ~1:#x} of its queue")
        self._seen = reader
        return reader

    def _until(self, done: Callable[[], bool]) -> None:
        if done():
            return
        deadline_ns = self._clock_ns() + PATIENCE_NS
        while not done():
            if self._clock_ns() > deadline_ns:
                raise DeviceError(f"the ITS has not completed its commands in {PATIENCE_NS / 1e9:g} s")
            self._pause()

    def of_event(self, opcode: int, device: int, event: int, *fields: tuple[Bits, int]) -> None:
        """Issue a command about an event."""
        self.command(opcode, (c.COMMAND_DEVICE, device), (c.COMMAND_EVENT, event), *fields)

    # tables

    def _program_table(self, n: int) -> None:
        kind = s.BASER_TYPE.get(get(self._its, s.ITS, "BASER", n))
        if kind == s.TYPE_NONE:
            return
        pages = VPE_PAGES if kind == s.TYPE_VPES else 1
        base = self._allocate(pages * PAGE_BYTES)
        value = s.VALID.put(1) | s.BASER_SIZE.put(pages - 1) | base
        if kind == s.TYPE_DEVICES:
            self._devices = base
            value |= s.BASER_INDIRECT.put(1)
        put(self._its, s.ITS, "BASER", value, n)

    def _second_level(self, device: int) -> None:
        page = device * s.DTE_BYTES // PAGE_BYTES
        if page not in self._level2:
            entry = s.LEVEL1_VALID.put(1) | self._allocate(PAGE_BYTES)
            self._memory.store(self._devices + page * s.LEVEL1_ENTRY_BYTES, s.LEVEL1_ENTRY_BYTES, entry)
            self._level2.add(page)


def get(registers: SizedBus, block: RegisterMap, name: str, index: int = 0) -> int:
    """Return a register."""
    reg = block[name]
    return registers.read(reg.at(index), reg.size)


def put(registers: SizedBus, block: RegisterMap, name: str, value: int, index: int = 0) -> None:
    """Write a register."""
    reg = block[name]
    registers.write(reg.at(index), reg.size, value)
