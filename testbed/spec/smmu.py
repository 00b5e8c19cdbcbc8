"""SMMUv3 registers and the structures that software keeps in memory for it: stream table, context
descriptors.

Reference: Arm System Memory Management Unit Architecture Specification, SMMU architecture version 3, ARM
IHI 0070 G.b, chapters 5 (structures) and 6 (registers). Bit fields of a structure are places in its whole
little-endian image. Not declared: the Secure, Realm and Root interfaces, PRI queue, ATOS, MPAM, DPT,
performance monitors, enhanced command queues, attribute fields that our memory has no meaning for.
"""

from typing import Final

from testbed.spec.layout import Access, Bits, Reg, RegisterMap

_RO, _RW = Access.RO, Access.RW

# --- Registers, chapter 6 ---------------------------------------------------------------------------------

IDR0_S2P: Final = Bits("S2P", 0)
IDR0_S1P: Final = Bits("S1P", 1)
IDR0_TTF: Final = Bits("TTF", 2, 2)
IDR0_COHACC: Final = Bits("COHACC", 4)
IDR0_BTM: Final = Bits("BTM", 5)
IDR0_HTTU: Final = Bits("HTTU", 6, 2)
IDR0_HYP: Final = Bits("Hyp", 9)
IDR0_ATS: Final = Bits("ATS", 10)
IDR0_NS1ATS: Final = Bits("NS1ATS", 11, 1, "split-stage ATS is not supported")
IDR0_ASID16: Final = Bits("ASID16", 12)
IDR0_MSI: Final = Bits("MSI", 13)
IDR0_SEV: Final = Bits("SEV", 14)
IDR0_ATOS: Final = Bits("ATOS", 15)
IDR0_PRI: Final = Bits("PRI", 16)
IDR0_VMW: Final = Bits("VMW", 17)
IDR0_VMID16: Final = Bits("VMID16", 18)
IDR0_CD2L: Final = Bits("CD2L", 19)
IDR0_TTENDIAN: Final = Bits("TTENDIAN", 21, 2)
IDR0_STALL_MODEL: Final = Bits("STALL_MODEL", 24, 2)
IDR0_TERM_MODEL: Final = Bits("TERM_MODEL", 26)
IDR0_ST_LEVEL: Final = Bits("ST_LEVEL", 27, 2)
TTF_AARCH64: Final = 0b10
TTENDIAN_LITTLE: Final = 0b10
STALL_MODEL_BOTH: Final = 0b00
STALL_MODEL_TERMINATE: Final = 0b01
ST_LEVEL_TWO: Final = 0b01

IDR1_SIDSIZE: Final = Bits("SIDSIZE", 0, 6)
IDR1_SSIDSIZE: Final = Bits("SSIDSIZE", 6, 5)
IDR1_PRIQS: Final = Bits("PRIQS", 11, 5)
IDR1_EVENTQS: Final = Bits("EVENTQS", 16, 5)
IDR1_CMDQS: Final = Bits("CMDQS", 21, 5)

IDR3_HAD: Final = Bits("HAD", 2)
IDR3_RIL: Final = Bits("RIL", 10)

IDR5_OAS: Final = Bits("OAS", 0, 3)
IDR5_GRAN4K: Final = Bits("GRAN4K", 4)
IDR5_STALL_MAX: Final = Bits("STALL_MAX", 16, 16)
ADDRESS_SIZES: Final = (32, 36, 40, 42, 44, 48)
"""Bits of address that OAS, CD.IPS and STE.S2PS encode; a greater encoding is capped to OAS."""

AIDR_V3_1: Final = 0x01

CR0_SMMUEN: Final = Bits("SMMUEN", 0)
CR0_EVENTQEN: Final = Bits("EVENTQEN", 2)
CR0_CMDQEN: Final = Bits("CMDQEN", 3)
CR0_ATSCHK: Final = Bits("ATSCHK", 4)
CR0_IMPLEMENTED: Final = (CR0_SMMUEN, CR0_EVENTQEN, CR0_CMDQEN, CR0_ATSCHK)
CR2_RECINVSID: Final = Bits("RECINVSID", 1, 1, "record C_BAD_STREAMID")
CR2_PTM: Final = Bits("PTM", 2)
CR2_REC_CFG_ATS: Final = Bits("REC_CFG_ATS", 3, 1, "record configuration errors of ATS requests")
GBPA_SHCFG: Final = Bits("SHCFG", 12, 2)
GBPA_ABORT: Final = Bits("ABORT", 20)
GBPA_UPDATE: Final = Bits("UPDATE", 31)
IRQ_CTRL_GERROR: Final = Bits("GERROR_IRQEN", 0)
IRQ_CTRL_EVENTQ: Final = Bits("EVENTQ_IRQEN", 2)
GERROR_CMDQ: Final = Bits("CMDQ_ERR", 0)
GERROR_EVENTQ_ABT: Final = Bits("EVENTQ_ABT_ERR", 2)
GERROR_BITS: Final = (GERROR_CMDQ, GERROR_EVENTQ_ABT)

BASE_LOG2SIZE: Final = Bits("LOG2SIZE", 0, 5)
BASE_ADDR: Final = Bits("ADDR", 5, 51)
BASE_HINT: Final = Bits("RA_WA", 62)
STRTAB_ADDR: Final = Bits("ADDR", 6, 50)
STRTAB_CFG_LOG2SIZE: Final = Bits("LOG2SIZE", 0, 6)
STRTAB_CFG_SPLIT: Final = Bits("SPLIT", 6, 5)
STRTAB_CFG_FMT: Final = Bits("FMT", 16, 2)
FMT_LINEAR: Final = 0
FMT_TWO_LEVEL: Final = 1
SPLITS: Final = (6, 8, 10)
"""§6.3.25: any other SPLIT behaves as the first."""
INDEX: Final = Bits("index", 0, 20, "a queue's index with its wrap flag above it")
CMDQ_CONS_ERR: Final = Bits("ERR", 24, 7)
OVERFLOW: Final = Bits("OVFLG_OVACKFLG", 31, 1, "EVENTQ_PROD.OVFLG, EVENTQ_CONS.OVACKFLG")
QUEUE_BASE_ALIGN_BYTES: Final = 32

CERROR_NONE: Final = 0
CERROR_ILL: Final = 1
CERROR_ABT: Final = 2
CERROR_ATC_INV_SYNC: Final = 3

_QUEUE_BASE: Final = (BASE_LOG2SIZE, BASE_ADDR, BASE_HINT)
SMMU: Final = RegisterMap(
    "smmuv3", 0x20000,
    Reg("IDR0", 0x000, _RO, ref="§6.3.1"),
    Reg("IDR1", 0x004, _RO, ref="§6.3.2"),
    Reg("IDR2", 0x008, _RO, ref="§6.3.3"),
    Reg("IDR3", 0x00C, _RO, ref="§6.3.4"),
    Reg("IDR4", 0x010, _RO, ref="§6.3.5"),
    Reg("IDR5", 0x014, _RO, ref="§6.3.6"),
    Reg("IIDR", 0x018, _RO, ref="§6.3.7"),
    Reg("AIDR", 0x01C, _RO, ref="§6.3.8"),
    Reg("CR0", 0x020, _RW, ref="§6.3.9", bits=CR0_IMPLEMENTED),
    Reg("CR0ACK", 0x024, _RO, ref="§6.3.10"),
    Reg("CR1", 0x028, _RW, ref="§6.3.11", doc="attributes of table and queue accesses: kept, without effect",
        bits=(Bits("attributes", 0, 12),)),
    Reg("CR2", 0x02C, _RW, ref="§6.3.12", bits=(CR2_RECINVSID, CR2_PTM, CR2_REC_CFG_ATS)),
    Reg("STATUSR", 0x040, _RO, ref="§6.3.13"),
    Reg("GBPA", 0x044, _RW, GBPA_ABORT.mask | GBPA_SHCFG.put(1), "§6.3.14", bits=(GBPA_SHCFG, GBPA_ABORT)),
    Reg("IRQ_CTRL", 0x050, _RW, ref="§6.3.16", bits=(IRQ_CTRL_GERROR, IRQ_CTRL_EVENTQ)),
    Reg("IRQ_CTRLACK", 0x054, _RO, ref="§6.3.18"),
    Reg("GERROR", 0x060, _RO, ref="§6.3.19"),
    Reg("GERRORN", 0x064, _RW, ref="§6.3.20", bits=GERROR_BITS),
    Reg("GERROR_IRQ_CFG0", 0x068, Access.RSV, ref="§6.3.21", doc="RES0: IDR0.MSI is 0", size=8),
    Reg("GERROR_IRQ_CFG1", 0x070, Access.RSV, ref="§6.3.22"),
    Reg("GERROR_IRQ_CFG2", 0x074, Access.RSV, ref="§6.3.23"),
    Reg("STRTAB_BASE", 0x080, _RW, ref="§6.3.24", size=8, bits=(STRTAB_ADDR, BASE_HINT)),
    Reg("STRTAB_BASE_CFG", 0x088, _RW, ref="§6.3.25",
        bits=(STRTAB_CFG_LOG2SIZE, STRTAB_CFG_SPLIT, STRTAB_CFG_FMT)),
    Reg("CMDQ_BASE", 0x090, _RW, ref="§6.3.26", size=8, bits=_QUEUE_BASE),
    Reg("CMDQ_PROD", 0x098, _RW, ref="§6.3.27", bits=(INDEX,)),
    Reg("CMDQ_CONS", 0x09C, _RW, ref="§6.3.28", bits=(INDEX, CMDQ_CONS_ERR)),
    Reg("EVENTQ_BASE", 0x0A0, _RW, ref="§6.3.29", size=8, bits=_QUEUE_BASE),
    Reg("EVENTQ_PROD_ALIAS", 0x0A8, Access.RSV, ref="§6.2", doc="no alias of page 1: RAZ/WI"),
    Reg("EVENTQ_CONS_ALIAS", 0x0AC, Access.RSV, ref="§6.2"),
    Reg("EVENTQ_IRQ_CFG0", 0x0B0, Access.RSV, ref="§6.3.30", size=8),
    Reg("EVENTQ_IRQ_CFG1", 0x0B8, Access.RSV, ref="§6.3.31"),
    Reg("EVENTQ_IRQ_CFG2", 0x0BC, Access.RSV, ref="§6.3.32"),
    Reg("EVENTQ_PROD", 0x100A8, _RW, ref="§6.3.52", bits=(INDEX, OVERFLOW)),
    Reg("EVENTQ_CONS", 0x100AC, _RW, ref="§6.3.53", bits=(INDEX, OVERFLOW)),
)  # fmt: skip

# --- Level 1 stream table descriptor, §5.1 ----------------------------------------------------------------

L1STD_BYTES: Final = 8
L1STD_SPAN: Final = Bits("Span", 0, 5, "level 2 holds 2 to the power of Span - 1 entries; 0: invalid")
L1STD_L2PTR: Final = Bits("L2Ptr", 6, 50)
L1STD_SPAN_MAX: Final = 11

# --- Stream table entry, §5.2 -----------------------------------------------------------------------------

STE_BYTES: Final = 64
STE_V: Final = Bits("V", 0)
STE_CONFIG: Final = Bits("Config", 1, 3)
STE_S1FMT: Final = Bits("S1Fmt", 4, 2)
STE_S1CONTEXTPTR: Final = Bits("S1ContextPtr", 6, 50)
STE_S1CDMAX: Final = Bits("S1CDMax", 59, 5)
STE_S1DSS: Final = Bits("S1DSS", 64, 2)
STE_S1STALLD: Final = Bits("S1STALLD", 91)
STE_EATS: Final = Bits("EATS", 92, 2)
STE_STRW: Final = Bits("STRW", 94, 2)
STE_S2VMID: Final = Bits("S2VMID", 128, 16)
STE_S2T0SZ: Final = Bits("S2T0SZ", 160, 6)
STE_S2SL0: Final = Bits("S2SL0", 166, 2)
STE_S2TG: Final = Bits("S2TG", 174, 2)
STE_S2PS: Final = Bits("S2PS", 176, 3)
STE_S2AA64: Final = Bits("S2AA64", 179)
STE_S2ENDI: Final = Bits("S2ENDI", 180)
STE_S2AFFD: Final = Bits("S2AFFD", 181)
STE_S2PTW: Final = Bits("S2PTW", 182)
STE_S2HD: Final = Bits("S2HD", 183)
STE_S2HA: Final = Bits("S2HA", 184)
STE_S2S: Final = Bits("S2S", 185)
STE_S2R: Final = Bits("S2R", 186)
STE_S2TTB: Final = Bits("S2TTB", 196, 48, "address bits 51 to 4")
STE_S2TTB_SHIFT: Final = 4

CONFIG_ABORT: Final = 0b000
CONFIG_BYPASS: Final = 0b100
CONFIG_STAGE1: Final = 0b101
CONFIG_STAGE2: Final = 0b110
CONFIG_NESTED: Final = 0b111
CONFIG_PASSES: Final = 0b100
CONFIG_HAS_STAGE2: Final = 0b010
CONFIG_HAS_STAGE1: Final = 0b001
S1FMT_LINEAR: Final = 0b00
S1FMT_4K_LEAF: Final = 0b01
S1FMT_64K_LEAF: Final = 0b10
S1FMT_LEAF_BITS: Final = {S1FMT_4K_LEAF: 6, S1FMT_64K_LEAF: 10}
"""SubstreamID bits that index the leaf table of a two-level CD table."""
S1DSS_TERMINATE: Final = 0b00
S1DSS_BYPASS: Final = 0b01
S1DSS_SUBSTREAM0: Final = 0b10
EATS_NONE: Final = 0b00
EATS_FULL: Final = 0b01
EATS_SPLIT: Final = 0b10
TG0_4K: Final = 0b00
TG1_4K: Final = 0b10
S2SL0_LEVELS: Final = {0b00: 2, 0b01: 1, 0b10: 0}
"""First level of a stage-2 walk with 4 KiB granule (VTCR_EL2.SL0)."""
T0SZ_MIN: Final = 16
T0SZ_MAX: Final = 39

# --- Level 1 context descriptor, §5.3 ---------------------------------------------------------------------

L1CD_BYTES: Final = 8
L1CD_V: Final = Bits("V", 0)
L1CD_L2PTR: Final = Bits("L2Ptr", 12, 44)

# --- Context descriptor, §5.4 -----------------------------------------------------------------------------

CD_BYTES: Final = 64
CD_T0SZ: Final = Bits("T0SZ", 0, 6)
CD_TG0: Final = Bits("TG0", 6, 2)
CD_EPD0: Final = Bits("EPD0", 14)
CD_ENDI: Final = Bits("ENDI", 15)
CD_T1SZ: Final = Bits("T1SZ", 16, 6)
CD_TG1: Final = Bits("TG1", 22, 2)
CD_EPD1: Final = Bits("EPD1", 30)
CD_V: Final = Bits("V", 31)
CD_IPS: Final = Bits("IPS", 32, 3)
CD_AFFD: Final = Bits("AFFD", 35)
CD_TBI0: Final = Bits("TBI0", 38)
CD_TBI1: Final = Bits("TBI1", 39)
CD_AA64: Final = Bits("AA64", 41)
CD_HD: Final = Bits("HD", 42)
CD_HA: Final = Bits("HA", 43)
CD_S: Final = Bits("S", 44)
CD_R: Final = Bits("R", 45)
CD_A: Final = Bits("A", 46)
CD_ASET: Final = Bits("ASET", 47)
CD_ASID: Final = Bits("ASID", 48, 16)
CD_HAD0: Final = Bits("HAD0", 65)
CD_TTB0: Final = Bits("TTB0", 68, 48, "address bits 51 to 4")
CD_HAD1: Final = Bits("HAD1", 129)
CD_TTB1: Final = Bits("TTB1", 132, 48, "address bits 51 to 4")
CD_TTB_SHIFT: Final = 4
CD_MAIR: Final = Bits("MAIR", 192, 64)
