"""The virtual CPU interface against a plain model of its rules, and what it does at its edges."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from testbed.native import ListRegisters, Pinned, SharedWords, VirtualCpuInterface, VlpiPending
from testbed.spec import gic
from testbed.spec import vcpu_page as page_spec
from tests.support.cpu_interface_model import InterfaceModel, Slot

PAGE = page_spec.VCPU_PAGE
LPIS = 16
MISR = {"EOI": gic.MISR_EOI, "U": gic.MISR_U, "LRENP": gic.MISR_LRENP, "NP": gic.MISR_NP}
HCR = {"U": gic.HCR_UIE, "LRENP": gic.HCR_LRENPIE, "NP": gic.HCR_NPIE}

intids = st.sampled_from([*range(28, 36), 1019, 8195, 8200])
groups = st.integers(0, 1)
priorities = st.integers(0, 31).map(lambda level: level << 3) | st.integers(0, 255)


class Interface:
    """A page and both its sides."""

    def __init__(self) -> None:
        self.page = Pinned(bytearray(PAGE.size))
        self.table = bytearray(LPIS)
        self.cpu = VirtualCpuInterface(self.page)
        self.cpu.use_lpi_table(Pinned(self.table), 0, LPIS)
        self.registers, self.vlpis = ListRegisters(self.page), VlpiPending(self.page)
        self.words = SharedWords(self.page)

    def fill(self, *slots: Slot, hcr: int = gic.HCR_EN.mask) -> None:
        self.registers.store([slot.image for slot in slots], hcr)

    def allow(self, mask: int = 0xF8, groups: int = 0b11) -> None:
        self.cpu.change_vmcr(0xFFFF_FFFF, gic.VMCR_VPMR.put(mask) | groups)


@pytest.fixture
def interface() -> Interface:
    made = Interface()
    made.allow()
    return made


def pending(intid: int, priority: int = 0x80, group: int = 1, **more: object) -> Slot:
    return Slot(intid, priority, group, pending=True, **more)  # type: ignore[arg-type]


def test_interface_with_nothing_pending_is_spurious(interface: Interface) -> None:
    interface.fill()
    assert not interface.cpu.signals
    assert (interface.cpu.acknowledge(), interface.cpu.highest_pending()) == (1023, 1023)
    assert interface.cpu.running_priority == 0xFF


def test_interface_takes_the_highest_priority_and_ends_it(interface: Interface) -> None:
    interface.fill(pending(40, 0xA0), pending(41, 0x20))
    assert interface.cpu.acknowledge() == 41
    assert (interface.cpu.running_priority, interface.cpu.signals) == (0x20, False)
    interface.cpu.end(41)
    assert interface.cpu.acknowledge() == 40
    interface.cpu.end(40)
    assert interface.registers.load()[:4] == (Slot(40, 0xA0).image, Slot(41, 0x20).image, 0, 0)


def test_interface_higher_priority_preempts(interface: Interface) -> None:
    interface.fill(pending(40, 0xA0))
    assert interface.cpu.acknowledge() == 40
    interface.fill(Slot(40, 0xA0, active=True), pending(41, 0x20))
    assert interface.cpu.acknowledge() == 41
    assert interface.cpu.active_priorities() == 1 << (0x20 >> 3) | 1 << (0xA0 >> 3)
    interface.cpu.end(41)
    assert interface.cpu.running_priority == 0xA0


def test_interface_binary_point_keeps_equal_groups_from_preempting(interface: Interface) -> None:
    interface.cpu.set_binary_point(6)  # bits 7 and 6 preempt
    interface.fill(pending(40, 0x78))
    assert interface.cpu.acknowledge() == 40
    interface.fill(Slot(40, 0x78, active=True), pending(41, 0x40))
    assert not interface.cpu.signals
    interface.fill(Slot(40, 0x78, active=True), pending(41, 0x38))
    assert interface.cpu.acknowledge() == 41


def test_interface_hardware_interrupt_is_deactivated_at_its_end(interface: Interface) -> None:
    at = PAGE.offset("physical_active")
    interface.words.store64(at, 1 << 27 | 1 << 30)
    interface.fill(pending(27, hardware=True, pintid=27))
    interface.cpu.end(interface.cpu.acknowledge())
    assert interface.words.load64(at) == 1 << 30


def test_interface_end_that_finds_no_register_is_counted(interface: Interface) -> None:
    interface.fill(pending(40), hcr=gic.HCR_EN.mask | gic.HCR_LRENPIE.mask)
    interface.cpu.acknowledge()
    interface.fill(hcr=gic.HCR_EN.mask | gic.HCR_LRENPIE.mask)
    assert interface.cpu.maintenance == 0
    interface.cpu.end(40)
    assert interface.cpu.maintenance == gic.MISR_LRENP.mask
    assert gic.HCR_EOICOUNT.get(interface.registers.load()[4]) == 1


def test_interface_split_end_needs_a_deactivation(interface: Interface) -> None:
    interface.cpu.change_vmcr(gic.VMCR_VEOIM.mask, gic.VMCR_VEOIM.mask)
    interface.fill(pending(40))
    interface.cpu.end(interface.cpu.acknowledge())
    assert interface.registers.load()[0] == Slot(40, 0x80, active=True).image
    assert interface.cpu.running_priority == 0xFF
    interface.cpu.deactivate(40)
    assert interface.registers.load()[0] == Slot(40, 0x80).image


def test_interface_vlpi_is_taken_once_and_has_no_active_state(interface: Interface) -> None:
    interface.fill()
    interface.table[3] = 0x80 | 1
    assert not interface.vlpis.set(8195)
    assert interface.vlpis.set(8195)
    assert interface.cpu.acknowledge() == 8195
    assert (interface.vlpis.pending(), interface.cpu.running_priority) == ([], 0x80)
    interface.cpu.end(8195)
    assert (interface.cpu.running_priority, interface.cpu.maintenance) == (0xFF, 0)


@pytest.mark.parametrize(("config", "length"), [(0x80, LPIS), (0x81, 3)])
def test_interface_vlpi_that_is_disabled_or_beyond_the_table_waits(
    interface: Interface, config: int, length: int
) -> None:
    interface.fill()
    interface.table[3] = config
    interface.cpu.use_lpi_table(Pinned(interface.table), 0, length)
    interface.vlpis.set(8195)
    assert interface.cpu.acknowledge() == 1023
    assert interface.vlpis.pending() == [8195]


def test_interface_vlpi_that_is_taken_back_is_not_taken(interface: Interface) -> None:
    interface.fill()
    interface.table[3] = 0x81
    interface.vlpis.set(8195)
    assert interface.vlpis.clear(8195)
    assert not interface.vlpis.clear(8195)
    assert interface.cpu.acknowledge() == 1023


@pytest.mark.parametrize("intid", [0, 1023, 8191, 9216])
def test_vlpi_that_there_is_not_is_refused(interface: Interface, intid: int) -> None:
    with pytest.raises(ValueError, match="virtual LPI"):
        interface.vlpis.set(intid)


def test_interface_waits_and_is_claimed(interface: Interface) -> None:
    cpu, registers = interface.cpu, interface.registers
    before = (cpu.ready, cpu.enter(), cpu.ready)
    assert before == (True, True, False)
    assert (registers.claim(), cpu.arm(), registers.claim()) == (False, False, True)
    cpu.disarm()
    claimed = (cpu.ready, cpu.enter())
    assert claimed == (True, False)
    registers.store([pending(40).image], gic.HCR_EN.mask)
    registers.release()
    assert cpu.enter()
    assert cpu.acknowledge() == 40


def test_interface_that_is_wanted_out_does_not_wait(interface: Interface) -> None:
    interface.cpu.enter()
    interface.registers.ask_exit()
    asked = (interface.cpu.must_exit, interface.cpu.ready, interface.cpu.arm())
    interface.registers.exit_taken()
    interface.cpu.enter()
    taken = (interface.cpu.must_exit, interface.cpu.ready)
    assert (asked, taken) == ((True, True, True), (False, False))


def test_list_registers_are_four(interface: Interface) -> None:
    with pytest.raises(ValueError, match="4 list registers"):
        interface.registers.store([0] * 5, 0)


class InterfaceMachine(RuleBasedStateMachine):
    """Any sequence of operations has the same results on both, and leaves the same state."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.model = Interface(), InterfaceModel()

    @initialize()
    def reset(self) -> None:
        self.real.fill()

    @rule(slot=st.integers(0, 3), intid=intids, priority=priorities, group=groups, state=st.integers(0, 3),
          hardware=st.booleans(), asks=st.booleans())  # fmt: skip
    def fill(
        self, slot: int, intid: int, priority: int, group: int, state: int, hardware: bool, asks: bool
    ) -> None:
        if any(other.intid == intid for i, other in enumerate(self.model.slots) if i != slot):
            return
        lpi = intid >= gic.SPECIAL_FIRST
        made = Slot(
            intid, priority, group, bool(state & 1), bool(state & 2) and not lpi, hardware and not lpi
        )
        if lpi:
            made.group = 1
        made.pintid, made.end_asks = intid if made.hardware else 0, asks and not made.hardware
        self.model.slots[slot] = made
        if made.hardware:
            self.model.physical_active.add(intid)
            self.real.words.set_bits64(PAGE.offset("physical_active", intid // 64), 1 << intid % 64)
        self._store()

    def _store(self) -> None:
        hcr = gic.HCR_EN.put(self.model.on) | gic.HCR_EOICOUNT.put(self.model.ends_not_found)
        hcr |= sum(HCR[name].mask for name in self.model.asks)
        self.real.fill(*self.model.slots, hcr=hcr)

    @rule(on=st.booleans(), asks=st.sets(st.sampled_from(sorted(HCR))))
    def control(self, on: bool, asks: set[str]) -> None:
        self.model.on, self.model.asks = on, asks
        self._store()

    @rule(mask=priorities, enabled=st.sets(groups), split=st.booleans(), common=st.booleans())
    def configure(self, mask: int, enabled: set[int], split: bool, common: bool) -> None:
        self.model.mask, self.model.groups = mask & 0xF8, enabled
        self.model.split, self.model.common_point = split, common
        value = gic.VMCR_VPMR.put(mask & 0xF8) | sum(1 << group for group in enabled)
        value |= gic.VMCR_VEOIM.put(split) | gic.VMCR_VCBPR.put(common)
        points = gic.VMCR_VBPR0.mask | gic.VMCR_VBPR1.mask
        self.real.cpu.change_vmcr(0xFFFF_FFFF & ~points, value)

    @rule(group=groups, value=st.integers(0, 7))
    def binary_point(self, group: int, value: int) -> None:
        self.model.set_point(group, value)
        self.real.cpu.set_binary_point(value, group)

    @rule(lpi=st.integers(0, LPIS - 1), priority=priorities, enabled=st.booleans(), raised=st.booleans())
    def vlpi(self, lpi: int, priority: int, enabled: bool, raised: bool) -> None:
        if 8192 + lpi in {slot.intid for slot in self.model.slots}:
            return
        self.model.vlpis[8192 + lpi] = (priority & 0xFC, enabled)
        self.real.table[lpi] = priority & 0xFC | enabled
        if raised:
            self.model.pending_vlpis.add(8192 + lpi)
            self.real.vlpis.set(8192 + lpi)

    @rule(group=groups)
    def acknowledge(self, group: int) -> None:
        assert self.real.cpu.acknowledge(group) == self.model.acknowledge(group)

    @rule(group=groups, intid=intids | st.sampled_from([1020, 1023, 5000]))
    def end(self, group: int, intid: int) -> None:
        self.model.end(group, intid)
        self.real.cpu.end(intid, group)

    @rule(group=groups)
    def end_one_that_is_active(self, group: int) -> None:
        intid = next((slot.intid for slot in self.model.slots if slot.active), 33)
        self.end(group, intid)

    @rule(intid=intids)
    def deactivate(self, intid: int) -> None:
        self.model.deactivate(intid)
        self.real.cpu.deactivate(intid)

    @invariant()
    def state_is_the_same(self) -> None:
        real, model = self.real.cpu, self.model
        assert self.real.registers.load()[:4] == tuple(slot.image for slot in model.slots)
        assert gic.HCR_EOICOUNT.get(self.real.registers.load()[4]) == model.ends_not_found
        assert real.signals == (model.signalled() is not None)
        assert real.running_priority == model.running
        for group in (0, 1):
            assert real.highest_pending(group) == model.highest_pending(group)
            assert real.binary_point(group) == model.point(group)
            active = sum({1 << (priority >> 3) for priority, of in model.active if of == group})
            assert real.active_priorities(group) == active
        assert real.maintenance == sum(MISR[name].mask for name in model.maintenance())
        assert set(self.real.vlpis.pending()) == model.pending_vlpis
        active_words = [self.real.words.load64(PAGE.offset("physical_active", i)) for i in range(16)]
        assert {64 * i + n for i, word in enumerate(active_words) for n in range(64) if word >> n & 1} == (
            model.physical_active
        )


InterfaceMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestInterfaceMachine = InterfaceMachine.TestCase
