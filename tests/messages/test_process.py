"""What every process has: segments from its descriptors, counters, sockets and loop; all given back."""

import os
import tempfile

import pytest

from testbed.errors import DeviceError, StopRequested
from testbed.messages.control import Failed, Ready, Stop
from testbed.messages.entries import GuestEntry, ProcessPlan, SegmentEntry
from testbed.messages.process import ProcessParts, process_parts
from testbed.native import Bell
from tests.messages.conftest import NAME, Wire

PAGE = 4096


def plan(cpus: tuple[int, ...] = ()) -> ProcessPlan:
    """Return a process with RAM and counters."""
    return ProcessPlan(
        name="guest-b",
        role="guest",
        entry=GuestEntry(
            name="guest-b",
            host="h0",
            index=0,
            memory_bytes=PAGE,
            ram_gpa=0,
            stage2_hpa=0,
            poll_ns=0,
            cpus=cpus,
        ),
        segments=(
            SegmentEntry(name="guest-b.ram", size_bytes=PAGE, hpa=1 << 40),
            SegmentEntry(name="guest-b.stage2", size_bytes=PAGE, writable=False),
            SegmentEntry(name="guest-b.counters", size_bytes=PAGE),
        ),
        counter_names=("polls", "sleeps", "bell.wakeups"),
    )


@pytest.fixture
def descriptors() -> dict[str, int]:
    descriptors = {}
    for segment in plan().segments:
        with tempfile.TemporaryFile() as file:
            file.truncate(PAGE)
            descriptors[segment.name] = os.dup(file.fileno())
    return descriptors


def test_process_has_what_its_plan_grants(wire: Wire, descriptors: dict[str, int]) -> None:
    parts = ProcessParts(plan(), descriptors, wire.run_dir)
    assert parts.segments["guest-b.ram"].hpa == 1 << 40
    assert parts.segments["guest-b.stage2"].view.readonly
    parts.counters.add("sleeps", 3)
    assert parts.segments["guest-b.counters"].view[8] == 3
    parts.close()


def test_process_says_that_it_is_ready_and_is_told_to_stop(wire: Wire, descriptors: dict[str, int]) -> None:
    heard = []

    def have_it_stopped() -> bool:
        heard.append(wire.hear())
        wire.say(Stop(), to="guest-b")
        del parts.loop.runnable[have_it_stopped]
        return True

    with process_parts(plan(), descriptors, wire.run_dir, peers=1) as parts:
        bell = Bell(parts.segments["guest-b.ram"].pinned)
        parts.doorbell(bell, NAME).ring()
        parts.loop.runnable[have_it_stopped] = None
        parts.serve()
    [(name, message)] = heard
    assert (name, isinstance(message, Ready), bell.rung) == ("guest-b", True, 1)
    assert parts.context.closed


def test_process_that_fails_says_why_and_gives_all_back(wire: Wire, descriptors: dict[str, int]) -> None:
    with (
        pytest.raises(DeviceError, match="no such queue"),
        process_parts(plan(), descriptors, wire.run_dir) as parts,
    ):
        raise DeviceError("no such queue")
    assert wire.hear() == ("guest-b", Failed(reason="no such queue"))
    assert parts.context.closed


def test_process_that_is_stopped_while_it_comes_up_leaves_in_order(
    wire: Wire, descriptors: dict[str, int]
) -> None:
    def come_up(_parts: ProcessParts) -> None:
        raise StopRequested("told to stop")

    with process_parts(plan(), descriptors, wire.run_dir) as parts:
        come_up(parts)
    assert parts.context.closed


def test_process_runs_where_its_plan_says(wire: Wire, descriptors: dict[str, int]) -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    try:
        parts = ProcessParts(plan((cpu,)), descriptors, wire.run_dir)
        assert os.sched_getaffinity(0) == {cpu}
        parts.close()
    finally:
        os.sched_setaffinity(0, before)
