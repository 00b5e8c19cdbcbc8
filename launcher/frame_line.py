"""A stream of pcapng, as the vmm writes it, read block by block; and a frame told in one line.

Reference: `testbed.spec.pcapng`; RFC 791, RFC 8200, RFC 826 for what a line says. Not modelled: pcapng of
others, VLAN tags, IPv6 extension headers.
"""

import ipaddress
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from testbed.spec import pcapng
from testbed.spec.arp import ARP, ETHERTYPE_ARP, OPERATION_REQUEST
from testbed.spec.flow import (
    ETHERNET,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    IPV4,
    IPV6,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
)

_NS_PER_SECOND: Final = 1_000_000_000
_PROTOCOLS: Final = {1: "ICMP", PROTOCOL_TCP: "TCP", PROTOCOL_UDP: "UDP", 58: "ICMPv6", 132: "SCTP"}
_WITH_PORTS: Final = (PROTOCOL_TCP, PROTOCOL_UDP, 132)
_IHL_BYTES: Final = 4


@dataclass(frozen=True)
class CapturedFrame:
    """One frame of a capture."""

    time_ns: int
    """Since the epoch."""
    direction: str
    """`tx`: the guest sent it; `rx`: the guest gets it."""
    content: bytes


class BlockReader:
    """Cuts what comes in pieces into blocks; frames come out as soon as they are whole."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[CapturedFrame]:
        """Take more of the stream and yield the frames that it completes."""
        data, at = self._rest + piece, 0
        head_bytes = pcapng.EPB.offset("interface")
        while len(data) - at >= head_bytes:
            kind = int.from_bytes(data[at : at + 4], "little")
            length = int.from_bytes(data[at + 4 : at + head_bytes], "little")
            if len(data) - at < length:
                break
            if kind == pcapng.TYPE_EPB:
                yield _frame(data[at : at + length])
            at += length
        self._rest = data[at:]


def _frame(block: bytes) -> CapturedFrame:
    head = pcapng.EPB.unpack(block)
    tail = pcapng.EPB_TAIL.unpack(block, len(block) - pcapng.EPB_TAIL.size)
    content = block[pcapng.EPB.size : pcapng.EPB.size + head["captured_bytes"]]
    direction = "tx" if tail["flags"] & pcapng.EPB_OUTBOUND else "rx"
    return CapturedFrame(head["time_high"] << 32 | head["time_low"], direction, content)


def frame_line(frame: CapturedFrame) -> str:
    """Return a frame in one line: time, direction, length, MAC addresses, type, addresses and ports."""
    seconds, part_ns = divmod(frame.time_ns, _NS_PER_SECOND)
    at = f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{part_ns:09d}"
    content = frame.content
    source, to = (content[ETHERNET.offset(name) :][:6].hex(":") for name in ("source", "destination"))
    return f"{at} {frame.direction} {len(content):5d} {source} > {to} {_payload(content)}"


def _payload(content: bytes) -> str:
    ethertype = int.from_bytes(content[ETHERNET.offset("type") : ETHERNET.size], "big")
    payload = content[ETHERNET.size :]
    if ethertype == ETHERTYPE_IPV4 and len(payload) >= IPV4.size:
        return _ipv4(payload)
    if ethertype == ETHERTYPE_IPV6 and len(payload) >= IPV6.size:
        return _ipv6(payload)
    if ethertype == ETHERTYPE_ARP and len(payload) >= ARP.size:
        return _arp(payload)
    return f"{ethertype:#06x}"


def _ipv4(packet: bytes) -> str:
    protocol = packet[IPV4.offset("protocol")]
    source, to = (
        str(ipaddress.IPv4Address(packet[IPV4.offset(name) :][:4])) for name in ("source", "destination")
    )
    header_bytes = (packet[0] & 0xF) * _IHL_BYTES
    first = not int.from_bytes(packet[IPV4.offset("fragment") :][:2], "big") & 0x1FFF
    return _transport("IPv4", protocol, source, to, packet[header_bytes:] if first else b"")


def _ipv6(packet: bytes) -> str:
    protocol = packet[IPV6.offset("next_header")]
    source, to = (
        str(ipaddress.IPv6Address(packet[IPV6.offset(name) :][:16])) for name in ("source", "destination")
    )
    return _transport("IPv6", protocol, source, to, packet[IPV6.size :])


def _transport(version: str, protocol: int, source: str, to: str, segment: bytes) -> str:
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    if protocol in _WITH_PORTS and len(segment) >= 4:
        source += f".{int.from_bytes(segment[:2], 'big')}"
        to += f".{int.from_bytes(segment[2:4], 'big')}"
    return f"{version} {name} {source} > {to}"


def _arp(packet: bytes) -> str:
    sender, target = (
        ipaddress.IPv4Address(packet[ARP.offset(name) :][:4]) for name in ("sender_ip", "target_ip")
    )
    operation = int.from_bytes(packet[ARP.offset("operation") :][:2], "big")
    if operation == OPERATION_REQUEST:
        return f"ARP who has {target}? tell {sender}"
    return f"ARP {sender} is at {packet[ARP.offset('sender_mac') :][:6].hex(':')}"
