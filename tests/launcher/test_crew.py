"""Processes that run together for a measurement: what is waited for, and what ends the wait."""

import os
import sys

import pytest

from launcher.peers.crew import crew
from testbed.errors import MachineError

SHORT = [sys.executable, "-c", ""]


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def waiting_for(descriptor: int) -> list[str]:
    return [sys.executable, "-c", f"import os; os.read({descriptor}, 1)"]


def test_rate_counts_through_its_modulus(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    counts = iter((0xFFFF_FFFF, 4))
    with crew("the test", [waiting_for(reading)], reading, lambda: os.close(writing)) as ours:
        rate = ours.rate(lambda: next(counts), 0.002, 1 << 32)
    os.close(reading)
    assert 0 < rate <= 5 / 0.002


def test_process_that_ends_ends_the_measurement(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    commands = [waiting_for(reading), SHORT]
    with (
        pytest.raises(MachineError, match="a process of the test ended"),
        crew("the test", commands, reading, lambda: os.close(writing)) as ours,
    ):
        ours.until_first(lambda: 0, "frame")
    os.close(reading)


def test_processes_are_ended_when_the_measurement_fails(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with (
        pytest.raises(ZeroDivisionError),
        crew("the test", [waiting_for(reading)], reading, lambda: os.close(writing)) as ours,
    ):
        ours.until_first(lambda: 1 // 0, "frame")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(writing, b"x")
    os.close(reading)


def test_a_terminal_interrupts_only_us(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    tells_group = [sys.executable, "-c", f"import os; os.write({writing}, b'%d' % os.getpgid(0))"]
    with crew("the test", [tells_group], writing, lambda: None):
        group = int(os.read(reading, 16))
    assert group not in (0, os.getpgid(0))
    os.close(reading)
    os.close(writing)
