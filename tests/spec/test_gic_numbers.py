"""Numbers of the GIC, typed from ARM IHI 0069 (chapters 2, 4, 6 and 12), not from testbed/spec."""

import pytest

from testbed.spec import gic as g
from testbed.spec import gic_registers as r
from testbed.spec import vcpu_page
from testbed.spec.layout import Access, Bits, RegisterMap

DISTRIBUTOR = {
    "CTLR": 0x0000, "TYPER": 0x0004, "IIDR": 0x0008, "TYPER2": 0x000C, "STATUSR": 0x0010,
    "SETSPI_NSR": 0x0040, "CLRSPI_NSR": 0x0048, "IGROUPR": 0x0080, "ISENABLER": 0x0100, "ICENABLER": 0x0180,
    "ISPENDR": 0x0200, "ICPENDR": 0x0280, "ISACTIVER": 0x0300, "ICACTIVER": 0x0380, "IPRIORITYR": 0x0400,
    "ITARGETSR": 0x0800, "ICFGR": 0x0C00, "IGRPMODR": 0x0D00, "NSACR": 0x0E00, "SGIR": 0x0F00,
    "CPENDSGIR": 0x0F10, "SPENDSGIR": 0x0F20, "IROUTER": 0x6100, "PIDR4": 0xFFD0, "PIDR0": 0xFFE0,
    "PIDR1": 0xFFE4, "PIDR2": 0xFFE8, "PIDR3": 0xFFEC, "CIDR0": 0xFFF0, "CIDR1": 0xFFF4, "CIDR2": 0xFFF8,
    "CIDR3": 0xFFFC,
}  # fmt: skip
REDISTRIBUTOR = {
    "CTLR": 0x0000, "IIDR": 0x0004, "TYPER": 0x0008, "STATUSR": 0x0010, "WAKER": 0x0014, "SETLPIR": 0x0040,
    "CLRLPIR": 0x0048, "PROPBASER": 0x0070, "PENDBASER": 0x0078, "INVLPIR": 0x00A0, "INVALLR": 0x00B0,
    "SYNCR": 0x00C0, "PIDR4": 0xFFD0, "PIDR0": 0xFFE0, "PIDR1": 0xFFE4, "PIDR2": 0xFFE8, "PIDR3": 0xFFEC,
    "CIDR0": 0xFFF0, "CIDR1": 0xFFF4, "CIDR2": 0xFFF8, "CIDR3": 0xFFFC,
}  # fmt: skip
SGI_FRAME = {
    "IGROUPR0": 0x0080, "ISENABLER0": 0x0100, "ICENABLER0": 0x0180, "ISPENDR0": 0x0200, "ICPENDR0": 0x0280,
    "ISACTIVER0": 0x0300, "ICACTIVER0": 0x0380, "IPRIORITYR": 0x0400, "ICFGR0": 0x0C00, "ICFGR1": 0x0C04,
    "IGRPMODR0": 0x0D00, "NSACR": 0x0E00,
}  # fmt: skip
VLPI_FRAME = {"VPROPBASER": 0x0070, "VPENDBASER": 0x0078}
WIDE = {"IROUTER", "TYPER", "SETLPIR", "CLRLPIR", "PROPBASER", "PENDBASER", "INVLPIR", "INVALLR"} | set(
    VLPI_FRAME
)

# (field, least significant bit, width)
FIELDS = [
    (g.LR_VINTID, 0, 32), (g.LR_PINTID, 32, 10), (g.LR_EOI, 41, 1), (g.LR_PRIORITY, 48, 8),
    (g.LR_GROUP, 60, 1), (g.LR_HW, 61, 1), (g.LR_STATE, 62, 2),
    (g.HCR_EN, 0, 1), (g.HCR_UIE, 1, 1), (g.HCR_LRENPIE, 2, 1), (g.HCR_NPIE, 3, 1), (g.HCR_VGRP0EIE, 4, 1),
    (g.HCR_VGRP0DIE, 5, 1), (g.HCR_VGRP1EIE, 6, 1), (g.HCR_VGRP1DIE, 7, 1), (g.HCR_TC, 10, 1),
    (g.HCR_TALL0, 11, 1), (g.HCR_TALL1, 12, 1), (g.HCR_TSEI, 13, 1), (g.HCR_TDIR, 14, 1),
    (g.HCR_EOICOUNT, 27, 5),
    (g.MISR_EOI, 0, 1), (g.MISR_U, 1, 1), (g.MISR_LRENP, 2, 1), (g.MISR_NP, 3, 1), (g.MISR_VGRP0E, 4, 1),
    (g.MISR_VGRP0D, 5, 1), (g.MISR_VGRP1E, 6, 1), (g.MISR_VGRP1D, 7, 1),
    (g.VMCR_VENG0, 0, 1), (g.VMCR_VENG1, 1, 1), (g.VMCR_VACKCTL, 2, 1), (g.VMCR_VFIQEN, 3, 1),
    (g.VMCR_VCBPR, 4, 1), (g.VMCR_VEOIM, 9, 1), (g.VMCR_VBPR1, 18, 3), (g.VMCR_VBPR0, 21, 3),
    (g.VMCR_VPMR, 24, 8),
    (g.VTR_LISTREGS, 0, 5), (g.VTR_TDS, 19, 1), (g.VTR_NV4, 20, 1), (g.VTR_A3V, 21, 1), (g.VTR_SEIS, 22, 1),
    (g.VTR_IDBITS, 23, 3), (g.VTR_PREBITS, 26, 3), (g.VTR_PRIBITS, 29, 3),
    (g.CTLR_CBPR, 0, 1), (g.CTLR_EOIMODE, 1, 1), (g.CTLR_PRIBITS, 8, 3), (g.CTLR_IDBITS, 11, 3),
    (g.CTLR_SEIS, 14, 1), (g.CTLR_A3V, 15, 1), (g.CTLR_RSS, 18, 1), (g.CTLR_EXTRANGE, 19, 1),
    (g.SGI_TARGETLIST, 0, 16), (g.SGI_AFF1, 16, 8), (g.SGI_INTID, 24, 4), (g.SGI_AFF2, 32, 8),
    (g.SGI_IRM, 40, 1), (g.SGI_RS, 44, 4), (g.SGI_AFF3, 48, 8),
    (g.CNTV_ENABLE, 0, 1), (g.CNTV_IMASK, 1, 1), (g.CNTV_ISTATUS, 2, 1),
    (r.PIDR2_ARCHREV, 4, 4), (r.IIDR_IMPLEMENTER, 0, 12), (r.IIDR_REVISION, 12, 4), (r.IIDR_VARIANT, 16, 4),
    (r.IIDR_PRODUCTID, 24, 8),
    (r.GICD_CTLR_ENABLE_GRP0, 0, 1), (r.GICD_CTLR_ENABLE_GRP1, 1, 1), (r.GICD_CTLR_ARE, 4, 1),
    (r.GICD_CTLR_DS, 6, 1), (r.GICD_CTLR_RWP, 31, 1),
    (r.GICD_TYPER_ITLINES, 0, 5), (r.GICD_TYPER_CPUNUMBER, 5, 3), (r.GICD_TYPER_SECURITY, 10, 1),
    (r.GICD_TYPER_NUM_LPIS, 11, 5), (r.GICD_TYPER_MBIS, 16, 1), (r.GICD_TYPER_LPIS, 17, 1),
    (r.GICD_TYPER_DVIS, 18, 1), (r.GICD_TYPER_IDBITS, 19, 5), (r.GICD_TYPER_A3V, 24, 1),
    (r.GICD_TYPER_NO1N, 25, 1), (r.GICD_TYPER_RSS, 26, 1),
    (r.IROUTER_AFF0, 0, 8), (r.IROUTER_AFF1, 8, 8), (r.IROUTER_AFF2, 16, 8), (r.IROUTER_IRM, 31, 1),
    (r.IROUTER_AFF3, 32, 8),
    (r.GICR_CTLR_ENABLE_LPIS, 0, 1), (r.GICR_CTLR_CES, 1, 1), (r.GICR_CTLR_IR, 2, 1), (r.GICR_CTLR_RWP, 3, 1),
    (r.GICR_CTLR_UWP, 31, 1),
    (r.GICR_TYPER_PLPIS, 0, 1), (r.GICR_TYPER_VLPIS, 1, 1), (r.GICR_TYPER_DIRTY, 2, 1),
    (r.GICR_TYPER_DIRECTLPI, 3, 1), (r.GICR_TYPER_LAST, 4, 1), (r.GICR_TYPER_DPGS, 5, 1),
    (r.GICR_TYPER_PROCESSOR, 8, 16), (r.GICR_TYPER_COMMONLPIAFF, 24, 2), (r.GICR_TYPER_AFFINITY, 32, 32),
    (r.GICR_WAKER_PROCESSOR_SLEEP, 1, 1), (r.GICR_WAKER_CHILDREN_ASLEEP, 2, 1),
    (r.PROPBASER_IDBITS, 0, 5), (r.PROPBASER_INNERCACHE, 7, 3), (r.PROPBASER_SHAREABILITY, 10, 2),
    (r.PROPBASER_ADDRESS, 12, 40), (r.PROPBASER_OUTERCACHE, 56, 3),
    (r.PENDBASER_INNERCACHE, 7, 3), (r.PENDBASER_SHAREABILITY, 10, 2), (r.PENDBASER_ADDRESS, 16, 36),
    (r.PENDBASER_OUTERCACHE, 56, 3), (r.PENDBASER_PTZ, 62, 1),
    (r.VPENDBASER_INNERCACHE, 7, 3), (r.VPENDBASER_SHAREABILITY, 10, 2), (r.VPENDBASER_ADDRESS, 16, 36),
    (r.VPENDBASER_OUTERCACHE, 56, 3), (r.VPENDBASER_DIRTY, 60, 1), (r.VPENDBASER_PENDINGLAST, 61, 1),
    (r.VPENDBASER_IDAI, 62, 1), (r.VPENDBASER_VALID, 63, 1), (r.INVLPIR_INTID, 0, 32),
]  # fmt: skip

VALUES = [
    (g.SGIS, 16), (g.PPI_FIRST, 16), (g.SPI_FIRST, 32), (g.SPI_END, 1020), (g.SPECIAL_FIRST, 1020),
    (g.SPURIOUS, 1023), (g.PPI_MAINTENANCE, 25), (g.PPI_VIRTUAL_TIMER, 27),
    (g.PRIORITY_MASK, 0xF8), (g.PRIORITY_IDLE, 0xFF), (g.BPR0_MIN, 2), (g.BPR1_MIN, 3),
    (g.STATE_INVALID, 0), (g.STATE_PENDING, 1), (g.STATE_ACTIVE, 2), (g.STATE_PENDING_ACTIVE, 3),
    (r.ARCHREV_GICV3, 3), (r.ARCHREV_GICV4, 4), (r.GICR_V3_STRIDE_BYTES, 0x20000),
    (r.GICR_V4_STRIDE_BYTES, 0x40000), (r.FRAME_BYTES, 0x10000), (r.ICFGR_EDGE, 2),
    (r.GICR_RD["WAKER"].reset, 6), (r.GICR_SGI["ICFGR0"].reset, 0xAAAAAAAA),
    (r.GICD["PIDR2"].reset >> 4, 3), (r.GICR_RD["PIDR2"].reset >> 4, 3),
]  # fmt: skip

# op0, op1, CRn, CRm, op2 as in `S3_0_C12_C12_0`
REGISTERS = [
    (g.ICC_PMR_EL1, "S3_0_C4_C6_0"), (g.ICC_IAR0_EL1, "S3_0_C12_C8_0"), (g.ICC_EOIR0_EL1, "S3_0_C12_C8_1"),
    (g.ICC_HPPIR0_EL1, "S3_0_C12_C8_2"), (g.ICC_BPR0_EL1, "S3_0_C12_C8_3"),
    (g.ICC_AP0R0_EL1, "S3_0_C12_C8_4"), (g.ICC_AP1R0_EL1, "S3_0_C12_C9_0"),
    (g.ICC_DIR_EL1, "S3_0_C12_C11_1"), (g.ICC_RPR_EL1, "S3_0_C12_C11_3"),
    (g.ICC_SGI1R_EL1, "S3_0_C12_C11_5"), (g.ICC_ASGI1R_EL1, "S3_0_C12_C11_6"),
    (g.ICC_SGI0R_EL1, "S3_0_C12_C11_7"), (g.ICC_IAR1_EL1, "S3_0_C12_C12_0"),
    (g.ICC_EOIR1_EL1, "S3_0_C12_C12_1"), (g.ICC_HPPIR1_EL1, "S3_0_C12_C12_2"),
    (g.ICC_BPR1_EL1, "S3_0_C12_C12_3"), (g.ICC_CTLR_EL1, "S3_0_C12_C12_4"), (g.ICC_SRE_EL1, "S3_0_C12_C12_5"),
    (g.ICC_IGRPEN0_EL1, "S3_0_C12_C12_6"), (g.ICC_IGRPEN1_EL1, "S3_0_C12_C12_7"),
    (g.ICH_AP0R0_EL2, "S3_4_C12_C8_0"), (g.ICH_AP1R0_EL2, "S3_4_C12_C9_0"), (g.ICH_HCR_EL2, "S3_4_C12_C11_0"),
    (g.ICH_VTR_EL2, "S3_4_C12_C11_1"), (g.ICH_MISR_EL2, "S3_4_C12_C11_2"), (g.ICH_EISR_EL2, "S3_4_C12_C11_3"),
    (g.ICH_ELRSR_EL2, "S3_4_C12_C11_5"), (g.ICH_VMCR_EL2, "S3_4_C12_C11_7"),
    (g.ICH_LR0_EL2, "S3_4_C12_C12_0"), (g.CNTV_CTL_EL0, "S3_3_C14_C3_1"), (g.CNTV_CVAL_EL0, "S3_3_C14_C3_2"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("registers", "offsets"),
    [
        (r.GICD, DISTRIBUTOR),
        (r.GICR_RD, REDISTRIBUTOR),
        (r.GICR_SGI, SGI_FRAME),
        (r.GICR_VLPI, VLPI_FRAME),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_register_lies_where_the_standard_says(registers: RegisterMap, offsets: dict[str, int]) -> None:
    declared = {register.name: register for register in registers.registers}
    assert {name: declared[name].offset for name in offsets} == offsets
    assert set(declared) == set(offsets)
    for name, register in declared.items():
        is_wide = name in WIDE and (registers is not r.GICD or name == "IROUTER")
        assert register.size == (8 if is_wide else 4), name


@pytest.mark.parametrize(
    ("name", "index", "offset"),
    [
        ("ISENABLER", 31, 0x017C), ("IPRIORITYR", 254, 0x07F8), ("ICFGR", 63, 0x0CFC), ("NSACR", 63, 0x0EFC),
        ("IROUTER", 987, 0x7FD8),
    ],
)  # fmt: skip
def test_register_family_ends_where_the_standard_says(name: str, index: int, offset: int) -> None:
    assert r.GICD[name].at(index) == offset
    assert r.GICD[name].count == index + 1


@pytest.mark.parametrize(("field", "lsb", "width"), FIELDS, ids=lambda value: getattr(value, "name", ""))
def test_field_has_the_standard_s_bits(field: Bits, lsb: int, width: int) -> None:
    assert (field.lsb, field.width) == (lsb, width)


def test_every_field_is_typed_twice() -> None:
    declared = {v for m in (g, r) for name, v in vars(m).items() if isinstance(v, Bits) and name.isupper()}
    assert declared == {field for field, _, _ in FIELDS}


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_number_is_the_standard_s(value: int, expected: int) -> None:
    assert value == expected


@pytest.mark.parametrize(("register", "name"), REGISTERS, ids=[name for _, name in REGISTERS])
def test_system_register_has_the_standard_s_encoding(register: g.SystemRegister, name: str) -> None:
    assert f"S{register.op0}_{register.op1}_C{register.crn}_C{register.crm}_{register.op2}" == name


def test_registers_that_clear_and_set_say_so() -> None:
    clears = {name for name in DISTRIBUTOR if r.GICD[name].access is Access.W1C}
    sets = {name for name in DISTRIBUTOR if r.GICD[name].access is Access.W1S}
    assert clears == {"ICENABLER", "ICPENDR", "ICACTIVER"}
    assert sets == {"ISENABLER", "ISPENDR", "ISACTIVER"}


@pytest.mark.parametrize(
    ("member", "offset", "size"),
    [
        ("run_state", 768, 4), ("force_exit", 832, 4), ("ich_lr", 896, 8), ("ich_hcr", 928, 4),
        ("ich_vmcr", 932, 4), ("ich_ap0r", 936, 4), ("ich_ap1r", 940, 4), ("ich_misr", 944, 4),
        ("ich_eisr", 948, 4), ("ich_elrsr", 952, 4), ("cntv_cval", 960, 8), ("cntv_ctl", 968, 4),
        ("physical_active", 1024, 8),
    ],
)  # fmt: skip
def test_page_has_the_interface_where_both_sides_look(member: str, offset: int, size: int) -> None:
    assert vcpu_page.VCPU_PAGE.offset(member) == offset
    assert {f.name: f.size for f in vcpu_page.VCPU_PAGE.fields}[member] == size
