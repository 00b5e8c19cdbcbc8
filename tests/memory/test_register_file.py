"""The register file: every access kind, every width, handlers, counters, reset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.memory.register_file import AccessCounts, RegisterFile
from testbed.spec.layout import Access, Bits, LayoutError, Reg, RegisterMap

MAP = RegisterMap(
    "sample", 0x100,
    Reg("PLAIN", 0x00, Access.RW, 0x1234_5678),
    Reg("FIELDS", 0x04, Access.RW, 0, bits=(Bits("LOW", 0, 4), Bits("TOP", 31))),
    Reg("STATUS", 0x08, Access.RO, 0xAA),
    Reg("CAUSE", 0x0C, Access.W1C, 0xFF),
    Reg("ENABLE", 0x10, Access.W1S, 0x01),
    Reg("COMMAND", 0x14, Access.WO),
    Reg("COUNT", 0x18, Access.RC, 7),
    Reg("HOLE", 0x1C, Access.RSV, 0),
    Reg("BASE", 0x20, Access.RW, 0x1_0000_0002, size=8),
    Reg("BYTES", 0x28, Access.RW, 0x11, size=1, count=8),
    Reg("TABLE", 0x40, Access.RW, 0, count=4, step=8),
)  # fmt: skip


@pytest.fixture
def registers() -> RegisterFile:
    return RegisterFile(MAP, unimplemented=("HOLE", "TABLE"), narrow_writes=("PLAIN", "BASE", "CAUSE"))


def test_read_gives_initial_value(registers: RegisterFile) -> None:
    assert registers.read(0x00, 4) == 0x1234_5678


def test_rw_stores_and_masks_to_its_width(registers: RegisterFile) -> None:
    registers.write(0x00, 4, 0xF_DEAD_BEEF)
    assert registers.read(0x00, 4) == 0xDEAD_BEEF


def test_bits_outside_named_fields_are_ignored(registers: RegisterFile) -> None:
    registers.write(0x04, 4, 0xFFFF_FFFF)
    assert registers.read(0x04, 4) == 0x8000_000F


def test_ro_ignores_and_counts_a_write(registers: RegisterFile) -> None:
    registers.write(0x08, 4, 0)
    assert (registers.read(0x08, 4), registers.counts) == (0xAA, AccessCounts(read_only=1))


def test_w1c_clears_written_ones(registers: RegisterFile) -> None:
    registers.write(0x0C, 4, 0x0F)
    assert registers.read(0x0C, 4) == 0xF0


def test_w1s_sets_written_ones(registers: RegisterFile) -> None:
    registers.write(0x10, 4, 0x80)
    assert registers.read(0x10, 4) == 0x81


def test_wo_reads_as_zero(registers: RegisterFile) -> None:
    registers.write(0x14, 4, 0xFFFF)
    assert registers.read(0x14, 4) == 0


def test_rc_is_cleared_by_the_read(registers: RegisterFile) -> None:
    assert [registers.read(0x18, 4), registers.read(0x18, 4)] == [7, 0]


def test_rc_without_handler_counts_a_write_as_read_only(registers: RegisterFile) -> None:
    registers.write(0x18, 4, 3)
    assert (registers.counts.read_only, registers["COUNT"]) == (1, 7)


def test_rsv_reads_zero_and_ignores_writes(registers: RegisterFile) -> None:
    registers.write(0x1C, 4, 5)
    assert registers.read(0x1C, 4) == 0


def test_eight_byte_register_takes_one_access(registers: RegisterFile) -> None:
    registers.write(0x20, 8, 0xAABB_CCDD_0011_2233)
    assert registers.read(0x20, 8) == 0xAABB_CCDD_0011_2233


def test_eight_byte_register_can_be_read_by_halves(registers: RegisterFile) -> None:
    assert (registers.read(0x20, 4), registers.read(0x24, 4)) == (2, 1)


def test_narrow_write_replaces_its_bytes_only(registers: RegisterFile) -> None:
    registers.write(0x24, 4, 0x55)
    registers.write(0x01, 1, 0xEE)
    assert (registers.read(0x20, 8), registers.read(0x00, 4)) == (0x55_0000_0002, 0x1234_EE78)


def test_narrow_write_of_w1c_leaves_the_other_bytes(registers: RegisterFile) -> None:
    registers.put("CAUSE", 0, 0xFFFF)
    registers.write(0x0D, 1, 0xFF)
    assert registers["CAUSE"] == 0x00FF


def test_narrow_write_is_ignored_where_it_is_not_allowed(registers: RegisterFile) -> None:
    registers.write(0x04, 2, 0xF)
    assert (registers["FIELDS"], registers.counts) == (0, AccessCounts(partial=1))


def test_wide_access_covers_each_register_in_order(registers: RegisterFile) -> None:
    registers.write(0x00, 8, 0x8000_0003_CAFE_F00D)
    assert (registers["PLAIN"], registers["FIELDS"]) == (0xCAFE_F00D, 0x8000_0003)


def test_unaligned_read_takes_bytes_of_both_registers(registers: RegisterFile) -> None:
    registers.write(0x04, 4, 0x8000_0001)
    assert registers.read(0x02, 4) == 0x0001_1234


def test_byte_registers_are_each_their_own(registers: RegisterFile) -> None:
    registers.write(0x29, 2, 0x3322)
    assert registers.read(0x28, 4) == 0x1133_2211


def test_unknown_access_reads_zero_and_is_counted(registers: RegisterFile) -> None:
    registers.write(0xF0, 4, 1)
    assert (registers.read(0xF0, 4), registers.counts) == (0, AccessCounts(unknown=2))


def test_access_that_is_half_unknown_is_counted_once(registers: RegisterFile) -> None:
    assert (registers.read(0x40, 8), registers.counts) == (0, AccessCounts(unknown=1, unimplemented=1))


def test_unimplemented_register_stores_and_is_counted(registers: RegisterFile) -> None:
    registers.write(0x48, 4, 9)
    assert (registers.read(0x48, 4), registers.counts) == (9, AccessCounts(unimplemented=2))


def test_protected_bits_change_from_the_device_only(registers: RegisterFile) -> None:
    registers.protect("PLAIN", 0xFF)
    registers.write(0x00, 4, 0)
    assert registers.read(0x00, 4) == 0x78


def test_write_handler_gets_the_raw_value_after_the_rule(registers: RegisterFile) -> None:
    seen: list[tuple[int, int]] = []
    registers.on_write("FIELDS", lambda value: seen.append((value, registers["FIELDS"])))
    registers.write(0x04, 4, 0xFF)
    assert seen == [(0xFF, 0x0F)]


def test_read_handler_gives_the_value(registers: RegisterFile) -> None:
    registers.on_read("STATUS", lambda: 0x83)
    assert registers.read(0x08, 4) == 0x83


def test_rc_with_write_handler_is_the_handlers_business(registers: RegisterFile) -> None:
    seen: list[int] = []
    registers.on_write("COUNT", seen.append)
    registers.write(0x18, 4, 3)
    assert (seen, registers.counts) == ([3], AccessCounts())


def test_family_handlers_get_the_index(registers: RegisterFile) -> None:
    seen: list[tuple[int, int]] = []
    registers.on_write_each("TABLE", lambda index, value: seen.append((index, value)))
    registers.on_read_each("TABLE", lambda index: 100 + index)
    registers.write(0x50, 4, 4)
    assert (seen, registers.read(0x58, 4)) == ([(2, 4)], 103)


def test_handler_bound_after_an_access_takes_effect(registers: RegisterFile) -> None:
    registers.read(0x08, 4)
    registers.on_read("STATUS", lambda: 1)
    assert registers.read(0x08, 4) == 1


def test_second_handler_is_refused(registers: RegisterFile) -> None:
    registers.on_read("STATUS", lambda: 1)
    with pytest.raises(LayoutError, match=r"sample\.STATUS has a handler already"):
        registers.on_read("STATUS", lambda: 2)


def test_single_handler_on_a_family_is_refused(registers: RegisterFile) -> None:
    with pytest.raises(LayoutError, match=r"sample\.TABLE is a family of 4"):
        registers.on_read("TABLE", lambda: 1)


def test_reset_gives_initial_values_but_keeps_what_is_preserved(registers: RegisterFile) -> None:
    registers.write(0x00, 4, 1)
    registers.write(0x40, 4, 2)
    registers.reset(preserve=("TABLE",))
    assert registers.snapshot() == {"TABLE[0]": 2}


def test_names_of_registers_by_any_byte(registers: RegisterFile) -> None:
    names = [registers.name_at(offset) for offset in (0x03, 0x27, 0x2B, 0x5A, 0x44)]
    assert names == ["PLAIN", "BASE", "BYTES[3]", "TABLE[3]", "unknown"]


@given(st.lists(st.tuples(st.integers(0, 0x110), st.integers(1, 8), st.integers(0, 2**64 - 1)), max_size=60))
def test_any_access_is_defined(accesses: list[tuple[int, int, int]]) -> None:
    registers = RegisterFile(MAP, unimplemented=("HOLE",), narrow_writes=("PLAIN",))
    for offset, size, value in accesses:
        registers.write(offset, size, value)
        assert 0 <= registers.read(offset, size) < 1 << 8 * size


@given(st.integers(0, 0x27), st.integers(1, 8))
def test_a_read_of_any_width_sees_the_same_bytes(offset: int, size: int) -> None:
    whole = RegisterFile(MAP)
    image = b"".join(whole.registers[n].reset.to_bytes(whole.registers[n].size, "little") for n in ORDER)
    expected = int.from_bytes(image[offset : offset + size], "little")
    assert RegisterFile(MAP).read(offset, min(size, 0x28 - offset)) == expected


ORDER = ("PLAIN", "FIELDS", "STATUS", "CAUSE", "ENABLE", "COMMAND", "COUNT", "HOLE", "BASE")
