"""The 82540EM's register block: offset, access, initial value and bit fields of every register.

Reference: Intel, PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (317453-006,
revision 4.0), chapter 13; `ref` names the section. Bits that the manual calls reserved are in no field.
Initial values that the manual leaves open are zero. MANC is not in that manual: it is in Intel's PCIe GbE
Controllers Open Source Software Developer's Manual, and drivers for this part use it.
Not here: registers of other members of the family only (FLA, TXCW, RXCW, TXDMAC).
"""

from typing import Final

from testbed.spec.layout import Access, Bits, Field, Record, Reg, RegisterMap, bit_fields

RO, RW, WO, RC = Access.RO, Access.RW, Access.WO, Access.RC

VENDOR_ID: Final = 0x8086
DEVICE_ID: Final = 0x100E
"""82540EM."""
REVISION_ID: Final = 3
CLASS_CODE: Final = 0x020000
BAR_BYTES: Final = 0x20000
"""§13.1: internal registers and memories."""
IO_BAR_BYTES: Final = 64
"""What drivers see of the 82540EM; the manual (§13.2.2) describes 32 bytes, of which eight are used."""


def _reg(
    name: str, offset: int, access: Access, section: str, doc: str, reset: int = 0, bits: str = "",
    count: int = 1, step: int = 0,
) -> Reg:  # fmt: skip
    fields = bit_fields(bits)
    return Reg(name, offset, access, reset, f"8254x SDM {section}", doc, count=count, step=step, bits=fields)


_CAUSES: Final = (
    "TXDW 0, TXQE 1, LSC 2, RXSEQ 3, RXDMT0 4, RXO 6, RXT0 7, MDAC 9, RXCFG 10, PHYINT 12, GPI_SDP6 13,"
    "GPI_SDP7 14, TXD_LOW 15, SRPD 16"
)
_LED: Final = (
    "LED0_MODE 0:4, LED0_IVRT 6, LED0_BLINK 7, LED1_MODE 8:4, LED1_IVRT 14, LED1_BLINK 15,"
    "LED2_MODE 16:4, LED2_IVRT 22, LED2_BLINK 23, LED3_MODE 24:4, LED3_IVRT 30, LED3_BLINK 31"
)
_CTRL: Final = (
    "FD 0, LRST 3, ASDE 5, SLU 6, ILOS 7, SPEED 8:2, FRCSPD 11, FRCDPLX 12, SDP0_DATA 18, SDP1_DATA 19,"
    "ADVD3WUC 20, EN_PHY_PWR_MGMT 21, SDP0_IODIR 22, SDP1_IODIR 23, RST 26, RFCE 27, TFCE 28, VME 30,"
    "PHY_RST 31"
)
_CTRL_EXT: Final = (
    "GPI_EN 0:4, PHYINT 5, SDP6_DATA 6, SDP7_DATA 7, RSV 8:2, SDP6_IODIR 10, SDP7_IODIR 11, ASDCHK 12,"
    "EE_RST 13, SPD_BYPS 15"
)
_RCTL: Final = (
    "EN 1, SBP 2, UPE 3, MPE 4, LPE 5, LBM 6:2, RDMTS 8:2, MO 12:2, BAM 15, BSIZE 16:2, VFE 18,"
    "CFIEN 19, CFI 20, DPF 22, PMCF 23, BSEX 25, SECRC 26"
)
_WAKEUP: Final = "LNKC 0, MAG 1, EX 2, MC 3, BC 4, ARP 5, IPV4 6, IPV6 7, FLX0 16, FLX1 17, FLX2 18, FLX3 19"
_STATUS: Final = (
    "FD 0, LU 1, FUNCTION_ID 2:2, TXOFF 4, TBIMODE 5, SPEED 6:2, ASDV 8:2, PCI66 11, BUS64 12, PCIX_MODE 13,"
    "PCIXSPD 14:2"
)
_EECD: Final = "SK 0, CS 1, DI 2, DO 3, FWE 4:2, EE_REQ 6, EE_GNT 7, EE_PRES 8, EE_SIZE 9"
_MDIC: Final = "DATA 0:16, REGADD 16:5, PHYADD 21:5, OP 26:2, R 28, I 29, E 30"
_RAH: Final = "RAH 0:16, AS 16:2, AV 31"
_RXCSUM: Final = "PCSS 0:8, IPOFLD 8, TUOFLD 9, IPV6OFL 10"
_TCTL: Final = "EN 1, PSP 3, CT 4:8, COLD 12:10, SWXOFF 22, RTLC 24"
_TIPG: Final = "IPGT 0:10, IPGR1 10:10, IPGR2 20:10"
_TSPMT: Final = "TSMT 0:16, TSPBP 16:16"
_THRESHOLDS: Final = "PTHRESH 0:6, HTHRESH 8:6, WTHRESH 16:6, GRAN 24"

_GENERAL: Final = (
    _reg("CTRL", 0x00000, RW, "13.4.1", "Device Control, as the EEPROM leaves it", 0x0014_0240, _CTRL),
    _reg("STATUS", 0x00008, RO, "13.4.2", "Device Status", 0, _STATUS),
    _reg("EECD", 0x00010, RW, "13.4.3", "EEPROM/Flash Control and Data", 0x0000_0110, _EECD),
    _reg("EERD", 0x00014, RW, "13.4.4", "EEPROM Read", 0, "START 0, DONE 4, ADDR 8:8, DATA 16:16"),
    _reg("CTRL_EXT", 0x00018, RW, "13.4.6", "Extended Device Control", 0x0000_0100, _CTRL_EXT),
    _reg("MDIC", 0x00020, RW, "13.4.7", "MDI Control", 0, _MDIC),
    _reg("FCAL", 0x00028, RW, "13.4.8", "Flow Control Address Low"),
    _reg("FCAH", 0x0002C, RW, "13.4.9", "Flow Control Address High", 0, "FCAH 0:16"),
    _reg("FCT", 0x00030, RW, "13.4.10", "Flow Control Type", 0, "FCT 0:16"),
    _reg("VET", 0x00038, RW, "13.4.11", "VLAN Ether Type", 0, "VET 0:16"),
    _reg("FCTTV", 0x00170, RW, "13.4.12", "Flow Control Transmit Timer Value", 0, "TTV 0:16"),
    _reg("LEDCTL", 0x00E00, RW, "13.4.15", "LED Control", 0x0706_8302, _LED),
    _reg("PBA", 0x01000, RW, "13.4.16", "Packet Buffer Allocation", 0x0010_0030, "RXA 0:7, TXA 16:16"),
    _reg("MANC", 0x05820, RW, "(not in this manual)", "Management Control", 0x0022_2300),
)  # fmt: skip

_INTERRUPT: Final = (
    _reg("ICR", 0x000C0, RC, "13.4.17", "Interrupt Cause Read; a written one clears too", 0, _CAUSES),
    _reg("ITR", 0x000C4, RW, "13.4.18", "Interrupt Throttling", 0, "INTERVAL 0:16"),
    _reg("ICS", 0x000C8, WO, "13.4.19", "Interrupt Cause Set", 0, _CAUSES),
    _reg("IMS", 0x000D0, RW, "13.4.20", "Interrupt Mask Set/Read", 0, _CAUSES),
    _reg("IMC", 0x000D8, WO, "13.4.21", "Interrupt Mask Clear", 0, _CAUSES),
)  # fmt: skip

_RECEIVE: Final = (
    _reg("RCTL", 0x00100, RW, "13.4.22", "Receive Control", 0, _RCTL),
    _reg("FCRTL", 0x02160, RW, "13.4.23", "Flow Control Receive Threshold Low", 0, "RTL 3:13, XONE 31"),
    _reg("FCRTH", 0x02168, RW, "13.4.24", "Flow Control Receive Threshold High", 0, "RTH 3:13, XFCE 31"),
    _reg("RDBAL", 0x02800, RW, "13.4.25", "Receive Descriptor Base Address Low", 0, "RDBAL 4:28"),
    _reg("RDBAH", 0x02804, RW, "13.4.26", "Receive Descriptor Base Address High"),
    _reg("RDLEN", 0x02808, RW, "13.4.27", "Receive Descriptor Length", 0, "LEN 7:13"),
    _reg("RDH", 0x02810, RW, "13.4.28", "Receive Descriptor Head", 0, "RDH 0:16"),
    _reg("RDT", 0x02818, RW, "13.4.29", "Receive Descriptor Tail", 0, "RDT 0:16"),
    _reg("RDTR", 0x02820, RW, "13.4.30", "Receive Delay Timer", 0, "DELAY 0:16, FPD 31"),
    _reg("RXDCTL", 0x02828, RW, "13.4.46", "Receive Descriptor Control", 0x0101_0000, _THRESHOLDS),
    _reg("RADV", 0x0282C, RW, "13.4.31", "Receive Interrupt Absolute Delay Timer", 0, "DELAY 0:16"),
    _reg("RSRPD", 0x02C00, RW, "13.4.32", "Receive Small Packet Detect Interrupt", 0, "SIZE 0:12"),
    _reg("RXCSUM", 0x05000, RW, "13.4.47", "Receive Checksum Control", 0, _RXCSUM),
    _reg("MTA", 0x05200, RW, "13.5.1", "Multicast Table Array", count=128),
    _reg("RAL", 0x05400, RW, "13.5.2", "Receive Address Low", count=16, step=8),
    _reg("RAH", 0x05404, RW, "13.5.3", "Receive Address High", 0, _RAH, count=16, step=8),
    _reg("VFTA", 0x05600, RW, "13.5.4", "VLAN Filter Table Array", count=128),
)  # fmt: skip

_TRANSMIT: Final = (
    _reg("TCTL", 0x00400, RW, "13.4.33", "Transmit Control", 0, _TCTL),
    _reg("TIPG", 0x00410, RW, "13.4.34", "Transmit Inter Packet Gap", 0, _TIPG),
    _reg("AIFS", 0x00458, RW, "13.4.35", "Adaptive IFS Throttle", 0, "AIFS 0:16"),
    _reg("TDBAL", 0x03800, RW, "13.4.36", "Transmit Descriptor Base Address Low", 0, "TDBAL 4:28"),
    _reg("TDBAH", 0x03804, RW, "13.4.37", "Transmit Descriptor Base Address High"),
    _reg("TDLEN", 0x03808, RW, "13.4.38", "Transmit Descriptor Length", 0, "LEN 7:13"),
    _reg("TDH", 0x03810, RW, "13.4.39", "Transmit Descriptor Head", 0, "TDH 0:16"),
    _reg("TDT", 0x03818, RW, "13.4.40", "Transmit Descriptor Tail", 0, "TDT 0:16"),
    _reg("TIDV", 0x03820, RW, "13.4.41", "Transmit Interrupt Delay Value", 0, "IDV 0:16"),
    _reg("TXDCTL", 0x03828, RW, "13.4.43", "Transmit Descriptor Control", 0, _THRESHOLDS + ", LWTHRESH 25:7"),
    _reg("TADV", 0x0382C, RW, "13.4.44", "Transmit Absolute Interrupt Delay Value", 0, "IDV 0:16"),
    _reg("TSPMT", 0x03830, RW, "13.4.45", "TCP Segmentation Pad and Minimum Threshold", 0x0100_0400, _TSPMT),
)  # fmt: skip

_WAKE: Final = (
    _reg("WUC", 0x05800, RW, "13.6.1", "Wakeup Control", 0, "APME 0, PME_EN 1, PME_STATUS 2, APMPME 3"),
    _reg("WUFC", 0x05808, RW, "13.6.2", "Wakeup Filter Control", 0, _WAKEUP),
    _reg("WUS", 0x05810, RO, "13.6.3", "Wakeup Status", 0, _WAKEUP),
    _reg("IPAV", 0x05838, RW, "13.6.4", "IP Address Valid", 0, "V40 0, V41 1, V42 2, V43 3, V60 16"),
    _reg("IP4AT", 0x05840, RW, "13.6.5", "IPv4 Address Table", count=4, step=8),
    _reg("IP6AT", 0x05880, RW, "13.6.6", "IPv6 Address Table", count=4),
    _reg("WUPL", 0x05900, RW, "13.6.7", "Wakeup Packet Length", 0, "LEN 0:12"),
    _reg("WUPM", 0x05A00, RW, "13.6.8", "Wakeup Packet Memory", count=32),
    _reg("FFLT", 0x05F00, RW, "13.6.9", "Flexible Filter Length Table", 0, "LEN 0:11", count=4, step=8),
    _reg("FFMT", 0x09000, RW, "13.6.10", "Flexible Filter Mask Table", 0, "MASK 0:4", count=128, step=8),
    _reg("FFVT", 0x09800, RW, "13.6.11", "Flexible Filter Value Table", count=128, step=8),
)  # fmt: skip

_DIAGNOSTIC: Final = (
    _reg("RDFH", 0x02410, RW, "13.8.1", "Receive Data FIFO Head", 0, "FIFO_HEAD 0:13"),
    _reg("RDFT", 0x02418, RW, "13.8.2", "Receive Data FIFO Tail", 0, "FIFO_TAIL 0:13"),
    _reg("RDFHS", 0x02420, RW, "13.8.3", "Receive Data FIFO Head Saved", 0, "FIFO_HEAD 0:13"),
    _reg("RDFTS", 0x02428, RW, "13.8.4", "Receive Data FIFO Tail Saved", 0, "FIFO_TAIL 0:13"),
    _reg("RDFPC", 0x02430, RW, "13.8.5", "Receive Data FIFO Packet Count", 0, "RX_FIFO_PC 0:13"),
    _reg("TDFH", 0x03410, RW, "13.8.6", "Transmit Data FIFO Head", 0, "FIFO_HEAD 0:11"),
    _reg("TDFT", 0x03418, RW, "13.8.7", "Transmit Data FIFO Tail", 0, "FIFO_TAIL 0:11"),
    _reg("TDFHS", 0x03420, RW, "13.8.8", "Transmit Data FIFO Head Saved", 0, "FIFO_HEAD 0:13"),
    _reg("TDFTS", 0x03428, RW, "13.8.9", "Transmit Data FIFO Tail Saved", 0, "FIFO_TAIL 0:13"),
    _reg("TDFPC", 0x03430, RW, "13.8.10", "Transmit Data FIFO Packet Count", 0, "TX_FIFO_PC 0:13"),
    _reg("PBM", 0x10000, RW, "13.8.11", "Packet Buffer Memory", count=0x4000),
)  # fmt: skip

_STATISTICS_ROWS: Final = (
    ("CRCERRS", 0x04000, 1, "CRC Error"), ("ALGNERRC", 0x04004, 2, "Alignment Error"),
    ("SYMERRS", 0x04008, 3, "Symbol Error"), ("RXERRC", 0x0400C, 4, "RX Error"),
    ("MPC", 0x04010, 5, "Missed Packets"), ("SCC", 0x04014, 6, "Single Collision"),
    ("ECOL", 0x04018, 7, "Excessive Collisions"), ("MCC", 0x0401C, 8, "Multiple Collision"),
    ("LATECOL", 0x04020, 9, "Late Collisions"), ("COLC", 0x04028, 10, "Collision"),
    ("DC", 0x04030, 11, "Defer"), ("TNCRS", 0x04034, 12, "Transmit with No CRS"),
    ("SEC", 0x04038, 13, "Sequence Error"), ("CEXTERR", 0x0403C, 14, "Carrier Extension Error"),
    ("RLEC", 0x04040, 15, "Receive Length Error"), ("XONRXC", 0x04048, 16, "XON Received"),
    ("XONTXC", 0x0404C, 17, "XON Transmitted"), ("XOFFRXC", 0x04050, 18, "XOFF Received"),
    ("XOFFTXC", 0x04054, 19, "XOFF Transmitted"), ("FCRUC", 0x04058, 20, "FC Received Unsupported"),
    ("PRC64", 0x0405C, 21, "Packets Received (64 Bytes)"),
    ("PRC127", 0x04060, 22, "Packets Received (65-127 Bytes)"),
    ("PRC255", 0x04064, 23, "Packets Received (128-255 Bytes)"),
    ("PRC511", 0x04068, 24, "Packets Received (256-511 Bytes)"),
    ("PRC1023", 0x0406C, 25, "Packets Received (512-1023 Bytes)"),
    ("PRC1522", 0x04070, 26, "Packets Received (1024 to Max Bytes)"),
    ("GPRC", 0x04074, 27, "Good Packets Received"), ("BPRC", 0x04078, 28, "Broadcast Packets Received"),
    ("MPRC", 0x0407C, 29, "Multicast Packets Received"), ("GPTC", 0x04080, 30, "Good Packets Transmitted"),
    ("GORCL", 0x04088, 31, "Good Octets Received (Low)"),
    ("GORCH", 0x0408C, 31, "Good Octets Received (High)"),
    ("GOTCL", 0x04090, 32, "Good Octets Transmitted (Low)"),
    ("GOTCH", 0x04094, 32, "Good Octets Transmitted (High)"), ("RNBC", 0x040A0, 33, "Receive No Buffers"),
    ("RUC", 0x040A4, 34, "Receive Undersize"), ("RFC", 0x040A8, 35, "Receive Fragment"),
    ("ROC", 0x040AC, 36, "Receive Oversize"), ("RJC", 0x040B0, 37, "Receive Jabber"),
    ("MGTPRC", 0x040B4, 38, "Management Packets Received"),
    ("MGTPDC", 0x040B8, 39, "Management Packets Dropped"),
    ("MGTPTC", 0x040BC, 40, "Management Packets Transmitted"),
    ("TORL", 0x040C0, 41, "Total Octets Received (Low)"),
    ("TORH", 0x040C4, 41, "Total Octets Received (High)"),
    ("TOTL", 0x040C8, 42, "Total Octets Transmitted (Low)"),
    ("TOTH", 0x040CC, 42, "Total Octets Transmitted (High)"), ("TPR", 0x040D0, 43, "Total Packets Received"),
    ("TPT", 0x040D4, 44, "Total Packets Transmitted"),
    ("PTC64", 0x040D8, 45, "Packets Transmitted (64 Bytes)"),
    ("PTC127", 0x040DC, 46, "Packets Transmitted (65-127 Bytes)"),
    ("PTC255", 0x040E0, 47, "Packets Transmitted (128-255 Bytes)"),
    ("PTC511", 0x040E4, 48, "Packets Transmitted (256-511 Bytes)"),
    ("PTC1023", 0x040E8, 49, "Packets Transmitted (512-1023 Bytes)"),
    ("PTC1522", 0x040EC, 50, "Packets Transmitted (1024 Bytes or Greater)"),
    ("MPTC", 0x040F0, 51, "Multicast Packets Transmitted"),
    ("BPTC", 0x040F4, 52, "Broadcast Packets Transmitted"),
    ("TSCTC", 0x040F8, 53, "TCP Segmentation Context Transmitted"),
    ("TSCTFC", 0x040FC, 54, "TCP Segmentation Context Transmit Fail"),
)  # fmt: skip
_STATISTICS: Final = tuple(
    _reg(name, offset, RC, f"13.7.{n}", f"{doc} Count") for name, offset, n, doc in _STATISTICS_ROWS
)
STATISTICS_NAMES: Final = tuple(row[0] for row in _STATISTICS_ROWS)

REGISTERS: Final = RegisterMap(
    "82540EM", BAR_BYTES,
    *_GENERAL, *_INTERRUPT, *_RECEIVE, *_TRANSMIT, *_WAKE, *_DIAGNOSTIC, *_STATISTICS,
)  # fmt: skip

IO_REGISTERS: Final = RegisterMap(
    "82540EM I/O", IO_BAR_BYTES,
    _reg("IOADDR", 0x0, RW, "13.2.2.1", "address of the register that IODATA stands for", 0, "ADDRESS 0:20"),
    _reg("IODATA", 0x4, RW, "13.2.2.2", "window on the register that IOADDR names"),
)  # fmt: skip

PRESERVED_BY_RESET: Final = (
    "TDBAL", "TDBAH", "RDBAL", "RDBAH", "TIPG", "MTA", "VFTA", "RAL", "RAH", "IP4AT", "IP6AT",
    "WUPM", "WUPL", "WUS", "FFMT", "FFVT", "PBM",
)  # fmt: skip
"""§14.7: a device reset leaves these as they are, but RAH.AV becomes zero."""


def field(register: str, name: str) -> Bits:
    """Return a bit field of a register by both names; KeyError where there is none."""
    for bits in REGISTERS[register].bits:
        if bits.name == name:
            return bits
    raise KeyError(f"{register}.{name}")


def mask(register: str, *names: str) -> int:
    """Return the bits of these fields, in place."""
    return sum(field(register, name).mask for name in names)


OCTET_PAIRS: Final = {"GORCL": "GORCH", "GOTCL": "GOTCH", "TORL": "TORH", "TOTL": "TOTH"}
"""§13.7: the halves of a 64-bit count; both are cleared when the high half is read."""

_COUNTED: Final = tuple(name for name in STATISTICS_NAMES if name not in OCTET_PAIRS.values())
STATISTICS: Final = Record(
    "e1000_statistics", 8 * len(_COUNTED), "8254x SDM 13.7",
    *(Field((name[:-1] if name in OCTET_PAIRS else name).lower(), 8 * i, 8)
      for i, name in enumerate(_COUNTED)),
)  # fmt: skip
"""The device's own image of the counts, 64 bits each; octet counts are named gorc, gotc, tor and tot."""

MDIC_OP_WRITE: Final = 1
MDIC_OP_READ: Final = 2
PHY_ADDRESS: Final = 1
"""§13.4.7: the internal PHY's MDI address."""
SPEED_1000: Final = 2
LBM_PHY: Final = 3
"""RCTL.LBM: loopback in the PHY."""
ITR_UNIT_NS: Final = 256
DELAY_UNIT_NS: Final = 1024
"""RDTR, RADV, TIDV, TADV count in 1.024 microseconds."""
