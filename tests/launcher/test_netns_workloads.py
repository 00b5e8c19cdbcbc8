"""Network namespaces in the topology file: what they become in the plan, and every mistake with its line."""

# ruff: noqa: E501 - a message stands on one line, as a person reads it

import pytest

from launcher.netns import guests_of, why_none
from launcher.planner import plan_topology
from launcher.topology import parse_topology
from testbed.errors import ConfigError
from testbed.messages.entries import Plan, TapEntry

GUESTS = """name: t
guests:
  a: {nics: [{kind: virtio-net}, {kind: e1000}]}
  b: {nics: [{kind: virtio-net, backend: sink}, {kind: virtio-net, mtu: 1000}]}
  c: {nics: []}
  d: {count: 2}
  l: {kind: external}
workloads:
"""


def text_of(*workloads: str) -> str:
    return GUESTS + "".join(f"  - {workload}\n" for workload in workloads)


def planned(*workloads: str) -> Plan:
    return plan_topology(parse_topology(text_of(*workloads)))


def problems(*workloads: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_topology(text_of(*workloads), "f")
    return list(caught.value.problems)


def test_namespaces_become_taps_of_their_guests_and_are_no_phase() -> None:
    plan = planned(
        "{kind: netns, guest: a, address: 10.0.0.1/24}",
        "[{kind: rr, from: d0, to: d1}, {kind: netns, guest: a, nic: 1, address: 'fd00::0001/64'}]",
        "{kind: netns, guest: b, nic: 1, address: 10.0.0.2/24}",
    )
    taps = {guest.name: guest.taps for guest in guests_of(plan) if guest.taps}
    assert taps == {
        "a": (
            TapEntry(nic=0, interface="eth0", address="10.0.0.1/24", descriptor="a.tap0"),
            TapEntry(nic=1, interface="eth1", address="fd00::1/64", descriptor="a.tap1"),
        ),
        "b": (TapEntry(nic=1, interface="eth1", address="10.0.0.2/24", descriptor="b.tap1"),),
    }
    processes = {process.name: process for process in plan.processes}
    assert (processes["a"].files, processes["d0"].files) == (("a.tap0", "a.tap1"), ())
    assert {"tap0.read", "tap1.dropped.refused"} <= set(processes["a"].counter_names)
    assert [[flow.name for flow in phase] for phase in plan.phases] == [["rr d0->d1"]]


@pytest.mark.parametrize(
    ("workload", "problem"),
    [
        ("{kind: netns, guest: a}", ".address: is required, e.g. `address: 10.0.0.1/24`"),
        ("{kind: netns, guest: a, address: 10.0.0.1}", '.address: must be an address with prefix length such as 10.0.0.1/24, not "10.0.0.1"'),
        ("{kind: netns, guest: a, address: 10.0.0.0/24}", '.address: must be an address that a host can have, not "10.0.0.0/24"'),
        ("{kind: netns, guest: a, address: 224.0.0.1/8}", '.address: must be an address that a host can have, not "224.0.0.1/8"'),
        ("{kind: netns, guest: a, nic: 2, address: 10.0.0.1/24}", ".nic: guest a has nic0, nic1, not nic2"),
        ("{kind: netns, guest: c, address: 10.0.0.1/24}", ".nic: guest c has no NIC, not nic0"),
        ("{kind: netns, guest: b, address: 10.0.0.1/24}", ".nic: nic0 of b has a sink behind it: a network stack needs the bridge"),
        ("{kind: netns, guest: b, nic: 1, address: 'fd00::1/64'}", ".address: IPv6 needs an mtu of at least 1280, not 1000"),
        ("{kind: netns, guest: l, address: 10.0.0.1/24}", ".guest: l is an external guest, with a network stack of its own"),
        ("{kind: netns, guest: d, address: 10.0.0.1/24}", ".guest: d is 2 guests: name one of them, e.g. d0"),
        ("{kind: netns, guest: x, address: 10.0.0.1/24}", '.guest: there is no guest "x"; the guests are a, b, c, d0, d1, l'),
    ],
)  # fmt: skip
def test_mistakes(workload: str, problem: str) -> None:
    assert problems(workload) == [f"f:9: workloads[0]{problem}"]


def test_mistakes_that_two_make_together() -> None:
    said = problems(
        "{kind: netns, guest: a, address: 10.0.0.1/24}",
        "{kind: netns, guest: a, address: 10.0.0.2/24}",
        "{kind: netns, guest: d0, address: 10.0.0.1/16}",
        "{kind: pktgen, from: d1, to: a}",
        "{kind: pktgen, from: a.nic1, to: d1}",
    )
    stack = "is the interface of a network namespace, no end of a flow: run a program with virtbed exec, or give the guest another NIC"
    assert said == [
        "f:10: workloads[1].nic: nic0 of a has a namespace already (line 9)",
        "f:11: workloads[2].address: 10.0.0.1/16 is also that of the namespace on line 9",
        f"f:12: workloads[3].to: a.nic0 {stack}",
    ]


def test_why_a_guest_has_no_namespace() -> None:
    plan = planned("{kind: netns, guest: a, address: 10.0.0.1/24}")
    assert why_none(plan, "b").startswith("guest b has no network namespace (only a): give it the workload")
    assert why_none(plan, "dd0") == "topology t has no guest dd0 (did you mean d0?)"
    assert "(no guest has one)" in why_none(planned("{kind: rr, from: d0, to: d1}"), "a")
