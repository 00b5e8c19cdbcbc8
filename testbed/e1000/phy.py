"""The PHY inside the 82540EM: its registers behind MDIC, auto-negotiation and the state of the link.

Reference: 8254x SDM §13.4.7 (MDIC), §13.4.7.1 (PHY registers), §8.6 (link). The partner at the other end of
the virtual wire advertises everything and 1000BASE-T wins, so a link that comes up is 1000 Mb/s, full duplex.
Auto-negotiation takes `autoneg_ns`; the link is up when it is complete and the wire is plugged in. Forced
speeds, loopback and "force link good" come up at once. Not modelled: cable diagnostics, PHY interrupts, MDI
crossover, next pages, energy detection.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from testbed.spec import e1000
from testbed.spec import e1000_phy as layout
from testbed.spec.e1000_phy import REGISTERS, mask
from testbed.spec.layout import Access

_OP: Final = e1000.field("MDIC", "OP")
_PHY: Final = e1000.field("MDIC", "PHYADD")
_REG: Final = e1000.field("MDIC", "REGADD")
_DATA: Final = e1000.field("MDIC", "DATA")
_READY: Final = e1000.mask("MDIC", "R")
_ERROR: Final = e1000.mask("MDIC", "E")
_INTERRUPT: Final = e1000.mask("MDIC", "I")

_PCTRL: Final = REGISTERS["PCTRL"].offset
_PSTATUS: Final = REGISTERS["PSTATUS"].offset
_LPA: Final = REGISTERS["LPA"].offset
_ANE: Final = REGISTERS["ANE"].offset
_GSTATUS: Final = REGISTERS["GSTATUS"].offset
_PSCON: Final = REGISTERS["PSCON"].offset
_PSSTAT: Final = REGISTERS["PSSTAT"].offset
_RESET: Final = mask("PCTRL", "RESET")
_RESTART: Final = mask("PCTRL", "RESTART_AN")
_POWER_DOWN: Final = mask("PCTRL", "POWER_DOWN")
_AN_ENABLE: Final = mask("PCTRL", "AN_ENABLE")
_LOOPBACK: Final = mask("PCTRL", "LOOPBACK")
_FORCE_LINK: Final = mask("PSCON", "FORCE_LINK")
_LINK: Final = mask("PSTATUS", "LINK")
_AN_COMPLETE: Final = mask("PSTATUS", "AN_COMPLETE")
_PARTNER: Final = mask("ANE", "PARTNER_ABLE", "PAGE_RECEIVED")
_WIDTH_MASK: Final = 0xFFFF


def _initial() -> dict[int, int]:
    return {reg.offset: reg.reset for reg in REGISTERS.registers}


@dataclass(slots=True)
class _State:
    values: dict[int, int] = field(default_factory=_initial)
    negotiated: bool = False
    deadline_ns: int | None = None
    """When auto-negotiation completes."""
    lost: bool = True
    """PSTATUS.LINK latches low: the link was down since the last read."""


class Phy:
    """The PHY. `changed` is called when the link comes up or goes down; times are nanoseconds of `clock`."""

    def __init__(self, clock: Callable[[], int], autoneg_ns: int, changed: Callable[[], None]) -> None:
        self._clock, self._autoneg_ns, self._changed = clock, autoneg_ns, changed
        self._plugged = True
        self._state = _State()
        self._negotiate()
        self._was_up = self.link_up

    # the link

    @property
    def link_up(self) -> bool:
        """Say whether the PHY reports link to the MAC."""
        control = self._state.values[_PCTRL]
        if control & _POWER_DOWN:
            return False
        if control & _LOOPBACK or self._state.values[_PSCON] & _FORCE_LINK:
            return True
        return self._plugged and self._state.negotiated

    @property
    def loopback(self) -> bool:
        """Say whether transmitted frames come back (§15.1.3)."""
        return bool(self._state.values[_PCTRL] & _LOOPBACK)

    def plug(self, plugged: bool) -> None:
        """Plug the wire in or pull it out."""
        if plugged != self._plugged:
            self._plugged = plugged
            self._negotiate()
            self._tell()

    def reset(self) -> None:
        """Do a hardware reset (CTRL.PHY_RST)."""
        self._state = _State()
        self._negotiate()
        self._tell()

    def deadline_ns(self) -> int | None:
        """Return when `on_timer` has something to do, or None."""
        return self._state.deadline_ns

    def on_timer(self, now_ns: int) -> None:
        """Complete auto-negotiation where it is due."""
        deadline_ns = self._state.deadline_ns
        if deadline_ns is not None and now_ns >= deadline_ns:
            self._state.deadline_ns, self._state.negotiated = None, True
            self._tell()

    def _negotiate(self) -> None:
        """Start auto-negotiation, or be done at once where it is off or takes no time."""
        state = self._state
        takes_time = state.values[_PCTRL] & _AN_ENABLE and self._autoneg_ns > 0
        possible = self._plugged and not state.values[_PCTRL] & _POWER_DOWN
        state.negotiated = possible and not takes_time
        state.deadline_ns = self._clock() + self._autoneg_ns if possible and takes_time else None

    def _tell(self) -> None:
        up = self.link_up
        self._state.lost |= not up
        if up != self._was_up:
            self._was_up = up
            self._changed()

    # MDIC

    def transact(self, command: int) -> tuple[int, bool]:
        """Do the transfer that a write of MDIC asks for; return MDIC afterwards and whether to raise
        ICR.MDAC."""
        answer = command & ~(_READY | _ERROR)
        if _PHY.get(command) != e1000.PHY_ADDRESS:
            answer |= _ERROR
        elif _OP.get(command) == e1000.MDIC_OP_READ:
            answer = _DATA.put(self.read(_REG.get(command)), answer)
        elif _OP.get(command) == e1000.MDIC_OP_WRITE:
            self.write(_REG.get(command), _DATA.get(command))
        else:
            answer |= _ERROR
        return answer | _READY, bool(command & _INTERRUPT)

    def read(self, number: int) -> int:
        """Return a PHY register; one that does not exist reads as zero."""
        if number == _PSTATUS:
            return self._read_status()
        return self._peek(number)

    def write(self, number: int, value: int) -> None:
        """Write a PHY register; those that are read only stay as they are."""
        found = REGISTERS.find(number)
        if found is None or found[0].access is Access.RO:
            return
        if number == _PCTRL:
            self._write_control(value)
            return
        self._state.values[number] = value & _WIDTH_MASK
        self._tell()

    def _peek(self, number: int) -> int:
        state = self._state
        up = self.link_up
        if number == _LPA:
            return layout.LINK_PARTNER_ABILITY if state.negotiated else 0
        if number == _ANE:
            return _PARTNER if state.negotiated else 0
        if number == _GSTATUS:
            return layout.PARTNER_1000 if state.negotiated else 0
        if number == _PSSTAT:
            return layout.PSSTAT_UP if up else 0
        return state.values.get(number, 0)

    def _read_status(self) -> int:
        """Return PSTATUS: link latches low until it is read (§13.4.7.1.2)."""
        state, up = self._state, self.link_up
        value = state.values[_PSTATUS] | (_AN_COMPLETE if state.negotiated else 0)
        value |= _LINK if up and not state.lost else 0
        state.lost = False
        return value

    def _write_control(self, value: int) -> None:
        """Write PCTRL: reset and restart clear themselves; a reset keeps what the tables call "retain"."""
        state = self._state
        was_down = state.values[_PCTRL] & _POWER_DOWN
        state.values[_PCTRL] = value & ~(_RESET | _RESTART)
        if value & (_RESET | _RESTART) or (was_down and not value & _POWER_DOWN) or value & _POWER_DOWN:
            self._negotiate()
        elif not value & _AN_ENABLE:
            state.negotiated, state.deadline_ns = self._plugged, None
        self._tell()
