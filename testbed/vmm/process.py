"""The vmm: hypervisor back end of one host.

Composition root: opens sockets, maps segments, builds the objects and runs the loop. Reference: design,
"Processes, and what each can touch". Not modelled: guests that come or go while it runs.
"""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

from testbed.deadline import earliest
from testbed.e1000.device import E1000
from testbed.memory.segment import Segment
from testbed.messages.control import (
    Guard,
    GuestReport,
    Inspect,
    InspectInterrupts,
    InterruptState,
    PeerDied,
    SetVf,
    ShowVfs,
    StartCapture,
    StopCapture,
    ToProcess,
)
from testbed.messages.doorbell import Doorbell, vcpu_inbox
from testbed.messages.entries import (
    E1000Entry,
    ExternalEntry,
    GuestEntry,
    PhysicalNicEntry,
    ProcessPlan,
    ServedEntry,
    VfEntry,
    VirtioNetEntry,
    VmmEntry,
)
from testbed.messages.process import ProcessParts, process_parts
from testbed.native import Bell, Pinned
from testbed.net.bridge import Bridge
from testbed.net.port import Port
from testbed.net.reflect import Echo, Sink
from testbed.pci.bar_window import Requester
from testbed.spec import vcpu_page
from testbed.spec.bar_window import BELL_TO_DEVICE, BELL_TO_DRIVER
from testbed.virtio.vhost_user.net import VhostUserNet
from testbed.vmm.datapath import Datapath
from testbed.vmm.exit_pace import ExitPace
from testbed.vmm.exits import Report
from testbed.vmm.external import ExternalGuest
from testbed.vmm.guarded import GuardedPages, Stage2
from testbed.vmm.host_iommu import HostIommu
from testbed.vmm.host_lpis import HostLpis
from testbed.vmm.interposers import Interposers
from testbed.vmm.interrupt_line import SpiEdge
from testbed.vmm.interrupt_state import vcpu_states
from testbed.vmm.its_driver import ItsDriver
from testbed.vmm.passthrough import HostParts, Passthrough, PhysicalMemory
from testbed.vmm.pf_driver import PfDriver
from testbed.vmm.pf_uplink import PfUplink, UplinkConfig
from testbed.vmm.sink_flows import SinkFlows
from testbed.vmm.vf_control import VfControl
from testbed.vmm.vm import Device, Vm, net_config


class Vmm:
    """The VMs of one host and the bridge between them."""

    def __init__(self, parts: ProcessParts, entry: VmmEntry) -> None:
        self._parts, self._loop = parts, parts.loop
        self.bridge = Bridge(entry.bridge.stall_ns, entry.bridge.table_size)
        self.datapath = Datapath(self._loop.watch, self.bridge)
        self.interposers = Interposers(self.bridge, parts.control.send)
        self._reported: set[tuple[str, str, str]] = set()
        self._timed: list[E1000] = []
        """Devices that have something to do when a time comes."""
        self._paced: list[ExitPace] = []
        """Guests whose exits wait for their time."""
        self.sinks: dict[str, Sink] = {}
        self.flows = SinkFlows(self.sinks, parts.control.send)
        self.functions = VfControl(parts.control.send)
        self.vms = [self._add_vm(guest) for guest in entry.guests]
        self.externals = [self._add_external(external) for external in entry.externals]
        ours = (nic.name for vm in self.vms for nic in vm.nics)
        self._ports: tuple[str, ...] = (*ours, *(external.device.name for external in self.externals))
        self.passthrough = self._passthrough(entry) if entry.iommu else None
        self.guarded = self._guarded()
        if self.passthrough is not None:
            self._ports += tuple(self.passthrough.uplinks)
        self._loop.deadline = self._deadline_ns
        self._loop.on_control = self._control
        self._loop.on_tick = self._tick

    def _add_vm(self, guest: GuestEntry) -> Vm:
        segments = self._parts.segments
        vcpu = segments[f"{guest.name}.vcpu"]
        bells = [self._bell(guest, vcpu.pinned, number) for number in range(guest.vcpus)]
        ram, tables = segments[f"{guest.name}.ram"], segments[f"{guest.name}.stage2"]

        def report(device: str, reason: str, detail: str) -> None:
            self._report(guest.name, device, reason, detail)

        vm = Vm(guest, ram, tables, vcpu, self._parts.counters, bells, report)
        vm.pace.on_spent = self._paced.append
        for exits, bell in zip(vm.exits, vm.from_guest, strict=True):
            self._loop.watch.add(exits.requests, exits.handle)
            self._loop.watch.add_bell(bell)
        for nic in guest.nics:
            if isinstance(nic, VfEntry) or nic.backend == "peer":
                continue
            self._attach(nic, self._add_device(vm, nic, report), vm.counter_page(), report)
        return vm

    def _bell(self, guest: GuestEntry, pages: Pinned, number: int) -> Doorbell:
        """Return what rings a vCPU."""
        bell = Bell(pages, number * vcpu_page.VCPU_PAGE.size + vcpu_page.BELL_TO_VCPU)
        return self._parts.doorbell(bell, vcpu_inbox(guest.name, number))

    def _add_device(self, vm: Vm, nic: ServedEntry, report: Report) -> Device:
        match nic:
            case VirtioNetEntry():
                return vm.add_virtio_net(nic, self.datapath.changed, report)
            case E1000Entry():
                device = vm.add_e1000(nic, self.datapath.changed, report)
                self._timed.append(device)
                return device

    def _add_external(self, entry: ExternalEntry) -> ExternalGuest:
        nic, counters = entry.nic, self._parts.counters
        page = Pinned(counters.buffer)

        def report(reason: str, detail: str) -> None:
            self._report(entry.name, nic.name, reason, detail)

        device = VhostUserNet(
            net_config(nic),
            page,
            counters.offset(f"{nic.name}.frames_in"),
            lambda: self.datapath.changed(device),
            report,
        )
        self._attach(nic, device, page, lambda _device, reason, detail: report(reason, detail))
        path = entry.socket or f"{self._parts.run_dir}/{entry.name}.sock"
        journal = self._parts.segments.get(entry.journal)
        return ExternalGuest(
            device, self._loop.peers, path, entry.listens, report, journal.pinned if journal else None
        )

    def _passthrough(self, entry: VmmEntry) -> Passthrough:
        """Bring the host's IOMMU and NICs up, and give guests their functions."""
        passthrough = Passthrough(self._host_parts(entry))
        passthrough.start()
        for nic in entry.physical:
            memory = self._parts.segments[nic.memory]
            driver = passthrough.add_nic(nic, self._requester(nic), memory)
            if nic.uplink:
                self._join(passthrough, driver, memory)
        for vm in self.vms:
            if f"{vm.name}.vpt" in self._parts.segments:
                self._lead_directly(passthrough, vm)
            for vf in vm.entry.nics:
                if isinstance(vf, VfEntry):
                    self._give(passthrough, vm, vf)
            if vm.entry.smmu is not None:
                vm.add_smmu(vm.entry.smmu, passthrough.stage1_of(vm), self._loop.runnable)
        for driver in passthrough.nics:
            self.functions.add(driver, self._owners(driver.config.name))
        self._loop.before_sleep = passthrough.before_sleep
        return passthrough

    def _guarded(self) -> GuardedPages:
        """Return who watches pages while a guest attacks: there are attacks only where there is an IOMMU."""
        segments = self._parts.segments
        guests = {vm.name: Stage2(vm.stage2, segments[f"{vm.name}.ram"]) for vm in self.vms}

        def own() -> tuple[int, memoryview]:
            assert self.passthrough is not None
            return self.passthrough.take_page()

        def forget(guest: str, gpa: int, length_bytes: int) -> None:
            assert self.passthrough is not None
            self.passthrough.forget_range(guest, gpa, length_bytes)

        return GuardedPages(guests, own, forget, self._parts.control.send)

    def _owners(self, nic: str) -> dict[int, str]:
        """Return the guests that have functions of a NIC, by number."""
        return {
            vf.number: vm.name
            for vm in self.vms
            for vf in vm.entry.nics
            if isinstance(vf, VfEntry) and vf.nic == nic
        }

    def _join(self, passthrough: Passthrough, driver: PfDriver, memory: Segment) -> None:
        """Make a NIC's own queues the bridge's way to the wire."""
        counters, page = self._parts.counters, Pinned(self._parts.counters.buffer)
        offset = counters.offset(f"{driver.config.name}.frames_in")

        def changed() -> None:
            self.datapath.changed(uplink)

        driver.set_uplink_addresses([port.port.mac for port in self.bridge.attachments.values()])
        uplink = PfUplink(driver, PhysicalMemory(memory), page, offset, changed, UplinkConfig())
        self.datapath.attach(uplink, page, offset)
        passthrough.join(uplink)

    def _host_parts(self, entry: VmmEntry) -> HostParts:
        segments, watch = self._parts.segments, self._loop.watch
        window = segments[f"{entry.iommu}.window"].pinned

        def report(guest: str, device: str, reason: str, detail: str) -> None:
            self._report(guest or entry.name, device, reason, detail)

        ring = self._parts.doorbell(Bell(window, BELL_TO_DEVICE), entry.iommu).ring
        tables = segments[f"{entry.iommu}.tables"]
        wait, runnable = self._loop.wait_for, self._loop.runnable
        iommu = HostIommu(window, tables, ring, wait, report, runnable, self._is_gone(entry.iommu))
        for wire, action in iommu.wires:
            watch.add(wire, action)
        watch.add_bell(iommu.from_iommu)
        lpis = HostLpis(segments[f"{entry.iommu}.lpis"].pinned)
        watch.add(lpis.watched, lpis.take)
        watch.add_bell(lpis.bell)
        its = ItsDriver(iommu.its, iommu.redistributor, iommu.memory, iommu.arena.allocate)
        return HostParts(iommu, its, lpis, entry.its_hpa, report, entry.iommu, entry.iommu_bypass)

    def _requester(self, nic: PhysicalNicEntry) -> Requester:
        """Return the vmm's window to a NIC."""
        window = self._parts.segments[nic.window].pinned
        bell = self._parts.doorbell(Bell(window, BELL_TO_DEVICE), nic.name)
        self._loop.watch.add_bell(Bell(window, BELL_TO_DRIVER))
        return Requester(window, bell.ring, self._loop.wait_for, is_gone=self._is_gone(nic.name))

    def _is_gone(self, process: str) -> Callable[[], bool]:
        return lambda: process in self._loop.gone

    def _give(self, passthrough: Passthrough, vm: Vm, vf: VfEntry) -> None:
        if vm.entry.interrupts != "direct":
            counters = self._parts.counters
            edges = [SpiEdge(vm.vgic, intid, counters, "interrupts.vf") for intid in vf.intids]
            passthrough.route_edges(vf.stream, edges)
        passthrough.give(vf, vm, self._parts.segments[vf.window])

    def _lead_directly(self, passthrough: Passthrough, vm: Vm) -> None:
        """Give a guest whose functions' interrupts the ITS injects an ITS of its own."""
        events, devices = passthrough.direct.add(vm, self._parts.segments[f"{vm.name}.vpt"])
        vm.add_its(events, devices, partial(self._report, vm.name), self._loop.runnable)

    def _attach(self, nic: ServedEntry, device: Port, counters: Pinned, report: Report) -> None:
        offset = self._parts.counters.offset(f"{device.name}.frames_in")
        match nic.backend:
            case "bridge":
                attachment = self.datapath.attach(device, counters, offset)
                self.interposers.add(
                    nic, attachment, lambda reason, detail: report(device.name, reason, detail)
                )
            case "sink":
                self.sinks[device.name] = sink = Sink(device, counters, offset)
                self.datapath.attach_to(device, sink)
            case "echo":
                self.datapath.attach_to(device, Echo(device, counters, offset))

    def _tell_interrupts(self, inspection_id: int) -> None:
        segments = self._parts.segments
        found = (
            state
            for vm in self.vms
            for state in vcpu_states(
                vm.name, vm.entry.interrupts, segments[f"{vm.name}.vcpu"].view, vm.vgic.cpus
            )
        )
        self._parts.control.send(InterruptState(inspection_id=inspection_id, vcpus=tuple(found)))

    def _control(self, message: ToProcess) -> None:
        match message:
            case StartCapture():
                self.interposers.start_capture(message)
            case StopCapture():
                self.interposers.stop_capture(message.capture_id)
            case ShowVfs() | SetVf():
                self.functions.handle(message)
            case InspectInterrupts():
                self._tell_interrupts(message.inspection_id)
            case PeerDied():
                if self.passthrough is not None:
                    self.passthrough.lose(message.name)
            case Guard():
                self.guarded.guard(message)
            case Inspect():
                self.guarded.inspect(message)
            case _:
                self.flows.handle(message)

    def _deadline_ns(self) -> int | None:
        due = [self.bridge.deadline_ns(), self.flows.deadline_ns(), self.interposers.deadline_ns()]
        due += [device.deadline_ns() for device in self._timed]
        due += [external.deadline_ns() for external in self.externals]
        due += [pace.deadline_ns() for pace in self._paced]
        if self.passthrough is not None:
            due.append(self.passthrough.deadline_ns())
        return earliest(due)

    def _tick(self) -> None:
        self._run_timers()
        self.datapath.tick()
        self.flows.tick()
        self.interposers.tick()
        for external in self.externals:
            external.tick()
        counters = self._parts.counters
        counters.set("bell.asked", sum(bell.asked for vm in self.vms for bell in vm.bells))
        counters.set("bell.sent", sum(bell.sent for vm in self.vms for bell in vm.bells))
        sinks = self.sinks.values()
        frames = sum(counters[f"{port}.frames_out"] for port in self._ports)
        counters.set("frames_copied", frames + sum(sink.frames for sink in sinks))
        copied = sum(counters[f"{port}.bytes_out"] for port in self._ports)
        self.functions.count(counters)
        counters.set("bytes_copied", copied + sum(sink.byte_count for sink in sinks))

    def _run_timers(self) -> None:
        if self.passthrough is not None:
            self.passthrough.on_timer(time.monotonic_ns())
        if self._paced:
            now_ns = time.monotonic_ns()
            self._paced[:] = [pace for pace in self._paced if not pace.resume(now_ns)]
        for device in self._timed:
            due_ns = device.deadline_ns()
            if due_ns is not None and due_ns <= (now_ns := time.monotonic_ns()):
                device.on_timer(now_ns)

    def close(self) -> None:
        """End every capture, so that its file is whole, and let go of guests that are not ours."""
        self.interposers.close()
        for external in self.externals:
            external.close()

    def _report(self, guest: str, device: str, reason: str, detail: str) -> None:
        """Tell the launcher once for each kind; the counters have them all."""
        if (guest, device, reason) not in self._reported:
            self._reported.add((guest, device, reason))
            self._parts.control.send(GuestReport(guest=guest, device=device, reason=reason, detail=detail))


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Run the vmm until it is told to stop."""
    entry = plan.entry
    assert isinstance(entry, VmmEntry)
    peers = sum(guest.vcpus for guest in entry.guests) + len(entry.physical) + 1
    with process_parts(plan, descriptors, run_dir, peers) as parts, closing(Vmm(parts, entry)):
        parts.serve()
