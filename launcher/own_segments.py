"""The segments that every process of a plan has for itself: counters and trace ring."""

from testbed.messages.entries import SegmentEntry
from testbed.observe.counters import segment_bytes
from testbed.spec.trace import RING_BYTES

COUNTERS_SUFFIX = ".counters"
TRACE_SUFFIX = ".trace"


def own_segments(process: str, counter_names: tuple[str, ...]) -> tuple[SegmentEntry, SegmentEntry]:
    """Return a process's counters and its trace ring (`testbed.spec.trace`)."""
    return (
        SegmentEntry(name=f"{process}{COUNTERS_SUFFIX}", size_bytes=segment_bytes(counter_names)),
        SegmentEntry(name=f"{process}{TRACE_SUFFIX}", size_bytes=RING_BYTES),
    )
