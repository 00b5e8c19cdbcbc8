"""What SMMUv3 and its driver exchange through queues: commands and event records.

Reference: ARM IHI 0070 G.b, chapters 4 (commands) and 7 (events). Bit fields are places in the whole
little-endian image of an entry. Not declared: commands of the Secure, Realm and EL2 or EL3 interfaces
beyond their opcodes, PRI, DPT.
"""

from typing import Final

from testbed.spec.layout import Bits

# --- Commands, chapter 4 ----------------------------------------------------------------------------------

COMMAND_BYTES: Final = 16
OP_PREFETCH_CONFIG: Final = 0x01
OP_PREFETCH_ADDR: Final = 0x02
OP_CFGI_STE: Final = 0x03
OP_CFGI_STE_RANGE: Final = 0x04
OP_CFGI_CD: Final = 0x05
OP_CFGI_CD_ALL: Final = 0x06
OP_CFGI_VMS_PIDM: Final = 0x07
OP_TLBI_NH_ALL: Final = 0x10
OP_TLBI_NH_ASID: Final = 0x11
OP_TLBI_NH_VA: Final = 0x12
OP_TLBI_NH_VAA: Final = 0x13
OP_TLBI_EL3_ALL: Final = 0x18
OP_TLBI_EL3_VA: Final = 0x1A
OP_TLBI_EL2_ALL: Final = 0x20
OP_TLBI_EL2_ASID: Final = 0x21
OP_TLBI_EL2_VA: Final = 0x22
OP_TLBI_EL2_VAA: Final = 0x23
OP_TLBI_S12_VMALL: Final = 0x28
OP_TLBI_S2_IPA: Final = 0x2A
OP_TLBI_NSNH_ALL: Final = 0x30
OP_ATC_INV: Final = 0x40
OP_PRI_RESP: Final = 0x41
OP_RESUME: Final = 0x44
OP_STALL_TERM: Final = 0x45
OP_SYNC: Final = 0x46

COMMAND_OPCODE: Final = Bits("opcode", 0, 8)
COMMAND_SSEC: Final = Bits("SSec", 10)
COMMAND_SSV: Final = Bits("SSV", 11)
COMMAND_SUBSTREAM: Final = Bits("SubstreamID", 12, 20)
COMMAND_STREAM: Final = Bits("StreamID", 32, 32)
CFGI_LEAF: Final = Bits("Leaf", 64)
CFGI_RANGE: Final = Bits("Range", 64, 5)
CFGI_RANGE_ALL: Final = 31
TLBI_NUM: Final = Bits("NUM", 12, 5)
TLBI_SCALE: Final = Bits("SCALE", 20, 6)
TLBI_VMID: Final = Bits("VMID", 32, 16)
TLBI_ASID: Final = Bits("ASID", 48, 16)
TLBI_LEAF: Final = Bits("Leaf", 64)
TLBI_TTL: Final = Bits("TTL", 72, 2)
TLBI_TG: Final = Bits("TG", 74, 2)
TLBI_ADDRESS: Final = Bits("Address", 76, 52)
TLBI_IPA: Final = Bits("IPA", 76, 40)
TLBI_ADDRESS_SHIFT: Final = 12
TLBI_GRANULE_SHIFTS: Final = {0b01: 12, 0b10: 14, 0b11: 16}
ATC_GLOBAL: Final = Bits("Global", 9)
ATC_SIZE: Final = Bits("Size", 64, 6)
ATC_ADDRESS: Final = Bits("Address", 76, 52)
ATC_SIZE_ALL: Final = 52
RESUME_ABORT: Final = Bits("Ab", 12)
RESUME_ACTION: Final = Bits("Ac", 13)
RESUME_STAG: Final = Bits("STAG", 64, 16)
RESUME_ACTION_RETRY: Final = 1
SYNC_CS: Final = Bits("CS", 12, 2)
SYNC_NONE: Final = 0b00
SYNC_IRQ: Final = 0b01
SYNC_SEV: Final = 0b10

# --- Event records, §7.3 ----------------------------------------------------------------------------------

EVENT_BYTES: Final = 32
F_UUT: Final = 0x01
C_BAD_STREAMID: Final = 0x02
F_STE_FETCH: Final = 0x03
C_BAD_STE: Final = 0x04
F_BAD_ATS_TREQ: Final = 0x05
F_STREAM_DISABLED: Final = 0x06
F_TRANSL_FORBIDDEN: Final = 0x07
C_BAD_SUBSTREAMID: Final = 0x08
F_CD_FETCH: Final = 0x09
C_BAD_CD: Final = 0x0A
F_WALK_EABT: Final = 0x0B
F_TRANSLATION: Final = 0x10
F_ADDR_SIZE: Final = 0x11
F_ACCESS: Final = 0x12
F_PERMISSION: Final = 0x13
F_TLB_CONFLICT: Final = 0x20
F_CFG_CONFLICT: Final = 0x21
E_PAGE_REQUEST: Final = 0x24
F_VMS_FETCH: Final = 0x25

EVENT_NAMES: Final = {
    F_UUT: "F_UUT",
    C_BAD_STREAMID: "C_BAD_STREAMID",
    F_STE_FETCH: "F_STE_FETCH",
    C_BAD_STE: "C_BAD_STE",
    F_BAD_ATS_TREQ: "F_BAD_ATS_TREQ",
    F_STREAM_DISABLED: "F_STREAM_DISABLED",
    F_TRANSL_FORBIDDEN: "F_TRANSL_FORBIDDEN",
    C_BAD_SUBSTREAMID: "C_BAD_SUBSTREAMID",
    F_CD_FETCH: "F_CD_FETCH",
    C_BAD_CD: "C_BAD_CD",
    F_WALK_EABT: "F_WALK_EABT",
    F_TRANSLATION: "F_TRANSLATION",
    F_ADDR_SIZE: "F_ADDR_SIZE",
    F_ACCESS: "F_ACCESS",
    F_PERMISSION: "F_PERMISSION",
    F_TLB_CONFLICT: "F_TLB_CONFLICT",
    F_CFG_CONFLICT: "F_CFG_CONFLICT",
    E_PAGE_REQUEST: "E_PAGE_REQUEST",
    F_VMS_FETCH: "F_VMS_FETCH",
}

EVENT_CODE: Final = Bits("code", 0, 8)
EVENT_SSV: Final = Bits("SSV", 11)
EVENT_SUBSTREAM: Final = Bits("SubstreamID", 12, 20)
EVENT_STREAM: Final = Bits("StreamID", 32, 32)
EVENT_STAG: Final = Bits("STAG", 64, 16)
EVENT_REASON: Final = Bits("Reason", 64, 16, "implementation defined; F_*_FETCH and F_WALK_EABT")
EVENT_SPAN: Final = Bits("Span", 64, 4, "F_BAD_ATS_TREQ: units of STU asked for")
EVENT_ATS_PRIVILEGED: Final = Bits("P", 91)
EVENT_ATS_EXECUTE: Final = Bits("X", 92)
EVENT_ATS_WRITE: Final = Bits("W", 93)
EVENT_ATS_READ: Final = Bits("R", 94)
EVENT_STALL: Final = Bits("Stall", 95)
EVENT_PNU: Final = Bits("PnU", 97, 1, "privileged, not unprivileged")
EVENT_IND: Final = Bits("InD", 98, 1, "instruction, not data")
EVENT_RNW: Final = Bits("RnW", 99, 1, "read, not write")
EVENT_S2: Final = Bits("S2", 103, 1, "stage 2, not stage 1")
EVENT_CLASS: Final = Bits("CLASS", 104, 2)
EVENT_TTRNW: Final = Bits("TTRnW", 108, 1, "F_PERMISSION of class TTD: the table access was a read")
EVENT_INPUT_ADDRESS: Final = Bits("InputAddr", 128, 64)
EVENT_IPA: Final = Bits("IPA", 204, 44, "address bits 55 to 12")
EVENT_IPA_SHIFT: Final = 12
EVENT_FETCH_ADDRESS: Final = Bits("FetchAddr", 195, 53, "address bits 55 to 3")
EVENT_FETCH_ADDRESS_SHIFT: Final = 3
CLASS_CD: Final = 0b00
CLASS_TTD: Final = 0b01
CLASS_IN: Final = 0b10
