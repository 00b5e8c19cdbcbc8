"""A guest: one virtual machine.

Composition root: opens sockets, maps segments, brings the NICs up and runs the loop. Reference: design,
"Processes, and what each can touch". Not modelled: more than one vCPU.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from testbed.address import Gpa, Hpa
from testbed.errors import StopRequested, VirtbedError
from testbed.guest.dma_faults import DmaFaults
from testbed.guest.drivers.vhost_user import SharedRam
from testbed.guest.flows import Flows
from testbed.guest.gic import GicDriver
from testbed.guest.hypervisor import find_hypervisor
from testbed.guest.interrupts import Interrupts
from testbed.guest.iova import GuestIommu
from testbed.guest.mmio import RegisterBlock
from testbed.guest.nics import NicParts, Outside, bring_up, sleep_hook
from testbed.guest.ram import RamAllocator
from testbed.guest.tap import TapJoint
from testbed.guest.vcpu import Vcpu
from testbed.guest.vf import VfParts
from testbed.guest.workloads.receiver import Receiver
from testbed.memory.guest import GuestMemory
from testbed.memory.host import HostMemory
from testbed.messages.control import Failed, GuestReport
from testbed.messages.entries import GuestEntry, ProcessPlan, TapEntry, VfEntry, VirtioNetEntry
from testbed.messages.process import ProcessParts
from testbed.native import Bell, Tap, VirtualCpuInterface
from testbed.spec import vcpu_page

_EXIT_SPIN_NS: Final = 20_000
"""How long an exit is waited for natively before the loop's own waiting, where the guest polls at all."""


class Guest:
    """The machine that a guest's software sees: a vCPU, RAM and NICs."""

    def __init__(
        self, parts: ProcessParts, entry: GuestEntry, files: Mapping[str, int], ram_file: int | None
    ) -> None:
        self._parts, self._entry, self._loop = parts, entry, parts.loop
        segments = parts.segments
        page = segments[f"{entry.name}.vcpu"].pinned
        memory = GuestMemory(
            HostMemory(segment for segment in segments.values() if segment.hpa),
            Hpa(entry.stage2_hpa),
        )
        self._kick = parts.doorbell(Bell(page, vcpu_page.BELL_TO_VMM), f"vmm-{entry.host}")
        self._loop.watch.add_bell(Bell(page, vcpu_page.BELL_TO_VCPU))
        spin_ns = _EXIT_SPIN_NS if entry.poll_ns else 0
        vcpu = self._vcpu = Vcpu(page, memory, self._kick, self._loop.wait_for, parts.counters, spin_ns)
        self.hypervisor = find_hypervisor(vcpu)
        self._joined = {tap.nic for tap in entry.taps}
        ram = RamAllocator(memory, Gpa(entry.ram_gpa), entry.memory_bytes)
        gic = GicDriver(vcpu, VirtualCpuInterface(page))
        self._interrupts = Interrupts(gic, vcpu, parts.counters)
        gic.interface.enter()
        gic.start()
        self._functions = self._function_parts(memory, ram)
        self._nic_parts = NicParts(
            vcpu,
            ram,
            parts.counters,
            self._interrupts,
            self._loop.wait_for,
            None if ram_file is None else Outside(self._shared_ram(ram_file), self._loop.descriptors),
            self._functions,
        )
        self._receivers = [self._bring_up(index) for index in range(len(entry.nics))]
        self._joints = [self._join(tap, files[tap.descriptor]) for tap in entry.taps]
        self._loop.watch.add(self._interrupts.watched, self._interrupts.take)
        self.flows = Flows(self._loop, self._receivers, parts.control.send)
        self._loop.on_control = self.flows.handle
        self._loop.deadline = self._deadline_ns
        self._loop.on_tick = self._tick
        self._loop.before_sleep = sleep_hook([receiver.driver for receiver in self._receivers])

    def _function_parts(self, memory: GuestMemory, ram: RamAllocator) -> VfParts | None:
        if not any(isinstance(nic, VfEntry) for nic in self._entry.nics):
            return None
        if self._entry.interrupts == "direct":
            self._interrupts.driver.start_lpis(ram)

        def doorbell(bell: Bell, process: str) -> Callable[[], None]:
            return self._parts.doorbell(bell, process).ring

        counters, listen = self._parts.counters, self._loop.watch.add_bell
        iommu = self._start_smmu(memory, ram)
        return VfParts(memory, ram, counters, self._interrupts, self._loop.wait_for, doorbell, listen, iommu)

    def _start_smmu(self, memory: GuestMemory, ram: RamAllocator) -> GuestIommu | None:
        """Bring the guest's own SMMU up, where it has one."""
        entry = self._entry.smmu
        if entry is None:
            return None
        iommu = GuestIommu(RegisterBlock(self._vcpu, entry.gpa), memory, ram)
        devices = {nic.guest_stream: nic.name for nic in self._entry.nics if isinstance(nic, VfEntry)}
        faults = DmaFaults(iommu, devices, self._parts.counters, self._report)
        for intid, handler in zip((entry.event_intid, entry.error_intid), faults.handlers, strict=True):
            self._interrupts.driver.enable_spi(intid, edge=True)
            self._interrupts.on_edge(intid, handler, "interrupts.smmu")
        iommu.start()
        return iommu

    def _shared_ram(self, descriptor: int) -> SharedRam:
        ram = self._parts.segments[f"{self._entry.name}.ram"]
        return SharedRam(descriptor, ram.size_bytes, self._entry.ram_gpa, ram.pinned.address)

    def _bring_up(self, index: int) -> Receiver:
        driver = bring_up(self._nic_parts, self._entry.nics[index], index)
        receiver = Receiver(driver, self._parts.counters, f"nic{index}.foreign_frames")
        if index not in self._joined:
            for queue in driver.queues:
                self._loop.watch.add(queue.rx_watch, partial(receiver.step, queue))
                self._loop.watch.add(queue.tx_watch, partial(receiver.answer_waiting, queue))
                queue.tx_watch.active = False  # looked at only while a sender waits for room
        return receiver

    def _join(self, entry: TapEntry, descriptor: int) -> TapJoint:
        """Let a network stack have a NIC: no receiver of ours looks at its frames."""
        driver, tap = self._receivers[entry.nic].driver, Tap(descriptor, entry.offload)
        report = partial(self._report, self._entry.nics[entry.nic].name, "tap_gone")
        joint = TapJoint(driver, tap, self._parts.counters, f"tap{entry.nic}", report)
        for queue in driver.queues:
            self._loop.watch.add(queue.rx_watch, partial(joint.receive, queue))
        self._loop.watch.add(driver.tx_watch, joint.room)
        self._loop.watch_file(descriptor, tap, joint.send)
        return joint

    def _report(self, device: str, reason: str, detail: str) -> None:
        report = GuestReport(guest=self._entry.name, device=device, reason=reason, detail=detail)
        self._parts.control.send(report)

    def _deadline_ns(self) -> int | None:
        deadlines = (self.flows.deadline_ns(), self._interrupts.deadline_ns())
        return min((at for at in deadlines if at is not None), default=None)

    def _tick(self) -> None:
        self._interrupts.serve()
        self.flows.tick()
        for joint in self._joints:
            joint.count()
        counters = self._parts.counters
        counters.set("bell.asked", self._kick.asked)
        counters.set("bell.sent", self._kick.sent)


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Run the guest until it is told to stop."""
    entry = plan.entry
    assert isinstance(entry, GuestEntry)
    # mapping the segments closes their descriptors: that of the RAM is kept for back ends in other processes
    shares = any(isinstance(nic, VirtioNetEntry) and nic.vhost_user for nic in entry.nics)
    ram_file = os.dup(descriptors[f"{entry.name}.ram"]) if shares else None
    parts = ProcessParts(plan, descriptors, run_dir)
    try:
        with suppress(StopRequested):
            Guest(parts, entry, descriptors, ram_file)
            parts.ready()
            parts.loop.run()
    except VirtbedError as error:
        parts.control.send(Failed(reason=str(error)))
        raise
    finally:
        parts.close()
