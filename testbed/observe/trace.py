"""Events of a process's trace ring as values: what happened, when, with what.

Reference: testbed/spec/trace.py (the ring, and every event). A ring is its owner's to write, and a guest's
owner is hostile: an event that nobody declared is no record. Not modelled: events that were overwritten.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from testbed.native import TraceReader
from testbed.spec.trace import BY_NUMBER, FRAME_FLOW_LSB, Event


@dataclass(frozen=True, slots=True)
class Record:
    """One event of one process."""

    at_ns: int
    """CLOCK_MONOTONIC, the same clock in every process of a machine."""
    process: str
    lane: int
    """vCPU, or another thread's number."""
    event: Event
    length: int
    """Bytes that it is about."""
    frame: tuple[int, int] | None
    """Flow, and the frame's place in the flow from 0; None: none, or not known."""
    arguments: dict[str, int]


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read of one ring."""

    records: list[Record]
    missing: int
    """Events that were overwritten, torn or dropped, or are none."""
    head: int
    """Number of the last event begun: where to go on."""


def read_ring(process: str, reader: TraceReader, after: int = 0) -> Taken:
    """Return the events of a ring behind number `after` in the order in which they were begun."""
    head = reader.head
    found, missing = reader.read(after)
    records = []
    for at_ns, number, lane, length, frame, arguments in found:
        event = BY_NUMBER.get(number)
        if event is None:
            missing += 1
            continue
        named = {name: value for (name, _kind), value in zip(event.fields, arguments, strict=False)}
        records.append(Record(at_ns, process, lane, event, length, _frame(frame), named))
    return Taken(records, missing, head)


def _frame(number: int) -> tuple[int, int] | None:
    return ((number - 1) >> FRAME_FLOW_LSB, (number - 1) & (1 << FRAME_FLOW_LSB) - 1) if number else None


def in_order(records: Iterable[Record]) -> list[Record]:
    """Return the events of several processes in the order in which they happened."""
    return sorted(records, key=lambda record: record.at_ns)


def process_number(name: str) -> int:
    """Return the number by which events name a process."""
    return zlib.crc32(name.encode())
