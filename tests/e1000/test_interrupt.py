"""Causes, masks, throttling and the delay timers, by registers and a hand-set clock."""

import pytest

from testbed.spec.e1000 import mask
from tests.support.e1000_machine import EOP, IDE, IFCS, MAC, RS, E1000Machine, frame

TXDW, TXQE, LSC, RXT0, RXDMT0 = (mask("ICR", name) for name in ("TXDW", "TXQE", "LSC", "RXT0", "RXDMT0"))
ALL = 0xFFFF_FFFF


def test_masked_cause_is_latched_and_leaves_the_line(machine: E1000Machine) -> None:
    machine.wr("ICS", LSC)
    assert (machine.line.asserted, machine.rd("ICR")) == (False, LSC)


def test_unmasked_cause_asserts_the_line(machine: E1000Machine) -> None:
    machine.wr("IMS", LSC)
    machine.wr("ICS", LSC)
    assert machine.line.asserted


def test_reading_icr_clears_and_deasserts(machine: E1000Machine) -> None:
    machine.wr("IMS", LSC)
    machine.wr("ICS", LSC)
    assert (machine.rd("ICR"), machine.rd("ICR"), machine.line.asserted) == (LSC, 0, False)


def test_writing_icr_clears_the_written_ones(machine: E1000Machine) -> None:
    machine.wr("ICS", LSC | RXT0)
    machine.wr("ICR", LSC)
    assert machine.rd("ICR") == RXT0


def test_mask_clear_deasserts_and_mask_set_asserts_again(machine: E1000Machine) -> None:
    machine.wr("IMS", LSC)
    machine.wr("ICS", LSC)
    machine.wr("IMC", ALL)
    low = machine.line.asserted
    machine.wr("IMS", LSC)
    assert (low, machine.line.asserted, machine.line.rises) == (False, True, 2)


def test_ims_reads_the_mask_and_ics_and_imc_read_zero(machine: E1000Machine) -> None:
    machine.wr("IMS", 0x9D)
    machine.wr("IMC", 0x0D)
    assert [machine.rd(name) for name in ("IMS", "ICS", "IMC")] == [0x90, 0, 0]


def test_reserved_causes_do_not_exist(machine: E1000Machine) -> None:
    machine.wr("ICS", ALL)
    machine.wr("IMS", ALL)
    assert (
        machine.rd("ICR")
        == machine.rd("IMS")
        == sum(1 << n for n in (0, 1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 14, 15, 16))
    )


def test_throttling_holds_the_line_down_until_the_interval_is_over(machine: E1000Machine) -> None:
    machine.wr("ITR", 1000)
    machine.wr("IMS", LSC)
    machine.wr("ICS", LSC)
    machine.rd("ICR")
    machine.wr("ICS", LSC)
    held, due = machine.line.asserted, machine.device.deadline_ns()
    machine.advance(255_999)
    still = machine.line.asserted
    machine.advance(1)
    assert (held, still, machine.line.asserted, due) == (False, False, True, 1_000_256_000)


def test_throttled_cause_that_is_read_meanwhile_raises_nothing(machine: E1000Machine) -> None:
    machine.wr("ITR", 1000)
    machine.wr("IMS", LSC)
    for _ in range(2):
        machine.wr("ICS", LSC)
        machine.rd("ICR")
    machine.advance(1_000_000)
    assert (machine.line.rises, machine.device.deadline_ns()) == (1, None)


def test_turning_throttling_off_lets_the_line_rise(machine: E1000Machine) -> None:
    machine.wr("ITR", 0xFFFF)
    machine.wr("IMS", LSC)
    machine.wr("ICS", LSC)
    machine.rd("ICR")
    machine.wr("ICS", LSC)
    machine.wr("ITR", 0)
    assert machine.line.asserted


def test_receive_without_delay_raises_rxt0_at_once(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.deliver(frame())
    assert machine.rd("ICR") == RXT0


def test_packet_timer_is_restarted_by_every_frame(machine: E1000Machine) -> None:
    machine.wr("RDTR", 10)
    machine.start_receive()
    machine.deliver(frame())
    machine.advance(10_000)
    machine.deliver(frame())
    machine.advance(10_000)
    early = machine.rd("ICR")
    machine.advance(240)
    assert (early, machine.rd("ICR")) == (0, RXT0)


def test_absolute_timer_is_not_restarted(machine: E1000Machine) -> None:
    machine.wr("RDTR", 10)
    machine.wr("RADV", 15)
    machine.start_receive()
    machine.deliver(frame())
    machine.advance(10_000)
    machine.deliver(frame())
    machine.advance(5_360)
    assert (machine.rd("ICR"), machine.device.deadline_ns()) == (RXT0, None)


def test_flush_partial_descriptors_ends_the_wait(machine: E1000Machine) -> None:
    machine.wr("RDTR", 10)
    machine.start_receive()
    machine.deliver(frame())
    machine.wr("RDTR", mask("RDTR", "FPD") | 10)
    assert (machine.rd("ICR"), machine.device.deadline_ns(), machine.rd("RDTR")) == (RXT0, None, 10)


def test_transmit_without_ide_raises_txdw_at_once(machine: E1000Machine) -> None:
    machine.wr("TIDV", 8)
    machine.start_transmit()
    machine.send(machine.legacy(frame()))
    machine.fetch()
    assert machine.rd("ICR") == TXDW | TXQE


def test_transmit_with_ide_waits_for_the_timer(machine: E1000Machine) -> None:
    machine.wr("TIDV", 8)
    machine.start_transmit()
    machine.send(machine.legacy(frame(), EOP | IFCS | RS | IDE))
    machine.fetch()
    early = machine.rd("ICR")
    machine.advance(8 * 1024)
    assert (early, machine.rd("ICR")) == (TXQE, TXDW)


def test_absolute_transmit_timer_bounds_the_wait(machine: E1000Machine) -> None:
    machine.wr("TIDV", 8)
    machine.wr("TADV", 10)
    machine.start_transmit()
    for _ in range(2):
        machine.send(machine.legacy(frame(), EOP | IFCS | RS | IDE))
        machine.fetch()
        machine.rd("ICR")
        machine.advance(5 * 1024)
    assert machine.rd("ICR") == TXDW


def test_immediate_transmit_cancels_the_timer(machine: E1000Machine) -> None:
    machine.wr("TIDV", 8)
    machine.start_transmit()
    machine.send(machine.legacy(frame(), EOP | IFCS | RS | IDE))
    machine.fetch()
    machine.send(machine.legacy(frame()))
    machine.fetch()
    assert machine.device.deadline_ns() is None


def test_threshold_is_reported_when_it_is_crossed(machine: E1000Machine) -> None:
    machine.start_receive(16)
    machine.deliver(*[frame()] * 6)
    above = machine.rd("ICR")
    machine.deliver(frame())
    crossed = machine.rd("ICR")
    machine.deliver(frame())
    assert (above & RXDMT0, crossed & RXDMT0, machine.rd("ICR") & RXDMT0) == (0, RXDMT0, 0)


@pytest.mark.parametrize(("rdmts", "free"), [(0, 8), (1, 4), (2, 2)])
def test_threshold_sizes(machine: E1000Machine, rdmts: int, free: int) -> None:
    machine.start_receive(16, mask("RCTL", "EN", "UPE", "SECRC") | rdmts << 8)
    machine.deliver(*[frame()] * (15 - free - 1))
    above = machine.rd("ICR") & RXDMT0
    machine.deliver(frame())
    assert (above, machine.rd("ICR") & RXDMT0) == (0, RXDMT0)


def test_small_packet_detect(machine: E1000Machine) -> None:
    machine.wr("RSRPD", 64)
    machine.start_receive()
    machine.deliver(frame(200, MAC))
    large = machine.rd("ICR") & mask("ICR", "SRPD")
    machine.deliver(frame(60, MAC))
    assert (large, machine.rd("ICR") & mask("ICR", "SRPD", "RXT0")) == (0, mask("ICR", "SRPD", "RXT0"))


def test_low_threshold_of_the_transmit_ring(machine: E1000Machine) -> None:
    machine.wr("TXDCTL", 1 << 25)  # LWTHRESH: 8 descriptors
    machine.start_transmit()
    for _ in range(10):
        machine.put_tx(machine.legacy(frame(), EOP | IFCS))
    machine.kick()
    machine.fetch(limit=1)
    assert machine.rd("ICR") & mask("ICR", "TXD_LOW")


def test_reset_deasserts_and_forgets(machine: E1000Machine) -> None:
    machine.wr("IMS", LSC)
    machine.wr("ICS", LSC)
    machine.wr("CTRL", mask("CTRL", "RST"))
    assert (machine.line.asserted, machine.rd("IMS"), machine.rd("ICR")) == (False, 0, 0)
