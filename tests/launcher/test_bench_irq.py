"""The bench of interrupts: what each way costs, and that nothing is left behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.bench_irq import NAMES
from launcher.irq_plan import DEVICE, HYPERVISOR, IOMMU, VCPU, Timing, irq_plan

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("run_parent")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launcher", "bench", "irq", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def both() -> dict[str, Any]:
    done = bench("--seconds", "0.5", "--pairs", "1", "--json", "-")
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_direct_interrupts_cost_no_exit_and_no_message_of_the_hypervisor(both: dict[str, Any]) -> None:
    direct = both["ways"]["direct"]

    assert direct["exits_per_interrupt"]["max"] == 0
    assert direct["vmm_messages_per_interrupt"]["max"] == 0
    assert direct["interrupts_per_second"]["min"] > 0


def test_list_registers_cost_an_exit_each(both: dict[str, Any]) -> None:
    by_list = both["ways"]["list-registers"]

    # the first may find the vCPU not yet in the guest
    assert by_list["exits_per_interrupt"]["min"] > 0.9
    assert by_list["vmm_messages_per_interrupt"]["min"] > 0.9


def test_both_ways_are_compared_pair_by_pair(both: dict[str, Any]) -> None:
    p50 = {way: both["ways"][way]["p50_us"]["median"] for way in ("direct", "list-registers")}

    assert both["p50_ratio"]["median"] == pytest.approx(p50["direct"] / p50["list-registers"], rel=1e-3)
    assert 0 < p50["direct"] <= both["ways"]["direct"]["p99_us"]["median"]
    assert both["interrupts"] > 0


def test_one_way_and_a_bound_that_is_not_kept() -> None:
    done = bench(
        *("--way", "direct", "--seconds", "0.2", "--pairs", "1", "--poll", "200us", "--gap", "100us"),
        *("--at-most", "direct.exits_per_interrupt=0", "--at-least", "direct.interrupts_per_second=1e9"),
    )

    assert done.returncode == 1
    assert "direct.interrupts_per_second must be at least 1e+09" in done.stderr
    assert "list-registers" not in done.stdout


def test_unknown_figure_is_named() -> None:
    done = bench("--at-most", "p50=1")

    assert done.returncode == 2
    assert "p50 is not measured here" in done.stderr
    assert NAMES[0] in done.stderr


def test_each_process_maps_only_what_concerns_it() -> None:
    plan = irq_plan("direct", Timing(duration_ns=1, gap_ns=0, poll_ns=0))
    maps = {process.name: {segment.name for segment in process.segments} for process in plan.processes}

    assert maps[DEVICE] == {"nic0.dma", "nic0.sram", "stamps", "nic0.counters"}
    assert not maps[VCPU] & {"h0.tables", "vpt", f"{IOMMU}.window", f"{IOMMU}.lpis"}
    assert "stamps" not in maps[IOMMU]
    assert not maps[HYPERVISOR] & {"nic0.dma", "nic0.sram", "lpi-table"}


@pytest.mark.parametrize("kind", ["timer", "ipi", "virtio", "e1000"])
def test_what_is_no_message_of_a_function_goes_by_list_registers(kind: str) -> None:
    """Exits: a forced one, or the source's own; and an e1000's handler reads its causes."""
    done = bench("--kind", kind, "--way", "direct", "--seconds", "0.2", "--pairs", "1", "--json", "-")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["ways"]["direct"]

    exits = figures["exits_per_interrupt"]["median"]
    assert exits > {"timer": 0.5, "ipi": 0.9, "virtio": 0.9, "e1000": 1.8}[kind]
    assert figures["messages_per_interrupt"]["median"] > 0
    assert 0 < figures["p50_us"]["median"] <= figures["p99_us"]["median"]
    assert figures["interrupts_per_second"]["median"] > 0
