"""The PHY inside the 82576 as far as a driver needs it: registers behind MDIC, and the link.

Reference: 82576 datasheet (320961, revision 2.63) §8.2.4, §8.24. The partner at the other end of the wire
advertises everything, so a link is 1000 Mb/s, full duplex; auto-negotiation takes no time. The link is up
while the wire is plugged in and the PHY is neither powered down nor isolated. Not modelled: pages (all are
one), loopback, cable diagnostics, forced speeds.
"""

from collections.abc import Callable
from typing import Final

from testbed.spec import igb, igb_phy
from testbed.spec.igb_phy import REGISTERS, mask
from testbed.spec.layout import Access

_OP: Final = igb.field("MDIC", "OP")
_PHY: Final = igb.field("MDIC", "PHYADD")
_REG: Final = igb.field("MDIC", "REGADD")
_DATA: Final = igb.field("MDIC", "DATA")
_READY: Final = igb.mask("MDIC", "R")
_ERROR: Final = igb.mask("MDIC", "E")
_KEPT: Final = igb.mask("MDIC", "DATA", "REGADD", "PHYADD", "OP")
_DOWN: Final = mask("PCTRL", "POWER_DOWN", "ISOLATE")
_RESET: Final = mask("PCTRL", "RESET")
_SELF_CLEARING: Final = mask("PCTRL", "RESET", "RESTART_AN")
_LINK: Final = mask("PSTATUS", "LINK", "AN_COMPLETE")
_PCTRL: Final = REGISTERS["PCTRL"].offset


class Phy:
    """The PHY; `changed` is called when the link comes or goes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._plugged = False
        self._values = self._initial()

    @property
    def link_up(self) -> bool:
        """There is a link to the partner."""
        return self._plugged and not self._values[_PCTRL] & _DOWN

    def plug(self, plugged: bool) -> None:
        """Plug the wire in or pull it out."""
        before, self._plugged = self.link_up, plugged
        self._tell(before)

    def reset(self) -> None:
        """Do a hardware reset."""
        before, self._values = self.link_up, self._initial()
        self._tell(before)

    def transact(self, mdic: int) -> int:
        """Do what a write of MDIC asks for; return what MDIC reads afterwards."""
        register, kept = _REG.get(mdic), mdic & _KEPT
        if _PHY.get(mdic) != igb.PHY_ADDRESS:
            return kept | _READY | _ERROR
        if _OP.get(mdic) == igb.MDIC_OP_READ:
            return _DATA.put(self._read(register), kept) | _READY
        if _OP.get(mdic) == igb.MDIC_OP_WRITE:
            self._write(register, _DATA.get(mdic))
            return kept | _READY
        return kept | _READY | _ERROR

    @staticmethod
    def _initial() -> dict[int, int]:
        return {reg.offset: reg.reset for reg in REGISTERS.registers}

    def _read(self, register: int) -> int:
        value = self._values.get(register, 0)
        if not self.link_up:
            return value
        with_link = {
            REGISTERS["PSTATUS"].offset: value | _LINK,
            REGISTERS["LPA"].offset: igb_phy.LINK_PARTNER_ABILITY,
            REGISTERS["GSTATUS"].offset: igb_phy.PARTNER_1000,
            REGISTERS["PSTAT"].offset: igb_phy.PSTAT_1000,
        }
        return with_link.get(register, value)

    def _write(self, register: int, value: int) -> None:
        found = REGISTERS.find(register)
        if found is None or found[0].access is not Access.RW:
            return
        if register == _PCTRL and value & _RESET:
            self.reset()
            return
        before = self.link_up
        self._values[register] = value & ~_SELF_CLEARING if register == _PCTRL else value
        self._tell(before)

    def _tell(self, before: bool) -> None:
        if before != self.link_up:
            self._changed()
