"""The 82576 declarations against numbers typed a second time from Intel's datasheet (320961)."""

import pytest

from testbed.spec import igb, igb_mailbox, igb_phy, igb_statistics, igb_vf
from testbed.spec.layout import Access, RegisterMap

# Register summary (§8.1.3): offset (families: first-last), name, access.
SUMMARY = """
00000h CTRL R/W | 00008h STATUS R | 00018h CTRL_EXT R/W | 00020h MDIC R/W | 00028h FCAL R/W | 0002Ch FCAH R/W
00030h FCT R/W | 00038h VET R/W | 00E00h LEDCTL R/W | 00010h EECD R/W | 00014h EERD R/W | 01010h EEMNGCTL R/W
00170h FCTTV R/W | 02160h FCRTL R/W | 02168h FCRTH R/W | 02460h FCRTV R/W | 02404h RXPBS R/W
03404h TXPBS R/W
03004h SWPBS R/W | 01048h FRTIMER R/W | 0104Ch TCPTIMER R/W | 05B00h GCR R/W | 05B50h SWSM R/W
05B54h FWSM R/W
05B5Ch SW_FW_SYNC R/W | 05BBCh IOVCTL R/W | 05800h WUC R/W | 05808h WUFC R/W | 05810h WUS R/W
05820h MANC R/W
000C0h ICR R | 000C8h ICS W | 000D0h IMS R/W | 000D8h IMC W | 000E0h IAM R/W | 01514h GPIE R/W | 01520h EICS W
01524h EIMS R/W | 01528h EIMC W | 0152Ch EIAC R/W | 01530h EIAM R/W | 01580h EICR R | 01680h-016E0h EITR R/W
01700h-0171Ch IVAR R/W | 01740h IVAR_MISC R/W | 05B68h PBACL R/W | 00100h RCTL R/W | 05480h-0549Ch PSRTYPE R/W
054C0h RPLPSRTYPE R/W | 05000h RXCSUM R/W | 05004h RLPML R/W | 05008h RFCTL R/W | 05200h-053FCh MTA R/W
05400h-05478h RAL R/W | 05404h-0547Ch RAH R/W | 054E0h-05518h RAL2 R/W | 054E4h-0551Ch RAH2 R/W
05600h-057FCh VFTA R/W | 05818h MRQC R/W | 05C00h-05C7Ch RETA R/W | 05C80h-05CA4h RSSRK R/W | 055FCh SYNQF R/W
05980h-0599Ch SAQF R/W | 059A0h-059BCh DAQF R/W | 059C0h-059DCh SPQF R/W | 059E0h-059FCh FTQF R/W
05CB0h-05CCCh ETQF R/W | 0A000h-0A1FCh UTA R/W | 0C000h-0C3C0h RDBAL R/W | 0C004h-0C3C4h RDBAH R/W
0C008h-0C3C8h RDLEN R/W | 0C00Ch-0C3CCh SRRCTL R/W | 0C010h-0C3D0h RDH R/W | 0C014h-0C3D4h DCA_RXCTRL R/W
0C018h-0C3D8h RDT R/W | 0C028h-0C3E8h RXDCTL R/W | 0C030h-0C3F0h RQDPC R | 0C038h-0C1F8h DVMOLR R/W
00400h TCTL R/W | 00404h TCTL_EXT R/W | 00410h TIPG R/W | 03590h DTXCTL R/W | 03604h RTTDQSEL R/W
03690h RTTBCNRM R/W | 036B0h RTTBCNRC R/W | 0E000h-0E3C0h TDBAL R/W | 0E004h-0E3C4h TDBAH R/W
0E008h-0E3C8h TDLEN R/W | 0E010h-0E3D0h TDH R/W | 0E014h-0E3D4h DCA_TXCTRL R/W | 0E018h-0E3D8h TDT R/W
0E028h-0E3E8h TXDCTL R/W | 0E038h-0E3F8h TDWBAL R/W | 0E03Ch-0E3FCh TDWBAH R/W | 00800h-009FCh VMBMEM R/W
00C00h-00C1Ch PFMAILBOX R/W | 00C80h MBVFICR R/W1C | 00C84h MBVFIMR R/W | 00C88h VFLRE R/W1C | 00C8Ch VFRE R/W
00C90h VFTE R/W | 02408h QDE R/W | 03500h DTXSWC R/W | 03554h WVBR R | 03700h-0371Ch VMVIR R/W
0581Ch VT_CTL R/W | 05ACCh TXSWC R/W | 05AD0h-05AECh VMOLR R/W | 05AF0h RPLOLR R/W | 05D00h-05D7Ch VLVF R/W
05D80h-05D8Ch VMRCTL R/W | 05D90h-05D9Ch VMRVLAN R/W | 05DA0h-05DACh VMRVM R/W | 05F50h TSYNCRXCFG R/W
0B600h SYSTIML R/W | 0B604h SYSTIMH R/W | 0B608h TIMINCA R/W | 0B60Ch TIMADJL R/W | 0B610h TIMADJH R/W
0B614h TSYNCTXCTL R/W | 0B618h TXSTMPL R/W | 0B61Ch TXSTMPH R/W | 0B620h TSYNCRXCTL R/W | 0B624h RXSTMPL R/W
0B628h RXSTMPH R/W | 0B66Ch TSICR R/W
"""
STATISTICS = """
04000h CRCERRS | 04004h ALGNERRC | 04008h SYMERRS | 0400Ch RXERRC | 04010h MPC | 04014h SCC | 04018h ECOL
0401Ch MCC | 04020h LATECOL | 04028h COLC | 0402Ch CBTMPC | 04030h DC | 04034h TNCRS | 04038h SEC
0403Ch HTDPMC
04040h RLEC | 04048h XONRXC | 0404Ch XONTXC | 04050h XOFFRXC | 04054h XOFFTXC | 04058h FCRUC | 0405Ch PRC64
04060h PRC127 | 04064h PRC255 | 04068h PRC511 | 0406Ch PRC1023 | 04070h PRC1522 | 04074h GPRC | 04078h BPRC
0407Ch MPRC | 04080h GPTC | 04088h GORCL | 0408Ch GORCH | 04090h GOTCL | 04094h GOTCH | 040A0h RNBC
040A4h RUC
040A8h RFC | 040ACh ROC | 040B0h RJC | 040B4h MNGPRC | 040B8h MPDC | 040BCh MNGPTC | 040C0h TORL | 040C4h TORH
040C8h TOTL | 040CCh TOTH | 040D0h TPR | 040D4h TPT | 040D8h PTC64 | 040DCh PTC127 | 040E0h PTC255
040E4h PTC511
040E8h PTC1023 | 040ECh PTC1522 | 040F0h MPTC | 040F4h BPTC | 040F8h TSCTC | 040FCh CBRMPC | 04100h IAC
04104h RPTHC | 04108h DBGC1 | 0410Ch DBGC2 | 04110h DBGC3 | 04118h HGPTC | 0411Ch DBGC4 | 04120h RXDMTC
04124h HTCBDPC | 04128h HGORCL | 0412Ch HGORCH | 04130h HGOTCL | 04134h HGOTCH | 04138h LENERRS | 041A0h SSVPC
041A4h SDPC
"""
# §8.26, the registers of a virtual function.
VF_SUMMARY = """
0000h VTCTRL W | 0008h VTSTATUS R | 1048h VTFRTIMER R | 0800h-083Ch VMBMEM R/W | 0C40h VFMAILBOX R/W
0F0Ch VFPSRTYPE R/W | 1520h VTEICS W | 1524h VTEIMS R/W | 1528h VTEIMC W | 152Ch VTEIAC R/W | 1530h VTEIAM R/W
1580h VTEICR R | 1680h-1688h VTEITR R/W | 1700h VTIVAR R/W | 1740h VTIVAR_MISC R/W | 0F10h VFGPRC R
0F14h VFGPTC R | 0F18h VFGORC R | 0F34h VFGOTC R | 0F3Ch VFMPRC R | 0F40h VFGPRLBC R | 0F44h VFGPTLBC R
0F48h VFGORLBC R | 0F50h VFGOTLBC R | 2800h-2900h RDBAL R/W | 2804h-2904h RDBAH R/W | 2808h-2908h RDLEN R/W
280Ch-290Ch SRRCTL R/W | 2810h-2910h RDH R/W | 2814h-2914h DCA_RXCTRL R/W | 2818h-2918h RDT R/W
2828h-2928h RXDCTL R/W | 2830h-2930h RQDPC R | 3800h-3900h TDBAL R/W | 3804h-3904h TDBAH R/W
3808h-3908h TDLEN R/W | 3810h-3910h TDH R/W | 3814h-3914h DCA_TXCTRL R/W | 3818h-3918h TDT R/W
3828h-3928h TXDCTL R/W | 3838h-3938h TDWBAL R/W | 383Ch-393Ch TDWBAH R/W
"""
KINDS = {"R/W": {Access.RW}, "R": {Access.RO, Access.RC}, "W": {Access.WO}, "R/W1C": {Access.W1C}}


def cells(text: str) -> list[tuple[str, ...]]:
    return [tuple(cell.split()) for line in text.split("\n") for cell in line.split("|") if cell.strip()]


def place(registers: RegisterMap, name: str) -> tuple[int, int]:
    reg = registers[name]
    return reg.at(0), reg.at(reg.count - 1)


def numbers(text: str) -> tuple[int, int]:
    first, _, last = text.replace("h", "").partition("-")
    return int(first, 16), int(last or first, 16)


@pytest.mark.parametrize("row", cells(SUMMARY), ids=lambda row: row[1])
def test_offset_and_access_of_a_register(row: tuple[str, str, str]) -> None:
    where, name, kind = row
    assert place(igb.REGISTERS, name) == numbers(where)
    assert igb.REGISTERS[name].access in KINDS[kind]


@pytest.mark.parametrize("row", cells(VF_SUMMARY), ids=lambda row: row[1])
def test_offset_and_access_of_a_vf_register(row: tuple[str, str, str]) -> None:
    where, name, kind = row
    assert place(igb_vf.REGISTERS, name) == numbers(where)
    assert igb_vf.REGISTERS[name].access in KINDS[kind]


@pytest.mark.parametrize("row", cells(STATISTICS), ids=lambda row: row[1])
def test_offset_of_a_statistic_that_a_read_clears(row: tuple[str, str]) -> None:
    where, name = row
    assert (place(igb.REGISTERS, name), igb.REGISTERS[name].access) == (numbers(where), Access.RC)


def test_no_register_is_outside_the_tables() -> None:
    named = {row[1] for row in cells(SUMMARY) + cells(STATISTICS)}
    assert {reg.name for reg in igb.REGISTERS.registers} == named
    assert {reg.name for reg in igb_vf.REGISTERS.registers} == {row[1] for row in cells(VF_SUMMARY)}


# Initial values: those that the datasheet prints or that a driver met after a reset.
INITIAL = {
    "CTRL": 0x00100209, "CTRL_EXT": 0, "LEDCTL": 0x07068302, "RXPBS": 0x40, "TXPBS": 0x28, "SWPBS": 0x14,
    "EECD": 0x1310, "RXCSUM": 0x300, "TCTL": 0xA40400F8, "RXDCTL": 0x10000, "TXDCTL": 0, "SRRCTL": 0x400,
    "DTXCTL": 0x44, "VMOLR": 0x80002600, "RPLOLR": 0x80000000, "VFRE": 0xFF, "VFTE": 0xFF, "DTXSWC": 0,
    "VT_CTL": 0, "MRQC": 0, "RCTL": 0, "EIMS": 0, "EIAC": 0, "EIAM": 0, "GPIE": 0, "DCA_TXCTRL": 0x2A00,
    "DCA_RXCTRL": 0xA200, "GCR": 0x06850200, "FTQF": 0xF0000000,
    "EEMNGCTL": 0x80040000, "VET": 0x8100, "RLPML": 0x2600, "TCTL_EXT": 0x10400, "TIPG": 0x602008,
}  # fmt: skip


@pytest.mark.parametrize("name", INITIAL)
def test_initial_value(name: str) -> None:
    assert igb.REGISTERS[name].reset == INITIAL[name]


def test_every_other_initial_value_is_zero() -> None:
    assert {reg.name for reg in igb.REGISTERS.registers if reg.reset} <= set(INITIAL)


# (register, field, lowest bit, width)
FIELDS = """
CTRL FD 0 1|CTRL SLU 6 1|CTRL SPEED 8 2|CTRL FRCSPD 11 1|CTRL FRCDPLX 12 1|CTRL RST 26 1|CTRL RFCE 27 1
CTRL TFCE 28 1|CTRL VME 30 1|CTRL PHY_RST 31 1|STATUS FD 0 1|STATUS LU 1 1|STATUS LAN_ID 2 2|STATUS SPEED 6 2
STATUS PHYRA 10 1|STATUS NUM_VFS 14 4|STATUS IOV_MODE 18 1|STATUS GIO_MASTER_ENABLE 19 1
STATUS DMA_CLOCK_GATING 31 1|CTRL_EXT PFRSTD 14 1|CTRL_EXT LINK_MODE 22 2|CTRL_EXT DRV_LOAD 28 1
CTRL_EXT EIAME 24 1|EECD AUTO_RD 9 1|EECD EE_SIZE 11 4|EERD START 0 1|EERD DONE 1 1|EERD ADDR 2 14
EERD DATA 16 16
MDIC DATA 0 16|MDIC REGADD 16 5|MDIC PHYADD 21 5|MDIC OP 26 2|MDIC R 28 1|MDIC E 30 1|EEMNGCTL CFG_DONE0 18 1
ICR TXDW 0 1|ICR LSC 2 1|ICR RXDMT0 4 1|ICR RX_MISS 6 1|ICR RXDW 7 1|ICR SWMB 8 1|ICR DOUTSYNC 28 1
ICR DRSTA 30 1|ICR INTA 31 1|GPIE NSICR 0 1|GPIE MULTIPLE_MSIX 4 1|GPIE EIAME 30 1|GPIE PBA_SUPPORT 31 1
EITR INTERVAL 2 13|EITR CNT_INGR 31 1|IVAR RX 0 5|IVAR RX_VALID 7 1|IVAR TX 8 5|IVAR TX_VALID 15 1
IVAR RX8 16 5
IVAR TX8 24 5|IVAR TX8_VALID 31 1|IVAR_MISC OTHER 8 5|IVAR_MISC OTHER_VALID 15 1|RCTL EN 1 1|RCTL SBP 2 1
RCTL UPE 3 1|RCTL MPE 4 1|RCTL LPE 5 1|RCTL MO 12 2|RCTL BAM 15 1|RCTL VFE 18 1|RCTL SECRC 26 1|TCTL EN 1 1
TCTL PSP 3 1|RXDCTL WTHRESH 16 5|RXDCTL ENABLE 25 1|TXDCTL ENABLE 25 1|TXDCTL SWFLUSH 26 1
SRRCTL BSIZEPACKET 0 7|SRRCTL BSIZEHEADER 8 6|SRRCTL DESCTYPE 25 3|SRRCTL DROP_EN 31 1|RAH POOLSEL 18 8
RAH AV 31 1|RAH ASEL 16 2|MRQC MRQ_ENABLE 0 3|MRQC DEF_Q 3 3|MRQC TCP_IPV4 16 1|MRQC IPV4 17 1|MRQC IPV6 20 1
MRQC TCP_IPV6 21 1|MRQC UDP_IPV4 22 1|MRQC UDP_IPV6 23 1|PFMAILBOX STS 0 1|PFMAILBOX ACK 1 1|PFMAILBOX VFU 2 1
PFMAILBOX PFU 3 1|PFMAILBOX RVFU 4 1|MBVFICR VFREQ 0 8|MBVFICR VFACK 16 8|MBVFIMR VFIM 0 8|DTXSWC MACAS 0 8
DTXSWC VLANAS 8 8|DTXSWC LLE 16 8|DTXSWC LOOPBACK_EN 31 1|VMVIR PORT_VLAN 0 16|VMVIR VLANA 30 2
VT_CTL DEF_PL 7 3
VT_CTL IGMAC 28 1|VT_CTL DIS_DEF_POOL 29 1|VT_CTL RPL_EN 30 1|VMOLR RLPML 0 14|VMOLR LPE 16 1|VMOLR RSSE 17 1
VMOLR AUPE 24 1|VMOLR ROMPE 25 1|VMOLR ROPE 26 1|VMOLR BAM 27 1|VMOLR MPE 28 1|VMOLR STRVLAN 30 1
VMOLR STRCRC 31 1|VLVF VLAN_ID 0 12|VLVF POOLSEL 12 8|VLVF LVLAN 20 1|VLVF VI_EN 31 1|RTTBCNRC RF_DEC 0 14
RTTBCNRC RF_INT 14 10|RTTBCNRC RS_ENA 31 1|DVMOLR HIDEVLAN 29 1|RDLEN LEN 7 13|TDLEN LEN 7 13
VMRCTL VPME 0 1|VMRCTL UPME 1 1|VMRCTL DPME 2 1|VMRCTL VLME 3 1|VMRCTL MP 8 3|RXCSUM PCSS 0 8
RXCSUM IPOFLD 8 1
RXCSUM TUOFLD 9 1|RXCSUM CRCOFL 11 1|RXCSUM IPPCSE 12 1|RXCSUM PCSD 13 1|RCTL LBM 6 2|RCTL BSIZE 16 2
RCTL CFIEN 19 1|RCTL CFI 20 1|RCTL DPF 22 1|RCTL PMCF 23 1|SRRCTL RDMTS 20 5|RXDCTL PTHRESH 0 5
RXDCTL HTHRESH 8 5|TXDCTL PTHRESH 0 5|TXDCTL HTHRESH 8 5|FCRTL XONE 31 1|TIPG IPGT 0 10|TIPG IPGR1 10 10
TIPG IPGR 20 10|TCTL COLD 12 10|SWSM SMBI 0 1|SWSM SWESMBI 1 1|EECD SK 0 1|EECD DI 2 1|EECD DO 3 1
EECD EE_REQ 6 1
EECD EE_GNT 7 1|EECD EE_PRES 8 1|WVBR QUEUE 0 16|VFLRE VFLE 0 8
CTRL GIO_MASTER_DISABLE 2 1|CTRL RSV3 3 1|CTRL ILOS 7 1|CTRL SDP0_DATA 18 1|CTRL SDP1_DATA 19 1
CTRL ADVD3WUC 20 1
CTRL SDP0_IODIR 22 1|CTRL SDP1_IODIR 23 1|STATUS TXOFF 4 1|STATUS ASDV 8 2|STATUS DEV_RST_SET 20 1
CTRL_EXT PHYINT_EN 1 1|CTRL_EXT SDP2_GPIEN 2 1|CTRL_EXT SDP3_GPIEN 3 1|CTRL_EXT SDP2_DATA 6 1
CTRL_EXT SDP3_DATA 7 1|CTRL_EXT SDP2_IODIR 10 1|CTRL_EXT SDP3_IODIR 11 1|CTRL_EXT ASDCHK 12 1
CTRL_EXT EE_RST 13 1
CTRL_EXT SPD_BYPS 15 1|CTRL_EXT RO_DIS 17 1|CTRL_EXT SERDES_LOW_POWER 18 1|CTRL_EXT I2C_ENABLE 25 1
CTRL_EXT EXT_VLAN 26 1|CTRL_EXT IAME 27 1|MDIC I 29 1|MDIC DESTINATION 31 1
LEDCTL LED0_MODE 0 4|LEDCTL LED0_IVRT 6 1|LEDCTL LED0_BLINK 7 1|LEDCTL LED1_MODE 8 4|LEDCTL LED1_IVRT 14 1
LEDCTL LED1_BLINK 15 1|LEDCTL LED2_MODE 16 4|LEDCTL LED2_IVRT 22 1|LEDCTL LED2_BLINK 23 1
LEDCTL LED3_MODE 24 4
LEDCTL LED3_IVRT 30 1|LEDCTL LED3_BLINK 31 1|RXPBS RXPBSIZE 0 7|EECD CS 1 1|EECD FWE 4 2
EEMNGCTL CFG_DONE1 19 1|EEMNGCTL DONE 31 1|FCAH FCAH 0 16|FCT FCT 0 16|VET VET 0 16|VET VET_EXT 16 16
FCTTV TTV 0 16|FCRTL RTL 4 12|FCRTH RTH 4 12|SW_FW_SYNC SW 0 16|SW_FW_SYNC FW 16 16|IOVCTL REUSE_VFQ 0 1
WUC APME 0 1|WUC PME_EN 1 1|WUC PME_STATUS 2 1|WUC APMPME 3 1|GPIE LL_INTERVAL 7 5|EICS VECTOR 0 25
EIMS VECTOR 0 25|EIMC VECTOR 0 25|EIAC VECTOR 0 25|EIAM VECTOR 0 25|EICR VECTOR 0 25|IVAR RX8_VALID 23 1
RLPML RLPML 0 14|RAH RAH 0 16|RAH2 RAH 0 16|RAH2 ASEL 16 2|RAH2 POOLSEL 18 8|RAH2 AV 31 1
MRQC TCP_IPV6_EX 18 1
MRQC IPV6_EX 19 1|MRQC UDP_IPV6_EX 24 1|RDBAL RDBAL 7 25|RDH RDH 0 16|RDT RDT 0 16|RXDCTL SWFLUSH 26 1
RQDPC RQDPC 0 12|DVMOLR STRVLAN 30 1|DVMOLR STRCRC 31 1|TCTL CT 4 8|TCTL SWXOFF 22 1|TCTL PBE 23 1
TCTL RTLC 24 1
TCTL RRTHRESH 26 6|TCTL_EXT COLD 10 10|DTXCTL SNAP8023 2 1|DTXCTL ADD_VLAN 3 1|DTXCTL OUT_OF_SYNC_EN 4 1
DTXCTL MALICIOUS_DETECT 5 1|DTXCTL SPOOF_INT 6 1|RTTDQSEL QUEUE 0 4|TDBAL TDBAL 7 25|TDH TDH 0 16|TDT TDT 0 16
TXDCTL WTHRESH 16 5|VFRE VFRE 0 8|VFTE VFTE 0 8|QDE QDE 0 16|RPLOLR STRVLAN 30 1|RPLOLR STRCRC 31 1
VMRVM POOLS 0 8
"""
# The causes of ICR, which ICS, IMS and IMC have in the same places.
CAUSES = {
    "TXDW": 0, "LSC": 2, "RXDMT0": 4, "MACSEC": 5, "RX_MISS": 6, "RXDW": 7, "SWMB": 8, "GPI_SDP0": 11,
    "GPI_SDP1": 12, "GPI_SDP2": 13, "GPI_SDP3": 14, "PTRAP": 15, "MNG": 18, "TIME_SYNC": 19, "OMED": 20,
    "FER": 22, "NFER": 23, "CSRTO": 24, "SCE": 25, "SW_WD": 26, "DOUTSYNC": 28, "DRSTA": 30, "INTA": 31,
}  # fmt: skip
PHY_FIELDS = """
PCTRL RESTART_AN 9 1|PCTRL ISOLATE 10 1|PCTRL POWER_DOWN 11 1|PCTRL AN_ENABLE 12 1|PCTRL LOOPBACK 14 1
PCTRL RESET 15 1|PSTATUS LINK 2 1|PSTATUS AN_COMPLETE 5 1
"""
VF_FIELDS = """
VTCTRL RST 26 1|VFMAILBOX REQ 0 1|VFMAILBOX ACK 1 1|VFMAILBOX VFU 2 1|VFMAILBOX PFU 3 1|VFMAILBOX PFSTS 4 1
VFMAILBOX PFACK 5 1|VFMAILBOX RSTI 6 1|VFMAILBOX RSTD 7 1|VTIVAR RX 0 2|VTIVAR RX_VALID 7 1|VTIVAR TX 8 2
VTIVAR TX_VALID 15 1|VTIVAR RX1 16 2|VTIVAR TX1 24 2|VTIVAR_MISC MAILBOX 0 2|VTIVAR_MISC MAILBOX_VALID 7 1
VTEIMS VECTOR 0 3|VTEITR INTERVAL 2 13|VTEITR CNT_INGR 31 1|VTEICS VECTOR 0 3|VTEIMC VECTOR 0 3
VTEIAC VECTOR 0 3
VTEIAM VECTOR 0 3|VTEICR VECTOR 0 3|VTIVAR RX1_VALID 23 1|VTIVAR TX1_VALID 31 1
"""


@pytest.mark.parametrize("row", cells(FIELDS), ids=lambda row: "-".join(row[:2]))
def test_bit_field(row: tuple[str, str, str, str]) -> None:
    bits = igb.field(row[0], row[1])
    assert (bits.lsb, bits.width) == (int(row[2]), int(row[3]))


@pytest.mark.parametrize("row", cells(VF_FIELDS), ids=lambda row: "-".join(row[:2]))
def test_vf_bit_field(row: tuple[str, str, str, str]) -> None:
    bits = igb_vf.REGISTERS.field(row[0], row[1])
    assert (bits.lsb, bits.width) == (int(row[2]), int(row[3]))


@pytest.mark.parametrize("register", ["ICR", "ICS", "IMS", "IMC"])
def test_causes_of_interrupts(register: str) -> None:
    declared = igb.REGISTERS[register].bits
    assert {bits.name: (bits.lsb, bits.width) for bits in declared} == {
        name: (lsb, 1) for name, lsb in CAUSES.items()
    }


@pytest.mark.parametrize("row", cells(PHY_FIELDS), ids=lambda row: "-".join(row[:2]))
def test_phy_bit_field(row: tuple[str, str, str, str]) -> None:
    bits = igb_phy.REGISTERS.field(row[0], row[1])
    assert (bits.lsb, bits.width) == (int(row[2]), int(row[3]))


def test_queue_registers_of_a_vf_have_the_fields_of_the_device() -> None:
    own = {reg.name for reg in igb_vf.QUEUE_REGISTERS}
    rows = [row for row in cells(FIELDS) if row[0] in own]
    fields = [igb_vf.REGISTERS.field(register, name) for register, name, _, _ in rows]
    assert [(bits.lsb, bits.width) for bits in fields] == [
        (int(lsb), int(width)) for _, _, lsb, width in rows
    ]


def fields_of(registers: RegisterMap) -> set[tuple[str, str]]:
    return {(reg.name, bits.name) for reg in registers.registers for bits in reg.bits}


def test_no_field_is_outside_the_tables() -> None:
    typed = {(register, name) for register, name, _, _ in cells(FIELDS)}
    causes = {(register, name) for register in ("ICR", "ICS", "IMS", "IMC") for name in CAUSES}
    queue = {reg.name for reg in igb_vf.QUEUE_REGISTERS}
    vf = {(row[0], row[1]) for row in cells(VF_FIELDS)} | {row for row in typed if row[0] in queue}
    assert fields_of(igb.REGISTERS) == typed | causes
    assert fields_of(igb_vf.REGISTERS) == vf
    assert fields_of(igb_phy.REGISTERS) == {(row[0], row[1]) for row in cells(PHY_FIELDS)}


@pytest.mark.parametrize(
    ("alias", "own"),
    [(0x2800, 0xC000), (0x2A18, 0xC098), (0x2B28, 0xC0E8), (0x3818, 0xE018), (0x3B38, 0xE0F8)],
)
def test_queue_register_at_its_older_address(alias: int, own: int) -> None:
    assert igb.queue_address(alias) == own


@pytest.mark.parametrize("offset", [0x27FC, 0x2840, 0x2C00, 0x37FC, 0x3C18, 0xC018, 0x0])
def test_other_addresses_stand_for_themselves(offset: int) -> None:
    assert igb.queue_address(offset) == offset


def test_vectors_and_queues_of_virtual_functions() -> None:
    # As Linux finds them in EIAC: VF 0 has bits 22 to 24, VF 1 19 to 21, VF 7 1 to 3 (§7.3.3).
    assert [igb.vf_vector(0, n) for n in range(3)] == [22, 23, 24]
    assert (igb.vf_vector(1, 0), igb.vf_vector(7, 0)) == (19, 1)
    assert [igb.vf_queue(3, n) for n in range(2)] == [3, 11]


def test_identity_and_sizes() -> None:
    assert (igb.VENDOR_ID, igb.DEVICE_ID, igb.VF_DEVICE_ID) == (0x8086, 0x10C9, 0x10CA)
    assert (igb.BAR_BYTES, igb.MSIX_BAR_BYTES, igb_vf.BAR_BYTES, igb.IO_BAR_BYTES) == (
        131072,
        16384,
        16384,
        32,
    )
    assert (igb.VFS_MAX, igb.QUEUES, igb.VECTORS, igb.MSIX_VECTORS) == (8, 16, 25, 10)
    assert (igb.POOLS, igb.VF_QUEUES, igb.VF_VECTORS, igb.VLVF_ENTRIES, igb.MIRRORS) == (8, 2, 3, 32, 4)


def test_encodings() -> None:
    assert (igb.MRQ_NONE, igb.MRQ_RSS, igb.MRQ_VMDQ, igb.MRQ_VMDQ_RSS) == (0, 2, 3, 5)
    assert (igb.DESCTYPE_LEGACY, igb.DESCTYPE_ONE_BUFFER) == (0, 1)
    assert (igb.VLANA_BY_DESCRIPTOR, igb.VLANA_ALWAYS, igb.VLANA_NEVER) == (0, 1, 2)
    assert (igb.MDIC_OP_WRITE, igb.MDIC_OP_READ, igb.PHY_ADDRESS, igb.SPEED_1000) == (1, 2, 1, 2)
    assert (igb.RING_DESCRIPTORS_MULTIPLE, igb.RATE_FRACTION_BITS, igb.LINK_BITS_PER_SECOND) == (8, 14, 10**9)


def test_mailbox_words() -> None:
    # As recorded between igb and igbvf: VF_RESET|ACK, SET_MULTICAST(count 5)|ACK|CTS, SET_LPE, PF_CONTROL.
    assert igb_mailbox.RESET | igb_mailbox.ACK == 0x80000001
    answer = igb_mailbox.SET_MULTICAST | igb_mailbox.INFO.put(5) | igb_mailbox.ACK | igb_mailbox.CTS
    assert answer == 0xA0050003
    assert igb_mailbox.SET_MAC_ADDR | igb_mailbox.INFO.put(igb_mailbox.MAC_FILTER_CLEAR) == 0x00010002
    assert igb_mailbox.SET_VLAN | igb_mailbox.INFO.put(igb_mailbox.VLAN_ADD) == 0x00010004
    assert (igb_mailbox.SET_LPE, igb_mailbox.SET_PROMISC, igb_mailbox.PF_CONTROL) == (5, 6, 0x100)
    assert (igb_mailbox.NACK, igb_mailbox.WORDS) == (0x40000000, 16)


def test_statistics_images_have_a_word_for_every_count() -> None:
    assert (len(igb_statistics.STATISTICS_NAMES), len(igb_statistics.STATISTICS.fields)) == (75, 69)
    assert len(igb_statistics.VF_STATISTICS.fields) == 9
