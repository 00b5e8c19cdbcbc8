"""The interrupt translation service: registers, and the tables that it keeps in software's memory.

Reference: ARM IHI 0069 H.b, §5.2 (tables), §5.2.2 (indirect tables), §12.18 to §12.20 (GITS registers). What
an entry of the device, collection, vPE or interrupt translation table holds is left to the implementation
(§5.2): those layouts are ours. Level-1 entries of an indirect table are architected. Bit fields are places in
an entry's whole little-endian image. Not declared: GICv4.1 (vSGI, VMAPP with a default doorbell), MPAM, PMU.
"""

from typing import Final

from testbed.spec.layout import Access, Bits, Reg, RegisterMap

_RO, _RW = Access.RO, Access.RW

# --- Registers, §12.19 ------------------------------------------------------------------------------------

CTLR_ENABLED: Final = Bits("Enabled", 0)
CTLR_IMDE: Final = Bits("ImDe", 1, 1, "implementation defined: kept, without effect")
CTLR_QUIESCENT: Final = Bits("Quiescent", 31)

TYPER_PHYSICAL: Final = Bits("Physical", 0)
TYPER_VIRTUAL: Final = Bits("Virtual", 1)
TYPER_CCT: Final = Bits("CCT", 2)
TYPER_ITT_ENTRY_SIZE: Final = Bits("ITT_entry_size", 4, 4, "bytes of an ITT entry, minus one")
TYPER_ID_BITS: Final = Bits("ID_bits", 8, 5, "bits of an EventID, minus one")
TYPER_DEVBITS: Final = Bits("Devbits", 13, 5, "bits of a DeviceID, minus one")
TYPER_SEIS: Final = Bits("SEIS", 18)
TYPER_PTA: Final = Bits("PTA", 19, 1, "RDbase is an address, not a processor number")
TYPER_HCC: Final = Bits("HCC", 24, 8, "collections without memory")
TYPER_CIDBITS: Final = Bits("CIDbits", 32, 4, "bits of an ICID, minus one")
TYPER_CIL: Final = Bits("CIL", 36, 1, "CIDbits counts")
TYPER_VMOVP: Final = Bits("VMOVP", 37, 1, "one VMOVP is enough, whatever ITSs there are")

CBASER_SIZE: Final = Bits("Size", 0, 8, "4 KiB pages, minus one")
CBASER_ADDRESS: Final = Bits("Physical_Address", 12, 40)
QUEUE_PAGE_BYTES: Final = 4096
VALID: Final = Bits("Valid", 63)
SHAREABILITY: Final = Bits("Shareability", 10, 2, "kept, without effect")
OUTER_CACHE: Final = Bits("OuterCache", 53, 3, "kept, without effect")
INNER_CACHE: Final = Bits("InnerCache", 59, 3, "kept, without effect")
CWRITER_RETRY: Final = Bits("Retry", 0)
CREADR_STALLED: Final = Bits("Stalled", 0)
QUEUE_OFFSET: Final = Bits("Offset", 5, 15, "bits 19 to 5 of the offset from CBASER")

BASER_SIZE: Final = Bits("Size", 0, 8, "pages, minus one")
BASER_PAGE_SIZE: Final = Bits("Page_Size", 8, 2)
BASER_ADDRESS: Final = Bits("Physical_Address", 12, 36)
BASER_HIGH_ADDRESS: Final = Bits("Physical_Address", 12, 4, "64 KiB pages: address bits 51 to 48")
BASER_HIGH_SHIFT: Final = 48
BASER_ENTRY_SIZE: Final = Bits("Entry_Size", 48, 5, "bytes of an entry, minus one")
BASER_TYPE: Final = Bits("Type", 56, 3)
BASER_INDIRECT: Final = Bits("Indirect", 62)
PAGE_SIZES_BYTES: Final = (4096, 16384, 65536, 65536)
"""§12.19.1: the reserved fourth encoding is treated as the third."""
TYPE_NONE: Final = 0
TYPE_DEVICES: Final = 1
TYPE_VPES: Final = 2
TYPE_COLLECTIONS: Final = 4
BASERS: Final = 8

PIDR2_ARCH_REV: Final = Bits("ArchRev", 4, 4)
ARCH_REV_GICV4: Final = 4

_CBASER: Final = (CBASER_SIZE, SHAREABILITY, CBASER_ADDRESS, OUTER_CACHE, INNER_CACHE, VALID)
_BASER: Final = (
    BASER_SIZE, BASER_PAGE_SIZE, SHAREABILITY, BASER_ADDRESS, OUTER_CACHE, INNER_CACHE, BASER_INDIRECT, VALID,
)  # fmt: skip
ITS_BYTES: Final = 0x2_0000
"""Control frame and translation frame, 64 KiB each (§12.18)."""
ITS: Final = RegisterMap(
    "its", ITS_BYTES,
    Reg("CTLR", 0x0000, _RW, CTLR_QUIESCENT.mask, "§12.19.5", bits=(CTLR_ENABLED, CTLR_IMDE)),
    Reg("IIDR", 0x0004, _RO, ref="§12.19.7"),
    Reg("TYPER", 0x0008, _RO, ref="§12.19.14", size=8),
    Reg("CBASER", 0x0080, _RW, ref="§12.19.2", size=8, bits=_CBASER),
    Reg("CWRITER", 0x0088, _RW, ref="§12.19.6", size=8, bits=(CWRITER_RETRY, QUEUE_OFFSET)),
    Reg("CREADR", 0x0090, _RO, ref="§12.19.4", size=8),
    Reg("BASER", 0x0100, _RW, ref="§12.19.1", size=8, count=BASERS, bits=_BASER),
    Reg("PIDR2", 0xFFE8, _RO, PIDR2_ARCH_REV.put(ARCH_REV_GICV4) | 0xB, "§12.19.10"),
    Reg("TRANSLATER", 0x1_0040, Access.WO, ref="§12.20.1", doc="a device writes its EventID here"),
)  # fmt: skip

# --- Tables, §5.2 -----------------------------------------------------------------------------------------

LEVEL1_ENTRY_BYTES: Final = 8
LEVEL1_VALID: Final = Bits("Valid", 63)
LEVEL1_ADDRESS: Final = Bits("Physical_Address", 12, 40)

DTE_BYTES: Final = 8
DTE_V: Final = Bits("V", 0)
DTE_SIZE: Final = Bits("Size", 1, 5, "EventID bits, minus one")
DTE_ITT: Final = Bits("ITT_addr", 8, 44, "address bits 51 to 8")
ITT_ALIGN_BITS: Final = 8

CTE_BYTES: Final = 8
CTE_V: Final = Bits("V", 0)
CTE_RDBASE: Final = Bits("RDbase", 16, 36)

VTE_BYTES: Final = 16
VTE_V: Final = Bits("V", 0)
VTE_VPT_SIZE: Final = Bits("VPT_size", 1, 5, "virtual INTID bits, minus one")
VTE_VPT: Final = Bits("VPT_addr", 16, 36, "address bits 51 to 16")
VTE_RDBASE: Final = Bits("RDbase", 80, 36)
VPT_ALIGN_BITS: Final = 16

ITE_BYTES: Final = 16
ITE_V: Final = Bits("V", 0)
ITE_VIRTUAL: Final = Bits("virtual", 1)
ITE_INTID: Final = Bits("INTID", 32, 32, "pINTID or vINTID")
ITE_TARGET: Final = Bits("target", 64, 16, "ICID or vPEID")
ITE_DOORBELL: Final = Bits("Dbell_pINTID", 96, 32)
VPE_BITS: Final = 16
"""§5.3: a vPEID has 16 bits."""
