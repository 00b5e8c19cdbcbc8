"""The guest's driver for its interrupt controller, as a kernel's: distributor, redistributors, SGIs, LPIs.

Reference: ARM IHI 0069 §12.9, §12.11, §11.1 (waking a redistributor), §6.1 (LPI tables); every interrupt is
of group 1 and of one priority. Not modelled: priorities of their own.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from testbed.address import GUEST_GICD_GPA, GUEST_GICR_GPA
from testbed.errors import DeviceError
from testbed.guest.ram import RamAllocator
from testbed.native import VirtualCpuInterface, trace
from testbed.spec import gic
from testbed.spec import gic_registers as registers
from testbed.spec import trace as events
from testbed.spec.gic import SystemRegister
from testbed.spec.lpi import (
    ID_BITS_MIN,
    LPI_ENABLE,
    VLPIS,
    config_bytes,
    config_offset,
    pending_bytes,
)

PRIORITY: Final = 0xA0
PRIORITY_MASK: Final = 0xF0
"""What is less urgent is not taken."""
_WORD: Final = registers.IRQS_PER_BIT_REGISTER
_ALL: Final = 0xFFFF_FFFF
_PROPBASER_BITS: Final = registers.PROPBASER_IDBITS.put(ID_BITS_MIN - 1)
_SGI_FRAME: Final = registers.SGI_FRAME * registers.FRAME_BYTES
_PENDING_ALIGN_BYTES: Final = 1 << registers.PENDBASER_ADDRESS.lsb


class Cpu(Protocol):
    """What the driver does with its vCPU."""

    def load(self, gpa: int, size_bytes: int = 4) -> int:
        """Return what a register gives."""
        ...

    def store(self, gpa: int, value: int, size_bytes: int = 4) -> None:
        """Write a register."""
        ...

    def write_system_register(self, register: SystemRegister, value: int) -> None:
        """Write a system register that traps."""
        ...


class GicDriver:
    """The interrupt controller as one vCPU sees it. `number` is its place and its affinity."""

    def __init__(self, cpu: Cpu, interface: VirtualCpuInterface, number: int = 0) -> None:
        self.cpu, self.interface, self.number = cpu, interface, number
        self._grouped: set[int] = set()
        self._lpi_table_gpa = 0

    def start(self) -> None:
        """Turn on the distributor, wake the redistributor, let interrupts of group 1 through."""
        if self.number == 0:
            self._distributor("CTLR", 0, registers.GICD_CTLR_ENABLE_GRP1.mask)
        self._control("WAKER", 0)
        if self.cpu.load(self._control_gpa("WAKER")) & registers.GICR_WAKER_CHILDREN_ASLEEP.mask:
            raise DeviceError(f"redistributor {self.number}: stays asleep")
        self.interface.change_vmcr(
            gic.VMCR_VPMR.mask | gic.VMCR_VENG1.mask, gic.VMCR_VPMR.put(PRIORITY_MASK) | gic.VMCR_VENG1.mask
        )

    def enable_spi(self, intid: int, *, edge: bool, vcpu: int | None = None) -> None:
        """Have a shared peripheral interrupt delivered to this vCPU, or to another."""
        word, bit = intid // _WORD, 1 << intid % _WORD
        if word not in self._grouped:
            self._grouped.add(word)
            self._distributor("IGROUPR", word, _ALL)
        if edge:
            self._set_edge(intid)
        self.cpu.store(GUEST_GICD_GPA + registers.GICD["IPRIORITYR"].offset + intid, PRIORITY, 1)
        if target := self.number if vcpu is None else vcpu:
            self.route_spi(intid, target)
        self._distributor("ISENABLER", word, bit)

    def route_spi(self, intid: int, vcpu: int) -> None:
        """Have a shared peripheral interrupt delivered to a vCPU, whose affinity is its number."""
        self.cpu.store(GUEST_GICD_GPA + registers.GICD["IROUTER"].at(intid - gic.SPI_FIRST), vcpu, 8)

    def _set_edge(self, intid: int) -> None:
        index, place = divmod(intid, registers.IRQS_PER_CONFIG_REGISTER)
        gpa = GUEST_GICD_GPA + registers.GICD["ICFGR"].at(index)
        self.cpu.store(gpa, self.cpu.load(gpa) | registers.ICFGR_EDGE << 2 * place)

    def enable_private(self, *intids: int) -> None:
        """Have SGIs and PPIs of this vCPU delivered."""
        frame = _redistributor(self.number) + _SGI_FRAME
        self.cpu.store(frame + registers.GICR_SGI["IGROUPR0"].offset, _ALL)
        for intid in intids:
            self.cpu.store(frame + registers.GICR_SGI["IPRIORITYR"].offset + intid, PRIORITY, 1)
        self.cpu.store(frame + registers.GICR_SGI["ISENABLER0"].offset, sum(1 << intid for intid in intids))

    def send_sgi(self, intid: int, targets: int) -> None:
        """Interrupt other vCPUs; `targets` has bit n set for vCPU n."""
        if trace:
            trace(events.SGI_WRITTEN, intid, targets)
        self.cpu.write_system_register(gic.ICC_SGI1R_EL1, gic.SGI_INTID.put(intid) | targets)

    def start_lpis(self, ram: RamAllocator, vcpus: "Sequence[GicDriver]") -> None:
        """Give LPIs of every vCPU their tables in RAM and turn them on, before any but this one runs.

        They share one configuration table. MachineError where RAM is short.
        """
        table = ram.take(config_bytes(ID_BITS_MIN), "the LPI configuration table")
        self._lpi_table_gpa = int(table.gpa)
        for vcpu in vcpus:
            pending = ram.take(pending_bytes(ID_BITS_MIN) + _PENDING_ALIGN_BYTES, "an LPI pending table")
            aligned = -(-int(pending.gpa) // _PENDING_ALIGN_BYTES) * _PENDING_ALIGN_BYTES
            self._control("PROPBASER", int(table.gpa) | _PROPBASER_BITS, 8, vcpu.number)
            self._control("PENDBASER", aligned | registers.PENDBASER_PTZ.mask, 8, vcpu.number)
            self._control("CTLR", registers.GICR_CTLR_ENABLE_LPIS.mask, 4, vcpu.number)
            vcpu.interface.use_lpi_table(table.pinned, 0, VLPIS)

    def enable_lpi(self, intid: int) -> None:
        """Have an LPI delivered, by its byte of the table; whoever knows its event has it looked at (INV)."""
        self.cpu.store(self._lpi_table_gpa + config_offset(intid), PRIORITY | LPI_ENABLE.mask, 1)

    def _distributor(self, name: str, index: int, value: int) -> None:
        self.cpu.store(GUEST_GICD_GPA + registers.GICD[name].at(index), value)

    def _control_gpa(self, name: str, vcpu: int | None = None) -> int:
        return _redistributor(self.number if vcpu is None else vcpu) + registers.GICR_RD[name].offset

    def _control(self, name: str, value: int, size_bytes: int = 4, vcpu: int | None = None) -> None:
        self.cpu.store(self._control_gpa(name, vcpu), value, size_bytes)


def _redistributor(vcpu: int) -> int:
    return GUEST_GICR_GPA + vcpu * registers.GICR_V3_STRIDE_BYTES
