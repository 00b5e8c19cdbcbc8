"""Numbers of SMMUv3, typed from ARM IHI 0070 (chapters 4 to 7), not from testbed/spec."""

import re
from pathlib import Path

import pytest

from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from testbed.spec.layout import Bits

OFFSETS = {
    "IDR0": 0x0000, "IDR1": 0x0004, "IDR2": 0x0008, "IDR3": 0x000C, "IDR4": 0x0010, "IDR5": 0x0014,
    "IIDR": 0x0018, "AIDR": 0x001C, "CR0": 0x0020, "CR0ACK": 0x0024, "CR1": 0x0028, "CR2": 0x002C,
    "STATUSR": 0x0040, "GBPA": 0x0044, "IRQ_CTRL": 0x0050, "IRQ_CTRLACK": 0x0054, "GERROR": 0x0060,
    "GERRORN": 0x0064, "GERROR_IRQ_CFG0": 0x0068, "GERROR_IRQ_CFG1": 0x0070, "GERROR_IRQ_CFG2": 0x0074,
    "STRTAB_BASE": 0x0080, "STRTAB_BASE_CFG": 0x0088, "CMDQ_BASE": 0x0090, "CMDQ_PROD": 0x0098,
    "CMDQ_CONS": 0x009C, "EVENTQ_BASE": 0x00A0, "EVENTQ_PROD_ALIAS": 0x00A8, "EVENTQ_CONS_ALIAS": 0x00AC,
    "EVENTQ_IRQ_CFG0": 0x00B0, "EVENTQ_IRQ_CFG1": 0x00B8, "EVENTQ_IRQ_CFG2": 0x00BC,
    "EVENTQ_PROD": 0x100A8, "EVENTQ_CONS": 0x100AC,
}  # fmt: skip
WIDE = {"GERROR_IRQ_CFG0", "STRTAB_BASE", "CMDQ_BASE", "EVENTQ_BASE", "EVENTQ_IRQ_CFG0"}

# (field, least significant bit, width), bits numbered over the whole structure as the standard does
FIELDS = [
    (s.IDR0_S2P, 0, 1), (s.IDR0_S1P, 1, 1), (s.IDR0_TTF, 2, 2), (s.IDR0_COHACC, 4, 1), (s.IDR0_BTM, 5, 1),
    (s.IDR0_HTTU, 6, 2), (s.IDR0_HYP, 9, 1), (s.IDR0_ATS, 10, 1), (s.IDR0_NS1ATS, 11, 1),
    (s.IDR0_ASID16, 12, 1), (s.IDR0_MSI, 13, 1), (s.IDR0_SEV, 14, 1), (s.IDR0_ATOS, 15, 1),
    (s.IDR0_PRI, 16, 1), (s.IDR0_VMW, 17, 1), (s.IDR0_VMID16, 18, 1), (s.IDR0_CD2L, 19, 1),
    (s.IDR0_TTENDIAN, 21, 2), (s.IDR0_STALL_MODEL, 24, 2), (s.IDR0_TERM_MODEL, 26, 1),
    (s.IDR0_ST_LEVEL, 27, 2),
    (s.IDR1_SIDSIZE, 0, 6), (s.IDR1_SSIDSIZE, 6, 5), (s.IDR1_PRIQS, 11, 5), (s.IDR1_EVENTQS, 16, 5),
    (s.IDR1_CMDQS, 21, 5), (s.IDR3_HAD, 2, 1), (s.IDR3_RIL, 10, 1), (s.IDR5_OAS, 0, 3),
    (s.IDR5_GRAN4K, 4, 1), (s.IDR5_STALL_MAX, 16, 16),
    (s.CR0_SMMUEN, 0, 1), (s.CR0_EVENTQEN, 2, 1), (s.CR0_CMDQEN, 3, 1), (s.CR0_ATSCHK, 4, 1),
    (s.CR2_RECINVSID, 1, 1), (s.CR2_PTM, 2, 1), (s.CR2_REC_CFG_ATS, 3, 1), (s.GBPA_ABORT, 20, 1),
    (s.GBPA_SHCFG, 12, 2),
    (s.GBPA_UPDATE, 31, 1), (s.IRQ_CTRL_GERROR, 0, 1), (s.IRQ_CTRL_EVENTQ, 2, 1), (s.GERROR_CMDQ, 0, 1),
    (s.GERROR_EVENTQ_ABT, 2, 1), (s.BASE_LOG2SIZE, 0, 5), (s.BASE_ADDR, 5, 51), (s.BASE_HINT, 62, 1),
    (s.STRTAB_ADDR, 6, 50), (s.STRTAB_CFG_LOG2SIZE, 0, 6), (s.STRTAB_CFG_SPLIT, 6, 5),
    (s.STRTAB_CFG_FMT, 16, 2), (s.INDEX, 0, 20), (s.CMDQ_CONS_ERR, 24, 7), (s.OVERFLOW, 31, 1),
    (s.L1STD_SPAN, 0, 5), (s.L1STD_L2PTR, 6, 50),
    (s.STE_V, 0, 1), (s.STE_CONFIG, 1, 3), (s.STE_S1FMT, 4, 2), (s.STE_S1CONTEXTPTR, 6, 50),
    (s.STE_S1CDMAX, 59, 5), (s.STE_S1DSS, 64, 2), (s.STE_S1STALLD, 91, 1), (s.STE_EATS, 92, 2),
    (s.STE_STRW, 94, 2), (s.STE_S2VMID, 128, 16), (s.STE_S2T0SZ, 160, 6), (s.STE_S2SL0, 166, 2),
    (s.STE_S2TG, 174, 2), (s.STE_S2PS, 176, 3), (s.STE_S2AA64, 179, 1), (s.STE_S2ENDI, 180, 1),
    (s.STE_S2AFFD, 181, 1), (s.STE_S2PTW, 182, 1), (s.STE_S2HD, 183, 1), (s.STE_S2HA, 184, 1),
    (s.STE_S2S, 185, 1), (s.STE_S2R, 186, 1), (s.STE_S2TTB, 196, 48),
    (s.L1CD_V, 0, 1), (s.L1CD_L2PTR, 12, 44),
    (s.CD_T0SZ, 0, 6), (s.CD_TG0, 6, 2), (s.CD_EPD0, 14, 1), (s.CD_ENDI, 15, 1), (s.CD_T1SZ, 16, 6),
    (s.CD_TG1, 22, 2), (s.CD_EPD1, 30, 1), (s.CD_V, 31, 1), (s.CD_IPS, 32, 3), (s.CD_AFFD, 35, 1),
    (s.CD_TBI0, 38, 1), (s.CD_TBI1, 39, 1), (s.CD_AA64, 41, 1), (s.CD_HD, 42, 1), (s.CD_HA, 43, 1),
    (s.CD_S, 44, 1), (s.CD_R, 45, 1), (s.CD_A, 46, 1), (s.CD_ASET, 47, 1), (s.CD_ASID, 48, 16),
    (s.CD_HAD0, 65, 1), (s.CD_TTB0, 68, 48), (s.CD_HAD1, 129, 1), (s.CD_TTB1, 132, 48),
    (s.CD_MAIR, 192, 64),
    (q.COMMAND_OPCODE, 0, 8), (q.COMMAND_SSEC, 10, 1), (q.COMMAND_SSV, 11, 1), (q.COMMAND_SUBSTREAM, 12, 20),
    (q.COMMAND_STREAM, 32, 32), (q.CFGI_LEAF, 64, 1), (q.CFGI_RANGE, 64, 5), (q.TLBI_NUM, 12, 5),
    (q.TLBI_SCALE, 20, 6), (q.TLBI_VMID, 32, 16), (q.TLBI_ASID, 48, 16), (q.TLBI_LEAF, 64, 1),
    (q.TLBI_TTL, 72, 2), (q.TLBI_TG, 74, 2), (q.TLBI_ADDRESS, 76, 52), (q.TLBI_IPA, 76, 40),
    (q.ATC_GLOBAL, 9, 1), (q.ATC_SIZE, 64, 6), (q.ATC_ADDRESS, 76, 52), (q.RESUME_ABORT, 12, 1),
    (q.RESUME_ACTION, 13, 1), (q.RESUME_STAG, 64, 16), (q.SYNC_CS, 12, 2),
    (q.EVENT_CODE, 0, 8), (q.EVENT_SSV, 11, 1), (q.EVENT_SUBSTREAM, 12, 20), (q.EVENT_STREAM, 32, 32),
    (q.EVENT_STAG, 64, 16), (q.EVENT_REASON, 64, 16), (q.EVENT_SPAN, 64, 4), (q.EVENT_ATS_PRIVILEGED, 91, 1),
    (q.EVENT_ATS_EXECUTE, 92, 1), (q.EVENT_ATS_WRITE, 93, 1), (q.EVENT_ATS_READ, 94, 1),
    (q.EVENT_STALL, 95, 1), (q.EVENT_PNU, 97, 1), (q.EVENT_IND, 98, 1), (q.EVENT_RNW, 99, 1),
    (q.EVENT_S2, 103, 1), (q.EVENT_CLASS, 104, 2), (q.EVENT_TTRNW, 108, 1), (q.EVENT_INPUT_ADDRESS, 128, 64),
    (q.EVENT_IPA, 204, 44), (q.EVENT_FETCH_ADDRESS, 195, 53),
]  # fmt: skip

CODES = [
    (q.OP_PREFETCH_CONFIG, 0x01), (q.OP_PREFETCH_ADDR, 0x02), (q.OP_CFGI_STE, 0x03),
    (q.OP_CFGI_STE_RANGE, 0x04), (q.OP_CFGI_CD, 0x05), (q.OP_CFGI_CD_ALL, 0x06), (q.OP_CFGI_VMS_PIDM, 0x07),
    (q.OP_TLBI_NH_ALL, 0x10), (q.OP_TLBI_NH_ASID, 0x11), (q.OP_TLBI_NH_VA, 0x12), (q.OP_TLBI_NH_VAA, 0x13),
    (q.OP_TLBI_EL3_ALL, 0x18), (q.OP_TLBI_EL3_VA, 0x1A), (q.OP_TLBI_EL2_ALL, 0x20),
    (q.OP_TLBI_EL2_ASID, 0x21), (q.OP_TLBI_EL2_VA, 0x22), (q.OP_TLBI_EL2_VAA, 0x23),
    (q.OP_TLBI_S12_VMALL, 0x28), (q.OP_TLBI_S2_IPA, 0x2A), (q.OP_TLBI_NSNH_ALL, 0x30),
    (q.OP_ATC_INV, 0x40), (q.OP_PRI_RESP, 0x41), (q.OP_RESUME, 0x44), (q.OP_STALL_TERM, 0x45),
    (q.OP_SYNC, 0x46),
    (q.F_UUT, 0x01), (q.C_BAD_STREAMID, 0x02), (q.F_STE_FETCH, 0x03), (q.C_BAD_STE, 0x04),
    (q.F_BAD_ATS_TREQ, 0x05), (q.F_STREAM_DISABLED, 0x06), (q.F_TRANSL_FORBIDDEN, 0x07),
    (q.C_BAD_SUBSTREAMID, 0x08), (q.F_CD_FETCH, 0x09), (q.C_BAD_CD, 0x0A), (q.F_WALK_EABT, 0x0B),
    (q.F_TRANSLATION, 0x10), (q.F_ADDR_SIZE, 0x11), (q.F_ACCESS, 0x12), (q.F_PERMISSION, 0x13),
    (q.F_TLB_CONFLICT, 0x20), (q.F_CFG_CONFLICT, 0x21), (q.E_PAGE_REQUEST, 0x24), (q.F_VMS_FETCH, 0x25),
    (s.CERROR_NONE, 0), (s.CERROR_ILL, 1), (s.CERROR_ABT, 2), (s.CERROR_ATC_INV_SYNC, 3),
    (s.STE_BYTES, 64), (s.CD_BYTES, 64), (s.L1STD_BYTES, 8), (s.L1CD_BYTES, 8), (q.COMMAND_BYTES, 16),
    (q.EVENT_BYTES, 32), (s.CONFIG_ABORT, 0b000), (s.CONFIG_BYPASS, 0b100), (s.CONFIG_STAGE1, 0b101),
    (s.CONFIG_STAGE2, 0b110), (s.CONFIG_NESTED, 0b111), (s.S1DSS_TERMINATE, 0b00), (s.S1DSS_BYPASS, 0b01),
    (s.S1DSS_SUBSTREAM0, 0b10), (s.TG0_4K, 0b00), (s.TG1_4K, 0b10), (q.CLASS_CD, 0b00),
    (q.CLASS_TTD, 0b01), (q.CLASS_IN, 0b10), (q.SYNC_NONE, 0b00), (q.SYNC_IRQ, 0b01), (q.SYNC_SEV, 0b10),
    (q.CFGI_RANGE_ALL, 31), (q.ATC_SIZE_ALL, 52), (s.ADDRESS_SIZES, (32, 36, 40, 42, 44, 48)),
    (s.SPLITS, (6, 8, 10)), (q.TLBI_GRANULE_SHIFTS, {1: 12, 2: 14, 3: 16}),
    (s.S2SL0_LEVELS, {0: 2, 1: 1, 2: 0}), (s.S1FMT_LEAF_BITS, {1: 6, 2: 10}),
    (s.TTF_AARCH64, 0b10), (s.TTENDIAN_LITTLE, 0b10), (s.STALL_MODEL_BOTH, 0b00),
    (s.STALL_MODEL_TERMINATE, 0b01), (s.ST_LEVEL_TWO, 0b01), (s.AIDR_V3_1, 1), (s.FMT_LINEAR, 0b00),
    (s.FMT_TWO_LEVEL, 0b01), (s.QUEUE_BASE_ALIGN_BYTES, 32), (s.L1STD_SPAN_MAX, 11), (s.STE_S2TTB_SHIFT, 4),
    (s.CONFIG_PASSES, 0b100), (s.CONFIG_HAS_STAGE2, 0b010), (s.CONFIG_HAS_STAGE1, 0b001),
    (s.S1FMT_LINEAR, 0b00), (s.S1FMT_4K_LEAF, 0b01), (s.S1FMT_64K_LEAF, 0b10), (s.EATS_NONE, 0b00),
    (s.EATS_FULL, 0b01), (s.EATS_SPLIT, 0b10), (s.T0SZ_MIN, 16), (s.T0SZ_MAX, 39), (s.CD_TTB_SHIFT, 4),
    (q.TLBI_ADDRESS_SHIFT, 12), (q.RESUME_ACTION_RETRY, 1), (q.EVENT_IPA_SHIFT, 12),
    (q.EVENT_FETCH_ADDRESS_SHIFT, 3),
]  # fmt: skip
OF_OTHERS = {"CR0_IMPLEMENTED", "GERROR_BITS", "EVENT_NAMES", "SMMU"}
"""Made of what is in the tables."""


def test_registers_are_where_the_standard_has_them() -> None:
    declared = {reg.name: (reg.offset, reg.size) for reg in s.SMMU.registers}

    assert declared == {name: (at, 8 if name in WIDE else 4) for name, at in OFFSETS.items()}


@pytest.mark.parametrize(("field", "lsb", "width"), FIELDS)
def test_field_is_where_the_standard_has_it(field: Bits, lsb: int, width: int) -> None:
    assert (field.lsb, field.width) == (lsb, width)


@pytest.mark.parametrize(("constant", "number"), CODES)
def test_code_is_what_the_standard_says(constant: object, number: object) -> None:
    assert constant == number


def test_nothing_is_declared_without_a_number_of_its_own() -> None:
    text = Path(__file__).read_text()
    declared = [(f"{short}.{name}", name) for short, m in (("s", s), ("q", q)) for name in vars(m)]
    missing = [
        full
        for full, name in declared
        if re.fullmatch("[A-Z][A-Z0-9_]+", name)
        and name not in OF_OTHERS
        and not re.search(rf"\({re.escape(full)},", text)
    ]
    assert missing == []


def test_registers_read_as_recorded_from_linux() -> None:
    # CMDQ_BASE and STRTAB_BASE_CFG as Linux 6.1 wrote them: 65536 commands; two levels, split 8, 16 bits
    assert s.BASE_LOG2SIZE.get(0x4000_0000_5B70_0010) == 16
    assert 0x4000_0000_5B70_0010 & s.BASE_ADDR.mask == 0x5B70_0000
    assert s.STRTAB_CFG_FMT.get(0x10210) == s.FMT_TWO_LEVEL
    assert (s.STRTAB_CFG_SPLIT.get(0x10210), s.STRTAB_CFG_LOG2SIZE.get(0x10210)) == (8, 16)
