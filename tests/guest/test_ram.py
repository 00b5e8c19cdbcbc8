"""RAM for a driver's rings and buffers: pages in a row, zeroed, until there is no more."""

import pytest

from testbed.address import GUEST_RAM_GPA, PAGE_SIZE_BYTES
from testbed.errors import MachineError
from testbed.guest.ram import RamAllocator
from testbed.memory.guest import GuestMemory
from tests.inprocess.machine import RAM_BYTES, HostMachine


@pytest.fixture
def memory() -> GuestMemory:
    guest = HostMachine("a", boot=False).guests[0]
    guest.power_on()
    return guest.vcpu.memory


def test_ram_pieces_follow_each_other_page_by_page(memory: GuestMemory) -> None:
    ram = RamAllocator(memory, GUEST_RAM_GPA, RAM_BYTES)
    first, second = ram.take(1, "a ring"), ram.take(PAGE_SIZE_BYTES + 1, "buffers")
    assert (first.gpa, first.size_bytes) == (GUEST_RAM_GPA, PAGE_SIZE_BYTES)
    assert (second.gpa, second.size_bytes) == (GUEST_RAM_GPA + PAGE_SIZE_BYTES, 2 * PAGE_SIZE_BYTES)
    assert second.pinned.size_bytes == second.size_bytes


def test_ram_piece_is_the_guest_s_memory_and_zero(memory: GuestMemory) -> None:
    piece = RamAllocator(memory, GUEST_RAM_GPA, RAM_BYTES).take(PAGE_SIZE_BYTES, "a ring")
    assert bytes(piece.pinned.bytes_view()) == bytes(PAGE_SIZE_BYTES)
    piece.pinned.bytes_view()[8:12] = b"ring"
    assert memory.read(piece.gpa + 8, 4) == b"ring"


def test_ram_can_be_taken_to_the_last_page(memory: GuestMemory) -> None:
    ram = RamAllocator(memory, GUEST_RAM_GPA, 2 * PAGE_SIZE_BYTES)
    ram.take(2 * PAGE_SIZE_BYTES, "everything")
    with pytest.raises(MachineError) as refused:
        ram.take(1, "queue 1 of 256 entries")
    assert str(refused.value) == (
        "queue 1 of 256 entries: needs 4096 bytes of the guest's RAM, where 0 are left; "
        "give the guest more memory"
    )
