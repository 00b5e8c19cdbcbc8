"""What a topology file may do only when it says so, and what a plan is made of it."""

from pathlib import Path
from typing import TypeVar

import pytest

from launcher.planner import plan_topology
from launcher.topology import load_topology, parse_topology
from testbed.messages.entries import GuestEntry, IommuEntry, Plan, ProcessEntry, VfEntry, VmmEntry
from tests.support.topologies import CONFIGS, mistakes

MAC = "02:00:00:00:00:01"
Entry = TypeVar("Entry", bound=ProcessEntry)
HOST = "name: t\nhosts: {h0: {%s nics: {nic0: {vfs: 3%s}}%s}}\n"
GUEST = "{kind: vf, nic: nic0%s}"


def topology(unsafe: str = "", guest: str = "", *, nic: str = "", host: str = "") -> str:
    """Two guests with a function each, and one without."""
    words = f"unsafe: {unsafe}," if unsafe else ""
    nics = GUEST % guest
    return HOST % (words, nic, host) + f"guests: {{a: {{nics: [{nics}]}}, b: {{nics: [{nics}]}}, v: {{}}}}\n"


@pytest.mark.parametrize(
    ("parts", "where", "word"),
    [
        ({"guest": f', mac: "{MAC}"'}, "guests.b.nics[0].mac", "shared-mac"),
        ({"guest": ", promiscuous: true"}, "guests.a.nics[0].promiscuous", "promiscuous"),
        ({"host": ", iommu: {bypass: true}"}, "hosts.h0.iommu.bypass", "no-iommu"),
    ],
)
def test_what_is_unsafe_is_refused_unless_the_file_says_so(
    parts: dict[str, str], where: str, word: str
) -> None:
    told = mistakes(topology(**parts))
    assert any(f": {where}: " in line and f"`unsafe: {word}`" in line for line in told)
    assert parse_topology(topology(word, **parts)).name == "t"
    assert parse_topology(topology(f"[{word}]", **parts)).name == "t"


def test_a_word_that_is_none_is_refused() -> None:
    assert "did you mean no-iommu" in mistakes(topology("no-iomu"))[0]


def test_nothing_is_unsafe_by_the_word_alone() -> None:
    plan = plan_topology(parse_topology(topology("[no-iommu, promiscuous]")))
    assert not entry(plan, "vmm-h0", VmmEntry).iommu_bypass
    assert not any(vf.promiscuous for vf in entry(plan, "vmm-h0", VmmEntry).physical[0].vfs)


def test_ats_needs_an_iommu_to_ask() -> None:
    bypassed = {"nic": ", ats: true", "host": ", iommu: {bypass: true}"}
    (told,) = mistakes(topology("no-iommu", **bypassed))
    assert "hosts.h0.nics.nic0.ats: needs an IOMMU" in told


def test_a_guests_own_smmu_needs_the_hosts() -> None:
    text = topology("no-iommu", host=", iommu: {bypass: true}").replace("a: {", "a: {iommu: smmu, ")
    (told,) = mistakes(text)
    assert "guests.a.iommu: smmu translates nothing" in told


def test_past_the_iommu_a_driver_uses_addresses_of_the_machine_and_all_memory_is_in_reach() -> None:
    plan = plan_topology(parse_topology(topology("no-iommu", host=", iommu: {bypass: true}")))
    guest = entry(plan, "a", GuestEntry)
    (vf,) = guest.nics
    ram = next(segment for segment in plan.segments if segment.name == "a.ram")
    assert isinstance(vf, VfEntry)
    assert guest.ram_gpa + vf.ram_offset == ram.hpa
    assert vf.msi_address > entry(plan, "iommu-h0", IommuEntry).its_hpa
    reached = {process.name: {s.name for s in process.segments} for process in plan.processes}["iommu-h0"]
    assert {"a.ram", "b.ram", "v.ram"} <= reached


def test_behind_an_iommu_no_guest_without_a_function_is_in_reach() -> None:
    plan = plan_topology(parse_topology(topology()))
    reached = {process.name: {s.name for s in process.segments} for process in plan.processes}["iommu-h0"]
    assert "v.ram" not in reached
    assert "a.ram" in reached


def test_functions_with_one_address_share_a_nic_that_does_not_replicate() -> None:
    plan = plan_topology(parse_topology(topology("shared-mac", f', mac: "{MAC}"')))
    (nic,) = entry(plan, "vmm-h0", VmmEntry).physical
    assert [vf.mac for vf in nic.vfs] == [MAC, MAC, ""]
    assert not nic.replicate


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("why/*.yaml")), ids=lambda path: path.stem)
def test_every_file_loads_and_says_what_it_is(path: Path) -> None:
    assert load_topology(path).name == f"why-{path.stem}"
    assert path.read_text().startswith("# ")


def entry(plan: Plan, name: str, kind: type[Entry]) -> Entry:
    found = next(process.entry for process in plan.processes if process.name == name)
    assert isinstance(found, kind)
    return found
