"""Which processors a small topology's processes get."""

import pytest

from launcher.placement import place
from launcher.planner import plan_topology
from launcher.topology import parse_topology
from testbed.messages.entries import Plan


def plan_of(text: str) -> Plan:
    return plan_topology(parse_topology(text))


def cpus_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    return {process.name: process.entry.cpus for process in plan.processes}


def test_a_vmm_has_a_core_of_its_own_and_guests_share_the_rest() -> None:
    plan = place(plan_of("name: t\nguests: {a: , b: }\n"), (4, 5))
    assert cpus_of(plan) == {"vmm-h0": (4,), "a": (5,), "b": (5,)}


def test_two_vmms_have_one_each() -> None:
    plan = place(plan_of("name: t\nguests: {a: {host: x}, b: {host: y}}\n"), (0, 1, 2))
    assert cpus_of(plan) == {"vmm-x": (0,), "vmm-y": (1,), "a": (2,), "b": (2,)}


RR, PKTGEN = "{kind: rr, from: a, to: b, duration: 1s}", "{kind: pktgen, from: a, to: b, duration: 1s}"
SLEEPERS = "name: t\npoll: 0\nguests: {a: , b: }\n"


def test_sleepers_of_which_one_at_a_time_works_share_a_core() -> None:
    plan = place(plan_of(f"{SLEEPERS}workloads: [{RR}, {RR}]\n"), (0, 1, 2))
    assert cpus_of(plan) == {"vmm-h0": (2,), "a": (2,), "b": (2,)}


@pytest.mark.parametrize(
    "text",
    [
        f"{SLEEPERS}workloads: [{PKTGEN}]\n",
        f"{SLEEPERS}workloads: [{RR}, {PKTGEN}]\n",
        f"{SLEEPERS}workloads: [[{RR}, {RR}]]\n",
        SLEEPERS,
        f"name: t\nguests: {{a: {{poll: 0}}, b: }}\nworkloads: [{RR}]\n",
        f"name: t\npoll: 0\nguests: {{a: {{cpus: [1]}}, b: }}\nworkloads: [{RR}]\n",
        f"name: t\npoll: 0\nguests: {{a: , b: , g: {{count: 4}}}}\nworkloads: [{RR}]\n",
    ],
    ids=["bulk", "bulk later", "two at a time", "nobody knows", "one polls", "the file says", "a crowd"],
)
def test_other_sleepers_are_left_to_the_scheduler(text: str) -> None:
    plan = plan_of(text)
    assert place(plan, (0, 1, 2)) == plan


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("name: t\nguests: {a: , b: }\n", (0, 1, 2)),
        ("name: t\nguests: {a: , b: }\n", (0,)),
        ("name: t\nguests: {g: {count: 4}}\n", (0, 1)),
        ("name: t\nguests: {a: {host: x}, b: {host: y}}\n", (0, 1)),
        ("name: t\nguests: {a: {cpus: [1]}, b: }\n", (0, 1)),
    ],
    ids=["cores enough", "one core", "a crowd", "a core a vmm and none left", "the file says"],
)
def test_others_are_left_to_the_scheduler(text: str, cores: tuple[int, ...]) -> None:
    plan = plan_of(text)
    assert place(plan, cores) == plan


FUNCTIONS = """name: t
hosts:
  x: {nics: {n0: {vfs: 1, wire: w}}, bridge: {uplink: n0}}
  y: {nics: {n1: {vfs: 1, wire: w}}}
guests:
  a: {host: x, nics: [{kind: vf, nic: n0}]}
  p: {host: x}
  b: {host: y, nics: [{kind: vf, nic: n1}]}
workloads:
  - {kind: pktgen, from: FROM, to: b}
"""


def test_nics_have_a_core_of_their_own_where_no_frame_passes_a_vmm() -> None:
    cpus = cpus_of(place(plan_of(FUNCTIONS.replace("FROM", "a")), (4, 5)))
    assert {name for name, cores in cpus.items() if cores == (4,)} == {"n0", "n1"}
    assert {cores for name, cores in cpus.items() if name not in ("n0", "n1")} == {(5,)}


def test_frames_that_pass_both_vmm_and_nics_are_left_to_the_scheduler() -> None:
    plan = plan_of(FUNCTIONS.replace("FROM", "p"))
    assert place(plan, (4, 5)) == plan
