"""What a generated frame carries so that it can be checked where it arrives.

Reference: our own tag in the payload of an ordinary UDP/IPv4 datagram (RFC 768, RFC 791), sized so that the
smallest Ethernet frame, 60 bytes without FCS, holds it exactly.
"""

from typing import Final

from testbed.spec.layout import Field, Record

ETHERNET: Final = Record(
    "ethernet", 14, "IEEE 802.3 §3.1.1",
    Field("destination", 0, 1, count=6), Field("source", 6, 1, count=6), Field("type", 12, 2, "big-endian"),
)  # fmt: skip
IPV4: Final = Record(
    "ipv4", 20, "RFC 791 §3.1, every multi-byte member big-endian",
    Field("version_ihl", 0, 1), Field("tos", 1, 1), Field("total_length", 2, 2),
    Field("identification", 4, 2), Field("fragment", 6, 2),
    Field("ttl", 8, 1), Field("protocol", 9, 1), Field("checksum", 10, 2),
    Field("source", 12, 4), Field("destination", 16, 4),
)  # fmt: skip
IPV6: Final = Record(
    "ipv6", 40, "RFC 8200 §3, big-endian",
    Field("version_class_flow", 0, 4), Field("payload_length", 4, 2), Field("next_header", 6, 1),
    Field("hop_limit", 7, 1),
    Field("source", 8, 1, count=16), Field("destination", 24, 1, count=16),
)  # fmt: skip
UDP: Final = Record(
    "udp", 8, "RFC 768, big-endian",
    Field("source_port", 0, 2), Field("destination_port", 2, 2), Field("length", 4, 2),
    Field("checksum", 6, 2),
)  # fmt: skip
TCP: Final = Record(
    "tcp", 20, "RFC 9293 §3.1, big-endian",
    Field("source_port", 0, 2), Field("destination_port", 2, 2),
    Field("sequence", 4, 4), Field("acknowledgment", 8, 4),
    Field("data_offset", 12, 1, "in its high nibble, 32-bit words"), Field("flags", 13, 1),
    Field("window", 14, 2), Field("checksum", 16, 2), Field("urgent", 18, 2),
)  # fmt: skip
TAG: Final = Record(
    "flow_tag", 18, "design: every frame of a verified flow carries flow, sequence number and checksum",
    Field("magic", 0, 2), Field("flow", 2, 4), Field("sequence", 6, 8), Field("digest", 14, 4),
)  # fmt: skip

TAG_OFFSET: Final = ETHERNET.size + IPV4.size + UDP.size
FRAME_BYTES_MIN: Final = TAG_OFFSET + TAG.size
"""60: the smallest Ethernet frame without FCS."""
MAGIC_DATA: Final = 0x4256
MAGIC_REQUEST: Final = 0x5156
MAGIC_REPLY: Final = 0x5056
UDP_PORT_DISCARD: Final = 9
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
ETHERTYPE_EXPERIMENTAL: Final = 0x88B5
"""Local experimental (IEEE Std 802 §9.2.4)."""
IPV4_NO_OPTIONS: Final = 0x45
"""version_ihl of a header without options."""
PROTOCOL_TCP: Final = 6
PROTOCOL_UDP: Final = 17
TCP_PSH: Final = 0x08
TCP_ACK: Final = 0x10
IP_BYTES_MAX: Final = 0xFFFF
"""Of a datagram, by the field that has its length."""
IDS_MAX: Final = 4096
"""A flow's id is below: a receiver finds it by index."""
FRAME_BYTES_MAX: Final = 9014
"""The largest frame a workload generates."""
