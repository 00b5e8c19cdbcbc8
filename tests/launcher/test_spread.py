"""Figures measured several times, and the bounds on their medians."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.spread import Bound, Spread, broken, parse_bounds, ratios
from testbed.errors import ConfigError

NAMES = ("ratio_to_peer", "frames_per_second")


@given(st.lists(st.floats(1e-3, 1e9), min_size=1))
def test_a_spread_is_ordered_and_keeps_every_value(values: list[float]) -> None:
    spread = Spread.of(values)

    assert spread.min <= spread.median <= spread.max
    assert spread.values == pytest.approx(values, rel=1e-5)


def test_ratios_are_taken_pair_by_pair() -> None:
    assert ratios([10, 40, 90], [10, 20, 30]) == Spread(min=1, median=2, max=3, values=(1, 2, 3))


def test_bounds_are_read() -> None:
    assert parse_bounds(["ratio_to_peer=2"], ["frames_per_second=1e7"], NAMES) == [
        Bound("ratio_to_peer", 2, at_least=True),
        Bound("frames_per_second", 1e7, at_least=False),
    ]


def test_every_bad_bound_is_told() -> None:
    with pytest.raises(ConfigError) as error:
        parse_bounds(["ratio_to_peer", "ratio=2"], ["frames_per_second=many"], NAMES)
    assert error.value.problems == (
        "--at-least: must be NAME=VALUE with a number, not ratio_to_peer",
        "--at-least: ratio is not measured here; there are: ratio_to_peer, frames_per_second",
        "--at-most: must be NAME=VALUE with a number, not frames_per_second=many",
    )


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        (Bound("ratio_to_peer", 2, at_least=True), True),
        (Bound("ratio_to_peer", 2.01, at_least=True), False),
        (Bound("ratio_to_peer", 2, at_least=False), True),
        (Bound("ratio_to_peer", 1.99, at_least=False), False),
    ],
)
def test_a_bound_is_on_the_median(bound: Bound, kept: bool) -> None:
    assert (broken([bound], {"ratio_to_peer": Spread.of([0.1, 2, 90])}) == []) == kept


def test_a_broken_bound_says_so() -> None:
    bounds = [Bound("ratio_to_peer", 2.5, at_least=True)]

    assert broken(bounds, {"ratio_to_peer": Spread.of([2])}) == [
        "ratio_to_peer must be at least 2.5, and its median is 2"
    ]


def test_a_bound_on_what_was_not_measured_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="no figure ratio_to_peer was measured; there are: none"):
        broken([Bound("ratio_to_peer", 1, at_least=True)], {})
