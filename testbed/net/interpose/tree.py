"""What a filter expression means: comparisons of numbers from a frame, joined by and, or, not.

Every primitive of the language is such a tree, so that only these few kinds have to be compiled. Reference:
pcap-filter(7). Not modelled: VLAN tags, IPv6 extension headers, protocols that are not named here.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

from testbed.spec.arp import ARP, ETHERTYPE_ARP, ETHERTYPE_RARP
from testbed.spec.flow import ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4, IPV6, PROTOCOL_TCP, PROTOCOL_UDP

PROTOCOL_ICMP: Final = 1
PROTOCOL_ICMP6: Final = 58
PROTOCOL_SCTP: Final = 132
ETHERTYPES: Final = {
    "ip": ETHERTYPE_IPV4,
    "ip6": ETHERTYPE_IPV6,
    "arp": ETHERTYPE_ARP,
    "rarp": ETHERTYPE_RARP,
}
TRANSPORTS: Final = {
    "tcp": PROTOCOL_TCP,
    "udp": PROTOCOL_UDP,
    "sctp": PROTOCOL_SCTP,
    "icmp": PROTOCOL_ICMP,
    "icmp6": PROTOCOL_ICMP6,
}
WITH_PORTS: Final = (PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_SCTP)
_FRAGMENT_OFFSET: Final = 0x1FFF
_WORD_BYTES: Final = 4

Operation = Literal["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]
Relation = Literal["=", "!=", ">", "<", ">=", "<="]
Layer = Literal["frame", "ipv4 payload"]
Ends = Literal["src", "dst", "src or dst", "src and dst"]


@dataclass(frozen=True)
class Number:
    """A constant of 32 bits."""

    value: int


@dataclass(frozen=True)
class Length:
    """The frame's length in bytes, without FCS."""


@dataclass(frozen=True)
class Load:
    """A big-endian number of `size` bytes from the frame; `offset` counts from where the layer begins."""

    layer: Layer
    base: int
    offset: "Arithmetic"
    size: int


@dataclass(frozen=True)
class Binary:
    """Unsigned arithmetic modulo 2^32."""

    operation: Operation
    left: "Arithmetic"
    right: "Arithmetic"


Arithmetic = Number | Length | Load | Binary


@dataclass(frozen=True)
class Compare:
    """True where the relation holds between two unsigned numbers."""

    relation: Relation
    left: Arithmetic
    right: Arithmetic


@dataclass(frozen=True)
class Not:
    """True where the other is not."""

    test: "Test"


@dataclass(frozen=True)
class Both:
    """True where both are."""

    left: "Test"
    right: "Test"


@dataclass(frozen=True)
class Either:
    """True where at least one is."""

    left: "Test"
    right: "Test"


Test = Compare | Not | Both | Either


def every(first: Test, *others: Test) -> Test:
    """Return a test that is true where all are."""
    for other in others:
        first = Both(first, other)
    return first


def some(first: Test, *others: Test) -> Test:
    """Return a test that is true where any is."""
    for other in others:
        first = Either(first, other)
    return first


def field(offset: int, size: int) -> Load:
    """Return a number at a fixed place of the frame."""
    return Load("frame", 0, Number(offset), size)


def equals(left: Arithmetic, value: int) -> Test:
    """Return a test for one value."""
    return Compare("=", left, Number(value))


def is_type(ethertype: int) -> Test:
    """Return a test for an EtherType."""
    return equals(field(ETHERNET.offset("type"), 2), ethertype)


def over_ipv4(*protocols: int) -> Test:
    """Return a test for protocols over IPv4."""
    protocol = field(ETHERNET.size + IPV4.offset("protocol"), 1)
    return Both(is_type(ETHERTYPE_IPV4), some(*(equals(protocol, number) for number in protocols)))


def over_ipv6(*protocols: int) -> Test:
    """Return a test for protocols that follow an IPv6 header at once."""
    protocol = field(ETHERNET.size + IPV6.offset("next_header"), 1)
    return Both(is_type(ETHERTYPE_IPV6), some(*(equals(protocol, number) for number in protocols)))


def first_fragment() -> Test:
    """Return a test for an IPv4 packet that begins with its transport header."""
    fragment = field(ETHERNET.size + IPV4.offset("fragment"), 2)
    return equals(Binary("&", fragment, Number(_FRAGMENT_OFFSET)), 0)


def between_ends(ends: Ends, source: Test, destination: Test) -> Test:
    """Join what is asked of the two ends."""
    match ends:
        case "src":
            return source
        case "dst":
            return destination
        case "src and dst":
            return Both(source, destination)
        case _:
            return Either(source, destination)


def bytes_at(offset: int, content: bytes, mask: bytes = b"") -> Test:
    """Return a test for bytes at a fixed place; only those bits count that are set in the mask."""
    mask = mask or b"\xff" * len(content)
    tests: list[Test] = []
    for at in range(0, len(content), _WORD_BYTES):
        part, bits = content[at : at + _WORD_BYTES], mask[at : at + _WORD_BYTES]
        if not any(bits):
            continue
        load: Arithmetic = field(offset + at, len(part))
        if set(bits) != {0xFF}:
            load = Binary("&", load, Number(int.from_bytes(bits, "big")))
        tests.append(equals(load, int.from_bytes(part, "big")))
    return every(*tests) if tests else equals(Number(0), 0)


def net4(network: IPv4Network, ends: Ends, protocol: str) -> Test:
    """Return a test for IPv4 addresses, in IPv4, ARP or RARP as `protocol` says; all where it is empty."""
    address, mask = network.network_address.packed, network.netmask.packed
    places = {
        "ip": (IPV4.offset("source"), IPV4.offset("destination")),
        "arp": (ARP.offset("sender_ip"), ARP.offset("target_ip")),
        "rarp": (ARP.offset("sender_ip"), ARP.offset("target_ip")),
    }
    tests: list[Test] = []
    for name, (source, destination) in places.items():
        if protocol in ("", name):
            from_, to = (bytes_at(ETHERNET.size + offset, address, mask) for offset in (source, destination))
            tests.append(Both(is_type(ETHERTYPES[name]), between_ends(ends, from_, to)))
    return some(*tests)


def net6(network: IPv6Network, ends: Ends) -> Test:
    """Return a test for IPv6 addresses."""
    address, mask = network.network_address.packed, network.netmask.packed
    places = (ETHERNET.size + IPV6.offset(name) for name in ("source", "destination"))
    source, destination = (bytes_at(offset, address, mask) for offset in places)
    return Both(is_type(ETHERTYPE_IPV6), between_ends(ends, source, destination))


def mac(address: bytes, ends: Ends) -> Test:
    """Return a test for Ethernet addresses."""
    source, destination = (bytes_at(ETHERNET.offset(name), address) for name in ("source", "destination"))
    return between_ends(ends, source, destination)


def ports(low: int, high: int, ends: Ends, protocols: tuple[int, ...]) -> Test:
    """Return a test for ports of TCP, UDP or SCTP: of a datagram's first fragment, over IPv4 or IPv6."""
    tests: list[Test] = []
    behind_ipv6 = ETHERNET.size + IPV6.size
    for guard, layer, base in (
        (Both(over_ipv4(*protocols), first_fragment()), "ipv4 payload", 0),
        (over_ipv6(*protocols), "frame", behind_ipv6),
    ):
        source, destination = (_port(Load(layer, base, Number(at), 2), low, high) for at in (0, 2))  # type: ignore[arg-type]
        tests.append(Both(guard, between_ends(ends, source, destination)))
    return some(*tests)


def _port(load: Load, low: int, high: int) -> Test:
    if low == high:
        return equals(load, low)
    return Both(Compare(">=", load, Number(low)), Compare("<=", load, Number(high)))
