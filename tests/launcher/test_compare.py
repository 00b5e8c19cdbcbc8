"""`virtbed compare`: its topologies, what rounds come to, the order, exits, the table."""

import io
import json

import msgspec
import pytest
from rich.console import Console

from launcher.compare import exit_problems, run_comparison
from launcher.compare_order import order_of, order_problems
from launcher.compare_result import Comparison, Settings
from launcher.compare_table import comparison_view
from launcher.compare_ways import (
    ENDS,
    PLACES,
    REFERENCE,
    STOCK,
    WAYS,
    Step,
    processes,
    steps,
    topology,
    warm_ups,
)
from launcher.planner import plan_topology
from launcher.topology import parse_topology
from testbed.errors import ConfigError
from tests.launcher.comparisons import RATES, comparison, ways


@pytest.mark.parametrize("name", WAYS)
def test_every_way_is_a_topology_with_a_phase_for_each_measurement(name: str) -> None:
    plan = plan_topology(parse_topology(json.dumps(topology(WAYS[name], 0.5, 2, (0, 1)))))
    asked = [(step.kind, (step.frame_bytes,)) for step in steps()]
    measured = [flow for (flow,) in plan.phases][-2 * len(asked) :]
    assert [(flow.kind, flow.frame_bytes) for flow in measured] == 2 * asked
    assert {flow.duration_ns for flow in measured} == {500_000_000}
    assert measured[-1].destination == "nic4"


def test_everything_that_is_measured_is_done_before_and_frames_go_the_other_way_as_well() -> None:
    plan = plan_topology(parse_topology(json.dumps(topology(WAYS["vf"], 0.5, 0, (0, 1)))))
    flows = [(flow.source, flow.destination, flow.kind, flow.frame_bytes) for (flow,) in plan.phases]
    assert len(flows) == len(list(warm_ups()))
    for step in steps():
        source, destination = ENDS[step.place]
        assert (source, destination, step.kind, (step.frame_bytes,)) in flows
        if destination in "bd":
            assert (destination, source, "pktgen", (step.frame_bytes,)) in flows


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("cpus", [(3,), (1, 5), (0, 1, 2, 3), tuple(range(64))])
def test_every_process_has_a_processor_in_the_order_of_the_path(name: str, cpus: tuple[int, ...]) -> None:
    way = WAYS[name]
    plan = plan_topology(parse_topology(json.dumps(topology(way, 0.5, 1, cpus))))
    at = {process.name: process.entry.cpus for process in plan.processes}
    named = {process for place in PLACES for process in processes(way, place)}
    assert set(at) == named
    assert all(len(its) == 1 for its in at.values())
    for place in PLACES:
        path = [at[process] for process in processes(way, place)]
        assert path == sorted(path)
        assert len(set(path)) > 1 or len(cpus) == 1


def test_steps_have_every_place_and_requests_come_before_rates() -> None:
    found = list(steps())
    assert {step.place for step in found} == set(PLACES)
    assert len(found) == len(set(found)) == 8
    for place in ("host", "guest"):
        assert [step.kind for step in found if step.place == place] == ["rr", "pktgen", "pktgen"]


def test_rounds_come_to_medians_with_every_value_kept() -> None:
    measured = ways()["e1000"].at("wire", "pktgen", 60)
    rate = measured.figures["frames_per_second"]
    assert rate.values == (9000.0, 10_000.0, 12_000.0)
    assert rate.median == 10_000
    assert measured.cpu_ns == {"sender": 25_000.0, "vmm-h0": 75_000.0}
    ratio = measured.figures["ratio"]
    assert ratio.median == pytest.approx(RATES["emulated"] / RATES["paravirtual"], rel=1e-3)


def test_exits_count_in_every_try() -> None:
    measured = ways(exits={"vf": {"data-abort": 10}})["vf"].at("wire", "pktgen", 60)
    assert measured.exits == {"data-abort": 0.01}


def test_latency_has_no_rate_and_a_rate_no_latency() -> None:
    way = ways()["vf"]
    assert "frames_per_second" not in way.at("host", "rr", 60).figures
    assert "p50_us" not in way.at("host", "pktgen", 60).figures


def test_the_order_has_ratios_and_holds() -> None:
    order = order_of(ways())
    assert [one.way for one in order] == [STOCK[one.method] for one in order]
    emulated, paravirtual, passthrough = order
    assert emulated.speed_up is None
    assert paravirtual.speed_up == pytest.approx(100, rel=1e-3)
    assert passthrough.saving == pytest.approx(3, rel=1e-3)
    assert order_problems(order) == []


def test_an_order_that_does_not_hold_is_told_by_both_measures() -> None:
    problems = order_problems(order_of(ways(factor=0.1)))
    assert len(problems) == 2
    assert all(
        problem.startswith("passthrough (vf-ats) must be ahead of paravirtual") for problem in problems
    )


@pytest.mark.parametrize(
    ("way", "exits", "wrong"),
    [
        ("vf", {"irq": 5}, False),
        ("vf", {"mmio_write": 1}, True),
        ("vf-direct", {"irq": 1}, True),
        ("vf-ats-direct", {}, False),
        ("e1000", {"mmio_write": 1000}, False),
    ],
)
def test_a_guest_with_a_function_may_leave_for_list_registers_only(
    way: str, exits: dict[str, int], wrong: bool
) -> None:
    problems = exit_problems(ways(exits={way: exits}))
    assert bool(problems) == wrong
    assert all(problem.startswith(f"{way}, ") for problem in problems)


def test_ways_without_the_one_others_are_divided_by_are_refused() -> None:
    with pytest.raises(ConfigError, match=f"{REFERENCE} among them, not e1000"):
        run_comparison(Settings(ways=("e1000",)), print, None, "")


def test_a_comparison_survives_being_written() -> None:
    made = comparison()
    assert msgspec.json.decode(msgspec.json.encode(made), type=Comparison) == made


def test_the_table_has_ways_order_and_what_did_not_hold() -> None:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        console.print(comparison_view(comparison(factor=0.1)))
    for part in (*WAYS, "does not hold", "7 of 7 <frames>", "lecture: no", "because", "3 rounds"):
        assert part in capture.get()


def test_a_step_is_told_apart_by_all_it_has() -> None:
    assert Step(place="host", kind="rr", frame_bytes=60) != Step(place="guest", kind="rr", frame_bytes=60)
