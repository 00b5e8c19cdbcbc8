"""Headers of generated frames: Ethernet, IPv4 and UDP around the flow tag.

Reference: RFC 791, RFC 768, RFC 1071 (header checksum); addresses from 198.18.0.0/15, the block for
benchmarks (RFC 2544 appendix C.2.2). Not modelled: ARP (the peer's MAC address is known), fragments, the UDP
checksum (0: not computed, RFC 768).
"""

import ipaddress
from typing import Final

from testbed.messages.entries import FlowEntry
from testbed.net.mac import parse_mac
from testbed.spec import flow as spec

_TTL: Final = 64
_PROTOCOL_UDP: Final = 17
_VERSION_IHL: Final = 0x45
_NETWORK: Final = int(ipaddress.IPv4Address("198.18.0.0"))
_HOST_BITS: Final = 17
_FIRST_PORT: Final = 1024


def headers(flow: FlowEntry, frame_bytes: int) -> bytes:
    """Return the 42 bytes before the tag of a frame of this flow."""
    source, destination = parse_mac(flow.source_mac), parse_mac(flow.destination_mac)
    ethernet = destination + source + spec.ETHERTYPE_IPV4.to_bytes(2, "big")
    datagram_bytes = frame_bytes - spec.ETHERNET.size
    ip = bytearray(spec.IPV4.size)
    _put(ip, "version_ihl", _VERSION_IHL)
    _put(ip, "total_length", datagram_bytes)
    _put(ip, "ttl", _TTL)
    _put(ip, "protocol", _PROTOCOL_UDP)
    _put(ip, "source", _address(source))
    _put(ip, "destination", _address(destination))
    _put(ip, "checksum", _checksum(bytes(ip)))
    ports = (_FIRST_PORT + flow.id % (1 << 14), spec.UDP_PORT_DISCARD)
    udp_bytes = datagram_bytes - spec.IPV4.size
    udp = b"".join(word.to_bytes(2, "big") for word in (*ports, udp_bytes, 0))
    return ethernet + bytes(ip) + udp


def _put(ip: bytearray, member: str, value: int) -> None:
    offset = spec.IPV4.offset(member)
    size = next(f.size for f in spec.IPV4.fields if f.name == member)
    ip[offset : offset + size] = value.to_bytes(size, "big")


def _address(mac: bytes) -> int:
    return _NETWORK | int.from_bytes(mac, "big") & ((1 << _HOST_BITS) - 1)


def _checksum(header: bytes) -> int:
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
