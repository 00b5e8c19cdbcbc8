"""A trace as the JSON that Chrome and Perfetto read: a track for each process, an arrow from cause to effect.

Reference: the Trace Event Format of the Chromium project (`X` slices, `M` names, `s` and `f` flows). An event
is a point in time; it is drawn until the next one of its track, or for `_SHOWN_NS`, so that it can be seen.
Pure.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from launcher.trace_links import Links, link
from launcher.trace_names import Names
from testbed.observe.trace import Record

_SHOWN_NS: Final = 2_000
JsonEvent = dict[str, object]


def chrome_trace(names: Names, records: Sequence[Record]) -> dict[str, object]:
    """Return events, which are in the order in which they happened, as a Chrome trace."""
    tracks = {name: number for number, name in enumerate(dict.fromkeys(r.process for r in records), start=1)}
    ends = _ends(records)
    slices = [_slice(names, record, tracks, end) for record, end in zip(records, ends, strict=True)]
    flows = list(_flows(link(names, records), records, tracks))
    return {"displayTimeUnit": "ns", "traceEvents": [*_metadata(tracks), *slices, *flows]}


def _metadata(tracks: dict[str, int]) -> Iterator[JsonEvent]:
    for name, number in tracks.items():
        yield {"ph": "M", "name": "process_name", "pid": number, "args": {"name": name}}


def _ends(records: Sequence[Record]) -> list[int]:
    """Return until when each event is drawn."""
    ends = [record.at_ns + _SHOWN_NS for record in records]
    following: dict[tuple[str, int], int] = {}
    for index in range(len(records) - 1, -1, -1):
        track = records[index].process, records[index].lane
        ends[index] = min(ends[index], following.get(track, ends[index]))
        following[track] = records[index].at_ns
    return ends


def _slice(names: Names, record: Record, tracks: dict[str, int], end_ns: int) -> JsonEvent:
    arguments: dict[str, object] = {"what": names.text(record)}
    for name, kind in record.event.fields:
        arguments[name] = names.argument(record, kind, record.arguments[name])
    if record.frame:
        arguments["frame"] = f"{record.frame[0]}:{record.frame[1]}"
    return {
        "ph": "X", "name": record.event.name, "cat": record.event.group, "pid": tracks[record.process],
        "tid": record.lane, "ts": record.at_ns / 1000, "dur": (end_ns - record.at_ns) / 1000,
        "args": arguments,
    }  # fmt: skip


def _flows(links: Links, records: Sequence[Record], tracks: dict[str, int]) -> Iterator[JsonEvent]:
    for number, each in enumerate(links.links, start=1):
        for phase, index in (("s", each.cause), ("f", each.effect)):
            record = records[index]
            yield {
                "ph": phase, "id": number, "name": "cause", "cat": "cause", "bp": "e",
                "pid": tracks[record.process], "tid": record.lane, "ts": record.at_ns / 1000,
            }  # fmt: skip
