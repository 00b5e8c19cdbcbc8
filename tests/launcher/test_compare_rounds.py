"""What tries come to: rounds that have seen the whole time, and the mean of their better half."""

import pytest

from launcher.compare_rounds import Sample, better_half, in_rounds, round_of


def tried(rate: float, cpu_ns: float, exits: int = 0) -> Sample:
    figures = {"frames_per_second": rate, "p50_us": 1 / rate, "cpu_ns": cpu_ns, "doorbells": rate}
    used = {"sender": cpu_ns / 4, "vmm-h0": cpu_ns * 3 / 4}
    return Sample(figures, used, {"irq": exits} if exits else {}, 100)


def test_each_round_has_tries_of_the_whole_time() -> None:
    first, second, third, fourth = (tried(rate, 1.0) for rate in (1.0, 2.0, 3.0, 4.0))
    assert in_rounds([first, second, third, fourth], 2) == [(first, third), (second, fourth)]


@pytest.mark.parametrize(("tries", "kept"), [(1, 1), (2, 1), (3, 2), (10, 5)])
def test_the_better_half_is_the_faster_one_of_rates_and_the_smaller_one_of_times(
    tries: int, kept: int
) -> None:
    samples = [tried(float(n), float(n)) for n in range(1, tries + 1)]
    fast, cheap = better_half(samples, "frames_per_second"), better_half(samples, "cpu_ns")
    assert [one.figures["frames_per_second"] for one in fast] == [
        float(n) for n in range(tries, tries - kept, -1)
    ]
    assert [one.figures["cpu_ns"] for one in cheap] == [float(n) for n in range(1, kept + 1)]


def test_each_figure_is_the_mean_of_its_own_better_half_and_what_is_counted_that_of_all() -> None:
    found = round_of((tried(10.0, 1.0), tried(20.0, 2.0), tried(30.0, 30.0), tried(40.0, 40.0)))
    assert found.figures["frames_per_second"] == 35
    assert found.figures["p50_us"] == pytest.approx((1 / 30 + 1 / 40) / 2)
    assert found.figures["cpu_ns"] == 1.5
    assert found.figures["doorbells"] == 25


def test_processes_together_have_used_what_the_round_has() -> None:
    found = round_of((tried(1.0, 4.0), tried(1.0, 8.0), tried(1.0, 100.0)))
    assert found.cpu_ns == {"sender": 1.5, "vmm-h0": 4.5}
    assert sum(found.cpu_ns.values()) == found.figures["cpu_ns"]


def test_every_try_counts_for_exits() -> None:
    found = round_of((tried(3.0, 1.0), tried(2.0, 1.0, exits=1), tried(1.0, 1.0, exits=4)))
    assert (found.exits, found.frames) == ({"irq": 5}, 300)
