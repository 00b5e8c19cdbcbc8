"""Numbers of the ITS, typed from ARM IHI 0069 (chapters 5 and 12), not from testbed/spec."""

import pytest

from testbed.spec import its as s
from testbed.spec import its_commands as c
from testbed.spec import lpi
from testbed.spec.layout import Bits

OFFSETS = {
    "CTLR": (0x0000, 4), "IIDR": (0x0004, 4), "TYPER": (0x0008, 8), "CBASER": (0x0080, 8),
    "CWRITER": (0x0088, 8), "CREADR": (0x0090, 8), "BASER": (0x0100, 8), "PIDR2": (0xFFE8, 4),
    "TRANSLATER": (0x10040, 4),
}  # fmt: skip

# (field, least significant bit, width); a command's doubleword n begins at bit 64 n
FIELDS = [
    (s.CTLR_ENABLED, 0, 1), (s.CTLR_IMDE, 1, 1), (s.CTLR_QUIESCENT, 31, 1),
    (s.TYPER_PHYSICAL, 0, 1), (s.TYPER_VIRTUAL, 1, 1), (s.TYPER_CCT, 2, 1), (s.TYPER_ITT_ENTRY_SIZE, 4, 4),
    (s.TYPER_ID_BITS, 8, 5), (s.TYPER_DEVBITS, 13, 5), (s.TYPER_SEIS, 18, 1), (s.TYPER_PTA, 19, 1),
    (s.TYPER_HCC, 24, 8), (s.TYPER_CIDBITS, 32, 4), (s.TYPER_CIL, 36, 1), (s.TYPER_VMOVP, 37, 1),
    (s.CBASER_SIZE, 0, 8), (s.SHAREABILITY, 10, 2), (s.CBASER_ADDRESS, 12, 40), (s.OUTER_CACHE, 53, 3),
    (s.INNER_CACHE, 59, 3), (s.VALID, 63, 1), (s.CWRITER_RETRY, 0, 1), (s.CREADR_STALLED, 0, 1),
    (s.QUEUE_OFFSET, 5, 15),
    (s.BASER_SIZE, 0, 8), (s.BASER_PAGE_SIZE, 8, 2), (s.BASER_ADDRESS, 12, 36), (s.BASER_ENTRY_SIZE, 48, 5),
    (s.BASER_TYPE, 56, 3), (s.BASER_INDIRECT, 62, 1), (s.BASER_HIGH_ADDRESS, 12, 4), (s.PIDR2_ARCH_REV, 4, 4),
    (s.LEVEL1_VALID, 63, 1), (s.LEVEL1_ADDRESS, 12, 40),
    (c.COMMAND_OPCODE, 0, 8), (c.COMMAND_DEVICE, 32, 32), (c.COMMAND_EVENT, 64 + 0, 32),
    (c.COMMAND_VPE, 64 + 32, 16), (c.COMMAND_ICID, 128 + 0, 16), (c.COMMAND_RDBASE, 128 + 16, 36),
    (c.COMMAND_V, 128 + 63, 1), (c.MAPD_SIZE, 64 + 0, 5), (c.MAPD_ITT, 128 + 8, 44),
    (c.MAPTI_PINTID, 64 + 32, 32), (c.MOVALL_TO, 192 + 16, 36), (c.VMAPP_VPT_SIZE, 192 + 0, 5),
    (c.VMAPP_VPT, 192 + 16, 36), (c.VMAPTI_VINTID, 128 + 0, 32), (c.VMAPTI_DOORBELL, 128 + 32, 32),
    (c.VMOVI_D, 128 + 0, 1), (c.VMOVP_SEQUENCE, 32, 16), (c.VMOVP_ITS_LIST, 64 + 0, 16),
    (lpi.LPI_ENABLE, 0, 1), (lpi.LPI_PRIORITY, 2, 6),
]  # fmt: skip

CODES = [
    (c.OP_MOVI, 0x01), (c.OP_INT, 0x03), (c.OP_CLEAR, 0x04), (c.OP_SYNC, 0x05), (c.OP_MAPD, 0x08),
    (c.OP_MAPC, 0x09), (c.OP_MAPTI, 0x0A), (c.OP_MAPI, 0x0B), (c.OP_INV, 0x0C), (c.OP_INVALL, 0x0D),
    (c.OP_MOVALL, 0x0E), (c.OP_DISCARD, 0x0F), (c.OP_VMOVI, 0x21), (c.OP_VMOVP, 0x22), (c.OP_VSYNC, 0x25),
    (c.OP_VMAPP, 0x29), (c.OP_VMAPTI, 0x2A), (c.OP_VMAPI, 0x2B), (c.OP_VINVALL, 0x2D), (c.COMMAND_BYTES, 32),
    (c.error_code(c.OP_MAPD, c.DEVICE_OOR), 0x010801), (c.error_code(c.OP_MAPD, c.ITTSIZE_OOR), 0x010802),
    (c.error_code(c.OP_MAPC, c.PROCNUM_OOR), 0x010902), (c.error_code(c.OP_MAPC, c.COLLECTION_OOR), 0x010903),
    (c.error_code(c.OP_MAPTI, c.UNMAPPED_DEVICE), 0x010A04), (c.error_code(c.OP_MAPTI, c.ID_OOR), 0x010A05),
    (c.error_code(c.OP_MAPTI, c.PHYSICALID_OOR), 0x010A06),
    (c.error_code(c.OP_MOVI, c.UNMAPPED_INTERRUPT), 0x010107),
    (c.error_code(c.OP_MOVI, c.UNMAPPED_COLLECTION), 0x010109),
    (c.error_code(c.OP_INVALL, c.UNMAPPED_COLLECTION), 0x010D09),
    (c.error_code(c.OP_MOVALL, c.PROCNUM_OOR), 0x010E01),
    (c.error_code(c.OP_CLEAR, c.UNMAPPED_INTERRUPT), 0x010507),
    (c.error_code(c.OP_VMAPP, c.VCPU_OOR), 0x012911),
    (c.error_code(c.OP_VMAPTI, c.VIRTUALID_OOR), 0x012A13),
    (c.error_code(c.OP_VSYNC, c.VCPU_INVALID), 0x012514),
    (c.error_code(c.OP_VMOVI, c.ID_IS_PHYSICAL), 0x012115),
    (c.error_code(c.OP_VMOVI, c.ITEVCPU_INVALID), 0x012116),
    (c.error_code(c.OP_VMOVI, c.CMDVCPU_INVALID), 0x012117),
    (s.TYPE_DEVICES, 1), (s.TYPE_VPES, 2), (s.TYPE_COLLECTIONS, 4), (s.BASERS, 8), (s.ARCH_REV_GICV4, 4),
    (s.QUEUE_PAGE_BYTES, 4096), (s.LEVEL1_ENTRY_BYTES, 8), (s.BASER_HIGH_SHIFT, 48),
    (s.PAGE_SIZES_BYTES, (0x1000, 0x4000, 0x10000, 0x10000)),
    (lpi.LPI_FIRST, 8192), (lpi.INTID_SPURIOUS, 1023),
    (lpi.ID_BITS_MIN, 14), (lpi.PENDING_RESERVED_BYTES, 1024),
    (lpi.config_bytes(14), 8192), (lpi.pending_bytes(14), 2048), (lpi.config_offset(8192), 0),
]  # fmt: skip


def test_registers_are_where_the_standard_has_them() -> None:
    assert {reg.name: (reg.offset, reg.size) for reg in s.ITS.registers} == OFFSETS
    assert [s.ITS["BASER"].at(n) for n in (0, 1, 7)] == [0x100, 0x108, 0x138]


@pytest.mark.parametrize(("field", "lsb", "width"), FIELDS)
def test_field_is_where_the_standard_has_it(field: Bits, lsb: int, width: int) -> None:
    assert (field.lsb, field.width) == (lsb, width)


@pytest.mark.parametrize(("constant", "number"), CODES)
def test_code_is_what_the_standard_says(constant: object, number: object) -> None:
    assert constant == number


def test_every_field_is_typed_twice() -> None:
    named = [(name, value) for module in (s, c, lpi) for name, value in vars(module).items()]
    tables = ("DTE_", "CTE_", "VTE_", "ITE_")  # of our own format, which the standard leaves open
    declared = {
        name for name, value in named if isinstance(value, Bits) and not name.startswith(("_", *tables))
    }
    typed = {name for name, value in named if any(value is field for field, _, _ in FIELDS)}
    assert declared == typed


def test_every_number_is_typed_twice() -> None:
    opcodes = {value for name, value in vars(c).items() if name.startswith("OP_")}
    assert opcodes <= {number for _, number in CODES if isinstance(number, int)}
    assert len(opcodes) == len(c.COMMAND_NAMES) == 19


def test_registers_read_as_recorded_from_linux() -> None:
    # TYPER, CBASER and BASER0 as Linux 6.1 saw and wrote them
    assert s.TYPER_VMOVP.get(0x3F0001EFB3)
    assert s.TYPER_VIRTUAL.get(0x3F0001EFB3)
    assert (s.TYPER_ID_BITS.get(0x3F0001EFB3), s.TYPER_DEVBITS.get(0x3F0001EFB3)) == (15, 15)
    assert s.TYPER_ITT_ENTRY_SIZE.get(0x3F0001EFB3) == 11
    assert (s.CBASER_SIZE.get(0xB80000004258040F), s.CBASER_ADDRESS.get(0xB80000004258040F)) == (15, 0x42580)
    indirect = 0xF907000042590600
    assert (s.BASER_TYPE.get(indirect), s.BASER_INDIRECT.get(indirect)) == (s.TYPE_DEVICES, 1)
    assert (s.BASER_PAGE_SIZE.get(indirect), s.BASER_ENTRY_SIZE.get(indirect)) == (2, 7)
