"""The Python walks on tables laid out by hand; descriptor bits are typed from DDI 0487 D8.3."""

import pytest

from testbed.memory import walk
from testbed.memory.walk import Fault, FaultKind, Permission, Stage, Translation
from tests.memory.walk_tables import byte_memory, chain
from tests.support.byte_memory import ByteMemory

PAGE_DESC = 0b11
BLOCK_DESC = 0b01
AF = 1 << 10
S2_RW = 0b11 << 6
S2_RO = 0b01 << 6
S1_UNPRIV_RW = 0b01 << 6
S1_UNPRIV_RO = 0b11 << 6
NG = 1 << 11
ADDRESS = 0x0000_1234_5678_9ABC & ((1 << 48) - 1)
RW = Permission.READ | Permission.WRITE


def test_stage2_page_is_translated() -> None:
    memory = byte_memory()
    root = chain(memory, ADDRESS, 0x55_5555_5000 | PAGE_DESC | AF | S2_RW)

    answer = walk.stage2(memory, Stage(root), ADDRESS, RW)

    assert answer == Translation(0x55_5555_5ABC, walk.ALL_PERMISSIONS, 4096)


@pytest.mark.parametrize(("level", "size"), [(1, 1 << 30), (2, 1 << 21)])
def test_stage2_block_keeps_the_low_address_bits(level: int, size: int) -> None:
    memory = byte_memory()
    root = chain(memory, ADDRESS, 0x40_0000_0000 | BLOCK_DESC | AF | S2_RW, leaf_level=level)

    answer = walk.stage2(memory, Stage(root), ADDRESS, RW)

    assert answer == Translation(0x40_0000_0000 + ADDRESS % size, walk.ALL_PERMISSIONS, size)


@pytest.mark.parametrize(
    ("leaf", "level", "kind"),
    [
        (0, 3, FaultKind.TRANSLATION),
        (0, 0, FaultKind.TRANSLATION),
        (0x5000 | BLOCK_DESC | AF | S2_RW, 3, FaultKind.TRANSLATION),
        (0x5000 | BLOCK_DESC | AF | S2_RW, 0, FaultKind.TRANSLATION),
        (0x5000 | PAGE_DESC | S2_RW, 3, FaultKind.ACCESS_FLAG),
        (0x5000 | PAGE_DESC | AF | S2_RO, 3, FaultKind.PERMISSION),
        (0x5000 | PAGE_DESC | AF, 3, FaultKind.PERMISSION),
        (1 << 40 | PAGE_DESC | AF | S2_RW, 3, FaultKind.ADDRESS_SIZE),
        (1 << 40 | PAGE_DESC, 2, FaultKind.ADDRESS_SIZE),
        (0xFF_0000_0000 | PAGE_DESC, 1, FaultKind.WALK_ABORT),
    ],
)
def test_stage2_refusal_names_kind_and_level(leaf: int, level: int, kind: FaultKind) -> None:
    memory = byte_memory()
    root = chain(memory, ADDRESS, leaf, leaf_level=level)

    answer = walk.stage2(memory, Stage(root, output_bits=40), ADDRESS, RW)

    at = level + 1 if kind is FaultKind.WALK_ABORT else level
    fetch = 0xFF_0000_0000 + ((ADDRESS >> 21) & 511) * 8 if kind is FaultKind.WALK_ABORT else 0
    assert answer == Fault(kind, 2, at, ipa=ADDRESS, fetch=fetch)


def test_stage2_address_behind_the_input_size_is_a_level_0_translation_fault() -> None:
    answer = walk.stage2(byte_memory(), Stage(0x1000), 1 << 48)

    assert answer == Fault(FaultKind.TRANSLATION, 2, 0, ipa=1 << 48)


def test_stage2_concatenated_root_is_indexed_across_tables() -> None:
    memory = byte_memory()
    # 40 bits of input from level 1: two concatenated tables, aligned to 8 KiB
    memory.store(0x2000 + 513 * 8, 8, 0x40_0000_0000 | BLOCK_DESC | AF | S2_RW)

    answer = walk.stage2(memory, Stage(0x2000, 40, 1), (513 << 30) + 5)

    assert answer == Translation(0x40_0000_0005, walk.ALL_PERMISSIONS, 1 << 30)


def test_access_flag_may_be_ignored() -> None:
    memory = byte_memory()
    root = chain(memory, ADDRESS, 0x5000 | PAGE_DESC | S2_RW)

    answer = walk.stage2(memory, Stage(root, access_flag_faults=False), ADDRESS)

    assert isinstance(answer, Translation)


@pytest.mark.parametrize(
    ("ap", "granted"),
    [
        (0b00, walk.READ_ANY | walk.WRITE_ANY & ~walk.UNPRIVILEGED),
        (0b01, walk.ALL_PERMISSIONS),
        (0b10, Permission.PRIVILEGED_READ),
        (0b11, walk.READ_ANY),
    ],
)
def test_stage1_ap_grants_by_privilege(ap: int, granted: Permission) -> None:
    memory = byte_memory()
    root = chain(memory, ADDRESS, 0x5000 | PAGE_DESC | AF | ap << 6)
    expected = granted & ~Permission.READ if ap == 0 else granted

    answer = walk.stage1(memory, Stage(root), ADDRESS)

    assert answer == Translation(0x5ABC, expected, 4096, is_global=True)


def test_stage1_nG_makes_the_translation_one_asids() -> None:
    memory = byte_memory()
    root = chain(memory, ADDRESS, 0x5000 | PAGE_DESC | AF | S1_UNPRIV_RW | NG)

    answer = walk.stage1(memory, Stage(root), ADDRESS)

    assert answer == Translation(0x5ABC, walk.ALL_PERMISSIONS, 4096, is_global=False)


@pytest.mark.parametrize(
    ("ap_table", "hierarchical", "granted"),
    [
        (0b01, True, Permission.PRIVILEGED_READ | Permission.PRIVILEGED_WRITE),
        (0b10, True, walk.READ_ANY),
        (0b11, True, Permission.PRIVILEGED_READ),
        (0b11, False, walk.ALL_PERMISSIONS),
    ],
)
def test_stage1_table_takes_permissions_away(ap_table: int, hierarchical: bool, granted: Permission) -> None:
    memory = byte_memory()
    leaf = 0x5000 | PAGE_DESC | AF | S1_UNPRIV_RW
    root = chain(memory, ADDRESS, leaf, table_bits=PAGE_DESC | ap_table << 61)

    answer = walk.stage1(memory, Stage(root, hierarchical=hierarchical), ADDRESS)

    assert answer == Translation(0x5ABC, granted, 4096)


@pytest.mark.parametrize(("bits", "level"), [(48, 0), (40, 0), (39, 1), (31, 1), (30, 2), (25, 2), (21, 3)])
def test_stage1_start_level_follows_the_input_size(bits: int, level: int) -> None:
    assert walk.start_level(bits) == level


def test_table_that_points_to_itself_ends_after_four_levels() -> None:
    memory = byte_memory()
    memory.store(0x1000, 8, 0x1000 | PAGE_DESC | AF | S2_RW)

    answer = walk.stage2(memory, Stage(0x1000), 0)

    assert answer == Translation(0x1000, walk.ALL_PERMISSIONS, 4096)


def test_small_root_is_aligned_to_its_size() -> None:
    assert walk.aligned_root(Stage(0x1FFF, 25, 2)) == 0x1F80
    assert walk.aligned_root(Stage(0x1FFF, 22, 2)) == 0x1FC0


STAGE1_ROOT_IPA = 0x8000_0000


def _nested_memory(s2_leaf_bits: int = PAGE_DESC | AF | S2_RW) -> tuple[ByteMemory, Stage, Stage]:
    """Stage-1 tables at IPA 2 GiB, which stage 2 maps to 0x10000; stage 1 maps 0x7000_0000_0000 to IPA
    0x8000_8000.
    """
    memory = byte_memory(pages=64)
    root = chain(memory, STAGE1_ROOT_IPA, 0)
    for page in range(16):
        memory.store(0x4000 + page * 8, 8, (0x10000 + page * 4096) | s2_leaf_bits)
    for level in range(3):
        index = (0x7000_0000_0000 >> (39 - 9 * level)) & 511
        memory.store(
            0x10000 + level * 4096 + index * 8, 8, (STAGE1_ROOT_IPA + (level + 1) * 4096) | PAGE_DESC
        )
    memory.store(0x13000, 8, (STAGE1_ROOT_IPA + 0x8000) | PAGE_DESC | AF | S1_UNPRIV_RW)
    return memory, Stage(STAGE1_ROOT_IPA), Stage(root)


def test_nested_goes_through_both_stages() -> None:
    memory, first, second = _nested_memory()

    answer = walk.nested(memory, first, second, 0x7000_0000_0123, RW)

    assert answer == Translation(0x18123, walk.ALL_PERMISSIONS, 4096, stage1_bytes=4096)


def test_nested_permission_fault_of_stage2_carries_the_ipa() -> None:
    memory, first, second = _nested_memory(PAGE_DESC | AF | S2_RO)

    answer = walk.nested(memory, first, second, 0x7000_0000_0123, RW)

    assert answer == Fault(FaultKind.PERMISSION, 2, 3, ipa=STAGE1_ROOT_IPA + 0x8123)


def test_nested_stage1_table_unreadable_in_stage2_is_a_fault_on_the_walk() -> None:
    memory, first, second = _nested_memory(PAGE_DESC | AF)

    answer = walk.nested(memory, first, second, 0x7000_0000_0123)

    index = (0x7000_0000_0000 >> 39) & 511
    assert answer == Fault(FaultKind.PERMISSION, 2, 3, ipa=STAGE1_ROOT_IPA + index * 8, on_stage1_walk=True)


def test_nested_stage1_fault_has_no_ipa() -> None:
    memory, first, second = _nested_memory()

    answer = walk.nested(memory, first, second, 0x7000_0000_1000)

    assert answer == Fault(FaultKind.TRANSLATION, 1, 3)


@pytest.mark.parametrize("kind", list(FaultKind))
@pytest.mark.parametrize(("stage", "on_walk", "ipa"), [(1, False, 0), (2, False, 5), (2, True, 5)])
def test_fault_word_round_trips(kind: FaultKind, stage: int, on_walk: bool, ipa: int) -> None:
    fault = Fault(kind, stage, 2, ipa, on_walk)

    assert fault.word < 0
    assert walk.fault_from_word(fault.word, ipa) == fault
