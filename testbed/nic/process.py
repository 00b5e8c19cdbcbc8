"""A NIC: one 82576 with its physical and virtual functions.

Composition root: opens sockets, maps segments, builds the objects and runs the loop. Reference: design,
"Processes, and what each can touch": it maps its own registers, memory, DMA rings and wires, and guest RAM
only with ATS. Not modelled: a wire that is plugged in while it runs.
"""

import time
from contextlib import closing
from functools import partial

from testbed.address import Bdf
from testbed.deadline import earliest
from testbed.iommu.client import DmaClient, SharedArea
from testbed.memory.host import HostMemory
from testbed.messages.control import GuestReport, PeerDied, ToProcess
from testbed.messages.doorbell import Doorbell
from testbed.messages.entries import NicProcessEntry, ProcessPlan, WindowEntry, WireEntry
from testbed.messages.process import ProcessParts, process_parts
from testbed.messages.pump_time import pump_idle_ns, pump_ns
from testbed.native import Bell, NicPump, Pinned
from testbed.net.mac import parse_mac
from testbed.nic.arrivals import WireArrivals
from testbed.nic.control import NicConfig, NicControl
from testbed.nic.data import NicData
from testbed.nic.link import LOOK_NS, Link
from testbed.pci.bar_window import Completer, access_budget
from testbed.spec import bar_window, dma_area, igb_pci, wire
from testbed.spec.igb import VFS_MAX

_BAR_SPACES = frozenset({igb_pci.REGISTERS_BAR, igb_pci.MSIX_BAR})


class WireEnd:
    """The wire as the process has it: link state, and bells in both directions."""

    def __init__(self, parts: ProcessParts, entry: WireEntry, data: NicData, control: NicControl) -> None:
        outgoing, incoming = parts.segments[entry.outgoing].pinned, parts.segments[entry.incoming].pinned
        data.engine.attach_wire(outgoing, incoming)
        data.engine.shape_wire(entry.latency_ns, entry.bits_per_second, entry.loss, entry.seed)
        self._engine, self.peer = data.engine, entry.peer
        self.link = Link(outgoing, incoming, control.set_wire)
        self.to_receiver = parts.doorbell(Bell(outgoing, wire.BELL_TO_RECEIVER), entry.peer)
        self.to_sender = parts.doorbell(Bell(incoming, wire.BELL_TO_SENDER), entry.peer)
        self.bells = Bell(outgoing, wire.BELL_TO_RECEIVER), Bell(incoming, wire.BELL_TO_SENDER)
        parts.loop.watch.add_bell(Bell(incoming, wire.BELL_TO_RECEIVER))
        parts.loop.watch.add_bell(Bell(outgoing, wire.BELL_TO_SENDER))
        self.link.announce(True)
        self.to_receiver.ring()

    def exchange(self) -> None:
        """Let the other end see what this one has sent and taken."""
        if self._engine.publish_wire():
            self.to_receiver.ring()
        if self._engine.release_wire():
            self.to_sender.ring()

    def close(self) -> None:
        """Pull the plug."""
        self.link.announce(False)
        self.to_receiver.ring()
        self.link.close()


class Nic:
    """The device and everything that it is connected to."""

    def __init__(self, parts: ProcessParts, entry: NicProcessEntry) -> None:
        self._parts, self._entry, self._loop = parts, entry, parts.loop
        self._idle_ns = pump_idle_ns(entry.poll_ns)
        self._reported: set[tuple[int, str]] = set()
        self._bells: list[Doorbell] = []
        self._messages = 0
        self.control = NicControl(
            NicConfig(entry.name, parse_mac(entry.mac), Bdf(entry.bdf)),
            self._send,
            self._changed,
            time.monotonic_ns,
        )
        self.client = self._dma()
        counters = parts.counters
        self.data = NicData(
            self.control,
            parts.segments[f"{entry.dma.nic}.sram"].pinned,
            Pinned(counters.buffer),
            counters.offset("pool0.tx_frames"),
            self._report,
            stall_ns=entry.stall_ns,
        )
        self.data.attach_dma(
            {index: self.client.ports[f.stream] for index, f in enumerate(entry.dma.functions)}
        )
        self.windows = [self._open(window) for window in entry.windows]
        self.wire = WireEnd(parts, entry.wire, self.data, self.control) if entry.wire else None
        self.arrivals = WireArrivals(self.data.engine, parts.control.send)
        self.pump = self._pump()
        self._watch()

    def _pump(self) -> NicPump:
        """Have the engine go round natively with its windows, DMA rings and wire."""
        pump = NicPump(self.data.engine)
        page = self._parts.segments[f"{self._entry.dma.nic}.dma"].pinned
        for index, function in enumerate(self._entry.dma.functions):
            caching = self.client.caching.get(function.stream)
            server = None if caching is None else caching.server
            pump.add_port(index, Bell(page, dma_area.BELL_TO_IOMMU), server)
        for completer in self.windows:
            pump.add_window(completer.watched)
        if self.wire is not None:
            pump.add_wire(*self.wire.bells)
        for ring, _ in self.client.watched:
            pump.stop_for(ring)
        pump.stop_for(self.client.invalidations)
        self.data.advance = self._advance
        return pump

    def _advance(self) -> bool:
        """Let the pump run, and do what it has stopped for."""
        for index, function in enumerate(self._entry.dma.functions if self.client.caching else ()):
            self.pump.open_port(index, self.client.caching[function.stream].open)
        moved = self.pump.run(pump_ns(self._due_ns(), time.monotonic_ns()), self._idle_ns)
        attention = self.pump.take_attention()
        while attention:
            lowest = attention & -attention
            self.client.caching[self._entry.dma.functions[lowest.bit_length() - 1].stream].serve()
            attention ^= lowest
        self._wake(*self.pump.take_wakes())
        return moved

    def _wake(self, functions: int, receiver: bool, sender: bool) -> None:
        """Send the messages that bells were found to ask for."""
        if functions:
            self._to_iommu.wake()
        if self.wire is not None and receiver:
            self.wire.to_receiver.wake()
        if self.wire is not None and sender:
            self.wire.to_sender.wake()

    def _dma(self) -> DmaClient:
        entry, segments = self._entry.dma, self._parts.segments
        page = segments[f"{entry.nic}.dma"].pinned
        self._to_iommu = bell = self._ringer(Bell(page, dma_area.BELL_TO_IOMMU), self._entry.iommu)
        shared = SharedArea(page, entry.slots, segments[f"{entry.nic}.sram"].pinned)
        host = HostMemory(s for s in segments.values() if s.hpa) if entry.ats else None
        return DmaClient(shared, [f.stream for f in entry.functions], bell, host)

    def _open(self, window: WindowEntry) -> Completer:
        page = self._parts.segments[window.segment].pinned
        bell = self._ringer(Bell(page, bar_window.BELL_TO_DRIVER), window.process)
        spaces = None if window.function is None else _BAR_SPACES
        # the hypervisor is trusted, guests are not
        budget = None if window.function is None else access_budget()
        completer = Completer(page, self.control, bell.ring, window.function, spaces, budget)
        reached = range(VFS_MAX + 1) if window.function is None else (window.function,)
        for function in reached:
            for offset, word in self.data.doorbells(function):
                completer.add_doorbell(function, igb_pci.REGISTERS_BAR, offset, word)
        return completer

    def _ringer(self, bell: Bell, process: str) -> Doorbell:
        doorbell = self._parts.doorbell(bell, process)
        self._bells.append(doorbell)
        return doorbell

    def _watch(self) -> None:
        watch = self._loop.watch
        watch.add(self.data.engine, self.turn)
        for completer in self.windows:
            watch.add(completer.watched, partial(self._access, completer))
            watch.add_bell(completer.bell)
        for ring, action in self.client.watched:
            watch.add(ring, action)
        watch.add(self.client.invalidations, self.client.invalidate)
        watch.add_bell(self.client.from_iommu)
        self._loop.deadline = self._deadline_ns
        self._loop.on_tick = self._tick
        self._loop.on_control = self._control

    # what the device does to the outside

    def _send(self, function: int, address: int, data: int) -> None:
        self._messages += 1
        self.data.send(function, address, data)

    def _changed(self) -> None:
        self.data.changed()

    def _report(self, function: int, reason: str, detail: str) -> None:
        """Tell the launcher once for each kind; the counters have them all."""
        if (function, reason) not in self._reported:
            self._reported.add((function, reason))
            name = self._entry.dma.functions[function].name
            report = GuestReport(guest=self._entry.name, device=name, reason=reason, detail=detail)
            self._parts.control.send(report)

    # the loop

    def turn(self) -> bool:
        """Let the data side go on; what is due by now comes first, for turns may be long."""
        self._do_due(time.monotonic_ns())
        moved = self.data.turn()
        if self.wire is not None:
            self.wire.exchange()
        return moved

    def _access(self, completer: Completer) -> bool:
        """Register accesses first, by what is known now, then what they started."""
        self.data.take_events()
        moved = completer.step()
        return self.turn() or moved

    def _deadline_ns(self) -> int | None:
        look_ns = None if self.wire is None else time.monotonic_ns() + LOOK_NS
        return earliest((self._due_ns(), self.data.deadline_ns(), self.arrivals.deadline_ns(), look_ns))

    def _due_ns(self) -> int | None:
        """Return when Python has something to do that nothing announces: the pump ends by then."""
        return earliest((self.control.deadline_ns(), *(window.deadline_ns() for window in self.windows)))

    def _do_due(self, now_ns: int) -> None:
        """Let drivers go on whose accesses waited for their budget; send interrupts that waited."""
        for window in self.windows:
            window.resume(now_ns)
        due_ns = self.control.deadline_ns()
        if due_ns is not None and due_ns <= now_ns:
            self.control.on_timer(now_ns)

    def _control(self, message: ToProcess) -> None:
        """Without its host's IOMMU it reaches no memory: it leaves the wire, so that the other end knows."""
        if not isinstance(message, PeerDied):
            self.arrivals.handle(message)
        elif message.name == self._entry.iommu:
            self._leave_wire()

    def _leave_wire(self) -> None:
        if self.wire is not None:
            self.wire.close()
            self.wire = None
            self.control.set_wire(False)

    def _look_at_wire(self) -> None:
        """Find out about the other end; who puts on the wire what cannot be is left alone from then on."""
        if self.wire is None:
            return
        self.wire.link.look()
        if self.data.engine.wire_broken:
            self._parts.counters.add("wire.broken")
            self._report(0, "wire_broken", f"what {self.wire.peer} put on the wire is no frame")
            self._leave_wire()

    def _tick(self) -> None:
        self._look_at_wire()
        self.turn()
        self.arrivals.tick()
        self._count()

    def _count(self) -> None:
        counters = self._parts.counters
        wired = (self.wire.to_receiver, self.wire.to_sender) if self.wire else ()
        asked = sum(bell.asked for bell in (*self._bells, *wired)) + sum(self.pump.asked)
        counters.set("bell.asked", asked)
        counters.set("bell.sent", sum(bell.sent for bell in (*self._bells, *wired)))
        counters.set("messages", self._messages)
        counters.set("messages.merged", self.data.merged)
        counters.set("windows.refused", sum(window.refused for window in self.windows))
        counters.set("windows.overruns", sum(window.watched.overruns for window in self.windows))
        sent = ("wire.frames_out", "wire.bytes_out", "wire.frames_in", "wire.bytes_in")
        for name, value in zip(sent, self.data.engine.wire_counts, strict=True):
            counters.set(name, value)
        counters.set("wire.unclaimed", self.arrivals.total + self.data.engine.unclaimed[0])
        for entry, window in zip(self._entry.windows, self.windows, strict=True):
            if entry.function:
                counters.set(f"vf{entry.function - 1}.throttled", window.throttled)
                counters.set(f"vf{entry.function - 1}.coalesced", window.watched.coalesced)
                counters.set(f"vf{entry.function - 1}.access_ns", window.access_ns)
        counters.set("wire.lost", self.data.engine.wire_lost)
        counters.set("wire.link_changes", self.wire.link.changes if self.wire else 0)
        counters.set("ats.requests", self.client.counts.requests)
        counters.set("ats.forwarded", self.client.counts.forwarded)
        counters.set("ats.invalidations", self.client.counts.invalidations)
        counters.set("ats.denied", self.client.counts.denied)
        for name, value in self.client.moved().items():
            counters.set(f"ats.{name}", value)

    def close(self) -> None:
        """Pull the wire's plug, so that the other end sees it at once."""
        if self.wire is not None:
            self.wire.close()


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Run the NIC until it is told to stop."""
    entry = plan.entry
    assert isinstance(entry, NicProcessEntry)
    peers = len(entry.windows) + 3
    with process_parts(plan, descriptors, run_dir, peers) as parts, closing(Nic(parts, entry)):
        parts.serve()
