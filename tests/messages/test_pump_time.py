"""How long native work may go on: less where something is due, and half of what a process polls at most."""

import pytest

from testbed.messages.pump_time import PUMP_IDLE_NS, PUMP_NS, pump_idle_ns, pump_ns


@pytest.mark.parametrize(
    ("poll_ns", "idle_ns"), [(-1, PUMP_IDLE_NS), (10**9, PUMP_IDLE_NS), (50_000, 25_000), (0, 0)]
)
def test_whoever_is_to_sleep_soon_looks_on_for_half_of_that(poll_ns: int, idle_ns: int) -> None:
    assert pump_idle_ns(poll_ns) == idle_ns


@pytest.mark.parametrize(
    ("due_ns", "budget_ns"),
    [(None, PUMP_NS), (10**12, PUMP_NS), (1_000_000 + PUMP_NS // 2, PUMP_NS // 2), (1_000_000, 0), (1, 0)],
)
def test_native_work_ends_when_something_is_due(due_ns: int | None, budget_ns: int) -> None:
    assert pump_ns(due_ns, 1_000_000) == budget_ns
