"""Figures measured several times: minimum, median, maximum, every value; and the bounds that a median must
keep.

Not modelled: statistics that need more values than a bench has.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from testbed.errors import ConfigError


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """One figure, measured once a pair, in the order of the pairs."""

    min: float
    median: float
    max: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of at least one value, each rounded to six significant digits."""
        kept = tuple(float(f"{value:.6g}") for value in values)
        return cls(min=min(kept), median=statistics.median(kept), max=max(kept), values=kept)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return ours by theirs, pair by pair."""
    return Spread.of(our / their for our, their in zip(ours, theirs, strict=True))


class Bound(msgspec.Struct, frozen=True):
    """What the median of a figure must not be below, or above."""

    name: str
    value: float
    at_least: bool

    def broken_by(self, figures: Mapping[str, Spread]) -> str | None:
        """Return what is wrong, None where the median keeps the bound.

        Raises ConfigError where there is no such figure.
        """
        found = figures.get(self.name)
        if found is None:
            known = ", ".join(figures) or "none"
            raise ConfigError(f"no figure {self.name} was measured; there are: {known}")
        if found.median >= self.value if self.at_least else found.median <= self.value:
            return None
        side = "least" if self.at_least else "most"
        return f"{self.name} must be at {side} {self.value:g}, and its median is {found.median:g}"


def parse_bounds(at_least: Iterable[str], at_most: Iterable[str], known: Sequence[str]) -> list[Bound]:
    """Return the bounds written as NAME=VALUE. Raises ConfigError with every mistake."""
    bounds, problems = [], []
    for option, texts in (("--at-least", at_least), ("--at-most", at_most)):
        for text in texts:
            name, _, value = text.partition("=")
            try:
                bounds.append(Bound(name, float(value), option == "--at-least"))
            except ValueError:
                problems.append(f"{option}: must be NAME=VALUE with a number, not {text}")
                continue
            if name not in known:
                problems.append(f"{option}: {name} is not measured here; there are: {', '.join(known)}")
    if problems:
        raise ConfigError(*problems)
    return bounds


def broken(bounds: Iterable[Bound], figures: Mapping[str, Spread]) -> list[str]:
    """Return what is wrong with each bound that is not kept. Raises ConfigError as `Bound.broken_by`."""
    return [text for bound in bounds if (text := bound.broken_by(figures)) is not None]
