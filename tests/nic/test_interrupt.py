"""Causes to vectors to messages: allocation, masks, auto clear and auto mask, throttling, functions apart."""

import pytest

from testbed.spec import igb
from testbed.spec.igb import mask
from tests.support.nic_machine import NicMachine

GPIE = mask("GPIE", "NSICR", "MULTIPLE_MSIX", "EIAME", "PBA_SUPPORT")


def machine(vfs: int = 2) -> NicMachine:
    """A NIC in MSI-X mode: the PF's queue 2 on vectors 1 (receive) and 2 (send), other causes on 0."""
    nic = NicMachine(vfs)
    for function in range(vfs + 1):
        nic.enable_messages(function)
    nic.wr("GPIE", GPIE)
    nic.wr("IVAR", 0x8281, 2)
    nic.wr("IVAR_MISC", 0x8000)
    nic.wr("EIMS", 0x7)
    return nic


def vf_up(nic: NicMachine, vf: int) -> None:
    """What igbvf writes: sending on vector 0, receiving on 1, the mailbox on 2, all cleared and masked by
    themselves."""
    nic.vwr(vf, "VTIVAR", 0x8081)
    nic.vwr(vf, "VTIVAR_MISC", 0x82)
    nic.vwr(vf, "VTEIAC", 0x7)
    nic.vwr(vf, "VTEIAM", 0x7)
    nic.vwr(vf, "VTEIMS", 0x7)


def test_a_queues_cause_is_the_vector_that_ivar_gives_it() -> None:
    nic = machine()
    nic.nic.received(1 << 2)
    nic.nic.transmitted(1 << 2)
    assert nic.taken() == [(0, 1), (0, 2)]


def test_a_queue_without_a_valid_entry_interrupts_nobody() -> None:
    nic = machine()
    nic.nic.received(1 << 5)
    nic.wr("IVAR", 0x01, 5)
    nic.nic.received(1 << 5)
    assert nic.taken() == []


def test_upper_queues_are_in_the_upper_half_of_ivar() -> None:
    nic = machine()
    nic.wr("IVAR", 0x8281_0000, 3)
    nic.nic.received(1 << 11)
    nic.nic.transmitted(1 << 11)
    assert nic.taken() == [(0, 1), (0, 2)]


def test_a_virtual_functions_vectors_are_its_own() -> None:
    nic = machine()
    for vf in range(2):
        vf_up(nic, vf)
    nic.nic.received(0b11)
    nic.nic.transmitted(0b10)
    assert nic.taken() == [(2, 1), (1, 1), (2, 0)]


def test_a_sent_vector_is_masked_and_cleared_until_it_is_unmasked() -> None:
    nic = machine()
    vf_up(nic, 0)
    nic.nic.received(1)
    nic.nic.received(1)
    assert (nic.taken(), nic.vrd(0, "VTEIMS")) == ([(1, 1)], 0b101)
    nic.vwr(0, "VTEIMS", 0b10)
    assert nic.taken() == [(1, 1)]


def test_without_auto_clear_a_vector_is_sent_once_until_its_cause_is_cleared() -> None:
    nic = machine()
    nic.nic.received(1 << 2)
    nic.nic.received(1 << 2)
    assert (nic.taken(), nic.rd("EICR")) == ([(0, 1)], 0b10)
    nic.nic.received(1 << 2)
    assert nic.taken() == [(0, 1)]


def test_a_masked_cause_is_sent_when_it_is_unmasked() -> None:
    nic = machine()
    nic.wr("EIMC", 0x7)
    nic.nic.received(1 << 2)
    assert nic.taken() == []
    nic.wr("EIMS", 0x2)
    assert nic.taken() == [(0, 1)]


def test_throttling_holds_the_second_message_back_for_the_interval() -> None:
    nic = machine()
    vf_up(nic, 0)
    nic.vwr(0, "VTEITR", 100 << 2, 1)
    nic.nic.received(1)
    nic.vwr(0, "VTEIMS", 0b10)
    nic.nic.received(1)
    nic.advance(99_999)
    assert nic.taken() == [(1, 1)]
    nic.advance(1)
    assert nic.taken() == [(1, 1)]
    assert nic.nic.deadline_ns() is None


def test_a_vector_that_was_masked_while_it_waited_is_not_sent() -> None:
    nic = machine()
    vf_up(nic, 0)
    nic.vwr(0, "VTEITR", 100 << 2, 1)
    for _ in range(2):
        nic.nic.received(1)
        nic.vwr(0, "VTEIMS", 0b10)
    nic.vwr(0, "VTEIMC", 0b10)
    nic.taken()
    nic.advance(1_000_000)
    assert nic.taken() == []


def test_one_functions_throttling_delays_no_other() -> None:
    nic = machine()
    for vf in range(2):
        vf_up(nic, vf)
    nic.vwr(0, "VTEITR", 0x7FFC, 1)
    for _ in range(2):
        nic.nic.received(0b11)
        nic.vwr(0, "VTEIMS", 0b10)
        nic.vwr(1, "VTEIMS", 0b10)
    assert nic.taken().count((2, 1)) == 2


def test_other_causes_reach_the_vector_of_ivar_misc_while_unmasked() -> None:
    nic = machine()
    nic.nic.set_wire(False)
    nic.wr("CTRL", nic.rd("CTRL") | mask("CTRL", "SLU"))
    nic.nic.set_wire(True)
    assert nic.taken() == []
    nic.wr("IMS", mask("IMS", "LSC"))
    assert (nic.taken(), nic.rd("ICR")) == ([(0, 0)], mask("ICR", "LSC"))
    assert nic.rd("ICR") == 0


def test_icr_stays_while_something_is_masked_in_and_reads_are_selective() -> None:
    nic = machine()
    nic.wr("GPIE", GPIE & ~mask("GPIE", "NSICR"))
    nic.wr("IMS", mask("IMS", "LSC"))
    nic.wr("ICS", mask("ICS", "LSC"))
    assert (nic.rd("ICR"), nic.rd("ICR")) == (mask("ICR", "LSC"), mask("ICR", "LSC"))
    nic.wr("ICR", mask("ICR", "LSC"))
    assert nic.rd("ICR") == 0


def test_nothing_is_sent_without_msix_mode_or_by_a_function_that_is_no_bus_master() -> None:
    nic = machine()
    nic.wr("GPIE", 0)
    nic.nic.received(1 << 2)
    assert nic.taken() == []
    nic.wr("GPIE", GPIE)
    assert nic.taken() == [(0, 1)]
    nic.nic.write(0, 16, 0x04, 2, 0x2)
    nic.rd("EICR")
    nic.nic.received(1 << 2)
    assert nic.taken() == []


def test_vectors_go_back_to_the_pf_when_virtual_functions_are_gone() -> None:
    nic = machine()
    vf_up(nic, 0)
    nic.enable_vfs(0)
    nic.wr("EIMS", 0x1FF_FFFF)
    nic.nic.received(1)
    assert nic.taken() == []
    nic.wr("EICS", 1 << igb.vf_vector(0, 1))
    assert nic.taken() == []  # the PF has ten vectors: this one is not there


@pytest.mark.parametrize("register", ["VTEICS", "VTEIMS", "VTEIMC", "VTEIAC", "VTEIAM", "VTEICR"])
def test_a_virtual_function_changes_no_bit_of_another(register: str) -> None:
    nic = machine()
    vf_up(nic, 0)
    before = (nic.rd("EIMS"), nic.rd("EIAC"), nic.rd("EIAM"))
    nic.vwr(1, register, 0xFFFF_FFFF)
    own = 0x7 << igb.vf_vector(1, 0)
    after = (nic.rd("EIMS"), nic.rd("EIAC"), nic.rd("EIAM"))
    assert [(a ^ b) & ~own for a, b in zip(before, after, strict=True)] == [0, 0, 0]
    assert [m for m in nic.taken() if m[0] != 2] == []
