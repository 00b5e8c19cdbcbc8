"""The mailbox: who holds it, who is told, resets, and floods."""

from testbed.spec import igb, igb_vf
from testbed.spec.igb import mask
from tests.support.nic_machine import NicMachine

STS, ACK, VFU, PFU, RVFU = (mask("PFMAILBOX", name) for name in ("STS", "ACK", "VFU", "PFU", "RVFU"))
V = {
    name: igb_vf.mask("VFMAILBOX", name)
    for name in ("REQ", "ACK", "VFU", "PFU", "PFSTS", "PFACK", "RSTI", "RSTD")
}
SWMB = mask("ICR", "SWMB")


def machine() -> NicMachine:
    """Two virtual functions, reset indications read away, mailbox interrupts on."""
    nic = NicMachine(2)
    nic.wr("GPIE", mask("GPIE", "NSICR", "MULTIPLE_MSIX"))
    nic.wr("IVAR_MISC", 0x8000)
    nic.wr("EIMS", 1)
    nic.wr("EIAC", 1)
    nic.wr("IMS", SWMB)
    nic.wr("MBVFIMR", 0xFF)
    nic.wr("CTRL_EXT", mask("CTRL_EXT", "PFRSTD"))
    for function in range(3):
        nic.enable_messages(function)
    for vf in range(2):
        nic.vrd(vf, "VFMAILBOX")
        nic.vwr(vf, "VTIVAR_MISC", 0x82)
        nic.vwr(vf, "VTEIMS", 0x4)
        nic.vwr(vf, "VTEIAC", 0x4)
    return nic


def test_a_message_of_a_vf_tells_the_pf_which_one_it_was() -> None:
    nic = machine()
    nic.vwr(1, "VFMAILBOX", V["VFU"])
    nic.vwr(1, "VMBMEM", 0x1234, 15)
    nic.vwr(1, "VFMAILBOX", V["REQ"])
    assert nic.taken() == [(0, 0)]
    assert (nic.rd("ICR"), nic.rd("MBVFICR"), nic.rd("VMBMEM", 31)) == (SWMB, 0b10, 0x1234)
    nic.wr("MBVFICR", 0b10)
    assert nic.rd("MBVFICR") == 0


def test_an_answer_of_the_pf_is_seen_once_and_interrupts_that_vf() -> None:
    nic = machine()
    nic.wr("VMBMEM", 0xA000_0001, 0)
    nic.wr("PFMAILBOX", ACK | STS, 0)
    assert nic.taken() == [(1, 2)]
    assert nic.vrd(0, "VFMAILBOX") == V["PFSTS"] | V["PFACK"]
    assert (nic.vrd(0, "VFMAILBOX"), nic.vrd(1, "VFMAILBOX")) == (0, 0)
    assert nic.vrd(0, "VMBMEM") == 0xA000_0001


def test_an_acknowledgement_of_a_vf_is_in_the_upper_half() -> None:
    nic = machine()
    nic.vwr(0, "VFMAILBOX", V["ACK"])
    assert nic.rd("MBVFICR") == 0x1_0000


def test_the_mailbox_is_held_by_one_side_at_a_time() -> None:
    nic = machine()
    nic.vwr(0, "VFMAILBOX", V["VFU"])
    nic.wr("PFMAILBOX", PFU, 0)
    assert (nic.rd("PFMAILBOX"), nic.vrd(0, "VFMAILBOX")) == (VFU, V["VFU"])
    nic.vwr(0, "VFMAILBOX", 0)
    nic.wr("PFMAILBOX", PFU, 0)
    nic.vwr(0, "VFMAILBOX", V["VFU"])
    assert (nic.rd("PFMAILBOX"), nic.vrd(0, "VFMAILBOX")) == (PFU, V["PFU"])


def test_the_pf_can_take_a_mailbox_from_a_vf_that_does_not_give_it_back() -> None:
    nic = machine()
    nic.vwr(0, "VFMAILBOX", V["VFU"])
    nic.wr("PFMAILBOX", RVFU | PFU, 0)
    assert nic.rd("PFMAILBOX") == PFU


def test_a_vf_whose_mailbox_is_masked_interrupts_nobody_but_is_seen_later() -> None:
    nic = machine()
    nic.wr("MBVFIMR", 0b01)
    nic.vwr(1, "VFMAILBOX", V["REQ"])
    assert nic.taken() == []
    nic.wr("MBVFIMR", 0b10)
    assert nic.taken() == [(0, 0)]


def test_a_reset_of_the_pf_is_indicated_until_its_driver_is_done() -> None:
    nic = machine()
    nic.wr("CTRL", mask("CTRL", "RST"))
    assert (nic.vrd(0, "VFMAILBOX"), nic.vrd(0, "VFMAILBOX")) == (V["RSTI"], V["RSTI"])
    nic.wr("CTRL_EXT", mask("CTRL_EXT", "PFRSTD"))
    assert (nic.vrd(0, "VFMAILBOX"), nic.vrd(0, "VFMAILBOX")) == (V["RSTD"], 0)


def test_a_reset_of_a_vf_tells_the_pf_and_stops_its_pool() -> None:
    nic = machine()
    nic.vwr(1, "VFMAILBOX", V["VFU"] | V["REQ"])
    nic.taken()
    nic.vwr(1, "VTCTRL", igb_vf.mask("VTCTRL", "RST"))
    assert nic.taken() == [(0, 0)]
    assert (nic.rd("VFLRE"), nic.rd("VFRE"), nic.rd("VFTE")) == (0b10, 0xFD, 0xFD)
    assert (nic.rd("MBVFICR"), nic.rd("PFMAILBOX", 1)) == (0, 0)
    nic.wr("VFLRE", 0b10)
    assert nic.rd("VFLRE") == 0


def test_a_flood_of_one_vf_is_one_message_until_the_pf_looks_and_harms_no_other() -> None:
    nic = machine()
    for n in range(1000):
        nic.vwr(0, "VMBMEM", n, n % 16)
        nic.vwr(0, "VFMAILBOX", 0xFFFF_FFFF)
    assert (len(nic.taken()), nic.nic.mailboxes.requests) == (1000, [1000, *[0] * 7])
    assert (nic.rd("MBVFICR"), nic.vrd(1, "VFMAILBOX")) == (0x1_0001, 0)
    assert [nic.rd("VMBMEM", 16 + n) for n in range(16)] == [0] * 16


def test_a_mailbox_interrupt_can_be_throttled_so_that_a_flood_costs_the_pf_little() -> None:
    nic = machine()
    nic.wr("EITR", 200 << 2, 0)
    for _ in range(1000):
        nic.vwr(0, "VFMAILBOX", V["REQ"])
        nic.advance(1_000)
    assert len(nic.taken()) <= 6


def test_words_of_one_vf_are_read_by_no_other() -> None:
    nic = machine()
    for index in range(16):
        nic.vwr(0, "VMBMEM", 0x5A5A_0000 + index, index)
    assert [nic.vrd(1, "VMBMEM", index) for index in range(16)] == [0] * 16
    assert igb.REGISTERS["VMBMEM"].count == 128
