"""What vhost-user needs natively: memory that a peer may cut short, a log of pages, a record of rings."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.native import Burst, DirtyLog, PackedDevice, PeerMemory, Pinned, Regions, RingJournal
from testbed.spec import vhost_user as spec
from testbed.spec.port_counters import PORT_COUNTERS

PAGE = 4096
SIZE = 8


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = os.memfd_create("peer")
    os.ftruncate(descriptor, 3 * PAGE)
    yield descriptor
    os.close(descriptor)


# Memory of a peer


def test_memory_is_the_peers_file(file: int) -> None:
    memory = PeerMemory(file, PAGE, 2 * PAGE)
    view = memoryview(memory)
    view[1] = 7
    assert os.pread(file, 2, PAGE) == b"\0\7"
    os.pwrite(file, b"\5", 2 * PAGE)
    assert (view[PAGE], memory.size_bytes, memory.lost) == (5, 2 * PAGE, False)


def test_memory_may_begin_anywhere_in_a_page(file: int) -> None:
    os.pwrite(file, b"\5", PAGE + 24)
    assert memoryview(PeerMemory(file, PAGE + 24, 100))[0] == 5


def test_memory_cut_short_reads_as_zeros_and_says_so(file: int) -> None:
    memory, other = PeerMemory(file, 0, 3 * PAGE), PeerMemory(file, 0, PAGE)
    view = memoryview(memory)
    os.pwrite(file, b"\5" * 3 * PAGE, 0)
    os.ftruncate(file, PAGE)
    assert (view[2 * PAGE], memory.lost, other.lost) == (0, True, False)
    view[2 * PAGE] = 1  # and may be written
    assert (view[0], view[2 * PAGE]) == (0, 1)
    assert memoryview(other)[0] == 5


@pytest.mark.parametrize(("size", "page"), [(0, PAGE), (-1, PAGE), (PAGE, 3), (PAGE, 1024)])
def test_memory_that_cannot_be_is_refused(file: int, size: int, page: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        PeerMemory(file, 0, size, page)


def test_memory_of_what_is_no_file_is_refused() -> None:
    event = os.eventfd(0)
    with pytest.raises(OSError, match="No such device"):
        PeerMemory(event, 0, PAGE)
    os.close(event)


# The log of pages


@pytest.mark.parametrize(
    ("gpa", "length", "pages"),
    [
        (0, 1, {0}),
        (PAGE - 1, 2, {0, 1}),
        (8 * PAGE, 3 * PAGE, {8, 9, 10}),
        (5 * PAGE, 0, set()),
        (63 * PAGE, 10 * PAGE, {63}),
        (1 << 60, PAGE, set()),
        ((1 << 64) - 1, 2, set()),
    ],
)
def test_log_marks_the_pages_of_a_range_that_it_covers(gpa: int, length: int, pages: set[int]) -> None:
    bits = bytearray(8)
    DirtyLog(Pinned(bits)).mark(gpa, length)
    word = int.from_bytes(bits, "little")
    assert {page for page in range(64) if word >> page & 1} == pages


# The record of a ring


def journal_of(content: bytes = b"") -> RingJournal:
    """Return a journal whose page has this content."""
    return RingJournal(Pinned(bytearray(content.ljust(spec.RING_JOURNAL.size, b"\0"))))


def test_journal_knows_the_ring_that_it_was_begun_for() -> None:
    journal = journal_of()
    assert not journal.knows(0, 0, 0)
    journal.begin(0x1000, SIZE, 3)
    assert journal.knows(0x1000, SIZE, 3)
    for other in ((0x2000, SIZE, 3), (0x1000, 4, 3), (0x1000, SIZE, 0)):
        assert not journal.knows(*other)
    journal.end()
    assert not journal.knows(0x1000, SIZE, 3)


def test_journal_does_not_fit_where_there_is_no_room() -> None:
    page = Pinned(bytearray(spec.RING_JOURNAL.size + 8))
    RingJournal(page, 8)
    with pytest.raises(ValueError, match="do not fit"):
        RingJournal(page, 16)
    with pytest.raises(ValueError, match="aligned"):
        RingJournal(page, 4)


@given(content=st.binary(max_size=64 + 40), size=st.sampled_from([1, 2, 8, 256]))
def test_journal_with_any_content_gives_no_more_than_the_ring_has(content: bytes, size: int) -> None:
    """Whoever wrote it may be hostile: what is given back is written into the ring at the device's place."""
    burst, ring = Burst(), bytearray(16 * 256 + 16)
    journal_of(content).unfinished(burst, size)
    assert len(burst) <= size
    memory = Regions()
    memory.add(0x1000, Pinned(ring))
    device = PackedDevice(memory, size, 0x1000, 0x2000, 0x2008, Pinned(bytearray(PORT_COUNTERS.size)))
    device.complete(burst)
    (_, _), (used, _) = device.position
    assert used < size
