"""The trace ring's layout against numbers typed independently; every event's declaration against itself."""

import string

import pytest

from testbed.spec import trace
from testbed.spec.layout import LayoutError
from testbed.spec.trace import BY_NUMBER, HEADER, RECORD, Event


def test_trace_record_layout() -> None:
    assert RECORD.size == 64
    offsets = {field.name: (field.offset, field.size * field.count) for field in RECORD.fields}
    assert offsets == {
        "sequence": (0, 8), "at_ns": (8, 8), "event": (16, 2), "lane": (18, 2), "length": (20, 4),
        "frame": (24, 8), "arguments": (32, 32),
    }  # fmt: skip


def test_trace_header_keeps_the_launchers_flag_off_the_owners_line() -> None:
    assert {field.name: field.offset for field in HEADER.fields} == {"enabled": 0, "head": 64, "lost": 72}
    assert trace.RECORDS_OFFSET == 4096
    assert trace.RING_BYTES == 4096 + 4096 * 64


@pytest.mark.parametrize("event", BY_NUMBER.values(), ids=lambda event: event.name)
def test_trace_event_text_names_only_its_arguments(event: Event) -> None:
    named = {name for _, name, _, _ in string.Formatter().parse(event.text) if name}
    assert named <= {name for name, _kind in event.fields} | {"length", "frame"}
    assert 0 < event < 1 << 16


def test_trace_event_with_too_many_arguments_is_refused() -> None:
    with pytest.raises(LayoutError, match="5 arguments"):
        Event(9999, "exit", "x", "", a="hex", b="hex", c="hex", d="hex", e="hex")
