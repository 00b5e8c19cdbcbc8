"""How numbers are written for people, the same in the live view and in every table.

Not modelled: locales.
"""

from typing import Final

_MEGA: Final = 1e6
_GIGA: Final = 1e9
_MIB: Final = 1 << 20
NOTHING: Final = "-"


def count(number: float) -> str:
    """Return `11,058`; a dash for zero, so that what is not zero is seen."""
    return f"{number:,.0f}" if number else NOTHING


def mega(per_second: float) -> str:
    """Return a rate in millions a second, three significant digits: `12.3`, `0.00412`."""
    return f"{per_second / _MEGA:#.3g}" if per_second else NOTHING


def giga(per_second: float) -> str:
    """Return a rate in thousand millions a second, three significant digits."""
    return f"{per_second / _GIGA:#.3g}" if per_second else NOTHING


def mebibytes(size_bytes: int | None) -> str:
    """Return a size in MiB with one decimal; a dash where it is not known."""
    return NOTHING if size_bytes is None else f"{size_bytes / _MIB:.1f}"


def seconds(duration: float) -> str:
    """Return `0.123 s`, `12.3 s`, or `3 min 20 s`."""
    minutes, rest = divmod(duration, 60)
    if minutes:
        return f"{minutes:.0f} min {rest:.0f} s"
    return f"{duration:#.3g} s" if duration < 100 else f"{duration:.0f} s"


def plural(number: int, what: str) -> str:
    """Return `1 guest`, `2 guests`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}{'es' if what.endswith('s') else 's'}"
