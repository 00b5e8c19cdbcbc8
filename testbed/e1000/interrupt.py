"""Interrupt causes, masks, throttling and the delay timers of the 82540EM.

Reference: 8254x SDM §13.4.17 to §13.4.21 (ICR, ITR, ICS, IMS, IMC), §3.2.7.1 and §13.4.30, §13.4.31 (RDTR,
RADV), §3.4.3 and §13.4.41, §13.4.44 (TIDV, TADV). The line is level-triggered: asserted while an unmasked
cause is pending, but after it rose it stays down until ITR's interval has passed since that rise, whatever
is pending. Not modelled: general purpose pins, PHY and management interrupts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from testbed.interrupts.signal import Line
from testbed.memory.register_file import RegisterFile
from testbed.native import trace
from testbed.spec import e1000
from testbed.spec import trace as events
from testbed.spec.e1000 import mask

TXDW: Final = mask("ICR", "TXDW")
TXQE: Final = mask("ICR", "TXQE")
LSC: Final = mask("ICR", "LSC")
RXDMT0: Final = mask("ICR", "RXDMT0")
RXO: Final = mask("ICR", "RXO")
RXT0: Final = mask("ICR", "RXT0")
MDAC: Final = mask("ICR", "MDAC")
TXD_LOW: Final = mask("ICR", "TXD_LOW")
SRPD: Final = mask("ICR", "SRPD")
_ALL: Final = sum(bits.mask for bits in e1000.REGISTERS["ICR"].bits)
_FLUSH: Final = mask("RDTR", "FPD")
_DELAY: Final = mask("RDTR", "DELAY")


class _Timer(Enum):
    THROTTLE = "the line is held down although a cause is pending"
    RECEIVE = "RDTR"
    RECEIVE_LATEST = "RADV"
    TRANSMIT = "TIDV"
    TRANSMIT_LATEST = "TADV"


@dataclass(slots=True)
class _State:
    causes: int = 0
    mask: int = 0
    asserted: bool = False
    rose_ns: int | None = None
    throttle_ns: int = 0
    receive_delay_ns: int = 0
    receive_absolute_ns: int = 0
    transmit_delay_ns: int = 0
    transmit_absolute_ns: int = 0
    due_ns: dict[_Timer, int] = field(default_factory=dict)
    """The timers that run, and when each is over."""


class Interrupts:
    """The interrupt unit. Every time is in nanoseconds of `clock`."""

    def __init__(self, registers: RegisterFile, line: Line, clock: Callable[[], int]) -> None:
        self._line, self._clock = line, clock
        self.rises = 0
        """How often the line was asserted."""
        self._state = _State()
        registers.on_read("ICR", self._read_causes)
        registers.on_write("ICR", self._clear_causes)
        registers.on_write("ICS", self.cause)
        registers.on_read("IMS", lambda: self._state.mask)
        registers.on_write("IMS", self._unmask)
        registers.on_write("IMC", self._mask)
        registers.on_write("ITR", self._throttle)
        registers.on_write("RDTR", self._receive_delay)
        registers.protect("RDTR", _FLUSH)  # §13.4.30: clears itself
        registers.on_write("RADV", self._receive_absolute)
        registers.on_write("TIDV", self._transmit_delay)
        registers.on_write("TADV", self._transmit_absolute)

    def reset(self) -> None:
        """Forget everything and deassert the line."""
        if self._state.asserted:
            self._line.set_level(False)
        self._state = _State()

    def cause(self, causes: int) -> None:
        """Set causes as if they had happened (and what a write of ICS does)."""
        if trace:
            trace(events.CAUSE_SET, causes & _ALL)
        self._state.causes |= causes & _ALL
        self._update()

    def received(self) -> None:
        """Frames were stored: RXT0 now, or when a delay timer says so (§3.2.7.1)."""
        state = self._state
        if not state.receive_delay_ns:
            self.cause(RXT0)
            return
        now_ns = self._clock()
        state.due_ns[_Timer.RECEIVE] = now_ns + state.receive_delay_ns
        if state.receive_absolute_ns:
            state.due_ns.setdefault(_Timer.RECEIVE_LATEST, now_ns + state.receive_absolute_ns)

    def transmitted_delayed(self) -> None:
        """Descriptors with RS were written back, all of them with IDE: TXDW when TIDV says so (§3.3.3.1)."""
        state = self._state
        if not state.transmit_delay_ns:
            self._transmit_due()
            return
        now_ns = self._clock()
        state.due_ns[_Timer.TRANSMIT] = now_ns + state.transmit_delay_ns
        if state.transmit_absolute_ns:
            state.due_ns.setdefault(_Timer.TRANSMIT_LATEST, now_ns + state.transmit_absolute_ns)

    def stop_transmit_timers(self) -> None:
        """A descriptor with RS and without IDE was written back: its TXDW is immediate (§3.3.3.1)."""
        if self._state.due_ns:
            self._stop(_Timer.TRANSMIT, _Timer.TRANSMIT_LATEST)

    def deadline_ns(self) -> int | None:
        """Return when `on_timer` has something to do, or None."""
        due_ns = self._state.due_ns
        return min(due_ns.values()) if due_ns else None

    def on_timer(self, now_ns: int) -> None:
        """Do what is due."""
        over = {timer for timer, time_ns in self._state.due_ns.items() if time_ns <= now_ns}
        if over & {_Timer.RECEIVE, _Timer.RECEIVE_LATEST}:
            self._receive_due()
        if over & {_Timer.TRANSMIT, _Timer.TRANSMIT_LATEST}:
            self._transmit_due()
        if _Timer.THROTTLE in over:
            self._update()

    # registers

    def _read_causes(self) -> int:
        """§13.4.17: a read clears every cause."""
        causes, self._state.causes = self._state.causes, 0
        if causes:
            self._update()
        return causes

    def _clear_causes(self, value: int) -> None:
        self._state.causes &= ~value
        self._update()

    def _unmask(self, value: int) -> None:
        self._state.mask |= value & _ALL
        self._update()

    def _mask(self, value: int) -> None:
        self._state.mask &= ~value
        self._update()

    def _throttle(self, value: int) -> None:
        self._state.throttle_ns = (value & mask("ITR", "INTERVAL")) * e1000.ITR_UNIT_NS
        self._update()

    def _receive_delay(self, value: int) -> None:
        self._state.receive_delay_ns = (value & _DELAY) * e1000.DELAY_UNIT_NS
        if value & _FLUSH:
            self._receive_due()

    def _receive_absolute(self, value: int) -> None:
        self._state.receive_absolute_ns = (value & _DELAY) * e1000.DELAY_UNIT_NS

    def _transmit_delay(self, value: int) -> None:
        self._state.transmit_delay_ns = (value & _DELAY) * e1000.DELAY_UNIT_NS

    def _transmit_absolute(self, value: int) -> None:
        self._state.transmit_absolute_ns = (value & _DELAY) * e1000.DELAY_UNIT_NS

    # the line

    def _receive_due(self) -> None:
        """One timer's end cancels the other (§13.4.30, §13.4.31)."""
        self._stop(_Timer.RECEIVE, _Timer.RECEIVE_LATEST)
        self.cause(RXT0)

    def _transmit_due(self) -> None:
        self._stop(_Timer.TRANSMIT, _Timer.TRANSMIT_LATEST)
        self.cause(TXDW)

    def _stop(self, *timers: _Timer) -> None:
        for timer in timers:
            self._state.due_ns.pop(timer, None)

    def _update(self) -> None:
        state = self._state
        wanted = state.causes & state.mask
        if not wanted:
            if state.due_ns:
                self._stop(_Timer.THROTTLE)
            if state.asserted:
                state.asserted = False
                self._line.set_level(False)
        elif not state.asserted and self._may_rise():
            state.asserted = True
            if state.due_ns:
                self._stop(_Timer.THROTTLE)
            self.rises += 1
            self._line.set_level(True)

    def _may_rise(self) -> bool:
        """Say whether the interval since the last rise is over (§13.4.18); if not, remember when it is."""
        state = self._state
        if not state.throttle_ns:
            return True
        now_ns = self._clock()
        if state.rose_ns is not None and now_ns < state.rose_ns + state.throttle_ns:
            state.due_ns[_Timer.THROTTLE] = state.rose_ns + state.throttle_ns
            return False
        state.rose_ns = now_ns
        return True
