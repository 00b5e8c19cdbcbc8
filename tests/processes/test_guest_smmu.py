"""Guests with an SMMU of their own in real topologies: verified traffic by nested translation."""

from pathlib import Path

import pytest

from launcher.result import Result
from tests.processes.test_attacks import missing
from tests.support.launched import Launched

pytestmark = pytest.mark.usefixtures("run_parent")

NESTED = """
name: nested
hosts: {{h0: {{nics: {{nic0: {{vfs: 2, ats: {ats}}}}}}}}}
guests:
  v: {{memory: 16MiB, iommu: smmu, nics: [{{kind: vf, nic: nic0}}]}}
  w: {{memory: 16MiB, iommu: smmu, interrupts: direct, nics: [{{kind: vf, nic: nic0}}]}}
workloads:
  - - {{kind: pktgen, from: v, to: w, frame: imix, count: 5000}}
    - {{kind: pktgen, from: w, to: v, count: 5000}}
"""


def run(topology: str, directory: Path) -> Result:
    launched = Launched(topology, directory)
    code, result = launched.end(), launched.result()
    assert (code, result.died, result.reports, result.error) == (0, (), (), None)
    return result


@pytest.mark.parametrize("ats", ["false", "true"], ids=["mediated", "ats"])
def test_functions_behind_their_guests_own_smmus_talk(tmp_path: Path, ats: str) -> None:
    result = run(NESTED.format(ats=ats), tmp_path)

    assert [flow.received for flow in result.flows if flow.good] == [5000, 5000]
    vmm, iommu = result.counters["vmm-h0"], result.counters["iommu-h0"]
    for guest in "vw":  # to program it at boot, and no more once frames pass
        writes = {name: n for name, n in vmm.items() if name.startswith(f"exits.{guest}.smmu.") and n}
        assert writes[f"exits.{guest}.smmu.STRTAB_BASE.write"] == 1
        assert writes[f"exits.{guest}.smmu.CMDQ_PROD.write"] >= 5
        assert sum(writes.values()) <= 64
    assert {name: n for name, n in iommu.items() if name.startswith("fault.") and n} == {}


FAULTS = """
name: stage1faults
hosts: {h0: {nics: {nic0: {vfs: 2}}}}
guests:
  v: {memory: 16MiB, iommu: smmu, nics: [{kind: vf, nic: nic0}]}
  w: {memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
workloads:
  - {kind: attack, from: v, attack: dma-unmapped, duration: 200ms}
  - {kind: pktgen, from: w, to: v, count: 2000}
"""


def test_a_guest_sees_every_fault_of_its_stage_1_and_the_vmm_none(tmp_path: Path) -> None:
    launched = Launched(FAULTS, tmp_path)
    code, result = launched.end(), launched.result()

    assert (code, [attack.wrong for attack in result.attacks if not attack.good]) == (0, [])
    seen = result.counters["v"]["smmu.F_TRANSLATION"]
    assert seen == result.counters["iommu-h0"]["fault.F_TRANSLATION"] > 0
    told = {(report.guest, report.reason) for report in result.reports if report.reason.startswith("F_")}
    assert told == {("v", "F_TRANSLATION")}


HOSTILE = """
name: nestedattacks
hosts: {{h0: {{nics: {{nic0: {{vfs: 3, ats: {ats}}}}}}}}}
guests:
  v: {{memory: 16MiB, iommu: smmu, nics: [{{kind: vf, nic: nic0}}]}}
  w: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0}}]}}
  x: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0, vlan: 100}}]}}
workloads:
  - {{kind: attack, from: v, attack: dma-other-guest, victim: w, duration: 200ms}}
  - {{kind: attack, from: v, attack: dma-vmm, duration: 200ms}}
  - {{kind: attack, from: v, attack: dma-read-only, duration: 200ms}}
  - {{kind: attack, from: v, attack: stale-translation, duration: 200ms}}
  - {{kind: attack, from: v, attack: dma-msi-window, duration: 200ms}}
  - {{kind: attack, from: v, attack: ring-loop, duration: 100ms}}
  - {{kind: attack, from: v, attack: malformed-descriptors, duration: 100ms}}
  - {{kind: attack, from: v, attack: spoof-mac, victim: w, duration: 100ms}}
  - {{kind: attack, from: v, attack: spoof-vlan, vlan: 100, duration: 100ms}}
  - {{kind: attack, from: v, attack: flood-mailbox, duration: 300ms}}
  - {{kind: attack, from: v, attack: flood-doorbell, duration: 300ms}}
  - {{kind: attack, from: v, attack: flood-interrupt, duration: 300ms}}
  - {{kind: pktgen, from: w, to: v, count: 300}}
"""


@pytest.mark.parametrize("ats", ["false", "true"], ids=["mediated", "ats"])
def test_a_guest_whose_stage_1_leads_anywhere_is_stopped_by_stage_2(tmp_path: Path, ats: str) -> None:
    launched = Launched(HOSTILE.format(ats=ats), tmp_path)
    code, result = launched.end(), launched.result()

    assert [(attack.name, attack.wrong) for attack in result.attacks if not attack.good] == []
    assert (code, len(result.attacks), [flow.good for flow in result.flows]) == (0, 12, [True])
    assert {attack.name: missing(attack) for attack in result.attacks if missing(attack)} == {}
    assert {attack.through for attack in result.attacks} == {0}
    # what stage 2 refuses is its hypervisor's to see, and no record of the guest's own SMMU
    told = {(report.guest, report.reason) for report in result.reports if report.reason.startswith("F_")}
    assert {("v", "F_TRANSLATION"), ("v", "F_PERMISSION")} <= told
    assert {name: n for name, n in result.counters["v"].items() if name.startswith("smmu.") and n} == {}
