"""Transmit and receive descriptors of the 82540EM.

Reference: 8254x SDM (317453-006, revision 4.0) chapter 3. All three kinds of transmit descriptor are 16
bytes; in their second quadword DEXT (bit 5 of the command byte) and DTYP (the upper half of the byte before
it) say which.
"""

from typing import Final

from testbed.spec.layout import Field, Record

RECEIVE: Final = Record(
    "e1000_rx_desc", 16, "8254x SDM 3.2.3",
    Field("address", 0, 8), Field("length", 8, 2), Field("checksum", 10, 2, "packet checksum, §3.2.9"),
    Field("status", 12, 1), Field("errors", 13, 1), Field("special", 14, 2, "VLAN tag, §3.2.3.3"),
)  # fmt: skip
LEGACY: Final = Record(
    "e1000_tx_legacy", 16, "8254x SDM 3.3.3",
    Field("address", 0, 8), Field("length", 8, 2), Field("cso", 10, 1, "checksum offset"),
    Field("cmd", 11, 1), Field("status", 12, 1), Field("css", 13, 1, "checksum start"), Field("special", 14,
    2),
)  # fmt: skip
CONTEXT: Final = Record(
    "e1000_tx_context", 16, "8254x SDM 3.3.6",
    Field("ipcss", 0, 1), Field("ipcso", 1, 1), Field("ipcse", 2, 2),
    Field("tucss", 4, 1), Field("tucso", 5, 1), Field("tucse", 6, 2),
    Field("paylen_dtyp_tucmd", 8, 4, "PAYLEN 20 bits, DTYP 4, TUCMD 8"),
    Field("status", 12, 1), Field("hdrlen", 13, 1), Field("mss", 14, 2),
)  # fmt: skip
DATA: Final = Record(
    "e1000_tx_data", 16, "8254x SDM 3.3.7",
    Field("address", 0, 8), Field("dtalen_dtyp_dcmd", 8, 4, "DTALEN 20 bits, DTYP 4, DCMD 8"),
    Field("status", 12, 1), Field("popts", 13, 1), Field("special", 14, 2),
)  # fmt: skip

DESC_BYTES: Final = 16
DESCRIPTORS_MAX: Final = 65528
"""§13.4.27, §13.4.38: the length has 13 bits and counts in 128 bytes."""
LENGTH_BITS: Final = 20
LENGTH_MASK: Final = (1 << LENGTH_BITS) - 1
DTYP_SHIFT: Final = 20
DTYP_MASK: Final = 0xF
DTYP_CONTEXT: Final = 0
DTYP_DATA: Final = 1
CMD_SHIFT: Final = 24

CMD_EOP: Final = 0x01
CMD_IFCS: Final = 0x02
CMD_IC: Final = 0x04
"""Legacy descriptors: insert checksum."""
CMD_TSE: Final = 0x04
"""Data and context descriptors: TCP segmentation."""
CMD_RS: Final = 0x08
CMD_DEXT: Final = 0x20
CMD_VLE: Final = 0x40
CMD_IDE: Final = 0x80
TUCMD_TCP: Final = 0x01
TUCMD_IP: Final = 0x02
"""IPv4; clear: IPv6."""
POPTS_IXSM: Final = 0x01
POPTS_TXSM: Final = 0x02
TX_STATUS_DD: Final = 0x01
TX_STATUS_EC: Final = 0x02
TX_STATUS_LC: Final = 0x04

RX_STATUS_DD: Final = 0x01
RX_STATUS_EOP: Final = 0x02
RX_STATUS_IXSM: Final = 0x04
RX_STATUS_VP: Final = 0x08
RX_STATUS_TCPCS: Final = 0x20
RX_STATUS_IPCS: Final = 0x40
RX_STATUS_PIF: Final = 0x80
RX_ERROR_CE: Final = 0x01
RX_ERROR_SE: Final = 0x02
RX_ERROR_SEQ: Final = 0x04
RX_ERROR_TCPE: Final = 0x20
RX_ERROR_IPE: Final = 0x40
RX_ERROR_RXE: Final = 0x80

FCS_BYTES: Final = 4
VLAN_TAG_BYTES: Final = 4
ETHERNET_HEADER_BYTES: Final = 14
FRAME_MIN_BYTES: Final = 60
"""Without the FCS; §13.4.33 PSP pads to this."""
FRAME_MAX_BYTES: Final = 1522
"""With the FCS, §13.4.22 LPE: a longer frame is oversized while long packets are off."""
LONG_FRAME_MAX_BYTES: Final = 16384
"""With the FCS, §13.4.22 LPE."""
TRANSMIT_MAX_BYTES: Final = 16288
"""§3.3.3: the most that the descriptors of one packet may hold."""
SEGMENT_HEADER_MAX_BYTES: Final = 240
"""§3.5.5: the longest prototype header."""
PAYLOAD_MAX_BYTES: Final = LENGTH_MASK
RINGLEN_MAX_DESC: Final = 65536
RINGLEN_MIN_DESC: Final = 8
