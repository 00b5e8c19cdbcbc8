"""When frames are due: never more than a burst, never earlier than their time, all of them in the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.workloads.pace import CapturedTimes, FullSpeed, Pace, Rate
from testbed.net.port import PASS_FRAMES_MAX

SECOND_NS = 1_000_000_000


def captured(*times_ns: int) -> CapturedTimes:
    """Return the pace of a capture."""
    return CapturedTimes(times_ns)


def test_full_speed_is_always_all_that_go_at_once() -> None:
    pace = FullSpeed()
    assert (pace.due(0, 0), pace.due(5, 10_000), pace.next_ns(10_000)) == (
        PASS_FRAMES_MAX,
        PASS_FRAMES_MAX,
        0,
    )


@pytest.mark.parametrize(
    ("elapsed_ns", "sent", "due"),
    [
        (0, 0, 1),
        (0, 1, 0),
        (999_999, 1, 0),
        (1_000_000, 1, 1),
        (10_000_000, 1, 10),
        (10 * SECOND_NS, 1, PASS_FRAMES_MAX),
    ],
)
def test_rate_of_a_thousand_a_second(elapsed_ns: int, sent: int, due: int) -> None:
    assert Rate(1_000).due(elapsed_ns, sent) == due


def test_rate_says_when_the_next_frame_is_due() -> None:
    pace = Rate(3)
    assert [pace.next_ns(sent) for sent in range(4)] == [0, 333_333_334, 666_666_667, SECOND_NS]
    assert pace.due(pace.next_ns(1) - 1, 1) == 0
    assert pace.due(pace.next_ns(1), 1) == 1


@pytest.mark.parametrize(
    ("elapsed_ns", "sent", "due"),
    [(0, 0, 2), (0, 2, 0), (99, 2, 0), (100, 2, 1), (149, 3, 0), (150, 3, 2), (150, 5, 0), (250, 5, 1)],
)
def test_captured_times_repeat_after_a_mean_distance(elapsed_ns: int, sent: int, due: int) -> None:
    """Three frames at 0, 0 and 100: the mean distance is 50, so a loop lasts 150."""
    assert captured(0, 0, 100).due(elapsed_ns, sent) == due


def test_captured_times_say_when_the_next_frame_is_due() -> None:
    pace = captured(0, 0, 100)
    assert [pace.next_ns(sent) for sent in range(7)] == [0, 0, 100, 150, 150, 250, 300]


def test_captured_single_frame_repeats_at_full_speed() -> None:
    pace = captured(0)
    assert [pace.due(0, sent) for sent in range(3)] == [1, 1, 1]


PACES = st.one_of(
    st.floats(0.1, 1e8).map(Rate),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=20).map(lambda times: captured(0, *sorted(times))),
)


@given(PACES, st.integers(0, 10**6), st.integers(0, 10**10))
def test_any_pace_gives_what_it_announces(pace: Pace, sent: int, elapsed_ns: int) -> None:
    due = pace.due(elapsed_ns, sent)
    assert 0 <= due <= PASS_FRAMES_MAX
    if due:
        assert pace.next_ns(sent) <= elapsed_ns + 1
    else:
        assert pace.next_ns(sent) >= elapsed_ns
