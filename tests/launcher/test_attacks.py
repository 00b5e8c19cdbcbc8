"""Attacks in the topology file: what they become in the plan, and every mistake with its line."""

# ruff: noqa: E501 - a message stands on one line, as a person reads it

import pytest

from launcher.planner import plan_topology
from launcher.topology import parse_topology
from testbed.errors import ConfigError
from testbed.messages.entries import Plan

GUESTS = """name: t
hosts:
  h0: {nics: {nic0: {vfs: 4}}}
  h1: {}
guests:
  m: {host: h0, nics: [{kind: virtio-net}, {kind: vf, nic: nic0}]}
  a: {host: h0, nics: [{kind: vf, nic: nic0}]}
  b: {host: h0}
  f: {host: h1}
  e: {host: h0, kind: external}
  s: {host: h0, iommu: smmu, nics: [{kind: vf, nic: nic0}]}
workloads:
"""


def text_of(*workloads: str) -> str:
    return GUESTS + "".join(f"  - {workload}\n" for workload in workloads)


def planned(*workloads: str) -> Plan:
    return plan_topology(parse_topology(text_of(*workloads)))


def problems(*workloads: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_topology(text_of(*workloads), "f")
    return [line.partition(": ")[2] for line in caught.value.problems]


def test_an_attack_stands_in_its_phase_and_names_who_is_concerned() -> None:
    plan = planned(
        "{kind: rr, from: a, to: s, count: 1}",
        "[{kind: attack, from: m, attack: dma-other-guest, victim: b, duration: 2s, others_keep: 0.5}, {kind: pktgen, from: a, to: s}]",
        "{kind: attack, from: m.nic1, attack: dma-vmm}",
        "{kind: attack, from: m, attack: dma-vmm}",
    )
    assert [len(phase) for phase in plan.phases] == [1, 1, 0, 0]
    of_guest, of_vmm, again = plan.attacks
    assert (of_guest.id, of_guest.phase, of_guest.name) == (1, 2, "dma-other-guest m->b")
    assert (of_guest.source, of_guest.source_nic, of_guest.function) == ("m", 1, "nic0.vf0")
    assert (of_guest.nic, of_guest.pool, of_guest.iommu, of_guest.vmm) == ("nic0", 0, "iommu-h0", "vmm-h0")
    assert (of_guest.duration_ns, of_guest.others_keep) == (2 * 10**9, 0.5)
    assert [(each.phase, each.guard, each.victim, each.guard_hpa) for each in (of_vmm, again)] == [
        (3, "vmm-h0", "", 0),
        (4, "vmm-h0", "", 0),
    ]
    assert again.name == "dma-vmm m #2"


def test_the_guard_s_page_is_found_in_the_host_s_memory() -> None:
    plan = planned("{kind: attack, from: m, attack: dma-other-guest, victim: b}")
    ram = next(segment for segment in plan.segments if segment.name == "b.ram")
    entry = next(process.entry for process in plan.processes if process.name == "b")
    (attack,) = plan.attacks
    assert attack.guard == "b"
    assert attack.guard_hpa + entry.ram_gpa == ram.hpa  # type: ignore[union-attr]


def test_a_stolen_address_is_that_of_the_victim() -> None:
    plan = planned("{kind: attack, from: m, attack: spoof-mac, victim: a}")
    macs = {
        nic.name: nic.mac
        for process in plan.processes
        for nic in getattr(process.entry, "nics", ())
        if hasattr(nic, "mac")
    }
    assert (plan.attacks[0].victim_mac, plan.attacks[0].guard) == (macs["a.nic0"], "")


@pytest.mark.parametrize(
    ("attack", "problem"),
    [
        ("from: m, attack: dma-elsewhere", "workloads[0].attack: must be one of dma-other-guest"),
        ("from: b, attack: dma-vmm", "workloads[0].from: no virtual function of guest b can attack: give it a NIC of kind vf"),
        ("from: m.nic0, attack: dma-vmm", "workloads[0].from: only nic1 of guest m can attack"),
        ("from: x, attack: dma-vmm", 'workloads[0].from: there is no guest "x"'),
        ("from: e, attack: dma-vmm", "workloads[0].from: e is an external guest"),
        ("from: m, attack: dma-other-guest", "workloads[0].victim: is required for dma-other-guest"),
        ("from: m, attack: dma-other-guest, victim: m", "workloads[0].victim: must be another guest than `from`"),
        ("from: m, attack: dma-other-guest, victim: f", "workloads[0].victim: must be on the same host as m"),
        ("from: m, attack: dma-vmm, victim: a", "workloads[0].victim: dma-vmm is against no guest: leave it out"),
        ("from: m, attack: spoof-vlan", "workloads[0].vlan: is required for spoof-vlan"),
        ("from: m, attack: dma-vmm, vlan: 3", "workloads[0].vlan: is for spoof-vlan: leave it out"),
        ("from: m, attack: dma-vmm, others_keep: 2", "workloads[0].others_keep: must be a number from 0 to 1"),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_its_rule(attack: str, problem: str) -> None:
    (told,) = problems(f"{{kind: attack, {attack}}}")
    assert told.startswith(problem)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ("{kind: attack, from: m, attack: dma-unmapped}", "workloads[0][1].from: the function attacks already"),
        ("{kind: pktgen, from: m.nic1, to: a}", "workloads[0][0].from: must not be an end of a flow at the same time"),
        ("{kind: pktgen, from: a, to: m.nic1}", "workloads[0][0].from: must not be an end of a flow at the same time"),
    ],
)  # fmt: skip
def test_a_function_that_attacks_does_nothing_else(other: str, problem: str) -> None:
    (told,) = problems(f"[{{kind: attack, from: m, attack: dma-vmm}}, {other}]")
    assert told.startswith(problem)
