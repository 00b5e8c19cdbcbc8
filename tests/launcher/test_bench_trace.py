"""The bench of tracepoints that are off: what it says, and what it is held to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.bench_trace import FIGURES, spreads
from launcher.peers import untraced
from testbed.errors import MachineError

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it with this tree on both sides, which takes no second build."""
    command = [sys.executable, "-m", "launcher", "bench", "trace", "--without", str(ROOT)]
    short = ["--seconds", "0.01", "--pairs", "1"]
    return subprocess.run(
        [*command, *short, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_every_turn_is_set_against_the_one_beside_it() -> None:
    turns = {"frame": [20.4, 40.4, 10.4], "untraced": [20.0, 40.0, 10.0], "control": [20.4, 20.2, 20.8]}
    figures = spreads("packed", turns)
    assert figures["cost_packed_percent"].values == pytest.approx((2, 1, 4))
    assert figures["control_packed_percent"].median == 0
    assert figures["untraced_packed_ns"].median == 20


def test_every_figure_is_measured_and_held_to_its_bound() -> None:
    good = bench("--json", "-")
    assert good.returncode == 0, good.stderr
    measured = json.loads(good.stdout)["measured"]
    assert set(measured) == set(FIGURES)
    assert measured["frame_split_ns"]["median"] > 0
    broken = bench("--at-most", "frame_split_ns=0.001")
    assert broken.returncode == 1
    assert "frame_split_ns must be at most 0.001" in broken.stderr


def test_without_a_source_tree_there_is_nothing_to_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untraced, "ROOT", tmp_path)
    with pytest.raises(MachineError, match=r"bench trace builds .* must be a source tree"):
        untraced.build(tmp_path / "tree")
