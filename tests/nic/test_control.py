"""Resets, link, status, statistics, anti-spoof events, EEPROM and PHY of the 82576's control side."""

import pytest

from testbed.spec import igb, igb_phy, igb_vf
from testbed.spec.igb import field, mask
from tests.support.nic_machine import MAC, NicMachine

RST, SLU = mask("CTRL", "RST"), mask("CTRL", "SLU")
ENABLE = mask("RXDCTL", "ENABLE")


def test_after_power_on_the_address_is_the_eeproms_and_queue_0_is_on() -> None:
    nic = NicMachine()
    assert (nic.rd("RAL"), nic.rd("RAH")) == (0x99005452, 0x80000100)
    assert [nic.rd(name, queue) & ENABLE for name in ("RXDCTL", "TXDCTL") for queue in (0, 1)] == [
        ENABLE,
        0,
    ] * 2


def test_a_device_reset_leaves_the_state_of_a_fresh_device() -> None:
    fresh, nic = NicMachine(), NicMachine()
    for reg in igb.REGISTERS.registers:
        for index in range(reg.count):
            if reg.name not in ("CTRL", "MDIC", "EERD", "SWSM"):
                nic.wr(reg.name, 0x5555_5555, index)
    nic.wr("CTRL", RST | SLU)
    kept = {name: value for name, value in nic.nic.registers.snapshot().items() if name in ("EECD", "GCR")}
    assert set(nic.nic.registers.snapshot()) - set(kept) <= {
        *fresh.nic.registers.snapshot(), "SW_FW_SYNC", "EEMNGCTL", "LEDCTL", "WUC", "FWSM",
    }  # fmt: skip
    assert nic.nic.state == fresh.nic.state
    assert nic.nic.interrupts.masks == (0, 0, 0)


def test_a_device_reset_clears_itself_and_resets_every_queue() -> None:
    nic = NicMachine(2)
    nic.data.resets.clear()
    nic.wr("CTRL", nic.rd("CTRL") | RST)
    assert (nic.rd("CTRL") & RST, nic.data.resets) == (0, [0xFFFF])


def test_the_state_says_what_a_reset_did() -> None:
    nic = NicMachine(2)
    nic.wr("RCTL", mask("RCTL", "EN"))
    assert nic.nic.state.receive
    changes = nic.changes
    nic.wr("CTRL", RST)
    assert (nic.nic.state.receive, nic.changes) == (False, changes + 1)


@pytest.mark.parametrize("way", ["VTCTRL", "FLR"])
def test_a_reset_of_a_vf_resets_its_queues_and_vectors_alone(way: str) -> None:
    nic = NicMachine(3)
    for vf in range(3):
        nic.vwr(vf, "RXDCTL", ENABLE, 1)
        nic.vwr(vf, "VTEIMS", 0x7)
        nic.vwr(vf, "VTEITR", 0x100, 2)
    nic.data.resets.clear()
    if way == "FLR":
        nic.flr(2)
    else:
        nic.vwr(1, "VTCTRL", igb_vf.mask("VTCTRL", "RST"))
    assert [nic.vrd(vf, "RXDCTL", 1) & ENABLE for vf in range(3)] == [ENABLE, 0, ENABLE]
    assert [nic.vrd(vf, "VTEIMS") for vf in range(3)] == [7, 0, 7]
    assert [nic.vrd(vf, "VTEITR", 2) for vf in range(3)] == [0x100, 0, 0x100]
    assert (nic.data.resets, nic.rd("VFLRE"), nic.nic.vf_resets[:3]) == ([1 << 1 | 1 << 9], 0b10, [0, 1, 0])


def test_a_function_level_reset_of_the_pf_takes_the_vfs_away() -> None:
    nic = NicMachine(4)
    nic.wr("VFRE", 0)
    nic.flr(0)
    assert (nic.nic.sriov.vfs, nic.rd("VFRE"), nic.rd("STATUS") & mask("STATUS", "IOV_MODE")) == (0, 0xFF, 0)
    assert nic.vrd(0, "VTSTATUS") == 0xFFFF_FFFF


def test_vfs_that_come_and_go_leave_nothing_behind_and_the_pfs_queue_alone() -> None:
    nic = NicMachine(2)
    nic.wr("RXDCTL", ENABLE, 2)
    nic.vwr(1, "TXDCTL", ENABLE)
    nic.vwr(1, "VTEIMS", 0x7)
    nic.enable_messages(2)
    nic.enable_vfs(0)
    nic.enable_vfs(2)
    assert (nic.rd("RXDCTL", 2) & ENABLE, nic.vrd(1, "TXDCTL") & ENABLE, nic.vrd(1, "VTEIMS")) == (
        ENABLE,
        0,
        0,
    )
    assert nic.nic.read(2, 16, 0x72, 2) == 2


@pytest.mark.parametrize("vfs", [0, 1, 8])
def test_status_says_how_many_vfs_there_are(vfs: int) -> None:
    nic = NicMachine(vfs)
    status = nic.rd("STATUS")
    assert (field("STATUS", "NUM_VFS").get(status), field("STATUS", "IOV_MODE").get(status)) == (vfs, vfs > 0)


def test_the_link_is_up_when_the_driver_and_the_wire_want_it() -> None:
    nic = NicMachine()
    seen = [nic.nic.link_up]
    nic.wr("CTRL", nic.rd("CTRL") | SLU)
    seen.append(nic.nic.link_up)
    nic.nic.set_wire(False)
    seen.append(nic.nic.link_up)
    assert seen == [False, True, False]
    assert (nic.nic.state.link_up, nic.rd("ICR")) == (False, mask("ICR", "LSC"))


def test_a_phy_that_is_powered_down_has_no_link() -> None:
    nic = NicMachine()
    nic.wr("CTRL", nic.rd("CTRL") | SLU)
    nic.wr("MDIC", field("MDIC", "OP").put(igb.MDIC_OP_WRITE) | field("MDIC", "PHYADD").put(1) | 0x1940)
    assert not nic.nic.link_up
    nic.wr("CTRL", nic.rd("CTRL") | mask("CTRL", "PHY_RST"))
    assert nic.nic.link_up


@pytest.mark.parametrize("command", [0x0C00_0000, 0x0820_0000 | 2 << 21, 0])
def test_a_transaction_that_the_phy_does_not_know_is_an_error(command: int) -> None:
    nic = NicMachine()
    nic.wr("MDIC", command)
    assert nic.rd("MDIC") & mask("MDIC", "R", "E") == mask("MDIC", "R", "E")


def test_eeprom_has_the_address_and_adds_up() -> None:
    nic = NicMachine()
    words = []
    for address in range(0x40):
        nic.wr("EERD", field("EERD", "ADDR").put(address) | mask("EERD", "START"))
        assert nic.rd("EERD") & mask("EERD", "DONE")
        words.append(field("EERD", "DATA").get(nic.rd("EERD")))
    assert b"".join(word.to_bytes(2, "little") for word in words[:3]) == MAC
    assert sum(words) & 0xFFFF == igb_phy.CHECKSUM_TOTAL == 0xBABA


def test_a_word_behind_the_eeprom_is_erased() -> None:
    nic = NicMachine()
    nic.wr("EERD", field("EERD", "ADDR").put(0x3FFF) | mask("EERD", "START"))
    assert field("EERD", "DATA").get(nic.rd("EERD")) == 0xFFFF


def test_spoofed_frames_are_counted_and_reported_by_queue() -> None:
    nic = NicMachine(2)
    nic.nic.spoofed(9, 3)
    nic.nic.spoofed(1, 1)
    assert nic.rd("ICR") == mask("ICR", "DOUTSYNC")
    assert (nic.rd("WVBR"), nic.rd("WVBR"), nic.rd("SSVPC")) == (0x202, 0, 4)
    assert nic.nic.spoofed_frames[:2] == [0, 4]


def test_dropped_frames_are_counted_by_queue_and_cleared_by_reading() -> None:
    nic = NicMachine()
    nic.nic.dropped(3, 5000)
    assert (nic.rd("RQDPC", 3), nic.rd("RQDPC", 3), nic.rd("RQDPC", 2)) == (0xFFF, 0, 0)
    assert (nic.rd("RNBC"), nic.rd("RNBC"), nic.rd("ICR")) == (5000, 0, mask("ICR", "RX_MISS"))


def test_octet_counts_are_cleared_by_their_high_half() -> None:
    nic = NicMachine()
    nic.nic.statistics.add("gorc", 0x2_0000_0005)
    assert [nic.rd(name) for name in ("GORCL", "GORCL", "GORCH", "GORCL")] == [5, 5, 2, 0]


def test_only_one_reader_of_the_semaphore_finds_it_free() -> None:
    nic = NicMachine()
    assert [nic.rd("SWSM") for _ in range(2)] == [0, 1]
    nic.wr("SWSM", 0)
    assert nic.rd("SWSM") == 0


def test_reading_the_eeprom_again_restores_the_address() -> None:
    nic = NicMachine()
    nic.wr("RAL", 0)
    nic.wr("CTRL_EXT", mask("CTRL_EXT", "EE_RST"))
    assert (nic.rd("RAL"), nic.rd("CTRL_EXT")) == (0x99005452, 0)


def test_the_pfs_older_queue_addresses_are_the_same_registers() -> None:
    nic = NicMachine()
    nic.nic.write(0, 0, 0x2A18, 4, 77)
    nic.nic.write(0, 0, 0x3B18, 4, 78)
    assert (nic.rd("RDT", 2), nic.rd("TDT", 3)) == (77, 78)
