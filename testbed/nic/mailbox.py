"""The mailboxes between the physical function's driver and those of the virtual functions.

Reference: 82576 datasheet (320961, revision 2.63) §7.10.2.9, §8.14 (PFMAILBOX, VMBMEM, MBVFICR, MBVFIMR,
VFLRE), §8.26 (VFMAILBOX). Sixteen words for each virtual function, which both sides can write; VFU and PFU
say who uses them, and the one is not given while the other is held. STS and REQ tell the other side that
there is a message, ACK that it was read. Not modelled: interrupts of the mailbox other than by MSI-X.
"""

from dataclasses import dataclass
from typing import Final

from testbed.memory.register_file import RegisterFile
from testbed.nic.interrupt import MAILBOX, Interrupts
from testbed.spec import igb, igb_mailbox, igb_vf
from testbed.spec.igb import mask

_STS, _PF_ACK = mask("PFMAILBOX", "STS"), mask("PFMAILBOX", "ACK")
_VFU, _PFU, _RVFU = (mask("PFMAILBOX", name) for name in ("VFU", "PFU", "RVFU"))
_REQ, _VF_ACK = igb_vf.mask("VFMAILBOX", "REQ"), igb_vf.mask("VFMAILBOX", "ACK")
_PFSTS, _PFACK = igb_vf.mask("VFMAILBOX", "PFSTS"), igb_vf.mask("VFMAILBOX", "PFACK")
_RSTI, _RSTD = igb_vf.mask("VFMAILBOX", "RSTI"), igb_vf.mask("VFMAILBOX", "RSTD")
_READ_CLEARS: Final = _PFSTS | _PFACK | _RSTD
_VFREQ: Final = igb.field("MBVFICR", "VFREQ")
_VFACK: Final = igb.field("MBVFICR", "VFACK")


@dataclass(slots=True)
class _Box:
    held_by_vf: bool = False
    held_by_pf: bool = False
    flags: int = 0
    """PFSTS, PFACK, RSTI and RSTD as the VF reads them."""


class Mailboxes:
    """All mailboxes: the PF's registers, and what the windows of virtual functions call."""

    def __init__(self, registers: RegisterFile, interrupts: Interrupts) -> None:
        self._registers, self._interrupts = registers, interrupts
        self._boxes = [_Box() for _ in range(igb.VFS_MAX)]
        self.requests = [0] * igb.VFS_MAX
        """Messages that each virtual function has sent."""
        registers.on_read_each("PFMAILBOX", self._read_pf)
        registers.on_write_each("PFMAILBOX", self._write_pf)
        registers.on_write("MBVFIMR", lambda _value: self._tell_pf())

    # a virtual function's side

    def read(self, vf: int) -> int:
        """Return VFMAILBOX; PFSTS, PFACK and RSTD are cleared by it."""
        box = self._boxes[vf]
        value = box.flags | (_VFU if box.held_by_vf else 0) | (_PFU if box.held_by_pf else 0)
        box.flags &= ~_READ_CLEARS
        return value

    def write(self, vf: int, value: int) -> None:
        """Write VFMAILBOX."""
        box = self._boxes[vf]
        box.held_by_vf = bool(value & _VFU) and not box.held_by_pf
        causes = 0
        if value & _REQ:
            self.requests[vf] += 1
            causes |= _VFREQ.put(1 << vf)
        if value & _VF_ACK:
            causes |= _VFACK.put(1 << vf)
        self._registers["MBVFICR"] |= causes
        if causes:
            self._tell_pf()

    def read_word(self, vf: int, index: int) -> int:
        """Return a word of a mailbox."""
        return self._registers.get("VMBMEM", _word(vf, index))

    def write_word(self, vf: int, index: int, value: int) -> None:
        """Write a word of a mailbox."""
        self._registers.put("VMBMEM", _word(vf, index), value)

    # the device's side

    def vf_reset(self, vf: int) -> None:
        """A virtual function was reset: tell the PF (VFLRE), forget what the function held and asked for.

        What the PF told it stays told, as Linux finds it after a reset.
        """
        self._boxes[vf].held_by_vf = False
        registers = self._registers
        registers["MBVFICR"] &= ~(_VFREQ.put(1 << vf) | _VFACK.put(1 << vf))
        registers["VFLRE"] |= 1 << vf
        self._interrupts.cause(MAILBOX)

    def pf_reset(self) -> None:
        """The PF was reset: every virtual function sees RSTI until the PF's driver is done."""
        self._boxes = [_Box(flags=_RSTI) for _ in range(igb.VFS_MAX)]

    def pf_reset_done(self) -> None:
        """CTRL_EXT.PFRSTD was set: RSTD instead of RSTI, and an interrupt."""
        for vf, box in enumerate(self._boxes):
            box.flags = box.flags & ~_RSTI | _RSTD
            self._interrupts.mailbox(vf)

    # the PF's registers

    def _tell_pf(self) -> None:
        """Raise the mailbox cause where there is a message or an acknowledgement that is not masked."""
        causes = self._registers["MBVFICR"]
        if (_VFREQ.get(causes) | _VFACK.get(causes)) & self._registers["MBVFIMR"]:
            self._interrupts.cause(MAILBOX)

    def _read_pf(self, vf: int) -> int:
        box = self._boxes[vf]
        return (_VFU if box.held_by_vf else 0) | (_PFU if box.held_by_pf else 0)

    def _write_pf(self, vf: int, value: int) -> None:
        box = self._boxes[vf]
        if value & _RVFU:
            box.held_by_vf = False
        box.held_by_pf = bool(value & _PFU) and not box.held_by_vf
        told = (_PFSTS if value & _STS else 0) | (_PFACK if value & _PF_ACK else 0)
        box.flags |= told
        if told:
            self._interrupts.mailbox(vf)


def _word(vf: int, index: int) -> int:
    return igb_mailbox.WORDS * vf + index
