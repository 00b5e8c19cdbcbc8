"""Filter expressions: what they match, by hand and against predicates on the bytes; and how they complain."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import ConfigError
from testbed.native import BpfProgram, FrameStore
from testbed.net.interpose.expression import parse_expression
from testbed.net.interpose.filter import compile_filter
from testbed.net.interpose.program import compile_test
from tests.support import bpf_model

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def ether(kind: int, payload: bytes, to: bytes = B) -> bytes:
    return (to + A + kind.to_bytes(2, "big") + payload).ljust(60, b"\0")


def ipv4(
    protocol: int,
    payload: bytes,
    source: str = "10.0.0.1",
    to: str = "10.0.0.2",
    fragment: int = 0,
    options: int = 0,
) -> bytes:
    head = bytes([0x45 + options, 0, 0, 0, 0, 0]) + fragment.to_bytes(2, "big") + bytes([64, protocol, 0, 0])
    addresses = bytes(map(int, source.split("."))) + bytes(map(int, to.split(".")))
    return ether(0x0800, head + addresses + bytes(4 * options) + payload)


def ipv6(protocol: int, payload: bytes) -> bytes:
    addresses = bytes.fromhex("fe80" + "00" * 13 + "01") + bytes.fromhex("ff02" + "00" * 13 + "02")
    return ether(0x86DD, bytes([0x60, 0, 0, 0, 0, 0, protocol, 1]) + addresses + payload)


def ports(source: int, to: int) -> bytes:
    return source.to_bytes(2, "big") + to.to_bytes(2, "big") + bytes(16)


FRAMES = {
    "udp": ipv4(17, ports(9, 53)),
    "udp-options": ipv4(17, ports(9, 53), options=2),
    "udp-fragment": ipv4(17, ports(9, 53), fragment=100),
    "tcp-syn": ipv4(6, ports(1000, 80)[:4] + bytes(9) + b"\x02" + bytes(6)),
    "icmp": ipv4(1, b"\x08\0\0\0", source="192.168.1.7", to="224.0.0.1"),
    "udp6": ipv6(17, ports(9, 53)),
    "icmp6": ipv6(58, b"\x87\0"),
    "arp": ether(
        0x0806, bytes.fromhex("00010800060400010200000000010a0000010000000000000a000002"), b"\xff" * 6
    ),
    "odd": ether(0x88CC, b"", bytes.fromhex("0180c2000000")),
    "short": B + A + b"\x08\x00",
}
IPV4 = {"udp", "udp-options", "udp-fragment", "tcp-syn", "icmp"}
WHOLE_UDP = {"udp", "udp-options"}
CASES: list[tuple[str, set[str]]] = [
    ("ip", IPV4 | {"short"}),
    ("ip6", {"udp6", "icmp6"}),
    ("arp", {"arp"}),
    ("udp", {"udp", "udp-options", "udp-fragment", "udp6"}),
    ("icmp or icmp6", {"icmp", "icmp6"}),
    ("port 53", WHOLE_UDP | {"udp6"}),
    ("udp src port 9", WHOLE_UDP | {"udp6"}),
    ("dst port 9", set()),
    ("tcp port 80 or 81", {"tcp-syn"}),
    ("portrange 50-60 or 80-80", WHOLE_UDP | {"udp6", "tcp-syn"}),
    ("src and dst portrange 9-53", WHOLE_UDP | {"udp6"}),
    ("host 10.0.0.1", IPV4 - {"icmp"} | {"arp"}),
    ("src host 10.0.0.2", set()),
    ("dst 10.0.0.2", IPV4 - {"icmp"} | {"arp"}),
    ("arp host 10.0.0.2", {"arp"}),
    ("ip src net 192.168.0.0/16", {"icmp"}),
    ("net 0.0.0.0/0", IPV4 | {"arp", "short"}),
    ("ip6 host fe80::1", {"udp6", "icmp6"}),
    ("dst net ff00::/8", {"udp6", "icmp6"}),
    ("ether src 02:0:0:0:0:1", set(FRAMES)),
    ("ether dst host 02:00:00:00:00:02 and not ip", {"udp6", "icmp6"}),
    ("broadcast", {"arp"}),
    ("ether multicast", {"arp", "odd"}),
    ("ip multicast", {"icmp"}),
    ("ip6 multicast", {"udp6", "icmp6"}),
    ("ip proto 17 and not ip[6:2] & 0x1fff = 0", {"udp-fragment"}),
    ("ether proto 0x88cc", {"odd"}),
    ("proto udp", {"udp", "udp-options", "udp-fragment", "udp6"}),
    ("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", {"tcp-syn"}),
    ("icmp[icmptype] = icmp-echo", {"icmp"}),
    ("udp[2:2] = 53 && len >= 60", WHOLE_UDP),
    ("ip[(ip[0] & 0xf) * 4] = 0 and udp", {"udp", "udp-options", "udp-fragment"}),
    ("less 14", {"short"}),
    ("greater 61", {"icmp6", "udp6", "udp-options"} - {"icmp6"}),
    ("ether[0] & 1 != 0", {"arp", "odd"}),
    ("(len + 4) * 2 = 36", {"short"}),
    ("10 - len > 4294967290 - 4", {"short"}),
    ("arp or ip and udp", {"udp", "udp-options", "udp-fragment"} - set()),
    ("! (ip or ip6) && !arp", {"odd"}),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), CASES, ids=[text for text, _ in CASES])
def test_filter_matches_what_the_language_says(expression: str, expected: set[str]) -> None:
    program, store = compile_filter(expression), FrameStore()
    store.load(list(FRAMES.values()))
    matching = {name for i, name in enumerate(FRAMES) if program.run(store, i)}
    assert matching == expected


WRONG = [
    ("", 1, "expected a protocol"),
    ("frob", 1, "not `frob`"),
    ("udp port", 9, "expected a port number, not the end"),
    ("udp port 65536", 10, "at most 65535"),
    ("portrange 9-8", 13, "from 9 on"),
    ("ip and @", 8, "'@' is no part"),
    ("(((ip)", 7, "expected `)`"),
    ("len / 0 = 1", 5, "divide by 0"),
    ("len >> 32 = 1", 5, "shift by at most 31"),
    ("len > 4294967296", 7, "at most 4294967295"),
    ("ip[0:3] = 1", 6, "a size of 1, 2 or 4"),
    ("ip[0] & 1", 10, "expected an operator"),
    ("net 10.0.0.1/8", 5, "has host bits set"),
    ("host 10.0.0.0/8", 6, "say net"),
    ("host 10.0.0.256", 6, "256"),
    ("tcp host 10.0.0.1", 1, "has no addresses"),
    ("arp port 9", 1, "has no ports"),
    ("ip6 host 10.0.0.1", 10, "an IPv6 address"),
    ("ether", 1, "must be followed by"),
    ("tcp broadcast", 5, "there is no `tcp broadcast`"),
    ("ip udp", 4, "and, or or the end"),
    ("(" * 40 + "ip" + ")" * 40, 33, "nested deeper than 32"),
    ("not " * 4000, 2001, "at most 2000 characters"),
]


@pytest.mark.parametrize(("expression", "position", "text"), WRONG)
def test_filter_mistake_is_told_with_its_position(expression: str, position: int, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_filter(expression)
    told = caught.value.problems[0]
    assert told.startswith(f"position {position}: ")
    assert text in told


LEAVES: list[tuple[str, Callable[[bytes], bool]]] = [
    ("ip", lambda f: f[12:14] == b"\x08\x00"),
    ("len > 70", lambda f: len(f) > 70),
    ("ether[0] = 1", lambda f: f[0] == 1),
    ("ether[1] & 3 != 2", lambda f: f[1] & 3 != 2),
    ("ether[2:2] >= 0x100", lambda f: int.from_bytes(f[2:4], "big") >= 0x100),
    ("ether[4] - ether[5] < 5", lambda f: (f[4] - f[5]) % (1 << 32) < 5),
    ("ether[6] * ether[7] % 7 <= 3", lambda f: f[6] * f[7] % 7 <= 3),
]
Predicate = tuple[str, Callable[[bytes], bool]]


def _joined(children: st.SearchStrategy[Predicate]) -> st.SearchStrategy[Predicate]:
    def negate(inner: Predicate) -> Predicate:
        return f"not ({inner[0]})", lambda frame: not inner[1](frame)

    def join(parts: tuple[Predicate, bool, Predicate]) -> Predicate:
        left, both, right = parts
        word = "and" if both else "or"
        return (
            f"({left[0]} {word} ({right[0]}))",
            lambda frame: (
                (left[1](frame) and right[1](frame)) if both else (left[1](frame) or right[1](frame))
            ),
        )

    return st.one_of(children.map(negate), st.tuples(children, st.booleans(), children).map(join))


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(st.sampled_from(LEAVES), _joined, max_leaves=12),
    st.lists(st.binary(min_size=14, max_size=90), min_size=1, max_size=8),
)
def test_filter_agrees_with_a_predicate_on_the_bytes(predicate: Predicate, frames: list[bytes]) -> None:
    program = compile_test(parse_expression(predicate[0]))
    store, native = FrameStore(), BpfProgram(program)
    store.load(frames)
    expected = [predicate[1](frame) for frame in frames]
    assert [bool(native.run(store, i)) for i in range(len(frames))] == expected
    assert [bool(bpf_model.run(program, frame)) for frame in frames] == expected


def test_filter_jumps_farther_than_one_byte_says() -> None:
    many = " or ".join(f"len = {length}" for length in range(100, 250))
    program, store = compile_filter(f"({many}) and ether[0] = 2"), FrameStore()
    store.load([b"\x02" + bytes(99), b"\x02" + bytes(248), b"\x02" + bytes(249), bytes(100)])
    assert [bool(program.run(store, i)) for i in range(4)] == [True, True, False, False]
