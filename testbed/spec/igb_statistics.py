"""Statistics of the 82576: the registers of the physical function, those of a virtual function, and the
device's own images of both.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63), §8.18 (physical
function: cleared when read) and §8.26 (virtual function: never cleared but by a reset, they wrap).
Not here: counts of what is not modelled (management, MACsec, circuit breakers, FC over Ethernet).
"""

from typing import Final

from testbed.spec.layout import Access, Field, Record, Reg

_ROWS: Final = (
    ("CRCERRS", 0x04000, "CRC Error"), ("ALGNERRC", 0x04004, "Alignment Error"),
    ("SYMERRS", 0x04008, "Symbol Error"), ("RXERRC", 0x0400C, "RX Error"), ("MPC", 0x04010, "Missed Packets"),
    ("SCC", 0x04014, "Single Collision"), ("ECOL", 0x04018, "Excessive Collisions"),
    ("MCC", 0x0401C, "Multiple Collision"), ("LATECOL", 0x04020, "Late Collisions"),
    ("COLC", 0x04028, "Collision"), ("CBTMPC", 0x0402C, "Circuit Breaker Transmit Manageability"),
    ("DC", 0x04030, "Defer"), ("TNCRS", 0x04034, "Transmit with No CRS"), ("SEC", 0x04038, "Sequence Error"),
    ("HTDPMC", 0x0403C, "Host Transmit Discarded by MAC"), ("RLEC", 0x04040, "Receive Length Error"),
    ("XONRXC", 0x04048, "XON Received"), ("XONTXC", 0x0404C, "XON Transmitted"),
    ("XOFFRXC", 0x04050, "XOFF Received"), ("XOFFTXC", 0x04054, "XOFF Transmitted"),
    ("FCRUC", 0x04058, "FC Received Unsupported"), ("PRC64", 0x0405C, "Packets Received (64 Bytes)"),
    ("PRC127", 0x04060, "Packets Received (65-127 Bytes)"),
    ("PRC255", 0x04064, "Packets Received (128-255 Bytes)"),
    ("PRC511", 0x04068, "Packets Received (256-511 Bytes)"),
    ("PRC1023", 0x0406C, "Packets Received (512-1023 Bytes)"),
    ("PRC1522", 0x04070, "Packets Received (1024 to Max Bytes)"),
    ("GPRC", 0x04074, "Good Packets Received"), ("BPRC", 0x04078, "Broadcast Packets Received"),
    ("MPRC", 0x0407C, "Multicast Packets Received"), ("GPTC", 0x04080, "Good Packets Transmitted"),
    ("GORCL", 0x04088, "Good Octets Received (Low)"), ("GORCH", 0x0408C, "Good Octets Received (High)"),
    ("GOTCL", 0x04090, "Good Octets Transmitted (Low)"),
    ("GOTCH", 0x04094, "Good Octets Transmitted (High)"),
    ("RNBC", 0x040A0, "Receive No Buffers"), ("RUC", 0x040A4, "Receive Undersize"),
    ("RFC", 0x040A8, "Receive Fragment"), ("ROC", 0x040AC, "Receive Oversize"),
    ("RJC", 0x040B0, "Receive Jabber"), ("MNGPRC", 0x040B4, "Management Packets Received"),
    ("MPDC", 0x040B8, "Management Packets Dropped"), ("MNGPTC", 0x040BC, "Management Packets Transmitted"),
    ("TORL", 0x040C0, "Total Octets Received (Low)"), ("TORH", 0x040C4, "Total Octets Received (High)"),
    ("TOTL", 0x040C8, "Total Octets Transmitted (Low)"),
    ("TOTH", 0x040CC, "Total Octets Transmitted (High)"),
    ("TPR", 0x040D0, "Total Packets Received"), ("TPT", 0x040D4, "Total Packets Transmitted"),
    ("PTC64", 0x040D8, "Packets Transmitted (64 Bytes)"),
    ("PTC127", 0x040DC, "Packets Transmitted (65-127 Bytes)"),
    ("PTC255", 0x040E0, "Packets Transmitted (128-255 Bytes)"),
    ("PTC511", 0x040E4, "Packets Transmitted (256-511 Bytes)"),
    ("PTC1023", 0x040E8, "Packets Transmitted (512-1023 Bytes)"),
    ("PTC1522", 0x040EC, "Packets Transmitted (1024 Bytes or Greater)"),
    ("MPTC", 0x040F0, "Multicast Packets Transmitted"), ("BPTC", 0x040F4, "Broadcast Packets Transmitted"),
    ("TSCTC", 0x040F8, "TCP Segmentation Context Transmitted"),
    ("CBRMPC", 0x040FC, "Circuit Breaker Receive Manageability"), ("IAC", 0x04100, "Interrupt Assertion"),
    ("RPTHC", 0x04104, "Receive Packets to Host"), ("DBGC1", 0x04108, "Debug Counter 1"),
    ("DBGC2", 0x0410C, "Debug Counter 2"), ("DBGC3", 0x04110, "Debug Counter 3"),
    ("HGPTC", 0x04118, "Host Good Packets Transmitted"), ("DBGC4", 0x0411C, "Debug Counter 4"),
    ("RXDMTC", 0x04120, "Receive Descriptor Minimum Threshold"),
    ("HTCBDPC", 0x04124, "Host Transmit Circuit Breaker Dropped"),
    ("HGORCL", 0x04128, "Host Good Octets Received (Low)"),
    ("HGORCH", 0x0412C, "Host Good Octets Received (High)"),
    ("HGOTCL", 0x04130, "Host Good Octets Transmitted (Low)"),
    ("HGOTCH", 0x04134, "Host Good Octets Transmitted (High)"), ("LENERRS", 0x04138, "Length Errors"),
    ("SSVPC", 0x041A0, "Switch Security Violation Packets"), ("SDPC", 0x041A4, "Switch Drop Packets"),
)  # fmt: skip

STATISTICS_REGISTERS: Final = tuple(
    Reg(name, offset, Access.RC, 0, "82576 §8.18", f"{doc} Count") for name, offset, doc in _ROWS
)
STATISTICS_NAMES: Final = tuple(row[0] for row in _ROWS)
OCTET_PAIRS: Final = {
    "GORCL": "GORCH", "GOTCL": "GOTCH", "TORL": "TORH", "TOTL": "TOTH", "HGORCL": "HGORCH", "HGOTCL": "HGOTCH"
}  # fmt: skip
"""The halves of a 64-bit count; both are cleared when the high half is read."""

_COUNTED: Final = tuple(name for name in STATISTICS_NAMES if name not in OCTET_PAIRS.values())
STATISTICS: Final = Record(
    "igb_statistics", 8 * len(_COUNTED), "82576 §8.18",
    *(Field((name[:-1] if name in OCTET_PAIRS else name).lower(), 8 * i, 8)
      for i, name in enumerate(_COUNTED)),
)  # fmt: skip
"""The device's own image of the counts, 64 bits each; octet counts are named gorc, gotc, tor, tot, ..."""

VF_ROWS: Final = (
    ("VFGPRC", 0x0F10, "Good Packets Received"), ("VFGPTC", 0x0F14, "Good Packets Transmitted"),
    ("VFGORC", 0x0F18, "Good Octets Received"), ("VFGOTC", 0x0F34, "Good Octets Transmitted"),
    ("VFMPRC", 0x0F3C, "Multicast Packets Received"),
    ("VFGPRLBC", 0x0F40, "Good Loopback Packets Received"),
    ("VFGPTLBC", 0x0F44, "Good Loopback Packets Transmitted"),
    ("VFGORLBC", 0x0F48, "Good Loopback Octets Received"),
    ("VFGOTLBC", 0x0F50, "Good Loopback Octets Transmitted"),
)  # fmt: skip
VF_STATISTICS: Final = Record(
    "igb_pool_statistics", 8 * len(VF_ROWS), "82576 §8.26",
    *(Field(name.lower(), 8 * i, 8) for i, (name, _, _) in enumerate(VF_ROWS)),
)  # fmt: skip
"""The same for one pool; its registers show the low 32 bits."""
