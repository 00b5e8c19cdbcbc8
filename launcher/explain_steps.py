"""The way of one frame or one interrupt as numbered steps, out of what running processes recorded. Pure.

A way begins with its own first event and ends where the topology is quiet again; events of other times are
left out, none in between is. Not modelled: other traffic at the same time.
"""

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from launcher.trace_links import Links, link, vcpu_of
from launcher.trace_names import Names
from testbed.observe.trace import Record
from testbed.spec import trace as events
from testbed.spec.trace import Event

QUIET_NS: Final = 5_000_000
"""Nothing for so long ends a way: what a driver does late is no part of it."""
_SILENT: Final = frozenset({events.SLEEP, events.WAKE})


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the way."""

    number: int
    """From 1."""
    us: float
    """Since the first step."""
    process: str
    group: str
    event: str
    text: str
    addresses: dict[str, str]
    """By name: GPA, HPA, HVA, IOVA as hexadecimal numbers."""
    frame: str = ""
    """`FLOW:PLACE`, where the event says which frame it is about."""
    cause: int = 0
    """Number of the step in another process (or vCPU) that this one answers; 0: none."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the way took."""

    exits: int
    """Times that a vCPU left its guest."""
    forced_exits: int
    doorbells: int
    messages: int
    wakeups: int
    copies: int
    dma_requests: int
    translations: int


def way_of(records: Sequence[Record], first: Event, last: Collection[Event]) -> list[Record]:
    """Return the events from the first `first` on until, behind the first of each of `last`, all are quiet;
    nothing where one of them did not happen.
    """
    begin = next((i for i, record in enumerate(records) if record.event is first), None)
    if begin is None:
        return []
    found = [next((i for i in range(begin, len(records)) if records[i].event is each), None) for each in last]
    ends = [each for each in found if each is not None]
    if len(ends) < len(found):
        return []
    end = max(ends)
    for i in range(end + 1, len(records)):
        if records[i].event in _SILENT:
            continue
        if records[i].at_ns - records[end].at_ns > QUIET_NS:
            break
        end = i
    return list(records[begin : end + 1])


def steps_of(names: Names, records: Sequence[Record]) -> list[Step]:
    """Return a way as steps."""
    causes = {each.effect: each.cause + 1 for each in linked(names, records).links}
    begin_ns = records[0].at_ns if records else 0
    return [
        Step(
            number=index + 1,
            us=(record.at_ns - begin_ns) / 1000,
            process=vcpu_of(record),
            group=record.event.group,
            event=record.event.name,
            text=names.text(record),
            addresses=names.addresses(record),
            frame=f"{record.frame[0]}:{record.frame[1]}" if record.frame else "",
            cause=causes.get(index, 0),
        )
        for index, record in enumerate(records)
    ]


def linked(names: Names, records: Sequence[Record]) -> Links:
    """Return causes and effects."""
    return link(names, records)


def counts_of(records: Sequence[Record]) -> Counts:
    """Return what a way took."""

    def count(*wanted: Event) -> int:
        return sum(record.event in wanted for record in records)

    return Counts(
        exits=count(events.EXIT, events.EXIT_OTHER),
        forced_exits=count(events.EXIT_FORCED),
        doorbells=count(events.BELL_RUNG),
        messages=count(events.BELL_SENT),
        wakeups=sum(
            r.event is events.WAKE and r.arguments["woken_by"] == events.WOKEN_BY_BELL for r in records
        ),
        copies=count(events.FRAME_COPIED, events.DMA_MOVED),
        dma_requests=count(events.DMA_POSTED),
        translations=count(events.DESCRIPTOR_READ, events.IOTLB_HIT, events.STAGE2),
    )
