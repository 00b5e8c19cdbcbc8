"""Workloads of interrupts in the topology file: whose they are, what is refused, what their result says."""

import pytest

from launcher.planner import plan_topology
from launcher.result import ExitCode, exit_code, flow_result
from launcher.topology import parse_topology
from testbed.errors import ConfigError
from testbed.messages.control import Received, Sent
from testbed.messages.entries import FlowEntry, GuestEntry, VfEntry

GUESTS = """
name: t
hosts: {h0: {nics: {nic0: {vfs: 2}}}}
guests:
  a: {vcpus: 3, nics: []}
  b: {}
  f: {nics: [{kind: e1000}, {kind: vf, nic: nic0}]}
  s: {vcpus: 2, nics: [{kind: vf, nic: nic0, affinity: [0, 1, 1]}]}
workloads:
"""


def flows(*workloads: str) -> list[FlowEntry]:
    """Return the flows of a file with these workloads."""
    topology = parse_topology(GUESTS + "".join(f"  - {workload}\n" for workload in workloads))
    return [flow for phase in plan_topology(topology).phases for flow in phase]


def test_timer_and_ipi_are_of_the_vcpus_that_are_named() -> None:
    found = flows(
        "{kind: timer, from: b}",
        "{kind: timer, from: a.vcpu2, interval: 50us, count: 7}",
        "{kind: ipi, from: a.vcpu2}",
        "{kind: ipi, from: a, to: a.vcpu2, duration: 2s}",
    )
    ends = [(flow.name, flow.source, flow.source_vcpu, flow.destination_vcpu) for flow in found]
    assert ends == [
        ("timer b", "b", 0, 0),
        ("timer a.vcpu2", "a", 2, 2),
        ("ipi a.vcpu2->a.vcpu0", "a", 2, 0),
        ("ipi a.vcpu0->a.vcpu2", "a", 0, 2),
    ]
    lengths = [(flow.interval_ns, flow.duration_ns, flow.count) for flow in found]
    ms, s = 10**6, 10**9
    assert lengths == [(ms, s, 0), (50_000, 0, 7), (ms, s, 0), (ms, 2 * s, 0)]


def test_steer_is_of_a_function_and_needs_all_that_its_interrupts_pass() -> None:
    (flow,) = flows("{kind: steer, from: s, interval: 200us, count: 9}")
    assert (flow.name, flow.source, flow.source_nic, flow.source_vcpu) == ("steer s.nic0", "s", 0, 0)
    assert (flow.interval_ns, flow.duration_ns, flow.count) == (200_000, 0, 9)
    assert flow.through == ("vmm-h0", "iommu-h0", "nic0")
    assert flow.is_interrupts


def test_affinity_of_vectors_is_the_guest_s_vcpus() -> None:
    plan = plan_topology(parse_topology(GUESTS + "  - {kind: steer, from: s}\n"))
    affinities = [
        nic.affinity
        for process in plan.processes
        if isinstance(process.entry, GuestEntry)
        for nic in process.entry.nics
        if isinstance(nic, VfEntry)
    ]
    assert affinities == [(0, 0, 0), (0, 1, 1)]
    with pytest.raises(ConfigError) as refused:
        parse_topology(GUESTS.replace("[0, 1, 1]", "[0, 2, 1]") + "  - {kind: timer, from: a}\n")
    assert "guest s has 2 vCPUs, numbered from 0, not [0, 2, 1]" in str(refused.value.problems)


@pytest.mark.parametrize(
    ("workload", "told"),
    [
        ("{kind: ipi, from: b}", "guest b has one vCPU and none to send to"),
        ("{kind: ipi, from: a, to: b}", "must be another vCPU of guest a"),
        ("{kind: ipi, from: a.vcpu1, to: a.vcpu1}", "must be another vCPU of guest a"),
        ("{kind: timer, from: a.vcpu3}", "guest a has vcpu0, vcpu1, vcpu2, not "),
        ("{kind: storm, from: a, what: rain}", "must be one of sgi, no-eoi, registers, spin, hypercalls"),
        ("{kind: storm, from: a.vcpu9, what: sgi}", "guest a has vcpu0, vcpu1, vcpu2, not "),
        ("{kind: steer, from: a}", "must be a virtual function of guest a"),
        ("{kind: steer, from: b.nic1}", "must be a virtual function of guest b"),
        ("{kind: steer, from: f.nic0}", 'must be a virtual function of guest f, not "f.nic0": it has nic1'),
        ("{kind: steer, from: f.nic1}", "guest f has one vCPU and none to steer to"),
        ("{kind: timer, from: c}", "there is no guest"),
        ("{kind: timer, from: a, interval: 1us}", "interval"),
        ("{kind: timer, from: a, count: 3, duration: 1s}", "not both"),
    ],
)
def test_workloads_of_interrupts_that_cannot_run_are_refused(workload: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        flows(workload)
    assert any(told in text for text in refused.value.problems)
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize(("taken", "spurious"), [(10, 0), (9, 0), (10, 1)])
def test_an_interrupt_lost_or_spurious_fails_the_flow(taken: int, spurious: int) -> None:
    (flow,) = flows("{kind: timer, from: b}")
    sent = Sent(flow_id=1, sent=10, answered=taken, seconds=2.0)
    none = {"reordered": 0, "corrupted": 0, "bytes": 0}
    received = Received(flow_id=1, received=taken, duplicated=spurious, seconds=2.0, **none)
    result = flow_result(flow, 1, sent, received)
    assert (result.sent, result.received, result.lost, result.spurious) == (10, taken, 10 - taken, spurious)
    assert result.interrupts_per_second == taken / 2
    wrong = taken < 10 or spurious
    expected = ExitCode.EXPECTATION_FAILED if wrong else ExitCode.GOOD
    assert exit_code([result], [], error=False) == expected
