"""Numbers of the translation table format, typed from DDI 0487 D8 and D17.2.37, not from testbed/spec."""

import pytest

from testbed.spec import page_table as pt
from testbed.spec.layout import Bits

BITS = [
    (pt.VALID, 0x1),
    (pt.TABLE_OR_PAGE, 0x2),
    (pt.NEXT_LEVEL_TABLE, 0x0000_FFFF_FFFF_F000),
    (pt.OUTPUT_ADDRESS, 0x0000_FFFF_FFFF_F000),
    (pt.PXN_TABLE, 0x0800_0000_0000_0000),
    (pt.UXN_TABLE, 0x1000_0000_0000_0000),
    (pt.AP_TABLE, 0x6000_0000_0000_0000),
    (pt.NS_TABLE, 0x8000_0000_0000_0000),
    (pt.ATTR_INDX, 0x1C),
    (pt.NS, 0x20),
    (pt.AP, 0xC0),
    (pt.SH, 0x300),
    (pt.AF, 0x400),
    (pt.NG, 0x800),
    (pt.NT, 0x1_0000),
    (pt.GP, 0x0004_0000_0000_0000),
    (pt.DBM, 0x0008_0000_0000_0000),
    (pt.CONTIGUOUS, 0x0010_0000_0000_0000),
    (pt.PXN, 0x0020_0000_0000_0000),
    (pt.UXN, 0x0040_0000_0000_0000),
    (pt.S2_MEM_ATTR, 0x3C),
    (pt.S2AP, 0xC0),
    (pt.S2_FNXS, 0x800),
    (pt.S2_XN, 0x0060_0000_0000_0000),
]

CONSTANTS = [
    (pt.LEVEL_SHIFTS, (39, 30, 21, 12)),
    (pt.ENTRIES, 512),
    (pt.AP_UNPRIVILEGED_MASK, 0x40),
    (pt.AP_READ_ONLY_MASK, 0x80),
    (pt.AP_TABLE_NO_UNPRIVILEGED_MASK, 1 << 61),
    (pt.AP_TABLE_READ_ONLY_MASK, 1 << 62),
    (pt.S2AP_READ_MASK, 0x40),
    (pt.S2AP_WRITE_MASK, 0x80),
    (pt.S2_MEM_ATTR_NORMAL, 0b1111),
    (pt.S2_MEM_ATTR_DEVICE, 0b0001),
    (pt.SH_INNER, 0b11),
    (pt.DFSC_ADDRESS_SIZE_L0, 0b000000),
    (pt.DFSC_TRANSLATION_L0, 0b000100),
    (pt.DFSC_ACCESS_FLAG_L0, 0b001000),
    (pt.DFSC_PERMISSION_L0, 0b001100),
    (pt.DFSC_EXTERNAL, 0b010000),
    (pt.DFSC_EXTERNAL_WALK_L0, 0b010100),
    (pt.DFSC_ALIGNMENT, 0b100001),
    (pt.GRANULE_SHIFT, 12),
    (pt.INDEX_BITS, 9),
    (pt.DESCRIPTOR_BYTES, 8),
    (pt.LAST_LEVEL, 3),
    (pt.BLOCK_LEVEL_FIRST, 1),
    (pt.INPUT_BITS_MAX, 48),
    (pt.ROOT_ALIGN_BYTES_MIN, 64),
    (pt.CONCATENATED_TABLES_MAX, 16),
    (pt.VALID_MASK, 0x1),
    (pt.TABLE_OR_PAGE_MASK, 0x2),
    (pt.ADDRESS_MASK, 0x0000_FFFF_FFFF_F000),
    (pt.AF_MASK, 0x400),
    (pt.NG_MASK, 0x800),
]


@pytest.mark.parametrize(
    ("bits", "mask"), BITS, ids=lambda value: value.name if isinstance(value, Bits) else ""
)
def test_bit_field_is_where_the_manual_has_it(bits: Bits, mask: int) -> None:
    assert bits.mask == mask


@pytest.mark.parametrize(("constant", "number"), CONSTANTS)
def test_constant_is_what_the_manual_says(constant: object, number: object) -> None:
    assert constant == number


def test_linux_stage1_page_descriptor_reads_as_recorded() -> None:
    # A descriptor that Linux 6.1 wrote for a doorbell page: device, shared, read-write, not for execution
    recorded = 0x0060_0000_0809_0E4B

    assert recorded & pt.OUTPUT_ADDRESS.mask == 0x0809_0000
    assert (pt.AP.get(recorded), pt.SH.get(recorded), pt.AF.get(recorded), pt.NG.get(recorded)) == (
        1,
        2,
        1,
        1,
    )
