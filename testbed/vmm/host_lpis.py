"""The LPIs that reach the hypervisor, and the vPEs that it schedules.

Reference: ARM IHI 0069 H.b §6.1 (LPIs), chapter 6 (GICv4: residency, doorbells), design, "Interrupt
virtualization". A vPE is resident while its vCPU is in the guest; a vCPU that waits for an interrupt stays
resident, for the ITS itself wakes it through its page. What becomes pending for one that is scheduled out
rings its doorbell, an LPI of the hypervisor's. Not modelled: priorities between LPIs.
"""

from collections.abc import Callable
from typing import Final

from testbed.native import Bell, LpiPort, Pinned, VpePort, WordChanges, trace
from testbed.spec import lpi
from testbed.spec import trace as events

Handler = Callable[[], None]
_RUNG: Final = lpi.LPI_PAGE.offset("rung")


class HostLpis:
    """The hypervisor's processor as LPIs are raised at it."""

    def __init__(self, page: Pinned) -> None:
        self._port = LpiPort(page)
        self.watched = WordChanges(page, _RUNG)
        self.bell = Bell(page, _RUNG)
        """To be armed before this process sleeps."""
        self._handlers: dict[int, Handler] = {}
        self.taken = self.unexpected = 0

    def on(self, intid: int, handler: Handler) -> None:
        """Have an LPI handled."""
        self._handlers[intid] = handler

    def take(self) -> bool:
        """Take and handle whatever is raised; tell whether there was anything."""
        self.watched.take()
        raised = self._port.take_all()
        for number in raised:
            handler = self._handlers.get(lpi.LPI_FIRST + number)
            if trace:
                trace(events.LPI_TAKEN, lpi.LPI_FIRST + number)
            if handler is None:
                self.unexpected += 1
            else:
                handler()
        self.taken += len(raised)
        return bool(raised)


class ScheduledVpe:
    """One vPE: scheduled in and out by the hypervisor.

    `wake` sends the vCPU the one message that it asked for; `wanted` is told where something became pending
    while the vPE was out.
    """

    def __init__(
        self,
        vpe: int,
        port: VpePort,
        wake: Callable[[], None],
        wanted: Callable[["ScheduledVpe"], None],
        processor: int = 0,
    ) -> None:
        self.vpe, self._port, self._wake, self._wanted = vpe, port, wake, wanted
        self._processor = processor
        self.resident = False
        self.doorbells = 0
        """How often the doorbell rang."""

    def enter(self) -> None:
        """Schedule it in (GICR_VPENDBASER.Valid)."""
        self.resident = True
        if self._port.enter(self._processor):
            self._wake()

    def leave(self) -> bool:
        """Schedule it out; True: something is pending (PendingLast), it should run again soon."""
        self.resident = False
        return self._port.leave()

    def rung(self) -> None:
        """The doorbell: something became pending while it was out."""
        self.doorbells += 1
        if not self.resident:
            self._wanted(self)
