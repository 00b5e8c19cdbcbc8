"""An SMMUv3 without a transport: registers, queues, caches and the translation of transactions.

Reference: ARM IHI 0070 G.b. It is given the memory that holds its tables and queues, interrupt wires and a
way to reach the devices' translation caches; it owns no socket, thread or clock.

Advertised capabilities; whatever is not in this table reads as unsupported and cannot be configured:

    stage 1                          yes                    IDR0.S1P
    stage 2, nested with stage 1     yes                    IDR0.S2P
    table format                     AArch64 only           IDR0.TTF
    granule                          4 KiB only             IDR5.GRAN4K
    endianness                       little                 IDR0.TTENDIAN
    output and input address size    48 bits                IDR5.OAS
    StreamIDs                        16 bits                IDR1.SIDSIZE
    SubstreamIDs                     16 bits                IDR1.SSIDSIZE
    stream table                     linear and two-level   IDR0.ST_LEVEL
    CD table                         linear and two-level   IDR0.CD2L
    ASID and VMID                    16 bits                IDR0.ASID16, IDR0.VMID16
    ATS                              full, not split-stage  IDR0.ATS, IDR0.NS1ATS
    fault models                     terminate and stall    IDR0.STALL_MODEL
    termination                      abort only             IDR0.TERM_MODEL
    stalled transactions             64                     IDR5.STALL_MAX
    range invalidation, level hints  yes                    IDR3.RIL
    hierarchical attribute disable   yes                    IDR3.HAD
    command queue                    up to 65536 entries    IDR1.CMDQS
    event queue                      up to 32768 entries    IDR1.EVENTQS
    architecture                     SMMUv3.1               AIDR

Not modelled: EL2 and Secure stream worlds, PRI, ATOS, MSIs of the SMMU itself, hardware update of table
flags, broadcast TLB maintenance, VMID wildcards, attribute overrides, MPAM, performance monitors.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Final

from testbed.interrupts.signal import Message
from testbed.iommu.ats import AtsInvalidation, AtsInvalidations
from testbed.iommu.commands import Commands, Completion
from testbed.iommu.features import Features, id_registers
from testbed.iommu.iotlb import TranslationCache
from testbed.iommu.queues import CommandQueue, EventQueue, GlobalErrors, QueueMemory
from testbed.iommu.stalls import Stalls
from testbed.iommu.stream_table import Lookup, Walk
from testbed.iommu.transactions import Transactions
from testbed.memory.register_file import RegisterFile
from testbed.spec import smmu as s

COMMANDS_A_WRITE: Final = 256
"""Commands that one register write may execute before the caller gets its turn again; `poll` goes on."""
_GUARDED: Final = {
    s.CR0_SMMUEN: ("STRTAB_BASE", "STRTAB_BASE_CFG"),
    s.CR0_CMDQEN: ("CMDQ_BASE", "CMDQ_CONS"),
    s.CR0_EVENTQEN: ("EVENTQ_BASE", "EVENTQ_PROD"),
}
"""Registers that are read-only while a bit of CR0 is set (§6.2, §6.3.24 to §6.3.29)."""
_ALL_ONES: Final = (1 << 64) - 1


class NoWire:
    """An interrupt output that leads nowhere."""

    def send(self) -> None:
        """Ignore it."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What an SMMU drives: its interrupt wires and the invalidation of devices' translation caches."""

    event_queue: Message = field(default_factory=NoWire)
    global_error: Message = field(default_factory=NoWire)
    command_sync: Message = field(default_factory=NoWire)
    invalidate: Callable[[AtsInvalidation], bool] = lambda _: False
    """Deliver an Invalidation Request; False where no device with ATS is behind the stream."""
    before_sync: Callable[[], None] = lambda: None
    """Called before a CMD_SYNC completes: whoever copies what this SMMU knows brings it up to date."""


class Smmu:
    """One SMMU. Any number of masters present transactions; one driver programs it."""

    def __init__(
        self,
        memory: QueueMemory,
        walk: Walk,
        features: Features | None = None,
        outputs: Outputs | None = None,
        cache: TranslationCache | None = None,
        clock_ns: Callable[[], int] = monotonic_ns,
        commands_a_turn: int = COMMANDS_A_WRITE,
    ) -> None:
        self.features = features or Features()
        self.cache = cache or TranslationCache(address_bits=self.features.address_bits)
        self.stalls = Stalls(self.features.stalls_max)
        self.registers = RegisterFile(s.SMMU, narrow_writes=("STRTAB_BASE", "CMDQ_BASE", "EVENTQ_BASE"))
        self._clock_ns, self._turn = clock_ns, commands_a_turn
        outputs = outputs or Outputs()
        self.ats = AtsInvalidations(outputs.invalidate, clock_ns)
        errors = GlobalErrors(self.registers, outputs.global_error)
        event_bits, command_bits = self.features.event_queue_bits, self.features.command_queue_bits
        self.events = EventQueue(self.registers, memory, errors, event_bits, outputs.event_queue)
        lookup = Lookup(memory, walk, self.features)
        self.transactions = Transactions(self.registers, lookup, self.cache, self.events, self.stalls)
        sync = Completion(outputs.command_sync, outputs.before_sync)
        commands = Commands(self.features, self.cache, self.stalls, self.ats, sync, lambda: self.translating)
        self._commands = CommandQueue(self.registers, memory, errors, command_bits, commands.execute)
        self._bypass = 0
        self._bind()
        self.reset()

    @property
    def translating(self) -> bool:
        """CR0.SMMUEN."""
        return bool(s.CR0_SMMUEN.get(self.registers["CR0"]))

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load from the register block gives."""
        return self.registers.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store to the register block."""
        self.registers.write(offset, size_bytes, value)

    def reset(self) -> None:
        """Return to the state after power-on: caches empty, every transaction aborted (GBPA.ABORT)."""
        self.registers.reset()
        for name, value in id_registers(self.features).items():
            self.registers[name] = value
        self._bypass = self.registers["GBPA"]
        self.stalls.terminate_all()
        self.cache.drop_streams(0, 0xFFFF_FFFF)
        self._guard(0)

    def poll(self) -> bool:
        """Go on with the command queue and give up overdue invalidations; tell whether there is more to do
        now.
        """
        self.ats.expire(self._clock_ns())
        return self._commands.consume(self._turn) == self._turn

    def acknowledge(self, tag: int, stream: int | None = None) -> None:
        """Take a completion of an Invalidation Request, from the device behind `stream` where that is known;
        a CMD_SYNC may have waited for it.
        """
        if self.ats.acknowledge(tag, stream):
            self._commands.consume(self._turn)

    def forget_device(self, stream: int) -> None:
        """The device behind a stream is gone: nothing waits for it any more."""
        self.ats.forget_stream(stream)
        self.stalls.terminate(stream)
        self._commands.consume(self._turn)

    def _bind(self) -> None:
        for name, handler in (
            ("CR0", self._write_cr0),
            ("GBPA", self._write_gbpa),
            ("IRQ_CTRL", self._write_irq_ctrl),
            ("GERRORN", self._run_commands),
            ("CMDQ_PROD", self._run_commands),
            ("EVENTQ_CONS", self._retry_unrecorded),
        ):
            self.registers.on_write(name, handler)

    def _write_cr0(self, _value: int) -> None:
        control = self.registers["CR0"]
        self.registers["CR0ACK"] = control
        self._guard(control)
        if not self.translating:
            self.stalls.terminate_all()
        self._retry_unrecorded(0)
        self._run_commands(0)

    def _write_gbpa(self, value: int) -> None:
        # §6.3.14: a write counts only with UPDATE set, which reads as zero once the value is in effect
        if s.GBPA_UPDATE.get(value):
            self._bypass = value & (s.GBPA_ABORT.mask | s.GBPA_SHCFG.mask)
        self.registers["GBPA"] = self._bypass

    def _write_irq_ctrl(self, _value: int) -> None:
        self.registers["IRQ_CTRLACK"] = self.registers["IRQ_CTRL"]

    def _run_commands(self, _value: int) -> None:
        self._commands.consume(self._turn)

    def _retry_unrecorded(self, _value: int) -> None:
        if self.events.writable:
            self.stalls.retry_unrecorded()

    def _guard(self, control: int) -> None:
        for bit, names in _GUARDED.items():
            for name in names:
                self.registers.protect(name, _ALL_ONES if bit.get(control) else 0)
