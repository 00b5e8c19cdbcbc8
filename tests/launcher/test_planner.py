"""The plan: golden files, and what must hold for any topology."""

import os
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.planner import plan_topology, table_bytes
from launcher.topology import load_topology, parse_topology
from testbed.address import BLOCK_SIZE_BYTES, GUEST_RAM_GPA, HPA_BASE, HPA_HOST_STRIDE_BYTES
from testbed.errors import ConfigError
from testbed.messages.entries import (
    E1000Entry,
    GuestEntry,
    IommuEntry,
    Plan,
    VfEntry,
    VirtioNetEntry,
    VmmEntry,
)
from testbed.observe.catalogue import (
    GUEST_COUNTERS,
    NIC_COUNTERS,
    PORT_COUNTERS,
    PORT_DROP_REASONS,
    PORT_FAULT_REASONS,
    PORT_FRAME_COUNTERS,
    VMM_COUNTERS,
)

CONFIGS = Path(__file__).parents[2] / "configs"
GOLDEN = Path(__file__).parent / "golden"


def printed(plan: Plan) -> str:
    """The plan as text that does not depend on where the checkout is."""
    text = msgspec.json.format(msgspec.json.encode(plan), indent=1).decode()
    return text.replace(str(CONFIGS), "CONFIGS") + "\n"


@pytest.mark.parametrize("name", ["quickstart", "two-hosts", "passthrough"])
def test_golden_plans(name: str) -> None:
    """Set VIRTBED_WRITE_GOLDEN=1 to write them anew, then read the difference."""
    text = printed(plan_topology(load_topology(CONFIGS / f"{name}.yaml")))
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("VIRTBED_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_same_file_gives_the_same_plan_and_it_survives_printing(path: Path) -> None:
    plan = plan_topology(load_topology(path))
    assert plan == plan_topology(load_topology(path))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def plan_of(text: str) -> Plan:
    return plan_topology(parse_topology(f"name: t\n{text}"))


def test_start_order_is_every_vmm_then_every_guest() -> None:
    plan = plan_of("guests: {a: {host: y}, b: {host: x}, c: {host: y}}")
    assert [process.name for process in plan.processes] == ["vmm-y", "vmm-x", "a", "b", "c"]
    assert [process.role for process in plan.processes] == ["vmm", "vmm", "guest", "guest", "guest"]


def test_each_process_maps_its_own_and_nothing_else() -> None:
    plan = plan_of("guests: {a: {host: y}, b: {host: x}, c: {host: y, vcpus: 3}}")
    seen = {p.name: {s.name: s.writable for s in p.segments} for p in plan.processes}
    assert seen["a"] == {
        "a.ram": True,
        "a.stage2": False,
        "a.vcpu": True,
        "a.counters": True,
        "a.trace": True,
    }
    assert seen["vmm-x"] == {
        "b.ram": True,
        "b.stage2": True,
        "b.vcpu": True,
        "vmm-x.counters": True,
        "vmm-x.trace": True,
    }
    assert set(seen["vmm-y"]) == {
        f"{guest}.{what}" for guest in "ac" for what in ("ram", "stage2", "vcpu")
    } | {"vmm-y.counters", "vmm-y.trace"}
    sizes = {segment.name: segment.size_bytes for segment in plan.segments}
    assert sizes["c.vcpu"] == 3 * 4096
    assert set(sizes) == {name for segments in seen.values() for name in segments}
    assert len(sizes) == len(plan.segments)


def test_a_vmm_is_told_what_its_guests_are_told() -> None:
    plan = plan_of("guests: {a: {host: y}, b: {host: x}, c: {host: y}}")
    vmm = plan.processes[0].entry
    assert isinstance(vmm, VmmEntry)
    assert vmm.guests == (plan.processes[2].entry, plan.processes[4].entry)


def test_windows_and_interrupts_of_several_nics() -> None:
    three = ", ".join(["{kind: virtio-net}"] * 3)
    guest = plan_of(f"guests: {{a: {{nics: [{three}]}}}}").processes[1].entry
    assert isinstance(guest, GuestEntry)
    assert [nic.name for nic in guest.nics] == ["a.nic0", "a.nic1", "a.nic2"]
    nics = [nic for nic in guest.nics if isinstance(nic, VirtioNetEntry)]
    assert [nic.mmio_gpa for nic in nics] == [0x0A00_0000, 0x0A00_0200, 0x0A00_0400]
    assert [nic.intid for nic in nics] == [48, 49, 50]
    assert all(nic.mmio_gpa < GUEST_RAM_GPA == guest.ram_gpa for nic in nics)


def test_flows_are_numbered_through_all_phases_and_carry_addresses() -> None:
    plan = plan_of(
        "guests: {a: {}, b: {}}\nworkloads: [[{kind: rr, from: a, to: b}, {kind: rr, from: b, to: a}], "
        "{kind: pktgen, from: a, to: b, frame: [60, 190], rate: 1Mbit}]"
    )
    flows = [flow for phase in plan.phases for flow in phase]
    assert [flow.id for flow in flows] == [1, 2, 3]
    macs = {p.name: p.entry.nics[0].mac for p in plan.processes if isinstance(p.entry, GuestEntry)}
    assert (flows[1].source_mac, flows[1].destination_mac) == (macs["b"], macs["a"])
    assert flows[2].frames_per_second == 1e6 / (8 * 125)
    assert flows[0].frames_per_second == 0


def test_counters_are_the_process_s_own_then_a_block_a_nic() -> None:
    plan = plan_of("guests: {a: {}, b: {nics: [{kind: virtio-net}, {kind: virtio-net}]}}")
    vmm, a, b = plan.processes
    assert a.counter_names == (*GUEST_COUNTERS, *(f"nic0.{name}" for name in NIC_COUNTERS))
    assert len(b.counter_names) == len(GUEST_COUNTERS) + 2 * len(NIC_COUNTERS)
    base = vmm.counter_names.index("b.nic1.frames_in")
    assert base == len(VMM_COUNTERS) + 2 * len(PORT_COUNTERS)
    end = base + len(PORT_COUNTERS)
    assert vmm.counter_names[base:end] == tuple(f"b.nic1.{name}" for name in PORT_COUNTERS)
    assert all(name.startswith("exits.") for name in vmm.counter_names[end:])
    for process in plan.processes:
        assert len(set(process.counter_names)) == len(process.counter_names)
        assert process.segments[-1].size_bytes >= 8 * len(process.counter_names)


def test_port_counters_are_frames_then_drops_then_faults() -> None:
    drops = tuple(f"dropped.{reason}" for reason in PORT_DROP_REASONS)
    faults = tuple(f"fault.{reason}" for reason in PORT_FAULT_REASONS)
    assert PORT_FRAME_COUNTERS + drops + faults == PORT_COUNTERS
    assert {"stalled", "too_long", "link_down"} <= set(PORT_DROP_REASONS)
    assert {"avail_jump", "loop", "address", "nested_indirect"} <= set(PORT_FAULT_REASONS)


@pytest.mark.parametrize(
    ("ram", "pages"), [(4 << 20, 19), (1 << 30, 19), ((1 << 30) + (2 << 20), 20), (64 << 30, 82)]
)
def test_stage_2_tables_hold_the_ram_in_blocks(ram: int, pages: int) -> None:
    """One root, one level-1 table, a level-2 table for each GiB, 16 spare pages."""
    assert table_bytes(ram) == pages * 4096


GUESTS = st.lists(
    st.tuples(st.integers(2, 40), st.sampled_from("xyz"), st.integers(1, 8)), min_size=1, max_size=6
)


@given(GUESTS)
def test_host_memory_is_aligned_disjoint_and_in_its_host_s_space(guests: list[tuple[int, str, int]]) -> None:
    lines = (
        f"  g{i}: {{memory: {blocks * 2}MiB, host: {host}, vcpus: {vcpus}}}\n"
        for i, (blocks, host, vcpus) in enumerate(guests)
    )
    plan = plan_of("guests:\n" + "".join(lines))
    memory = sorted((s.hpa, s.hpa + s.size_bytes) for s in plan.segments if s.hpa)
    assert len(memory) == 2 * len(guests)
    assert all(start % BLOCK_SIZE_BYTES == 0 for start, _ in memory)
    assert all(end <= start for (_, end), (start, _) in pairwise(memory))
    for index, process in enumerate(p for p in plan.processes if p.role == "vmm"):
        base = HPA_BASE + index * HPA_HOST_STRIDE_BYTES
        own = [s for s in process.segments if s.hpa]
        assert all(base <= s.hpa and s.hpa + s.size_bytes <= base + HPA_HOST_STRIDE_BYTES for s in own)


def test_a_host_s_address_space_is_finite() -> None:
    with pytest.raises(
        ConfigError, match=r"^host h0: its guests must fit 1024GiB of physical addresses, not take"
    ):
        plan_of("guests: {g: {count: 17, memory: 64GiB}}")


def test_windows_ports_and_interrupts_of_e1000s() -> None:
    plan = plan_of("guests: {a: {nics: [{kind: e1000}, {kind: virtio-net}, {kind: e1000}]}}")
    guest = plan.processes[1].entry
    assert isinstance(guest, GuestEntry)
    places = [(nic.bar_gpa, nic.io_port, nic.intid) for nic in guest.nics if isinstance(nic, E1000Entry)]
    assert places == [(0x1000_0000, 0xC000, 48), (0x1020_0000, 0xC080, 50)]
    names = set(plan.processes[0].counter_names)
    assert {"exits.a.nic0.TDT.write", "exits.a.nic2.IODATA.write", "exits.a.nic1.Status.read"} <= names
    assert "exits.a.nic0.STATUS.write" not in names


def test_short_frames_of_a_replay_are_padded_where_a_nic_does_so() -> None:
    capture = CONFIGS / "captures/lan-mix.pcap"
    replay = f"{{kind: replay, from: a, to: TO, pcap: {capture}}}"
    plan = plan_of(
        "guests: {a: {}, b: {}, c: {nics: [{kind: e1000}]}}\n"
        f"workloads: [{replay.replace('TO', 'b')}, {replay.replace('TO', 'c')}]"
    )
    assert [flow.padded_bytes for phase in plan.phases for flow in phase] == [0, 60]


PASSTHROUGH = """
hosts:
  h0: {nics: {nic0: {vfs: 2, wire: w0, ats: ATS}}, bridge: {uplink: nic0}}
  h1: {nics: {nic1: {wire: w0}}}
guests:
  v: {host: h0, nics: [{kind: vf, nic: nic0}]}
  p: {host: h0}
  w: {host: h1, nics: [{kind: vf, nic: nic1}]}
workloads: [{kind: rr, from: p, to: w}]
"""


@pytest.mark.parametrize("ats", [False, True])
def test_who_maps_what_of_nics_and_iommus(ats: bool) -> None:
    """Design, section 1: a NIC maps guest RAM only with ATS, a guest its own function's window only."""
    plan = plan_of(PASSTHROUGH.replace("ATS", str(ats).lower()))
    maps = {process.name: {segment.name for segment in process.segments} for process in plan.processes}
    assert [process.name for process in plan.processes[:4]] == ["iommu-h0", "nic0", "iommu-h1", "nic1"]
    guest_memory = {f"{guest}.{what}" for guest in "vpw" for what in ("ram", "stage2", "vcpu")}
    assert maps["nic0"] & guest_memory == ({"v.ram"} if ats else set())
    assert maps["nic1"] & guest_memory == set()
    # of p, which has no function, no device and no IOMMU has anything
    assert maps["iommu-h0"] & guest_memory == {"v.ram", "v.stage2"}
    assert maps["v"] - guest_memory == {"nic0.vf0.window", "v.counters", "v.trace"}
    assert maps["p"] - guest_memory == {"p.counters", "p.trace"}
    assert {"w0.nic0", "w0.nic1"} <= maps["nic0"] & maps["nic1"]
    tables = {name for name, mapped in maps.items() if "iommu-h0.tables" in mapped}
    assert tables == {"iommu-h0", "vmm-h0"}
    assert len({segment.name for segment in plan.segments}) == len(plan.segments)


def test_functions_have_requester_ids_of_their_own_and_flows_know_whom_they_pass() -> None:
    plan = plan_of(PASSTHROUGH.replace("ATS", "false"))
    iommu = plan.processes[0].entry
    assert isinstance(iommu, IommuEntry)
    streams = {function.name: function.stream for function in iommu.nics[0].functions}
    assert streams == {"nic0.pf": 0x100, "nic0.vf0": 0x180, "nic0.vf1": 0x182}
    guest = next(process.entry for process in plan.processes if process.name == "v")
    assert isinstance(guest, GuestEntry)
    vf = guest.nics[0]
    assert isinstance(vf, VfEntry)
    assert (vf.stream, vf.window, vf.window_gpa, vf.intids) == (
        0x180,
        "nic0.vf0.window",
        0x1000_0000,
        (128, 129, 130),
    )
    assert plan.phases[0][0].through == ("iommu-h0", "nic0", "iommu-h1", "nic1")
    vmm = next(process for process in plan.processes if process.name == "vmm-h0")
    assert "nic0.frames_in" in vmm.counter_names
    assert not any(name.startswith("v.nic0") for name in vmm.counter_names)


def test_a_guest_with_an_smmu_has_its_functions_behind_it_and_exits_to_it_counted() -> None:
    plan = plan_of(PASSTHROUGH.replace("ATS", "false").replace("v: {host: h0", "v: {host: h0, iommu: smmu"))
    processes = {process.name: process for process in plan.processes}
    guest = processes["v"].entry
    assert isinstance(guest, GuestEntry)
    assert guest.smmu is not None
    assert (guest.smmu.gpa, guest.smmu.event_intid, guest.smmu.error_intid) == (0x0905_0000, 106, 109)
    assert [nic.guest_stream for nic in guest.nics if isinstance(nic, VfEntry)] == [0x08]
    assert "smmu.F_TRANSLATION" in processes["v"].counter_names
    assert "exits.v.smmu.CMDQ_PROD.write" in processes["vmm-h0"].counter_names
    others = [process.entry for name, process in processes.items() if name != "v"]
    assert [entry.smmu for entry in others if isinstance(entry, GuestEntry)] == [None] * 2


def test_what_direct_interrupts_add_to_a_guest_with_functions_and_to_no_other() -> None:
    text = PASSTHROUGH.replace("ATS", "true").replace("host: h0", "host: h0, interrupts: direct")
    plan = plan_of(text)
    maps = {process.name: {segment.name for segment in process.segments} for process in plan.processes}
    entries = {process.name: process.entry for process in plan.processes}
    iommu, other, guest = entries["iommu-h0"], entries["iommu-h1"], entries["v"]
    assert isinstance(iommu, IommuEntry)
    assert isinstance(other, IommuEntry)
    assert isinstance(guest, GuestEntry)
    vf = guest.nics[0]
    assert isinstance(vf, VfEntry)
    assert vf.intids == (8192, 8193, 8194)
    (vpt,) = (segment for segment in plan.segments if segment.name.endswith(".vpt"))
    assert (vpt.name, vpt.size_bytes, vpt.hpa % 65536) == ("v.vpt", 65536, 0)
    assert [(vpe.guest, vpe.page, vpe.vpt_hpa) for vpe in iommu.vpes] == [("v", "v.vcpu", vpt.hpa)]
    assert other.vpes == ()
    assert {name for name, mapped in maps.items() if "v.vpt" in mapped} == {"iommu-h0", "vmm-h0"}
    assert {name for name, mapped in maps.items() if "v.vcpu" in mapped} == {"iommu-h0", "vmm-h0", "v"}
