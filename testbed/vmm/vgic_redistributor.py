"""The redistributors' registers: each vCPU's SGIs and PPIs, and its LPIs.

Reference: ARM IHI 0069 §12.11, §6.1 (LPI tables). Two frames a vCPU, in order of their numbers; the last says
so in TYPER. The LPI configuration table is read in the guest's memory when an LPI becomes pending and after
an invalidation (INVLPIR, INVALLR); it is the same for all, as GICR_TYPER.CommonLPIAff says. The pending table
is read when EnableLPIs is set, unless PENDBASER.PTZ says that it is zero; from then on it is the
redistributor's, which keeps what is pending here and the memory unwritten. EnableLPIs can be cleared again,
which drops what is pending; software moves its LPIs elsewhere before. What is pending of a vPE is none of
this: it is in the host's virtual pending table (testbed/native/vlpi.h). Not modelled: writing the pending
table back, STATUSR.
"""

from collections.abc import Callable
from typing import Final, Protocol

from testbed.spec import gic_registers as spec
from testbed.spec.lpi import ID_BITS_MIN, LPI_FIRST, PENDING_RESERVED_BYTES, VLPIS
from testbed.vmm.vgic import Vgic
from testbed.vmm.vgic_bank import Bank, bits
from testbed.vmm.vgic_cpu import VgicCpu
from testbed.vmm.vgic_distributor import BY_BYTE, IIDR, BankRegisters
from testbed.vmm.vgic_frame import Frame

_ADDRESS: Final = spec.PROPBASER_ADDRESS.mask
_PENDING_ADDRESS: Final = spec.PENDBASER_ADDRESS.mask
_SLEEP: Final = spec.GICR_WAKER_PROCESSOR_SLEEP.mask
_ASLEEP: Final = spec.GICR_WAKER_CHILDREN_ASLEEP.mask
_ENABLE: Final = spec.GICR_CTLR_ENABLE_LPIS.mask
_CAPABLE: Final = spec.GICR_CTLR_CES.mask | spec.GICR_CTLR_IR.mask


class Bytes(Protocol):
    """The guest's memory, by guest physical address."""

    def __call__(self, gpa: int) -> int | None:
        """Return a byte, None where there is no memory."""
        ...


class Redistributor:
    """The frames of one vCPU, a device of two frames on the guest's bus; `is_last` of its guest's."""

    def __init__(
        self, vgic: Vgic, cpu: VgicCpu, is_last: bool, memory: Bytes, odd: Callable[[], None]
    ) -> None:
        self._vgic, self._cpu, self._is_last, self._memory = vgic, cpu, is_last, memory
        self._waker = spec.GICR_RD["WAKER"].reset
        self._propbaser = self._pendbaser = 0
        self._is_zeroed = False
        """PENDBASER.PTZ, which reads as zero (§12.11)."""
        self._shown = BankRegisters(cpu.private)
        cpu.lpis.config = self._lpi_config
        self._frames = (self._control_frame(odd), self._private_frame(odd))

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load gives."""
        frame, offset = divmod(offset, spec.FRAME_BYTES)
        return self._frames[frame].read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store."""
        frame, offset = divmod(offset, spec.FRAME_BYTES)
        self._frames[frame].write(offset, size_bytes, value)

    def _control_frame(self, odd: Callable[[], None]) -> Frame:
        reads = {
            "CTLR": lambda _: _CAPABLE | _ENABLE * self._cpu.lpis_on,
            "IIDR": lambda _: IIDR,
            "TYPER": lambda _: self._typer(),
            "WAKER": lambda _: self._waker,
            "PROPBASER": lambda _: self._propbaser,
            "PENDBASER": lambda _: self._pendbaser,
        }
        writes = {
            "CTLR": lambda _, value: self._enable_lpis(bool(value & _ENABLE)),
            "WAKER": self._wake,
            "PROPBASER": self._set_propbaser,
            "PENDBASER": self._set_pendbaser,
            "INVLPIR": lambda _, value: self._invalidate(spec.INVLPIR_INTID.get(value) - LPI_FIRST),
            "INVALLR": lambda _, __: self._invalidate(None),
        }
        return Frame(spec.GICR_RD, reads, writes, odd)

    def _private_frame(self, odd: Callable[[], None]) -> Frame:
        bank, state, shown = self._cpu.private, self._vgic.state, self._shown
        reads = {
            "IGROUPR0": lambda _: bank.group1,
            "ISENABLER0": lambda _: bank.enabled,
            "ICENABLER0": lambda _: bank.enabled,
            "ISPENDR0": lambda _: state(bank)[0],
            "ICPENDR0": lambda _: state(bank)[0],
            "ISACTIVER0": lambda _: state(bank)[1],
            "ICACTIVER0": lambda _: state(bank)[1],
            "IPRIORITYR": shown.priority,
            "ICFGR1": lambda _: shown.config(1),
        }
        writes = {
            "IGROUPR0": self._set_groups,
            "ISENABLER0": lambda _, value: self._enable(bank, value, True),
            "ICENABLER0": lambda _, value: self._enable(bank, value, False),
            "ISPENDR0": lambda _, value: self._pend(bank, value, True),
            "ICPENDR0": lambda _, value: self._pend(bank, value, False),
            "ISACTIVER0": lambda _, value: self._activate(bank, value, True),
            "ICACTIVER0": lambda _, value: self._activate(bank, value, False),
            "IPRIORITYR": self._set_priority,
            "ICFGR1": self._set_config,
        }
        return Frame(spec.GICR_SGI, reads, writes, odd, BY_BYTE)

    # the control frame

    def _typer(self) -> int:
        return (
            spec.GICR_TYPER_PLPIS.mask
            | spec.GICR_TYPER_LAST.mask * self._is_last
            | spec.GICR_TYPER_PROCESSOR.put(self._cpu.number)
            | spec.GICR_TYPER_AFFINITY.put(self._cpu.number)
        )

    def _wake(self, _index: int, value: int) -> None:
        """ChildrenAsleep follows ProcessorSleep (§11.1)."""
        self._waker = _SLEEP | _ASLEEP if value & _SLEEP else 0

    def _enable_lpis(self, enabled: bool) -> None:
        cpu = self._cpu
        if enabled == cpu.lpis_on:
            return
        cpu.lpis_on = enabled
        cpu.lpis.invalidate(cpu.lpis.everything)
        if enabled and not self._is_zeroed:
            self._load_pending()
        elif not enabled:
            cpu.set_pending(cpu.lpis, cpu.lpis.everything, False)
        cpu.update()

    def _load_pending(self) -> None:
        """Take the pending table as software has left it (§6.1.2: a bit an LPI); no memory: nothing."""
        table = (self._pendbaser & _PENDING_ADDRESS) + PENDING_RESERVED_BYTES
        for offset in range(VLPIS // 8):
            byte = self._memory(table + offset)
            for bit in bits(byte or 0):
                self._cpu.lpis.latch(8 * offset + bit)

    def _set_propbaser(self, _index: int, value: int) -> None:
        if not self._cpu.lpis_on:  # changing it then is UNPREDICTABLE (§12.11)
            self._propbaser = value & sum(field.mask for field in spec.GICR_RD["PROPBASER"].bits)

    def _set_pendbaser(self, _index: int, value: int) -> None:
        if not self._cpu.lpis_on:
            known = sum(field.mask for field in spec.GICR_RD["PENDBASER"].bits)
            self._is_zeroed = bool(value & spec.PENDBASER_PTZ.mask)
            self._pendbaser = value & known & ~spec.PENDBASER_PTZ.mask

    def _invalidate(self, number: int | None) -> None:
        lpis = self._cpu.lpis
        if number is None:
            lpis.invalidate(lpis.everything)
        elif 0 <= number < VLPIS:
            lpis.invalidate(1 << number)
        else:
            return
        if lpis.latched or lpis.listed:
            self._cpu.update()

    def _lpi_config(self, number: int) -> int:
        """Return the configuration byte of an LPI; what has no memory, or no bits, is disabled."""
        if spec.PROPBASER_IDBITS.get(self._propbaser) + 1 < ID_BITS_MIN:
            return 0
        return self._memory((self._propbaser & _ADDRESS) + number) or 0

    # the frame of SGIs and PPIs

    def _changed(self, members: int) -> None:
        bank = self._cpu.private
        if members & (bank.pending | bank.listed | bank.active):
            self._cpu.update()

    def _set_groups(self, _index: int, value: int) -> None:
        bank = self._cpu.private
        changed, bank.group1 = bank.group1 ^ value, value
        self._changed(changed)

    def _enable(self, bank: Bank, members: int, enabled: bool) -> None:
        bank.enabled = bank.enabled | members if enabled else bank.enabled & ~members
        if members & (bank.pending | bank.listed):
            self._cpu.update()

    def _pend(self, bank: Bank, members: int, pending: bool) -> None:
        self._cpu.set_pending(bank, members, pending)
        self._cpu.update()

    def _activate(self, bank: Bank, members: int, active: bool) -> None:
        self._cpu.set_active(bank, members, active)
        self._cpu.update()

    def _set_priority(self, index: int, value: int) -> None:
        self._changed(self._shown.set_priority(index, value))

    def _set_config(self, _index: int, value: int) -> None:
        self._changed(self._shown.set_config(1, value))
