"""An IOMMU in a process of its own; this process plays its host's hypervisor and its devices.

Run as a module it is that process: its plan, descriptors and run directory are its arguments.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import zmq

from testbed.address import PAGE_SIZE_BYTES
from testbed.iommu.client import DmaClient, SharedArea
from testbed.iommu.process import main
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.segment import Segment
from testbed.messages.control import Stop
from testbed.messages.doorbell import Doorbell, control_endpoint, inbox_endpoint
from testbed.messages.entries import DmaEntry, DmaFunctionEntry, IommuEntry, ProcessPlan, SegmentEntry
from testbed.native import Bell
from testbed.observe.catalogue import iommu_counter_names
from testbed.observe.counters import Counters, segment_bytes
from testbed.pci.bar_window import BarPort, Requester
from testbed.pci.smmu_driver import SmmuDriver
from testbed.spec import bar_window, dma_area, iommu_window

NAME: Final = "iommu-h0"
TABLES: Final = 0x100_0000_0000
TABLES_BYTES: Final = 2 << 20
RAM: Final = 0x100_4000_0000
RAM_BYTES: Final = 4 << 20
SRAM_BYTES: Final = 1 << 20
SLOTS: Final = 1024
_READY_MS: Final = 30_000
_PATIENCE_SECONDS: Final = 30.0
"""Only what never happens takes so long."""


def plan_of(streams: tuple[int, ...], poll_ns: int, ats: bool) -> ProcessPlan:
    """Return the plan of an IOMMU with one NIC, whose functions have these streams."""
    functions = tuple(DmaFunctionEntry(name=f"nic0.vf{i}", stream=stream) for i, stream in enumerate(streams))
    nic = DmaEntry(nic="nic0", functions=functions, slots=SLOTS, ats=ats)
    names = iommu_counter_names(function.name for function in functions)
    segments = (
        SegmentEntry(name="h0.tables", size_bytes=TABLES_BYTES, hpa=TABLES),
        SegmentEntry(name="a.ram", size_bytes=RAM_BYTES, hpa=RAM),
        SegmentEntry(name="nic0.dma", size_bytes=dma_area.area_bytes(len(streams), SLOTS)),
        SegmentEntry(name="nic0.sram", size_bytes=SRAM_BYTES),
        SegmentEntry(name=f"{NAME}.window", size_bytes=iommu_window.WINDOW_BYTES),
        SegmentEntry(name=f"{NAME}.counters", size_bytes=segment_bytes(names)),
    )
    entry = IommuEntry(name=NAME, host="h0", poll_ns=poll_ns, nics=(nic,), vmm="vmm-h0")
    return ProcessPlan(name=NAME, role="iommu", entry=entry, segments=segments, counter_names=names)


class IommuChild:
    """The process, and everything that it shares with others as these have it."""

    def __init__(self, run_dir: Path, *streams: int, poll_ns: int = 0, ats: bool = False) -> None:
        self.plan = plan_of(streams, poll_ns, ats)
        descriptors = {s.name: _memory(s) for s in self.plan.segments}
        self.segments = {
            s.name: Segment.map(os.dup(descriptors[s.name]), s.name, s.size_bytes, s.hpa)
            for s in self.plan.segments
        }
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._control = self._context.socket(zmq.ROUTER)
        self._control.set(zmq.LINGER, 0)
        self._control.bind(control_endpoint(str(run_dir)))
        arguments = [msgspec.json.encode(self.plan).decode(), json.dumps(descriptors), str(run_dir)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, *arguments], pass_fds=tuple(descriptors.values())
        )
        for descriptor in descriptors.values():
            os.close(descriptor)
        assert self._control.poll(_READY_MS), "the IOMMU did not get ready"
        self._identity, _ready = self._control.recv_multipart()
        self.memory = HostMemory([self.segments["h0.tables"], self.segments["a.ram"]])
        self.counters = Counters(self.plan.counter_names, self.segments[f"{NAME}.counters"].view)
        self._endpoint = inbox_endpoint(str(run_dir), NAME)
        self._bells: list[Doorbell] = []
        self.driver = self._driver()
        self.client = self._client(streams, ats)

    def _driver(self) -> SmmuDriver:
        window = self.segments[f"{NAME}.window"].pinned
        bell = self.bell(Bell(window, bar_window.BELL_TO_DEVICE))
        registers = BarPort(Requester(window, bell.ring, wait), iommu_window.SPACE_SMMU)
        self.frames = FrameAllocator(self.memory, TABLES + TABLES_BYTES // 2, TABLES_BYTES // 2)
        self._next = TABLES
        return SmmuDriver(registers, self.memory, self._allocate, self._pause)

    def _client(self, streams: tuple[int, ...], ats: bool) -> DmaClient:
        page = self.segments["nic0.dma"].pinned
        shared = SharedArea(page, SLOTS, self.segments["nic0.sram"].pinned)
        bell = self.bell(Bell(page, dma_area.BELL_TO_IOMMU))
        return DmaClient(shared, streams, bell, self.memory if ats else None)

    def bell(self, bell: Bell) -> Doorbell:
        self._bells.append(Doorbell(bell, self._context, self._endpoint))
        return self._bells[-1]

    def _allocate(self, size_bytes: int) -> int:
        at = (self._next + size_bytes - 1) & -size_bytes
        self._next = at + max(size_bytes, PAGE_SIZE_BYTES)
        assert self._next <= self.frames.base
        return at

    def _pause(self) -> None:
        """Be the device while the hypervisor waits."""
        self.serve_device()
        os.sched_yield()

    def serve_device(self) -> None:
        """Let the device take what the IOMMU answered and asked."""
        if self.client.invalidations.ready:
            self.client.invalidate()
        for watched, action in self.client.watched:
            if watched.ready:
                action()

    def transfer(self, kind: int, iova: int, length: int, buffer: int = 0, stream: int | None = None) -> int:
        """Do one request to its end; return its status."""
        port = self.client.ports[next(iter(self.client.ports)) if stream is None else stream]
        index = port.ring.post(kind, iova, length, buffer)
        assert index is not None
        port.submit()
        self.until(lambda: port.ring.completed == (index + 1) % (1 << 32))
        return port.ring.status(index)

    def until(self, ready: Callable[[], bool]) -> None:
        """Be the device until something holds."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not ready():
            assert self.process.poll() is None, "the IOMMU is gone"
            assert time.monotonic() < deadline, "it never happened"
            self._pause()

    def close(self) -> int:
        """Have the process stop in order; return its exit code."""
        if self.process.poll() is None:
            self._control.send_multipart([self._identity, msgspec.json.encode(Stop())])
        code = self.process.wait(_PATIENCE_SECONDS)
        for bell in self._bells:
            bell.close()
        self._control.close()
        self._context.term()
        return code


def wait(ready: Callable[[], bool], deadline_ns: int | None = None) -> None:
    """Yield until something holds or a time has come."""
    while not ready() and (deadline_ns is None or time.monotonic_ns() < deadline_ns):
        os.sched_yield()


def _memory(segment: SegmentEntry) -> int:
    descriptor = os.memfd_create(segment.name)
    os.truncate(descriptor, segment.size_bytes)
    return descriptor


if __name__ == "__main__":
    _plan, _descriptors, _run_dir = sys.argv[1:]
    main(msgspec.json.decode(_plan, type=ProcessPlan), json.loads(_descriptors), _run_dir)
