"""What a driver puts into the command queue of an interrupt translation service, and how commands fail.

Reference: ARM IHI 0069 H.b §5.3. A command is four little-endian doublewords; bit fields are places in the
whole 256-bit image. An error's code is made of the command's opcode and the reason (§5.3: command errors).
Not declared: INVDB and VSGI (GICv4.1).
"""

from typing import Final

from testbed.spec.layout import Bits

COMMAND_BYTES: Final = 32

OP_MOVI: Final = 0x01
OP_INT: Final = 0x03
OP_CLEAR: Final = 0x04
OP_SYNC: Final = 0x05
OP_MAPD: Final = 0x08
OP_MAPC: Final = 0x09
OP_MAPTI: Final = 0x0A
OP_MAPI: Final = 0x0B
OP_INV: Final = 0x0C
OP_INVALL: Final = 0x0D
OP_MOVALL: Final = 0x0E
OP_DISCARD: Final = 0x0F
OP_VMOVI: Final = 0x21
OP_VMOVP: Final = 0x22
OP_VSYNC: Final = 0x25
OP_VMAPP: Final = 0x29
OP_VMAPTI: Final = 0x2A
OP_VMAPI: Final = 0x2B
OP_VINVALL: Final = 0x2D

COMMAND_OPCODE: Final = Bits("opcode", 0, 8)
COMMAND_DEVICE: Final = Bits("DeviceID", 32, 32)
COMMAND_EVENT: Final = Bits("EventID", 64, 32)
COMMAND_ICID: Final = Bits("ICID", 128, 16, "MAPC, MAPTI, MAPI, MOVI, INVALL")
COMMAND_VPE: Final = Bits("vPEID", 96, 16, "of every command with a vPE")
COMMAND_RDBASE: Final = Bits("RDbase", 144, 36, "MAPC, SYNC, MOVALL (from), VMAPP, VMOVP")
COMMAND_V: Final = Bits("V", 191, 1, "MAPD, MAPC, VMAPP")
MAPD_SIZE: Final = Bits("Size", 64, 5, "EventID bits, minus one")
MAPD_ITT: Final = Bits("ITT_addr", 136, 44, "address bits 51 to 8")
MAPTI_PINTID: Final = Bits("pINTID", 96, 32)
MOVALL_TO: Final = Bits("RDbase2", 208, 36)
VMAPP_VPT_SIZE: Final = Bits("VPT_size", 192, 5, "virtual INTID bits, minus one")
VMAPP_VPT: Final = Bits("VPT_addr", 208, 36, "address bits 51 to 16")
VMAPTI_VINTID: Final = Bits("vINTID", 128, 32)
VMAPTI_DOORBELL: Final = Bits("Dbell_pINTID", 160, 32, "VMAPTI, VMAPI, VMOVI")
VMOVI_D: Final = Bits("D", 128, 1, "the doorbell is changed, too")
VMOVP_SEQUENCE: Final = Bits("SequenceNumber", 32, 16, "unused: TYPER.VMOVP is 1")
VMOVP_ITS_LIST: Final = Bits("ITSList", 64, 16, "unused: TYPER.VMOVP is 1")

COMMAND_NAMES: Final = {
    OP_MOVI: "MOVI", OP_INT: "INT", OP_CLEAR: "CLEAR", OP_SYNC: "SYNC", OP_MAPD: "MAPD", OP_MAPC: "MAPC",
    OP_MAPTI: "MAPTI", OP_MAPI: "MAPI", OP_INV: "INV", OP_INVALL: "INVALL", OP_MOVALL: "MOVALL",
    OP_DISCARD: "DISCARD", OP_VMOVI: "VMOVI", OP_VMOVP: "VMOVP", OP_VSYNC: "VSYNC", OP_VMAPP: "VMAPP",
    OP_VMAPTI: "VMAPTI", OP_VMAPI: "VMAPI", OP_VINVALL: "VINVALL",
}  # fmt: skip

# --- Command errors ---------------------------------------------------------------------------------------

ERROR_CLASS: Final = 0x01_0000
DEVICE_OOR: Final = 0x01
ITTSIZE_OOR: Final = 0x02
PROCNUM_OOR: Final = 0x02
COLLECTION_OOR: Final = 0x03
UNMAPPED_DEVICE: Final = 0x04
ID_OOR: Final = 0x05
PHYSICALID_OOR: Final = 0x06
UNMAPPED_INTERRUPT: Final = 0x07
UNMAPPED_COLLECTION: Final = 0x09
VCPU_OOR: Final = 0x11
VIRTUALID_OOR: Final = 0x13
VCPU_INVALID: Final = 0x14
ID_IS_PHYSICAL: Final = 0x15
ITEVCPU_INVALID: Final = 0x16
CMDVCPU_INVALID: Final = 0x17

ERROR_REASONS: Final = {
    "DEVICE_OOR": DEVICE_OOR, "ITTSIZE_OOR": ITTSIZE_OOR, "PROCNUM_OOR": PROCNUM_OOR,
    "COLLECTION_OOR": COLLECTION_OOR, "UNMAPPED_DEVICE": UNMAPPED_DEVICE, "ID_OOR": ID_OOR,
    "PHYSICALID_OOR": PHYSICALID_OOR, "UNMAPPED_INTERRUPT": UNMAPPED_INTERRUPT,
    "UNMAPPED_COLLECTION": UNMAPPED_COLLECTION, "VCPU_OOR": VCPU_OOR, "VIRTUALID_OOR": VIRTUALID_OOR,
    "VCPU_INVALID": VCPU_INVALID, "ID_IS_PHYSICAL": ID_IS_PHYSICAL, "ITEVCPU_INVALID": ITEVCPU_INVALID,
    "CMDVCPU_INVALID": CMDVCPU_INVALID,
}  # fmt: skip
"""The standard's names of the reasons, without the command's name in front."""
_ODD: Final = {(OP_CLEAR, UNMAPPED_INTERRUPT): 0x010507, (OP_MOVALL, PROCNUM_OOR): 0x010E01}
"""Codes that do not follow the rule."""


def error_code(opcode: int, reason: int) -> int:
    """Return the code of a command error, as MAPD_DEVICE_OOR is 0x010801."""
    return _ODD.get((opcode, reason), ERROR_CLASS | opcode << 8 | reason)
