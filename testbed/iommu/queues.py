"""The two queues between an SMMU and its driver: commands in, event records out.

Reference: ARM IHI 0070 G.b §3.5 (circular queues), §4.1 (consumption), §7.1 (command errors), §7.2 and §7.4
(event queue, overflow), §7.5 (global errors). Index registers hold an index of LOG2SIZE bits with a wrap
flag above it. A hostile driver's index is taken modulo that, so that no value of a register leads outside
the queue. Not modelled: enhanced command queues, PRI queue, MSIs of the SMMU itself (IDR0.MSI is 0:
interrupts are wires).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from testbed.errors import MemoryFault
from testbed.interrupts.signal import Message
from testbed.memory.register_file import RegisterFile
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q


class QueueMemory(Protocol):
    """What holds the queues, by physical address."""

    def read(self, address: int, length_bytes: int) -> bytes:
        """Return bytes; MemoryFault where there is no memory."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write bytes; MemoryFault where there is no memory that may be written."""
        ...


class Record(Protocol):
    """What an event queue takes."""

    def pack(self) -> bytes:
        """Return the record as it lies in the queue."""
        ...


@dataclass(frozen=True, slots=True)
class Ring:
    """Geometry of a queue: what its BASE register comes to."""

    base: int
    log2size: int
    entry_bytes: int

    @classmethod
    def of(cls, base_register: int, bits_max: int, entry_bytes: int) -> "Ring":
        """Decode a BASE register; size is capped, the base aligned to the queue's size (§6.3.26)."""
        log2size = min(s.BASE_LOG2SIZE.get(base_register), bits_max)
        alignment = max(entry_bytes << log2size, s.QUEUE_BASE_ALIGN_BYTES)
        return cls(base_register & s.BASE_ADDR.mask & -alignment, log2size, entry_bytes)

    def position(self, index: int) -> int:
        """Return index and wrap flag of a register's value."""
        return index & (2 << self.log2size) - 1

    def after(self, index: int) -> int:
        """Return the position behind another."""
        return self.position(index + 1)

    def address(self, index: int) -> int:
        """Return where the entry of a position lies."""
        return self.base + (index & (1 << self.log2size) - 1) * self.entry_bytes

    def is_full(self, producer: int, consumer: int) -> bool:
        """Tell whether the indexes are equal and the wrap flags differ."""
        return self.position(producer) ^ self.position(consumer) == 1 << self.log2size


class GlobalErrors:
    """SMMU_GERROR and SMMU_GERRORN: an error is active while the two differ (§7.5)."""

    def __init__(self, registers: RegisterFile, wire: Message) -> None:
        self._registers, self._wire = registers, wire

    def active(self, mask: int) -> bool:
        """Tell whether any error of a mask is active."""
        return bool((self._registers["GERROR"] ^ self._registers["GERRORN"]) & mask)

    def activate(self, mask: int) -> None:
        """Report an error, unless it is active already."""
        if self.active(mask):
            return
        self._registers["GERROR"] ^= mask
        if s.IRQ_CTRL_GERROR.get(self._registers["IRQ_CTRL"]):
            self._wire.send()


class Outcome(Enum):
    """What became of a command."""

    DONE = "consumed"
    ILLEGAL = "cannot be consumed"
    WAIT = "cannot complete yet"
    INVALIDATION_LOST = "an ATS invalidation before it was never answered"


_CERROR = {
    Outcome.ILLEGAL: s.CERROR_ILL,
    Outcome.INVALIDATION_LOST: s.CERROR_ATC_INV_SYNC,
}


class CommandQueue:
    """Consumes commands in order; stops at the first error until software has acknowledged it."""

    def __init__(
        self,
        registers: RegisterFile,
        memory: QueueMemory,
        errors: GlobalErrors,
        bits_max: int,
        execute: Callable[[int], Outcome],
    ) -> None:
        self._registers, self._memory, self._errors = registers, memory, errors
        self._bits_max, self._execute = bits_max, execute

    @property
    def can_run(self) -> bool:
        """The queue is enabled, without error, and holds a command."""
        enabled = s.CR0_CMDQEN.get(self._registers["CR0"])
        return bool(enabled) and not self._errors.active(s.GERROR_CMDQ.mask) and not self._is_empty()

    def consume(self, limit: int) -> int:
        """Execute up to `limit` commands; return how many were consumed."""
        done = 0
        while done < limit and self.can_run and self._step():
            done += 1
        return done

    def _ring(self) -> Ring:
        return Ring.of(self._registers["CMDQ_BASE"], self._bits_max, q.COMMAND_BYTES)

    def _is_empty(self) -> bool:
        ring = self._ring()
        producer, consumer = self._registers["CMDQ_PROD"], self._registers["CMDQ_CONS"]
        return ring.position(producer) == ring.position(consumer)

    def _step(self) -> bool:
        ring = self._ring()
        consumer = self._registers["CMDQ_CONS"]
        try:
            command = int.from_bytes(self._memory.read(ring.address(consumer), q.COMMAND_BYTES), "little")
        except MemoryFault:
            self._stop(s.CERROR_ABT)
            return False
        outcome = self._execute(command)
        if outcome in _CERROR:
            self._stop(_CERROR[outcome])
        if outcome is Outcome.DONE:
            self._registers["CMDQ_CONS"] = consumer & s.CMDQ_CONS_ERR.mask | ring.after(consumer)
        return outcome is Outcome.DONE

    def _stop(self, code: int) -> None:
        """§7.1: CONS keeps pointing at the command, ERR says why, GERROR tells software."""
        consumer = self._registers["CMDQ_CONS"]
        self._registers["CMDQ_CONS"] = s.CMDQ_CONS_ERR.put(code, consumer)
        self._errors.activate(s.GERROR_CMDQ.mask)


class EventQueue:
    """Writes event records; a record for which there is no room is lost, and the loss is reported."""

    def __init__(
        self, registers: RegisterFile, memory: QueueMemory, errors: GlobalErrors, bits_max: int, wire: Message
    ) -> None:
        self._registers, self._memory, self._errors = registers, memory, errors
        self._bits_max, self._wire = bits_max, wire

    @property
    def writable(self) -> bool:
        """A record written now would not be lost (§7.2)."""
        return self._accepts() and not self._ring().is_full(*self._indexes())

    def record(self, event: Record) -> bool:
        """Write a record; tell whether it was written. A full queue enters the overflow condition (§7.4)."""
        if not self._accepts():
            return False
        ring, (producer, consumer) = self._ring(), self._indexes()
        if ring.is_full(producer, consumer):
            self._overflow(producer, consumer)
            return False
        try:
            self._memory.write(ring.address(producer), event.pack())
        except MemoryFault:
            self._errors.activate(s.GERROR_EVENTQ_ABT.mask)
            return False
        self._registers["EVENTQ_PROD"] = producer & s.OVERFLOW.mask | ring.after(producer)
        was_empty = ring.position(producer) == ring.position(consumer)
        if was_empty and s.IRQ_CTRL_EVENTQ.get(self._registers["IRQ_CTRL"]):
            self._wire.send()
        return True

    def _ring(self) -> Ring:
        return Ring.of(self._registers["EVENTQ_BASE"], self._bits_max, q.EVENT_BYTES)

    def _indexes(self) -> tuple[int, int]:
        return self._registers["EVENTQ_PROD"], self._registers["EVENTQ_CONS"]

    def _accepts(self) -> bool:
        enabled = s.CR0_EVENTQEN.get(self._registers["CR0"])
        return bool(enabled) and not self._errors.active(s.GERROR_EVENTQ_ABT.mask)

    def _overflow(self, producer: int, consumer: int) -> None:
        if s.OVERFLOW.get(producer) == s.OVERFLOW.get(consumer):
            self._registers["EVENTQ_PROD"] = producer ^ s.OVERFLOW.mask
