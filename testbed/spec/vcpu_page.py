"""The page of shared memory that stands for a virtual CPU's hardware, shared by vCPU and hypervisor.

Reference: our own record for what the architecture leaves to the implementation; the exit syndrome it
carries is ESR_EL2 of the Arm Architecture Reference Manual (DDI 0487, D17.2.37, ISS for a Data Abort) or, for
port I/O, Intel's exit qualification; the interrupt part follows GICv3 (IHI 0069). A bell is one cache line:
the word that the ringing side counts up and the flag with which the other side asks for a message.
"""

from typing import Final

from testbed.spec.gic import LIST_REGISTERS, SystemRegister
from testbed.spec.layout import Bits, Field, Record
from testbed.spec.lpi import VLPI_WORDS

BELL: Final = Record(
    "bell", 64, "design: doorbells",
    Field("rung", 0, 8, "counted up by the producer"),
    Field("armed", 8, 4, "set by the consumer before it sleeps, cleared by the producer that sends"),
    Field("sent", 16, 8, "messages sent, counted by the producer"),
)  # fmt: skip

DOORBELL_MATCH: Final = Record(
    "doorbell_match", 16, "design: QueueNotify is a doorbell",
    Field("gpa", 0, 8, "a store to this address rings the hypervisor's bell and needs no answer"),
    Field("valid", 8, 4),
)  # fmt: skip
DOORBELL_MATCHES: Final = 16
PINTID_WORDS: Final = 16
RUN_OUT: Final = 0
"""Not running guest code: waits for an interrupt, or was not started; the hypervisor may claim it."""
RUN_IN: Final = 1
"""Running: the list registers are the vCPU's, but while one of its exits waits for its answer."""
RUN_CLAIMED: Final = 2
"""The hypervisor has the list registers of a vCPU that waits."""

VCPU_PAGE: Final = Record(
    "vcpu_page", 4096, "design: one page a vCPU",
    Field("to_vmm_rung", 0, 8), Field("to_vmm_armed", 8, 4), Field("to_vmm_sent", 16, 8),
    Field("to_vcpu_rung", 64, 8), Field("to_vcpu_armed", 72, 4), Field("to_vcpu_sent", 80, 8),
    Field("exit_request", 128, 4, "number of the exit that the vCPU asks to be handled"),
    Field("exit_reason", 132, 4, "EXIT_EXCEPTION or EXIT_IO_INSTRUCTION"),
    Field("exit_esr", 136, 8, "ESR_EL2; of an I/O instruction its exit qualification"),
    Field("exit_gpa", 144, 8, "faulting intermediate physical address"),
    Field("exit_data", 152, 8, "value of a store"),
    Field("exit_x", 160, 8, "X0 to X3 of a call", count=4),
    Field("exit_reply", 192, 4, "number of the last exit handled"),
    Field("exit_result", 200, 8, "value of a load"),
    Field("exit_result_x", 208, 8, "X0 to X3 after a call", count=4),
    Field("doorbells", 512, 8, "doorbell_match records", count=2 * DOORBELL_MATCHES),
    Field("run_state", 768, 4, "RUN_OUT, RUN_IN or RUN_CLAIMED: who may touch the list registers"),
    Field("force_exit", 832, 4, "the hypervisor wants the running vCPU to leave"),
    Field("ich_lr", 896, 8, "ICH_LR<n>_EL2", count=LIST_REGISTERS),
    Field("ich_hcr", 928, 4, "ICH_HCR_EL2"),
    Field("ich_vmcr", 932, 4, "ICH_VMCR_EL2"),
    Field("ich_ap0r", 936, 4, "ICH_AP0R0_EL2: active priorities of group 0"),
    Field("ich_ap1r", 940, 4, "ICH_AP1R0_EL2: active priorities of group 1"),
    Field("ich_misr", 944, 4, "ICH_MISR_EL2: why a maintenance interrupt is asserted"),
    Field("ich_eisr", 948, 4, "ICH_EISR_EL2"),
    Field("ich_elrsr", 952, 4, "ICH_ELRSR_EL2: empty list registers"),
    Field("cntv_cval", 960, 8, "CNTV_CVAL_EL0, in nanoseconds of CLOCK_MONOTONIC"),
    Field("cntv_ctl", 968, 4, "CNTV_CTL_EL0"),
    Field("physical_active", 1024, 8, "ended by deactivation with HW, one bit a pINTID", count=PINTID_WORDS),
    Field("resident", 3840, 4, "0, or one more than the processor that the vPE is scheduled on"),
    Field("vlpi_changed", 3844, 4, "counted up by INV and VINVALL: configurations have changed"),
    Field("vlpi_moves_begun", 3848, 4, "moves of pending virtual LPIs to or from their table"),
    Field("vlpi_moves_done", 3852, 4),
    Field("vlpi_pending", 3904, 8, "pending virtual LPIs while resident, one bit an LPI", count=VLPI_WORDS),
)  # fmt: skip
BELL_TO_VMM: Final = VCPU_PAGE.offset("to_vmm_rung")
BELL_TO_VCPU: Final = VCPU_PAGE.offset("to_vcpu_rung")

EXIT_EXCEPTION: Final = 0
"""An exception taken to EL2: the syndrome is ESR_EL2."""
EXIT_IRQ: Final = 1
"""An interrupt taken to EL2 (a physical one, the hypervisor's, or maintenance), which has no syndrome."""
EXIT_IO_INSTRUCTION: Final = 30
"""Port I/O, which Arm lacks: Intel SDM (325462) volume 3, appendix C, basic exit reason 30; the syndrome is
the exit qualification of table 28-5."""

# ESR_EL2, DDI 0487 D17.2.37
ESR_EC: Final = Bits("EC", 26, 6, "exception class")
ESR_IL: Final = Bits("IL", 25, 1, "32-bit instruction")
ISS_ISV: Final = Bits("ISV", 24, 1, "the syndrome below is valid")
ISS_SAS: Final = Bits("SAS", 22, 2, "access size: 1, 2, 4 or 8 bytes")
ISS_SRT: Final = Bits("SRT", 16, 5, "register")
ISS_WNR: Final = Bits("WnR", 6, 1, "store, not load")
ISS_DFSC: Final = Bits("DFSC", 0, 6, "fault status")
EC_DATA_ABORT_LOWER: Final = 0x24
EC_HVC64: Final = 0x16
EC_SYSTEM_REGISTER: Final = 0x18
DFSC_TRANSLATION_L0: Final = 0x04
"""Translation fault; the level is added."""
ESR_MMIO_MASK: Final = ESR_EC.mask | ISS_ISV.mask
ESR_MMIO: Final = ESR_EC.put(EC_DATA_ABORT_LOWER) | ISS_ISV.mask
"""A load or store whose size, direction and value are known: `ESR_EL2 & ESR_MMIO_MASK`."""
ESR_SAS_SHIFT: Final = ISS_SAS.lsb
ESR_WNR_MASK: Final = ISS_WNR.mask

# ISS of a trapped MSR or MRS, DDI 0487 D17.2.37

ISS_SYS_OP0: Final = Bits("Op0", 20, 2)
ISS_SYS_OP2: Final = Bits("Op2", 17, 3)
ISS_SYS_OP1: Final = Bits("Op1", 14, 3)
ISS_SYS_CRN: Final = Bits("CRn", 10, 4)
ISS_SYS_CRM: Final = Bits("CRm", 1, 4)
ISS_SYS_READ: Final = Bits("Direction", 0, 1, "MRS, not MSR")
ISS_SYS_MASK: Final = (
    ISS_SYS_OP0.mask | ISS_SYS_OP1.mask | ISS_SYS_CRN.mask | ISS_SYS_CRM.mask | ISS_SYS_OP2.mask
)


def system_register_iss(register: SystemRegister) -> int:
    """Return how a syndrome names a system register that is written."""
    op0, op1, crn, crm, op2 = register
    named = ISS_SYS_OP0.put(op0) | ISS_SYS_OP1.put(op1) | ISS_SYS_OP2.put(op2)
    return named | ISS_SYS_CRN.put(crn) | ISS_SYS_CRM.put(crm)


# Exit qualification for I/O instructions, Intel SDM volume 3, table 28-5

IO_SIZE: Final = Bits("SIZE", 0, 3, "bytes less one: 0, 1 or 3")
IO_IN: Final = Bits("IN", 3, 1, "a port is read, not written")
IO_STRING: Final = Bits("STRING", 4, 1)
IO_REP: Final = Bits("REP", 5, 1)
IO_IMMEDIATE: Final = Bits("IMMEDIATE", 6, 1, "the port is an operand, not in DX")
IO_PORT: Final = Bits("PORT", 16, 16)
IO_SIZES_BYTES: Final = (1, 2, 4)
