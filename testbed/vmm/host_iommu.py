"""The hypervisor's end of its host's IOMMU: driver, assignments and interrupt wires over a shared window.

Reference: testbed/spec/iommu_window.py; ARM IHI 0070 G.b §3.18 (interrupts). Everything that the SMMU reads
is in one segment of tables, which no guest has mapped. Not modelled: an IOMMU that comes back after it was
gone.
"""

from collections.abc import Callable, MutableMapping
from typing import Final

from testbed.errors import DeviceError
from testbed.memory.arena import Arena
from testbed.memory.host import HostMemory
from testbed.memory.segment import Segment
from testbed.native import Bell, Pinned, Watched, WordChanges
from testbed.pci.bar_window import BarPort, Requester, Wait
from testbed.pci.smmu_driver import SmmuDriver
from testbed.spec import smmu as s
from testbed.spec.bar_window import BELL_TO_DRIVER
from testbed.spec.iommu_window import IOMMU_WIRES, SPACE_GICR, SPACE_ITS, SPACE_SMMU, WIRES_OFFSET
from testbed.vmm.assignment import Assignments, Report

TABLES_BYTES: Final = 4 << 20
"""Enough for the stream table, the queues, and the tables of an ITS."""


class HostIommu:
    """SMMU and ITS of a host, as its hypervisor programs them.

    Parameters
    ----------
    window: the pages shared with the IOMMU's process.
    tables: memory for what the SMMU and the ITS read.
    ring: wakes the IOMMU's process (the window's bell to the device).
    wait: how this process waits for it.
    runnable: what this process runs at every turn.
    is_gone: says that the IOMMU's process has ended.
    """

    def __init__(
        self,
        window: Pinned,
        tables: Segment,
        ring: Callable[[], None],
        wait: Wait,
        report: Report,
        runnable: MutableMapping[Callable[[], bool], None],
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._requester = requester = Requester(window, ring, wait, is_gone=is_gone)
        self.memory = HostMemory([tables])
        self.arena = Arena(self.memory, tables.hpa, tables.size_bytes)
        self.its = BarPort(requester, SPACE_ITS)
        """Registers of the ITS."""
        self.redistributor = BarPort(requester, SPACE_GICR)
        """Registers of the redistributor that takes the host's LPIs."""
        registers = BarPort(requester, SPACE_SMMU)
        self.driver = SmmuDriver(registers, self.memory, self.arena.allocate, self._while_waiting)
        self.assignments = Assignments(self.driver, report)
        self.from_iommu = Bell(window, BELL_TO_DRIVER)
        """Rung by the IOMMU; to be armed before this process sleeps."""
        self._report, self._runnable = report, runnable
        self._events = _wire(window, "event_queue")
        self._errors = _wire(window, "global_error")

    @property
    def wires(self) -> list[tuple[Watched, Callable[[], bool]]]:
        """What is to be watched, and what to do then."""
        return [(self._events, self._take_events), (self._errors, self._take_errors)]

    def start(self) -> None:
        """Bring the SMMU up: every function is stopped until it is assigned."""
        self.driver.start()

    def _while_waiting(self) -> None:
        if self._requester.is_gone():
            raise DeviceError("the IOMMU's process is gone: what functions do is aborted from now on")

    def _take_events(self) -> bool:
        self._events.take()
        self._runnable[self._take_more] = None
        return True

    def _take_more(self) -> bool:
        """Take events until the queue is empty: only then the next makes an edge. A turn for each look."""
        taken = self.assignments.take_events()
        if not taken:
            self._runnable.pop(self._take_more, None)
        return taken

    def _take_errors(self) -> bool:
        self._errors.take()
        errors = self.driver.take_errors()
        if errors & s.GERROR_EVENTQ_ABT.mask:
            self._report("", "smmu", "EVENTQ_ABT_ERR", "a record could not be written into the event queue")
        return True


def _wire(window: Pinned, name: str) -> WordChanges:
    return WordChanges(window, WIRES_OFFSET + IOMMU_WIRES.offset(name))
