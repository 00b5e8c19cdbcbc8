"""A host with an ITS, its processors' redistributors and vCPUs, and the honest driver that programs it."""

from functools import partial

from testbed.iommu.its import Its
from testbed.iommu.its_features import ItsFeatures
from testbed.iommu.its_redistributor import LpiTables, Redistributor
from testbed.iommu.its_vpes import VcpuBacking
from testbed.memory.host import HostMemory
from testbed.memory.segment import Segment
from testbed.native import LpiPort, Pinned, SharedWords, VpePort
from testbed.spec import its as s
from testbed.spec import its_commands as c
from testbed.spec import lpi
from testbed.spec.layout import Bits
from testbed.spec.vcpu_page import VCPU_PAGE

HOST = 0x100_0000_0000
QUEUE = HOST
QUEUE_PAGES = 1
DEVICES = HOST + 0x1_0000
COLLECTIONS = HOST + 0x2_0000
VPES = HOST + 0x3_0000
LEVEL2 = HOST + 0x4_0000
CONFIG = HOST + 0x5_0000
PENDING = HOST + 0x6_0000
"""One page a processor."""
ITTS = HOST + 0x8_0000
"""4 KiB a device, in the order they are mapped."""
VPTS = HOST + 0x10_0000
"""64 KiB a vCPU."""
MEMORY_BYTES = 0x20_0000
LPI, VLPI = lpi.LPI_FIRST, lpi.LPI_FIRST
NO_DOORBELL = 1023
VCPUS = 8


class Vcpu:
    """A vCPU's page as whoever runs it sees it."""

    def __init__(self, machine: "ItsMachine", index: int) -> None:
        self.page = Pinned(bytearray(VCPU_PAGE.size))
        self.words = SharedWords(self.page)
        self.vpt = VPTS + 0x1_0000 * index
        table = Pinned(machine.memory.view(self.vpt + 1024, lpi.VLPI_WORDS * 8))
        self.port = VpePort(self.page, table)
        """Residency as the hypervisor changes it."""
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def arm(self) -> None:
        """Go to sleep."""
        self.words.store32(VCPU_PAGE.offset("to_vcpu_armed"), 1)

    def take(self) -> list[int]:
        """Take every virtual LPI that is pending in the page."""
        taken = []
        for i in range(lpi.VLPI_WORDS):
            word = self.words.clear_bits64(VCPU_PAGE.offset("vlpi_pending", i), (1 << 64) - 1)
            taken += [VLPI + 64 * i + n for n in range(64) if word >> n & 1]
        return taken


class ItsMachine:
    """One ITS over host memory, programmed through its registers and its queue alone."""

    def __init__(
        self,
        features: ItsFeatures | None = None,
        processors: int = 2,
        memory: bytearray | memoryview | None = None,
    ) -> None:
        segment = Segment("tables", MEMORY_BYTES, HOST, memory or bytearray(MEMORY_BYTES))
        self.memory = HostMemory([segment])
        self.vcpus = [Vcpu(self, index) for index in range(VCPUS)]
        self.processor_wakes = [0] * processors
        self.pages = [Pinned(bytearray(lpi.LPI_PAGE.size)) for _ in range(processors)]
        self.processors = [LpiPort(page) for page in self.pages]
        self.redistributors = [
            Redistributor(self.memory, LpiTables(CONFIG, PENDING + 0x1000 * n), port, partial(self._wake, n))
            for n, port in enumerate(self.processors)
        ]
        self.reports: list[str] = []
        self.its = Its(
            self.memory,
            self.redistributors,
            self._backing,
            features or ItsFeatures(processors=processors),
            lambda reason, _detail: self.reports.append(reason),
        )
        self._itts = 0

    def _wake(self, processor: int) -> None:
        self.processor_wakes[processor] += 1

    def _backing(self, vpt: int) -> VcpuBacking | None:
        return next((VcpuBacking(v.page, v.wake) for v in self.vcpus if v.vpt == vpt), None)

    # registers

    def read(self, name: str, index: int = 0) -> int:
        """Load a whole register."""
        reg = s.ITS[name]
        return self.its.read(reg.at(index), reg.size)

    def write(self, name: str, value: int, index: int = 0) -> None:
        """Store a whole register."""
        reg = s.ITS[name]
        self.its.write(reg.at(index), reg.size, value)

    def enable(self) -> "ItsMachine":
        """Program flat tables of one 64 KiB page and the queue, and enable."""
        flat = 1 << 63 | 2 << 8
        for index, base in enumerate((DEVICES, COLLECTIONS, VPES)):
            self.write("BASER", flat | base, index)
        self.write("CBASER", 1 << 63 | QUEUE | QUEUE_PAGES - 1)
        self.write("CWRITER", 0)
        self.write("CTLR", 1)
        return self

    # commands

    def put(self, image: int) -> None:
        """Put a raw command into the queue and ring."""
        writer = self.read("CWRITER")
        self.memory.write(QUEUE + writer, image.to_bytes(32, "little"))
        self.write("CWRITER", (writer + 32) % (QUEUE_PAGES * 4096))

    def issue(self, opcode: int, *fields: tuple[Bits, int]) -> None:
        """Issue a command."""
        image = opcode
        for field, value in fields:
            image = field.put(value, image)
        self.put(image)

    def mapd(self, device: int, event_bits: int = 5, valid: bool = True) -> int:
        """Map a device to a zeroed ITT; return where it is."""
        itt = ITTS + 0x1000 * (self._itts % 64)
        self._itts += 1
        self.memory.write(itt, bytes(0x1000))
        fields = (c.MAPD_SIZE, event_bits - 1), (c.MAPD_ITT, itt >> 8)
        self.issue(c.OP_MAPD, (c.COMMAND_DEVICE, device), *fields, (c.COMMAND_V, int(valid)))
        return itt

    def mapc(self, icid: int, processor: int = 0, valid: bool = True) -> None:
        """Map a collection."""
        v = int(valid)
        self.issue(c.OP_MAPC, (c.COMMAND_ICID, icid), (c.COMMAND_RDBASE, processor), (c.COMMAND_V, v))

    def mapti(self, device: int, event: int, pintid: int, icid: int = 0) -> None:
        """Map an event to an LPI."""
        self.event(c.OP_MAPTI, device, event, (c.MAPTI_PINTID, pintid), (c.COMMAND_ICID, icid))

    def vmapp(self, vpe: int, vcpu: int | None = None, processor: int = 0, valid: bool = True) -> None:
        """Map a vPE to a vCPU's virtual pending table."""
        vpt = self.vcpus[vpe if vcpu is None else vcpu].vpt
        self.issue(
            c.OP_VMAPP, (c.COMMAND_VPE, vpe), (c.COMMAND_RDBASE, processor), (c.VMAPP_VPT, vpt >> 16),
            (c.VMAPP_VPT_SIZE, 13), (c.COMMAND_V, int(valid)),
        )  # fmt: skip

    def vmapti(self, device: int, event: int, vpe: int, vintid: int, doorbell: int = NO_DOORBELL) -> None:
        """Map an event to a virtual LPI."""
        fields = (c.COMMAND_VPE, vpe), (c.VMAPTI_VINTID, vintid), (c.VMAPTI_DOORBELL, doorbell)
        self.event(c.OP_VMAPTI, device, event, *fields)

    def vmovi(self, device: int, event: int, vpe: int, doorbell: int | None = None) -> None:
        """Move an event to another vPE, its doorbell, too, where one is given."""
        fields = (c.COMMAND_VPE, vpe), (c.VMOVI_D, int(doorbell is not None))
        self.event(c.OP_VMOVI, device, event, *fields, (c.VMAPTI_DOORBELL, doorbell or 0))

    def vmovp(self, vpe: int, processor: int) -> None:
        """Move a vPE to another processor."""
        self.issue(c.OP_VMOVP, (c.COMMAND_VPE, vpe), (c.COMMAND_RDBASE, processor))

    def event(self, opcode: int, device: int, event: int, *fields: tuple[Bits, int]) -> None:
        """Issue a command about an event."""
        self.issue(opcode, (c.COMMAND_DEVICE, device), (c.COMMAND_EVENT, event), *fields)

    # LPIs

    def configure(self, intid: int, enabled: bool, priority: int = 0xA0) -> None:
        """Write an LPI's byte of the configuration table; INV is the caller's."""
        self.memory.write(CONFIG + intid - LPI, bytes([priority & 0xFC | enabled]))

    def raised(self, processor: int = 0) -> list[int]:
        """Take every LPI that is raised at a processor."""
        return [LPI + n for n in self.processors[processor].take_all()]

    def arm(self, processor: int) -> None:
        """Let a processor sleep."""
        SharedWords(self.pages[processor]).store32(lpi.LPI_PAGE.offset("armed"), 1)

    def errors(self) -> dict[str, int]:
        """Return command errors by name."""
        return dict(self.its.commands.errors)
