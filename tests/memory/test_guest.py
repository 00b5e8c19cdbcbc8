"""A guest's memory: accesses by guest physical address, and what is refused."""

from collections.abc import Callable

import pytest

from testbed.address import Gpa
from testbed.errors import MachineError, MemoryFault
from testbed.memory.guest import GuestMemory
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.segment import Segment
from testbed.memory.tables import Attributes, TableBuilder
from testbed.spec import page_table as pt
from tests.memory.walk_tables import HPA, PAGE, host_memory

BASE = 0x4000_0000
RAM = HPA + (1 << 30)
OTHER = HPA + (2 << 30)


@pytest.fixture
def memory() -> HostMemory:
    return host_memory(16 * PAGE, 8 * PAGE, 8 * PAGE)


@pytest.fixture
def guest(memory: HostMemory) -> GuestMemory:
    """Four pages of RAM, one read-only page, then one page of another segment, then a page that leads
    nowhere.
    """
    builder = TableBuilder(memory, FrameAllocator(memory, HPA, 16 * PAGE))
    builder.map(BASE, RAM, 4 * PAGE)
    builder.map(BASE + 4 * PAGE, RAM + 4 * PAGE, PAGE, Attributes(write=False))
    builder.map(BASE + 5 * PAGE, OTHER, PAGE)
    builder.map(BASE + 6 * PAGE, HPA + (9 << 30), PAGE)
    return GuestMemory(memory, builder.root)


def test_write_lands_where_stage2_says_and_reads_back(guest: GuestMemory, memory: HostMemory) -> None:
    guest.write(BASE + PAGE - 3, b"abcdef")

    assert guest.read(BASE + PAGE - 3, 6) == b"abcdef"
    assert memory.read(RAM + PAGE - 3, 6) == b"abcdef"


def test_copy_crosses_segments(guest: GuestMemory, memory: HostMemory) -> None:
    memory.write(RAM + 5 * PAGE - 1, b"x")
    memory.write(OTHER, b"y")

    assert guest.read(BASE + 5 * PAGE - 1, 2) == b"xy"


def test_refused_write_moves_nothing(guest: GuestMemory) -> None:
    with pytest.raises(MemoryFault, match="does not permit"):
        guest.write(BASE + 4 * PAGE - 4, b"12345678")

    assert guest.read(BASE + 4 * PAGE - 4, 4) == bytes(4)


@pytest.mark.parametrize("address", [BASE - 1, BASE + 7 * PAGE, 0, 1 << 47, (1 << 64) - 8, 1 << 70, -8])
def test_address_outside_is_a_fault_for_every_access(guest: GuestMemory, address: int) -> None:
    accesses: list[Callable[[], object]] = [
        lambda: guest.read(address, 2),
        lambda: guest.write(address, b"12"),
        lambda: guest.view(address, 2),
        lambda: guest.load(address, 2),
        lambda: guest.store(address, 2, 1),
    ]
    for access in accesses:
        with pytest.raises(MemoryFault):
            access()


def test_length_that_a_guest_invented_is_a_fault(guest: GuestMemory) -> None:
    with pytest.raises(MemoryFault):
        guest.read(BASE, 1 << 46)


def test_view_is_live_and_read_only_where_stage2_is(guest: GuestMemory, memory: HostMemory) -> None:
    view = guest.view(BASE, 2 * PAGE)
    view[5] = 7

    assert memory.load(RAM + 5, 1) == 7
    assert guest.view(BASE + 4 * PAGE, 16).readonly


def test_view_across_discontiguous_memory_is_refused(guest: GuestMemory) -> None:
    with pytest.raises(MemoryFault, match="not one piece"):
        guest.view(BASE + 5 * PAGE - 8, 16)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_load_returns_what_store_wrote(guest: GuestMemory, size: int) -> None:
    value = 0xFEDC_BA98_7654_3210 % (1 << 8 * size)

    guest.store(BASE + 8, size, value)

    assert guest.load(BASE + 8, size) == value
    assert guest.read(BASE + 8, size) == value.to_bytes(size, "little")


def test_unaligned_load_in_a_page_works_and_across_pages_is_refused(guest: GuestMemory) -> None:
    guest.write(BASE + 1, b"\x01\x02\x03\x04")

    assert guest.load(BASE + 1, 4) == 0x04030201
    with pytest.raises(MemoryFault, match="crosses a page"):
        guest.load(BASE + PAGE - 2, 4)


def test_unmapped_access_answers_with_the_fault_status_of_its_level(guest: GuestMemory) -> None:
    word = guest.stage2.load(0x0A00_0000, 4)

    assert pt.FAULT_DFSC.get(-word) == 0x04 + 1
    assert pt.FAULT_STAGE2.get(-word) == 1


def test_mapping_that_leads_nowhere_is_an_external_abort(guest: GuestMemory) -> None:
    assert pt.FAULT_DFSC.get(-guest.stage2.load(BASE + 6 * PAGE, 4)) == 0x10
    with pytest.raises(MemoryFault, match="not backed"):
        guest.store(BASE + 6 * PAGE, 4, 1)


def test_read_only_mapping_of_a_segment_cannot_be_written_whatever_stage2_says() -> None:
    tables = Segment("tables", 16 * PAGE, HPA, bytearray(16 * PAGE))
    ram = Segment("ram", PAGE, RAM, bytearray(PAGE), writable=False)
    memory = HostMemory([tables, ram])
    builder = TableBuilder(memory, FrameAllocator(memory, HPA, 16 * PAGE))
    builder.map(BASE, RAM, PAGE)
    guest = GuestMemory(memory, builder.root)

    assert guest.load(BASE, 4) == 0
    assert guest.view(BASE, 4).readonly
    with pytest.raises(MemoryFault):
        guest.store(BASE, 4, 1)
    with pytest.raises(MemoryFault):
        guest.write(BASE, b"1")
    with pytest.raises(MemoryFault):
        memory.write(RAM, b"1")


def test_translate_raises_where_nothing_is_mapped(guest: GuestMemory) -> None:
    assert guest.translate(Gpa(BASE + 5)) == RAM + 5
    with pytest.raises(MemoryFault, match="is not mapped"):
        guest.translate(Gpa(0))


@pytest.mark.parametrize("hpa", [HPA, HPA + 8 * PAGE, HPA - PAGE])
def test_segments_that_overlap_are_refused(hpa: int) -> None:
    memory = host_memory(16 * PAGE)

    with pytest.raises(MachineError, match="overlap"):
        memory.add(Segment("second", 2 * PAGE, hpa, bytearray(2 * PAGE)))


@pytest.mark.parametrize("size", [0, 3, 5, 16])
def test_access_size_must_be_a_register_width(guest: GuestMemory, size: int) -> None:
    with pytest.raises(ValueError, match="1, 2, 4 or 8"):
        guest.load(BASE, size)
