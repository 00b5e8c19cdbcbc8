"""MSI-X: table, masks, pending bits; hostile accesses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.pci.msix import Msix

PBA = 0x2000
ENABLE, MASK_ALL = 0x8000, 0x4000


class Rig:
    """Ten vectors, vector n addressed at 1000h + n with data 100h + n."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.msix = Msix(10, PBA, lambda address, data: self.sent.append((address, data)))
        for vector in range(10):
            self.msix.write(16 * vector, 4, 0xFEE0_0000 + 4 * vector)
            self.msix.write(16 * vector + 4, 4, 1)
            self.msix.write(16 * vector + 8, 4, 0x100 + vector)

    def unmask(self, vector: int) -> None:
        self.msix.write(16 * vector + 12, 4, 0)


def test_a_message_is_the_entrys_address_and_data() -> None:
    rig = Rig()
    rig.msix.control_written(ENABLE)
    rig.unmask(3)
    rig.msix.signal(3)
    assert rig.sent == [(0x1_FEE0_000C, 0x103)]


def test_vectors_are_masked_after_a_reset_and_what_was_signalled_waits_once() -> None:
    rig = Rig()
    rig.msix.control_written(ENABLE)
    rig.msix.signal(9)
    rig.msix.signal(9)
    assert (rig.sent, rig.msix.read(PBA, 8)) == ([], 1 << 9)
    rig.unmask(9)
    assert (len(rig.sent), rig.msix.read(PBA, 8)) == (1, 0)


def test_the_function_mask_holds_every_vector_back() -> None:
    rig = Rig()
    rig.msix.control_written(ENABLE | MASK_ALL)
    for vector in (0, 1):
        rig.unmask(vector)
        rig.msix.signal(vector)
    assert (rig.sent, rig.msix.read(PBA, 4)) == ([], 0b11)
    rig.msix.control_written(ENABLE)
    assert len(rig.sent) == 2


def test_nothing_is_sent_or_pending_while_msix_is_off() -> None:
    rig = Rig()
    rig.unmask(0)
    rig.msix.signal(0)
    rig.msix.control_written(ENABLE)
    assert rig.sent == []


def test_a_cause_that_is_gone_is_pending_no_more() -> None:
    rig = Rig()
    rig.msix.control_written(ENABLE)
    rig.msix.signal(4)
    rig.msix.clear_pending(1 << 4)
    rig.unmask(4)
    assert rig.sent == []


def test_a_vector_that_does_not_exist_is_nothing() -> None:
    rig = Rig()
    rig.msix.control_written(ENABLE)
    rig.msix.signal(10)
    assert (rig.sent, rig.msix.read(PBA, 8)) == ([], 0)


def test_pending_bits_and_what_lies_outside_cannot_be_written() -> None:
    rig = Rig()
    rig.msix.write(PBA, 4, 0xFFFF_FFFF)
    rig.msix.write(16 * 10, 4, 0xFFFF_FFFF)
    assert (rig.msix.read(PBA, 8), rig.msix.read(16 * 10, 4)) == (0, 0)


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (2, 2), (6, 4)])
def test_a_write_of_part_of_a_word_is_ignored(offset: int, size: int) -> None:
    rig = Rig()
    before = rig.msix.read(0, 8)
    rig.msix.write(offset, size, (1 << 8 * size) - 1)
    assert rig.msix.read(0, 8) == before


def test_address_and_control_keep_only_bits_that_exist() -> None:
    rig = Rig()
    rig.msix.write(0, 8, 0xFFFF_FFFF_FFFF_FFFF)
    rig.msix.write(12, 4, 0xFFFF_FFFE)
    assert (rig.msix.read(0, 4), rig.msix.read(4, 4), rig.msix.read(12, 4)) == (0xFFFF_FFFC, 0xFFFF_FFFF, 0)


ACCESS = st.tuples(
    st.sampled_from(["read", "write", "signal", "control"]),
    st.integers(0, 0x4000),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, (1 << 64) - 1),
)


@given(st.lists(ACCESS, max_size=40))
def test_no_access_can_make_a_message_that_the_table_does_not_hold(
    accesses: list[tuple[str, int, int, int]],
) -> None:
    rig = Rig()
    for what, offset, size, value in accesses:
        sent = len(rig.sent)
        entries = {(rig.msix.read(16 * n, 8), rig.msix.read(16 * n + 8, 4)) for n in range(10)}
        if what == "read":
            assert 0 <= rig.msix.read(offset, size) < 1 << 8 * size
        elif what == "write":
            rig.msix.write(offset, size, value & (1 << 8 * size) - 1)
        elif what == "signal":
            rig.msix.signal(offset % 12)
        else:
            rig.msix.control_written(value & 0xFFFF)
        after = {(rig.msix.read(16 * n, 8), rig.msix.read(16 * n + 8, 4)) for n in range(10)}
        assert set(rig.sent[sent:]) <= entries | after
