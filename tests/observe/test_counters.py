"""Counters: named words in shared memory, written by their owner, read by anyone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import DeviceError
from testbed.observe.counters import WORD_BYTES, Counters, segment_bytes

NAMES = ("exits", "bells", "frames")


def test_counters_count_up_from_zero() -> None:
    counters = Counters(NAMES)
    counters.add("bells")
    counters.add("bells", 41)
    counters.set("frames", 7)
    assert counters.snapshot() == {"exits": 0, "bells": 42, "frames": 7}
    assert counters["bells"] == 42


def test_counters_of_a_block_are_the_same_words_by_shorter_names() -> None:
    counters = Counters(("exits", "vcpu1.exits", "vcpu1.bells", "vcpu10.exits"))
    block = counters.block("vcpu1.")
    block.add("exits", 3)
    block.set("bells", 5)
    assert counters.snapshot() == {"exits": 0, "vcpu1.exits": 3, "vcpu1.bells": 5, "vcpu10.exits": 0}
    assert block.snapshot() == {"exits": 3, "bells": 5}
    assert block.offset("bells") == counters.offset("vcpu1.bells")


def test_counters_are_little_endian_words_in_the_order_of_their_names() -> None:
    page = bytearray(4096)
    counters = Counters(NAMES, page)
    counters.add("frames", 0x0102)
    assert page[16:24] == b"\x02\x01\0\0\0\0\0\0"
    assert [counters.offset(name) for name in NAMES] == [0, 8, 16]


def test_counters_of_one_page_are_seen_by_every_reader() -> None:
    page = bytearray(4096)
    owner, reader = Counters(NAMES, page), Counters(NAMES, page)
    owner.add("exits", 3)
    assert reader["exits"] == 3


def test_counters_that_were_not_declared_are_a_bug() -> None:
    counters = Counters(NAMES)
    with pytest.raises(KeyError):
        counters.add("typos")
    with pytest.raises(KeyError):
        counters.offset("typos")


def test_counters_need_a_segment_that_holds_them() -> None:
    with pytest.raises(DeviceError, match=r"^a counter segment of 2 words cannot hold 3 counters$"):
        Counters(NAMES, bytearray(2 * WORD_BYTES))


def test_counters_hold_64_bits() -> None:
    counters = Counters(NAMES)
    counters.add("frames", (1 << 64) - 1)
    assert counters["frames"] == (1 << 64) - 1


@given(st.integers(0, 5_000))
def test_segment_is_whole_pages_and_no_larger_than_it_must(count: int) -> None:
    size = segment_bytes([str(n) for n in range(count)])
    assert size % 4096 == 0
    assert max(1, count) * WORD_BYTES <= size < max(1, count) * WORD_BYTES + 4096
