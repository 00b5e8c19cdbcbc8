"""Any order of commands, events, scheduling and taking: the ITS and a plain oracle agree."""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from testbed.spec import its_commands as c
from tests.iommu.its_machine import LPI, NO_DOORBELL, VLPI, ItsMachine
from tests.iommu.its_oracle import Mapping, Oracle, Refused

PROCESSORS, VCPUS = 2, 3
WALK_STEPS: Final = 20_000
DEVICES: Final = st.sampled_from((0,) * 12 + (1,))
EVENTS: Final = st.sampled_from((0, 2) * 6 + (1, 3) * 3 + (4,))
"""4 is behind the EventIDs that a device is mapped with."""
ICIDS: Final = st.sampled_from((0, 0, 1, 1, 2))
VPES: Final = st.integers(0, VCPUS - 1)
WHERE: Final = st.integers(0, PROCESSORS - 1)
LPIS: Final = st.integers(LPI, LPI + 3)
VLPIS: Final = st.sampled_from((VLPI, VLPI + 1, VLPI + 64, VLPI + 1023))
DOORBELLS: Final = st.sampled_from((NO_DOORBELL, LPI + 8, LPI + 9))


class ItsStates(RuleBasedStateMachine):
    """The ITS behind its registers and queue beside the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = ItsMachine(processors=PROCESSORS).enable()
        self.oracle = Oracle(PROCESSORS, VCPUS)
        self.refusals: Counter[str] = Counter()

    @initialize()
    def usual_start(self) -> None:
        """Begin with two events of each kind, so that the rules have something to work on."""
        for intid in (LPI, LPI + 1, LPI + 8, LPI + 9):
            self.configure(intid, True)
        for number in range(PROCESSORS):
            self.mapc(number, number, True)
            self.vmapp(number, number, True)
            self.enter(number, number)
        self.mapd(0, True)
        self.mapti(0, 0, LPI, 0)
        self.mapti(0, 1, LPI + 1, 1)
        self.vmapti(0, 2, VLPI, 0, LPI + 8)
        self.vmapti(0, 3, VLPI + 64, 1, LPI + 9)

    def same(self, name: str, command: Callable[[], None], oracle: Callable[[], None]) -> None:
        """Issue a command on both sides; a refusal must be the same one."""
        command()
        try:
            oracle()
        except Refused as refused:
            self.refusals[f"{name}_{refused}"] += 1

    @rule(device=st.sampled_from((1, 1, 1, 1, 1, 1, 1, 0)), valid=st.booleans())
    def mapd(self, device: int, valid: bool) -> None:
        self.machine.mapd(device, event_bits=2, valid=valid)
        self.oracle.devices.pop(device, None)
        if valid:
            self.oracle.devices[device] = {}

    @rule(icid=ICIDS, processor=WHERE, valid=st.sampled_from((True,) * 5 + (False,)))
    def mapc(self, icid: int, processor: int, valid: bool) -> None:
        self.machine.mapc(icid, processor, valid)
        self.oracle.collections.pop(icid, None)
        if valid:
            self.oracle.collections[icid] = processor

    @rule(vpe=VPES, processor=WHERE, valid=st.sampled_from((True,) * 5 + (False,)))
    def vmapp(self, vpe: int, processor: int, valid: bool) -> None:
        self.machine.vmapp(vpe, processor=processor, valid=valid)
        self.oracle.vpes.pop(vpe, None)
        if valid:
            self.oracle.vpes[vpe] = processor

    @rule(device=DEVICES, event=EVENTS, intid=LPIS, icid=ICIDS)
    def mapti(self, device: int, event: int, intid: int, icid: int) -> None:
        mapping = Mapping(False, intid, icid)
        self.same(
            "MAPTI",
            lambda: self.machine.mapti(device, event, intid, icid),
            lambda: self.oracle.map_event(device, event, mapping),
        )

    @rule(device=DEVICES, event=EVENTS, intid=VLPIS, vpe=VPES, doorbell=DOORBELLS)
    def vmapti(self, device: int, event: int, intid: int, vpe: int, doorbell: int) -> None:
        mapping = Mapping(True, intid, vpe, doorbell)
        self.same(
            "VMAPTI",
            lambda: self.machine.vmapti(device, event, vpe, intid, doorbell),
            lambda: self.oracle.map_event(device, event, mapping),
        )

    @rule(device=DEVICES, event=EVENTS, icid=ICIDS)
    def movi(self, device: int, event: int, icid: int) -> None:
        self.same(
            "MOVI",
            lambda: self.machine.event(c.OP_MOVI, device, event, (c.COMMAND_ICID, icid)),
            lambda: self.oracle.movi(device, event, icid),
        )

    @rule(device=DEVICES, event=EVENTS, vpe=VPES, doorbell=DOORBELLS | st.none())
    def vmovi(self, device: int, event: int, vpe: int, doorbell: int | None) -> None:
        self.same(
            "VMOVI",
            lambda: self.machine.vmovi(device, event, vpe, doorbell),
            lambda: self.oracle.vmovi(device, event, vpe, doorbell),
        )

    @rule(vpe=VPES, processor=WHERE)
    def vmovp(self, vpe: int, processor: int) -> None:
        self.same(
            "VMOVP",
            lambda: self.machine.vmovp(vpe, processor),
            lambda: self.oracle.vmovp(vpe, processor),
        )

    @rule(device=DEVICES, event=EVENTS, name=st.sampled_from(("CLEAR", "DISCARD", "INV", "INT")))
    def of_an_event(self, device: int, event: int, name: str) -> None:
        opcode = {"CLEAR": c.OP_CLEAR, "DISCARD": c.OP_DISCARD, "INV": c.OP_INV, "INT": c.OP_INT}[name]
        does = {"CLEAR": self.oracle.clear, "DISCARD": self.oracle.discard, "INV": self.oracle.inv}
        oracle = does.get(name, self.oracle.signal)
        self.same(name, lambda: self.machine.event(opcode, device, event), lambda: oracle(device, event))

    @rule(icid=ICIDS)
    def invall(self, icid: int) -> None:
        self.same(
            "INVALL",
            lambda: self.machine.issue(c.OP_INVALL, (c.COMMAND_ICID, icid)),
            lambda: self.oracle.invall(icid),
        )

    @rule(source=WHERE, to=WHERE)
    def movall(self, source: int, to: int) -> None:
        self.machine.issue(c.OP_MOVALL, (c.COMMAND_RDBASE, source), (c.MOVALL_TO, to))
        self.oracle.movall(source, to)

    @rule(intid=LPIS | st.sampled_from((LPI + 8, LPI + 9)), enabled=st.booleans())
    def configure(self, intid: int, enabled: bool) -> None:
        """Software changes the table; what redistributors believe changes with INV and INVALL only."""
        self.machine.configure(intid, enabled)
        self.oracle.enabled[intid] = enabled

    @rule(device=DEVICES, event=EVENTS, times=st.integers(1, 2))
    def signal(self, device: int, event: int, times: int) -> None:
        for _ in range(times):
            try:
                self.oracle.signal(device, event)
                reached = True
            except Refused:
                reached = False
            assert self.machine.its.signal(device, event) is reached

    @rule(vcpu=VPES, processor=WHERE)
    def enter(self, vcpu: int, processor: int) -> None:
        self.machine.vcpus[vcpu].port.enter(processor)
        self.oracle.enter(vcpu, processor)

    @rule(vcpu=VPES)
    def leave(self, vcpu: int) -> None:
        assert self.machine.vcpus[vcpu].port.leave() == self.oracle.leave(vcpu)

    @rule(vcpu=VPES)
    def vcpu_takes(self, vcpu: int) -> None:
        page = self.oracle.vcpus[vcpu].page
        assert self.machine.vcpus[vcpu].take() == sorted(page)
        page.clear()

    @rule(processor=WHERE)
    def processor_takes(self, processor: int) -> None:
        raised = self.oracle.processors[processor].raised
        assert self.machine.raised(processor) == sorted(raised)
        raised.clear()

    @invariant()
    def nothing_else_is_pending(self) -> None:
        for index, vcpu in enumerate(self.oracle.vcpus):
            port = self.machine.vcpus[index].port
            pending = {VLPI + n for n in (0, 1, 64, 1023) if port.is_pending(n)}
            assert pending == vcpu.page | vcpu.table
        for index, processor in enumerate(self.oracle.processors):
            redistributor = self.machine.redistributors[index]
            intids = (*range(LPI, LPI + 4), LPI + 8, LPI + 9)
            assert {i for i in intids if redistributor.is_pending(i)} == processor.waiting

    @invariant()
    def the_same_commands_were_refused(self) -> None:
        assert self.machine.errors() == self.refusals
        assert self.machine.read("CREADR") == self.machine.read("CWRITER")


TestItsStates = ItsStates.TestCase
TestItsStates.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)


def test_its_long_walk_agrees_with_the_oracle() -> None:
    """A hundred times as many steps, most of them signals, moves and scheduling, seldom an unmapping."""
    dice = random.Random(5)
    states = ItsStates()
    states.usual_start()
    both = partial(dice.choice, (0, 1))
    event = partial(dice.choice, (0, 1, 2, 3))
    doorbell = partial(dice.choice, (NO_DOORBELL, LPI + 8, LPI + 9))
    steps: dict[Callable[[], None], int] = {
        lambda: states.signal(0, event(), 1): 40,
        lambda: states.vmovi(0, dice.choice((2, 3)), both(), dice.choice((None, doorbell()))): 8,
        lambda: states.vmovp(both(), both()): 6,
        lambda: states.movi(0, both(), both()): 6,
        lambda: states.enter(both(), both()): 8,
        lambda: states.leave(both()): 6,
        lambda: states.vcpu_takes(both()): 6,
        lambda: states.processor_takes(both()): 6,
        lambda: states.of_an_event(0, event(), dice.choice(("CLEAR", "INV", "INT"))): 6,
        lambda: states.configure(LPI + dice.choice((0, 1, 8, 9)), dice.random() < 0.7): 4,
        lambda: states.invall(both()): 2,
        lambda: states.movall(both(), both()): 2,
        lambda: states.of_an_event(0, event(), "DISCARD"): 2,
        lambda: states.mapti(0, both(), LPI + both(), both()): 4,
        lambda: states.vmapti(0, dice.choice((2, 3)), VLPI + 64 * both(), both(), doorbell()): 4,
        lambda: states.mapc(both(), both(), dice.random() < 0.9): 1,
        lambda: states.vmapp(both(), both(), dice.random() < 0.9): 1,
    }
    for step in dice.choices(list(steps), list(steps.values()), k=WALK_STEPS):
        step()
        states.nothing_else_is_pending()
        states.the_same_commands_were_refused()

    assert states.machine.its.cache.counts[0] > WALK_STEPS // 10
