"""Every file of `configs/attacks`, real processes: each attack is counted and stopped, reaches nothing, and
the others send on.

The files stand in one topology where they have the same hosts and guests, phase after phase, for a shorter
time. What an attack takes from the others is held in what the NIC and the IOMMU count of their own work for
the attacker: registers, refusals, misses. It is time that a thread worked, so that other processes of the
machine hardly move it, and a budget bounds it: the rest of their time is the others'. Frames are no such
measure where five busy processes share two processors: a guest that only computes takes nine tenths of them
away. So `KEPT_MIN` holds for the attacks together, and the table of a run says how fast each leaves them.
"""

import re
from pathlib import Path
from statistics import median

import pytest

from launcher.result import AttackResult, Result
from testbed.pci.bar_window import BURST_NS, SHARE_OF
from tests.support.launched import ROOT, Launched

pytestmark = pytest.mark.usefixtures("run_parent")

ATTACKS = ROOT / "configs" / "attacks"
KEPT_MIN = 0.5
"""Of the attacks of one topology the median; one alone has a few turns of ten milliseconds."""
MANY = 5
SHORT_NS = 300_000_000
LAST_STEP_NS = 2_000_000
"""Accesses that are made at once may take more than is left of the budget."""
DECIDED_MAX = 0.125
"""An IOMMU's share for refusals: 500 a second."""
EVIDENCE = {
    "dma-other-guest": ["fault.F_TRANSLATION", "refused", "fault.dma"],
    "dma-vmm": ["fault.F_TRANSLATION", "refused", "fault.dma"],
    "dma-unmapped": ["fault.F_TRANSLATION", "fault.F_ADDR_SIZE", "refused"],
    "dma-read-only": ["fault.F_PERMISSION", "refused"],
    "dma-msi-window": ["refused", "fault.dma"],
    "stale-translation": ["fault.F_TRANSLATION", "refused"],
    "spoof-mac": ["dropped.spoof", "spoof_events"],
    "spoof-vlan": ["dropped.spoof", "spoof_events"],
    "flood-mailbox": ["vf0.refused"],
    "flood-doorbell": ["vf0.coalesced"],
    "flood-interrupt": ["vf0.throttled"],
    "malformed-descriptors": ["fault.descriptor", "fault.register", "dropped.too_short", "dropped.too_long"],
    "ring-loop": ["fault.descriptor"],
}


def parts_of(path: Path) -> tuple[str, str]:
    """Return hosts and guests of a file, and its workloads, short."""
    head, workloads = path.read_text().split("workloads:\n")
    assert "duration: 1s" in workloads
    workloads = workloads.replace("duration: 1s", "duration: 300ms").replace("1500ms", "500ms")
    return re.sub(r"^(#.*|name:.*|)\n", "", head, flags=re.MULTILINE), workloads


def together() -> dict[str, list[Path]]:
    """Return the files by their hosts and guests."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ATTACKS.glob("*.yaml")):
        found.setdefault(parts_of(path)[0], []).append(path)
    return found


def run(head: str, paths: list[Path], directory: Path) -> Result:
    workloads = "".join(parts_of(path)[1] for path in paths)
    launched = Launched(f"name: attacks\n{head}workloads:\n{workloads}", directory)
    code, result = launched.end(), launched.result()
    assert [(attack.name, attack.wrong) for attack in result.attacks if not attack.good] == []
    assert [flow.name for flow in result.flows if not flow.good] == []
    assert (code, result.died, result.error) == (0, (), None)
    return result


def missing(attack: AttackResult) -> list[str]:
    """Return what should have counted an attack and did not."""
    return [part for part in EVIDENCE[attack.attack] if not any(part in name for name in attack.stopped_by)]


def over_budget(attack: AttackResult) -> dict[str, float]:
    """Return what NIC and IOMMU gave an attacker where it was more than its share of their time."""
    budgets = {"nic0": 1 / SHARE_OF + (BURST_NS + LAST_STEP_NS) / SHORT_NS, "iommu-h0": DECIDED_MAX}
    assert attack.given.keys() == budgets.keys()
    return {process: share for process, share in attack.given.items() if share > budgets[process]}


def test_every_attack_has_a_file() -> None:
    names = {path.stem.removesuffix("-ats") for path in ATTACKS.glob("*.yaml")}
    assert names == set(EVIDENCE)


@pytest.mark.parametrize(
    ("head", "paths"), together().items(), ids=lambda x: x[0].stem if type(x) is list else ""
)
def test_every_attack_is_counted_stopped_and_reaches_nothing(
    head: str, paths: list[Path], tmp_path: Path
) -> None:
    result = run(head, paths, tmp_path)
    assert [attack.attack for attack in result.attacks] == [path.stem.removesuffix("-ats") for path in paths]
    assert {attack.name: missing(attack) for attack in result.attacks if missing(attack)} == {}
    for attack in result.attacks:
        assert (attack.through, attack.recovered, attack.noticed) == (0, True, True), attack
        assert attack.attempts > 0
        assert over_budget(attack) == {}, attack.name
    # a machine that is busy with other things may leave the others nothing in the few turns of one attack
    kept = {attack.name: other.kept for attack in result.attacks for other in attack.others}
    assert len(kept) >= len(paths) // 2
    assert len(kept) < MANY or median(kept.values()) >= KEPT_MIN, kept


UNCHECKED = """
name: unchecked
hosts: {h0: {nics: {nic0: {vfs: 3}}}}
guests:
  mallory: {memory: 16MiB, nics: [{kind: vf, nic: nic0, spoof_check: false}]}
  alice: {memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
  bob: {memory: 16MiB, nics: [{kind: vf, nic: nic0}]}
workloads:
  - {kind: attack, from: mallory, attack: spoof-mac, victim: alice, duration: 100ms}
"""


def test_an_attack_that_nothing_stops_fails_the_run(tmp_path: Path) -> None:
    launched = Launched(UNCHECKED, tmp_path)
    code, (attack,) = launched.end(), launched.result().attacks
    assert (code, attack.good, attack.noticed) == (1, False, False)
    assert attack.through > 0
    assert "got through" in attack.wrong
