"""The virtual timer of a vCPU: programmed without an exit, fired by the real clock.

Reference: DDI 0487 D13.2 (CNTV_CVAL_EL0, CNTV_CTL_EL0), ARM IHI 0069 §6.3. The condition is a physical
interrupt of the processor that the vCPU runs on, so it forces an exit; the hypervisor then injects PPI 27.
Until that is ended the physical interrupt is active and does not fire again. Not modelled: CNTV_TVAL, an
offset.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.guest.interrupts import Interrupts, PhysicalInterrupts
from testbed.native import Pinned, SharedWords, trace
from testbed.spec import gic
from testbed.spec import trace as events
from testbed.spec.vcpu_page import VCPU_PAGE

_CTL: Final = VCPU_PAGE.offset("cntv_ctl")
_CVAL: Final = VCPU_PAGE.offset("cntv_cval")
_ACTIVE: Final = VCPU_PAGE.offset("physical_active")
_BIT: Final = 1 << gic.PPI_VIRTUAL_TIMER


class VirtualTimer:
    """One vCPU's timer: one-shot; `arm` may be called again by the handler."""

    def __init__(
        self, page: Pinned, cpu: PhysicalInterrupts, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._words, self._cpu, self._clock = SharedWords(page), cpu, clock
        self._handler: Callable[[int], bool] = lambda _at_ns: False
        self._armed = False

    def start(self, interrupts: Interrupts, handler: Callable[[int], bool]) -> None:
        """Have `handler` called with the time for which the timer was armed."""
        self._handler = handler
        interrupts.on_private(gic.PPI_VIRTUAL_TIMER, self._expired, "interrupts.timer")

    def arm(self, at_ns: int) -> None:
        """Fire at a time of the clock."""
        self._armed = True
        self._words.store64(_CVAL, at_ns)
        self._words.store32(_CTL, gic.CNTV_ENABLE.mask)

    def stop(self) -> None:
        """Fire no more."""
        self._armed = False
        self._words.store32(_CTL, 0)

    def deadline_ns(self) -> int | None:
        """Return when the physical interrupt comes, or None."""
        if not self._armed or self._words.load64(_ACTIVE) & _BIT:
            return None
        return self._words.load64(_CVAL)

    def tick(self) -> bool:
        """Take the physical interrupt where it is due: an exit; True: it was."""
        due_ns = self.deadline_ns()
        if due_ns is None or self._clock() < due_ns:
            return False
        if trace:
            trace(events.TIMER_DUE, due_ns)
        self._cpu.take_physical_interrupt()
        return True

    def _expired(self) -> bool:
        at_ns = self._words.load64(_CVAL)
        self.stop()
        return self._handler(at_ns)
