"""Guests whose interrupts the ITS injects without the vmm: their vPEs, and the events that lead to them.

Reference: ARM IHI 0069 H.b chapter 6 (GICv4), §5.3 (VMAPP, VMAPTI). A guest has one vPE, of the vCPU that
runs its drivers. It is resident from when it is mapped on, for nothing else runs in its place; what finds it
out all the same rings its doorbell, upon which it is scheduled in. Not modelled: vPEs of further vCPUs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from testbed.memory.segment import Segment
from testbed.native import Pinned, VpePort
from testbed.spec import lpi
from testbed.vmm.host_lpis import HostLpis, ScheduledVpe
from testbed.vmm.its_driver import ItsDriver
from testbed.vmm.vm import Vm


@dataclass(frozen=True, slots=True)
class _Mapped:
    vpe: ScheduledVpe
    doorbell: int


class DirectGuests:
    """The vPEs of a host, by guest."""

    def __init__(self, its: ItsDriver, lpis: HostLpis) -> None:
        self._its, self._lpis = its, lpis
        self._mapped: dict[str, _Mapped] = {}

    def route(self, stream: int, intids: Sequence[int], vm: Vm, vpt: Segment) -> None:
        """Lead a function's events to LPIs of a guest, event N to number N; `vpt`: its pending table."""
        if vm.name not in self._mapped:
            self._mapped[vm.name] = self._map(vm, vpt)
        mapped = self._mapped[vm.name]
        self._its.map_device(stream, len(intids))
        for event, intid in enumerate(intids):
            self._its.map_vlpi(stream, event, mapped.vpe.vpe, intid, mapped.doorbell)

    def _map(self, vm: Vm, vpt: Segment) -> _Mapped:
        table = Pinned(vpt.view[lpi.PENDING_RESERVED_BYTES :][: lpi.VLPI_WORDS * 8])
        port = VpePort(vm.pages[0], table)
        vpe = ScheduledVpe(self._its.map_vpe(vpt.hpa), port, vm.bells[0].ring, lambda wanted: wanted.enter())
        doorbell = self._its.doorbell()
        self._lpis.on(doorbell, vpe.rung)
        vpe.enter()
        return _Mapped(vpe, doorbell)
