"""GIC: interrupt numbers, the virtual CPU interface and its hypervisor control.

Reference: Arm Generic Interrupt Controller Architecture Specification, GICv3 and GICv4, ARM IHI 0069 H.b:
chapter 2 (INTIDs), 4.8 (priorities), 6 (virtual interrupts), 12.2 to 12.4 (system registers). LPIs are in
testbed/spec/lpi.py, registers of distributor and redistributors in testbed/spec/gic_registers.py. The virtual
CPU interface of this testbed: 4 list registers, 5 priority bits, all of them for preemption. Not declared:
the Secure state, NMIs, extended PPI and SPI ranges, SError generation, what GICv4.1 adds.
"""

from typing import Final, NamedTuple

from testbed.spec.layout import Bits

# --- INTIDs, §2.2 -----------------------------------------------------------------------------------------

SGIS: Final = 16
PPI_FIRST: Final = 16
SPI_FIRST: Final = 32
SPI_END: Final = 1020
SPECIAL_FIRST: Final = 1020
SPURIOUS: Final = 1023
PPI_MAINTENANCE: Final = 25
"""BSA (DEN0094) §3.7: recommended PPI of the GIC maintenance interrupt."""
PPI_VIRTUAL_TIMER: Final = 27
"""BSA (DEN0094) §3.7: recommended PPI of the EL1 virtual timer."""

# --- Priorities, §4.8 -------------------------------------------------------------------------------------

PRIORITY_BITS: Final = 5
PRIORITY_MASK: Final = 0xF8
"""Bits of an 8-bit priority that are implemented; the others read as zero."""
PRIORITY_IDLE: Final = 0xFF
"""Running priority while nothing is active."""
BPR0_MIN: Final = 2
"""7 - PREbits, §12.3: ICV_BPR0_EL1."""
BPR1_MIN: Final = 3

# --- ICH_LR<n>_EL2, §12.4 -----------------------------------------------------------------------------------

LIST_REGISTERS: Final = 4
LR_VINTID: Final = Bits("vINTID", 0, 32)
LR_PINTID: Final = Bits("pINTID", 32, 10, "where HW is 1: what deactivation deactivates")
LR_EOI: Final = Bits("EOI", 41, 1, "where HW is 0: deactivation asserts a maintenance interrupt")
LR_PRIORITY: Final = Bits("Priority", 48, 8)
LR_GROUP: Final = Bits("Group", 60)
LR_HW: Final = Bits("HW", 61)
LR_STATE: Final = Bits("State", 62, 2)
STATE_INVALID: Final = 0b00
STATE_PENDING: Final = 0b01
STATE_ACTIVE: Final = 0b10
STATE_PENDING_ACTIVE: Final = 0b11

# --- ICH_HCR_EL2, §12.4 -------------------------------------------------------------------------------------

HCR_EN: Final = Bits("En", 0)
HCR_UIE: Final = Bits("UIE", 1, 1, "underflow: none or one list register valid")
HCR_LRENPIE: Final = Bits("LRENPIE", 2, 1, "an end of interrupt found no list register")
HCR_NPIE: Final = Bits("NPIE", 3, 1, "no list register pending")
HCR_VGRP0EIE: Final = Bits("VGrp0EIE", 4)
HCR_VGRP0DIE: Final = Bits("VGrp0DIE", 5)
HCR_VGRP1EIE: Final = Bits("VGrp1EIE", 6)
HCR_VGRP1DIE: Final = Bits("VGrp1DIE", 7)
HCR_TC: Final = Bits("TC", 10)
HCR_TALL0: Final = Bits("TALL0", 11)
HCR_TALL1: Final = Bits("TALL1", 12)
HCR_TSEI: Final = Bits("TSEI", 13)
HCR_TDIR: Final = Bits("TDIR", 14, 1, "a write of ICC_DIR_EL1 traps")
HCR_EOICOUNT: Final = Bits("EOIcount", 27, 5)

# --- ICH_MISR_EL2, §12.4 (of EISR and ELRSR bit n is list register n) --------------------

MISR_EOI: Final = Bits("EOI", 0)
MISR_U: Final = Bits("U", 1)
MISR_LRENP: Final = Bits("LRENP", 2)
MISR_NP: Final = Bits("NP", 3)
MISR_VGRP0E: Final = Bits("VGrp0E", 4)
MISR_VGRP0D: Final = Bits("VGrp0D", 5)
MISR_VGRP1E: Final = Bits("VGrp1E", 6)
MISR_VGRP1D: Final = Bits("VGrp1D", 7)

# --- ICH_VMCR_EL2, §12.4 ------------------------------------------------------------------------------------

VMCR_VENG0: Final = Bits("VENG0", 0)
VMCR_VENG1: Final = Bits("VENG1", 1)
VMCR_VACKCTL: Final = Bits("VAckCtl", 2)
VMCR_VFIQEN: Final = Bits("VFIQEn", 3)
VMCR_VCBPR: Final = Bits("VCBPR", 4)
VMCR_VEOIM: Final = Bits("VEOIM", 9)
VMCR_VBPR1: Final = Bits("VBPR1", 18, 3)
VMCR_VBPR0: Final = Bits("VBPR0", 21, 3)
VMCR_VPMR: Final = Bits("VPMR", 24, 8)

# --- ICH_VTR_EL2, §12.4 ------------------------------------------------------------------------------------

VTR_LISTREGS: Final = Bits("ListRegs", 0, 5, "how many, minus one")
VTR_TDS: Final = Bits("TDS", 19)
VTR_NV4: Final = Bits("nV4", 20)
VTR_A3V: Final = Bits("A3V", 21)
VTR_SEIS: Final = Bits("SEIS", 22)
VTR_IDBITS: Final = Bits("IDbits", 23, 3)
VTR_PREBITS: Final = Bits("PREbits", 26, 3)
VTR_PRIBITS: Final = Bits("PRIbits", 29, 3)

# --- ICC_CTLR_EL1 and ICV_CTLR_EL1, §12.2, §12.3 ------------------------------------------------------

CTLR_CBPR: Final = Bits("CBPR", 0, 1, "ICC_BPR0_EL1 serves both groups")
CTLR_EOIMODE: Final = Bits("EOImode", 1, 1, "an end of interrupt drops the priority and does not deactivate")
CTLR_PRIBITS: Final = Bits("PRIbits", 8, 3)
CTLR_IDBITS: Final = Bits("IDbits", 11, 3)
CTLR_SEIS: Final = Bits("SEIS", 14)
CTLR_A3V: Final = Bits("A3V", 15)
CTLR_RSS: Final = Bits("RSS", 18)
CTLR_EXTRANGE: Final = Bits("ExtRange", 19)

# --- ICC_SGI1R_EL1, §12.2 ------------------------------------------------------------------------------

SGI_TARGETLIST: Final = Bits("TargetList", 0, 16)
SGI_AFF1: Final = Bits("Aff1", 16, 8)
SGI_INTID: Final = Bits("INTID", 24, 4)
SGI_AFF2: Final = Bits("Aff2", 32, 8)
SGI_IRM: Final = Bits("IRM", 40, 1, "to every processor but the sender")
SGI_RS: Final = Bits("RS", 44, 4)
SGI_AFF3: Final = Bits("Aff3", 48, 8)

# --- System register encodings, §12.2 to §12.4; the timer: DDI 0487 -------------------------------------


class SystemRegister(NamedTuple):
    """How MSR and MRS name a register."""

    op0: int
    op1: int
    crn: int
    crm: int
    op2: int


ICC_PMR_EL1: Final = SystemRegister(3, 0, 4, 6, 0)
ICC_IAR0_EL1: Final = SystemRegister(3, 0, 12, 8, 0)
ICC_EOIR0_EL1: Final = SystemRegister(3, 0, 12, 8, 1)
ICC_HPPIR0_EL1: Final = SystemRegister(3, 0, 12, 8, 2)
ICC_BPR0_EL1: Final = SystemRegister(3, 0, 12, 8, 3)
ICC_AP0R0_EL1: Final = SystemRegister(3, 0, 12, 8, 4)
ICC_AP1R0_EL1: Final = SystemRegister(3, 0, 12, 9, 0)
ICC_DIR_EL1: Final = SystemRegister(3, 0, 12, 11, 1)
ICC_RPR_EL1: Final = SystemRegister(3, 0, 12, 11, 3)
ICC_SGI1R_EL1: Final = SystemRegister(3, 0, 12, 11, 5)
ICC_ASGI1R_EL1: Final = SystemRegister(3, 0, 12, 11, 6)
ICC_SGI0R_EL1: Final = SystemRegister(3, 0, 12, 11, 7)
ICC_IAR1_EL1: Final = SystemRegister(3, 0, 12, 12, 0)
ICC_EOIR1_EL1: Final = SystemRegister(3, 0, 12, 12, 1)
ICC_HPPIR1_EL1: Final = SystemRegister(3, 0, 12, 12, 2)
ICC_BPR1_EL1: Final = SystemRegister(3, 0, 12, 12, 3)
ICC_CTLR_EL1: Final = SystemRegister(3, 0, 12, 12, 4)
ICC_SRE_EL1: Final = SystemRegister(3, 0, 12, 12, 5)
ICC_IGRPEN0_EL1: Final = SystemRegister(3, 0, 12, 12, 6)
ICC_IGRPEN1_EL1: Final = SystemRegister(3, 0, 12, 12, 7)
ICH_AP0R0_EL2: Final = SystemRegister(3, 4, 12, 8, 0)
ICH_AP1R0_EL2: Final = SystemRegister(3, 4, 12, 9, 0)
ICH_HCR_EL2: Final = SystemRegister(3, 4, 12, 11, 0)
ICH_VTR_EL2: Final = SystemRegister(3, 4, 12, 11, 1)
ICH_MISR_EL2: Final = SystemRegister(3, 4, 12, 11, 2)
ICH_EISR_EL2: Final = SystemRegister(3, 4, 12, 11, 3)
ICH_ELRSR_EL2: Final = SystemRegister(3, 4, 12, 11, 5)
ICH_VMCR_EL2: Final = SystemRegister(3, 4, 12, 11, 7)
ICH_LR0_EL2: Final = SystemRegister(3, 4, 12, 12, 0)
CNTV_CTL_EL0: Final = SystemRegister(3, 3, 14, 3, 1)
CNTV_CVAL_EL0: Final = SystemRegister(3, 3, 14, 3, 2)

# CNTV_CTL_EL0, DDI 0487 D13.8
CNTV_ENABLE: Final = Bits("ENABLE", 0)
CNTV_IMASK: Final = Bits("IMASK", 1)
CNTV_ISTATUS: Final = Bits("ISTATUS", 2)
