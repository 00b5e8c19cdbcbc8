"""What one value of the topology file may be: a parser with the text of its rule, and its JSON schema.

A `Rule` is put on a field with `Annotated`; it is the only way a leaf value is checked, so every message
has the same form. `OneOf` is the tagged union by `kind` and, unlike pydantic's own, also takes a single
member.
"""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from launcher.problems import did_you_mean
from launcher.units import (
    DURATION_UNITS,
    MIB,
    RATE_UNITS,
    SIZE_UNITS,
    Rate,
    parse_count,
    parse_duration,
    parse_poll,
    parse_rate,
    parse_size,
    shown,
)
from testbed.address import BLOCK_SIZE_BYTES
from testbed.errors import ConfigError
from testbed.net.interpose.filter import compile_filter
from testbed.spec.flow import FRAME_BYTES_MAX, FRAME_BYTES_MIN

Parser = Callable[[object], object]

CPUS_MAX: Final = 4096
FRAME_SIZES_MAX: Final = 256
"""Length of a list of frame sizes."""
IMIX_BYTES: Final = (60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 60, 590)
"""Simple IMIX without FCS, 60:590:1514 as 7:4:1, interleaved."""
NAME_PATTERN: Final = "^[a-z][a-z0-9_-]{0,31}$"


class Rule:
    """Checks a value with a parser that raises ConfigError, and describes it to editors."""

    def __init__(self, parse: Parser, **json_schema: object) -> None:
        self._parse = parse
        self._json_schema = json_schema

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self._json_schema)

    def _check(self, value: object) -> object:
        try:
            return self._parse(value)
        except ConfigError as error:
            raise PydanticCustomError("rule", "{text}", {"text": error.problems[0]}) from None


class OneOf:
    """The tagged union of models by their `kind`; adding a kind is adding its model here."""

    def __init__(self, *models: type[BaseModel]) -> None:
        self._models = {get_args(model.model_fields["kind"].annotation)[0]: model for model in models}

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {kind: handler.generate_schema(model) for kind, model in self._models.items()}
        return core_schema.tagged_union_schema(choices, "kind")


def choose(value: object, choices: Iterable[str]) -> str:
    """Return one of the words allowed; raises ConfigError that lists them."""
    known = list(choices)
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    what = known[0] if len(known) == 1 else f"one of {', '.join(known)}"
    raise ConfigError(f"must be {what}{hint}, not {shown(value)}")


def choice(*words: str) -> Rule:
    """Return the rule of a value that is one of some words."""
    return Rule(lambda value: choose(value, words), type="string", enum=list(words))


def whole(minimum: int, maximum: int, what: str = "a whole number") -> Rule:
    """Return the rule of a whole number between two bounds."""

    def parse(value: object) -> int:
        if type(value) is int and minimum <= value <= maximum:
            return value
        raise ConfigError(f"must be {what} from {minimum} to {maximum}, not {shown(value)}")

    return Rule(parse, type="integer", minimum=minimum, maximum=maximum)


def share() -> Rule:
    """Return the rule of a share, from 0 to 1."""

    def parse(value: object) -> float:
        if type(value) in (int, float) and isinstance(value, int | float) and 0 <= value <= 1:
            return float(value)
        raise ConfigError(f"must be a number from 0 to 1, not {shown(value)}")

    return Rule(parse, type="number", minimum=0, maximum=1)


def power_of_two(minimum: int, maximum: int) -> Rule:
    """Return the rule of a power of two between two bounds."""

    def parse(value: object) -> int:
        if type(value) is int and minimum <= value <= maximum and not value & (value - 1):
            return value
        raise ConfigError(f"must be a power of two from {minimum} to {maximum}, not {shown(value)}")

    powers = [1 << bit for bit in range(maximum.bit_length()) if minimum <= 1 << bit <= maximum]
    return Rule(parse, type="integer", enum=powers)


def duration_between(minimum_ns: int, maximum_ns: int) -> Rule:
    """Return the rule of a duration between two bounds."""
    return Rule(
        lambda value: parse_duration(value, minimum_ns, maximum_ns),
        **_quantity(DURATION_UNITS, "5s", "100us"),
    )


def ram_size(minimum_bytes: int, maximum_bytes: int) -> Rule:
    """Return the rule of a guest's memory: whole stage-2 blocks between two bounds."""

    def parse(value: object) -> int:
        size_bytes = parse_size(value, minimum_bytes, maximum_bytes)
        if size_bytes % BLOCK_SIZE_BYTES:
            raise ConfigError(f"must be a multiple of {BLOCK_SIZE_BYTES // MIB}MiB, not {shown(value)}")
        return size_bytes

    return Rule(parse, **_quantity(SIZE_UNITS, "64MiB", "1GiB"))


def parse_boolean(value: object) -> bool:
    """Return true or false as given; raises ConfigError for anything else, `yes` included."""
    if isinstance(value, bool):
        return value
    raise ConfigError(f"must be true or false, not {shown(value)}")


def parse_text(value: object) -> str:
    """Return a text that is not empty. Raises ConfigError."""
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise ConfigError(f"must be a text, not {shown(value)}")


def parse_name(value: object) -> str:
    """Return a name of the topology, a host or a guest. Raises ConfigError."""
    if (
        isinstance(value, str)
        and 1 <= len(value) <= 32
        and value[0] in _LETTERS
        and set(value) <= _NAME_SIGNS
    ):
        return value
    raise ConfigError(
        f"a name must be a lower-case letter and up to 31 more of a-z, 0-9, _ and -, not {shown(value)}"
    )


def parse_mac(value: object) -> str:
    """Return a unicast MAC address in lower case. Raises ConfigError."""
    parts = value.lower().replace("-", ":").split(":") if isinstance(value, str) else []
    if len(parts) != 6 or any(len(part) != 2 or set(part) - _HEX for part in parts):
        raise ConfigError(f"must be a MAC address such as 02:00:00:00:00:01, not {shown(value)}")
    if int(parts[0], 16) & 1:
        raise ConfigError(f"must be a unicast address (first octet even), not the multicast {shown(value)}")
    if not any(int(part, 16) for part in parts):
        raise ConfigError(f"must not be the null address {shown(value)}")
    return ":".join(parts)


def parse_cpus(value: object) -> tuple[int, ...]:
    """Return CPU numbers, sorted, of a list, a number or ranges such as `0-1,4`. Raises ConfigError."""
    parts = (
        value if isinstance(value, list) else str(value).split(",") if isinstance(value, str | int) else []
    )
    cpus: set[int] = set()
    for part in parts:
        first, dash, last = (str(part) if type(part) in (int, str) else "").partition("-")
        last = last if dash else first
        if not (_is_number(first) and _is_number(last) and int(first) <= int(last) < CPUS_MAX):
            cpus.clear()
            break
        cpus.update(range(int(first), int(last) + 1))
    if not cpus:
        raise ConfigError(f"must be CPU numbers such as [0, 1] or 0-1, not {shown(value)}")
    return tuple(sorted(cpus))


def parse_frames(value: object) -> tuple[int, ...]:
    """Return frame sizes without FCS, used in turn: of one size, a list or `imix`. Raises ConfigError."""
    if value == "imix":
        return IMIX_BYTES
    sizes = value if isinstance(value, list) else [value]
    bad = [size for size in sizes if type(size) is not int or not FRAME_BYTES_MIN <= size <= FRAME_BYTES_MAX]
    if bad or not sizes:
        raise ConfigError(
            f"must be a frame size without FCS from {FRAME_BYTES_MIN} to {FRAME_BYTES_MAX}, "
            f"a list of them or imix, not {shown(bad[0] if bad else value)}"
        )
    if len(sizes) > FRAME_SIZES_MAX:
        raise ConfigError(f"must list at most {FRAME_SIZES_MAX} frame sizes, not {len(sizes)}")
    return tuple(sizes)


def parse_interface_address(value: object) -> str:
    """Return the address of one interface with its prefix length, `10.0.0.1/24`. Raises ConfigError."""
    text = value if isinstance(value, str) else ""
    what = f"must be an address with prefix length such as 10.0.0.1/24, not {shown(value)}"
    if "/" not in text:
        raise ConfigError(what)
    try:
        ip = ipaddress.ip_interface(text)
    except ValueError:
        raise ConfigError(what) from None
    network = ip.network
    ends = (network.network_address, network.broadcast_address) if network.num_addresses > 2 else ()
    if ip.ip in ends or ip.is_multicast or ip.is_loopback or ip.is_unspecified:
        raise ConfigError(f"must be an address that a host can have, not {shown(value)}")
    return ip.with_prefixlen


def parse_filter(value: object) -> str:
    """Return a filter expression that compiles. Raises ConfigError, which names the position of a mistake."""
    text = parse_text(value)
    try:
        compile_filter(text)
    except ConfigError as error:
        raise ConfigError(f"must be a pcap-filter expression: {error.problems[0]}: {shown(text)}") from None
    return text


def parse_function(value: object) -> str:
    """Return the import path `package.module:function`. Raises ConfigError."""
    module, colon, function = value.partition(":") if isinstance(value, str) else ("", "", "")
    if colon and function.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return f"{module}:{function}"
    raise ConfigError(f"must name a function as package.module:function, not {shown(value)}")


def _quantity(units: Iterable[str], *examples: str) -> dict[str, object]:
    pattern = rf"^\s*[0-9][0-9_]*(\.[0-9]+)?\s*({'|'.join(units)})\s*$"
    return {"type": "string", "pattern": pattern, "examples": list(examples)}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz")
_NAME_SIGNS: Final = _LETTERS | frozenset("0123456789_-")
_HEX: Final = frozenset("0123456789abcdef")
_ZERO: Final = {"const": 0}
_SIZE: Final = {"type": "integer", "minimum": FRAME_BYTES_MIN, "maximum": FRAME_BYTES_MAX}

Boolean = Annotated[bool, Rule(parse_boolean, type="boolean")]
Text = Annotated[str, Rule(parse_text, type="string", minLength=1)]
Name = Annotated[str, Rule(parse_name, type="string", pattern=NAME_PATTERN)]
Mac = Annotated[str, Rule(parse_mac, type="string", pattern="^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$")]
Cpus = Annotated[
    tuple[int, ...],
    Rule(
        parse_cpus,
        anyOf=[
            {"type": "array", "items": {"type": ["integer", "string"]}, "minItems": 1},
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"},
        ],
    ),
]
Poll = Annotated[
    int, Rule(parse_poll, anyOf=[{"enum": ["forever"]}, _ZERO, _quantity(DURATION_UNITS, "50us", "1ms")])
]
Frames = Annotated[
    tuple[int, ...],
    Rule(
        parse_frames,
        anyOf=[
            _SIZE,
            {"const": "imix"},
            {"type": "array", "items": _SIZE, "minItems": 1, "maxItems": FRAME_SIZES_MAX},
        ],
    ),
]
Count = Annotated[
    int,
    Rule(parse_count, anyOf=[{"type": "integer", "minimum": 1}, _quantity(("", "k", "M", "G"), "10k", "1M")]),
]
FlowRate = Annotated[
    Rate,
    Rule(
        parse_rate,
        anyOf=[
            {"type": "number", "exclusiveMinimum": 0},
            _quantity(("", *RATE_UNITS), "100k", "1.5M", "1Gbit"),
        ],
    ),
]
InterfaceAddress = Annotated[
    str,
    Rule(
        parse_interface_address,
        type="string",
        pattern="^[0-9a-fA-F.:]+/[0-9]{1,3}$",
        examples=["10.0.0.1/24", "fd00::1/64"],
    ),
]
FilterExpression = Annotated[str, Rule(parse_filter, type="string", minLength=1)]
Function = Annotated[
    str,
    Rule(
        parse_function, type="string", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", examples=["lab.taps:look"]
    ),
]
Timing = Literal["full-speed", "captured"]
Interrupts = Literal["list-registers", "direct"]
GuestIommu = Literal["none", "smmu"]
