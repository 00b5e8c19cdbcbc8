"""A trace of all processes while bursts go through native pumps, with ATS too: no effect before its cause."""

from dataclasses import dataclass

import pytest

from launcher.explain import Way, record
from launcher.explain_steps import linked
from launcher.trace_names import Names
from testbed.spec import trace as events
from testbed.spec.trace import Event

pytestmark = pytest.mark.usefixtures("run_parent")
FRAMES = 48


@dataclass(frozen=True)
class Burst(Way):
    """Many frames at once instead of one, so that pumps go on from one to the next without their loop."""

    @property
    def text(self) -> str:
        return super().text.replace("count: 1}", f"count: {FRAMES}}}")


def burst(hosts: str, guests: str) -> Burst:
    return Burst("", hosts, guests, events.FRAME_MADE, (events.FRAME_CHECKED,))


def across(*, ats: bool) -> Burst:
    nics = (f"h{n}: {{nics: {{nic{n}: {{vfs: 1, wire: w0, ats: {str(ats).lower()}}}}}}}" for n in (0, 1))
    guests = (
        f"{name}: {{host: h{n}, nics: [{{kind: vf, nic: nic{n}}}]}}" for n, name in enumerate(("a", "b"))
    )
    return burst(", ".join(nics), ", ".join(guests))


BRIDGED = "h0: {nics: {nic0: {vfs: 0, wire: w0}}, bridge: {uplink: nic0}}, \
h1: {nics: {nic1: {vfs: 0, wire: w0}}, bridge: {uplink: nic1}}"
PACKED = "{nics: [{kind: virtio-net, ring: packed}]}"
WIRED: tuple[tuple[Event, Event], ...] = (
    (events.FRAME_MADE, events.WIRE_OUT), (events.WIRE_OUT, events.WIRE_IN),
    (events.WIRE_IN, events.FRAME_CHECKED),
)  # fmt: skip
BURSTS: dict[str, tuple[Burst, tuple[tuple[Event, Event], ...]]] = {
    "virtio-split": (burst("h0: {}", "a: {}, b: {}"), ((events.FRAME_MADE, events.FRAME_COPIED),)),
    "virtio-packed": (
        burst("h0: {}", f"a: {PACKED}, b: {PACKED}"),
        ((events.FRAME_COPIED, events.FRAME_CHECKED),),
    ),
    "e1000": (
        burst("h0: {}", "a: {nics: [{kind: e1000}]}, b: {nics: [{kind: e1000}]}"),
        ((events.FRAME_MADE, events.FRAME_COPIED),),
    ),
    "uplink": (burst(BRIDGED, "a: {host: h0}, b: {host: h1}"), WIRED),
    "mediated": (across(ats=False), WIRED),
    "ats": (across(ats=True), WIRED),
}  # fmt: skip


@pytest.mark.parametrize("name", BURSTS)
def test_bursts_through_native_pumps_have_no_effect_before_its_cause(name: str) -> None:
    way, orders = BURSTS[name]
    traced = record(way)
    records = traced.records
    assert traced.missing == {}
    found = linked(Names(traced.plan), records)
    assert [records[index] for index in found.orphans] == []
    assert len({records[each.cause].process for each in found.links}) > 1
    assert all(records[each.cause].at_ns <= records[each.effect].at_ns for each in found.links)
    for before, after in orders:
        first = {r.frame: r.at_ns for r in reversed(records) if r.event is before and r.frame}
        second = {r.frame: r.at_ns for r in reversed(records) if r.event is after and r.frame}
        assert len(second) >= FRAMES
        assert all(first[frame] < second[frame] for frame in second)
