"""The 82576's physical function: offset, access, initial value and bits of every register of its BAR 0.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63), chapter 8; `ref`
names the section. Queue registers are declared at their own addresses (0C000h for receiving, 0E000h for
sending, 64 bytes a queue); queues 0 to 3 have older addresses, too: `queue_address` (§8.1.3). Statistics are
in spec/igb_statistics.py, what a virtual function sees in spec/igb_vf.py, the mailbox in spec/igb_mailbox.py,
descriptors in spec/igb_ring.py. Initial values that an EEPROM sets are those of a card as Linux met it; those
of TCTL_EXT and TIPG are the 82575EB's (324632, revision 2.1, §14.3.65 and §14.3.66). MRQC.IPV6_EX,
VET.VET_EXT and EEMNGCTL.CFG_DONE are where Intel's BSD-licensed drivers have them (e1000_defines.h,
igb_ethdev.c); RTTDQSEL.QUEUE and VMRVM.POOLS are as wide as 16 queues and 8 pools need (§1.3).
Not here: MACsec, IPsec, storm control, DCA tags, PCS and SerDes, SFP, wake-up patterns, management, Flash.
"""

from typing import Final

from testbed.spec.igb_statistics import STATISTICS_REGISTERS
from testbed.spec.layout import Access, Bits, Reg, RegisterMap, bit_fields

RO, RW, WO, RC, W1C = Access.RO, Access.RW, Access.WO, Access.RC, Access.W1C

VENDOR_ID: Final = 0x8086
DEVICE_ID: Final = 0x10C9
VF_DEVICE_ID: Final = 0x10CA
REVISION_ID: Final = 1
CLASS_CODE: Final = 0x020000
BAR_BYTES: Final = 0x20000
FLASH_BAR_BYTES: Final = 0x20000
IO_BAR_BYTES: Final = 32
MSIX_BAR_BYTES: Final = 0x4000
MSIX_VECTORS: Final = 10
"""§7.3.1.2: of the physical function while virtual functions may be enabled."""

VFS_MAX: Final = 8
POOLS: Final = 8
QUEUES: Final = 16
"""§7.10.2.1: pool p owns queues p and p + 8."""
VECTORS: Final = 25
"""§7.3.3.1: causes of EICR in MSI-X mode."""
VF_VECTORS: Final = 3
VF_QUEUES: Final = 2
VLVF_ENTRIES: Final = 32
MIRRORS: Final = 4


def vf_vector(vf: int, vector: int) -> int:
    """Return which bit of EICR, and which EITR, is vector 0, 1 or 2 of a virtual function (§7.3.3)."""
    return VECTORS - VF_VECTORS * (vf + 1) + vector


def vf_queue(vf: int, queue: int) -> int:
    """Return which queue of the device is queue `queue` (0 or 1) of a pool (§7.10.2.1)."""
    return vf + POOLS * queue


def _reg(
    name: str, offset: int, access: Access, section: str, doc: str, reset: int = 0, bits: str = "",
    count: int = 1, step: int = 0,
) -> Reg:  # fmt: skip
    ref = f"82576 §{section}"
    return Reg(name, offset, access, reset, ref, doc, count=count, step=step, bits=bit_fields(bits))


_CAUSES: Final = (
    "TXDW 0, LSC 2, RXDMT0 4, MACSEC 5, RX_MISS 6, RXDW 7, SWMB 8, GPI_SDP0 11, GPI_SDP1 12,"
    "GPI_SDP2 13, GPI_SDP3 14, PTRAP 15, MNG 18, TIME_SYNC 19, OMED 20, FER 22, NFER 23, CSRTO 24, SCE 25,"
    "SW_WD 26, DOUTSYNC 28, DRSTA 30, INTA 31"
)
_CTRL: Final = (
    "FD 0, GIO_MASTER_DISABLE 2, RSV3 3, SLU 6, ILOS 7, SPEED 8:2, FRCSPD 11, FRCDPLX 12, SDP0_DATA 18,"
    "SDP1_DATA 19, ADVD3WUC 20, SDP0_IODIR 22, SDP1_IODIR 23,"
    "RST 26, RFCE 27, TFCE 28, VME 30, PHY_RST 31"
)
_STATUS: Final = (
    "FD 0, LU 1, LAN_ID 2:2, TXOFF 4, SPEED 6:2, ASDV 8:2, PHYRA 10, NUM_VFS 14:4, IOV_MODE 18,"
    "GIO_MASTER_ENABLE 19, DEV_RST_SET 20, DMA_CLOCK_GATING 31"
)
_CTRL_EXT: Final = (
    "PHYINT_EN 1, SDP2_GPIEN 2, SDP3_GPIEN 3, SDP2_DATA 6, SDP3_DATA 7, SDP2_IODIR 10,"
    "SDP3_IODIR 11, ASDCHK 12, EE_RST 13, PFRSTD 14, SPD_BYPS 15, RO_DIS 17, SERDES_LOW_POWER 18,"
    "LINK_MODE 22:2, EIAME 24, I2C_ENABLE 25, EXT_VLAN 26, IAME 27, DRV_LOAD 28"
)
_RCTL: Final = (
    "EN 1, SBP 2, UPE 3, MPE 4, LPE 5, LBM 6:2, MO 12:2, BAM 15, BSIZE 16:2, VFE 18, CFIEN 19, CFI 20,"
    "DPF 22, PMCF 23, SECRC 26"
)
_EECD: Final = "SK 0, CS 1, DI 2, DO 3, FWE 4:2, EE_REQ 6, EE_GNT 7, EE_PRES 8, AUTO_RD 9, EE_SIZE 11:4"
_LED: Final = (
    "LED0_MODE 0:4, LED0_IVRT 6, LED0_BLINK 7, LED1_MODE 8:4, LED1_IVRT 14, LED1_BLINK 15,"
    "LED2_MODE 16:4, LED2_IVRT 22, LED2_BLINK 23, LED3_MODE 24:4, LED3_IVRT 30, LED3_BLINK 31"
)
_MDIC: Final = "DATA 0:16, REGADD 16:5, PHYADD 21:5, OP 26:2, R 28, I 29, E 30, DESTINATION 31"
_SRRCTL: Final = "BSIZEPACKET 0:7, BSIZEHEADER 8:6, RDMTS 20:5, DESCTYPE 25:3, DROP_EN 31"
_RXDCTL: Final = "PTHRESH 0:5, HTHRESH 8:5, WTHRESH 16:5, ENABLE 25, SWFLUSH 26"
_RAH: Final = "RAH 0:16, ASEL 16:2, POOLSEL 18:8, AV 31"
_MRQC: Final = (
    "MRQ_ENABLE 0:3, DEF_Q 3:3, TCP_IPV4 16, IPV4 17, TCP_IPV6_EX 18, IPV6_EX 19, IPV6 20, TCP_IPV6 21,"
    "UDP_IPV4 22, UDP_IPV6 23, UDP_IPV6_EX 24"
)
_VMOLR: Final = (
    "RLPML 0:14, LPE 16, RSSE 17, AUPE 24, ROMPE 25, ROPE 26, BAM 27, MPE 28, STRVLAN 30, STRCRC 31"
)
_ALL_VECTORS: Final = "VECTOR 0:25"

_GENERAL: Final = (
    _reg("CTRL", 0x00000, RW, "8.2.1", "Device Control", 0x0010_0209, _CTRL),
    _reg("STATUS", 0x00008, RO, "8.2.2", "Device Status", 0, _STATUS),
    _reg("CTRL_EXT", 0x00018, RW, "8.2.3", "Extended Device Control", 0, _CTRL_EXT),
    _reg("MDIC", 0x00020, RW, "8.2.4", "MDI Control", 0, _MDIC),
    _reg("LEDCTL", 0x00E00, RW, "8.2.9", "LED Control", 0x0706_8302, _LED),
    _reg("FRTIMER", 0x01048, RW, "8.15", "Free Running Timer"),
    _reg("TCPTIMER", 0x0104C, RW, "8.15", "TCP Timer"),
    _reg("RXPBS", 0x02404, RW, "8.3", "Receive Packet Buffer Size", 0x40, "RXPBSIZE 0:7"),
    _reg("TXPBS", 0x03404, RW, "8.3", "Transmit Packet Buffer Size", 0x28),
    _reg("SWPBS", 0x03004, RW, "8.3", "Switch Packet Buffer Size", 0x14),
    _reg("EECD", 0x00010, RW, "8.4.1", "EEPROM/Flash Control", 0x0000_1310, _EECD),
    _reg("EERD", 0x00014, RW, "8.4.2", "EEPROM Read", 0, "START 0, DONE 1, ADDR 2:14, DATA 16:16"),
    _reg("EEMNGCTL", 0x01010, RW, "8.4", "Management EEPROM Control", 0x8004_0000,
         "CFG_DONE0 18, CFG_DONE1 19, DONE 31"),
    _reg("FCAL", 0x00028, RW, "8.5", "Flow Control Address Low"),
    _reg("FCAH", 0x0002C, RW, "8.5", "Flow Control Address High", 0, "FCAH 0:16"),
    _reg("FCT", 0x00030, RW, "8.5", "Flow Control Type", 0, "FCT 0:16"),
    _reg("VET", 0x00038, RW, "8.2", "VLAN Ether Type", 0x8100, "VET 0:16, VET_EXT 16:16"),
    _reg("FCTTV", 0x00170, RW, "8.5", "Flow Control Transmit Timer Value", 0, "TTV 0:16"),
    _reg("FCRTL", 0x02160, RW, "8.5", "Flow Control Receive Threshold Low", 0, "RTL 4:12, XONE 31"),
    _reg("FCRTH", 0x02168, RW, "8.5", "Flow Control Receive Threshold High", 0, "RTH 4:12"),
    _reg("FCRTV", 0x02460, RW, "8.5", "Flow Control Refresh Threshold"),
    _reg("GCR", 0x05B00, RW, "8.6", "PCIe Control", 0x0685_0200),
    _reg("SWSM", 0x05B50, RW, "8.7", "Software Semaphore", 0, "SMBI 0, SWESMBI 1"),
    _reg("FWSM", 0x05B54, RW, "8.7", "Firmware Semaphore"),
    _reg("SW_FW_SYNC", 0x05B5C, RW, "8.7", "Software Firmware Synchronization", 0, "SW 0:16, FW 16:16"),
    _reg("IOVCTL", 0x05BBC, RW, "8.14", "I/O Virtualization Control", 0, "REUSE_VFQ 0"),
    _reg("WUC", 0x05800, RW, "8.19", "Wakeup Control", 0, "APME 0, PME_EN 1, PME_STATUS 2, APMPME 3"),
    _reg("WUFC", 0x05808, RW, "8.19", "Wakeup Filter Control"),
    _reg("WUS", 0x05810, RW, "8.19", "Wakeup Status"),
    _reg("MANC", 0x05820, RW, "8.20", "Management Control"),
)  # fmt: skip

_INTERRUPT: Final = (
    _reg("ICR", 0x000C0, RC, "8.8", "Interrupt Cause; a written one clears too", 0, _CAUSES),
    _reg("ICS", 0x000C8, WO, "8.8", "Interrupt Cause Set", 0, _CAUSES),
    _reg("IMS", 0x000D0, RW, "8.8", "Interrupt Mask Set/Read", 0, _CAUSES),
    _reg("IMC", 0x000D8, WO, "8.8", "Interrupt Mask Clear", 0, _CAUSES),
    _reg("IAM", 0x000E0, RW, "8.8", "Interrupt Acknowledge Auto Mask"),
    _reg("GPIE", 0x01514, RW, "8.8", "General Purpose Interrupt Enable", 0,
         "NSICR 0, MULTIPLE_MSIX 4, LL_INTERVAL 7:5, EIAME 30, PBA_SUPPORT 31"),
    _reg("EICS", 0x01520, WO, "8.8", "Extended Interrupt Cause Set", 0, _ALL_VECTORS),
    _reg("EIMS", 0x01524, RW, "8.8", "Extended Interrupt Mask Set/Read", 0, _ALL_VECTORS),
    _reg("EIMC", 0x01528, WO, "8.8", "Extended Interrupt Mask Clear", 0, _ALL_VECTORS),
    _reg("EIAC", 0x0152C, RW, "8.8", "Extended Interrupt Auto Clear", 0, _ALL_VECTORS),
    _reg("EIAM", 0x01530, RW, "8.8", "Extended Interrupt Auto Mask", 0, _ALL_VECTORS),
    _reg("EICR", 0x01580, RC, "8.8", "Extended Interrupt Cause; a written one clears too", 0, _ALL_VECTORS),
    _reg("EITR", 0x01680, RW, "8.8", "Extended Interrupt Throttle; INTERVAL counts microseconds", 0,
         "INTERVAL 2:13, CNT_INGR 31", count=VECTORS),
    _reg("IVAR", 0x01700, RW, "8.8", "Interrupt Vector Allocation of queues n and n + 8", 0,
         "RX 0:5, RX_VALID 7, TX 8:5, TX_VALID 15, RX8 16:5, RX8_VALID 23, TX8 24:5, TX8_VALID 31", count=8),
    _reg("IVAR_MISC", 0x01740, RW, "8.8", "Interrupt Vector Allocation of other causes", 0,
         "OTHER 8:5, OTHER_VALID 15"),
    _reg("PBACL", 0x05B68, RW, "8.9", "MSI-X PBA Clear"),
)  # fmt: skip

_RECEIVE: Final = (
    _reg("RCTL", 0x00100, RW, "8.10.1", "Receive Control", 0, _RCTL),
    _reg("PSRTYPE", 0x05480, RW, "8.10.3", "Packet Split Receive Type, a pool", count=POOLS),
    _reg("RPLPSRTYPE", 0x054C0, RW, "8.10.4", "Replicated Packet Split Receive Type"),
    _reg("RXCSUM", 0x05000, RW, "8.10", "Receive Checksum Control", 0x300,
         "PCSS 0:8, IPOFLD 8, TUOFLD 9, CRCOFL 11, IPPCSE 12, PCSD 13"),
    _reg("RLPML", 0x05004, RW, "8.10", "Receive Long Packet Maximum Length", 0x2600, "RLPML 0:14"),
    _reg("RFCTL", 0x05008, RW, "8.10", "Receive Filter Control"),
    _reg("MTA", 0x05200, RW, "8.10", "Multicast Table Array", count=128),
    _reg("RAL", 0x05400, RW, "8.10", "Receive Address Low", count=16, step=8),
    _reg("RAH", 0x05404, RW, "8.10", "Receive Address High", 0, _RAH, count=16, step=8),
    _reg("RAL2", 0x054E0, RW, "8.10", "Receive Address Low, entries 16 to 23", count=8, step=8),
    _reg("RAH2", 0x054E4, RW, "8.10", "Receive Address High, entries 16 to 23", 0, _RAH, count=8, step=8),
    _reg("VFTA", 0x05600, RW, "8.10", "VLAN Filter Table Array", count=128),
    _reg("MRQC", 0x05818, RW, "8.10", "Multiple Receive Queues Command", 0, _MRQC),
    _reg("RETA", 0x05C00, RW, "8.10", "Redirection Table, four entries each", count=32),
    _reg("RSSRK", 0x05C80, RW, "8.10", "RSS Random Key", count=10),
    _reg("SYNQF", 0x055FC, RW, "8.11", "SYN Packet Queue Filter"),
    _reg("SAQF", 0x05980, RW, "8.11", "Source Address Queue Filter", count=8),
    _reg("DAQF", 0x059A0, RW, "8.11", "Destination Address Queue Filter", count=8),
    _reg("SPQF", 0x059C0, RW, "8.11", "Source Port Queue Filter", count=8),
    _reg("FTQF", 0x059E0, RW, "8.11", "Five-tuple Queue Filter", 0xF000_0000, count=8),
    _reg("ETQF", 0x05CB0, RW, "8.11", "EType Queue Filter", count=8),
    _reg("UTA", 0x0A000, RW, "8.14", "Unicast Table Array", count=128),
)  # fmt: skip

QUEUE_STEP: Final = 0x40
_RX_QUEUE: Final = (
    _reg("RDBAL", 0x0C000, RW, "8.10", "Receive Descriptor Base Address Low", 0, "RDBAL 7:25",
         QUEUES, QUEUE_STEP),
    _reg("RDBAH", 0x0C004, RW, "8.10", "Receive Descriptor Base Address High", 0, "", QUEUES, QUEUE_STEP),
    _reg("RDLEN", 0x0C008, RW, "8.10", "Receive Descriptor Length", 0, "LEN 7:13", QUEUES, QUEUE_STEP),
    _reg("SRRCTL", 0x0C00C, RW, "8.10.2", "Split and Replication Receive Control", 0x400, _SRRCTL,
         QUEUES, QUEUE_STEP),
    _reg("RDH", 0x0C010, RW, "8.10", "Receive Descriptor Head", 0, "RDH 0:16", QUEUES, QUEUE_STEP),
    _reg("DCA_RXCTRL", 0x0C014, RW, "8.13", "Receive DCA Control", 0xA200, "", QUEUES, QUEUE_STEP),
    _reg("RDT", 0x0C018, RW, "8.10", "Receive Descriptor Tail", 0, "RDT 0:16", QUEUES, QUEUE_STEP),
    _reg("RXDCTL", 0x0C028, RW, "8.10", "Receive Descriptor Control", 0x0001_0000, _RXDCTL,
         QUEUES, QUEUE_STEP),
    _reg("RQDPC", 0x0C030, RC, "8.10", "Receive Queue Drop Packet Count", 0, "RQDPC 0:12",
         QUEUES, QUEUE_STEP),
    _reg("DVMOLR", 0x0C038, RW, "8.14", "DMA VM Offload, of the pool whose first queue it is", 0,
         "HIDEVLAN 29, STRVLAN 30, STRCRC 31", POOLS, QUEUE_STEP),
)  # fmt: skip

_TRANSMIT: Final = (
    _reg("TCTL", 0x00400, RW, "8.12.1", "Transmit Control", 0xA404_00F8,
         "EN 1, PSP 3, CT 4:8, COLD 12:10, SWXOFF 22, PBE 23, RTLC 24, RRTHRESH 26:6"),
    _reg("TCTL_EXT", 0x00404, RW, "8.12", "Transmit Control Extended", 0x0001_0400, "COLD 10:10"),
    _reg("TIPG", 0x00410, RW, "8.12", "Transmit Inter Packet Gap", 0x0060_2008,
         "IPGT 0:10, IPGR1 10:10, IPGR 20:10"),
    _reg("DTXCTL", 0x03590, RW, "8.12", "DMA Transmit Control", 0x44,
         "SNAP8023 2, ADD_VLAN 3, OUT_OF_SYNC_EN 4, MALICIOUS_DETECT 5, SPOOF_INT 6"),
    _reg("RTTDQSEL", 0x03604, RW, "8.12", "Transmit Rate: Queue Select", 0, "QUEUE 0:4"),
    _reg("RTTBCNRM", 0x03690, RW, "8.12", "Transmit Rate: Memory Window"),
    _reg("RTTBCNRC", 0x036B0, RW, "8.12", "Transmit Rate of the selected queue: 1 Gb/s divided by RF", 0,
         "RF_DEC 0:14, RF_INT 14:10, RS_ENA 31"),
    _reg("TDBAL", 0x0E000, RW, "8.12", "Transmit Descriptor Base Address Low", 0, "TDBAL 7:25",
         QUEUES, QUEUE_STEP),
    _reg("TDBAH", 0x0E004, RW, "8.12", "Transmit Descriptor Base Address High", 0, "", QUEUES, QUEUE_STEP),
    _reg("TDLEN", 0x0E008, RW, "8.12", "Transmit Descriptor Length", 0, "LEN 7:13", QUEUES, QUEUE_STEP),
    _reg("TDH", 0x0E010, RW, "8.12", "Transmit Descriptor Head", 0, "TDH 0:16", QUEUES, QUEUE_STEP),
    _reg("DCA_TXCTRL", 0x0E014, RW, "8.13", "Transmit DCA Control", 0x2A00, "", QUEUES, QUEUE_STEP),
    _reg("TDT", 0x0E018, RW, "8.12", "Transmit Descriptor Tail", 0, "TDT 0:16", QUEUES, QUEUE_STEP),
    _reg("TXDCTL", 0x0E028, RW, "8.12", "Transmit Descriptor Control", 0, _RXDCTL, QUEUES, QUEUE_STEP),
    _reg("TDWBAL", 0x0E038, RW, "8.12", "Transmit Descriptor Write-back Address Low", 0, "", QUEUES,
         QUEUE_STEP),
    _reg("TDWBAH", 0x0E03C, RW, "8.12", "Transmit Descriptor Write-back Address High", 0, "", QUEUES,
         QUEUE_STEP),
)  # fmt: skip

_VIRTUALIZATION: Final = (
    _reg("VMBMEM", 0x00800, RW, "8.14", "Mailbox memory, 16 words a virtual function", count=16 * VFS_MAX),
    _reg("PFMAILBOX", 0x00C00, RW, "8.14", "Mailbox of a virtual function, the PF's side", 0,
         "STS 0, ACK 1, VFU 2, PFU 3, RVFU 4", count=VFS_MAX),
    _reg("MBVFICR", 0x00C80, W1C, "8.14", "Mailbox causes", 0, "VFREQ 0:8, VFACK 16:8"),
    _reg("MBVFIMR", 0x00C84, RW, "8.14", "Mailbox interrupt mask", 0, "VFIM 0:8"),
    _reg("VFLRE", 0x00C88, W1C, "8.14", "Function level resets of virtual functions", 0, "VFLE 0:8"),
    _reg("VFRE", 0x00C8C, RW, "8.14", "Receive enable, a pool", 0xFF, "VFRE 0:8"),
    _reg("VFTE", 0x00C90, RW, "8.14", "Transmit enable, a pool", 0xFF, "VFTE 0:8"),
    _reg("QDE", 0x02408, RW, "8.14", "Queue Drop Enable", 0, "QDE 0:16"),
    _reg("DTXSWC", 0x03500, RW, "8.14", "DMA Transmit Switch Control", 0,
         "MACAS 0:8, VLANAS 8:8, LLE 16:8, LOOPBACK_EN 31"),
    _reg("WVBR", 0x03554, RC, "8.14", "Wrong VM Behaviour: queues that sent with another's address", 0,
         "QUEUE 0:16"),
    _reg("VMVIR", 0x03700, RW, "8.14", "VLAN insertion, a pool", 0, "PORT_VLAN 0:16, VLANA 30:2",
         count=POOLS),
    _reg("VT_CTL", 0x0581C, RW, "8.14", "Next generation VMDq Control", 0,
         "DEF_PL 7:3, IGMAC 28, DIS_DEF_POOL 29, RPL_EN 30"),
    _reg("TXSWC", 0x05ACC, RW, "8.14", "Transmit Switch Control"),
    _reg("VMOLR", 0x05AD0, RW, "8.14", "VM Offload, a pool", 0x8000_2600, _VMOLR, count=POOLS),
    _reg("RPLOLR", 0x05AF0, RW, "8.14", "Replication Offload", 0x8000_0000, "STRVLAN 30, STRCRC 31"),
    _reg("VLVF", 0x05D00, RW, "8.14", "VLAN VM Filter", 0,
         "VLAN_ID 0:12, POOLSEL 12:8, LVLAN 20, VI_EN 31", count=VLVF_ENTRIES),
    _reg("VMRCTL", 0x05D80, RW, "8.14", "Mirror Rule Control", 0, "VPME 0, UPME 1, DPME 2, VLME 3, MP 8:3",
         count=MIRRORS),
    _reg("VMRVLAN", 0x05D90, RW, "8.14", "Mirror Rule: VLVF entries", count=MIRRORS),
    _reg("VMRVM", 0x05DA0, RW, "8.14", "Mirror Rule: pools", 0, "POOLS 0:8", count=MIRRORS),
)  # fmt: skip

_TIME_SYNC: Final = tuple(
    _reg(name, offset, RW, "8.16", "Time Sync")
    for name, offset in (
        ("TSYNCRXCFG", 0x05F50), ("SYSTIML", 0x0B600), ("SYSTIMH", 0x0B604), ("TIMINCA", 0x0B608),
        ("TIMADJL", 0x0B60C), ("TIMADJH", 0x0B610), ("TSYNCTXCTL", 0x0B614), ("TXSTMPL", 0x0B618),
        ("TXSTMPH", 0x0B61C), ("TSYNCRXCTL", 0x0B620), ("RXSTMPL", 0x0B624), ("RXSTMPH", 0x0B628),
        ("TSICR", 0x0B66C),
    )
)  # fmt: skip

REGISTERS: Final = RegisterMap(
    "82576", BAR_BYTES,
    *_GENERAL, *_INTERRUPT, *_RECEIVE, *_RX_QUEUE, *_TRANSMIT, *_VIRTUALIZATION, *_TIME_SYNC,
    *STATISTICS_REGISTERS,
)  # fmt: skip

RX_QUEUE_REGISTERS: Final = tuple(reg.name for reg in _RX_QUEUE)
TX_QUEUE_REGISTERS: Final = tuple(reg.name for reg in _TRANSMIT if reg.count == QUEUES)

RX_ALIAS: Final = 0x02800
TX_ALIAS: Final = 0x03800
ALIAS_STEP: Final = 0x100
RX_BLOCK: Final = REGISTERS["RDBAL"].offset
TX_BLOCK: Final = REGISTERS["TDBAL"].offset
ALIASED_QUEUES: Final = 4
"""§8.1.3: queues 0 to 3 are found at the addresses of older parts, too."""


def queue_address(offset: int) -> int:
    """Return the address that a register of queues 0 to 3 has among those of all queues; others unchanged."""
    for alias, block in ((RX_ALIAS, RX_BLOCK), (TX_ALIAS, TX_BLOCK)):
        queue, inside = divmod(offset - alias, ALIAS_STEP)
        if 0 <= queue < ALIASED_QUEUES and inside < QUEUE_STEP:
            return block + QUEUE_STEP * queue + inside
    return offset


def address_hash(mac: bytes) -> int:
    """Return the 12 bits by which MTA and UTA know an address, with RCTL.MO = 0 (§8.10)."""
    return int.from_bytes(mac, "little") >> MULTICAST_SHIFTS[0]


def field(register: str, name: str) -> Bits:
    """Return a bit field of a register by both names; KeyError where there is none."""
    return REGISTERS.field(register, name)


def mask(register: str, *names: str) -> int:
    """Return the bits of these fields, in place."""
    return REGISTERS.mask(register, *names)


MDIC_OP_WRITE: Final = 1
MDIC_OP_READ: Final = 2
PHY_ADDRESS: Final = 1
SPEED_1000: Final = 2
MRQ_NONE: Final = 0
MRQ_RSS: Final = 2
MRQ_VMDQ: Final = 3
MRQ_VMDQ_RSS: Final = 5
VLANA_BY_DESCRIPTOR: Final = 0
VLANA_ALWAYS: Final = 1
VLANA_NEVER: Final = 2
DESCTYPE_LEGACY: Final = 0
DESCTYPE_ONE_BUFFER: Final = 1
BSIZEPACKET_UNIT_BYTES: Final = 1024
BSIZEHEADER_UNIT_BYTES: Final = 64
RING_DESCRIPTORS_MULTIPLE: Final = 8
RING_DESCRIPTORS_MAX: Final = 32768
"""§7.1.8: what drivers may use of RDLEN and TDLEN, which count in 128 bytes."""
EITR_UNIT_NS: Final = 1000
LINK_BITS_PER_SECOND: Final = 1_000_000_000
RATE_FRACTION_BITS: Final = 14
"""RTTBCNRC: a rate is the link's divided by RF_INT + RF_DEC / 2**14."""
TABLE_ENTRIES: Final = 4096
"""MTA, UTA, VFTA: bits."""
MULTICAST_SHIFTS: Final = (36, 35, 34, 32)
"""RCTL.MO: which 12 bits of a destination address, as a 48-bit number with its last byte highest."""
