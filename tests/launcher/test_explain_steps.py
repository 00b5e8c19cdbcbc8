"""Steps, links, diagram and Chrome trace of events that are made up: pure."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from launcher.explain_steps import QUIET_NS, counts_of, steps_of, way_of
from launcher.explain_svg import sequence_svg
from launcher.irq_follow import SOURCES, follow
from launcher.trace_json import chrome_trace
from launcher.trace_links import link
from launcher.trace_names import Names
from testbed.observe.trace import Record, process_number
from testbed.spec import dma_request, gic
from testbed.spec import trace as events
from testbed.spec.trace import Event
from tests.launcher.test_planner import plan_of

PLAN = plan_of("""
hosts: {h0: {nics: {nic0: {vfs: 1}}}}
guests: {a: {vcpus: 2, nics: [{kind: e1000}]}, b: {nics: [{kind: vf, nic: nic0}]}}
""")
NAMES = Names(PLAN)
A, VMM, B = process_number("a"), process_number("vmm-h0"), process_number("b")
A1 = process_number("a.vcpu1")


def event(
    at_ns: int, process: str, kind: Event, *values: int, frame: tuple[int, int] | None = None
) -> Record:
    named = {name: value for (name, _), value in zip(kind.fields, (*values, 0, 0, 0, 0), strict=False)}
    return Record(at_ns, process, 0, kind, 60, frame, named)


WAY = [
    event(900, "a", events.WAKE, events.WOKEN_BY_OTHER),
    event(1_000, "a", events.FRAME_MADE, 0x7000, frame=(1, 0)),
    event(2_000, "a", events.EXIT, 1, 0x1000_3818, 1, 0x9380_0045),
    event(2_500, "a", events.BELL_SENT, VMM),
    event(3_000, "vmm-h0", events.WAKE, events.WOKEN_BY_BELL),
    event(4_000, "vmm-h0", events.EXIT_DECODED, A, 1, 0x1000_3818, 1),
    event(5_000, "vmm-h0", events.EXIT_ANSWERED, A, 0),
    event(6_000, "a", events.ENTRY, 0),
    event(7_000, "b", events.FRAME_CHECKED, 0x8000, frame=(1, 0)),
    event(8_000, "b", events.SLEEP),
    event(9_000 + QUIET_NS, "b", events.EXIT, 0, 0, 0, 0),
]


def test_way_begins_with_its_first_event_and_ends_where_all_is_quiet() -> None:
    way = way_of(WAY, events.FRAME_MADE, [events.FRAME_CHECKED])
    assert way == WAY[1:9]
    assert way_of(WAY, events.FRAME_MADE, [events.FRAME_CHECKED, events.ENDED]) == []
    assert way_of(WAY[2:], events.FRAME_MADE, [events.FRAME_CHECKED]) == []


def test_steps_have_times_names_and_causes() -> None:
    steps = steps_of(NAMES, WAY[1:9])
    assert [step.number for step in steps] == list(range(1, 9))
    assert [step.us for step in steps] == [0, 1, 1.5, 2, 3, 4, 5, 6]
    assert "GPA 0x10003818 (a.nic0 TDT)" in steps[1].text
    assert steps[1].addresses == {"gpa": "0x10003818"}
    assert steps[2].text == "it sleeps: sends vmm-h0 one wake-up message"
    assert [step.cause for step in steps] == [0, 0, 0, 3, 2, 0, 6, 0]
    assert steps[0].frame == "1:0"


def test_counts_are_of_the_way() -> None:
    counts = counts_of(WAY[1:9])
    assert (counts.exits, counts.messages, counts.wakeups, counts.copies) == (1, 1, 1, 0)


def test_effect_without_a_cause_is_told() -> None:
    swapped = [WAY[5], WAY[2]]
    found = link(NAMES, swapped)
    assert (found.links, found.orphans) == ([], [0])


def test_diagram_is_one_svg_with_every_lifeline_and_sentence() -> None:
    steps = steps_of(NAMES, WAY[1:9])
    root = ElementTree.fromstring(sequence_svg("a < b & c", steps))
    said = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a", "vmm-h0", "b", "a < b & c"} <= set(said)
    assert [step.text for step in steps if step.text not in said] == []
    arrows = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if e.get("class") == "arrow"]
    assert len(arrows) == 3
    assert "prefers-color-scheme: dark" in sequence_svg("", steps)


def test_chrome_trace_has_a_track_a_process_and_an_arrow_a_cause() -> None:
    trace = json.loads(json.dumps(chrome_trace(NAMES, WAY)))
    rows = trace["traceEvents"]
    names = {row["args"]["name"] for row in rows if row["ph"] == "M"}
    assert names == {"a", "vmm-h0", "b"}
    slices = [row for row in rows if row["ph"] == "X"]
    assert [row["ts"] for row in slices] == [record.at_ns / 1000 for record in WAY]
    assert all(row["dur"] >= 0 for row in slices)
    begun = {row["id"]: row["ts"] for row in rows if row["ph"] == "s"}
    ended = {row["id"]: row["ts"] for row in rows if row["ph"] == "f"}
    assert len(begun) == 3
    assert begun.keys() == ended.keys()
    assert all(begun[number] <= ended[number] for number in begun)


def test_interrupt_is_followed_back_to_its_source() -> None:
    image = gic.LR_STATE.put(gic.STATE_PENDING) | 129
    message = (0x180, dma_request.KIND_MSI, 0x809_0040)
    way = [
        event(1, "nic0", events.MSI_RAISED, 1, 0x809_0040, 1),
        event(2, "nic0", events.DMA_POSTED, *message, 1),
        event(3, "iommu-h0", events.DMA_TAKEN, *message),
        event(4, "iommu-h0", events.ITS_PHYSICAL, 0x180, 1, 8199),
        event(5, "vmm-h0", events.LPI_TAKEN, 8199),
        event(6, "vmm-h0", events.EDGE, 129, B),
        event(7, "vmm-h0", events.EXIT_FORCED, B),
        event(8, "vmm-h0", events.EXIT_FORCED, A),
        event(9, "vmm-h0", events.LIST_REGISTER, B, 0, image),
        event(10, "b", events.ACKNOWLEDGED, 129),
        event(11, "b", events.FRAME_TAKEN, 0, 0),
        event(12, "b", events.HANDLER, 129),
        event(13, "b", events.ENDED, 129),
        event(14, "b", events.SLEEP),
    ]
    followed = [record.at_ns for record in follow(NAMES, way)]
    assert followed == [1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13]
    assert follow(NAMES, way[1:]) == []
    assert [record.at_ns for record in follow(NAMES, way[1:], whole=False)] == followed[1:]


def on(lane: int, record: Record) -> Record:
    """Return an event of a further vCPU's thread."""
    return replace(record, lane=lane)


SGI = [
    on(1, event(0, "a", events.SGI_WRITTEN, 5, 1)),
    event(1, "a", events.SGI_WRITTEN, 1, 2),
    event(2, "a", events.EXIT_OTHER, 0, 0x623A_3016, 0x100_0002),
    event(3, "vmm-h0", events.EXIT_TAKEN, A, 0, 0x623A_3016, 0x100_0002),
    event(4, "vmm-h0", events.SGI_PENDING, 1, A1, A),
    event(5, "vmm-h0", events.VCPU_CLAIMED, A1),
    event(6, "vmm-h0", events.LIST_REGISTER, A1, 0, gic.LR_STATE.put(gic.STATE_PENDING) | 1),
    event(7, "vmm-h0", events.EXIT_ANSWERED, A, 0),
    event(8, "a", events.ENTRY, 0),
    on(1, event(9, "a", events.ACKNOWLEDGED, 1)),
    event(10, "a", events.HANDLER, 1),
    on(1, event(11, "a", events.HANDLER, 1)),
    event(12, "a", events.ENDED, 7),
    on(1, event(13, "a", events.ENDED, 1)),
]


def test_sgi_is_followed_from_its_write_to_the_other_vcpu_s_handler() -> None:
    way = follow(NAMES, SGI)
    assert [record.at_ns for record in way] == [1, 2, 3, 4, 5, 6, 9, 11, 13]
    steps = steps_of(NAMES, way)
    assert [step.process for step in steps[-3:]] == ["a.vcpu1"] * 3
    assert "to the vCPUs in 0x2" in steps[0].text
    assert "a sends SGI 1: sets it pending at a.vcpu1" in steps[3].text
    assert [step.cause for step in steps] == [0, 0, 2, 0, 0, 0, 6, 0, 0]
    assert follow(NAMES, SGI, SOURCES["timer"]) == []


TIMER = [
    on(1, event(5_068, "a", events.TIMER_DUE, 5_000)),
    on(1, event(5_070, "a", events.EXIT_OTHER, 1, 0)),
    event(5_080, "vmm-h0", events.EXIT_TAKEN, A1, 1, 0),
    event(5_090, "vmm-h0", events.TIMER_ASSERTED, 27, A1, 5_000),
    event(5_095, "vmm-h0", events.LIST_REGISTER, A1, 0, gic.LR_STATE.put(gic.STATE_PENDING) | 27),
    event(5_100, "vmm-h0", events.EXIT_ANSWERED, A1, 0),
    on(1, event(5_110, "a", events.ENTRY, 0)),
    on(1, event(5_111, "a", events.ACKNOWLEDGED, 27)),
    on(1, event(5_112, "a", events.HANDLER, 27)),
    on(1, event(5_113, "a", events.ENDED, 27)),
]


def test_timer_is_followed_from_the_time_for_which_it_was_set() -> None:
    way = follow(NAMES, TIMER, SOURCES["timer"])
    assert [record.at_ns for record in way] == [5_000, *(record.at_ns for record in TIMER)]
    assert steps_of(NAMES, way)[0].text == "the time comes for which the virtual timer was set: 5000"
    assert steps_of(NAMES, way)[1].us == 68 / 1000


@pytest.mark.parametrize("at_ns", [6_000, -1 << 60])
def test_timer_of_a_guest_that_tells_nonsense_begins_with_what_it_did(at_ns: int) -> None:
    nonsense = [on(1, event(5_068, "a", events.TIMER_DUE, at_ns & (1 << 64) - 1)), *TIMER[1:]]
    assert [record.at_ns for record in follow(NAMES, nonsense)] == [record.at_ns for record in TIMER]
