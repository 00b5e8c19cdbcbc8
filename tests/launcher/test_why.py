"""`virtbed why`: what is read from results, what is refused, and that each pair of files differs."""

import io
from dataclasses import replace

import pytest
from msgspec.structs import replace as replaced
from rich.console import Console

from launcher.result import AttackResult, FlowResult, Result, machine
from launcher.topology import load_topology
from launcher.why import Side, WhyResult, find_case, refusal, shortened, topology_file, why_table
from launcher.why_cases import CASES, Case
from testbed.errors import ConfigError


def flow(kind: str, source: str, destination: str, sent: int, received: int) -> FlowResult:
    return FlowResult(
        name=f"{kind} {source}->{destination}",
        kind=kind,  # type: ignore[arg-type]
        phase=1,
        source=source,
        destination=destination,
        frame_bytes=60,
        sent=sent,
        received=received,
        lost=sent - received,
    )


def result(*flows: FlowResult, **counters: dict[str, int]) -> Result:
    return Result(
        topology="t", seconds=1, exit_code=0, flows=flows, counters=dict(counters), machine=machine()
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_file_is_refused_where_it_does_not_say_what_it_does(case: Case) -> None:
    said = refusal(case)
    assert "why/" in said
    assert ": " in said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_cure_has_the_same_guests_and_the_same_work(case: Case) -> None:
    name = case.name
    first, second = (load_topology(topology_file(each)) for each in (name, f"{name}-fixed"))
    assert [guest.name for guest in first.guests] == [guest.name for guest in second.guests]
    assert [[replace(f, way=()) for f in phase] for phase in first.phases] == [
        [replace(f, way=()) for f in phase] for phase in second.phases
    ]


def test_one_address_is_harmful_where_frames_go_astray() -> None:
    case = find_case("mac")
    broken = case.figures(
        result(
            flow("pktgen", "peer", "a", 10, 10),
            flow("pktgen", "peer", "b", 10, 0),
            a={"nic0.foreign_frames": 10},
        )
    )
    good = case.figures(result(flow("pktgen", "peer", "a", 10, 10), flow("pktgen", "peer", "b", 10, 10)))
    assert broken["of the peer's frames for b, arrived there, %"] == 0
    assert broken["frames that a got and are not its own"] == 10
    assert case.harmed(broken, good)
    assert not case.harmed(good, good)
    assert not case.harmed(broken, broken)


def test_a_spy_is_harmful_where_it_reads() -> None:
    case = find_case("snoop")
    read = case.figures(result(flow("rr", "a", "b", 5, 5), spy={"nic0.foreign_frames": 10}))
    unread = case.figures(result(flow("rr", "a", "b", 5, 5)))
    assert read["frames between a and b"] == read["of these, read by the spy"] == 10
    assert case.harmed(read, unread)
    assert not case.harmed(unread, unread)


def test_workloads_can_be_made_shorter_but_those_that_count_are_not() -> None:
    topology = load_topology(topology_file("mac"))
    (first, *_), *_ = shortened(topology, 0.25).phases
    assert first.duration_ns == 250_000_000
    assert shortened(topology, 0) is topology


def test_dma_is_harmful_where_memory_changes_and_harmless_where_it_is_an_event() -> None:
    case = find_case("dma")
    attack = AttackResult(
        name="n", attack="dma-other-guest", phase=1, source="mallory", function="nic0.vf0", attempts=9
    )
    through = replaced(attack, through=4096)
    broken = case.figures(replaced(result(), attacks=(through,)))
    events = {"iommu-h0": {"fault.F_TRANSLATION": 9}}
    stopped = case.figures(replaced(result(), attacks=(attack,), counters=events))
    assert case.harmed(broken, stopped)
    assert not case.harmed(stopped, stopped)
    assert not case.harmed(broken, broken)
    assert not case.harmed(broken, case.figures(replaced(result(), attacks=(attack,))))


def test_an_unknown_problem_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of mac, snoop"):
        find_case("mad")


def test_the_table_has_both_runs_and_the_refusal() -> None:
    def side(value: float) -> Side:
        return Side(file="f", what="cure it", exit_code=0, figures={"frames read": value})

    seen = WhyResult(
        schema=1,
        name="snoop",
        unsafe=side(51_501),
        fixed=side(0),
        refused="say [unsafe]",
        holds=True,
        machine=machine(),
    )
    console = Console(width=100, file=io.StringIO())
    with console.capture() as capture:
        console.print(why_table(seen))
    for part in ("51,501", "frames read", "say [unsafe]", "cure it"):
        assert part in capture.get()
