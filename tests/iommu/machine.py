"""A host with an SMMU and the honest driver that programs it: structures, tables, queues, all in memory."""

from collections.abc import Callable

from testbed.iommu.ats import AtsInvalidation
from testbed.iommu.events import Request
from testbed.iommu.features import Features
from testbed.iommu.iotlb import TranslationCache
from testbed.iommu.smmu import Outputs, Smmu
from testbed.iommu.translate import native_walk
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.segment import Segment
from testbed.memory.tables import TableBuilder
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from testbed.spec.layout import Bits

PAGE = 4096
HOST = 0x100_0000_0000
STRTAB = HOST
CDS = HOST + 0x8000
COMMANDS = HOST + 0xC000
EVENTS = HOST + 0xD000
TABLES = HOST + 0x1_0000
TABLES_BYTES = 96 * PAGE
RAM = HOST + 0x4000_0000
RAM_BYTES = 8 << 20
GUEST = 0x4000_0000
"""Guest physical address of the first byte of RAM."""
QUEUE_BITS = 4
VMID, ASID = 7, 42


class Wire:
    """Counts pulses."""

    def __init__(self) -> None:
        self.pulses = 0

    def send(self) -> None:
        """Count one."""
        self.pulses += 1


class Devices:
    """Endpoints with ATS: keep what they are asked to invalidate; `present` says whether anyone answers."""

    def __init__(self) -> None:
        self.asked: list[AtsInvalidation] = []
        self.present = True
        self.deliver: Callable[[AtsInvalidation], bool] = lambda _: self.present

    def __call__(self, invalidation: AtsInvalidation) -> bool:
        self.asked.append(invalidation)
        return self.deliver(invalidation)


class Machine:
    """One SMMU over host memory, with a driver's helpers. `now_ns` is its clock."""

    def __init__(
        self,
        features: Features | None = None,
        cache: TranslationCache | None = None,
        walks_natively: bool = True,
    ) -> None:
        structures = Segment("structures", 0x1_0000 + TABLES_BYTES, HOST, bytearray(0x1_0000 + TABLES_BYTES))
        ram = Segment("ram", RAM_BYTES, RAM, bytearray(RAM_BYTES))
        self.memory = HostMemory([structures, ram])
        self.frames = FrameAllocator(self.memory, TABLES, TABLES_BYTES)
        self.event_wire, self.error_wire, self.sync_wire = Wire(), Wire(), Wire()
        self.devices = Devices()
        self.now_ns = 0
        outputs = Outputs(self.event_wire, self.error_wire, self.sync_wire, self.devices)
        self.walk = native_walk(self.memory)
        self.smmu = Smmu(self.memory, self.walk, features, outputs, cache, lambda: self.now_ns)
        if walks_natively:
            self.smmu.cache.walk_in(self.memory)
        self.translate = self.smmu.transactions.translate

    # Registers

    def read(self, name: str) -> int:
        """Load a whole register."""
        reg = s.SMMU[name]
        return self.smmu.read(reg.offset, reg.size)

    def write(self, name: str, value: int) -> None:
        """Store a whole register."""
        reg = s.SMMU[name]
        self.smmu.write(reg.offset, reg.size, value)

    def enable(
        self, control: int = 0b1101, log2size: int = 6, split: int = 6, two_level: bool = False
    ) -> None:
        """Program tables and queues and enable what `control` names (SMMUEN, EVENTQEN, CMDQEN)."""
        self.write("STRTAB_BASE", STRTAB)
        self.write("STRTAB_BASE_CFG", log2size | split << 6 | two_level << 16)
        self.write("CMDQ_BASE", COMMANDS | QUEUE_BITS)
        self.write("EVENTQ_BASE", EVENTS | QUEUE_BITS)
        self.write("CR2", 1 << 1)
        self.write("IRQ_CTRL", 0b101)
        self.write("CR0", control)

    # Structures

    def structure(self, at: int, *fields: tuple[Bits, int]) -> None:
        """Write a 64-byte structure; a field that is named twice has its last value."""
        image = 0
        for field, value in fields:
            image = field.put(value, image)
        self.memory.write(at, image.to_bytes(64, "little"))

    def bypass(self, stream: int) -> None:
        """Let a stream pass untranslated."""
        self.structure(STRTAB + stream * 64, (s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_BYPASS))

    def stage2_fields(self, root: int, vmid: int = VMID) -> list[tuple[Bits, int]]:
        """Return the stage-2 fields of an STE: 48 bits from level 0."""
        return [
            (s.STE_S2VMID, vmid), (s.STE_S2T0SZ, 16), (s.STE_S2SL0, 2), (s.STE_S2PS, 5), (s.STE_S2AA64, 1),
            (s.STE_S2R, 1), (s.STE_S2TTB, root >> 4),
        ]  # fmt: skip

    def stage2(self, stream: int, root: int, *more: tuple[Bits, int], vmid: int = VMID) -> None:
        """Translate a stream by stage 2 alone."""
        fields = [(s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_STAGE2), *self.stage2_fields(root, vmid), *more]
        self.structure(STRTAB + stream * 64, *fields)

    def stage1(self, stream: int, cds: int = CDS, *more: tuple[Bits, int], vmid: int = VMID) -> None:
        """Translate a stream by stage 1 alone, its CD table at `cds`."""
        fields = [(s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_STAGE1), (s.STE_S1CONTEXTPTR, cds >> 6)]
        self.structure(STRTAB + stream * 64, *fields, (s.STE_S2VMID, vmid), *more)

    def nested(self, stream: int, cds: int, root: int, *more: tuple[Bits, int], vmid: int = VMID) -> None:
        """Translate a stream by both stages; `cds` is an intermediate physical address."""
        fields = [(s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_NESTED), (s.STE_S1CONTEXTPTR, cds >> 6)]
        self.structure(STRTAB + stream * 64, *fields, *self.stage2_fields(root, vmid), *more)

    def context(self, root: int, *more: tuple[Bits, int], at: int = CDS, asid: int = ASID) -> None:
        """Write a CD: 48 bits through TTB0, TTB1 disabled."""
        fields = [
            (s.CD_T0SZ, 16), (s.CD_EPD1, 1), (s.CD_V, 1), (s.CD_IPS, 5), (s.CD_AA64, 1), (s.CD_R, 1),
            (s.CD_A, 1), (s.CD_ASID, asid), (s.CD_TTB0, root >> 4),
        ]  # fmt: skip
        self.structure(at, *fields, *more)

    def stage2_tables(self) -> TableBuilder:
        """Return stage-2 tables that map all of RAM at `GUEST`."""
        builder = TableBuilder(self.memory, self.frames, 2)
        builder.map(GUEST, RAM, RAM_BYTES)
        return builder

    # Queues

    def issue(self, opcode: int, *fields: tuple[Bits, int]) -> None:
        """Put a command into the queue and ring."""
        image = q.COMMAND_OPCODE.put(opcode)
        for field, value in fields:
            image |= field.put(value)
        producer = self.read("CMDQ_PROD")
        slot = COMMANDS + producer % (1 << QUEUE_BITS) * 16
        self.memory.write(slot, image.to_bytes(16, "little"))
        self.write("CMDQ_PROD", (producer + 1) % (2 << QUEUE_BITS))

    def sync(self) -> None:
        """Issue a CMD_SYNC and insist on its completion."""
        self.issue(q.OP_SYNC)
        assert self.consumed()

    def consumed(self) -> bool:
        """Tell whether every command was consumed."""
        return self.read("CMDQ_PROD") == self.read("CMDQ_CONS") & 0xF_FFFF

    def events(self) -> list[int]:
        """Take every record out of the event queue, as 256-bit images."""
        records = []
        consumer = self.read("EVENTQ_CONS")
        producer = self.read("EVENTQ_PROD")
        while (consumer ^ producer) % (2 << QUEUE_BITS):
            at = EVENTS + consumer % (1 << QUEUE_BITS) * 32
            records.append(int.from_bytes(self.memory.read(at, 32), "little"))
            consumer = (consumer + 1) % (2 << QUEUE_BITS)
        self.write("EVENTQ_CONS", consumer | producer & 1 << 31)
        return records

    def event_names(self) -> list[str]:
        """Take every record out of the event queue, by name."""
        return [q.EVENT_NAMES[record & 0xFF] for record in self.events()]


def request(address: int, stream: int = 1, write: bool = False, substream: int | None = None) -> Request:
    """Return an ordinary transaction."""
    return Request(stream, address, write, substream)
