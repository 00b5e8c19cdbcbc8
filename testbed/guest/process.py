"""A guest: one virtual machine.

Composition root: opens sockets, maps segments, brings vCPUs and NICs up and runs the loop of the first vCPU;
each further one has a thread with a loop of its own. Reference: design, "Processes, and what each can touch".
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from threading import Thread
from typing import Final

from testbed.address import Gpa, Hpa
from testbed.deadline import earliest
from testbed.errors import StopRequested
from testbed.guest.attacks import Attacks
from testbed.guest.dma_faults import DmaFaults
from testbed.guest.drivers.igbvf import IgbVfDriver
from testbed.guest.drivers.vhost_user import SharedRam
from testbed.guest.flows import Flows
from testbed.guest.hypervisor import find_hypervisor
from testbed.guest.iova import GuestIommu
from testbed.guest.mmio import RegisterBlock
from testbed.guest.nics import NicParts, Outside, bring_up, check_driver, sleep_hook
from testbed.guest.processor import Processor, Secondary, VcpuSpread
from testbed.guest.ram import RamAllocator
from testbed.guest.tap import TapJoint
from testbed.guest.vectors import LpiRoutes, Routes, SpiRoutes, Vectors
from testbed.guest.vf import VfParts
from testbed.guest.workloads.receiver import Receiver
from testbed.memory.guest import GuestMemory
from testbed.memory.host import HostMemory
from testbed.messages.control import GuestReport, PeerDied, ToProcess
from testbed.messages.doorbell import vcpu_inbox
from testbed.messages.entries import GuestEntry, ProcessPlan, TapEntry, VfEntry, VirtioNetEntry
from testbed.messages.process import ProcessParts, ThreadParts, process_parts
from testbed.native import Bell, Pinned, Tap, trace
from testbed.observe.catalogue import vcpu_counters
from testbed.spec import vcpu_page

_EXIT_SPIN_NS: Final = 20_000
"""How long an exit is waited for natively before the loop's own waiting, where the guest polls at all."""


class Guest:
    """The machine that a guest's software sees: vCPUs, RAM and NICs. `start` brings it up, `close` ends its
    threads.
    """

    def __init__(
        self, parts: ProcessParts, entry: GuestEntry, files: Mapping[str, int], ram_file: int | None
    ) -> None:
        self._parts, self._entry, self._loop = parts, entry, parts.loop
        self._files, self._ram_file = files, ram_file
        self._memory = GuestMemory(
            HostMemory(segment for segment in parts.segments.values() if segment.hpa),
            Hpa(entry.stage2_hpa),
        )
        self._joined = {tap.nic for tap in entry.taps}
        self._receivers: list[Receiver] = []
        self._joints: list[TapJoint] = []
        self._first = self._processor()
        self._threads = [VcpuThread(self._secondary(n), self._first) for n in range(1, entry.vcpus)]

    def _processor(self) -> Processor:
        page, bell = self._page(0)
        kick = self._parts.doorbell(bell, f"vmm-{self._entry.host}")
        self._loop.watch.add_bell(Bell(page, vcpu_page.BELL_TO_VCPU))
        return Processor(0, page, self._memory, kick, self._loop, self._parts.counters, self._spin_ns)

    def _secondary(self, number: int) -> tuple[Secondary, ThreadParts]:
        page, bell = self._page(number)
        counters = self._parts.counters.block(vcpu_counters(number))
        thread = ThreadParts(self._parts, vcpu_inbox(self._entry.name, number), counters)
        kick = thread.doorbell(bell, f"vmm-{self._entry.host}")
        thread.loop.watch.add_bell(Bell(page, vcpu_page.BELL_TO_VCPU))
        return Secondary(number, page, self._memory, kick, thread.loop, counters, self._spin_ns), thread

    @property
    def _spin_ns(self) -> int:
        return _EXIT_SPIN_NS if self._entry.poll_ns else 0

    def _page(self, number: int) -> tuple[Pinned, Bell]:
        """Return a vCPU's page and what rings the vmm from there."""
        pages = self._parts.segments[f"{self._entry.name}.vcpu"].view
        page = Pinned(pages[number * vcpu_page.VCPU_PAGE.size :][: vcpu_page.VCPU_PAGE.size])
        return page, Bell(page, vcpu_page.BELL_TO_VMM)

    def start(self) -> None:
        """Bring vCPUs, then NICs up; any error of either is raised here or in the loop."""
        entry, first, loop = self._entry, self._first, self._loop
        self.hypervisor = find_hypervisor(first.vcpu)
        first.start(has_peers=bool(self._threads))
        ram = RamAllocator(self._memory, Gpa(entry.ram_gpa), entry.memory_bytes)
        routes = self._routes(ram)
        for thread in self._threads:
            thread.start()
        if self._threads:
            loop.wait_for(lambda: all(thread.is_up for thread in self._threads))
        spread = VcpuSpread(self._processors)
        functions = self._function_parts(self._memory, ram, routes)
        for index in range(len(entry.nics)):
            self._receivers.append(
                self._bring_up(index, self._nic_parts(index, ram, functions, spread), spread)
            )
        self._joints += [self._join(tap, self._files[tap.descriptor]) for tap in entry.taps]
        first.run_interrupts()
        self.flows = Flows(first.senders, self._receivers, self._parts.control.send)
        self.flows.share(spread.senders(), first.calls.post)
        drivers = [receiver.driver for receiver in self._receivers]
        self._attacks = Attacks(loop, entry, drivers, ram, self._parts.control.send)
        loop.on_control = self._control
        loop.deadline = self._deadline_ns
        loop.on_tick = self._tick
        loop.before_sleep = sleep_hook(drivers)

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads:
            thread.close()
        self._first.calls.close()

    def _nic_parts(
        self, index: int, ram: RamAllocator, functions: VfParts | None, spread: VcpuSpread
    ) -> NicParts:
        return NicParts(
            self._first.vcpu,
            ram,
            self._parts.counters,
            self._first.interrupts,
            self._loop.wait_for,
            None
            if self._ram_file is None
            else Outside(self._shared_ram(self._ram_file), self._loop.descriptors, self._loop.wait_seconds),
            functions,
            # a network stack's frames are all moved by the first vCPU
            spread if self._threads and index not in self._joined else None,
        )

    @property
    def _processors(self) -> Sequence[Processor]:
        return (self._first, *(thread.processor for thread in self._threads))

    def _routes(self, ram: RamAllocator) -> Routes | None:
        """Return how functions' vectors lead to vCPUs; before any vCPU but the first runs."""
        if not any(isinstance(nic, VfEntry) for nic in self._entry.nics):
            return None
        drivers = [processor.interrupts.driver for processor in self._processors]
        if self._entry.interrupts == "direct":
            return LpiRoutes(self._first.vcpu, self._memory, ram, drivers)
        return SpiRoutes(drivers[0])

    def _function_parts(
        self, memory: GuestMemory, ram: RamAllocator, routes: Routes | None
    ) -> VfParts | None:
        if routes is None:
            return None
        interrupts = [processor.interrupts for processor in self._processors]
        post = self._first.calls.post

        def vectors(nic: VfEntry) -> Vectors:
            affinity = nic.affinity or (0,) * len(nic.intids)
            return Vectors(routes, interrupts, post, nic.guest_stream, nic.intids, affinity)

        doorbell = self._parts.doorbell
        counters, listen = self._parts.counters, self._loop.watch.add_bell
        iommu = self._start_smmu(memory, ram)
        return VfParts(
            memory,
            ram,
            counters,
            vectors,
            self._loop.wait_for,
            doorbell,
            listen,
            lambda process: process in self._loop.gone,
            iommu,
        )

    def _start_smmu(self, memory: GuestMemory, ram: RamAllocator) -> GuestIommu | None:
        """Bring the guest's own SMMU up, where it has one."""
        entry = self._entry.smmu
        if entry is None:
            return None
        iommu = GuestIommu(RegisterBlock(self._first.vcpu, entry.gpa), memory, ram)
        devices = {nic.guest_stream: nic.name for nic in self._entry.nics if isinstance(nic, VfEntry)}
        faults = DmaFaults(iommu, devices, self._parts.counters, self._report)
        for intid, handler in zip((entry.event_intid, entry.error_intid), faults.handlers, strict=True):
            self._first.interrupts.driver.enable_spi(intid, edge=True)
            self._first.interrupts.on_edge(intid, handler, "interrupts.smmu")
        iommu.start()
        return iommu

    def _shared_ram(self, descriptor: int) -> SharedRam:
        ram = self._parts.segments[f"{self._entry.name}.ram"]
        return SharedRam(descriptor, ram.size_bytes, self._entry.ram_gpa, ram.pinned.address)

    def _bring_up(self, index: int, nic: NicParts, spread: VcpuSpread) -> Receiver:
        check_driver(self._entry, self._entry.nics[index])
        driver = bring_up(nic, self._entry.nics[index], index)
        foreign = f"nic{index}.foreign_frames"
        receiver = Receiver(driver, self._parts.counters, foreign)
        if nic.spread is not None and len(driver.queues) > 1:
            spread.share(receiver, foreign)
        elif index not in self._joined:
            for queue in driver.queues:
                self._first.serve(receiver.lane, queue)
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

    def _control(self, message: ToProcess) -> None:
        if isinstance(message, PeerDied):
            self._lose(message.name)
        elif not self._attacks.handle(message):
            self.flows.handle(message)

    def _lose(self, process: str) -> None:
        """Devices in a process, or that reached memory through it, are gone: a bus tells by surprise."""
        for nic, receiver in zip(self._entry.nics, self._receivers, strict=True):
            driver = receiver.driver
            if (
                isinstance(nic, VfEntry)
                and isinstance(driver, IgbVfDriver)
                and process in (nic.nic, self._entry.iommu)
            ):
                driver.lose(f"{process} is gone")
                self._report(
                    nic.name, "device_gone", f"{nic.function} stopped and has no link: {process} is gone"
                )

    def _deadline_ns(self) -> int | None:
        return earliest((self.flows.deadline_ns(), self._first.deadline_ns()))

    def _tick(self) -> None:
        self._first.tick()
        self.flows.tick()
        for joint in self._joints:
            joint.count()


class VcpuThread:
    """The thread of a further vCPU. What goes wrong in it is raised in the first one's loop."""

    def __init__(self, vcpu: tuple[Secondary, ThreadParts], first: Processor) -> None:
        self.processor, self._parts = vcpu
        self._first = first
        self.is_up = False
        self._thread = Thread(target=self._run, name=f"vcpu{self.processor.number}", daemon=True)

    def start(self) -> None:
        """Start it; `is_up` follows."""
        self._thread.start()

    def close(self) -> None:
        """Have it end, wait until it has, and close its sockets."""
        self._parts.order.give()
        if self._thread.ident is not None:
            self._thread.join()
        self.processor.calls.close()
        self._parts.close()

    def _run(self) -> None:
        processor = self.processor
        trace.lane(processor.number)
        try:
            with suppress(StopRequested):
                processor.start(has_peers=True)
                processor.run_alone()
                self._first.calls.post(self._up)
                processor.loop.run()
        except BaseException as error:
            self._first.calls.post(partial(_raise, error))

    def _up(self) -> None:
        self.is_up = True


def _raise(error: BaseException) -> None:
    raise error


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Run the guest until it is told to stop."""
    entry = plan.entry
    assert isinstance(entry, GuestEntry)
    # mapping the segments closes their descriptors: that of the RAM is kept for back ends in other processes
    shares = any(isinstance(nic, VirtioNetEntry) and nic.vhost_user for nic in entry.nics)
    ram_file = os.dup(descriptors[f"{entry.name}.ram"]) if shares else None
    peers = 2 * (entry.vcpus - 1)  # an inbox and a doorbell each
    with (
        process_parts(plan, descriptors, run_dir, peers) as parts,
        closing(Guest(parts, entry, descriptors, ram_file)) as guest,
    ):
        guest.start()
        parts.serve()
