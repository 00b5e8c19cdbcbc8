"""The transmit unit of the 82540EM: registers of the ring, and the source of frames that the bridge fetches
from.

Reference: 8254x SDM §3.3, §3.4, §13.4.33 to §13.4.44. What is done per descriptor (legacy, context and data
descriptors, checksum insertion, TCP segmentation, VLAN tags, padding, write-back) is native/e1000_transmit.c.
A packet leaves when its last descriptor is in the ring; while the link is down, packets stay in the ring.
A status is written back when the frames have been taken over, TXDCTL's write-back threshold or not.
Not modelled: collisions, inter packet gap, prefetch thresholds, PAUSE frames.
"""

from collections.abc import Callable
from typing import Final

from testbed.e1000.interrupt import TXD_LOW, TXDW, TXQE, Interrupts
from testbed.memory.register_file import RegisterFile
from testbed.native import (
    E1000_TX_DELAYED,
    E1000_TX_DONE,
    E1000_TX_EMPTY,
    E1000_TX_LOW,
    Burst,
    E1000Transmit,
    Watched,
)
from testbed.net.port import SteppedSource
from testbed.spec.e1000 import field, mask
from testbed.spec.e1000_ring import DESC_BYTES

_EN: Final = mask("TCTL", "EN")
_PSP: Final = mask("TCTL", "PSP")
_VME: Final = mask("CTRL", "VME")
_LWTHRESH: Final = field("TXDCTL", "LWTHRESH")
_LWTHRESH_UNIT: Final = 8
"""§13.4.43: LWTHRESH counts eight descriptors."""


def _causes(events: int) -> int:
    """Return the causes that events of the ring set at once (§3.4.3)."""
    done = TXDW if events & E1000_TX_DONE else 0
    empty = TXQE if events & E1000_TX_EMPTY else 0
    return done | empty | (TXD_LOW if events & E1000_TX_LOW else 0)


_EVENTS_ALL: Final = E1000_TX_DONE | E1000_TX_DELAYED | E1000_TX_EMPTY | E1000_TX_LOW
_CAUSES: Final = tuple(_causes(events) for events in range(_EVENTS_ALL + 1))
"""By the events of a completed burst."""

FaultCode = Callable[[int], None]


class TransmitUnit(SteppedSource):
    """A `Source` of frames. `fault` is called with the code of what stopped the ring, once each time."""

    def __init__(
        self, ring: E1000Transmit, registers: RegisterFile, interrupts: Interrupts, fault: FaultCode
    ) -> None:
        self.ring, self._registers, self._interrupts, self._fault = ring, registers, interrupts, fault
        self._faulted = 0
        self._link_up = False
        self.loop: Callable[[Burst], None] | None = None
        """Where frames go in loopback, instead of to the wire."""
        self._looping = Burst()
        registers.on_read("TDH", lambda: self.ring.head)
        registers.on_write("TDH", self._head)
        registers.on_write("TDT", ring.set_tail)
        for name in ("TDBAL", "TDBAH", "TDLEN"):
            registers.on_write(name, self._place)
        for name in ("TCTL", "TXDCTL"):
            registers.on_write(name, self._configure)

    def reset(self) -> None:
        """Forget ring, contexts and what is in flight; the base address stays (§14.7)."""
        self.ring.reset()
        self._faulted = 0
        self._place(0)
        self._configure(0)

    def set_link(self, up: bool) -> None:
        """Stop or go on as the link goes down or comes up."""
        self._link_up = up
        self._configure(0)

    def refresh(self) -> None:
        """Take VLAN mode and type anew, after CTRL or VET was written."""
        self._configure(0)

    # Source

    @property
    def watched(self) -> Watched:
        """What says that descriptors wait."""
        return self.ring

    def fetch(self, burst: Burst, limit: int) -> int:
        """Take frames from the ring; in loopback they go back to the guest and none is left here."""
        if self.loop is not None:
            self._loop_one(self.loop)
            burst.clear()
            return 0
        count = self.ring.fetch(burst, limit)
        if not count:
            self._after_nothing()
        return count

    def complete(self, burst: Burst) -> None:  # noqa: ARG002 - what is in flight is known here
        """Write the descriptors of a fetched burst back and raise what they ask for."""
        events = self.ring.complete()
        if events:
            self._raise(events)

    def _loop_one(self, loop: Callable[[Burst], None]) -> None:
        if self.ring.fetch(self._looping):
            loop(self._looping)
            self.complete(self._looping)
        else:
            self._after_nothing()

    def _after_nothing(self) -> None:
        """Descriptors that make no frame (contexts, packets that were refused) are done at once."""
        if self.ring.in_flight:
            self._raise(self.ring.complete())
        if self.ring.fault != self._faulted:
            self._faulted = self.ring.fault
            if self._faulted:
                self._fault(self._faulted)

    def _raise(self, events: int) -> None:
        if events & E1000_TX_DONE:
            self._interrupts.stop_transmit_timers()
        elif events & E1000_TX_DELAYED:
            self._interrupts.transmitted_delayed()
        causes = _CAUSES[events]
        if causes:
            self._interrupts.cause(causes)

    # registers

    def _head(self, value: int) -> None:
        self.ring.head = value & mask("TDH", "TDH")

    def _place(self, _value: int) -> None:
        registers = self._registers
        base = registers["TDBAH"] << 32 | registers["TDBAL"]
        self.ring.set_ring(base, registers["TDLEN"] // DESC_BYTES)

    def _configure(self, _value: int) -> None:
        registers = self._registers
        tctl = registers["TCTL"]
        self.ring.configure(
            bool(tctl & _EN) and self._link_up,
            bool(tctl & _PSP),
            bool(registers["CTRL"] & _VME),
            registers["VET"],
            _LWTHRESH.get(registers["TXDCTL"]) * _LWTHRESH_UNIT,
        )
