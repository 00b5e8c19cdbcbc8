"""Token buckets with a clock of the test's own."""

import pytest

from testbed.native import FrameStore, Pinned
from testbed.net.interpose.counts import PortCounts
from testbed.net.interpose.rate import Rate
from testbed.spec.port_counters import PORT_COUNTERS
from tests.support.recorders import ManualClock

MS = 1_000_000


def burst_of(*lengths: int) -> FrameStore:
    store = FrameStore()
    store.load([bytes(length) for length in lengths])
    return store


class Limited:
    """A bucket and what it counts."""

    def __init__(self, per_second: float, depth: float, *, bits: bool = False, hold: bool = False) -> None:
        self.clock, self.page = ManualClock(), Pinned(bytearray(PORT_COUNTERS.size))
        self.rate = Rate(per_second, depth, bits, hold, PortCounts(self.page), self.clock)

    def passed(self, *lengths: int) -> list[int]:
        burst = burst_of(*lengths)
        self.rate.apply(burst, "tx")
        return burst.present()

    @property
    def dropped(self) -> int:
        return int(self.page.words(PORT_COUNTERS.offset("dropped_rate"), 8)[0])


def test_rate_lets_a_full_bucket_pass_and_drops_what_is_over() -> None:
    limited = Limited(1000, 3)
    assert limited.passed(60, 60, 60, 60, 60) == [0, 1, 2]
    assert limited.dropped == 2
    limited.clock.advance(2 * MS)
    assert limited.passed(60, 60, 60) == [0, 1]


def test_rate_never_saves_more_than_its_depth() -> None:
    limited = Limited(1000, 3)
    limited.clock.advance(3600 * 1000 * MS)
    assert len(limited.passed(*[60] * 10)) == 3


def test_rate_in_bits_charges_lengths_and_lets_a_small_frame_pass_where_a_big_one_does_not() -> None:
    limited = Limited(8000, 8 * 1000, bits=True)
    assert limited.passed(900, 200, 100) == [0, 2]
    limited.clock.advance(100 * MS)
    assert limited.passed(100, 60) == [0]


@pytest.mark.parametrize("per_second", [333.0, 1000.0, 12_345.0])
def test_rate_is_kept_over_time_however_the_bursts_come(per_second: float) -> None:
    limited, passed = Limited(per_second, 100), 0
    for step in range(400):
        limited.clock.advance((step % 7 + 1) * MS)
        passed += len(limited.passed(*[60] * 200))
    seconds = (limited.clock.now_ns - 1_000_000_000) / 1e9
    assert abs(passed - 100 - per_second * seconds) <= 101


def test_rate_that_holds_drops_nothing_and_waits_out_its_debt() -> None:
    limited = Limited(1000, 10, hold=True)
    assert limited.rate.allowance() == 10
    assert len(limited.passed(*[60] * 10)) == 10
    assert limited.rate.allowance() == 0
    due = limited.rate.allowed_ns()
    assert due == limited.clock.now_ns + MS
    limited.clock.now_ns = due
    assert limited.rate.allowance() == 1
    assert limited.dropped == 0


def test_rate_that_holds_bits_goes_on_once_a_big_frame_is_paid_for() -> None:
    limited = Limited(8e6, 8 * 1500, bits=True, hold=True)
    limited.passed(9000)
    assert limited.rate.allowance() == 0
    limited.clock.now_ns = limited.rate.allowed_ns()
    assert limited.rate.allowance() == 1
    assert limited.clock.now_ns - 1_000_000_000 == (9000 - 1500 + 1000) * 1000
