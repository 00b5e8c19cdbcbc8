"""The trace ring: what is written comes back whole, in order, the oldest overwritten; off writes nothing."""

import mmap
import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.native import Pinned, TraceReader, trace
from testbed.spec.trace import BUSY, EDGE, ENTRY, HEADER, RECORD, RECORDS_OFFSET

RECORDS = 16


class Ring:
    """A ring of so many records, attached to this process while it is open."""

    def __init__(self, records: int = RECORDS, *, enabled: bool = True) -> None:
        self.records = records
        self.page = bytearray(RECORDS_OFFSET + records * RECORD.size)
        self.enable(enabled)
        self.reader = TraceReader(Pinned(self.page, False))
        trace.attach(Pinned(self.page))

    def enable(self, on: bool) -> None:
        self.page[0] = int(on)

    def put(self, offset: int, value: int) -> None:
        self.page[offset : offset + 8] = value.to_bytes(8, "little")

    def sequence_at(self, number: int) -> int:
        return RECORDS_OFFSET + (number - 1) % self.records * RECORD.size + RECORD.offset("sequence")


@pytest.fixture(autouse=True)
def _detached() -> Iterator[None]:
    yield
    trace.detach()


def test_trace_ring_gives_back_what_was_written() -> None:
    ring = Ring()
    before_ns = time.monotonic_ns()
    trace(ENTRY, 1, 2, 3, (1 << 64) - 1, length=60)
    ((at_ns, event, lane, length, frame, arguments),) = ring.reader.read()[0]
    assert before_ns <= at_ns <= time.monotonic_ns()
    assert (event, lane, length, frame, arguments) == (ENTRY, 0, 60, 0, (1, 2, 3, (1 << 64) - 1))


def test_trace_ring_off_writes_nothing() -> None:
    ring = Ring(enabled=False)
    assert not trace
    trace(ENTRY, 1)
    assert bytes(ring.page) == bytes(len(ring.page))
    ring.enable(True)
    assert trace
    trace(ENTRY, 1)
    assert ring.reader.head == 1


def test_trace_ring_detached_writes_nothing() -> None:
    ring = Ring()
    trace.detach()
    trace(ENTRY)
    assert not trace
    assert ring.reader.head == 0


@given(written=st.integers(0, 5 * RECORDS), read_before=st.integers(0, 5 * RECORDS))
def test_trace_ring_keeps_the_newest(written: int, read_before: int) -> None:
    ring = Ring()
    after = min(written, read_before)
    for number in range(1, written + 1):
        trace(ENTRY, number)
    records, missing = ring.reader.read(after)
    kept = [arguments[0] for *_, arguments in records]
    assert kept == list(range(max(after, written - RECORDS) + 1, written + 1))
    assert missing == written - after - len(kept)


@given(busy=st.sets(st.integers(1, RECORDS)), stale=st.sets(st.integers(1, RECORDS)))
def test_trace_reader_leaves_out_torn_records(busy: set[int], stale: set[int]) -> None:
    ring = Ring()
    for number in range(1, RECORDS + 1):
        trace(ENTRY, number)
    for number in stale:  # overwritten by the record of the next round, which the head has not shown yet
        ring.put(ring.sequence_at(number), number + RECORDS)
    for number in busy:
        ring.put(ring.sequence_at(number), BUSY)
    records, missing = ring.reader.read()
    whole = [number for number in range(1, RECORDS + 1) if number not in busy | stale]
    assert [arguments[0] for *_, arguments in records] == whole
    assert missing == RECORDS - len(whole)


def test_trace_writer_lets_go_of_a_place_that_another_one_writes() -> None:
    ring = Ring()
    ring.put(ring.sequence_at(1), BUSY)
    trace(ENTRY, 1)
    trace(ENTRY, 2)
    records, missing = ring.reader.read()
    assert [arguments[0] for *_, arguments in records] == [2]
    assert (missing, ring.reader.lost) == (1, 1)


@given(head=st.integers(0, (1 << 64) - 1), noise=st.binary(max_size=4 * RECORD.size))
def test_trace_reader_survives_a_hostile_owner(head: int, noise: bytes) -> None:
    ring = Ring()
    ring.page[RECORDS_OFFSET : RECORDS_OFFSET + len(noise)] = noise
    ring.put(HEADER.offset("head"), head)
    assert len(ring.reader.read()[0]) <= RECORDS


def test_trace_ring_of_a_writer_in_another_process_is_read_while_it_writes() -> None:
    """Every record that is found has the four equal words with which it was written."""
    page = mmap.mmap(-1, RECORDS_OFFSET + RECORDS * RECORD.size)
    page[0] = 1
    reader = TraceReader(Pinned(page, False))
    child = os.fork()
    if child == 0:
        trace.attach(Pinned(page))
        for number in range(200_000):
            trace(EDGE, number, number, number, number)
        os._exit(0)
    torn = found = 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        for *_, arguments in reader.read()[0]:
            torn += len(set(arguments)) != 1
            found += 1
    assert found
    assert torn == 0
    assert reader.head == 200_000


def test_trace_ring_of_several_threads_has_every_event_once() -> None:
    ring = Ring(records=4096)

    def write(lane: int) -> None:
        trace.lane(lane)
        for number in range(1000):
            trace(ENTRY, number)

    threads = [threading.Thread(target=write, args=(lane,)) for lane in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records, missing = ring.reader.read()
    assert missing == 0
    for lane in (1, 2, 3):
        assert [arguments[0] for _, _, of, _, _, arguments in records if of == lane] == list(range(1000))


@pytest.mark.parametrize("records", [0, 3, 12])
def test_trace_ring_must_have_a_power_of_two_of_records(records: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        TraceReader(Pinned(bytearray(RECORDS_OFFSET + records * RECORD.size)))
