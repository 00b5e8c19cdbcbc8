"""Constants of the 82576, typed again from the datasheet (320961), from public definitions of drivers
(mailbox, PHY, EEPROM) and from what Linux met after a reset; with those of test_igb_numbers.py,
test_igb_ring_numbers.py and test_pci_numbers.py they are all that are declared.
"""

import re
from pathlib import Path

import pytest

from testbed.spec import igb, igb_mailbox, igb_pci, igb_phy, igb_vf
from testbed.spec import igb_ring as ring

CODES = [
    (igb.REVISION_ID, 1), (igb.CLASS_CODE, 0x020000), (igb.FLASH_BAR_BYTES, 131072), (igb.QUEUE_STEP, 64),
    (igb.RX_ALIAS, 0x2800), (igb.TX_ALIAS, 0x3800), (igb.ALIAS_STEP, 256), (igb.RX_BLOCK, 0xC000),
    (igb.TX_BLOCK, 0xE000), (igb.ALIASED_QUEUES, 4), (igb.BSIZEPACKET_UNIT_BYTES, 1024),
    (igb.BSIZEHEADER_UNIT_BYTES, 64), (igb.RING_DESCRIPTORS_MAX, 32768), (igb.EITR_UNIT_NS, 1000),
    (igb.TABLE_ENTRIES, 4096), (igb.MULTICAST_SHIFTS, (36, 35, 34, 32)),
    (igb_vf.MSIX_BAR_BYTES, 16384),
    (igb_mailbox.TYPE_MASK, 0xFFFF), (igb_mailbox.MAC_FILTER_ADD, 2), (igb_mailbox.VLAN_REMOVE, 0),
    (igb_mailbox.PROMISC_MULTICAST, 2), (igb_mailbox.MULTICAST_HASHES_MAX, 30),
    (igb_mailbox.MULTICAST_EVERYTHING, 255), (igb_mailbox.HASH_BITS, 12),
    (igb_mailbox.FRAME_MAX_BYTES, 0x2600),
    (igb_pci.REGISTERS_BAR, 0), (igb_pci.MSIX_BAR, 3), (igb_pci.PBA_OFFSET, 0x2000),
    (igb_pci.BAR_BYTES, {0: 131072, 3: 16384}), (igb_pci.VF_BAR_BYTES, {0: 16384, 3: 16384}),
    (igb_phy.REGISTER_COUNT, 32), (igb_phy.LINK_PARTNER_ABILITY, 0x47E0), (igb_phy.PARTNER_1000, 0x3C00),
    (igb_phy.PSTAT_1000, 0xC000), (igb_phy.EEPROM_WORDS, 1024), (igb_phy.WORD_ADDRESS, 0),
    (igb_phy.WORD_SUBSYSTEM_ID, 0x0B), (igb_phy.WORD_SUBSYSTEM_VENDOR_ID, 0x0C),
    (igb_phy.WORD_DEVICE_ID, 0x0D),
    (igb_phy.WORD_VENDOR_ID, 0x0E), (igb_phy.WORD_CONTROL_2, 0x0F), (igb_phy.WORD_CHECKSUM, 0x3F),
    (igb_phy.CHECKSUM_TOTAL, 0xBABA), (igb_phy.CONTROL_2, 0x70C3), (igb_phy.ERASED, 0xFFFF),
    (ring.DESC_BYTES, 16), (ring.RX_TYPE_IPV4_OPTIONS, 0x20), (ring.RX_TYPE_IPV6_EXTENSIONS, 0x80),
    (ring.RSS_NONE, 0), (ring.RX_LEGACY_ERROR_L4E, 0x20), (ring.RX_LEGACY_ERROR_IPE, 0x40),
    (ring.DTYP_SHIFT, 20), (ring.TX_IC, 0x04000000), (ring.PAYLEN_SHIFT, 14), (ring.IDX_SHIFT, 4),
    (ring.L4T_SHIFT, 11), (ring.CONTEXTS, 2), (ring.HEAD_WRITE_BACK_ENABLE, 1), (ring.FCS_BYTES, 4),
    (ring.VLAN_TAG_BYTES, 4), (ring.ETHERNET_HEADER_BYTES, 14), (ring.FRAME_MIN_BYTES, 60),
    (ring.FRAME_MAX_BYTES, 9724), (ring.SEGMENT_HEADER_MAX_BYTES, 512), (ring.PACKET_DESCRIPTORS_MAX, 256),
    (ring.RX_RSS_TYPE.mask, 0x000F), (ring.RX_PACKET_TYPE.mask, 0xFFF0), (ring.TX_DTALEN.mask, 0xFFFF),
    (ring.TX_CONTEXT.offset("vlan_macip_lens"), 0), (ring.TX_CONTEXT.offset("seqnum_seed"), 4),
    (ring.TX_CONTEXT.offset("type_tucmd_mlhl"), 8), (ring.TX_CONTEXT.offset("mss_l4len_idx"), 12),
]  # fmt: skip
# PHY registers: number, name, value after a reset (IEEE 802.3 clause 22 up to 15, as Linux read them).
PHY = """
0 PCTRL 1140 | 1 PSTATUS 7949 | 2 PID 02A8 | 3 EPID 0391 | 4 ANA 0DE1 | 5 LPA 0 | 6 ANE 0 | 7 NPT 2001
9 GCON 0F00
10 GSTATUS 0 | 15 EPSTATUS 3000 | 16 PCONF 0 | 17 PSTAT 0 | 18 PCONT 0 | 19 LINK_HEALTH 0 | 20 PFIFO 0
25 POWER 008D
31 PAGE 0
"""
OF_OTHERS = {
    "RO", "RW", "WO", "RC", "W1C", "REGISTERS", "STATISTICS_REGISTERS", "VF_ROWS", "RX_QUEUE_REGISTERS",
    "TX_QUEUE_REGISTERS", "QUEUE_REGISTERS",
}  # fmt: skip
"""Kinds of access, and what is made of the rows of the register tables."""


@pytest.mark.parametrize(("constant", "number"), CODES)
def test_constant_is_what_the_datasheet_says(constant: object, number: object) -> None:
    assert constant == number


def test_phy_registers() -> None:
    rows = [cell.split() for line in PHY.split("\n") for cell in line.split("|") if cell.strip()]
    declared = [(reg.offset, reg.name, reg.reset) for reg in igb_phy.REGISTERS.registers]
    assert sorted(declared) == [(int(number), name, int(reset, 16)) for number, name, reset in rows]


def test_nothing_is_declared_without_a_number_of_its_own() -> None:
    here = Path(__file__).parent
    names = ("constants", "numbers", "ring_numbers")
    tables = [here / f"test_igb_{name}.py" for name in names] + [here / "test_pci_numbers.py"]
    text = "".join(table.read_text() for table in tables)
    modules = (("igb", igb), ("igb_mailbox", igb_mailbox), ("igb_pci", igb_pci), ("igb_phy", igb_phy),
               ("igb_vf", igb_vf), ("ring", ring))  # fmt: skip
    missing = [
        f"{short}.{name}"
        for short, module in modules
        for name in vars(module)
        if re.fullmatch("[A-Z][A-Z0-9_]+", name)
        and name not in OF_OTHERS
        and not re.search(rf"(?<![\w.]){short}\.{name}\b", text)
    ]
    assert missing == []
