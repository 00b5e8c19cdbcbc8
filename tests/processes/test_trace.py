"""Tracing turned on at run time: `virtbed irq --trace` and `virtbed run --trace`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPOLOGY = """
name: traced
hosts: {h0: {nics: {nic0: {vfs: 2}}}}
guests: {a: {nics: [{kind: vf, nic: nic0}]}, b: {nics: [{kind: vf, nic: nic0}]}}
workloads: [{kind: rr, from: a, to: b, DURATION}]
"""
pytestmark = pytest.mark.usefixtures("run_parent")


def virtbed(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_one_interrupt_of_a_running_topology_is_followed(tmp_path: Path) -> None:
    file = tmp_path / "traced.yaml"
    file.write_text(TOPOLOGY.replace("DURATION", "duration: 60s"))
    up = virtbed("up", file)
    assert up.returncode == 0, up.stderr
    try:
        told = virtbed("irq", "traced", "--trace", "--json", "-")
        shown = virtbed("irq", "traced", "--trace")
    finally:
        virtbed("down", "traced")
    steps = json.loads(told.stdout)["steps"]
    names = [step["event"] for step in steps]
    wanted = ["msi_raised", "dma_taken", "its_physical", "lpi_taken", "edge", "list_register", "acknowledged"]
    assert [name for name in names if name in wanted] == wanted
    assert names[-2:] == ["handler", "ended"]
    times = [step["us"] for step in steps]
    assert times == sorted(times)
    assert "the ITS: event 1 of device nic0.vf" in shown.stdout


VCPUS = """
name: traced
poll: 0
guests: {a: {vcpus: 2, memory: 16MiB, nics: []}}
workloads:
  - - {kind: timer, from: a.vcpu1, interval: 5ms, duration: 60s}
    - {kind: ipi, from: a.vcpu0, to: a.vcpu1, interval: 5ms, duration: 60s}
"""
SGI_STEPS = ["sgi_written", "exit_other", "exit_taken", "sgi_pending"]
TIMER_STEPS = ["timer_deadline", "timer_due", "exit_other", "exit_taken", "timer_asserted"]
HANDLED = ["list_register", "acknowledged", "handler", "ended"]


def test_sgi_and_timer_are_followed_from_source_to_handler(tmp_path: Path) -> None:
    file = tmp_path / "traced.yaml"
    file.write_text(VCPUS)
    up = virtbed("up", file)
    assert up.returncode == 0, up.stderr
    try:
        told = {
            kind: virtbed("irq", "traced", "--trace", "--of", kind, "--json", "-")
            for kind in ("sgi", "timer")
        }
    finally:
        virtbed("down", "traced")
    for kind, first in (("sgi", SGI_STEPS), ("timer", TIMER_STEPS)):
        steps = json.loads(told[kind].stdout)["steps"]
        events = iter([step["event"] for step in steps])
        assert [name for name in (*first, *HANDLED) if name not in events] == []  # in this order
        assert steps[0]["us"] == 0
        # one clock: no step is before the one that it answers
        assert [step["us"] for step in steps] == sorted(step["us"] for step in steps)
        assert all(steps[step["cause"] - 1]["us"] <= step["us"] for step in steps if step["cause"])
        assert {step["process"] for step in steps[-3:]} == {"a.vcpu1"}


def test_quiet_topology_has_no_interrupt_to_follow(tmp_path: Path) -> None:
    file = tmp_path / "traced.yaml"
    file.write_text(TOPOLOGY.replace("DURATION", "count: 1"))
    up = virtbed("up", "--no-workloads", file)
    assert up.returncode == 0, up.stderr
    try:
        told = virtbed("irq", "traced", "--trace", "--seconds", "0.1")
    finally:
        virtbed("down", "traced")
    assert told.returncode == 3
    assert "no interrupt came" in told.stderr


def test_run_writes_the_last_events_of_every_process(tmp_path: Path) -> None:
    file, trace = tmp_path / "traced.yaml", tmp_path / "trace.json"
    file.write_text(TOPOLOGY.replace("DURATION", "count: 5"))
    run = virtbed("run", file, "--quiet", "--trace", trace)
    assert run.returncode == 0, run.stderr
    rows = json.loads(trace.read_text())["traceEvents"]
    tracks = {row["args"]["name"] for row in rows if row["ph"] == "M"}
    assert tracks >= {"a", "b", "nic0", "iommu-h0"}
    checked = [row for row in rows if row["name"] == "frame_checked"]
    assert len(checked) == 10
    assert any(row["ph"] == "s" for row in rows)
