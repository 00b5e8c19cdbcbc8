"""The interrupts of virtual functions in real topologies, by list registers and injected by the ITS."""

from pathlib import Path

import pytest

from launcher.result import Result
from tests.support.launched import Launched

pytestmark = pytest.mark.usefixtures("run_parent")

# Who wakes to send has its receive vector unmasked: by list registers a frame that arrives just then forces
# an exit. Whether one does is a matter of time; bench irq has a vCPU that never sleeps (test_bench_irq).
TOPOLOGY = """
name: ways
hosts: {{h0: {{nics: {{nic0: {{vfs: 2}}}}}}}}
guests:
  v: {{memory: 16MiB, interrupts: {way}, poll: 0, nics: [{{kind: vf, nic: nic0}}]}}
  w: {{memory: 16MiB, interrupts: {way}, poll: 0, nics: [{{kind: vf, nic: nic0}}]}}
workloads:
  - {{kind: rr, from: v, to: w, count: 200}}
  - - {{kind: pktgen, from: v, to: w, count: 2000, rate: 2000}}
    - {{kind: pktgen, from: w, to: v, count: 2000, rate: 2000}}
"""
MIXED = """
name: mixed
hosts: {h0: {nics: {nic0: {vfs: 3, ats: true}}, bridge: {uplink: nic0}}}
guests:
  d:
    memory: 32MiB
    interrupts: direct
    poll: 0
    nics: [{kind: vf, nic: nic0}, {kind: vf, nic: nic0}, {kind: virtio-net}, {kind: e1000}]
  l: {memory: 16MiB, poll: 0, nics: [{kind: vf, nic: nic0}]}
  p: {memory: 16MiB, interrupts: direct, poll: 0}
workloads:
  - {kind: rr, from: l, to: d.nic0, count: 50}
  - {kind: rr, from: l, to: d.nic1, count: 50}
  - {kind: rr, from: p, to: d.nic2, count: 50}
  - {kind: rr, from: p, to: d.nic3, count: 50}
"""
STEERED = """
name: steered
hosts: {{h0: {{nics: {{nic0: {{vfs: 2}}}}}}}}
guests:
  v:
    vcpus: 2
    memory: 16MiB
    interrupts: {way}
    poll: 0
    nics: [{{kind: vf, nic: nic0, affinity: [0, 1, 0]}}]
  w: {{memory: 16MiB, interrupts: {way}, poll: 0, nics: [{{kind: vf, nic: nic0}}]}}
workloads:
  - {{kind: rr, from: w, to: v, count: 100}}
  - {{kind: steer, from: v, interval: 100us, count: 300}}
  - - {{kind: pktgen, from: w, to: v, count: 1000, rate: 2000}}
    - {{kind: steer, from: v, interval: 100us, count: 300}}
"""
FORGED = """
name: forged
hosts: {{h0: {{nics: {{nic0: {{vfs: 2}}}}}}}}
guests:
  mallory: {{memory: 16MiB, interrupts: {way}, poll: 0, nics: [{{kind: vf, nic: nic0}}]}}
  alice: {{vcpus: 2, memory: 16MiB, interrupts: {way}, poll: 0, nics: [{{kind: vf, nic: nic0}}]}}
workloads:
  - - {{kind: attack, from: mallory, attack: dma-msi-window, duration: 300ms}}
    - {{kind: steer, from: alice, count: 200}}
"""
_FORCED = ("exits.irq", "exits.maintenance")


def run(topology: str, directory: Path) -> Result:
    launched = Launched(topology, directory)
    code, result = launched.end(), launched.result()
    assert [flow.name for flow in result.flows if not flow.good] == []
    assert (code, result.died, result.reports, result.error) == (0, (), (), None)
    return result


def exits(result: Result, guest: str) -> dict[str, int]:
    counters = result.counters[guest]
    return {name: count for name, count in counters.items() if name.startswith("exits.") and count}


def vmm_messages(result: Result) -> int:
    """Return for how much the vmm rang a vCPU, besides the answers to exits that guests made themselves."""
    own = sum(count for guest in "vw" for name, count in exits(result, guest).items() if name not in _FORCED)
    return result.counters["vmm-h0"]["bell.asked"] - own


def test_by_list_registers_the_vmm_has_a_part_in_each(tmp_path: Path) -> None:
    result = run(TOPOLOGY.format(way="list-registers"), tmp_path)
    vmm = result.counters["vmm-h0"]

    assert [flow.received for flow in result.flows] == [200, 2000, 2000]
    assert vmm["interrupts.vf"] >= 200
    assert vmm_messages(result) >= 200


def test_directly_no_guest_exits_and_the_vmm_sends_nothing(tmp_path: Path) -> None:
    result = run(TOPOLOGY.format(way="direct"), tmp_path)
    vmm = result.counters["vmm-h0"]

    assert [flow.received for flow in result.flows] == [200, 2000, 2000]
    assert sum(result.counters[guest]["interrupts.vf"] for guest in "vw") >= 200
    for guest in "vw":
        assert not exits(result, guest).keys() & set(_FORCED)
    assert vmm.get("interrupts.vf", 0) == vmm.get("interrupts.forced_exits", 0) == 0
    assert vmm_messages(result) == 0
    assert result.counters["iommu-h0"]["its.delivered"] >= 200


def test_only_functions_interrupts_go_directly_beside_other_nics_and_other_guests(tmp_path: Path) -> None:
    result = run(MIXED, tmp_path)
    vmm, guest = result.counters["vmm-h0"], result.counters["d"]

    assert [flow.received for flow in result.flows] == [50] * 4
    assert guest["interrupts.vf"] > 0
    others = result.counters["l"]["interrupts.vf"]
    assert others <= vmm["interrupts.vf"] < others + guest["interrupts.vf"]  # two edges may be one interrupt
    assert guest["interrupts.virtio"] > 0
    assert guest["interrupts.e1000"] > 0


@pytest.mark.parametrize("way", ["list-registers", "direct"])
def test_vectors_land_on_both_vcpus_and_move_while_interrupts_fly(tmp_path: Path, way: str) -> None:
    result = run(STEERED.format(way=way), tmp_path)
    counted = result.counters["v"]

    steered = [flow for flow in result.flows if flow.kind == "steer"]
    assert [(flow.sent, flow.received, flow.spurious) for flow in steered] == [(300, 300, 0)] * 2
    assert [flow.received for flow in result.flows if flow.kind != "steer"] == [100, 1000]
    # about half each: one that the move overtakes is taken at the old vCPU or at the new one
    assert counted["interrupts.vf"] >= 100
    assert counted["vcpu1.interrupts.vf"] >= 100
    forced = [counted.get(name, 0) for name in ("exits.irq", "vcpu1.exits.irq")]
    # by list registers one that comes while its vCPU runs forces it out; how many do is chance
    assert way == "list-registers" or sum(forced) == 0


@pytest.mark.parametrize("way", ["list-registers", "direct"])
def test_function_raises_only_the_events_of_its_own_device_id(tmp_path: Path, way: str) -> None:
    launched = Launched(FORGED.format(way=way), tmp_path)
    code, result = launched.end(), launched.result()
    (attack,), (flow,) = result.attacks, result.flows
    its = result.counters["iommu-h0"]

    assert (code, attack.good, attack.through) == (0, True, 0)
    # mallory has written alice's EventIDs all the while: each of alice's interrupts is one that alice raised
    assert (flow.sent, flow.received, flow.spurious) == (200, 200, 0)
    # what mallory wrote came to mallory, or led nowhere and was counted
    assert result.counters["mallory"]["interrupts.vf"] > 0
    assert its["its.dropped"] > 0
    assert [report.reason for report in result.reports if report.device.endswith(".its")] == ["EVENT_ID_OOR"]
