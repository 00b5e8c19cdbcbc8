"""What a virtual function of the 82576 sees: the registers of its BAR 0, and which of the device's they are.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63), §8.26, and §7.10.2.1
for queues, §7.3.3 for vectors. Registers named as those of the physical function are the same registers of
another queue; the others have their own names. The mailbox's bits are in spec/igb_mailbox.py.
"""

from typing import Final

from testbed.spec import igb
from testbed.spec.igb_statistics import VF_ROWS
from testbed.spec.layout import Access, Reg, RegisterMap, bit_fields

RO, RW, WO, RC = Access.RO, Access.RW, Access.WO, Access.RC
BAR_BYTES: Final = 0x4000
MSIX_BAR_BYTES: Final = 0x4000


def _reg(
    name: str, offset: int, access: Access, doc: str, reset: int = 0, bits: str = "", count: int = 1
) -> Reg:
    return Reg(name, offset, access, reset, "82576 §8.26", doc, count=count, bits=bit_fields(bits))


_VECTORS: Final = "VECTOR 0:3"
_EITR: Final = igb.REGISTERS["EITR"]


def _queue_registers() -> tuple[Reg, ...]:
    rows = []
    for names, alias, block in (
        (igb.RX_QUEUE_REGISTERS, igb.RX_ALIAS, igb.RX_BLOCK),
        (igb.TX_QUEUE_REGISTERS, igb.TX_ALIAS, igb.TX_BLOCK),
    ):
        for name in names:
            reg = igb.REGISTERS[name]
            if reg.count == igb.QUEUES:
                place = alias + reg.offset - block
                rows.append(
                    Reg(name, place, reg.access, reg.reset, "82576 §8.26", reg.doc, count=igb.VF_QUEUES,
                        step=igb.ALIAS_STEP, bits=reg.bits)
                )  # fmt: skip
    return tuple(rows)


QUEUE_REGISTERS: Final = _queue_registers()

REGISTERS: Final = RegisterMap(
    "82576VF", BAR_BYTES,
    _reg("VTCTRL", 0x0000, WO, "Control", 0, "RST 26"),
    _reg("VTSTATUS", 0x0008, RO, "Status: a copy of STATUS"),
    _reg("VTFRTIMER", 0x1048, RO, "Free Running Timer: a copy of FRTIMER"),
    _reg("VMBMEM", 0x0800, RW, "Mailbox memory, shared with the PF", count=16),
    _reg("VFMAILBOX", 0x0C40, RW, "Mailbox, the VF's side", 0,
         "REQ 0, ACK 1, VFU 2, PFU 3, PFSTS 4, PFACK 5, RSTI 6, RSTD 7"),
    _reg("VFPSRTYPE", 0x0F0C, RW, "Packet Split Receive Type"),
    _reg("VTEICS", 0x1520, WO, "Extended Interrupt Cause Set", 0, _VECTORS),
    _reg("VTEIMS", 0x1524, RW, "Extended Interrupt Mask Set/Read", 0, _VECTORS),
    _reg("VTEIMC", 0x1528, WO, "Extended Interrupt Mask Clear", 0, _VECTORS),
    _reg("VTEIAC", 0x152C, RW, "Extended Interrupt Auto Clear", 0, _VECTORS),
    _reg("VTEIAM", 0x1530, RW, "Extended Interrupt Auto Mask", 0, _VECTORS),
    _reg("VTEICR", 0x1580, RC, "Extended Interrupt Cause; a written one clears too", 0, _VECTORS),
    Reg("VTEITR", 0x1680, RW, 0, "82576 §8.26", "Throttle of a vector", count=3, bits=_EITR.bits),
    _reg("VTIVAR", 0x1700, RW, "Interrupt Vector Allocation of the two queues", 0,
         "RX 0:2, RX_VALID 7, TX 8:2, TX_VALID 15, RX1 16:2, RX1_VALID 23, TX1 24:2, TX1_VALID 31"),
    _reg("VTIVAR_MISC", 0x1740, RW, "Interrupt Vector Allocation of the mailbox", 0,
         "MAILBOX 0:2, MAILBOX_VALID 7"),
    *(_reg(name, offset, RO, f"{doc} Count") for name, offset, doc in VF_ROWS),
    *QUEUE_REGISTERS,
)  # fmt: skip


def mask(register: str, *names: str) -> int:
    """Return the bits of these fields, in place."""
    return REGISTERS.mask(register, *names)
