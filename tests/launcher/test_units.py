"""Quantities with units: exact values, and errors that show how to write it."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.units import (
    Rate,
    format_duration,
    format_size,
    parse_count,
    parse_duration,
    parse_poll,
    parse_rate,
    parse_size,
    shown,
)
from testbed.errors import ConfigError
from testbed.messages.entries import POLL_FOREVER


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("64MiB", 64 << 20),
        ("1.5 GiB", 3 << 29),
        ("4KiB", 4096),
        ("2KB", 2000),
        ("1MB", 10**6),
        (" 1_024KiB ", 1 << 20),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("5s", 5 * 10**9),
        ("0.1us", 100),
        ("1.5ms", 1_500_000),
        ("2min", 120 * 10**9),
        ("7ns", 7),
        ("3µs", 3000),
        (0, 0),
        ("0s", 0),
    ],
)
def test_durations(text: object, duration_ns: int) -> None:
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100k", Rate(frames_per_second=1e5)),
        ("1.5M", Rate(frames_per_second=1.5e6)),
        (250, Rate(frames_per_second=250)),
        ("0.5", Rate(frames_per_second=0.5)),
        ("1Gbit", Rate(bits_per_second=1e9)),
        ("10 Mbit", Rate(bits_per_second=1e7)),
        ("64kbit", Rate(bits_per_second=64e3)),
    ],
)
def test_rates(text: object, rate: Rate) -> None:
    assert parse_rate(text) == rate


def test_a_rate_in_bits_becomes_frames_by_their_mean_size() -> None:
    assert Rate(bits_per_second=1e9).frames(125) == 1e6
    assert Rate(frames_per_second=7).frames(125) == 7


@pytest.mark.parametrize(("text", "count"), [(12, 12), ("12", 12), ("10k", 10_000), ("1.5M", 1_500_000)])
def test_counts(text: object, count: int) -> None:
    assert parse_count(text) == count


def test_poll_times() -> None:
    assert parse_poll("forever") == POLL_FOREVER
    assert parse_poll(0) == 0
    assert parse_poll("50us") == 50_000


@pytest.mark.parametrize(
    ("parse", "value", "text"),
    [
        (
            parse_size,
            64,
            "must be a size with a unit (KiB MiB GiB KB MB GB) such as 64MiB, not 64",
        ),
        (
            parse_size,
            "64mib",
            "must be a size such as 64MiB in one of the units KiB MiB GiB KB MB GB (did you mean MiB?), "
            'not "64mib"',
        ),
        (
            parse_size,
            "5s",
            'must be a size such as 64MiB in one of the units KiB MiB GiB KB MB GB, not "5s"',
        ),
        (parse_size, "0.3KiB", 'must be a size of whole bytes, not "0.3KiB"'),
        (parse_size, "0KiB", 'must be at least 1 bytes, not "0KiB"'),
        (parse_size, True, "must be a size such as 64MiB, not true"),
        (parse_size, None, "must be a size such as 64MiB, not nothing"),
        (parse_size, "-1MiB", 'must be a size such as 64MiB, not "-1MiB"'),
        (parse_duration, 5, "must be a duration with a unit (ns us ms s min) such as 5s, not 5"),
        (
            parse_duration,
            "5sec",
            'must be a duration such as 5s in one of the units ns us ms s min (did you mean s?), not "5sec"',
        ),
        (parse_duration, "0.5ns", 'must be a duration of whole nanoseconds, not "0.5ns"'),
        (parse_duration, [], "must be a duration such as 5s, not an empty list"),
        (
            parse_rate,
            "5Gb",
            "must be a rate such as 100k (frames a second) or 1Gbit in one of the units "
            'k M G kbit Mbit Gbit (did you mean Gbit?), not "5Gb"',
        ),
        (parse_rate, 0, "must be a rate above 0 (leave it out to send at full speed), not 0"),
        (parse_count, 1.5, "must be a number of whole units, not 1.5"),
        (parse_count, -3, "must be at least 1, not -3"),
        (
            parse_poll,
            "ever",
            'must be forever, 0 or a duration such as 5s, not "ever"',
        ),
        (
            parse_poll,
            50,
            "must be forever, 0 or a duration with a unit (ns us ms s min) such as 5s, not 50",
        ),
    ],
)
def test_errors_show_the_rule_and_the_value(
    parse: Callable[[object], object], value: object, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(value)
    assert caught.value.problems == (text,)


def test_bounds_are_told_in_units() -> None:
    with pytest.raises(ConfigError, match=r"^must be at least 4MiB, not \"2MiB\"$"):
        parse_size("2MiB", 4 << 20, 8 << 20)
    with pytest.raises(ConfigError, match=r"^must be at most 1min, not \"90s\"$"):
        parse_duration("90s", 0, 60 * 10**9)


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(1, "1 bytes"), (1536, "1.5KiB"), (64 << 20, "64MiB"), (3 << 29, "1.5GiB")]
)
def test_sizes_are_shown(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"), [(0, "0"), (999, "999ns"), (50_000, "50us"), (1_500_000_000, "1.5s")]
)
def test_durations_are_shown(duration_ns: int, text: str) -> None:
    assert format_duration(duration_ns) == text


@given(st.integers(1, 10**9), st.sampled_from(["ns", "us", "ms", "s", "min"]))
def test_any_whole_duration_is_exact(number: int, unit: str) -> None:
    factor = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9}[unit]
    assert parse_duration(f"{number}{unit}", 0, 1 << 80) == number * factor


def problems_of(parse: Callable[[object], object], value: object) -> tuple[str, ...]:
    try:
        parse(value)
    except ConfigError as error:
        return error.problems
    return ()


@given(st.one_of(st.text(), st.integers(), st.floats(), st.lists(st.text()), st.none(), st.booleans()))
def test_anything_is_a_number_or_a_config_error(value: object) -> None:
    for parse in (parse_size, parse_duration, parse_rate, parse_count, parse_poll):
        problems = problems_of(parse, value)
        assert len(problems) <= 1
        assert all(line.startswith("must be ") and line.isprintable() for line in problems)


@given(st.recursive(st.text() | st.floats() | st.binary(), st.lists))
def test_shown_values_are_short_and_printable(value: object) -> None:
    assert len(shown(value)) <= 60
    assert shown(value).isascii()
