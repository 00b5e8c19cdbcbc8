"""`virtbed explain`, for every way: the architected steps, in order, in agreement with the counters."""

from collections.abc import Sequence
from functools import cache

import pytest

from launcher.explain import WAYS, Explained, Traced, WayName, explain
from launcher.explain_steps import linked
from launcher.trace_names import Names
from testbed.observe.trace import Record
from testbed.spec import trace as events
from testbed.spec.trace import Event

pytestmark = pytest.mark.usefixtures("run_parent")
NO_EXITS = (events.EXIT, events.EXIT_OTHER, events.EXIT_FORCED, events.EXIT_DECODED)
ARCHITECTED: dict[WayName, tuple[tuple[str, Event], ...]] = {
    "emulated": (
        ("a", events.FRAME_MADE), ("a", events.DESCRIPTOR_POSTED), ("a", events.EXIT),
        ("vmm-h0", events.EXIT_DECODED), ("vmm-h0", events.EXIT_ANSWERED),
        ("vmm-h0", events.DESCRIPTOR_READ), ("vmm-h0", events.BRIDGE_DECIDED),
        ("vmm-h0", events.DESCRIPTOR_READ),
        ("vmm-h0", events.FRAME_COPIED), ("vmm-h0", events.WRITTEN_BACK), ("vmm-h0", events.CAUSE_SET),
        ("vmm-h0", events.LINE_SET), ("vmm-h0", events.LIST_REGISTER),
        ("b", events.ACKNOWLEDGED), ("b", events.HANDLER), ("b", events.EXIT),
        ("vmm-h0", events.EXIT_DECODED), ("b", events.ENTRY), ("b", events.ENDED),
    ),
    "virtio": (
        ("a", events.FRAME_MADE), ("a", events.DESCRIPTOR_POSTED), ("a", events.RING_PUBLISHED),
        ("a", events.DOORBELL_STORE), ("a", events.BELL_RUNG), ("a", events.BELL_SENT),
        ("vmm-h0", events.WAKE),
        ("vmm-h0", events.DESCRIPTOR_READ), ("vmm-h0", events.BRIDGE_DECIDED),
        ("vmm-h0", events.DESCRIPTOR_READ),
        ("vmm-h0", events.FRAME_COPIED), ("vmm-h0", events.USED_PUBLISHED), ("vmm-h0", events.EDGE),
        ("vmm-h0", events.LIST_REGISTER),
        ("b", events.ACKNOWLEDGED), ("b", events.HANDLER), ("b", events.ENDED),
    ),
    "passthrough": (
        ("a", events.FRAME_MADE), ("a", events.DMA_DESCRIPTOR_POSTED), ("a", events.REGISTER_POSTED),
        ("nic0", events.REGISTER_TAKEN), ("nic0", events.DMA_POSTED), ("iommu-h0", events.DMA_TAKEN),
        ("iommu-h0", events.DMA_MOVED), ("nic0", events.DMA_COMPLETED), ("nic0", events.NIC_DECIDED),
        ("nic0", events.WIRE_OUT), ("nic1", events.WIRE_IN), ("nic1", events.NIC_DECIDED),
        ("nic1", events.NIC_QUEUED), ("nic1", events.DMA_POSTED), ("nic1", events.MSI_RAISED),
        ("iommu-h1", events.DMA_TAKEN), ("iommu-h1", events.DMA_MOVED), ("iommu-h1", events.ITS_VIRTUAL),
        ("iommu-h1", events.VPE_POSTED), ("b", events.ACKNOWLEDGED), ("b", events.HANDLER),
        ("b", events.ENDED),
    ),
    "list-registers": (
        ("nic0", events.MSI_RAISED), ("nic0", events.DMA_POSTED), ("iommu-h0", events.DMA_TAKEN),
        ("iommu-h0", events.ITS_PHYSICAL), ("vmm-h0", events.LPI_TAKEN), ("vmm-h0", events.EDGE),
        ("vmm-h0", events.EXIT_FORCED), ("b", events.MUST_EXIT), ("b", events.EXIT_OTHER),
        ("vmm-h0", events.EXIT_TAKEN), ("vmm-h0", events.LIST_REGISTER), ("vmm-h0", events.EXIT_ANSWERED),
        ("b", events.ENTRY), ("b", events.ACKNOWLEDGED), ("b", events.HANDLER), ("b", events.ENDED),
    ),
    "direct": (
        ("nic0", events.MSI_RAISED), ("nic0", events.DMA_POSTED), ("iommu-h0", events.DMA_TAKEN),
        ("iommu-h0", events.ITS_VIRTUAL), ("iommu-h0", events.VPE_POSTED), ("b", events.ACKNOWLEDGED),
        ("b", events.HANDLER), ("b", events.ENDED),
    ),
}  # fmt: skip


RECEIVED = (("b", events.FRAME_TAKEN), ("b", events.FRAME_CHECKED))
"""May come before the interrupt: a guest that is awake polls."""
ARRIVES: dict[WayName, tuple[tuple[str, Event], ...]] = {
    "emulated": (("vmm-h0", events.FRAME_COPIED), *RECEIVED),
    "virtio": (("vmm-h0", events.FRAME_COPIED), *RECEIVED),
    "passthrough": (("iommu-h1", events.DMA_MOVED), *RECEIVED),
}


@cache
def run_of(way: WayName) -> tuple[Explained, Traced]:
    return explain(way)


def not_found(records: Sequence[Record], wanted: Sequence[tuple[str, Event]]) -> list[tuple[str, str]]:
    """Return what of `wanted` does not follow in the order in which it is wanted."""
    left = list(wanted)
    for record in records:
        if left and (record.process, record.event) == left[0]:
            left.pop(0)
    return [(process, event.name) for process, event in left]


@pytest.mark.parametrize("way", WAYS)
def test_explain_has_the_architected_steps_in_order(way: WayName) -> None:
    _explained, traced = run_of(way)
    assert not_found(traced.way, ARCHITECTED[way]) == []
    assert not_found(traced.way, ARRIVES.get(way, ())) == []
    assert traced.missing == {}


@pytest.mark.parametrize("way", WAYS)
def test_trace_of_all_processes_has_no_effect_before_its_cause(way: WayName) -> None:
    _explained, traced = run_of(way)
    found = linked(Names(traced.plan), traced.records)
    assert [traced.records[index] for index in found.orphans] == []
    assert len({traced.records[each.cause].process for each in found.links}) > 1
    assert all(traced.records[e.cause].at_ns <= traced.records[e.effect].at_ns for e in found.links)


@pytest.mark.parametrize("way", WAYS)
def test_trace_agrees_with_the_counters(way: WayName) -> None:
    _explained, traced = run_of(way)
    for guest in ("a", "b"):
        mine = [record for record in traced.records if record.process == guest]
        counted = traced.counters[guest]
        accesses = counted["exits.mmio_read"] + counted["exits.mmio_write"]
        assert sum(r.event is events.EXIT for r in mine) == accesses
        assert sum(r.event is events.EXIT_OTHER for r in mine) == counted["exits.irq"]
        assert sum(r.event is events.DOORBELL_STORE for r in mine) == counted["exits.doorbell"]
    for process, counted in traced.counters.items():
        woken = [
            r
            for r in traced.records
            if r.process == process
            and r.event is events.WAKE
            and r.arguments["woken_by"] == events.WOKEN_BY_BELL
        ]
        assert len(woken) == counted["bell.wakeups"], process


@pytest.mark.parametrize("way", ["passthrough", "direct"])
def test_explain_of_a_way_without_the_hypervisor_has_no_exit(way: WayName) -> None:
    explained, traced = run_of(way)
    assert [r for r in traced.way if r.event in NO_EXITS] == []
    assert not any(record.process.startswith("vmm") for record in traced.way)
    assert explained.counts.exits == 0


def test_explain_says_every_address_space_of_a_nested_translation() -> None:
    explained, _traced = run_of("passthrough")
    walks = {step.event: step.addresses for step in explained.steps if step.event in ("stage1", "stage2")}
    assert walks["stage1"]["ipa"] == walks["stage2"]["ipa"]
    assert len({*walks["stage1"].values(), *walks["stage2"].values()}) == 3
