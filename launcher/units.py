"""Quantities as people write them: sizes, durations, rates and counts with their units, and the way back.

Every parser takes what the YAML reader or the command line gave, returns a plain number in the unit of its
name, and raises `ConfigError` whose text is a rule, what is allowed and the value. Arithmetic is exact
(fractions), so `0.1us` is 100 ns and never 99.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from testbed.errors import ConfigError
from testbed.messages.entries import POLL_FOREVER

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

SIZE_UNITS: Final = {"KiB": KIB, "MiB": MIB, "GiB": GIB, "KB": 10**3, "MB": 10**6, "GB": 10**9}
DURATION_UNITS: Final = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}
COUNT_UNITS: Final = {"k": 10**3, "M": 10**6, "G": 10**9}
BIT_UNITS: Final = {"kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}
RATE_UNITS: Final = COUNT_UNITS | BIT_UNITS

SHOWN_LENGTH: Final = 60
"""How much of a value an error repeats."""
_QUANTITY: Final = re.compile(r"\s*([0-9][0-9_]{0,29}(?:\.[0-9]{1,30})?)\s*([A-Za-zµ]{0,16})\s*", re.ASCII)


@dataclass(frozen=True)
class Rate:
    """How fast a workload sends: in frames or in bits a second, the other one 0."""

    frames_per_second: float = 0.0
    bits_per_second: float = 0.0
    """Bits of the frames without FCS, preamble and gap."""

    def frames(self, mean_frame_bytes: float) -> float:
        """Return the rate in frames a second for frames of this mean size."""
        return self.frames_per_second or self.bits_per_second / (8 * mean_frame_bytes)


FULL_SPEED: Final = Rate()
"""No rate given: as fast as the receiver takes the frames."""


def shown(value: object) -> str:
    """Return a value as an error repeats it: one line, printable, not longer than `SHOWN_LENGTH`."""
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple) and (
        not value or any(isinstance(item, dict | list) for item in value)
    ):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = ascii(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."


def parse_size(value: object, minimum_bytes: int = 1, maximum_bytes: int = 1 << 62) -> int:
    """Return a size such as `64MiB` in bytes; raises ConfigError, as it does outside the bounds."""
    size = _quantity(value, SIZE_UNITS, "a size", "64MiB", "bytes")
    return _bounded(size, minimum_bytes, maximum_bytes, format_size, value)


def parse_duration(value: object, minimum_ns: int = 0, maximum_ns: int = 1 << 62) -> int:
    """Return a duration such as `5s` or `10us` in nanoseconds; a bare 0 needs no unit. Raises ConfigError."""
    if value == "0" or (value == 0 and isinstance(value, int) and not isinstance(value, bool)):
        return _bounded(0, minimum_ns, maximum_ns, format_duration, value)
    duration = _quantity(value, DURATION_UNITS, "a duration", "5s", "nanoseconds")
    return _bounded(duration, minimum_ns, maximum_ns, format_duration, value)


def parse_poll(value: object, maximum_ns: int = DURATION_UNITS["min"]) -> int:
    """Return how long to poll in nanoseconds: a duration, 0 (always sleep) or `forever` (`POLL_FOREVER`)."""
    if value == "forever":
        return POLL_FOREVER
    try:
        return parse_duration(value, 0, maximum_ns)
    except ConfigError as error:
        raise ConfigError(error.problems[0].replace("a duration", "forever, 0 or a duration", 1)) from None


def parse_count(value: object, minimum: int = 1, maximum: int = 10**12) -> int:
    """Return a whole number, plain or as `10k`, `1.5M`, `1G`. Raises ConfigError."""
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    else:
        count = _quantity(value, {"": 1} | COUNT_UNITS, "a number", "10k", "units")
    return _bounded(count, minimum, maximum, str, value)


def parse_rate(value: object) -> Rate:
    """Return a rate in frames (`100k`, a plain number) or bits (`1Gbit`) a second. Raises ConfigError."""
    number, unit = _split(value, {"": 1} | RATE_UNITS, "a rate", "100k (frames a second) or 1Gbit")
    rate = float(number * ({"": 1} | RATE_UNITS)[unit])
    if rate <= 0:
        raise ConfigError(f"must be a rate above 0 (leave it out to send at full speed), not {shown(value)}")
    return Rate(bits_per_second=rate) if unit in BIT_UNITS else Rate(frames_per_second=rate)


def format_size(size_bytes: int) -> str:
    """Return a size in the largest binary unit that shows it well, e.g. `64MiB`, `1.5GiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes >= SIZE_UNITS[unit]:
            return f"{_short(size_bytes / SIZE_UNITS[unit])}{unit}"
    return f"{size_bytes} bytes"


def format_duration(duration_ns: int) -> str:
    """Return a duration in the largest unit that it reaches, e.g. `1.5s`, `50us`."""
    for unit in ("min", "s", "ms", "us"):
        if duration_ns >= DURATION_UNITS[unit]:
            return f"{_short(duration_ns / DURATION_UNITS[unit])}{unit}"
    return f"{duration_ns}ns" if duration_ns else "0"


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _quantity(value: object, units: Mapping[str, int], what: str, example: str, whole: str) -> int:
    number, unit = _split(value, units, what, example)
    result = number * units[unit]
    if result.denominator != 1:
        raise ConfigError(f"must be {what} of whole {whole}, not {shown(value)}")
    return int(result)


def _split(value: object, units: Mapping[str, int], what: str, example: str) -> tuple[Fraction, str]:
    text = _text(value)
    match = _QUANTITY.fullmatch(text) if text is not None else None
    if match is None:
        raise ConfigError(f"must be {what} such as {example}, not {shown(value)}")
    number, unit = match[1].replace("_", ""), match[2].replace("µ", "u")
    if unit in units:
        return Fraction(number), unit
    allowed = " ".join(name for name in units if name)
    if not unit:
        raise ConfigError(f"must be {what} with a unit ({allowed}) such as {example}, not {shown(value)}")
    hint = _nearest_unit(unit, units)
    raise ConfigError(
        f"must be {what} such as {example} in one of the units {allowed}{hint}, not {shown(value)}"
    )


def _text(value: object) -> str | None:
    """Plain numbers go through the grammar of text, so that their message can say that a unit is missing."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return None


def _nearest_unit(unit: str, units: Mapping[str, int]) -> str:
    folded = unit.casefold().removesuffix("s")
    candidates = [name for name in units if name and name.casefold() == folded]
    candidates += [name for name in units if len(folded) > 1 and name.casefold().startswith(folded[:3])]
    candidates += [name for name in units if name and name.casefold()[0] == folded[:1]]
    return f" (did you mean {candidates[0]}?)" if candidates else ""


def _bounded(number: int, minimum: int, maximum: int, form: Callable[[int], str], value: object) -> int:
    if number < minimum:
        raise ConfigError(f"must be at least {form(minimum)}, not {shown(value)}")
    if number > maximum:
        raise ConfigError(f"must be at most {form(maximum)}, not {shown(value)}")
    return number
