"""The IOMMU of one host: SMMUv3, and what every write of a device meets on its way into the host.

Composition root: opens sockets, maps segments, builds the objects and runs the loop. Reference: design,
"Processes, and what each can touch", "IOMMU (SMMUv3) and ITS". Not modelled: devices that come or go.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Final

from testbed.deadline import earliest
from testbed.iommu.ats import AtsInvalidation
from testbed.iommu.attachment import Attachment
from testbed.iommu.client import SharedArea
from testbed.iommu.dma_service import DmaService, MessageWindow
from testbed.iommu.features import Features
from testbed.iommu.interrupts import HostInterrupts, HostProcessor
from testbed.iommu.its_listing import listed_routes
from testbed.iommu.its_vpes import VcpuBacking
from testbed.iommu.registers import RegisterBlock, RegisterSpaces, Wire
from testbed.iommu.smmu import Outputs, Smmu
from testbed.iommu.translate import native_walk
from testbed.memory.host import HostMemory
from testbed.messages.control import (
    EventRoute,
    GuestReport,
    InspectInterrupts,
    InterruptState,
    PeerDied,
    ToProcess,
)
from testbed.messages.doorbell import Doorbell, vcpu_inbox
from testbed.messages.entries import DmaEntry, IommuEntry, ProcessPlan
from testbed.messages.process import ProcessParts, process_parts
from testbed.messages.pump_time import pump_idle_ns, pump_ns
from testbed.native import Bell, DmaServer, Pinned, ServePump
from testbed.observe.catalogue import DMA_COUNTERS
from testbed.pci.bar_window import Completer
from testbed.spec import dma_area, iommu_window
from testbed.spec.bar_window import BELL_TO_DRIVER
from testbed.spec.vcpu_page import BELL_TO_VCPU, VCPU_PAGE

NO_STALLS: Final = Features(stall=False)
"""The devices are PCIe functions, whose transactions may not be stalled (IHI 0070 G.b §3.12.2)."""
_EXPIRY_NS: Final = 1_000_000_000
"""How often overdue invalidations are looked for."""


class Iommu:
    """SMMU, the attached devices and the register window."""

    def __init__(self, parts: ProcessParts, entry: IommuEntry) -> None:
        self._parts, self._loop = parts, parts.loop
        self._vmm, self._reported = entry.vmm, set[str]()
        self.memory = HostMemory(s for s in parts.segments.values() if s.hpa)
        self._window = parts.segments[f"{entry.name}.window"].pinned
        self._to_vmm = parts.doorbell(Bell(self._window, BELL_TO_DRIVER), entry.vmm)
        self.smmu = Smmu(self.memory, native_walk(self.memory), NO_STALLS, self._outputs())
        self.smmu.cache.walk_in(self.memory)
        self.windows: dict[int, MessageWindow] = {}
        self._bells: list[Doorbell] = [self._to_vmm]
        self.interrupts = self._interrupts(entry) if entry.its_hpa else None
        if self.interrupts is not None:
            self.windows.update(self.interrupts.windows)
        self.pump, self._devices, self._rings = ServePump(), list[Doorbell](), list[DmaService]()
        self._idle_ns = pump_idle_ns(entry.poll_ns)
        self.attachments = [self._attach(nic) for nic in entry.nics]
        self._services = {stream: s for each in self.attachments for stream, s in each.services.items()}
        self._functions = {f.stream: f.name for nic in entry.nics for f in nic.functions}
        self._vpes = {vpe.vpt_hpa: vcpu_inbox(vpe.guest, vpe.vcpu) for vpe in entry.vpes}
        self._watch_registers()
        self._loop.deadline = self._deadline_ns
        self._loop.on_control = self._control
        self._loop.on_tick = self._tick
        self._next_expiry_ns = time.monotonic_ns() + _EXPIRY_NS

    def _outputs(self) -> Outputs:
        def wire(name: str) -> Wire:
            return Wire(self._window, name, self._to_vmm)

        return Outputs(wire("event_queue"), wire("global_error"), wire("command_sync"), self._invalidate)

    def _invalidate(self, invalidation: AtsInvalidation) -> bool:
        return any(attachment.invalidate(invalidation) for attachment in self.attachments)

    def _interrupts(self, entry: IommuEntry) -> HostInterrupts:
        segments = self._parts.segments

        def bell(page: Pinned, offset: int, process: str) -> Doorbell:
            self._bells.append(self._parts.doorbell(Bell(page, offset), process))
            return self._bells[-1]

        lpis = segments[f"{entry.name}.lpis"].pinned
        vcpus = {}
        for vpe in entry.vpes:
            page = Pinned(segments[vpe.page].view[vpe.vcpu * VCPU_PAGE.size :][: VCPU_PAGE.size])
            inbox = vcpu_inbox(vpe.guest, vpe.vcpu)
            vcpus[vpe.vpt_hpa] = VcpuBacking(page, bell(page, BELL_TO_VCPU, inbox).wake)
        processor = HostProcessor(lpis, bell(lpis, 0, entry.vmm).wake)
        return HostInterrupts(self.memory, entry.its_hpa, processor, vcpus, self._report)

    def _report(self, reason: str, detail: str) -> None:
        """Tell the launcher once for each kind; the counters have them all."""
        if reason not in self._reported:
            self._reported.add(reason)
            device = f"{self._parts.plan.name}.its"
            report = GuestReport(guest=self._vmm, device=device, reason=reason, detail=detail)
            self._parts.control.send(report)

    def _watch_registers(self) -> None:
        blocks: dict[int, RegisterBlock] = {iommu_window.SPACE_SMMU: self.smmu}
        if self.interrupts is not None:
            blocks[iommu_window.SPACE_ITS] = self.interrupts.its
            blocks[iommu_window.SPACE_GICR] = self.interrupts.redistributor
        spaces = RegisterSpaces(blocks)
        completer = Completer(self._window, spaces, self._to_vmm.ring)
        self._loop.watch.add(completer.watched, partial(self._access, completer))
        self.pump.stop_for(completer.watched)
        self._loop.watch.add_bell(completer.bell)

    def _access(self, completer: Completer) -> bool:
        moved = completer.step()
        self._loop.runnable[self._go_on] = None
        return moved

    def _go_on(self) -> bool:
        """Execute commands that a register write left over; the queue may be longer than one turn takes."""
        more = self.smmu.poll()
        if self.interrupts is not None:
            more |= self.interrupts.its.poll()
        if not more:
            self._loop.runnable.pop(self._go_on, None)
        return more

    def _attach(self, nic: DmaEntry) -> Attachment:
        segments = self._parts.segments
        page = segments[f"{nic.nic}.dma"].pinned
        bell = self._parts.doorbell(Bell(page, dma_area.BELL_TO_DEVICE), nic.nic)
        self._bells.append(bell)
        shared = SharedArea(page, nic.slots, segments[f"{nic.nic}.sram"].pinned)
        attachment = Attachment(
            nic.nic, shared, [function.stream for function in nic.functions], self._service, bell
        )
        device = self.pump.add_device(Bell(page, dma_area.BELL_TO_DEVICE))
        self._devices.append(bell)
        for service in attachment.services.values():
            self.pump.add(device, service.server)
            self._rings.append(service)
            self._loop.watch.add(service.server, partial(self._serve, attachment, service))
        self._loop.watch.add_bell(attachment.from_device)
        return attachment

    def _serve(self, attachment: Attachment, service: DmaService) -> bool:
        """Deal with one ring and its decisions, then with every ring as long as there are none."""
        moved = attachment.serve(service)
        busy = self._go_on in self._loop.runnable
        budget_ns = self._budget_ns(time.monotonic_ns())
        _, asleep, telling = self.pump.run(self.smmu.translating, budget_ns, 0 if busy else self._idle_ns)
        for device in asleep:
            self._devices[device].wake()
        if telling is not None:
            told = self._rings[telling]
            told.tell(*told.server.told)
        return moved

    def _budget_ns(self, now_ns: int) -> int:
        """Return how long to work natively: until a ring that was paused may go on, at most."""
        due_ns = self._paused_until_ns()
        if due_ns is not None and due_ns <= now_ns:
            self._resume(now_ns)
            due_ns = self._paused_until_ns()
        return pump_ns(due_ns, now_ns)

    def _resume(self, now_ns: int) -> None:
        for service in self._rings:
            service.resume(now_ns)

    def _service(self, shared: SharedArea, offset: int, stream: int) -> DmaService:
        table = self.smmu.cache.table
        server = DmaServer(
            shared.page, offset, shared.slots, stream, shared.buffer, self.memory.host_map, table
        )
        service = DmaService(server, self.smmu, self.memory, time.monotonic_ns, self.windows)
        if self.interrupts is not None:
            server.lead_messages(self.interrupts.message_hpa, self.interrupts.its.cache)
            service.tell = self.interrupts.its.tell
        return service

    def _routes(self) -> Iterator[EventRoute]:
        """Yield where events lead, by the names of functions and vCPUs."""
        assert self.interrupts is not None
        return listed_routes(self.interrupts.its, self._functions, self._vpes)

    def _control(self, message: ToProcess) -> None:
        if isinstance(message, InspectInterrupts):
            routes = self._routes() if self.interrupts is not None else ()
            state = InterruptState(inspection_id=message.inspection_id, routes=tuple(routes))
            self._parts.control.send(state)
        elif isinstance(message, PeerDied):
            self._lose(message.name)

    def _lose(self, name: str) -> None:
        """A NIC is gone: nothing of it is served or waited for any more."""
        for attachment in self.attachments:
            if attachment.name == name:
                attachment.drop()
                for stream in attachment.services:
                    self.smmu.forget_device(stream)

    def _deadline_ns(self) -> int | None:
        return earliest((self._paused_until_ns(), self._next_expiry_ns if len(self.smmu.ats) else None))

    def _paused_until_ns(self) -> int | None:
        return earliest(service.deadline_ns() for service in self._rings)

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        for attachment in self.attachments:
            attachment.flush()
        self._resume(now_ns)
        if now_ns >= self._next_expiry_ns:
            self._next_expiry_ns = now_ns + _EXPIRY_NS
            self._loop.runnable[self._go_on] = None
        self._count()

    def _count(self) -> None:
        counters = self._parts.counters
        totals = dict.fromkeys(DMA_COUNTERS, 0)
        for stream, service in self._services.items():
            for name, value in service.totals().items():
                counters.set(f"{self._functions[stream]}.{name}", value)
                totals[name] += value
        for name, value in totals.items():
            counters.set(f"dma.{name}", value)
        for name, value in self.smmu.transactions.faults.items():
            counters.set(f"fault.{name}", value)
        table = self.smmu.cache.table
        counters.set("iotlb.hits", table.hits)
        counters.set("iotlb.misses", table.misses)
        if self.interrupts is not None:
            for name, value in self.interrupts.counts().items():
                counters.set(f"its.{name}", value)
        pumped = sum(self.pump.asked(device) for device in range(len(self._devices)))
        counters.set("bell.asked", sum(bell.asked for bell in self._bells) + pumped)
        counters.set("bell.sent", sum(bell.sent for bell in self._bells))


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Run the IOMMU until it is told to stop."""
    entry = plan.entry
    assert isinstance(entry, IommuEntry)
    with process_parts(plan, descriptors, run_dir, peers=len(entry.nics) + len(entry.vpes)) as parts:
        Iommu(parts, entry)
        parts.serve()
