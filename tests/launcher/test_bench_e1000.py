"""The bench of the emulated e1000: what it runs and what it says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.bench_e1000 import Settings, topology

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("run_parent")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", "bench", "e1000", "--seconds", "0.3", "--pairs", "1"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_figures_say_what_a_frame_costs() -> None:
    done = bench("--path", "forward", "--json", "-")
    assert done.returncode == 0, done.stderr
    measured: dict[str, Any] = json.loads(done.stdout)
    one, many = measured["kicks"]
    assert (one["frames_per_kick"], many["frames_per_kick"]) == (1, 32)
    assert one["sent"]["exits_by_register"]["TDT.write"] == 1
    assert 1 / 32 <= many["sent"]["exits_by_register"]["TDT.write"] < 0.2
    assert (one["copies"], many["copies"]) == (1, 1)
    assert 0 < one["received"]["exits_by_register"]["RDT.write"] <= 1 / 16
    ratio = many["frames_per_second"]["median"] / one["frames_per_second"]["median"]
    assert measured["speed_up"]["median"] == pytest.approx(ratio, rel=1e-3)


def test_a_bound_that_is_not_kept_is_told() -> None:
    done = bench("--kick", "8", "--at-least", "frames_per_second_8=1", "--at-least", "exits_8=1")
    assert done.returncode == 1
    assert "exits_8 must be at least 1, and its median is 0.1" in done.stderr
    assert "frames_per_second_8" not in done.stderr
    assert "copies a frame" in done.stdout


def test_a_bound_of_what_is_not_measured_is_refused() -> None:
    done = bench("--at-least", "frames_per_second_8=1")
    assert done.returncode == 2
    assert "there are: frames_per_second_1, exits_1, frames_per_second_32, exits_32" in done.stderr


def test_guests_share_a_processor_and_the_vmm_has_its_own_where_they_are_pinned() -> None:
    pinned, free = (topology(Settings(path="forward", pin=pin), 1) for pin in (True, False))
    assert pinned["guests"]["sender"]["cpus"] == pinned["guests"]["receiver"]["cpus"]
    assert ("cpus" in pinned["hosts"]["h0"], "cpus" in free["hosts"]["h0"]) == (True, False)
    assert topology(Settings(), 1, idle=True)["workloads"] == []
