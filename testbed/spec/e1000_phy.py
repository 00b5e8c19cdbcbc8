"""Registers of the PHY inside the 82540EM, reached through MDIC. Offsets are register addresses, not bytes.

Reference: 8254x SDM (317453-006, revision 4.0) §13.4.7.1; `ref` names the subsection. Initial values are
those of a hardware reset.
"""

from typing import Final

from testbed.spec.layout import Access, Bits, Reg, RegisterMap

RO, RW, WO = Access.RO, Access.RW, Access.WO
REGISTER_COUNT: Final = 32


def _phy(number: int, name: str, access: Access, section: int, doc: str, reset: int, *bits: Bits) -> Reg:
    return Reg(name, number, access, reset, f"8254x SDM 13.4.7.1.{section}", doc, size=1, bits=bits)


REGISTERS: Final = RegisterMap(
    "82540EM PHY", REGISTER_COUNT,
    _phy(0, "PCTRL", RW, 1, "PHY Control", 0x1140,
         Bits("SPEED_MSB", 6), Bits("COLLISION_TEST", 7), Bits("DUPLEX", 8), Bits("RESTART_AN", 9),
         Bits("ISOLATE", 10), Bits("POWER_DOWN", 11), Bits("AN_ENABLE", 12), Bits("SPEED_LSB", 13),
         Bits("LOOPBACK", 14), Bits("RESET", 15)),
    _phy(1, "PSTATUS", RO, 2, "PHY Status", 0x7949,
         Bits("LINK", 2), Bits("AN_ABLE", 3), Bits("AN_COMPLETE", 5)),
    _phy(2, "PID", RO, 3, "PHY Identifier (LSB)", 0x0141),
    _phy(3, "EPID", RO, 4, "Extended PHY Identifier (MSB)", 0x0C20),
    _phy(4, "ANA", RW, 5, "Auto-Negotiation Advertisement", 0x01E1,
         Bits("HALF_10", 5), Bits("FULL_10", 6), Bits("HALF_100", 7), Bits("FULL_100", 8), Bits("PAUSE", 10),
         Bits("ASYMMETRIC_PAUSE", 11), Bits("RSV", 12), Bits("REMOTE_FAULT", 13), Bits("NEXT_PAGE", 15)),
    _phy(5, "LPA", RO, 6, "Link Partner Ability (Base Page)", 0),
    _phy(6, "ANE", RO, 7, "Auto-Negotiation Expansion", 0, Bits("PARTNER_ABLE", 0), Bits("PAGE_RECEIVED", 1)),
    _phy(7, "NPT", RW, 8, "Next Page Transmit", 0x2001),
    _phy(8, "LPN", RO, 9, "Link Partner Next Page", 0),
    _phy(9, "GCON", RW, 10, "1000BASE-T Control", 0x1E00),
    _phy(10, "GSTATUS", RO, 11, "1000BASE-T Status", 0,
         Bits("PARTNER_HALF", 10), Bits("PARTNER_FULL", 11), Bits("REMOTE_OK", 12), Bits("LOCAL_OK", 13)),
    _phy(15, "EPSTATUS", RO, 12, "Extended PHY Status", 0x3000),
    _phy(16, "PSCON", RW, 13, "PHY Specific Control", 0x0068, Bits("FORCE_LINK", 10)),
    _phy(17, "PSSTAT", RO, 14, "PHY Specific Status", 0,
         Bits("LINK", 10), Bits("RESOLVED", 11), Bits("DUPLEX", 13), Bits("SPEED", 14, 2)),
    _phy(18, "PINTE", RW, 15, "PHY Interrupt Enable", 0),
    _phy(19, "PINTS", RO, 16, "PHY Interrupt Status", 0),
    _phy(20, "EPSCON1", RW, 17, "Extended PHY Specific Control 1", 0x0D60),
    _phy(21, "PREC", RO, 18, "PHY Receive Error Counter", 0),
    _phy(29, "R30PS", WO, 25, "Register 30 Page Select", 0),
    _phy(30, "R30AW", RW, 26, "Register 30 Access Window", 0),
)  # fmt: skip

LINK_PARTNER_ABILITY: Final = 0x41E0
"""LPA of the partner that the testbed's wire stands for: acknowledge, 10 and 100 Mb/s, both duplex modes."""
PARTNER_1000: Final = 0x3C00
"""GSTATUS with that partner: 1000BASE-T in both modes, both receivers good."""
PSSTAT_UP: Final = 0xAC00
"""PSSTAT at 1000 Mb/s, full duplex, resolved, link up."""


def mask(register: str, *names: str) -> int:
    """Return the bits of these fields, in place."""
    return sum(bits.mask for bits in REGISTERS[register].bits if bits.name in names)
