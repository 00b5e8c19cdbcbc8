"""Virtual ITSs on the host's ITS: where a guest leads its functions' events, the host's ITS leads them.

Reference: ARM IHI 0069 H.b §5.3 (VMAPTI, VMOVI), chapter 6. A guest's DeviceIDs are translated to those of
the machine, its vCPUs to vPEs, of which each has a doorbell of its own. Not modelled: virtual LPIs of devices
that the vmm serves.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from testbed.iommu.virtual_its import VirtualIts
from testbed.memory.guest import GuestMemory
from testbed.vmm.exit_pace import ExitPace
from testbed.vmm.its_driver import ItsDriver


@dataclass(frozen=True, slots=True)
class MappedVpe:
    """A vCPU as the host's ITS knows it."""

    vpe: int
    doorbell: int


class GuestEvents:
    """The host's side of one guest's virtual ITS.

    streams: the guest's DeviceIDs to the machine's. vpes: of each vCPU.
    """

    def __init__(self, its: ItsDriver, streams: Mapping[int, int], vpes: Sequence[MappedVpe]) -> None:
        self._its, self._streams, self._vpes = its, streams, vpes

    def lead(self, device: int, event: int, vcpu: int, intid: int) -> None:
        """Lead an event to a virtual LPI of a vCPU."""
        target = self._vpes[vcpu]
        self._its.map_vlpi(self._streams[device], event, target.vpe, intid, target.doorbell)

    def move(self, device: int, event: int, vcpu: int) -> None:
        """Lead it to another vCPU, with what is pending."""
        target = self._vpes[vcpu]
        self._its.move_vlpi(self._streams[device], event, target.vpe, target.doorbell)

    def drop(self, device: int, event: int) -> None:
        """Lead it nowhere; what is pending of it is not any more."""
        self._its.unmap_event(self._streams[device], event)

    def post(self, device: int, event: int) -> None:
        """Make its interrupt pending, as the device does."""
        self._its.raise_event(self._streams[device], event)

    def clear(self, device: int, event: int) -> None:
        """Have what is pending of it pending no more."""
        self._its.clear_event(self._streams[device], event)

    def changed(self, device: int, event: int) -> None:
        """The configuration of its LPI has changed."""
        self._its.configured_anew(self._streams[device], event)

    def all_changed(self, vcpu: int) -> None:
        """Configurations of a vCPU's LPIs have changed."""
        self._its.vpe_changed(self._vpes[vcpu].vpe)


class GuestIts:
    """A guest's virtual ITS as a device of its VM.

    devices: events of each function, by the guest's DeviceIDs. runnable: what the process runs at every turn.
    pace: the guest's time for what it asks of the vmm.
    """

    def __init__(
        self,
        memory: GuestMemory,
        vcpus: int,
        devices: Mapping[int, int],
        events: GuestEvents,
        report: Callable[[str, str], None],
        runnable: MutableMapping[Callable[[], bool], None],
        pace: ExitPace,
    ) -> None:
        self._pace, self.active = pace, True
        self.front = VirtualIts(memory, vcpus, devices, events, report)
        self._runnable = runnable

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load from the register block gives."""
        return self.front.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store to the register block."""
        self.front.write(offset, size_bytes, value)
        self._runnable[self._go_on] = None

    def _go_on(self) -> bool:
        """Execute commands that a register write left over, while the guest has time for them."""
        if not self.active or not self._pace.begin(self):
            return False
        more = self.front.poll()
        self._pace.end()
        if not more:
            self._runnable.pop(self._go_on, None)
        return more
