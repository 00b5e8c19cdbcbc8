"""The bench of the ways from a guest to a wire: what it runs and what it says."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.result import FlowResult, ProcessResult, Result, machine
from launcher.wire_ways import WAYS, Traffic, cost_of, plan_way, topology

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("run_parent")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", "bench", "wire", "--seconds", "0.2", "--pairs", "1"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_figures_say_what_a_frame_costs_on_each_way() -> None:
    done = bench("--way", "virtio", "--way", "vf", "--way", "vf-ats", "--json", "-")
    assert done.returncode == 0, done.stderr
    measured: dict[str, Any] = json.loads(done.stdout)
    virtio, vf, ats = (measured["ways"][name]["cost"] for name in ("virtio", "vf", "vf-ats"))
    assert (virtio["vmm_bytes"], vf["vmm_bytes"], ats["vmm_bytes"]) == (60, 0, 0)
    for cost in (virtio, vf, ats):  # a frame and a share of descriptors
        assert 60 < cost["dma_bytes"] < 130
        assert 1 < cost["dma_requests"] < 2
        assert 1 < cost["translations"] < 2
    assert "iommu-h0" in vf["cpu_ns"]
    assert vf["exits"] < 0.01


def test_frames_may_go_on_to_a_guest_across_the_wire() -> None:
    done = bench("--way", "vf", "--far", "guest")
    assert done.returncode == 0, done.stderr
    assert "A guest to a guest across the wire, 60 bytes" in done.stdout
    assert "CPU ns a frame, receiver" in done.stdout


def test_a_ratio_is_held_to_a_bound_and_names_that_are_unknown_are_refused() -> None:
    done = bench("--way", "vf-ats", "--way", "virtio", "--at-least", "vf-ats_to_virtio=1000")
    assert done.returncode == 1
    assert "vf-ats_to_virtio must be at least 1000, and its median is" in done.stderr
    assert "A guest to the wire" in done.stdout
    assert "vf, vf-ats, not tin" in bench("--way", "tin").stderr


@pytest.mark.parametrize("name", WAYS)
def test_ways_differ_in_nothing_but_the_way(name: str) -> None:
    way = WAYS[name]
    for far, receivers in (("wire", 0), ("guest", 1)):
        made = topology(way, Traffic(far=far))  # type: ignore[arg-type]
        assert len(made["guests"]) == 1 + receivers
        assert ("bridge" in made["hosts"]["h0"]) != way.is_vf
        assert made["hosts"]["h0"]["nics"]["nic0"]["ats"] == way.ats
    assert topology(way, Traffic())["hosts"]["h1"] == topology(WAYS["vf"], Traffic())["hosts"]["h1"]
    assert plan_way(way, Traffic(), idle=True).phases == ()


def result(frames: int, cpu_seconds: float, asked: int) -> Result:
    flow = FlowResult(
        name="f", kind="pktgen", phase=1, source="a", destination="b", frame_bytes=60, sent=frames,
        received=frames,
    )  # fmt: skip
    process = ProcessResult(name="a", role="guest", pid=1, cpu_seconds=cpu_seconds, pss_bytes=None)
    counters = {"a": {"bell.asked": asked, "exits.hvc": 3}}
    return Result(
        topology="t", seconds=1.0, exit_code=0, flows=(flow,), processes=(process,), counters=counters,
        machine=machine(),
    )  # fmt: skip


def test_the_cost_of_a_frame_is_what_the_idle_topology_did_not_cost() -> None:
    cost = cost_of(result(1000, 0.5, 2010), result(0, 0.25, 10))
    assert cost.cpu_ns == {"a": 250_000}
    assert (cost.doorbells, cost.exits) == (2, 0)
