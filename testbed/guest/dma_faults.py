"""What a guest's system does about faults of its devices: each record is counted, the first of a kind told.

Reference: ARM IHI 0070 G.b §7.2 (event queue), §7.5 (global errors). The event queue interrupts when a record
comes into an empty queue, so records are taken until there are none. Not modelled: ending a device that
faults for ever, recoverable faults.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from testbed.guest.iova import GuestIommu
from testbed.observe.counters import Counters
from testbed.pci.smmu_entries import EventRecord


class Report(Protocol):
    """Tells, once for each kind, what went wrong with which device."""

    def __call__(self, device: str, reason: str, detail: str) -> None: ...


class DmaFaults:
    """Handles the interrupts of a guest's SMMU. `devices`: names by requester ID."""

    def __init__(
        self, iommu: GuestIommu, devices: Mapping[int, str], counters: Counters, report: Report
    ) -> None:
        self._iommu, self._devices, self._counters, self._report = iommu, devices, counters, report
        self._told: set[tuple[int, str]] = set()

    @property
    def handlers(self) -> tuple[Callable[[], bool], Callable[[], bool]]:
        """Of the event queue's interrupt, and of that of global errors."""
        return self._take_events, self._take_errors

    def _take_events(self) -> bool:
        while events := self._iommu.driver.take_events():
            for event in events:
                self._counters.add(f"smmu.{event.name}")
                self._tell(event)
        return True

    def _tell(self, event: EventRecord) -> None:
        if (event.stream, event.name) in self._told:
            return
        self._told.add((event.stream, event.name))
        process = "" if event.substream is None else f" of process {event.substream}"
        access = f"{'write to' if event.write else 'read of'} I/O address {event.address:#x}{process}"
        device = self._devices.get(event.stream, f"stream {event.stream:#x}")
        self._report(device, event.name, f"{access} was refused by the guest's own SMMU; no byte moved")

    def _take_errors(self) -> bool:
        if errors := self._iommu.driver.take_errors():
            self._counters.add("smmu.errors")
            self._report("smmu", "global_error", f"SMMU_GERROR has {errors:#x} active")
        return True
