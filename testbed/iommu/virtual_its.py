"""The ITS that a guest sees: registers, queue and tables are the guest's own, its interrupts are delivered by
the host's ITS.

Reference: ARM IHI 0069 H.b §5.3 (commands), chapter 6 (GICv4); the front is `testbed.iommu.its` without
virtual LPIs, over the guest's memory, with a vCPU for each processor. It delivers nothing itself: what the
guest leads to an LPI of a vCPU, the host's ITS leads to the same virtual LPI of that vCPU's vPE (VMAPTI), and
when the guest moves it (MOVI, MAPC), the host's ITS moves it (VMOVI), with what is pending. A command of the
guest's is done when the host's ITS has done the same. Devices that are not the guest's have entries in its
tables and lead nowhere.

Not modelled: MOVALL of what is pending at a vCPU (accepted, moves nothing).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from testbed.errors import ItsFault
from testbed.iommu.its import Its
from testbed.iommu.its_features import ItsFeatures
from testbed.iommu.its_queue import Report
from testbed.iommu.its_redistributor import Redistributor
from testbed.iommu.its_tables import ItsMemory
from testbed.native import LpiPort, Pinned
from testbed.spec import its_commands as c
from testbed.spec import lpi

COMMANDS_A_TURN: Final = 1
"""Each costs a few of the host's ITS, for which the vmm waits, and other guests with it."""
Source = tuple[int, int]
"""DeviceID and EventID, by the guest's numbers."""


class Backing(Protocol):
    """The host's ITS, as far as one guest's functions go; devices are the guest's numbers."""

    def lead(self, device: int, event: int, vcpu: int, intid: int) -> None:
        """Lead an event to a virtual LPI of a vCPU."""
        ...

    def move(self, device: int, event: int, vcpu: int) -> None:
        """Lead it to another vCPU, with what is pending."""
        ...

    def drop(self, device: int, event: int) -> None:
        """Lead it nowhere; what is pending of it is not any more."""
        ...

    def post(self, device: int, event: int) -> None:
        """Make its interrupt pending, as the device does."""
        ...

    def clear(self, device: int, event: int) -> None:
        """Have what is pending of it pending no more."""
        ...

    def changed(self, device: int, event: int) -> None:
        """The configuration of its LPI has changed."""
        ...

    def all_changed(self, vcpu: int) -> None:
        """Configurations of a vCPU's LPIs have changed."""
        ...


@dataclass(slots=True)
class _Led:
    """What the guest has led where."""

    intid: int
    icid: int
    vcpu: int | None
    """None: the collection is not mapped, and the host's ITS leads the event nowhere."""


class VirtualIts:
    """A guest's ITS. `devices`: events of each function behind it, by the numbers that the guest knows."""

    def __init__(
        self,
        memory: ItsMemory,
        vcpus: int,
        devices: Mapping[int, int],
        backing: Backing,
        report: Report = lambda _reason, _detail: None,
    ) -> None:
        self._devices, self._backing = dict(devices), backing
        self._led: dict[Source, _Led] = {}
        self._after: dict[int, Callable[[int], None]] = {
            c.OP_MAPD: self._mapd, c.OP_MAPC: self._mapc, c.OP_MAPTI: self._mapti, c.OP_MAPI: self._mapi,
            c.OP_MOVI: self._movi, c.OP_INT: self._on_host(backing.post), c.OP_INVALL: self._invall,
            c.OP_CLEAR: self._on_host(backing.clear), c.OP_INV: self._on_host(backing.changed),
            c.OP_DISCARD: self._discard,
        }  # fmt: skip
        # without tables no LPI becomes pending there: pending ones are the vPEs'
        nowhere = [Redistributor(memory, None, LpiPort(Pinned(bytearray(lpi.LPI_PAGE.size))))] * vcpus
        features = ItsFeatures(processors=vcpus, virtual=False)
        self.its = Its(
            memory,
            nowhere,
            features=features,
            report=report,
            after=self._carry,
            commands_a_turn=COMMANDS_A_TURN,
        )

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load from the register block gives."""
        return self.its.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store to the register block."""
        self.its.write(offset, size_bytes, value)

    def poll(self) -> bool:
        """Go on with the guest's command queue; tell whether there is more to do now."""
        return self.its.poll()

    def _carry(self, command: int) -> None:
        """Have the host's ITS do what a command of the guest's, which is done here, comes to."""
        after = self._after.get(c.COMMAND_OPCODE.get(command))
        if after is not None:
            after(command)

    def _is_ours(self, source: Source) -> bool:
        device, event = source
        return event < self._devices.get(device, 0)

    def _mapd(self, command: int) -> None:
        """Whatever the device had mapped is unmapped: its table is another, or none."""
        device = c.COMMAND_DEVICE.get(command)
        for source in [source for source in self._led if source[0] == device]:
            self._drop(source)

    def _mapti(self, command: int) -> None:
        self._map(command, c.MAPTI_PINTID.get(command))

    def _mapi(self, command: int) -> None:
        self._map(command, c.COMMAND_EVENT.get(command))

    def _map(self, command: int, intid: int) -> None:
        source = _source(command)
        if not self._is_ours(source):
            return
        if not lpi.LPI_FIRST <= intid < lpi.LPI_FIRST + lpi.VLPIS:
            self._drop(source)
            raise ItsFault("PHYSICALID_OOR", f"a vCPU has no LPI {intid}")
        self._drop(source)
        self._led[source] = led = _Led(intid, c.COMMAND_ICID.get(command), None)
        self._place(source, led)

    def _movi(self, command: int) -> None:
        source = _source(command)
        led = self._led.get(source)
        if led is not None:
            led.icid = c.COMMAND_ICID.get(command)
            self._place(source, led)

    def _mapc(self, command: int) -> None:
        icid = c.COMMAND_ICID.get(command)
        for source, led in self._led.items():
            if led.icid == icid:
                self._place(source, led)

    def _place(self, source: Source, led: _Led) -> None:
        """Lead an event to the vCPU that its collection is of now."""
        before, led.vcpu = led.vcpu, self._vcpu(led.icid)
        if led.vcpu == before:
            return
        if led.vcpu is None:
            self._backing.drop(*source)
        elif before is None:
            self._backing.lead(*source, led.vcpu, led.intid)
        else:
            self._backing.move(*source, led.vcpu)

    def _vcpu(self, icid: int) -> int | None:
        try:
            return self.its.tables.collection(icid)
        except ItsFault:
            return None

    def _discard(self, command: int) -> None:
        self._drop(_source(command))

    def _drop(self, source: Source) -> None:
        led = self._led.pop(source, None)
        if led is not None and led.vcpu is not None:
            self._backing.drop(*source)

    def _on_host(self, do: Callable[[int, int], None]) -> Callable[[int], None]:
        def after(command: int) -> None:
            source = _source(command)
            led = self._led.get(source)
            if led is not None and led.vcpu is not None:
                do(*source)

        return after

    def _invall(self, command: int) -> None:
        vcpu = self._vcpu(c.COMMAND_ICID.get(command))
        if vcpu is not None:
            self._backing.all_changed(vcpu)


def _source(command: int) -> Source:
    return c.COMMAND_DEVICE.get(command), c.COMMAND_EVENT.get(command)
