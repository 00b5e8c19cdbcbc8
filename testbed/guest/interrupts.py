"""How a vCPU takes interrupts: acknowledge, handle, end; a table of handlers by INTID.

Reference: ARM IHI 0069 §4.1 (life cycle), §12.3 (ICV_IAR1_EL1, ICV_EOIR1_EL1). Taking an interrupt is no
exit: the virtual CPU interface is in the vCPU's page. An exit is what the hypervisor, the physical timer or a
maintenance interrupt force. Frames are found by polling the rings; what an edge still asks for (reading and
acknowledging the device's causes, which traps) can wait: it is done `LATE_NS` after the first edge, once for
all edges in between, so that a frame that wakes the guest is never behind two exits. A level is served before
its end, for it stays asserted until it is. Not modelled: nesting; one handler runs at a time.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from testbed.guest.gic import GicDriver
from testbed.native import trace
from testbed.observe.counters import Counters
from testbed.spec import gic
from testbed.spec import trace as events
from testbed.spec.lpi import LPI_FIRST

LATE_NS: Final = 20_000_000
TAKEN_MAX: Final = 64
"""Interrupts that are taken before the process's other work has its turn: a device may raise them faster."""

Handler = Callable[[], bool]
"""Does what an interrupt asks for; True: something moved."""


class PhysicalInterrupts(Protocol):
    """The vCPU, which leaves for the hypervisor."""

    def take_physical_interrupt(self) -> None:
        """Leave and come back."""
        ...


class Interrupts:
    """The interrupt side of one vCPU."""

    def __init__(
        self,
        driver: GicDriver,
        cpu: PhysicalInterrupts,
        counters: Counters,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.driver, self.watched = driver, driver.interface
        self._cpu, self._counters, self._clock = cpu, counters, clock
        self._handlers: dict[int, tuple[Handler, str]] = {}
        self._late: dict[int, Handler] = {}
        self._due: dict[int, None] = {}
        self._due_ns = 0

    def on_edge(
        self, intid: int, handler: Handler, counter: str, at_once: Callable[[], None] | None = None
    ) -> None:
        """Have an edge-triggered SPI, which is enabled, handled late; `at_once`: what cannot wait."""
        self._late[intid] = handler
        self._handlers[intid] = partial(self._later, intid, at_once), counter

    def on_vector(self, intid: int, handler: Handler, counter: str) -> None:
        """Have an edge of an SPI or an LPI, which is enabled, handled at once: one that masks its source
        until it is handled, at no exit's cost.
        """
        self._handlers[intid] = handler, counter

    def on_level(self, intid: int, handler: Handler, counter: str) -> None:
        """Have a level-sensitive SPI, which is enabled, handled at once."""
        self._handlers[intid] = handler, counter

    def on_private(self, intid: int, handler: Handler, counter: str) -> None:
        """Have an SGI or PPI handled at once."""
        self._handlers[intid] = handler, counter
        self.driver.enable_private(intid)

    def take(self) -> bool:
        """Leave for the hypervisor where it wants that; take interrupts. True: something moved, or there may
        be more.
        """
        interface = self.watched
        if not interface.enter():  # the hypervisor is at the list registers of a vCPU that slept
            return False
        if interface.must_exit:
            self._cpu.take_physical_interrupt()
        moved = False
        for _ in range(TAKEN_MAX):
            intid = interface.acknowledge()
            if gic.SPECIAL_FIRST <= intid < LPI_FIRST:
                return moved
            moved |= self._handle(intid)
            interface.end(intid)
            if interface.maintenance:
                self._counters.add("exits.maintenance")
                self._cpu.take_physical_interrupt()
        return True

    def _handle(self, intid: int) -> bool:
        handler, counter = self._handlers.get(intid, (_nobody, ""))
        if counter:
            self._counters.add(counter)
        if trace:
            trace(events.HANDLER, intid)
        return handler()

    def _later(self, intid: int, at_once: Callable[[], None] | None) -> bool:
        if at_once is not None:
            at_once()
        if not self._due:
            self._due_ns = self._clock() + LATE_NS
        self._due[intid] = None
        return False

    def serve(self) -> bool:
        """Handle edges whose time has come; True: there were any."""
        if not self._due or self._clock() < self._due_ns:
            return False
        due, self._due = self._due, {}
        return sum(self._late[intid]() for intid in due) > 0  # every one of them, not up to the first

    def deadline_ns(self) -> int | None:
        """Return when `serve` has work, or None."""
        return self._due_ns if self._due else None


def _nobody() -> bool:
    """An interrupt that no driver asked for: it is ended."""
    return False
