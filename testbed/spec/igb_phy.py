"""Registers of the PHY inside the 82576, reached through MDIC, and the words of its EEPROM that matter.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63), §8.24 (PHY registers:
numbers, not byte offsets) and chapter 6 (EEPROM). Initial values are those that Linux met after a reset.
Registers above 15 are in pages, chosen by register 31; all pages are one here.
"""

from typing import Final

from testbed.spec.layout import Access, Reg, RegisterMap, bit_fields

RO, RW = Access.RO, Access.RW
REGISTER_COUNT: Final = 32


def _phy(number: int, name: str, access: Access, doc: str, reset: int = 0, bits: str = "") -> Reg:
    return Reg(name, number, access, reset, "82576 §8.24", doc, size=1, bits=bit_fields(bits))


REGISTERS: Final = RegisterMap(
    "82576 PHY", REGISTER_COUNT,
    _phy(0, "PCTRL", RW, "PHY Control", 0x1140,
         "RESTART_AN 9, ISOLATE 10, POWER_DOWN 11, AN_ENABLE 12, LOOPBACK 14, RESET 15"),
    _phy(1, "PSTATUS", RO, "PHY Status", 0x7949, "LINK 2, AN_COMPLETE 5"),
    _phy(2, "PID", RO, "PHY Identifier", 0x02A8),
    _phy(3, "EPID", RO, "Extended PHY Identifier", 0x0391),
    _phy(4, "ANA", RW, "Auto-Negotiation Advertisement", 0x0DE1),
    _phy(5, "LPA", RO, "Link Partner Ability"),
    _phy(6, "ANE", RO, "Auto-Negotiation Expansion"),
    _phy(7, "NPT", RW, "Next Page Transmit", 0x2001),
    _phy(9, "GCON", RW, "1000BASE-T Control", 0x0F00),
    _phy(10, "GSTATUS", RO, "1000BASE-T Status"),
    _phy(15, "EPSTATUS", RO, "Extended PHY Status", 0x3000),
    _phy(16, "PCONF", RW, "Port Configuration"),
    _phy(17, "PSTAT", RO, "Port Status"),
    _phy(18, "PCONT", RW, "Port Control"),
    _phy(19, "LINK_HEALTH", RO, "Link Health"),
    _phy(20, "PFIFO", RW, "FIFO"),
    _phy(25, "POWER", RW, "Power Management", 0x008D),
    _phy(31, "PAGE", RW, "Page Select"),
)  # fmt: skip
LINK_PARTNER_ABILITY: Final = 0x47E0
"""LPA of the partner that the testbed's wire stands for: 10 and 100 Mb/s, both duplex modes, pause."""
PARTNER_1000: Final = 0x3C00
"""GSTATUS with that partner."""
PSTAT_1000: Final = 0xC000
"""PSTAT at 1000 Mb/s."""

EEPROM_WORDS: Final = 0x400
WORD_ADDRESS: Final = 0x00
WORD_SUBSYSTEM_ID: Final = 0x0B
WORD_SUBSYSTEM_VENDOR_ID: Final = 0x0C
WORD_DEVICE_ID: Final = 0x0D
WORD_VENDOR_ID: Final = 0x0E
WORD_CONTROL_2: Final = 0x0F
WORD_CHECKSUM: Final = 0x3F
CHECKSUM_TOTAL: Final = 0xBABA
"""§6.4.7: words 0 to 3Fh add up to this in 16 bits."""
CONTROL_2: Final = 0x70C3
ERASED: Final = 0xFFFF


def mask(register: str, *names: str) -> int:
    """Return the bits of these fields, in place."""
    return REGISTERS.mask(register, *names)
