"""The 82576's descriptors: advanced and legacy, as a driver writes them and as the device writes them back.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63): §7.1.4 and §7.1.5
(receive descriptors), §7.2.2 (transmit descriptors), §7.2.3 (write-back), §7.2.4 (segmentation). A descriptor
is 16 bytes; bit fields count from its words. Not here: header split, IPsec, SCTP, time stamps, LinkSec.
"""

from typing import Final

from testbed.spec.layout import Bits, Field, Record

DESC_BYTES: Final = 16

# Receive descriptors

RX_READ: Final = Record(
    "igb_rx_read", DESC_BYTES, "82576 §7.1.5.1: advanced, read format",
    Field("packet", 0, 8, "address of the buffer"),
    Field("header", 8, 8, "address of a header buffer; bit 0 is DD"),
)  # fmt: skip
RX_WRITE_BACK: Final = Record(
    "igb_rx_write_back", DESC_BYTES, "82576 §7.1.5.2: advanced, write-back format",
    Field("packet_info", 0, 2, "RSS type and packet type"), Field("header_info", 2, 2),
    Field("rss", 4, 4, "RSS hash; with RXCSUM.PCSD clear IP identification and fragment checksum"),
    Field("status", 8, 4, "extended status, extended errors from bit 20 on"),
    Field("length", 12, 2), Field("vlan", 14, 2),
)  # fmt: skip
RX_LEGACY: Final = Record(
    "igb_rx_legacy", DESC_BYTES, "82576 §7.1.4: legacy",
    Field("address", 0, 8), Field("length", 8, 2), Field("checksum", 10, 2),
    Field("status", 12, 1), Field("errors", 13, 1), Field("vlan", 14, 2),
)  # fmt: skip

RX_RSS_TYPE: Final = Bits("RSS_TYPE", 0, 4, "§7.1.5.2, table 7-20")
RX_PACKET_TYPE: Final = Bits("PACKET_TYPE", 4, 12, "§7.1.5.2, table 7-21")
RX_TYPE_IPV4: Final = 0x0010
RX_TYPE_IPV4_OPTIONS: Final = 0x0020
RX_TYPE_IPV6: Final = 0x0040
RX_TYPE_IPV6_EXTENSIONS: Final = 0x0080
RX_TYPE_TCP: Final = 0x0100
RX_TYPE_UDP: Final = 0x0200
RSS_NONE: Final = 0
RSS_TCP_IPV4: Final = 1
RSS_IPV4: Final = 2
RSS_TCP_IPV6: Final = 3
RSS_IPV6_EX: Final = 4
RSS_IPV6: Final = 5
RSS_TCP_IPV6_EX: Final = 6
RSS_UDP_IPV4: Final = 7
RSS_UDP_IPV6: Final = 8
RSS_UDP_IPV6_EX: Final = 9

RX_STATUS_DD: Final = 1 << 0
RX_STATUS_EOP: Final = 1 << 1
RX_STATUS_VP: Final = 1 << 3
RX_STATUS_UDPCS: Final = 1 << 4
RX_STATUS_L4CS: Final = 1 << 5
RX_STATUS_IPCS: Final = 1 << 6
RX_STATUS_PIF: Final = 1 << 7
RX_STATUS_LB: Final = 1 << 18
"""§7.1.5.2: from another pool of this device."""
RX_ERROR_L4E: Final = 1 << 29
RX_ERROR_IPE: Final = 1 << 30
RX_LEGACY_ERROR_L4E: Final = 1 << 5
RX_LEGACY_ERROR_IPE: Final = 1 << 6

# Transmit descriptors

TX_DATA: Final = Record(
    "igb_tx_data", DESC_BYTES, "82576 §7.2.2.4: advanced data descriptor",
    Field("address", 0, 8), Field("cmd_type_len", 8, 4), Field("olinfo_status", 12, 4),
)  # fmt: skip
TX_CONTEXT: Final = Record(
    "igb_tx_context", DESC_BYTES, "82576 §7.2.2.3: advanced context descriptor",
    Field("vlan_macip_lens", 0, 4), Field("seqnum_seed", 4, 4),
    Field("type_tucmd_mlhl", 8, 4), Field("mss_l4len_idx", 12, 4),
)  # fmt: skip
TX_LEGACY: Final = Record(
    "igb_tx_legacy", DESC_BYTES, "82576 §7.2.2.1: legacy",
    Field("address", 0, 8), Field("length", 8, 2), Field("cso", 10, 1), Field("cmd", 11, 1),
    Field("status", 12, 1), Field("css", 13, 1), Field("vlan", 14, 2),
)  # fmt: skip

TX_DTALEN: Final = Bits("DTALEN", 0, 16)
TX_DTYP: Final = Bits("DTYP", 20, 4)
TX_PAYLEN: Final = Bits("PAYLEN", 14, 18, "of olinfo_status")
TX_IDX: Final = Bits("IDX", 4, 3, "of olinfo_status and mss_l4len_idx: which context")
TX_IPLEN: Final = Bits("IPLEN", 0, 9)
TX_MACLEN: Final = Bits("MACLEN", 9, 7)
TX_VLAN: Final = Bits("VLAN", 16, 16)
TX_L4T: Final = Bits("L4T", 11, 2)
TX_L4LEN: Final = Bits("L4LEN", 8, 8)
TX_MSS: Final = Bits("MSS", 16, 16)

DTYP_SHIFT: Final = TX_DTYP.lsb
DTYP_CONTEXT: Final = 2
DTYP_DATA: Final = 3
TX_EOP: Final = 1 << 24
TX_IFCS: Final = 1 << 25
TX_IC: Final = 1 << 26
"""Legacy only: insert a checksum."""
TX_RS: Final = 1 << 27
TX_DEXT: Final = 1 << 29
TX_VLE: Final = 1 << 30
TX_TSE: Final = 1 << 31
TX_DD: Final = 1
"""Of the fourth word of every transmit descriptor."""
TX_IXSM: Final = 1 << 8
TX_TXSM: Final = 1 << 9
PAYLEN_SHIFT: Final = TX_PAYLEN.lsb
IDX_SHIFT: Final = TX_IDX.lsb
TUCMD_IPV4: Final = 1 << 10
L4T_SHIFT: Final = TX_L4T.lsb
L4T_UDP: Final = 0
L4T_TCP: Final = 1
CONTEXTS: Final = 2
"""§7.2.2.3: contexts that a queue holds; IDX chooses."""
HEAD_WRITE_BACK_ENABLE: Final = 1
"""TDWBAL bit 0, §7.2.3: the head is written to memory instead of DD bits."""

FCS_BYTES: Final = 4
VLAN_TAG_BYTES: Final = 4
ETHERNET_HEADER_BYTES: Final = 14
FRAME_MIN_BYTES: Final = 60
FRAME_MAX_BYTES: Final = 9724
"""§1.3: 9.5 KB jumbo frames, without the FCS."""
SEGMENT_HEADER_MAX_BYTES: Final = 512
PACKET_DESCRIPTORS_MAX: Final = 256
"""Descriptors that one packet may have here; a packet with more is malformed."""
