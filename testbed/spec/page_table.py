"""VMSAv8-64 translation table descriptors, 4 KiB granule, 48-bit addresses.

Reference: Arm Architecture Reference Manual DDI 0487, chapter D8: D8.2 (translation process), D8.3
(descriptor formats), D8.4 (permissions), D17.2.37 (fault status codes). Not declared: 16 and 64 KiB
granules, FEAT_LPA2, hardware update of the access flag and dirty state, execute permissions beyond the
bits' places.
"""

from typing import Final

from testbed.spec.layout import Bits

# Geometry, D8.2.7: four levels of 512 descriptors
GRANULE_SHIFT: Final = 12
INDEX_BITS: Final = 9
ENTRIES: Final = 1 << INDEX_BITS
DESCRIPTOR_BYTES: Final = 8
LAST_LEVEL: Final = 3
LEVEL_SHIFTS: Final = (39, 30, 21, 12)
"""Lowest input address bit that a level resolves."""
BLOCK_LEVEL_FIRST: Final = 1
"""A block descriptor is allowed at levels 1 and 2 (D8.3.1: at level 0 only with FEAT_LPA2)."""
INPUT_BITS_MAX: Final = 48
ROOT_ALIGN_BYTES_MIN: Final = 64
"""D8.2.5: a table is aligned to its size, and to 64 bytes where it has fewer than eight descriptors."""
CONCATENATED_TABLES_MAX: Final = 16
"""D8.2.2: stage 2 may concatenate so many tables at its first level."""

# Every descriptor, D8.3.1
VALID: Final = Bits("valid", 0)
TABLE_OR_PAGE: Final = Bits(
    "table_or_page", 1, 1, "1: table (levels 0-2), page (level 3); 0: block, reserved at level 3"
)
NEXT_LEVEL_TABLE: Final = Bits("next_level_table", 12, 36)
OUTPUT_ADDRESS: Final = Bits("output_address", 12, 36, "bits below the level's shift are not part of it")

# Table descriptor of stage 1, D8.3.1.1
PXN_TABLE: Final = Bits("PXNTable", 59)
UXN_TABLE: Final = Bits("UXNTable", 60)
AP_TABLE: Final = Bits("APTable", 61, 2, "bit 0: no unprivileged access below; bit 1: no write below")
NS_TABLE: Final = Bits("NSTable", 63)

# Block and page descriptors of stage 1, D8.3.1.2
ATTR_INDX: Final = Bits("AttrIndx", 2, 3)
NS: Final = Bits("NS", 5)
AP: Final = Bits("AP", 6, 2, "AP[2:1]: bit 0 unprivileged access, bit 1 read-only")
SH: Final = Bits("SH", 8, 2)
AF: Final = Bits("AF", 10)
NG: Final = Bits("nG", 11, 1, "not global: the translation belongs to one ASID")
NT: Final = Bits("nT", 16)
GP: Final = Bits("GP", 50)
DBM: Final = Bits("DBM", 51)
CONTIGUOUS: Final = Bits("Contiguous", 52)
PXN: Final = Bits("PXN", 53)
UXN: Final = Bits("UXN", 54)

# Block and page descriptors of stage 2, D8.3.1.2; SH, AF, nT, DBM and Contiguous as in stage 1
S2_MEM_ATTR: Final = Bits("MemAttr", 2, 4)
S2AP: Final = Bits("S2AP", 6, 2, "bit 0 read, bit 1 write")
S2_FNXS: Final = Bits("FnXS", 11)
S2_XN: Final = Bits("XN", 53, 2)

ATTR_INDX_NORMAL: Final = 0
"""The index that our tables use; what it means is MAIR's to say."""
SH_INNER: Final = 3
S2_MEM_ATTR_NORMAL: Final = 0xF
"""Normal memory, outer and inner write-back (D8.5.5)."""
S2_MEM_ATTR_DEVICE: Final = 0x1
"""Device-nGnRE."""

# Whole masks for native code
VALID_MASK: Final = VALID.mask
TABLE_OR_PAGE_MASK: Final = TABLE_OR_PAGE.mask
ADDRESS_MASK: Final = OUTPUT_ADDRESS.mask
AF_MASK: Final = AF.mask
NG_MASK: Final = NG.mask
AP_UNPRIVILEGED_MASK: Final = 1 << AP.lsb
AP_READ_ONLY_MASK: Final = 2 << AP.lsb
AP_TABLE_NO_UNPRIVILEGED_MASK: Final = 1 << AP_TABLE.lsb
AP_TABLE_READ_ONLY_MASK: Final = 2 << AP_TABLE.lsb
S2AP_READ_MASK: Final = 1 << S2AP.lsb
S2AP_WRITE_MASK: Final = 2 << S2AP.lsb

# What AP and S2AP come to, as one mask that walks return
PERMISSION_READ: Final = 1
PERMISSION_WRITE: Final = 2
PERMISSION_PRIVILEGED_READ: Final = 4
PERMISSION_PRIVILEGED_WRITE: Final = 8

# Fault status codes, D17.2.37 (DFSC); the level is in the two low bits of those whose name ends in L0
DFSC_ADDRESS_SIZE_L0: Final = 0x00
DFSC_TRANSLATION_L0: Final = 0x04
DFSC_ACCESS_FLAG_L0: Final = 0x08
DFSC_PERMISSION_L0: Final = 0x0C
DFSC_EXTERNAL: Final = 0x10
"""External abort, not on a table walk: the output address leads nowhere."""
DFSC_EXTERNAL_WALK_L0: Final = 0x14
DFSC_ALIGNMENT: Final = 0x21

# A native walk returns minus this word for a fault
FAULT_DFSC: Final = Bits("DFSC", 0, 6)
FAULT_STAGE2: Final = Bits("stage2", 6, 1, "the fault is stage 2's")
FAULT_S1PTW: Final = Bits(
    "S1PTW", 7, 1, "met by stage 2 while it translated the address of a stage-1 descriptor"
)
FAULT: Final = Bits("fault", 8, 1, "always set, so that no fault is zero")
FAULT_SPLIT: Final = Bits("split", 9, 1, "mapped, but not as one piece of host memory")
FAULT_MASK: Final = FAULT.mask
FAULT_STAGE2_MASK: Final = FAULT_STAGE2.mask
FAULT_S1PTW_MASK: Final = FAULT_S1PTW.mask
FAULT_SPLIT_MASK: Final = FAULT_SPLIT.mask
