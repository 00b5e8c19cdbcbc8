"""One vCPU's redistributor state and its list registers: what is put into them, what comes back.

Reference: ARM IHI 0069 §6.2, §6.3 (list registers, more pending than list registers), §4.8. While a vCPU is
out its interrupts are in the banks (`sync`); before it goes on the best of them are put into list registers
(`flush`). A running vCPU is made to exit: asked by a word of its page and rung; one that waits for interrupts
has its list registers claimed and filled at once. What a guest writes into its page is believed of the
state bits of what it was given, no further.

More than fit: the best by priority, of equal priority active ones first, but always one that is pending. A
maintenance interrupt tells when to refill: underflow, or none pending where active ones fill up. An active
interrupt without a list register is ended by EOIcount (LRENP) in order of priority, with EOImode 1 by a trap.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Protocol

from testbed.messages.doorbell import Ringer
from testbed.native import ListRegisters, trace
from testbed.observe.counters import Counters
from testbed.spec import gic
from testbed.spec import trace as events
from testbed.spec.lpi import LPI_FIRST, VLPIS
from testbed.vmm.vgic_bank import LEVELS, Bank, LpiBank

_GROUP_LSB: Final = gic.LR_GROUP.lsb
_PRIORITY_LSB: Final = gic.LR_PRIORITY.lsb
_STATE_LSB: Final = gic.LR_STATE.lsb
_INTID: Final = gic.LR_VINTID.mask
_EN: Final = gic.HCR_EN.mask
_GROUP_ENABLES: Final = gic.VMCR_VENG0.mask | gic.VMCR_VENG1.mask
_GROUP_ENABLED: Final = (gic.HCR_VGRP0EIE.mask, gic.HCR_VGRP1EIE.mask)
_NOTHING_LEFT: Final = (_EN,)
"""ICH_HCR where everything is in list registers: no maintenance interrupt is needed."""
_ENDED_MAX: Final = gic.HCR_EOICOUNT.get(gic.HCR_EOICOUNT.mask)
_SORTED_MAX: Final = 32
"""So many are sorted faster than every priority is looked at."""
_BY_KEY: Final = itemgetter(0)
PRIVATE: Final = gic.SPI_FIRST
"""SGIs and PPIs: INTIDs 0 to 31."""
RESET_VMCR: Final = gic.VMCR_VBPR0.put(gic.BPR0_MIN) | gic.VMCR_VBPR1.put(gic.BPR1_MIN)


class FaultReport(Protocol):
    """Told of what a guest did wrong: reason, detail."""

    def __call__(self, reason: str, detail: str) -> None: ...


class Shared(Protocol):
    """What all vCPUs of a guest share."""

    spis: Bank
    groups: int
    """Interrupt groups that the distributor forwards: bit 0 group 0, bit 1 group 1."""

    def spis_changed(self, members: int) -> None:
        """Tell every vCPU that one of these SPIs concerns."""
        ...

    def send_sgi(self, source: int, value: int) -> None:
        """Do what vCPU `source` asks for by a write of ICC_SGI1R_EL1."""
        ...


@dataclass(slots=True)
class Slot:
    """What was put into a list register."""

    bank: Bank
    bit: int
    latched: bool
    """It was pending by its latch, not (only) by its line."""
    intid: int
    pending: bool | None = None
    active: bool | None = None
    """What software has made of its state while the vCPU ran; None: nothing."""


@dataclass(slots=True)
class _Pool:
    """The interrupts of a bank that concern this vCPU."""

    bank: Bank
    pending: int
    active: int

    @property
    def count(self) -> int:
        return (self.pending | self.active).bit_count()


class VgicCpu:
    """Interrupts of one vCPU. `number` is its place and its affinity's Aff0."""

    def __init__(
        self,
        number: int,
        shared: Shared,
        registers: ListRegisters,
        bell: Ringer,
        counters: Counters,
        report: FaultReport,
    ) -> None:
        self.number, self._shared, self.registers, self._bell = number, shared, registers, bell
        self._counters, self._report = counters, report
        self.private = Bank(0, PRIVATE, edge=(1 << gic.SGIS) - 1)
        self.lpis = LpiBank(LPI_FIRST, VLPIS)
        self.spi_mask = 0
        """SPIs that are routed here."""
        self.spi_active = 0
        """Active SPIs that this vCPU has taken."""
        self.lpis_on = False
        """GICR_CTLR.EnableLPIs."""
        self.before_entry: Callable[[], int] = lambda: 0
        """Samples lines of this vCPU's own (its timer) and returns those that are mapped to hardware."""
        self.who = 0
        """Which vCPU it is, for whoever traces (`process_number`)."""
        self.slots: list[Slot] = []
        self.spilled: list[tuple[Bank, int]] = []
        """Active interrupts without a list register, best first: as many of them as EOIcount can tell of."""
        self._stored: tuple[int, ...] = ()
        self.is_out: Callable[[], bool] = lambda: False
        """An exit of the vCPU waits for its answer."""
        self._asked = self._synced = False
        self._dirty = True
        registers.vmcr = RESET_VMCR

    # the vCPU comes and goes

    def enter(self) -> None:
        """Give the vCPU what there is for it; its exit is answered next."""
        changed = self._asked or self._dirty or self._synced or self.private.line
        if not changed and self.registers.quiet:
            return
        if self._asked:
            self._asked = False
            self.registers.exit_taken()
        hardware = self._sample()
        # more than fit: what fits best may have changed with the vCPU's group enables
        more = self._stored[-1:] != _NOTHING_LEFT
        if self._dirty or self._synced or more or self.registers.load()[:-1] != self._stored:
            self.sync()
            self._flush(hardware)
            self._synced = False

    def update(self) -> None:
        """Something that concerns this vCPU has changed: it gets to know at once."""
        clean, self._dirty = not self._dirty, True
        if self.is_out():
            return
        if self.registers.claim():
            if trace:
                trace(events.VCPU_CLAIMED, self.who)
            if not (clean and self._repeat()):
                self._refill()
            self.registers.release()
            if self.slots:
                self._bell.ring()
        elif not self._asked:
            self._asked = True
            self._counters.add("interrupts.forced_exits")
            if trace:
                trace(events.EXIT_FORCED, self.who)
            self.registers.ask_exit()
            self._bell.ring()

    def _refill(self) -> None:
        self.sync()
        if self._asked:
            self._asked = False
            self.registers.exit_taken()
        self._flush(self._sample())
        self._synced = False

    def _repeat(self) -> bool:
        """Give the SPI again that was all the vCPU was given last, where it is done with that and there is no
        more: what taking back and filling anew would come to, for a device that wakes it over and over.
        """
        if len(self.slots) != 1 or self.spilled or self._asked or self._synced:
            return False
        slot, spis, private = self.slots[0], self._shared.spis, self.private
        bit = slot.bit
        if slot.bank is not spis or not slot.latched or slot.pending is not None or slot.active is not None:
            return False
        self._sample()
        if private.latched or private.line or private.active or self.lpis.latched or self.spi_active:
            return False
        here = spis.enabled & self.spi_mask
        others = spis.pending & here & ~spis.listed
        again = spis.latched & here & spis.in_groups(self._shared.groups) & bit
        if others or not again or (spis.line & ~spis.edge | spis.active) & bit:
            return False
        if self._stored != (self._image(slot), 0, 0, 0, _EN) or not self._done_with(slot):
            return False
        spis.latched &= ~bit
        if trace:
            trace(events.LIST_REGISTER, self.who, 0, self._stored[0])
        self.registers.store(self._stored[:1], _EN)
        self._dirty = False
        return True

    def _image(self, slot: Slot) -> int:
        """Return the list register of an SPI that is pending by its latch."""
        bank, number = slot.bank, slot.intid - slot.bank.first
        group1 = bool(bank.group1 & slot.bit) << _GROUP_LSB
        return slot.intid | bank.priorities[number] << _PRIORITY_LSB | group1 | 1 << _STATE_LSB

    def _done_with(self, slot: Slot) -> bool:
        """Say whether the vCPU has ended what its first list register had, the only one filled."""
        first, *rest = self.registers.load()[: gic.LIST_REGISTERS]
        return first & _INTID == slot.intid and not (first | sum(rest)) >> _STATE_LSB

    def _sample(self) -> int:
        """Look at this vCPU's own lines; return those that are mapped to hardware."""
        line = self.private.line
        hardware = self.before_entry()
        self._dirty |= self.private.line != line
        return hardware

    # list registers to banks

    def sync(self) -> None:
        """Take the state of what is in list registers back into the banks."""
        if self._synced:
            return
        self._synced = True
        if not (self.slots or self.spilled):
            return
        loaded = self.registers.load()
        for slot, image in zip(self.slots, loaded, strict=False):
            self._take_back(slot, image)
        ended = gic.HCR_EOICOUNT.get(loaded[-2])
        for bank, bit in self.spilled[:ended]:
            self._set_active(bank, bit, False)
        astray = sum(slot.bit for slot in self.slots if slot.bank is self._shared.spis) & ~self.spi_mask
        self.slots, self.spilled = [], []
        if astray:  # routed to another vCPU meanwhile, which was waiting for them
            self._shared.spis_changed(astray)

    def _take_back(self, slot: Slot, image: int) -> None:
        bank, bit, state = slot.bank, slot.bit, image >> _STATE_LSB
        if image & _INTID != slot.intid:
            self._report("bad_list_register", f"list register of INTID {slot.intid} reads {image:#x}")
            self._counters.add("vgic.bad_list_register")
            state = gic.STATE_INVALID
        bank.listed &= ~bit
        pending = bool(state & gic.STATE_PENDING) if slot.pending is None else slot.pending
        if bank is self.lpis:
            if pending:
                self.lpis.latch(slot.intid - LPI_FIRST)
            return
        if pending and (slot.latched or bank.edge & bit):
            bank.latched |= bit
        active = bool(state & gic.STATE_ACTIVE) if slot.active is None else slot.active
        self._set_active(bank, bit, active)

    def _set_active(self, bank: Bank, members: int, active: bool) -> None:
        bank.active = bank.active | members if active else bank.active & ~members
        if bank is self._shared.spis:
            self.spi_active = self.spi_active | members if active else self.spi_active & ~members

    # banks to list registers

    def _pools(self) -> list[_Pool]:
        spis, private, lpis, groups = self._shared.spis, self.private, self.lpis, self._shared.groups
        pools = []
        if private.latched or private.line or private.active:
            pending = private.pending & private.enabled & private.in_groups(groups)
            pools.append(_Pool(private, pending, private.active))
        mine = spis.pending & spis.enabled & self.spi_mask & ~spis.listed & ~(spis.active & ~self.spi_active)
        if mine or self.spi_active:
            pools.append(_Pool(spis, mine & spis.in_groups(groups), self.spi_active))
        if lpis.latched and self.lpis_on and groups & 2:
            pools.append(_Pool(lpis, lpis.latched & lpis.enabled, 0))
        return pools

    def _flush(self, hardware: int) -> None:
        """Fill the list registers; `hardware`: private interrupts that are mapped to physical ones."""
        self._dirty = False
        pools = self._pools()
        hcr = _EN
        if sum(pool.count for pool in pools) <= gic.LIST_REGISTERS:
            chosen = [(pool, bit) for pool in pools for bit in _each(pool.pending | pool.active)]
        else:
            chosen, hcr = self._choose(pools)
        images = [self._list(pool, bit, hardware) for pool, bit in chosen]
        if trace:
            for index, image in enumerate(images):
                trace(events.LIST_REGISTER, self.who, index, image)
        self.registers.store(images, hcr)
        self._stored = (*images, *(0,) * (gic.LIST_REGISTERS - len(images)), hcr)

    def _choose(self, pools: Sequence[_Pool]) -> tuple[list[tuple[_Pool, int]], int]:
        """Return the best that fit, and ICH_HCR with the maintenance interrupts that tell when to refill."""
        hcr = _EN
        taken = self.registers.vmcr & _GROUP_ENABLES
        for pool in pools:
            for group in (0, 1):
                off = pool.pending & pool.bank.in_groups(1 << group)
                if off and not taken >> group & 1:  # not one that it would not take: told when it does
                    pool.pending &= ~off
                    hcr |= _GROUP_ENABLED[group]
        ranked = _ranked(pools, gic.LIST_REGISTERS)
        waiting = [_Pool(pool.bank, pool.pending & ~pool.active, 0) for pool in pools]
        if not any(
            bit & ~pool.active for pool, bit in ranked
        ):  # the best that can be taken, whatever is active
            ranked[gic.LIST_REGISTERS - 1 :] = _ranked(waiting, 1) or ranked[gic.LIST_REGISTERS - 1 :]
        active = sum(bool(pool.active & bit) for pool, bit in ranked)
        if sum(pool.count for pool in waiting) > len(ranked) - active:
            hcr |= gic.HCR_UIE.mask | gic.HCR_NPIE.mask
        self.spilled = self._spill(pools, ranked)
        if self.spilled:
            hcr |= gic.HCR_LRENPIE.mask | gic.HCR_TDIR.mask
        return ranked, hcr

    def _spill(self, pools: Sequence[_Pool], chosen: Sequence[tuple[_Pool, int]]) -> list[tuple[Bank, int]]:
        if not any(pool.active for pool in pools):
            return []
        left = []
        for pool in pools:
            kept = sum(bit for of, bit in chosen if of.bank is pool.bank)
            left.append(_Pool(pool.bank, 0, pool.active & ~kept))
        return [(pool.bank, bit) for pool, bit in _ranked(left, _ENDED_MAX)]

    def _list(self, pool: _Pool, bit: int, hardware: int) -> int:
        """Put one into a list register; return the register's image."""
        bank, number = pool.bank, bit.bit_length() - 1
        intid, active = bank.first + number, bool(pool.active & bit)
        image = intid | bank.priorities[number] << _PRIORITY_LSB | active << _STATE_LSB + 1
        if bank.group1 & bit:
            image |= 1 << _GROUP_LSB
        pending = bool(pool.pending & bit)
        if bank is self.private and hardware & bit:
            image |= gic.LR_HW.mask | gic.LR_PINTID.put(intid)
            pending &= not active  # held in the physical distributor, §12.4: ICH_LR<n>_EL2.State
        elif bank.line & ~bank.edge & bit or (bank is self._shared.spis and not bit & self.spi_mask):
            image |= gic.LR_EOI.mask  # asserted, or routed elsewhere: its end must be known
        latched = bool(bank.latched & bit) and pending
        if latched:
            bank.latched &= ~bit
        bank.listed |= bit
        self.slots.append(Slot(bank, bit, latched, intid))
        return image | pending << _STATE_LSB

    # software changes state

    def set_pending(self, bank: Bank, members: int, pending: bool) -> None:
        """Latch interrupts, or clear what is latched of them: here, in banks, or in this vCPU's registers."""
        bank.latched = bank.latched | members if pending else bank.latched & ~members
        if not pending:
            for slot in self.slots:
                if slot.bank is bank and slot.bit & members:
                    slot.pending = False

    def set_active(self, bank: Bank, members: int, active: bool) -> None:
        """Activate or deactivate interrupts that belong to this vCPU."""
        self._set_active(bank, members, active)
        for slot in self.slots:
            if slot.bank is bank and slot.bit & members:
                slot.active = active
        if not active:
            self.spilled = [(of, bit) for of, bit in self.spilled if of is not bank or not bit & members]

    def listed(self, bank: Bank) -> tuple[int, int]:
        """Return what is pending and what is active in list registers, as the vCPU has it now."""
        pending = active = 0
        for slot, image in zip(self.slots, self.registers.load(), strict=False):
            if slot.bank is bank:
                state = image >> _STATE_LSB
                pending |= slot.bit if state & gic.STATE_PENDING and slot.pending is not False else 0
                active |= slot.bit if state & gic.STATE_ACTIVE and slot.active is not False else 0
        return pending, active

    def held(self) -> tuple[tuple[Bank, int, int], ...]:
        """Return what of each bank is pending and active for this vCPU and in no list register."""
        private, spis, lpis = self.private, self._shared.spis, self.lpis
        unlisted = ~private.listed
        return (
            (private, private.pending & unlisted, private.active & unlisted),
            (spis, spis.pending & self.spi_mask & ~spis.listed, self.spi_active & ~spis.listed),
            (lpis, lpis.latched, 0),
        )

    def lists(self, bank: Bank, members: int) -> bool:
        """Say whether any of the interrupts is in a list register of this vCPU, or active without one."""
        for slot in self.slots:
            if slot.bank is bank and slot.bit & members:
                return True
        active = self.spi_active if bank is self._shared.spis else bank.active
        return bool(active & members)

    @property
    def held_spis(self) -> int:
        """SPIs that are active here or in a list register."""
        return self.spi_active | sum(slot.bit for slot in self.slots if slot.bank is self._shared.spis)

    def send_sgi(self, value: int) -> None:
        """Do what a write of ICC_SGI1R_EL1 asks for, which traps."""
        self._shared.send_sgi(self.number, value)

    def deactivate(self, intid: int) -> None:
        """Do what a write of ICC_DIR_EL1 asks for that was trapped."""
        self.sync()
        if intid < PRIVATE:
            self._set_active(self.private, 1 << intid, False)
        elif intid < gic.SPI_END:
            self._set_active(self._shared.spis, 1 << intid - gic.SPI_FIRST, False)
        self._dirty = True


def _each(members: int) -> list[int]:
    """Return the single bits of a set."""
    found = []
    while members:
        low = members & -members
        found.append(low)
        members ^= low
    return found


def _ranked(pools: Sequence[_Pool], most: int) -> list[tuple[_Pool, int]]:
    """Return at most `most`, best first: by priority, active ones before pending ones, then by INTID."""
    if sum(pool.count for pool in pools) <= _SORTED_MAX:
        return [(pool, bit) for _, pool, bit in sorted(_keyed(pools), key=_BY_KEY)[:most]]
    return _ranked_by_level(pools, most)


def _keyed(pools: Sequence[_Pool]) -> Iterator[tuple[int, _Pool, int]]:
    """Yield every interrupt behind what orders it."""
    for place, pool in enumerate(pools):
        members, active, priorities = pool.active | pool.pending, pool.active, pool.bank.priorities
        while members:
            low = members & -members
            number = low.bit_length() - 1
            yield priorities[number] << 16 | (not active & low) << 15 | place << 12 | number, pool, low
            members ^= low


def _ranked_by_level(pools: Sequence[_Pool], most: int) -> list[tuple[_Pool, int]]:
    """The same for many, each of which is looked at only if nothing is more urgent."""
    found: list[tuple[_Pool, int]] = []
    for level in range(LEVELS):
        for is_active in (True, False):
            for pool in pools:
                members = pool.active if is_active else pool.pending & ~pool.active
                members &= pool.bank.levels[level]
                while members and len(found) < most:
                    low = members & -members
                    found.append((pool, low))
                    members ^= low
        if len(found) == most:
            break
    return found
