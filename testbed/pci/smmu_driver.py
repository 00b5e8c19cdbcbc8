"""An SMMUv3 as its software drives it: stream table, command queue, event queue.

Reference: ARM IHI 0070 G.b §3.21 (configuration and translation cache maintenance), §4 (commands), §6.3
(initialization), §7.2 (event queue), §7.5 (global errors). A hypervisor uses it for the machine's SMMU and a
guest's operating system for its own, so it knows neither: registers, memory and an allocator are handed in.
The stream table has two levels; a second level appears with the first stream that needs it.

Not modelled: range invalidation hints, interrupts by MSI, more than one thread.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.address import PAGE_SIZE_BYTES, split_pages
from testbed.errors import DeviceError
from testbed.memory.access import MemoryAccess
from testbed.pci import smmu_entries as entries
from testbed.pci.access import SizedBus
from testbed.pci.smmu_entries import EventRecord
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q

SPLIT: Final = 6
COMMAND_BITS: Final = 8
EVENT_BITS: Final = 7
PATIENCE_NS: Final = 2_000_000_000
"""How long a CMD_SYNC may take; a device that does not answer an invalidation makes it take for ever."""
_BY_ADDRESS_MAX_BYTES: Final = 64 * PAGE_SIZE_BYTES
"""More is invalidated by forgetting everything."""
_CAUSES: Final = {
    s.CERROR_ILL: "an illegal command",
    s.CERROR_ABT: "a command that could not be read",
    s.CERROR_ATC_INV_SYNC: "an invalidation that a device did not answer",
}


class SmmuDriver:
    """Drives one SMMU.

    Parameters
    ----------
    registers, memory: the SMMU, and the memory by the addresses that it uses.
    allocate: zeroed memory of so many bytes, a power of two, aligned to its size.
    pause: called while the SMMU is waited for.
    """

    def __init__(
        self,
        registers: SizedBus,
        memory: MemoryAccess,
        allocate: Callable[[int], int],
        pause: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._registers, self._memory, self._allocate = registers, memory, allocate
        self._pause, self._clock_ns = pause, clock_ns
        self._level1 = self._commands = self._events = 0
        self._producer = self._consumer = 0
        self._level2: dict[int, int] = {}

    def start(self) -> None:
        """Program tables and queues, empty the caches, and enable translation: §6.3.9 order."""
        self._set("CR0", 0)
        stream_bits = s.IDR1_SIDSIZE.get(self._get("IDR1"))
        self._program_tables(stream_bits)
        self._program_queues()
        enabled = s.CR0_CMDQEN.mask
        self._enable(enabled)
        self.command(entries.invalidate_every_entry())
        self.command(entries.command(q.OP_TLBI_NSNH_ALL))
        self.sync()
        self._set("IRQ_CTRL", s.IRQ_CTRL_GERROR.mask | s.IRQ_CTRL_EVENTQ.mask)
        ats = s.CR0_ATSCHK.mask if s.IDR0_ATS.get(self._get("IDR0")) else 0
        self._enable(enabled | s.CR0_EVENTQEN.mask | s.CR0_SMMUEN.mask | ats)

    # Stream table

    def set_entry(self, stream: int, image: int) -> None:
        """Replace a stream's entry: invalid first, then the new one, each complete before the next."""
        at = self._entry_address(stream)
        if s.STE_V.get(self._memory.load(at, 8)):
            self._memory.store(at, 8, 0)
            self._invalidate_entry(stream)
        for word in range(s.STE_BYTES // 8 - 1, -1, -1):  # V is in the first word, so that comes last
            self._memory.store(at + 8 * word, 8, image >> 64 * word & (1 << 64) - 1)
        self._invalidate_entry(stream)

    def _invalidate_entry(self, stream: int) -> None:
        self.command(entries.invalidate_entry(stream))
        self.sync()

    def _entry_address(self, stream: int) -> int:
        upper, lower = stream >> SPLIT, stream % (1 << SPLIT)
        if upper not in self._level2:
            table = self._allocate(s.STE_BYTES << SPLIT)
            descriptor = s.L1STD_SPAN.put(SPLIT + 1) | table
            self._memory.store(self._level1 + upper * s.L1STD_BYTES, s.L1STD_BYTES, descriptor)
            self._level2[upper] = table
        return self._level2[upper] + lower * s.STE_BYTES

    # Commands

    def command(self, image: int) -> None:
        """Put a command into the queue; waits where that is full. DeviceError: the SMMU has stopped."""
        size = 1 << COMMAND_BITS
        if (self._producer - self._consumer) % (2 * size) == size:
            self._until(lambda: (self._producer - self._consumed()) % (2 * size) < size)
        at = self._commands + self._producer % size * q.COMMAND_BYTES
        self._memory.write(at, image.to_bytes(q.COMMAND_BYTES, "little"))
        self._producer = (self._producer + 1) % (2 * size)
        self._set("CMDQ_PROD", self._producer)

    def sync(self) -> None:
        """Return when every command before is complete. DeviceError: it stopped, or takes too long."""
        self.command(entries.command(q.OP_SYNC, (q.SYNC_CS, q.SYNC_NONE)))
        self._until(lambda: self._consumed() == self._producer)

    def invalidate_stage2(self, vmid: int, address: int, length_bytes: int) -> None:
        """Have the translations of a range of guest physical addresses forgotten; `sync` waits for it."""
        if length_bytes > _BY_ADDRESS_MAX_BYTES:
            self.command(entries.command(q.OP_TLBI_S12_VMALL, (q.TLBI_VMID, vmid)))
            return
        for page, _ in split_pages(address, length_bytes):
            self.command(entries.invalidate_by_address(q.OP_TLBI_S2_IPA, page, vmid))
        # what stage 1 and 2 came to together is kept by input address, which this does not name (§4.4.3)
        self.command(entries.command(q.OP_TLBI_NH_ALL, (q.TLBI_VMID, vmid)))

    def invalidate_stage1(self, asid: int, address: int, length_bytes: int) -> None:
        """Have the translations of a range of an address space forgotten; `sync` waits for it."""
        if length_bytes > _BY_ADDRESS_MAX_BYTES:
            self.command(entries.command(q.OP_TLBI_NH_ASID, (q.TLBI_ASID, asid)))
            return
        for page, _ in split_pages(address, length_bytes):
            self.command(entries.invalidate_by_address(q.OP_TLBI_NH_VA, page, asid=asid))

    def _consumed(self) -> int:
        consumer = self._get("CMDQ_CONS")
        self._consumer = s.INDEX.get(consumer) % (2 << COMMAND_BITS)
        code = s.CMDQ_CONS_ERR.get(consumer)
        # ERR keeps its last value; GERROR tells whether it is active (§7.1)
        if code and (self._get("GERROR") ^ self._get("GERRORN")) & s.GERROR_CMDQ.mask:
            self._resume_after(code)
            raise DeviceError(f"the SMMU stopped at {_CAUSES.get(code, f'error {code}')}")
        return self._consumer

    def _resume_after(self, code: int) -> None:
        """Have the command that failed be a CMD_SYNC without effect, and let the SMMU go on (§7.1)."""
        consumer = self._consumer % (1 << COMMAND_BITS)
        if code != s.CERROR_ATC_INV_SYNC:  # that one was told once, and completes when it is tried again
            harmless = entries.command(q.OP_SYNC).to_bytes(q.COMMAND_BYTES, "little")
            self._memory.write(self._commands + consumer * q.COMMAND_BYTES, harmless)
        self._set("GERRORN", self._get("GERROR"))

    def _until(self, done: Callable[[], bool]) -> None:
        if done():
            return
        deadline_ns = self._clock_ns() + PATIENCE_NS
        while not done():
            if self._clock_ns() > deadline_ns:
                raise DeviceError(
                    f"the SMMU has not completed its commands in {PATIENCE_NS / 1e9:g} s: "
                    "it is gone, or a device does not answer an invalidation"
                )
            self._pause()

    # Events

    def take_events(self) -> list[EventRecord]:
        """Take what the event queue holds; a loss of records is acknowledged and not told here.

        The SMMU interrupts for a record in an empty queue only: whoever gets any takes again, until none is
        left.
        """
        size = 1 << EVENT_BITS
        producer, consumer = self._get("EVENTQ_PROD"), self._get("EVENTQ_CONS")
        taken = []
        while (s.INDEX.get(producer) - s.INDEX.get(consumer)) % (2 * size):
            at = self._events + s.INDEX.get(consumer) % size * q.EVENT_BYTES
            taken.append(entries.decode_event(self._memory.read(at, q.EVENT_BYTES)))
            consumer = (s.INDEX.get(consumer) + 1) % (2 * size)
        if taken or (producer ^ consumer) & s.OVERFLOW.mask:
            self._set("EVENTQ_CONS", s.INDEX.get(consumer) | producer & s.OVERFLOW.mask)
        return taken

    def take_errors(self) -> int:
        """Acknowledge global errors other than of the command queue; return their bits."""
        active = (self._get("GERROR") ^ self._get("GERRORN")) & ~s.GERROR_CMDQ.mask
        if active:
            self._set("GERRORN", self._get("GERRORN") ^ active)
        return active

    # Set-up

    def _program_tables(self, stream_bits: int) -> None:
        level1_bits = max(stream_bits - SPLIT, 0)
        self._level1 = self._allocate(s.L1STD_BYTES << level1_bits)
        self._level2.clear()
        self._set("STRTAB_BASE", self._level1)
        config = s.STRTAB_CFG_LOG2SIZE.put(stream_bits) | s.STRTAB_CFG_SPLIT.put(SPLIT)
        self._set("STRTAB_BASE_CFG", config | s.STRTAB_CFG_FMT.put(s.FMT_TWO_LEVEL))

    def _program_queues(self) -> None:
        self._commands = self._allocate(q.COMMAND_BYTES << COMMAND_BITS)
        self._events = self._allocate(q.EVENT_BYTES << EVENT_BITS)
        self._producer = self._consumer = 0
        self._set("CMDQ_BASE", self._commands | s.BASE_LOG2SIZE.put(COMMAND_BITS))
        self._set("EVENTQ_BASE", self._events | s.BASE_LOG2SIZE.put(EVENT_BITS))
        for name in ("CMDQ_PROD", "CMDQ_CONS", "EVENTQ_PROD", "EVENTQ_CONS"):
            self._set(name, 0)
        self._set("CR2", s.CR2_RECINVSID.mask | s.CR2_REC_CFG_ATS.mask)

    def _enable(self, control: int) -> None:
        self._set("CR0", control)
        self._until(lambda: self._get("CR0ACK") == control)

    def _get(self, name: str) -> int:
        register = s.SMMU[name]
        return self._registers.read(register.offset, register.size)

    def _set(self, name: str, value: int) -> None:
        register = s.SMMU[name]
        self._registers.write(register.offset, register.size, value)
