"""MDIC, the PHY's registers, auto-negotiation and the link."""

import pytest

from testbed.e1000.phy import Phy
from testbed.spec import e1000
from testbed.spec.e1000 import field, mask
from testbed.spec.e1000_phy import REGISTERS
from testbed.spec.e1000_phy import mask as phy_mask
from tests.support.e1000_machine import E1000Machine, HandClock

AUTONEG_NS = 500_000_000
READ, WRITE = e1000.MDIC_OP_READ, e1000.MDIC_OP_WRITE
READY, ERROR = mask("MDIC", "R"), mask("MDIC", "E")


class Rig:
    """A PHY with a clock and a note of every change of the link."""

    def __init__(self, autoneg_ns: int = AUTONEG_NS) -> None:
        self.clock = HandClock()
        self.links: list[bool] = []
        self.phy = Phy(self.clock, autoneg_ns, lambda: self.links.append(self.phy.link_up))

    def advance(self, ns: int) -> None:
        self.clock.now_ns += ns
        self.phy.on_timer(self.clock.now_ns)

    def status(self) -> int:
        return self.phy.read(1)


def mdic(op: int, register: int, data: int = 0, phy: int = e1000.PHY_ADDRESS) -> int:
    command = field("MDIC", "OP").put(op) | field("MDIC", "PHYADD").put(phy)
    return command | field("MDIC", "REGADD").put(register) | data


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_read_by_mdic_is_ready_with_the_data(rig: Rig) -> None:
    answer, interrupt = rig.phy.transact(mdic(READ, 2))
    assert (answer & 0xFFFF, answer & (READY | ERROR), interrupt) == (0x0141, READY, False)


def test_write_by_mdic_is_stored(rig: Rig) -> None:
    rig.phy.transact(mdic(WRITE, 16, 0x0B60))
    assert rig.phy.transact(mdic(READ, 16))[0] & 0xFFFF == 0x0B60


@pytest.mark.parametrize(("op", "phy"), [(READ, 2), (0, 1), (3, 1)])
def test_other_address_or_opcode_is_an_error(rig: Rig, op: int, phy: int) -> None:
    assert rig.phy.transact(mdic(op, 2, phy=phy))[0] & (READY | ERROR) == READY | ERROR


def test_interrupt_bit_asks_for_mdac(rig: Rig) -> None:
    assert rig.phy.transact(mdic(READ, 2) | mask("MDIC", "I"))[1]


def test_read_only_registers_stay(rig: Rig) -> None:
    rig.phy.write(2, 0xFFFF)
    assert rig.phy.read(2) == 0x0141


def test_unknown_register_reads_zero_and_ignores_writes(rig: Rig) -> None:
    rig.phy.write(25, 0xFFFF)
    assert rig.phy.read(25) == 0


def test_link_is_down_until_negotiation_completes(rig: Rig) -> None:
    before = (rig.phy.link_up, rig.status(), rig.phy.read(10), rig.phy.read(17))
    rig.advance(AUTONEG_NS - 1)
    almost = rig.phy.link_up
    rig.advance(1)
    assert (before, almost, rig.phy.link_up) == ((False, 0x7949, 0, 0), False, True)
    assert (rig.links, rig.phy.deadline_ns()) == ([True], None)


def test_registers_of_a_link_that_is_up(rig: Rig) -> None:
    rig.advance(AUTONEG_NS)
    rig.status()
    values = [rig.phy.read(n) for n in (1, 5, 10, 17)]
    assert values == [0x796D, 0x41E0, 0x3C00, 0xAC00]


def test_link_status_latches_low(rig: Rig) -> None:
    rig.advance(AUTONEG_NS)
    first, second = rig.status(), rig.status()
    assert (first & phy_mask("PSTATUS", "LINK"), second & phy_mask("PSTATUS", "LINK")) == (0, 4)


def test_unplugging_takes_the_link_down_and_plugging_negotiates(rig: Rig) -> None:
    rig.advance(AUTONEG_NS)
    rig.phy.plug(False)
    rig.phy.plug(True)
    rig.advance(AUTONEG_NS)
    assert rig.links == [True, False, True]


def test_restart_takes_the_link_down_and_clears_itself(rig: Rig) -> None:
    rig.advance(AUTONEG_NS)
    rig.phy.write(0, 0x1340)
    assert (rig.phy.link_up, rig.phy.read(0)) == (False, 0x1140)


def test_software_reset_keeps_what_is_retained(rig: Rig) -> None:
    rig.phy.write(16, 0x0B60)
    rig.phy.write(0, 0x9140)
    assert (rig.phy.read(0), rig.phy.read(16)) == (0x1140, 0x0B60)


def test_hardware_reset_gives_initial_values(rig: Rig) -> None:
    rig.phy.write(16, 0x0B60)
    rig.phy.reset()
    assert rig.phy.read(16) == REGISTERS["PSCON"].reset


def test_power_down_takes_the_link_down_and_power_up_negotiates(rig: Rig) -> None:
    rig.advance(AUTONEG_NS)
    rig.phy.write(0, 0x1940)
    down, idle = rig.phy.link_up, rig.phy.deadline_ns()
    rig.phy.write(0, 0x1140)
    rig.advance(AUTONEG_NS)
    assert (down, idle, rig.phy.link_up) == (False, None, True)


def test_forced_speed_needs_no_negotiation(rig: Rig) -> None:
    rig.phy.write(0, 0x0140)
    assert rig.phy.link_up


def test_loopback_is_a_link(rig: Rig) -> None:
    rig.phy.plug(False)
    rig.phy.write(0, 0x4140)
    assert (rig.phy.link_up, rig.phy.loopback) == (True, True)


def test_without_negotiation_time_the_link_is_up_at_once() -> None:
    assert Rig(autoneg_ns=0).phy.link_up


def test_device_raises_mdac_where_asked(machine: E1000Machine) -> None:
    machine.wr("MDIC", mdic(READ, 2) | mask("MDIC", "I"))
    assert (machine.rd("MDIC") & 0xFFFF, machine.rd("ICR")) == (0x0141, mask("ICR", "MDAC"))


def test_status_needs_set_link_up(machine: E1000Machine) -> None:
    up = machine.rd("STATUS") & mask("STATUS", "LU")
    machine.wr("CTRL", machine.rd("CTRL") & ~mask("CTRL", "SLU"))
    assert (up, machine.rd("STATUS") & mask("STATUS", "LU")) == (2, 0)


def test_link_change_raises_lsc_and_tells_the_bridge(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.rd("ICR")
    changes = machine.changes
    machine.device.set_link(False)
    assert (machine.rd("ICR"), machine.changes, machine.device.receiving) == (
        mask("ICR", "LSC"),
        changes + 1,
        False,
    )
