"""What a virtual function can reach: its own queues, vectors, mailbox and counts, whatever it writes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.spec import igb, igb_vf
from testbed.spec.igb_statistics import VF_ROWS, VF_STATISTICS
from testbed.spec.layout import Access
from tests.support.nic_machine import NicMachine

ATTACKER = 2
OWN_QUEUES = {igb.vf_queue(ATTACKER, 0), igb.vf_queue(ATTACKER, 1)}
OWN_VECTORS = {igb.vf_vector(ATTACKER, n) for n in range(3)}
ONE_EACH = {
    **{name: OWN_QUEUES for name in (*igb.RX_QUEUE_REGISTERS, *igb.TX_QUEUE_REGISTERS) if name != "DVMOLR"},
    "EITR": OWN_VECTORS,
    "VMBMEM": set(range(16 * ATTACKER, 16 * ATTACKER + 16)),
    "PFMAILBOX": {ATTACKER},
}
"""Members of families that belong to the attacker."""
OWN_BITS = {
    "MBVFICR": 0x0001_0001 << ATTACKER,
    "VFLRE": 1 << ATTACKER,
    "VFRE": 1 << ATTACKER,
    "VFTE": 1 << ATTACKER,
    **{name: 0x7 << igb.vf_vector(ATTACKER, 0) for name in ("EICR", "EIMS", "EIAC", "EIAM")},
    "ICR": igb.mask("ICR", "SWMB"),
}


def everything(nic: NicMachine) -> dict[tuple[str, int], int]:
    """Return every register of the device but those, or the bits, that are the attacker's."""
    values = {}
    for reg in igb.REGISTERS.registers:
        if reg.name == "SWSM" or (reg.access is Access.RC and reg.name not in OWN_BITS):
            continue
        for index in range(reg.count):
            if index not in ONE_EACH.get(reg.name, set()):
                values[reg.name, index] = nic.rd(reg.name, index) & ~OWN_BITS.get(reg.name, 0)
    return values


def others(nic: NicMachine) -> list[int]:
    """Return what the other virtual functions see, by every register that does not change when it is read."""
    return [
        nic.vrd(vf, reg.name, index)
        for vf in (0, 1, 3)
        for reg in igb_vf.REGISTERS.registers
        if reg.access is not Access.RC
        for index in range(reg.count)
    ]


@pytest.fixture(scope="module")
def nic() -> NicMachine:
    """A NIC whose registers all have values of their own."""
    nic = NicMachine(4)
    for reg in igb.REGISTERS.registers:
        if reg.count > 1 and reg.access is Access.RW and reg.name != "PFMAILBOX":
            for index in range(reg.count):
                nic.wr(reg.name, 0x0101_0100 * index % 0x1_0000_0000, index)
    for function in range(5):
        nic.enable_messages(function)
    nic.wr("GPIE", igb.mask("GPIE", "MULTIPLE_MSIX", "EIAME"))
    nic.wr("EIMS", 0x1FF_FFFF)
    return nic


ACCESS = st.tuples(
    st.booleans(),
    st.one_of(
        st.integers(0, 0x3FFF),
        st.sampled_from(sorted(reg.at(i) for reg in igb_vf.REGISTERS.registers for i in range(reg.count))),
    ),
    st.sampled_from([1, 2, 4, 8]),
    st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([0, (1 << 64) - 1, 0x0400_0000])),
)


@settings(max_examples=40, deadline=None)
@given(accesses=st.lists(ACCESS, max_size=40))
def test_nothing_that_a_vf_writes_changes_anything_of_another_or_of_the_pf(
    nic: NicMachine, accesses: list[tuple[bool, int, int, int]]
) -> None:
    nic.taken()
    before, seen = everything(nic), others(nic)
    for write, offset, size, value in accesses:
        if write:
            nic.nic.write(ATTACKER + 1, 0, offset, size, value & (1 << 8 * size) - 1)
        else:
            assert 0 <= nic.nic.read(ATTACKER + 1, 0, offset, size) < 1 << 8 * size
    assert {function for function, _ in nic.taken()} <= {0, ATTACKER + 1}
    assert (everything(nic), others(nic)) == (before, seen)


def test_each_queue_register_is_the_devices_of_the_right_queue() -> None:
    nic = NicMachine(3)
    for reg in igb_vf.QUEUE_REGISTERS:
        if reg.access is Access.RW and reg.name not in ("RDH", "TDH"):
            for queue in range(2):
                nic.vwr(1, reg.name, 0x80 << queue, queue)
                assert nic.rd(reg.name, 1 + 8 * queue) == nic.vrd(1, reg.name, queue), reg.name
    assert nic.rd("RDBAL", 9) == 0x100


def test_status_is_the_devices() -> None:
    nic = NicMachine(2)
    nic.wr("CTRL", nic.rd("CTRL") | igb.mask("CTRL", "SLU"))
    assert nic.vrd(0, "VTSTATUS") == nic.rd("STATUS") == 0x800C8483


@pytest.mark.parametrize("name", [row[0] for row in VF_ROWS])
def test_counts_show_32_bits_and_are_not_cleared_by_reading(name: str) -> None:
    nic = NicMachine(2)
    words = nic.nic.statistics.pools.words(0, 8 * len(VF_STATISTICS.fields) * 8)
    words[(VF_STATISTICS.size + VF_STATISTICS.offset(name.lower())) // 8] = 0x1_0000_0007
    assert [nic.vrd(1, name), nic.vrd(1, name), nic.vrd(0, name)] == [7, 7, 0]
    nic.vwr(1, "VTCTRL", 0x0400_0000)
    assert nic.vrd(1, name) == 0


@pytest.mark.parametrize("function", [3, 8, 9, 0xFFFF])
def test_a_function_that_does_not_exist_answers_nothing(function: int) -> None:
    nic = NicMachine(2)
    before = everything(nic)
    for space in (0, 3, 16, 1, 255):
        nic.nic.write(function, space, 0, 4, 0xFFFF_FFFF)
        assert nic.nic.read(function, space, 0, 4) == 0xFFFF_FFFF
    assert everything(nic) == before


def test_a_bar_that_does_not_exist_answers_nothing() -> None:
    nic = NicMachine(2)
    nic.nic.write(1, 1, 0, 4, 1)
    assert nic.nic.read(1, 1, 0, 2) == 0xFFFF
