"""A guest's interrupt controller: what is raised, by whom, and which vCPU is told.

Reference: ARM IHI 0069 chapters 1 to 4; §4.7 (SGIs), §3.3 (affinity routing). SPIs, and SGIs and PPIs of each
vCPU, level-sensitive or edge-triggered; LPIs of each vCPU. A vCPU's affinity is 0.0.0.N. An SPI whose routing
mode says any processor goes to the first. Registers are in vgic_distributor.py and vgic_redistributor.py,
what a vCPU is given in vgic_cpu.py. Not modelled: two Security states, 1 of N selection, legacy operation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.messages.doorbell import Ringer
from testbed.native import ListRegisters, SharedWords, trace
from testbed.observe.counters import Counters
from testbed.spec import gic
from testbed.spec import gic_registers as registers
from testbed.spec import trace as events
from testbed.spec.lpi import LPI_FIRST, VLPIS
from testbed.vmm.vgic_bank import Bank
from testbed.vmm.vgic_cpu import FaultReport, VgicCpu
from testbed.vmm.vgic_timer import VirtualTimer

SPIS: Final = gic.SPI_END - gic.SPI_FIRST
_SPI_FIRST: Final = gic.SPI_FIRST
_AFF0: Final = registers.IROUTER_AFF0
_ANY: Final = registers.IROUTER_IRM.mask
_AFFINITY: Final = (
    _AFF0.mask | registers.IROUTER_AFF1.mask | registers.IROUTER_AFF2.mask | registers.IROUTER_AFF3.mask
)


@dataclass(frozen=True)
class VcpuParts:
    """What the controller has of a vCPU: its list registers, its page, and how it is woken."""

    registers: ListRegisters
    words: SharedWords
    bell: Ringer


class Vgic:
    """The interrupt controller of one guest."""

    def __init__(
        self,
        vcpus: Sequence[VcpuParts],
        counters: Counters,
        report: FaultReport,
        clock: Callable[[], int],
    ) -> None:
        self.spis = Bank(_SPI_FIRST, SPIS)
        self.groups = 0
        self.routes = [0] * SPIS
        """GICD_IROUTER of each SPI."""
        self._targets: list[VgicCpu | None]
        self.cpus = [
            VgicCpu(n, self, vcpu.registers, vcpu.bell, counters, report) for n, vcpu in enumerate(vcpus)
        ]
        for cpu, vcpu in zip(self.cpus, vcpus, strict=True):
            timer = VirtualTimer(vcpu.words, cpu, clock)
            cpu.before_entry = timer.sample
        first = self.cpus[0]
        first.spi_mask = self.spis.everything
        self._targets = [first] * SPIS

    # what devices do

    def pulse(self, intid: int) -> bool:
        """Give an SPI one edge; False: it is level-sensitive and does not notice, or was pending already."""
        spis, bit = self.spis, 1 << intid - _SPI_FIRST
        if not spis.edge & ~spis.latched & bit:
            return False
        spis.latched |= bit
        if spis.enabled & bit:
            self._tell(intid - _SPI_FIRST, bit)
        return True

    def set_level(self, intid: int, asserted: bool) -> bool:
        """Assert or deassert an SPI's line; False: it is so already."""
        spis, bit = self.spis, 1 << intid - _SPI_FIRST
        if bool(spis.line & bit) == asserted:
            return False
        spis.set_line(bit, asserted)
        if (spis.enabled | spis.listed) & bit:
            self._tell(intid - _SPI_FIRST, bit)
        return True

    def who_gets(self, intid: int) -> int:
        """Return the vCPU to which an SPI is routed, for whoever traces; 0: to none."""
        target = self._targets[intid - _SPI_FIRST]
        return target.who if target is not None else 0

    def send_lpi(self, cpu: int, intid: int) -> None:
        """Make an LPI of a vCPU pending; one that there is not, or LPIs being off, is ignored (§6.1)."""
        target = self.cpus[cpu]
        number = intid - LPI_FIRST
        if 0 <= number < VLPIS and target.lpis_on:
            target.lpis.latch(number)
            if target.lpis.enabled >> number & 1:
                target.update()

    def send_sgi(self, source: int, value: int) -> None:
        """Do what vCPU `source` asks for by a write of ICC_SGI1R_EL1 (§12.2)."""
        intid = gic.SGI_INTID.get(value)
        bit = 1 << intid
        for cpu in self._sgi_targets(source, value):
            if trace:
                trace(events.SGI_PENDING, intid, cpu.who, self.cpus[source].who)
            cpu.private.latched |= bit
            if cpu.private.enabled & bit:
                cpu.update()

    def _sgi_targets(self, source: int, value: int) -> list[VgicCpu]:
        if gic.SGI_IRM.get(value):
            return [cpu for cpu in self.cpus if cpu.number != source]
        if value & (gic.SGI_AFF1.mask | gic.SGI_AFF2.mask | gic.SGI_AFF3.mask | gic.SGI_RS.mask):
            return []
        listed = gic.SGI_TARGETLIST.get(value)
        return [cpu for cpu in self.cpus if listed >> cpu.number & 1]

    def _tell(self, number: int, bit: int) -> None:
        """Have the vCPU that an SPI concerns notice: the one that has it, else the one it is routed to."""
        if self.spis.listed & bit:
            for cpu in self.cpus:
                if cpu.lists(self.spis, bit):
                    cpu.update()
                    return
        target = self._targets[number]
        if target is not None:
            target.update()

    # what registers do

    def route(self, number: int, value: int) -> None:
        """Write GICD_IROUTER of SPI `_SPI_FIRST` + `number`."""
        value &= _AFFINITY | _ANY
        self.routes[number] = value
        bit, old = 1 << number, self._targets[number]
        target = self._routed(value)
        if target is old:
            return
        if old is not None:
            old.spi_mask &= ~bit
        if target is not None:
            target.spi_mask |= bit
        self._targets[number] = target
        self.spis_changed(bit)

    def _routed(self, value: int) -> VgicCpu | None:
        if value & _ANY:
            return self.cpus[0]
        affinity = value & _AFFINITY
        return self.cpus[affinity] if affinity < len(self.cpus) else None

    def state(self, bank: Bank) -> tuple[int, int]:
        """Return what is pending and what is active of a bank, in list registers or not."""
        pending, active = bank.pending, bank.active & ~bank.listed
        for cpu in self.cpus:
            listed_pending, listed_active = cpu.listed(bank)
            pending |= listed_pending
            active |= listed_active
        return pending, active

    def spis_changed(self, members: int) -> None:
        """Tell every vCPU that one of these SPIs concerns."""
        for cpu in self.cpus:
            if cpu.spi_mask & members or cpu.spi_active & members or cpu.lists(self.spis, members):
                cpu.update()

    def set_spis_pending(self, members: int, pending: bool) -> None:
        """Write GICD_ISPENDR or ICPENDR."""
        for cpu in self.cpus:
            cpu.set_pending(self.spis, members, pending)
        self.spis_changed(members)

    def set_spis_active(self, members: int, active: bool) -> None:
        """Write GICD_ISACTIVER or ICACTIVER; what is active nowhere becomes so where it is routed."""
        left = members
        for cpu in self.cpus:
            held = left & cpu.held_spis
            cpu.set_active(self.spis, held, active)
            left &= ~held
        for cpu in self.cpus:
            cpu.set_active(self.spis, left & cpu.spi_mask, active)
        self.spis_changed(members)

    def groups_changed(self, groups: int) -> None:
        """Write the group enables of GICD_CTLR."""
        if groups != self.groups:
            self.groups = groups
            for cpu in self.cpus:
                cpu.update()
