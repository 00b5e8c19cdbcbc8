"""A guest that abuses its interrupt controller: others keep their latency, and the vmm stays responsive.

Two guests ask and answer while a third storms, and while it sleeps, in short phases of one run that take
turns: each phase is compared with the one of its round in which the third sleeps, so the machine's speed,
and what else runs on it, is in both, and each figure is the median over rounds. The baseline is a guest
that does nothing, not one that computes, which on few processors takes from others more than any storm. One
of the two has an e1000, so each request is several exits that the vmm must answer beside those of the
storm.
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from launcher.result import Result
from launcher.service import Interrupts, InterruptStatus, ask
from tests.support.launched import Launched

pytestmark = pytest.mark.usefixtures("run_parent")
NAME: Final = "guest-storms"
ASLEEP: Final = "asleep"
STORMS: Final = ("sgi", "no-eoi", "registers")
TURNS: Final = (ASLEEP, *STORMS)
ROUNDS: Final = 15
PHASES: Final = ROUNDS * len(TURNS)
RATIO_MAX: Final = 2.0
_GUESTS: Final = (
    "{b: {memory: 16MiB, nics: [{kind: e1000}]}, c: {memory: 16MiB}, z: {memory: 16MiB, vcpus: 2, nics: []}}"
)


def storm(what: str, milliseconds: int) -> str:
    """Return a workload of z's."""
    return f"{{kind: storm, from: z, what: {what}, duration: {milliseconds}ms}}"


def topology() -> str:
    """Return the file: phases in turn, and one at the end in which nobody is measured."""
    asked = "{kind: rr, from: b, to: c, duration: 60ms}"
    phases = [[asked] if what == ASLEEP else [asked, storm(what, 60)] for what in TURNS * ROUNDS]
    lines = "".join(f"  - [{', '.join(flows)}]\n" for flows in [*phases, [storm("registers", 1000)]])
    return f"name: {NAME}\nguests: {_GUESTS}\nworkloads:\n{lines}"


def questions(launched: Launched) -> list[InterruptStatus]:
    """Ask the vmm about its interrupt controllers again and again in the last phase; return the answers."""
    launched.until(f"phase {PHASES + 1} of")
    return [ask(NAME, Interrupts(), InterruptStatus) for _ in range(4)]


def ratios(result: Result, figure: str) -> dict[str, float]:
    """Return the medians over rounds of b's latency beside each storm by that beside a guest asleep."""
    storms = {flow.phase: flow.name.split()[0] for flow in result.flows if flow.kind == "storm"}
    found: dict[str, list[float]] = {}
    for flow in result.flows:
        if flow.kind == "rr":
            assert flow.latency_us
            found.setdefault(storms.get(flow.phase, ASLEEP), []).append(flow.latency_us[figure])
    assert {what: len(values) for what, values in found.items()} == dict.fromkeys(TURNS, ROUNDS)
    asleep = found[ASLEEP]
    by_round = {what: [a / b for a, b in zip(found[what], asleep, strict=True)] for what in STORMS}
    return {what: round(median(values), 2) for what, values in by_round.items()}


def storm_exits(counters: Mapping[str, int]) -> int:
    """Return how many accesses of a storm of registers were answered."""
    return counters["exits.gic.read"] + counters["exits.gic.write"]


def test_others_keep_their_latency_beside_a_guest_that_storms(tmp_path: Path) -> None:
    launched = Launched(topology(), tmp_path)
    answers = questions(launched)
    assert launched.end() == 0
    result = launched.result()
    assert (result.died, result.error) == ((), None)

    p50, p99 = ratios(result, "p50"), ratios(result, "p99")
    print("latency beside storms by that beside a guest asleep:", p50, "p99:", p99)
    assert max(p50.values()) <= RATIO_MAX, (p50, p99)
    _is_paced(result)
    _was_responsive(result, answers)


def _is_paced(result: Result) -> None:
    """Every storm was answered, and had to wait for its answers."""
    stormed = [flow.sent for flow in result.flows if flow.kind == "storm"]
    assert (len(stormed), median(stormed) > 0) == (len(STORMS) * ROUNDS + 1, True)
    vmm = result.counters["vmm-h0"]
    assert vmm["exits.paced"] >= ROUNDS
    assert vmm["vgic.odd_access"] > 0


def _was_responsive(result: Result, answers: list[InterruptStatus]) -> None:
    """Questions were answered while the storm was: exits before the first, between, and after the last."""
    assert [[vcpu.vcpu for vcpu in each.vcpus if vcpu.guest == "z"] for each in answers] == [[0, 1]] * 4
    counted = [storm_exits(each.counters["vmm-h0"]) for each in answers]
    assert 0 < counted[0] < counted[-1] < storm_exits(result.counters["vmm-h0"])
