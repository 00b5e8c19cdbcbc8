"""The Address Resolution Protocol for IPv4 over Ethernet. Reference: RFC 826. Everything is big-endian."""

from typing import Final

from testbed.spec.layout import Field, Record

ARP: Final = Record(
    "arp", 28, "RFC 826, IPv4 over Ethernet",
    Field("hardware", 0, 2), Field("protocol", 2, 2), Field("hardware_length", 4, 1),
    Field("protocol_length", 5, 1), Field("operation", 6, 2), Field("sender_mac", 8, 1, count=6),
    Field("sender_ip", 14, 1, count=4), Field("target_mac", 18, 1, count=6),
    Field("target_ip", 24, 1, count=4),
)  # fmt: skip
ETHERTYPE_ARP: Final = 0x0806
ETHERTYPE_RARP: Final = 0x8035
OPERATION_REQUEST: Final = 1
OPERATION_REPLY: Final = 2
