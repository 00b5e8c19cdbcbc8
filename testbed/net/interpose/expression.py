"""Reads filter expressions: a documented subset of the pcap-filter language.

Reference: pcap-filter(7). `and` and `or` have equal precedence and associate to the left, as there. What
there is:

    ether|ip|ip6|arp|rarp|tcp|udp|sctp|icmp|icmp6            the protocol
    [ether] [src|dst|src or dst|src and dst] host MAC        `host` may be left out
    [ip|ip6|arp|rarp] [src|dst|...] host|net ADDRESS[/BITS]  IPv4 or IPv6
    [tcp|udp|sctp] [src|dst|...] port N | portrange N-M
    ether|ip|ip6 proto N|NAME, proto N|NAME
    [ether] broadcast, [ether|ip|ip6] multicast
    less N, greater N
    VALUE = | == | != | > | < | >= | <= VALUE                with + - * / % & | ^ << >> ( ), len, numbers and
                                                             ether|ip|ip6|arp|rarp|tcp|udp|sctp|icmp[AT:SIZE]
    not|!, and|&&, or|||, ( )                                `port 9 or 10`: the same again of a value

Not modelled: names of hosts, networks and services, vlan, gateway, protochain, protocols not listed.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from testbed.errors import ConfigError
from testbed.net.interpose import tree
from testbed.net.interpose.tree import (
    Arithmetic,
    Binary,
    Both,
    Compare,
    Either,
    Ends,
    Length,
    Load,
    Not,
    Number,
    Operation,
    Relation,
    Test,
)
from testbed.net.mac import parse_mac
from testbed.spec.flow import ETHERNET, IPV4, IPV6

EXPRESSION_CHARACTERS_MAX: Final = 2000
DEPTH_MAX: Final = 32
_TOKEN: Final = re.compile(
    r"(?P<mac>(?:[0-9a-f]{1,2}:){5}[0-9a-f]{1,2}(?![0-9a-f:]))"
    r"|(?P<ip6>[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\.\d+\.\d+\.\d+)?(?:/\d+)?)"
    r"|(?P<ip>\d+\.\d+\.\d+\.\d+(?:/\d+)?)"
    r"|(?P<number>0x[0-9a-f]+|\d+)"
    r"|(?P<word>[a-z][a-z0-9_]*(?:-[a-z]+)*)"
    r"|(?P<sign>&&|\|\||<<|>>|==|!=|>=|<=|[-+*/%&|^=<>!()\[\]:])",
    re.IGNORECASE | re.ASCII,
)
_CONSTANTS: Final = {
    "tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32,
    "icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-echo": 8,
}  # fmt: skip
_LINKS: Final = ("ip", "ip6", "arp", "rarp")
_PROTOCOLS: Final = ("ether", *_LINKS, *tree.TRANSPORTS)
_TYPES: Final = ("host", "net", "port", "portrange", "proto")
_ACCESSED: Final = ("ether", *_LINKS, "tcp", "udp", "sctp", "icmp")
_RELATIONS: Final[Mapping[str, Relation]] = {
    "=": "=", "==": "=", "!=": "!=", ">": ">", "<": "<", ">=": ">=", "<=": "<=",
}  # fmt: skip
_LEVELS: Final[tuple[tuple[Operation, ...], ...]] = (
    ("|", "^"), ("&",), ("<<", ">>"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
"""Weakest first."""
_ARITHMETIC: Final = frozenset(sign for level in _LEVELS for sign in level) | set(_RELATIONS)
_AND: Final = ("and", "&&")
_OR: Final = ("or", "||")
_NUMBER_MAX: Final = 0xFFFF_FFFF
_PORT_MAX: Final = 65535
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class _Qualifiers:
    """What stands before a value, and so what a value alone means the next time."""

    protocol: str = ""
    ends: Ends = "src or dst"
    type: str = "host"


class _Wrong(Exception):
    """A mistake at a position, so that the one farthest to the right can be told."""

    def __init__(self, at: int, text: str) -> None:
        super().__init__(text)
        self.at = at


def parse_expression(text: str) -> Test:
    """Return what an expression means.

    Raises ConfigError that names the position, counted from 1, and what was expected there.
    """
    try:
        if len(text) > EXPRESSION_CHARACTERS_MAX:
            what = f"must be at most {EXPRESSION_CHARACTERS_MAX} characters, not {len(text)}"
            raise _Wrong(EXPRESSION_CHARACTERS_MAX, what)
        return _Parser(_tokens(text)).whole()
    except _Wrong as wrong:
        raise ConfigError(f"position {wrong.at + 1}: {wrong}") from None


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None or not match[0]:
            raise _Wrong(at, f"{text[at]!r} is no part of the filter language")
        assert match.lastgroup is not None
        tokens.append(_Token(match.lastgroup, match[0].lower(), at))
        at = match.end()
    return [*tokens, _Token("end", "the end", len(text))]


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0
        self._last: _Qualifiers | None = None
        self._guards: list[Test] = []

    # Tokens

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _after(self) -> _Token:
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def _next(self) -> _Token:
        token = self._now
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _took(self, *words: str) -> str:
        """Take the next token where it is one of these, and return it."""
        if self._now.kind in ("word", "sign") and self._now.text in words:
            return self._next().text
        return ""

    def _expect(self, sign: str) -> None:
        if not self._took(sign):
            raise self._wrong(f"`{sign}`")

    def _wrong(self, expected: str, token: _Token | None = None) -> _Wrong:
        token = token or self._now
        found = token.text if token.kind == "end" else f"`{token.text}`"
        return _Wrong(token.at, f"expected {expected}, not {found}")

    def _nested(self, parse: Callable[[], _T]) -> _T:
        if self._depth == DEPTH_MAX:
            raise _Wrong(self._now.at, f"must not be nested deeper than {DEPTH_MAX}")
        self._depth += 1
        try:
            return parse()
        finally:
            self._depth -= 1

    # Tests

    def whole(self) -> Test:
        test = self._expression()
        if self._now.kind != "end":
            raise self._wrong("and, or or the end")
        return test

    def _expression(self) -> Test:
        test = self._factor()
        while word := self._took(*_AND, *_OR):
            right = self._factor()
            test = Both(test, right) if word in _AND else Either(test, right)
        return test

    def _factor(self) -> Test:
        if self._took("not", "!"):
            return Not(self._nested(self._factor))
        if self._now.text == "(":
            return self._parenthesis()
        return self._relation() if self._begins_relation() else self._primitive()

    def _parenthesis(self) -> Test:
        """`(` begins a test or, as in `(len + 4) > 60`, a number: whatever gets farther is what was meant."""
        at, last = self._at, self._last
        try:
            return self._nested(self._in_parenthesis)
        except _Wrong as as_test:
            self._at, self._last = at, last
            try:
                return self._nested(self._relation)
            except _Wrong as as_number:
                raise max(as_test, as_number, key=lambda wrong: wrong.at) from None

    def _in_parenthesis(self) -> Test:
        self._expect("(")
        test = self._expression()
        self._expect(")")
        if self._now.kind == "sign" and self._now.text in _ARITHMETIC:
            raise self._wrong("and, or or `)`")
        return test

    def _begins_relation(self) -> bool:
        now, after = self._now, self._after()
        if now.kind == "number":
            if after.text == "-" and self._last and self._last.type == "portrange":
                return False
            return after.kind == "sign" and after.text in _ARITHMETIC
        return now.text in ("len", "-", *_CONSTANTS) or (now.kind == "word" and after.text == "[")

    def _relation(self) -> Test:
        guards, self._guards = self._guards, []
        try:
            left = self._arithmetic()
            relation = self._took(*_RELATIONS)
            if not relation:
                raise self._wrong("an operator or one of = != > < >= <=")
            test = Compare(_RELATIONS[relation], left, self._arithmetic())
            return tree.every(*self._guards, test)
        finally:
            self._guards = guards

    # Numbers

    def _arithmetic(self, level: int = 0) -> Arithmetic:
        if level == len(_LEVELS):
            return self._nested(self._operand)
        value = self._arithmetic(level + 1)
        while self._now.kind == "sign" and self._now.text in _LEVELS[level]:
            token = self._next()
            right = self._arithmetic(level + 1)
            value = self._operation(token, value, right)
        return value

    @staticmethod
    def _operation(token: _Token, left: Arithmetic, right: Arithmetic) -> Arithmetic:
        operation = cast(Operation, token.text)
        if isinstance(right, Number):
            if operation in ("/", "%") and right.value == 0:
                raise _Wrong(token.at, "must not divide by 0")
            if operation in ("<<", ">>") and right.value > 31:
                raise _Wrong(token.at, f"must shift by at most 31, not {right.value}")
        return Binary(operation, left, right)

    def _operand(self) -> Arithmetic:
        token = self._next()
        if token.kind == "number":
            return Number(self._number(token, _NUMBER_MAX))
        if token.text == "(":
            value = self._arithmetic()
            self._expect(")")
            return value
        if token.text == "-":
            return Binary("-", Number(0), self._nested(self._operand))
        if token.text == "len":
            return Length()
        if token.text in _CONSTANTS:
            return Number(_CONSTANTS[token.text])
        if token.text in _ACCESSED:
            return self._access(token.text)
        raise self._wrong("a number, len, or PROTOCOL[AT:SIZE]", token)

    @staticmethod
    def _number(token: _Token, maximum: int) -> int:
        value = int(token.text, 16 if token.text.startswith("0x") else 10)
        if value > maximum:
            raise _Wrong(token.at, f"must be at most {maximum}, not {token.text}")
        return value

    def _access(self, protocol: str) -> Arithmetic:
        self._expect("[")
        offset = self._arithmetic()
        size = 1
        if self._took(":"):
            token = self._next()
            if token.text not in ("1", "2", "4"):
                raise self._wrong("a size of 1, 2 or 4", token)
            size = int(token.text)
        self._expect("]")
        if protocol == "ether":
            return Load("frame", 0, offset, size)
        if protocol in _LINKS:
            self._guards.append(tree.is_type(tree.ETHERTYPES[protocol]))
            return Load("frame", ETHERNET.size, offset, size)
        self._guards += [tree.over_ipv4(tree.TRANSPORTS[protocol]), tree.first_fragment()]
        return Load("ipv4 payload", 0, offset, size)

    # Primitives

    def _primitive(self) -> Test:
        if word := self._took("less", "greater"):
            limit = Number(self._number(self._number_token("a length"), _NUMBER_MAX))
            return Compare("<=" if word == "less" else ">=", Length(), limit)
        begin = self._now
        protocol = self._took(*_PROTOCOLS)
        if self._now.text in ("broadcast", "multicast"):
            return self._to_group(protocol, self._next())
        ends, kind = self._ends(), self._took(*_TYPES)
        if protocol and not (ends or kind) and not self._is_value():
            return self._is_protocol(protocol, begin)
        if protocol or ends or kind:
            default = self._last.type if self._last and not (protocol or kind) else "host"
            qualifiers = _Qualifiers(protocol, ends or "src or dst", kind or default)
        elif self._is_value():
            qualifiers = self._last or _Qualifiers()
        else:
            raise self._wrong("a protocol, an address, a port or a comparison")
        self._last = qualifiers
        return self._qualified(qualifiers, begin)

    def _is_value(self) -> bool:
        return self._now.kind in ("number", "ip", "ip6", "mac")

    def _ends(self) -> Ends | None:
        first = self._took("src", "dst")
        if not first:
            return None
        other = "dst" if first == "src" else "src"
        if self._now.text in ("or", "and") and self._after().text == other:
            word = self._next().text
            self._next()
            return "src and dst" if word == "and" else "src or dst"
        return "src" if first == "src" else "dst"

    def _is_protocol(self, protocol: str, begin: _Token) -> Test:
        if protocol in _LINKS:
            return tree.is_type(tree.ETHERTYPES[protocol])
        if protocol == "ether":
            raise _Wrong(begin.at, "`ether` must be followed by host, proto, broadcast, multicast or `[`")
        number = tree.TRANSPORTS[protocol]
        if protocol == "icmp":
            return tree.over_ipv4(number)
        return (
            tree.over_ipv6(number)
            if protocol == "icmp6"
            else Either(tree.over_ipv4(number), tree.over_ipv6(number))
        )

    def _to_group(self, protocol: str, token: _Token) -> Test:
        destination = ETHERNET.offset("destination")
        if token.text == "broadcast" and protocol in ("", "ether"):
            return tree.bytes_at(destination, b"\xff" * 6)
        if token.text == "multicast":
            if protocol in ("", "ether"):
                return tree.bytes_at(destination, b"\x01", b"\x01")
            if protocol == "ip":
                group = tree.field(ETHERNET.size + IPV4.offset("destination"), 1)
                return Both(tree.is_type(tree.ETHERTYPES["ip"]), Compare(">=", group, Number(224)))
            if protocol == "ip6":
                group = tree.field(ETHERNET.size + IPV6.offset("destination"), 1)
                return Both(tree.is_type(tree.ETHERTYPES["ip6"]), tree.equals(group, 0xFF))
        raise _Wrong(token.at, f"there is no `{protocol} {token.text}`")

    def _qualified(self, qualifiers: _Qualifiers, begin: _Token) -> Test:
        protocol = qualifiers.protocol
        match qualifiers.type:
            case "port" | "portrange":
                if protocol not in ("", "tcp", "udp", "sctp"):
                    raise _Wrong(begin.at, f"{protocol} has no ports: tcp, udp and sctp have")
                return self._ports(qualifiers)
            case "proto":
                return self._protocol(protocol, begin)
            case _:
                return self._address(qualifiers, begin)

    def _number_token(self, what: str) -> _Token:
        token = self._next()
        if token.kind != "number":
            raise self._wrong(what, token)
        return token

    def _ports(self, qualifiers: _Qualifiers) -> Test:
        low = high = self._number(self._number_token("a port number"), _PORT_MAX)
        if qualifiers.type == "portrange":
            self._expect("-")
            token = self._number_token("the last port number")
            high = self._number(token, _PORT_MAX)
            if high < low:
                raise _Wrong(token.at, f"must be a port from {low} on, not {high}")
        protocol = qualifiers.protocol
        numbers = (tree.TRANSPORTS[protocol],) if protocol else tree.WITH_PORTS
        return tree.ports(low, high, qualifiers.ends, numbers)

    def _protocol(self, layer: str, begin: _Token) -> Test:
        names = tree.ETHERTYPES if layer == "ether" else tree.TRANSPORTS
        if layer not in ("", "ether", "ip", "ip6"):
            raise _Wrong(begin.at, f"there is no `{layer} proto`: ether, ip and ip6 have")
        token = self._next()
        if token.kind == "number":
            number = self._number(token, 0xFFFF if layer == "ether" else 0xFF)
        elif token.text in names:
            number = names[token.text]
        else:
            raise self._wrong(f"a number or one of {', '.join(names)}", token)
        match layer:
            case "ether":
                return tree.is_type(number)
            case "ip":
                return tree.over_ipv4(number)
            case "ip6":
                return tree.over_ipv6(number)
            case _:
                return Either(tree.over_ipv4(number), tree.over_ipv6(number))

    def _address(self, qualifiers: _Qualifiers, begin: _Token) -> Test:
        token, protocol = self._next(), qualifiers.protocol
        try:
            if token.kind == "mac" and protocol in ("", "ether") and qualifiers.type == "host":
                octets = (part.zfill(2) for part in token.text.split(":"))
                return tree.mac(parse_mac(":".join(octets)), qualifiers.ends)
            if token.kind == "ip" and protocol in ("", "ip", "arp", "rarp"):
                self._no_bits(qualifiers, token)
                return tree.net4(ipaddress.IPv4Network(token.text), qualifiers.ends, protocol)
            if token.kind == "ip6" and protocol in ("", "ip6"):
                self._no_bits(qualifiers, token)
                return tree.net6(ipaddress.IPv6Network(token.text), qualifiers.ends)
        except ValueError as error:
            raise _Wrong(token.at, f"{error}") from None
        if protocol in tree.TRANSPORTS:
            raise _Wrong(begin.at, f"{protocol} has no addresses: say `{protocol} and host ...`")
        kinds = {"": "an IPv4, IPv6 or MAC address", "ether": "a MAC address", "ip6": "an IPv6 address"}
        raise self._wrong(kinds.get(protocol, "an IPv4 address"), token)

    @staticmethod
    def _no_bits(qualifiers: _Qualifiers, token: _Token) -> None:
        if qualifiers.type == "host" and "/" in token.text:
            raise _Wrong(token.at, f"a host has no `/`: say net {token.text}")
