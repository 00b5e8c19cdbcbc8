"""GIC: registers of the distributor and the redistributors.

Reference: ARM IHI 0069 H.b, chapter 12.8 to 12.11; affinity routing enabled, one Security state
(GICD_CTLR.DS = 1), so registers that are reserved then are declared as such. A redistributor has three or
four frames of 64 KiB: RD_base, SGI_base and, in GICv4, VLPI_base and a reserved one. Not declared: message
based SPIs, extended ranges, what GICv4.1 adds, registers of an implementation's own.
"""

from typing import Final

from testbed.spec.layout import Access, Bits, Reg, RegisterMap

_RO, _RW, _WO, _RSV, _W1S, _W1C = Access.RO, Access.RW, Access.WO, Access.RSV, Access.W1S, Access.W1C

FRAME_BYTES: Final = 0x1_0000
GICD_BYTES: Final = FRAME_BYTES
GICR_V3_STRIDE_BYTES: Final = 2 * FRAME_BYTES
GICR_V4_STRIDE_BYTES: Final = 4 * FRAME_BYTES
RD_FRAME: Final = 0
SGI_FRAME: Final = 1
VLPI_FRAME: Final = 2

# --- Identification, §12.8 --------------------------------------------------------------------------------

PIDR2_ARCHREV: Final = Bits("ArchRev", 4, 4)
ARCHREV_GICV3: Final = 3
ARCHREV_GICV4: Final = 4
IIDR_IMPLEMENTER: Final = Bits("Implementer", 0, 12)
IIDR_REVISION: Final = Bits("Revision", 12, 4)
IIDR_VARIANT: Final = Bits("Variant", 16, 4)
IIDR_PRODUCTID: Final = Bits("ProductID", 24, 8)

# --- Distributor, §12.9 -----------------------------------------------------------------------------------

GICD_CTLR_ENABLE_GRP0: Final = Bits("EnableGrp0", 0)
GICD_CTLR_ENABLE_GRP1: Final = Bits("EnableGrp1", 1)
GICD_CTLR_ARE: Final = Bits("ARE", 4)
GICD_CTLR_DS: Final = Bits("DS", 6)
GICD_CTLR_RWP: Final = Bits("RWP", 31)

GICD_TYPER_ITLINES: Final = Bits("ITLinesNumber", 0, 5, "32 * (N + 1) INTIDs")
GICD_TYPER_CPUNUMBER: Final = Bits("CPUNumber", 5, 3)
GICD_TYPER_SECURITY: Final = Bits("SecurityExtn", 10)
GICD_TYPER_NUM_LPIS: Final = Bits("num_LPIs", 11, 5, "2 ** (N + 1) LPIs; 0: as IDbits says")
GICD_TYPER_MBIS: Final = Bits("MBIS", 16)
GICD_TYPER_LPIS: Final = Bits("LPIS", 17)
GICD_TYPER_DVIS: Final = Bits("DVIS", 18)
GICD_TYPER_IDBITS: Final = Bits("IDbits", 19, 5, "INTID bits, minus one")
GICD_TYPER_A3V: Final = Bits("A3V", 24)
GICD_TYPER_NO1N: Final = Bits("No1N", 25)
GICD_TYPER_RSS: Final = Bits("RSS", 26)

IROUTER_AFF0: Final = Bits("Aff0", 0, 8)
IROUTER_AFF1: Final = Bits("Aff1", 8, 8)
IROUTER_AFF2: Final = Bits("Aff2", 16, 8)
IROUTER_IRM: Final = Bits("Interrupt_Routing_Mode", 31, 1, "to any participating processor")
IROUTER_AFF3: Final = Bits("Aff3", 32, 8)

IRQS_PER_BIT_REGISTER: Final = 32
IRQS_PER_PRIORITY_REGISTER: Final = 4
IRQS_PER_CONFIG_REGISTER: Final = 16
ICFGR_EDGE: Final = 0b10
"""Int_config<n>[1]: 1 is edge-triggered, 0 level-sensitive; bit 0 is reserved."""

GICD: Final = RegisterMap(
    "GICD", GICD_BYTES,
    Reg("CTLR", 0x0000, _RW, 0, "§12.9", bits=(
        GICD_CTLR_ENABLE_GRP0, GICD_CTLR_ENABLE_GRP1, GICD_CTLR_ARE, GICD_CTLR_DS, GICD_CTLR_RWP)),
    Reg("TYPER", 0x0004, _RO, 0, "§12.9"),
    Reg("IIDR", 0x0008, _RO, 0, "§12.9"),
    Reg("TYPER2", 0x000C, _RO, 0, "§12.9"),
    Reg("STATUSR", 0x0010, _RSV, 0, "§12.9"),
    Reg("SETSPI_NSR", 0x0040, _WO, 0, "§12.9"),
    Reg("CLRSPI_NSR", 0x0048, _WO, 0, "§12.9"),
    Reg("IGROUPR", 0x0080, _RW, 0, "§12.9", "group 1", count=32),
    Reg("ISENABLER", 0x0100, _W1S, 0, "§12.9", count=32),
    Reg("ICENABLER", 0x0180, _W1C, 0, "§12.9", count=32),
    Reg("ISPENDR", 0x0200, _W1S, 0, "§12.9", count=32),
    Reg("ICPENDR", 0x0280, _W1C, 0, "§12.9", count=32),
    Reg("ISACTIVER", 0x0300, _W1S, 0, "§12.9", count=32),
    Reg("ICACTIVER", 0x0380, _W1C, 0, "§12.9", count=32),
    Reg("IPRIORITYR", 0x0400, _RW, 0, "§12.9", "one byte an INTID", count=255),
    Reg("ITARGETSR", 0x0800, _RSV, 0, "§12.9", "reserved with affinity routing", count=255),
    Reg("ICFGR", 0x0C00, _RW, 0, "§12.9", "two bits an INTID", count=64),
    Reg("IGRPMODR", 0x0D00, _RSV, 0, "§12.9", "reserved with one Security state", count=32),
    Reg("NSACR", 0x0E00, _RSV, 0, "§12.9", count=64),
    Reg("SGIR", 0x0F00, _RSV, 0, "§12.9", "reserved with affinity routing"),
    Reg("CPENDSGIR", 0x0F10, _RSV, 0, "§12.9", count=4),
    Reg("SPENDSGIR", 0x0F20, _RSV, 0, "§12.9", count=4),
    Reg("IROUTER", 0x6100, _RW, 0, "§12.9", "of SPIs 32 to 1019", size=8, count=988),
    Reg("PIDR4", 0xFFD0, _RO, 0x44, "§12.8"),
    Reg("PIDR0", 0xFFE0, _RO, 0x92, "§12.8"),
    Reg("PIDR1", 0xFFE4, _RO, 0xB4, "§12.8"),
    Reg("PIDR2", 0xFFE8, _RO, 0x3B, "§12.9"),
    Reg("PIDR3", 0xFFEC, _RO, 0, "§12.8"),
    Reg("CIDR0", 0xFFF0, _RO, 0x0D, "§12.8"),
    Reg("CIDR1", 0xFFF4, _RO, 0xF0, "§12.8"),
    Reg("CIDR2", 0xFFF8, _RO, 0x05, "§12.8"),
    Reg("CIDR3", 0xFFFC, _RO, 0xB1, "§12.8"),
)  # fmt: skip

# --- Redistributor: RD_base frame, §12.11 -----------------------------------------------------------------

GICR_CTLR_ENABLE_LPIS: Final = Bits("EnableLPIs", 0)
GICR_CTLR_CES: Final = Bits("CES", 1, 1, "EnableLPIs can be cleared again")
GICR_CTLR_IR: Final = Bits("IR", 2, 1, "INVLPIR and INVALLR are there")
GICR_CTLR_RWP: Final = Bits("RWP", 3)
GICR_CTLR_UWP: Final = Bits("UWP", 31)

GICR_TYPER_PLPIS: Final = Bits("PLPIS", 0)
GICR_TYPER_VLPIS: Final = Bits("VLPIS", 1)
GICR_TYPER_DIRTY: Final = Bits("Dirty", 2)
GICR_TYPER_DIRECTLPI: Final = Bits("DirectLPI", 3)
GICR_TYPER_LAST: Final = Bits("Last", 4)
GICR_TYPER_DPGS: Final = Bits("DPGS", 5)
GICR_TYPER_PROCESSOR: Final = Bits("Processor_Number", 8, 16)
GICR_TYPER_COMMONLPIAFF: Final = Bits("CommonLPIAff", 24, 2)
GICR_TYPER_AFFINITY: Final = Bits("Affinity_Value", 32, 32, "Aff3.Aff2.Aff1.Aff0")

GICR_WAKER_PROCESSOR_SLEEP: Final = Bits("ProcessorSleep", 1)
GICR_WAKER_CHILDREN_ASLEEP: Final = Bits("ChildrenAsleep", 2)

# GICR_PROPBASER §12.11 and GICR_VPROPBASER §12.11 (GICv4.0)
PROPBASER_IDBITS: Final = Bits("IDbits", 0, 5, "INTID bits, minus one")
PROPBASER_INNERCACHE: Final = Bits("InnerCache", 7, 3)
PROPBASER_SHAREABILITY: Final = Bits("Shareability", 10, 2)
PROPBASER_ADDRESS: Final = Bits("Physical_Address", 12, 40, "address bits 51 to 12")
PROPBASER_OUTERCACHE: Final = Bits("OuterCache", 56, 3)
# GICR_PENDBASER, §12.11
PENDBASER_INNERCACHE: Final = Bits("InnerCache", 7, 3)
PENDBASER_SHAREABILITY: Final = Bits("Shareability", 10, 2)
PENDBASER_ADDRESS: Final = Bits("Physical_Address", 16, 36, "address bits 51 to 16")
PENDBASER_OUTERCACHE: Final = Bits("OuterCache", 56, 3)
PENDBASER_PTZ: Final = Bits("PTZ", 62, 1, "pending table is zero")
# GICR_VPENDBASER, §12.11 (GICv4.0)
VPENDBASER_INNERCACHE: Final = Bits("InnerCache", 7, 3)
VPENDBASER_SHAREABILITY: Final = Bits("Shareability", 10, 2)
VPENDBASER_ADDRESS: Final = Bits("Physical_Address", 16, 36, "address bits 51 to 16")
VPENDBASER_OUTERCACHE: Final = Bits("OuterCache", 56, 3)
VPENDBASER_DIRTY: Final = Bits("Dirty", 60)
VPENDBASER_PENDINGLAST: Final = Bits("PendingLast", 61, 1, "something is pending for a vPE made non-resident")
VPENDBASER_IDAI: Final = Bits("IDAI", 62, 1, "the table's implementation area is not valid")
VPENDBASER_VALID: Final = Bits("Valid", 63, 1, "a vPE is resident")

INVLPIR_INTID: Final = Bits("INTID", 0, 32)

_CTLR_BITS = (GICR_CTLR_ENABLE_LPIS, GICR_CTLR_CES, GICR_CTLR_IR, GICR_CTLR_RWP, GICR_CTLR_UWP)
_PROPBASER_BITS = (
    PROPBASER_IDBITS, PROPBASER_INNERCACHE, PROPBASER_SHAREABILITY, PROPBASER_ADDRESS, PROPBASER_OUTERCACHE,
)  # fmt: skip
_PENDBASER_BITS = (
    PENDBASER_INNERCACHE, PENDBASER_SHAREABILITY, PENDBASER_ADDRESS, PENDBASER_OUTERCACHE, PENDBASER_PTZ,
)  # fmt: skip

GICR_RD: Final = RegisterMap(
    "GICR_RD", FRAME_BYTES,
    Reg("CTLR", 0x0000, _RW, 0, "§12.11", bits=_CTLR_BITS),
    Reg("IIDR", 0x0004, _RO, 0, "§12.11"),
    Reg("TYPER", 0x0008, _RO, 0, "§12.11", size=8),
    Reg("STATUSR", 0x0010, _RSV, 0, "§12.11"),
    Reg("WAKER", 0x0014, _RW, 0x6, "§12.11", bits=(
        GICR_WAKER_PROCESSOR_SLEEP, GICR_WAKER_CHILDREN_ASLEEP)),
    Reg("SETLPIR", 0x0040, _WO, 0, "§12.11", size=8),
    Reg("CLRLPIR", 0x0048, _WO, 0, "§12.11", size=8),
    Reg("PROPBASER", 0x0070, _RW, 0, "§12.11", size=8, bits=_PROPBASER_BITS),
    Reg("PENDBASER", 0x0078, _RW, 0, "§12.11", size=8, bits=_PENDBASER_BITS),
    Reg("INVLPIR", 0x00A0, _WO, 0, "§12.11", size=8),
    Reg("INVALLR", 0x00B0, _WO, 0, "§12.11", size=8),
    Reg("SYNCR", 0x00C0, _RO, 0, "§12.11"),
    Reg("PIDR4", 0xFFD0, _RO, 0x44, "§12.8"),
    Reg("PIDR0", 0xFFE0, _RO, 0x93, "§12.8"),
    Reg("PIDR1", 0xFFE4, _RO, 0xB4, "§12.8"),
    Reg("PIDR2", 0xFFE8, _RO, 0x3B, "§12.11"),
    Reg("PIDR3", 0xFFEC, _RO, 0, "§12.8"),
    Reg("CIDR0", 0xFFF0, _RO, 0x0D, "§12.8"),
    Reg("CIDR1", 0xFFF4, _RO, 0xF0, "§12.8"),
    Reg("CIDR2", 0xFFF8, _RO, 0x05, "§12.8"),
    Reg("CIDR3", 0xFFFC, _RO, 0xB1, "§12.8"),
)  # fmt: skip

# --- Redistributor: SGI_base frame, §12.11 ----------------------------------------------------------------

GICR_SGI: Final = RegisterMap(
    "GICR_SGI", FRAME_BYTES,
    Reg("IGROUPR0", 0x0080, _RW, 0, "§12.11"),
    Reg("ISENABLER0", 0x0100, _W1S, 0, "§12.11"),
    Reg("ICENABLER0", 0x0180, _W1C, 0, "§12.11"),
    Reg("ISPENDR0", 0x0200, _W1S, 0, "§12.11"),
    Reg("ICPENDR0", 0x0280, _W1C, 0, "§12.11"),
    Reg("ISACTIVER0", 0x0300, _W1S, 0, "§12.11"),
    Reg("ICACTIVER0", 0x0380, _W1C, 0, "§12.11"),
    Reg("IPRIORITYR", 0x0400, _RW, 0, "§12.11", "one byte an INTID", count=8),
    Reg("ICFGR0", 0x0C00, _RO, 0xAAAA_AAAA, "§12.11", "SGIs are edge-triggered"),
    Reg("ICFGR1", 0x0C04, _RW, 0, "§12.11", "of the PPIs"),
    Reg("IGRPMODR0", 0x0D00, _RSV, 0, "§12.11"),
    Reg("NSACR", 0x0E00, _RSV, 0, "§12.11"),
)  # fmt: skip

# --- Redistributor: VLPI_base frame, §12.11 (GICv4.0) -----------------------------------------------------

GICR_VLPI: Final = RegisterMap(
    "GICR_VLPI", FRAME_BYTES,
    Reg("VPROPBASER", 0x0070, _RW, 0, "§12.11", size=8, bits=_PROPBASER_BITS),
    Reg("VPENDBASER", 0x0078, _RW, 0, "§12.11", size=8, bits=(
        VPENDBASER_INNERCACHE, VPENDBASER_SHAREABILITY, VPENDBASER_ADDRESS, VPENDBASER_OUTERCACHE,
        VPENDBASER_DIRTY, VPENDBASER_PENDINGLAST, VPENDBASER_IDAI, VPENDBASER_VALID)),
)  # fmt: skip
