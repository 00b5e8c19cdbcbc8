"""`virtbed irq` on a topology that runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPOLOGY = """
name: irqs
guests: {a: {}, b: {nics: [{kind: e1000}]}}
workloads: [{kind: rr, from: a, to: b, count: 20}]
"""
pytestmark = pytest.mark.usefixtures("run_parent")


def virtbed(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_counts_and_states_of_every_vcpu(tmp_path: Path) -> None:
    file = tmp_path / "irqs.yaml"
    file.write_text(TOPOLOGY)
    up = virtbed("up", file)
    assert up.returncode == 0, up.stderr
    try:
        told = virtbed("irq", "irqs", "--json", "-")
        shown = virtbed("irq", "irqs")
    finally:
        down = virtbed("down", "irqs")
    status = json.loads(told.stdout)

    assert [(vcpu["guest"], vcpu["vcpu"], vcpu["way"]) for vcpu in status["vcpus"]] == [
        ("a", 0, "list-registers"),
        ("b", 0, "list-registers"),
    ]
    assert status["routes"] == {}
    assert status["counters"]["vmm-h0"]["interrupts.e1000"] > 0
    assert "list registers" in shown.stdout
    assert down.returncode == 0


def test_topology_that_does_not_run_is_named() -> None:
    said = virtbed("irq", "nowhere")

    assert said.returncode == 2
    assert "nowhere" in said.stderr
