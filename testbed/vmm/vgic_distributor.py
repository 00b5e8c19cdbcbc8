"""The distributor's registers of a guest's interrupt controller.

Reference: ARM IHI 0069 §12.9. Affinity routing is always on and there is one Security state, so GICD_CTLR.ARE
and DS read as one; registers of SGIs and PPIs (index 0) are reserved. TYPER says 988 SPIs and 1024 LPIs.
A write takes effect at once, so RWP reads as zero; what a running vCPU has in its list registers changes when
it has been made to exit. Not modelled: message-based SPIs, STATUSR.
"""

from collections.abc import Callable
from typing import Final

from testbed.spec import gic
from testbed.spec import gic_registers as spec
from testbed.spec.lpi import ID_BITS_MIN, VLPIS
from testbed.vmm.vgic import SPIS, Vgic
from testbed.vmm.vgic_bank import Bank
from testbed.vmm.vgic_frame import Frame

IIDR: Final = spec.IIDR_IMPLEMENTER.put(0x43B) | spec.IIDR_PRODUCTID.put(0x56)
"""Arm as the architecture's owner; a product number of our own."""
_WORD: Final = spec.IRQS_PER_BIT_REGISTER
_GROUPS: Final = spec.GICD_CTLR_ENABLE_GRP0.mask | spec.GICD_CTLR_ENABLE_GRP1.mask
_ALWAYS: Final = spec.GICD_CTLR_ARE.mask | spec.GICD_CTLR_DS.mask
_PRIVATE_PRIORITIES: Final = gic.SPI_FIRST // spec.IRQS_PER_PRIORITY_REGISTER
_PRIVATE_CONFIGS: Final = gic.SPI_FIRST // spec.IRQS_PER_CONFIG_REGISTER
BY_BYTE: Final = frozenset({"IPRIORITYR"})


def typer(vcpus: int) -> int:
    """Return GICD_TYPER: every SPI, LPIs, no second Security state."""
    return (
        spec.GICD_TYPER_ITLINES.put(-(-gic.SPI_END // _WORD) - 1)
        | spec.GICD_TYPER_CPUNUMBER.put(vcpus - 1)
        | spec.GICD_TYPER_NUM_LPIS.put(VLPIS.bit_length() - 2)
        | spec.GICD_TYPER_LPIS.mask
        | spec.GICD_TYPER_IDBITS.put(ID_BITS_MIN - 1)
        | spec.GICD_TYPER_A3V.mask
    )


class BankRegisters:
    """A bank as registers show it: index 0 is that of the bank's first interrupt."""

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def members(self, index: int, value: int) -> int:
        """Return the set that a written bit register `index` of the bank names."""
        return value << _WORD * index & self.bank.everything

    @staticmethod
    def word(members: int, index: int) -> int:
        """Return bit register `index` of a set."""
        return members >> _WORD * index & 0xFFFF_FFFF

    def priority(self, index: int) -> int:
        """Return priority register `index`: four bytes."""
        at = spec.IRQS_PER_PRIORITY_REGISTER * index
        return int.from_bytes(self.bank.priorities[at : at + spec.IRQS_PER_PRIORITY_REGISTER], "little")

    def set_priority(self, index: int, value: int) -> int:
        """Write priority register `index`; return the set whose priorities changed."""
        changed = 0
        for place in range(spec.IRQS_PER_PRIORITY_REGISTER):
            number = spec.IRQS_PER_PRIORITY_REGISTER * index + place
            if number < self.bank.count:
                old = self.bank.priorities[number]
                self.bank.set_priority(number, value >> 8 * place & 0xFF)
                changed |= (self.bank.priorities[number] != old) << number
        return changed

    def config(self, index: int) -> int:
        """Return configuration register `index`: two bits an interrupt."""
        members = self.bank.edge >> spec.IRQS_PER_CONFIG_REGISTER * index
        return sum(
            spec.ICFGR_EDGE << 2 * place
            for place in range(spec.IRQS_PER_CONFIG_REGISTER)
            if members >> place & 1
        )

    def set_config(self, index: int, value: int) -> int:
        """Write configuration register `index`; return the set whose mode changed."""
        first = spec.IRQS_PER_CONFIG_REGISTER * index
        edges = sum(
            1 << first + place
            for place in range(spec.IRQS_PER_CONFIG_REGISTER)
            if value >> 2 * place & spec.ICFGR_EDGE
        )
        mask = ((1 << spec.IRQS_PER_CONFIG_REGISTER) - 1 << first) & self.bank.everything
        old, self.bank.edge = self.bank.edge, (self.bank.edge & ~mask) | (edges & mask)
        return old ^ self.bank.edge


class Distributor:
    """GICD, a device on the guest's bus."""

    def __init__(self, vgic: Vgic, odd: Callable[[], None]) -> None:
        self._vgic, self._spis = vgic, BankRegisters(vgic.spis)
        bank, shown = vgic.spis, self._spis
        reads = {
            "CTLR": lambda _: vgic.groups | _ALWAYS,
            "TYPER": lambda _: typer(len(vgic.cpus)),
            "IIDR": lambda _: IIDR,
            "IGROUPR": self._bits(lambda: bank.group1),
            "ISENABLER": self._bits(lambda: bank.enabled),
            "ICENABLER": self._bits(lambda: bank.enabled),
            "ISPENDR": self._bits(lambda: vgic.state(bank)[0]),
            "ICPENDR": self._bits(lambda: vgic.state(bank)[0]),
            "ISACTIVER": self._bits(lambda: vgic.state(bank)[1]),
            "ICACTIVER": self._bits(lambda: vgic.state(bank)[1]),
            "IPRIORITYR": lambda i: (
                shown.priority(i - _PRIVATE_PRIORITIES) if i >= _PRIVATE_PRIORITIES else 0
            ),
            "ICFGR": lambda i: shown.config(i - _PRIVATE_CONFIGS) if i >= _PRIVATE_CONFIGS else 0,
            "IROUTER": lambda i: vgic.routes[i],
        }
        writes = {
            "CTLR": lambda _, value: vgic.groups_changed(value & _GROUPS),
            "IGROUPR": self._set_groups,
            "ISENABLER": lambda i, value: self._enable(i, value, True),
            "ICENABLER": lambda i, value: self._enable(i, value, False),
            "ISPENDR": lambda i, value: vgic.set_spis_pending(self._members(i, value), True),
            "ICPENDR": lambda i, value: vgic.set_spis_pending(self._members(i, value), False),
            "ISACTIVER": lambda i, value: vgic.set_spis_active(self._members(i, value), True),
            "ICACTIVER": lambda i, value: vgic.set_spis_active(self._members(i, value), False),
            "IPRIORITYR": self._set_priority,
            "ICFGR": self._set_config,
            "IROUTER": vgic.route,
        }
        self._frame = Frame(spec.GICD, reads, writes, odd, BY_BYTE)
        self.read, self.write = self._frame.read, self._frame.write
        assert len(vgic.routes) == SPIS

    def _bits(self, members: Callable[[], int]) -> Callable[[int], int]:
        return lambda index: self._spis.word(members(), index - 1) if index else 0

    def _members(self, index: int, value: int) -> int:
        return self._spis.members(index - 1, value) if index else 0

    def _set_groups(self, index: int, value: int) -> None:
        if index:
            bank, mask = self._vgic.spis, self._members(index, 0xFFFF_FFFF)
            bank.group1 = (bank.group1 & ~mask) | self._members(index, value)
            self._vgic.spis_changed(mask)

    def _enable(self, index: int, value: int, enabled: bool) -> None:
        bank, members = self._vgic.spis, self._members(index, value)
        bank.enabled = bank.enabled | members if enabled else bank.enabled & ~members
        self._vgic.spis_changed(members & (bank.pending | bank.listed))

    def _set_priority(self, index: int, value: int) -> None:
        if index >= _PRIVATE_PRIORITIES:
            changed = self._spis.set_priority(index - _PRIVATE_PRIORITIES, value)
            self._vgic.spis_changed(changed & (self._vgic.spis.pending | self._vgic.spis.listed))

    def _set_config(self, index: int, value: int) -> None:
        if index >= _PRIVATE_CONFIGS:
            changed = self._spis.set_config(index - _PRIVATE_CONFIGS, value)
            self._vgic.spis_changed(changed & (self._vgic.spis.pending | self._vgic.spis.listed))
