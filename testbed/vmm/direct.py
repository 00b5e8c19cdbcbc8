"""Guests whose interrupts the ITS injects without the vmm: their vPEs, and the events that they lead there.

Reference: ARM IHI 0069 H.b chapter 6 (GICv4), §5.3 (VMAPP, VMAPTI). Each vCPU has a vPE, with a virtual
pending table and a doorbell of its own. It is resident from when it is mapped on, for nothing else runs in
its place; what finds it out all the same rings its doorbell, upon which it is scheduled in. Which event leads
to which vPE is the guest's to say, by its virtual ITS (guest_its.py). Not modelled: vPEs that share a
processor in turn.
"""

from testbed.memory.segment import Segment
from testbed.messages.entries import VfEntry
from testbed.native import Pinned, VpePort
from testbed.spec import lpi
from testbed.vmm.guest_its import GuestEvents, MappedVpe
from testbed.vmm.host_lpis import HostLpis, ScheduledVpe
from testbed.vmm.its_driver import VPT_BYTES, ItsDriver
from testbed.vmm.vm import Vm


class DirectGuests:
    """The vPEs of a host's guests."""

    def __init__(self, its: ItsDriver, lpis: HostLpis) -> None:
        self._its, self._lpis = its, lpis

    def add(self, vm: Vm, vpts: Segment) -> tuple[GuestEvents, dict[int, int]]:
        """Map a guest's vCPUs and its functions; return what its virtual ITS works on: the host's side, and
        how many events each of its DeviceIDs has. `vpts`: the virtual pending tables of its vCPUs in order.
        """
        functions = [nic for nic in vm.entry.nics if isinstance(nic, VfEntry)]
        for vf in functions:
            self._its.map_device(vf.stream, len(vf.intids))
        vpes = [self._map(vm, vpts, number) for number in range(vm.entry.vcpus)]
        streams = {vf.guest_stream: vf.stream for vf in functions}
        devices = {vf.guest_stream: len(vf.intids) for vf in functions}
        return GuestEvents(self._its, streams, vpes), devices

    def _map(self, vm: Vm, vpts: Segment, number: int) -> MappedVpe:
        at = number * VPT_BYTES
        table = Pinned(vpts.view[at + lpi.PENDING_RESERVED_BYTES :][: lpi.VLPI_WORDS * 8])
        port = VpePort(vm.pages[number], table)
        vpe_id, doorbell = self._its.map_vpe(vpts.hpa + at), self._its.doorbell()
        vpe = ScheduledVpe(vpe_id, port, vm.bells[number].ring, lambda wanted: wanted.enter())
        self._lpis.on(doorbell, vpe.rung)
        vpe.enter()
        return MappedVpe(vpe_id, doorbell)
