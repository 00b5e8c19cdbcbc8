"""A whole host in one interpreter: guests with their drivers and vCPUs, the vmm's VMs, devices and bridge.

The objects are those of the real processes, joined as the composition roots join them; only sockets are
missing: doorbells are recorded, and a guest that leaves for the vmm is answered before it looks again.
"""

import mmap
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from testbed.address import GUEST_RAM_GPA, HPA_BASE, Gpa, Hpa
from testbed.e1000.device import E1000
from testbed.guest.drivers.driver import NetDriver
from testbed.guest.drivers.e1000 import E1000Driver
from testbed.guest.drivers.virtio_net import VirtioNetDriver
from testbed.guest.flows import QUIET_NS, Flows
from testbed.guest.gic import GicDriver
from testbed.guest.interrupts import Interrupts
from testbed.guest.nics import NicParts, bring_up
from testbed.guest.ram import RamAllocator
from testbed.guest.senders import Senders
from testbed.guest.vcpu import Vcpu
from testbed.guest.workloads.receiver import Receiver
from testbed.memory.guest import GuestMemory
from testbed.memory.host import HostMemory
from testbed.memory.segment import Segment
from testbed.messages.control import Collect, Expect, FromProcess, Received, Sent, Start
from testbed.messages.entries import E1000Entry, FlowEntry, GuestEntry, ServedEntry, VirtioNetEntry
from testbed.native import Pinned, VirtualCpuInterface, Watch
from testbed.net.bridge import Bridge
from testbed.observe.catalogue import guest_counter_names, vmm_counter_names
from testbed.observe.counters import Counters
from testbed.spec import e1000, vcpu_page, virtio
from testbed.virtio.net import VirtioNet
from testbed.vmm.datapath import Datapath
from testbed.vmm.exits import ExitHandler
from testbed.vmm.vm import Device, Vm
from tests.support.recorders import ManualClock, RecordingDoorbell, RecordingReports

MIB = 1 << 20
RAM_BYTES = 8 * MIB
TABLE_BYTES = 64 << 10
MMIO_GPA = 0x0A00_0000
BAR_GPA = 0x1000_0000
IO_PORT = 0xC000
FIRST_INTID = 48
STALL_NS = 1_000_000_000
_HOST_STRIDE_BYTES = 64 * MIB
_TURNS_MAX = 10_000
_ANSWERS_MAX = 4
_Told = TypeVar("_Told", Sent, Received)


def anonymous(name: str, size_bytes: int, hpa: int = 0) -> Segment:
    """Return a segment that only this process has."""
    return Segment(name, size_bytes, hpa, mmap.mmap(-1, size_bytes))


def mac_text(index: int) -> str:
    """Return the MAC address of guest `index`."""
    return f"02:00:00:00:00:{index + 1:02x}"


def _virtio_net(name: str, mac: str) -> ServedEntry:
    return VirtioNetEntry(name=name, mac=mac, mmio_gpa=MMIO_GPA, intid=FIRST_INTID)


def _e1000(name: str, mac: str) -> ServedEntry:
    return E1000Entry(name=name, mac=mac, bar_gpa=BAR_GPA, io_port=IO_PORT, intid=FIRST_INTID)


class GuestMachine:
    """One guest: RAM, tables and vCPU page, and what runs inside once it is booted."""

    def __init__(self, host: "HostMachine", index: int, nic: ServedEntry) -> None:
        base = Hpa(HPA_BASE + index * _HOST_STRIDE_BYTES)
        self.name, self.host, self.nic_entry = nic.name.partition(".")[0], host, nic
        self.ram = anonymous(f"{self.name}.ram", RAM_BYTES, base)
        self.tables = anonymous(f"{self.name}.stage2", TABLE_BYTES, base + RAM_BYTES)
        self.vcpu_segment = anonymous(f"{self.name}.vcpu", vcpu_page.VCPU_PAGE.size)
        self.page: Pinned = self.vcpu_segment.pinned
        self.entry = GuestEntry(
            name=self.name,
            host="h0",
            index=index,
            memory_bytes=RAM_BYTES,
            ram_gpa=GUEST_RAM_GPA,
            stage2_hpa=self.tables.hpa,
            poll_ns=0,
            nics=(nic,),
        )
        self.counters = Counters(guest_counter_names(1))
        self.kick = RecordingDoorbell(self.page, vcpu_page.BELL_TO_VMM)
        self.vm: Vm
        self.nic_device: Device
        self.exits: ExitHandler
        self.vcpu: Vcpu
        self.allocator: RamAllocator
        self.interrupts: Interrupts
        self.nic_driver: NetDriver
        self.receiver: Receiver
        self.flows: Flows
        self.runnable: dict[Callable[[], bool], None] = {}
        self.said: list[FromProcess] = []
        """What the guest told the launcher."""

    @property
    def nic(self) -> VirtioNetEntry:
        """Its NIC's entry where that is a virtio-net device."""
        assert isinstance(self.nic_entry, VirtioNetEntry)
        return self.nic_entry

    @property
    def device(self) -> VirtioNet:
        """Its NIC's device in the vmm where that is a virtio-net device."""
        assert isinstance(self.nic_device, VirtioNet)
        return self.nic_device

    @property
    def driver(self) -> VirtioNetDriver:
        """Its NIC's driver where that is a virtio-net device."""
        assert isinstance(self.nic_driver, VirtioNetDriver)
        return self.nic_driver

    @property
    def e1000(self) -> E1000:
        """Its NIC's device in the vmm where that is an 82540EM."""
        assert isinstance(self.nic_device, E1000)
        return self.nic_device

    @property
    def e1000_driver(self) -> E1000Driver:
        """Its NIC's driver where that is an 82540EM."""
        assert isinstance(self.nic_driver, E1000Driver)
        return self.nic_driver

    def power_on(self) -> None:
        """Give the guest a vCPU and zeroed RAM; a device that is up is reset first."""
        memory = GuestMemory(HostMemory([self.ram, self.tables]), Hpa(self.entry.stage2_hpa))
        self.vcpu = Vcpu(self.page, memory, self.kick, self._leave, self.counters)
        self.allocator = RamAllocator(memory, Gpa(self.entry.ram_gpa), RAM_BYTES)
        gic = GicDriver(self.vcpu, VirtualCpuInterface(self.page))
        self.interrupts = Interrupts(gic, self.vcpu, self.counters, self.host.clock)
        if isinstance(self.nic_device, VirtioNet) and self.device.device.status:
            self.vcpu.store(self.nic.mmio_gpa + virtio.MMIO["Status"].offset, 0)
            self.ram.view[:] = bytes(RAM_BYTES)

    def boot(self) -> None:
        """Bring the NIC up with our own driver."""
        self.power_on()
        self.interrupts.driver.start()
        parts = NicParts(self.vcpu, self.allocator, self.counters, self.interrupts, self._wait)
        self.nic_driver = bring_up(parts, self.nic_entry, 0)
        self.receiver = Receiver(self.nic_driver, self.counters, "nic0.foreign_frames", self.host.clock)
        self.runnable.clear()
        self.flows = Flows(Senders(self), [self.receiver], self.said.append, self.host.clock)

    def take(self) -> bool:
        """Take what has arrived, a burst a queue; say whether there was any."""
        ready = [queue for queue in self.nic_driver.queues if queue.rx_watch.ready]
        return sum(self.receiver.step(queue) for queue in ready) > 0

    def turn(self) -> bool:
        """Run the guest's flows one step and take what has arrived; say whether anything moved."""
        moved = False
        for action in tuple(self.runnable):
            moved |= action()
        moved |= self.take()
        self.flows.tick()
        return moved

    def rest(self) -> bool:
        """Do what a guest does before it sleeps, and take the interrupts; say whether it has work."""
        return self.nic_driver.before_sleep() | self.interrupts.take()

    def told(self, kind: type[_Told], flow_id: int) -> _Told:
        """Return what the guest told of a flow last."""
        return next(m for m in reversed(self.said) if isinstance(m, kind) and m.flow_id == flow_id)

    def dropped(self, reason: str) -> int:
        """Return how many frames the guest's port counts as dropped."""
        return self.host.counters[f"{self.nic_entry.name}.dropped.{reason}"]

    def faults(self, reason: str) -> int:
        """Return how often the guest's port counts a fault."""
        return self.host.counters[f"{self.nic_entry.name}.fault.{reason}"]

    def _wait(self, ready: Callable[[], bool]) -> None:
        for _ in range(_ANSWERS_MAX):
            if ready():
                return
            self.host.turn()
        raise AssertionError("the vmm did not do it")

    def _leave(self, ready: Callable[[], bool]) -> None:
        for _ in range(_ANSWERS_MAX):
            if ready():
                return
            self.answer()
        raise AssertionError("the exit was not answered")

    def answer(self) -> bool:
        """Answer an exit; a guest that has spent its time waits until there is more."""
        if self.exits.handle():
            return True
        pace = self.vm.pace
        due_ns = pace.deadline_ns()
        if due_ns is None:
            return False
        self.host.clock.advance(max(0, due_ns - self.host.clock()))
        return pace.resume(self.host.clock()) and self.exits.handle()


class HostMachine:
    """One host: the vmm's objects and the guests that run on it."""

    def __init__(
        self,
        *names: str,
        stall_ns: int = STALL_NS,
        boot: bool = True,
        nics: Mapping[str, dict[str, object]] | None = None,
        **nic: object,
    ) -> None:
        """`nic` is what every guest's NIC has other than by default, `nics` what some have beyond that."""
        self.clock = ManualClock()
        self.reports = RecordingReports()
        self.watch: Watch[Callable[[], bool]] = Watch()
        self.bridge = Bridge(stall_ns, clock=self.clock)
        self.datapath = Datapath(self.watch, self.bridge)
        ports = [f"{name}.nic0" for name in names]
        maps = (virtio.MMIO, e1000.REGISTERS, e1000.IO_REGISTERS)
        self.counters = Counters(vmm_counter_names(ports, dict.fromkeys(ports, maps)))
        own = nics or {}
        self.guests = [self._add(name, i, {**nic, **own.get(name, {})}) for i, name in enumerate(names)]
        for guest in self.guests if boot else ():
            guest.boot()

    def _add(self, name: str, index: int, changes: dict[str, object]) -> GuestMachine:
        kind = changes.pop("kind", "virtio-net")
        entry = {"virtio-net": _virtio_net, "e1000": _e1000}[str(kind)](f"{name}.nic0", mac_text(index))
        guest = GuestMachine(self, index, msgspec.structs.replace(entry, **changes))
        bell = RecordingDoorbell(guest.page, vcpu_page.BELL_TO_VCPU)
        segments = guest.ram, guest.tables, guest.vcpu_segment
        vm = Vm(guest.entry, *segments, self.counters, [bell], self.reports, self.clock)
        guest.vm, guest.exits = vm, vm.exits[0]
        self.watch.add(guest.exits.requests, guest.exits.handle)
        guest.nic_device = self._device(vm, guest.nic_entry)
        offset = self.counters.offset(f"{guest.nic_entry.name}.frames_in")
        self.datapath.attach(guest.nic_device, vm.counter_page(), offset)
        return guest

    def _device(self, vm: Vm, nic: ServedEntry) -> Device:
        if isinstance(nic, VirtioNetEntry):
            return vm.add_virtio_net(nic, self.datapath.changed, self.reports)
        return vm.add_e1000(nic, self.datapath.changed, self.reports, self.clock)

    def turn(self) -> bool:
        """Let the vmm do what there is to do once; say whether anything moved."""
        moved = False
        for action in self.watch.ready():
            moved |= action()
        return moved

    def settle(self, *awake: GuestMachine) -> None:
        """Run the vmm and the guests that are awake (all where none is named) until nothing moves."""
        for _ in range(_TURNS_MAX):
            moved = self.turn()
            for guest in awake or self.guests:
                moved |= guest.turn()
                moved |= guest.rest() if isinstance(guest.nic_device, E1000) else False
            if not moved:
                return
        raise AssertionError("the machine does not come to rest")

    def flow(self, source: str, destination: str, number: int = 1, **changes: object) -> FlowEntry:
        """Return a flow of 100 frames of 60 bytes between two guests."""
        ends = {guest.name: guest.nic_entry.mac for guest in self.guests}
        entry = FlowEntry(
            id=number,
            name=f"{source}->{destination}",
            kind="pktgen",
            source=source,
            destination=destination,
            source_mac=ends[source],
            destination_mac=ends[destination],
            frame_bytes=(60,),
            count=100,
        )
        return msgspec.structs.replace(entry, **changes)

    def start(self, *flows: FlowEntry) -> None:
        """Have the receivers expect the flows and the senders begin, as the launcher does."""
        for flow in flows:
            self.guest(flow.destination).flows.handle(Expect(flow=flow))
        for flow in flows:
            self.guest(flow.source).flows.handle(Start(flow=flow))

    def finish(self, flow: FlowEntry) -> tuple[Sent, Received]:
        """Let a flow come to its end and return both accounts; what is missing then is lost."""
        self.settle()
        source, destination = self.guest(flow.source), self.guest(flow.destination)
        sent = source.told(Sent, flow.id)
        destination.flows.handle(Collect(flow_id=flow.id, sent=sent.sent))
        destination.flows.tick()
        self.clock.advance(QUIET_NS)
        destination.flows.tick()
        return sent, destination.told(Received, flow.id)

    def run(self, flow: FlowEntry) -> tuple[Sent, Received]:
        """Run one flow from start to end."""
        self.start(flow)
        return self.finish(flow)

    def guest(self, name: str) -> GuestMachine:
        """Return a guest by its name."""
        return next(guest for guest in self.guests if guest.name == name)
