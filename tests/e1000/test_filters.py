"""Which frames the receiver takes: addresses, promiscuous modes, the multicast hash, VLANs, MAC control
frames.
"""

import pytest

from testbed.spec.e1000 import mask
from testbed.spec.e1000_ring import RX_STATUS_PIF
from tests.support.e1000_machine import MAC, PEER, E1000Machine, frame

BROADCAST = b"\xff" * 6
MULTICAST = bytes.fromhex("01005e7f0102")
EN = ("EN", "SECRC")
PAUSE = bytes.fromhex("0180c2000001")


def accepted(machine: E1000Machine, data: bytes) -> bool:
    machine.deliver(data)
    return len(machine.take()) == 1


def start(machine: E1000Machine, *bits: str, more: int = 0) -> None:
    machine.start_receive(rctl=mask("RCTL", *EN, *bits) | more)


def set_address(machine: E1000Machine, index: int, mac: bytes, high_bits: int) -> None:
    machine.wr("RAL", int.from_bytes(mac[:4], "little"), index)
    machine.wr("RAH", int.from_bytes(mac[4:], "little") | high_bits, index)


@pytest.mark.parametrize(
    ("bits", "destination", "expected"),
    [
        ((), MAC, True), ((), PEER, False), ((), BROADCAST, False), ((), MULTICAST, False),
        (("UPE",), PEER, True), (("UPE",), MULTICAST, False), (("UPE",), BROADCAST, False),
        (("MPE",), MULTICAST, True), (("MPE",), BROADCAST, True), (("MPE",), PEER, False),
        (("BAM",), BROADCAST, True), (("BAM",), MULTICAST, False),
    ],
)  # fmt: skip
def test_modes(machine: E1000Machine, bits: tuple[str, ...], destination: bytes, expected: bool) -> None:
    start(machine, *bits)
    assert accepted(machine, frame(60, destination)) is expected


@pytest.mark.parametrize("index", [0, 1, 15])
def test_every_receive_address_counts_while_valid(machine: E1000Machine, index: int) -> None:
    start(machine)
    set_address(machine, index, PEER, mask("RAH", "AV"))
    valid = accepted(machine, frame(60, PEER))
    machine.wr("RAH", int.from_bytes(PEER[4:], "little"), index)
    assert (valid, accepted(machine, frame(60, PEER))) == (True, False)


def test_receive_address_may_be_multicast(machine: E1000Machine) -> None:
    start(machine)
    set_address(machine, 3, MULTICAST, mask("RAH", "AV"))
    assert accepted(machine, frame(60, MULTICAST))


def test_address_select_compares_the_source(machine: E1000Machine) -> None:
    start(machine)
    set_address(machine, 1, PEER, mask("RAH", "AV") | 1 << 16)
    other = bytes.fromhex("021122334455")
    assert (accepted(machine, frame(60, other, PEER)), accepted(machine, frame(60, PEER, other))) == (
        True,
        False,
    )


def test_reserved_address_select_matches_nothing(machine: E1000Machine) -> None:
    start(machine)
    set_address(machine, 1, PEER, mask("RAH", "AV") | 2 << 16)
    assert not accepted(machine, frame(60, PEER, PEER))


# §13.5.1: the manual's own example, 12:34:56:78:9A:BC with 12 first on the wire; RCTL.MO 0 uses bits 47:36.
EXAMPLE = bytes.fromhex("133456789abc")
BITS_47_TO_32 = 0xBC9A


@pytest.mark.parametrize(("mo", "shift"), [(0, 4), (1, 3), (2, 2), (3, 0)])
def test_multicast_table_uses_the_bits_that_mo_chooses(machine: E1000Machine, mo: int, shift: int) -> None:
    start(machine, more=mo << 12)
    bit = BITS_47_TO_32 >> shift & 0xFFF
    machine.wr("MTA", 1 << (bit & 31), bit >> 5)
    machine.deliver(frame(60, EXAMPLE))
    (taken,) = machine.take()
    machine.wr("MTA", 0, bit >> 5)
    assert (taken.status & RX_STATUS_PIF, accepted(machine, frame(60, EXAMPLE))) == (RX_STATUS_PIF, False)


def test_manual_example_is_row_94_bit_9(machine: E1000Machine) -> None:
    start(machine)
    machine.wr("MTA", 1 << 9, 94)
    assert accepted(machine, frame(60, EXAMPLE))


def test_exact_match_is_not_inexact(machine: E1000Machine) -> None:
    start(machine)
    set_address(machine, 1, EXAMPLE, mask("RAH", "AV"))
    machine.wr("MTA", 1 << 9, 94)
    machine.deliver(frame(60, EXAMPLE))
    assert machine.take()[0].status & RX_STATUS_PIF == 0


def tagged(vid: int, cfi: int = 0) -> bytes:
    head = MAC + PEER + b"\x81\x00" + (cfi << 12 | vid).to_bytes(2, "big")
    return head + frame(60)[12:]


def test_vlan_filter_takes_what_the_table_names(machine: E1000Machine) -> None:
    machine.wr("VET", 0x8100)
    start(machine, "VFE")
    machine.wr("VFTA", 1 << (100 & 31), 100 >> 5)
    assert [accepted(machine, data) for data in (tagged(100), tagged(101), frame())] == [True, False, True]


def test_vlan_filter_off_takes_every_tag(machine: E1000Machine) -> None:
    machine.wr("VET", 0x8100)
    start(machine)
    assert accepted(machine, tagged(101))


def test_cfi_must_match_where_it_is_compared(machine: E1000Machine) -> None:
    machine.wr("VET", 0x8100)
    start(machine, "CFIEN")
    assert [accepted(machine, tagged(5, cfi)) for cfi in (0, 1)] == [True, False]


def control(opcode: int, timer: int = 0xFFFF) -> bytes:
    return PAUSE + PEER + b"\x88\x08" + opcode.to_bytes(2, "big") + timer.to_bytes(2, "big") + bytes(42)


def set_up_control(machine: E1000Machine, *bits: str) -> None:
    for name, value in (("FCAL", 0x00C28001), ("FCAH", 0x0100), ("FCT", 0x8808)):
        machine.wr(name, value)
    start(machine, "MPE", *bits)


def test_pause_frames_are_stored_unless_discarded(machine: E1000Machine) -> None:
    set_up_control(machine)
    kept = accepted(machine, control(1))
    set_up_control(machine, "DPF")
    assert (kept, accepted(machine, control(1)), machine.rd("XOFFRXC")) == (True, False, 2)


def test_xon_is_counted_apart(machine: E1000Machine) -> None:
    set_up_control(machine)
    machine.deliver(control(1, 0))
    assert (machine.rd("XONRXC"), machine.rd("XOFFRXC")) == (1, 0)


def test_other_control_frames_need_pass_mac_control(machine: E1000Machine) -> None:
    set_up_control(machine)
    dropped = accepted(machine, control(2))
    set_up_control(machine, "PMCF")
    assert (dropped, accepted(machine, control(2)), machine.rd("FCRUC")) == (False, True, 2)


def test_reset_invalidates_addresses_and_loads_the_eeproms(machine: E1000Machine) -> None:
    set_address(machine, 0, PEER, mask("RAH", "AV"))
    set_address(machine, 1, PEER, mask("RAH", "AV"))
    changed = machine.device.mac
    machine.wr("CTRL", mask("CTRL", "RST"))
    start(machine)
    assert (changed, machine.device.mac, accepted(machine, frame(60, PEER))) == (PEER, MAC, False)


def test_tables_survive_a_reset(machine: E1000Machine) -> None:
    machine.wr("MTA", 1 << 9, 94)
    machine.wr("CTRL", mask("CTRL", "RST"))
    start(machine)
    assert (machine.rd("MTA", 94), accepted(machine, frame(60, EXAMPLE))) == (1 << 9, True)


def test_a_new_station_address_is_told_to_the_bridge(machine: E1000Machine) -> None:
    before = machine.changes
    machine.start_receive()
    set_address(machine, 0, PEER, mask("RAH", "AV"))
    assert (machine.changes > before + 1, machine.device.mac) == (True, PEER)
