"""The e1000 declarations against numbers typed a second time from Intel's 8254x manual (317453-006)."""

import pytest

from testbed.spec import e1000, e1000_eeprom, e1000_phy, e1000_ring
from testbed.spec.layout import Access

# Table 13-2, columns Offset, Abbreviation, R/W, in the order printed; families as first-last offset.
TABLE_13_2 = """
00000h CTRL R/W | 00008h STATUS R | 00010h EECD R/W | 00014h EERD R/W | 00018h CTRL_EXT R/W | 00020h MDIC R/W
00028h FCAL R/W | 0002Ch FCAH R/W | 00030h FCT R/W | 00038h VET R/W | 00170h FCTTV R/W | 00E00h LEDCTL R/W
01000h PBA R/W | 000C0h ICR R | 000C4h ITR R/W | 000C8h ICS W | 000D0h IMS R/W | 000D8h IMC W
00100h RCTL R/W | 02160h FCRTL R/W | 02168h FCRTH R/W | 02800h RDBAL R/W | 02804h RDBAH R/W | 02808h RDLEN R/W
02810h RDH R/W | 02818h RDT R/W | 02820h RDTR R/W | 0282Ch RADV R/W | 02C00h RSRPD R/W | 00400h TCTL R/W
00410h TIPG R/W | 00458h AIFS R/W | 03800h TDBAL R/W | 03804h TDBAH R/W | 03808h TDLEN R/W | 03810h TDH R/W
03818h TDT R/W | 03820h TIDV R/W | 03828h TXDCTL R/W | 0382Ch TADV R/W | 03830h TSPMT R/W | 02828h RXDCTL R/W
05000h RXCSUM R/W | 05200h-053FCh MTA R/W | 05400h-05478h RAL R/W | 05404h-0547Ch RAH R/W
05600h-057FCh VFTA R/W | 05800h WUC R/W | 05808h WUFC R/W | 05810h WUS R | 05838h IPAV R/W
05840h-05858h IP4AT R/W | 05880h-0588Ch IP6AT R/W | 05900h WUPL R/W | 05A00h-05A7Ch WUPM R/W
05F00h-05F18h FFLT R/W | 09000h-093F8h FFMT R/W | 09800h-09BF8h FFVT R/W
04000h CRCERRS R | 04004h ALGNERRC R | 04008h SYMERRS R | 0400Ch RXERRC R | 04010h MPC R | 04014h SCC R
04018h ECOL R | 0401Ch MCC R | 04020h LATECOL R | 04028h COLC R | 04030h DC R | 04034h TNCRS R | 04038h SEC R
0403Ch CEXTERR R | 04040h RLEC R | 04048h XONRXC R | 0404Ch XONTXC R | 04050h XOFFRXC R | 04054h XOFFTXC R
04058h FCRUC R | 0405Ch PRC64 R | 04060h PRC127 R | 04064h PRC255 R | 04068h PRC511 R | 0406Ch PRC1023 R
04070h PRC1522 R | 04074h GPRC R | 04078h BPRC R | 0407Ch MPRC R | 04080h GPTC R | 04088h GORCL R
0408Ch GORCH R | 04090h GOTCL R | 04094h GOTCH R | 040A0h RNBC R | 040A4h RUC R | 040A8h RFC R | 040ACh ROC R
040B0h RJC R | 040B4h MGTPRC R | 040B8h MGTPDC R | 040BCh MGTPTC R | 040C0h TORL R | 040C4h TORH R
040C8h TOTL R | 040CCh TOTH R | 040D0h TPR R | 040D4h TPT R | 040D8h PTC64 R | 040DCh PTC127 R
040E0h PTC255 R | 040E4h PTC511 R | 040E8h PTC1023 R | 040ECh PTC1522 R | 040F0h MPTC R | 040F4h BPTC R
040F8h TSCTC R | 040FCh TSCTFC R | 02410h RDFH R/W | 02418h RDFT R/W | 02420h RDFHS R/W | 02428h RDFTS R/W
02430h RDFPC R/W | 03410h TDFH R/W | 03418h TDFT R/W | 03420h TDFHS R/W | 03428h TDFTS R/W | 03430h TDFPC R/W
10000h-1FFFCh PBM R/W
"""
ROWS = [tuple(cell.split()) for line in TABLE_13_2.split("\n") for cell in line.split("|") if cell.strip()]
KINDS = {"R/W": {Access.RW}, "R": {Access.RO, Access.RC}, "W": {Access.WO}}


@pytest.mark.parametrize(("place", "name", "kind"), ROWS, ids=[row[1] for row in ROWS])
def test_offset_and_access_of_a_register(place: str, name: str, kind: str) -> None:
    first, _, last = place.replace("h", "").partition("-")
    reg = e1000.REGISTERS[name]
    assert (reg.at(0), reg.at(reg.count - 1)) == (int(first, 16), int(last or first, 16))
    assert reg.access in KINDS[kind]


def test_no_register_but_manc_is_outside_the_table() -> None:
    assert {reg.name for reg in e1000.REGISTERS.registers} - {row[1] for row in ROWS} == {"MANC"}


# Initial values from the bit description tables of §13.4, those that no EEPROM word sets.
INITIAL = {
    "EECD": 0x110, "CTRL_EXT": 0x100, "LEDCTL": 0x07068302, "PBA": 0x00100030, "RXDCTL": 0x01010000,
    "TXDCTL": 0, "TSPMT": 0x01000400, "RCTL": 0, "TCTL": 0, "ITR": 0, "RXCSUM": 0, "RDLEN": 0, "TDH": 0,
    "WUC": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", INITIAL)
def test_initial_value(name: str) -> None:
    assert e1000.REGISTERS[name].reset == INITIAL[name]


# (register, field, lowest bit, width) from the same tables.
FIELDS = """
CTRL FD 0 1|CTRL ASDE 5 1|CTRL SLU 6 1|CTRL SPEED 8 2|CTRL FRCSPD 11 1|CTRL FRCDPLX 12 1|CTRL RST 26 1
CTRL RFCE 27 1|CTRL TFCE 28 1|CTRL VME 30 1|CTRL PHY_RST 31 1|STATUS FD 0 1|STATUS LU 1 1|STATUS TXOFF 4 1
STATUS SPEED 6 2|STATUS ASDV 8 2|EECD SK 0 1|EECD CS 1 1|EECD DI 2 1|EECD DO 3 1|EECD FWE 4 2|EECD EE_REQ 6 1
EECD EE_GNT 7 1|EECD EE_PRES 8 1|EECD EE_SIZE 9 1|EERD START 0 1|EERD DONE 4 1|EERD ADDR 8 8|EERD DATA 16 16
CTRL_EXT EE_RST 13 1|MDIC DATA 0 16|MDIC REGADD 16 5|MDIC PHYADD 21 5|MDIC OP 26 2|MDIC R 28 1|MDIC I 29 1
MDIC E 30 1|ICR TXDW 0 1|ICR TXQE 1 1|ICR LSC 2 1|ICR RXSEQ 3 1|ICR RXDMT0 4 1|ICR RXO 6 1|ICR RXT0 7 1
ICR MDAC 9 1|ICR PHYINT 12 1|ICR TXD_LOW 15 1|ICR SRPD 16 1|ITR INTERVAL 0 16|RCTL EN 1 1|RCTL SBP 2 1
RCTL UPE 3 1|RCTL MPE 4 1|RCTL LPE 5 1|RCTL LBM 6 2|RCTL RDMTS 8 2|RCTL MO 12 2|RCTL BAM 15 1|RCTL BSIZE 16 2
RCTL VFE 18 1|RCTL CFIEN 19 1|RCTL CFI 20 1|RCTL DPF 22 1|RCTL PMCF 23 1|RCTL BSEX 25 1|RCTL SECRC 26 1
TCTL EN 1 1|TCTL PSP 3 1|TCTL CT 4 8|TCTL COLD 12 10|TCTL SWXOFF 22 1|TCTL RTLC 24 1|RDTR DELAY 0 16
RDTR FPD 31 1|RADV DELAY 0 16|TXDCTL PTHRESH 0 6|TXDCTL HTHRESH 8 6|TXDCTL WTHRESH 16 6|TXDCTL GRAN 24 1
TXDCTL LWTHRESH 25 7|RXCSUM PCSS 0 8|RXCSUM IPOFLD 8 1|RXCSUM TUOFLD 9 1|RXCSUM IPV6OFL 10 1|RAH AS 16 2
RAH AV 31 1|RDLEN LEN 7 13|RDBAL RDBAL 4 28|TDLEN LEN 7 13|TDBAL TDBAL 4 28|TIDV IDV 0 16|TADV IDV 0 16
VET VET 0 16|WUC PME_STATUS 2 1
"""
FIELD_ROWS = [tuple(cell.split()) for line in FIELDS.split("\n") for cell in line.split("|") if cell.strip()]


@pytest.mark.parametrize(
    ("register", "name", "lsb", "width"), FIELD_ROWS, ids=["-".join(r[:2]) for r in FIELD_ROWS]
)
def test_bit_field(register: str, name: str, lsb: str, width: str) -> None:
    bits = e1000.field(register, name)
    assert (bits.lsb, bits.width) == (int(lsb), int(width))


# Descriptors: bit positions as printed in Tables 3-1, 3-8, 3-13 and 3-17, in bits of the 16 bytes.
DESCRIPTORS = [
    (
        e1000_ring.RECEIVE,
        {"address": 0, "length": 64, "checksum": 80, "status": 96, "errors": 104, "special": 112},
    ),
    (
        e1000_ring.LEGACY,
        {"address": 0, "length": 64, "cso": 80, "cmd": 88, "status": 96, "css": 104, "special": 112},
    ),
    (
        e1000_ring.CONTEXT,
        {
            "ipcss": 0,
            "ipcso": 8,
            "ipcse": 16,
            "tucss": 32,
            "tucso": 40,
            "tucse": 48,
            "hdrlen": 104,
            "mss": 112,
        },
    ),
    (e1000_ring.DATA, {"address": 0, "dtalen_dtyp_dcmd": 64, "status": 96, "popts": 104, "special": 112}),
]


@pytest.mark.parametrize(("record", "places"), DESCRIPTORS, ids=[record.name for record, _ in DESCRIPTORS])
def test_descriptor_layout(record: object, places: dict[str, int]) -> None:
    assert isinstance(record, type(e1000_ring.RECEIVE))
    assert {name: 8 * record.offset(name) for name in places} == places
    assert record.size == 16


def test_longest_ring() -> None:
    # §13.4.27: 13 bits, in units of 128 bytes of 16-byte descriptors.
    assert (e1000_ring.DESC_BYTES, e1000_ring.DESCRIPTORS_MAX) == (16, 8 * 8191)


def test_descriptor_bits() -> None:
    # Tables 3-10, 3-15, 3-18, 3-20, 3-2 and 3-3.
    command = (
        e1000_ring.CMD_EOP,
        e1000_ring.CMD_IFCS,
        e1000_ring.CMD_IC,
        e1000_ring.CMD_RS,
        e1000_ring.CMD_DEXT,
    )
    assert command == (1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 5)
    assert (e1000_ring.CMD_VLE, e1000_ring.CMD_IDE, e1000_ring.CMD_TSE) == (1 << 6, 1 << 7, 1 << 2)
    assert (e1000_ring.TUCMD_TCP, e1000_ring.TUCMD_IP) == (1 << 0, 1 << 1)
    assert (e1000_ring.POPTS_IXSM, e1000_ring.POPTS_TXSM) == (1 << 0, 1 << 1)
    status = (
        e1000_ring.RX_STATUS_DD,
        e1000_ring.RX_STATUS_EOP,
        e1000_ring.RX_STATUS_IXSM,
        e1000_ring.RX_STATUS_VP,
    )
    assert status == (1 << 0, 1 << 1, 1 << 2, 1 << 3)
    more = (e1000_ring.RX_STATUS_TCPCS, e1000_ring.RX_STATUS_IPCS, e1000_ring.RX_STATUS_PIF)
    assert more == (1 << 5, 1 << 6, 1 << 7)
    errors = (
        e1000_ring.RX_ERROR_CE,
        e1000_ring.RX_ERROR_TCPE,
        e1000_ring.RX_ERROR_IPE,
        e1000_ring.RX_ERROR_RXE,
    )
    assert errors == (1 << 0, 1 << 5, 1 << 6, 1 << 7)


# §13.4.7.1: register number and value after a hardware reset.
PHY = {
    "PCTRL": (0, 0x1140), "PSTATUS": (1, 0x7949), "PID": (2, 0x0141), "EPID": (3, 0x0C20), "ANA": (4, 0x01E1),
    "LPA": (5, 0), "ANE": (6, 0), "NPT": (7, 0x2001), "LPN": (8, 0), "GCON": (9, 0x1E00), "GSTATUS": (10, 0),
    "EPSTATUS": (15, 0x3000), "PSCON": (16, 0x0068), "PSSTAT": (17, 0), "PINTE": (18, 0), "PINTS": (19, 0),
    "EPSCON1": (20, 0x0D60), "PREC": (21, 0), "R30PS": (29, 0), "R30AW": (30, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", PHY)
def test_phy_register(name: str) -> None:
    reg = e1000_phy.REGISTERS[name]
    assert (reg.offset, reg.reset) == PHY[name]


def test_eeprom_words() -> None:
    # §5.6: 64 words, the identifiers in their places, a valid signature in word 0Ah, the sum of §5.6.35.
    assert (len(e1000_eeprom.IMAGE), e1000_eeprom.CHECKSUM_TOTAL) == (64, 0xBABA)
    assert (e1000_eeprom.IMAGE[0x0D], e1000_eeprom.IMAGE[0x0E]) == (e1000.DEVICE_ID, e1000.VENDOR_ID)
    assert e1000_eeprom.IMAGE[0x0A] >> 14 == 0b01


def test_statistics_image_has_a_word_for_every_count() -> None:
    # 58 registers, of which four pairs are one count each.
    assert (len(e1000.STATISTICS_NAMES), len(e1000.STATISTICS.fields)) == (58, 54)
