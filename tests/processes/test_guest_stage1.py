"""A guest's stage 1 behind an IOMMU in a process of its own: spaces by SubstreamID, unmapping, faults."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.address import Gpa, Hpa, Iova
from testbed.guest.dma_faults import DmaFaults
from testbed.guest.iova import GuestIommu
from testbed.guest.ram import RamAllocator
from testbed.interrupts.signal import RecordingEdge
from testbed.memory.guest import GuestMemory
from testbed.memory.tables import TableBuilder
from testbed.native import Bell
from testbed.observe.catalogue import SMMU_COUNTERS
from testbed.observe.counters import Counters, segment_bytes
from testbed.pci.smmu_entries import EventRecord
from testbed.spec import bar_window
from testbed.spec import dma_request as d
from testbed.vmm.assignment import Assigned
from testbed.vmm.host_iommu import HostIommu
from testbed.vmm.vsmmu import GuestSmmu, GuestStage1
from tests.support.iommu_child import NAME, RAM, RAM_BYTES, IommuChild, wait

STREAM, GUEST_STREAM, VMID = 0x180, 8, 1
GUEST = 0x4000_0000
PAGE = 4096
BUFFERS_BYTES = 64 * PAGE


class Machine:
    """One guest with one function: this process is the guest, its hypervisor and the NIC."""

    def __init__(self, child: IommuChild, ats: bool) -> None:
        self.child = child
        self._runnable: dict[Callable[[], bool], None] = {}
        window = child.segments[f"{NAME}.window"].pinned
        bell = child.bell(Bell(window, bar_window.BELL_TO_DEVICE))
        tables = child.segments["h0.tables"]
        self.host = HostIommu(window, tables, bell.ring, self._wait, self._report, self._runnable)
        self.host.start()
        stage2 = TableBuilder(child.memory, child.frames, 2)
        stage2.map(GUEST, RAM, RAM_BYTES)
        function = Assigned("nic0.vf0", STREAM, "a", VMID, stage2, ats, on_event=self._take)
        self.host.assignments.assign(function)
        stage1 = GuestStage1(self.host.assignments, VMID, {GUEST_STREAM: STREAM})
        memory = GuestMemory(child.memory, Hpa(stage2.root))
        self.edge = RecordingEdge()
        self.smmu = GuestSmmu(memory, stage1, self.edge, RecordingEdge(), self._runnable)
        ram = RamAllocator(memory, Gpa(GUEST + BUFFERS_BYTES), RAM_BYTES - BUFFERS_BYTES)
        self.guest = GuestIommu(self.smmu, memory, ram)
        self.guest.start()
        self.kernel = self.guest.attach(GUEST_STREAM)
        self.told: list[tuple[str, str, str]] = []
        self.counters = Counters(SMMU_COUNTERS, memoryview(bytearray(segment_bytes(SMMU_COUNTERS))))
        self.faults = DmaFaults(self.guest, {GUEST_STREAM: "a.nic0"}, self.counters, self._tell)

    def _take(self, event: EventRecord) -> bool:
        return self.smmu.take(event)

    def _report(self, guest: str, device: str, reason: str, detail: str) -> None:
        raise AssertionError(f"not the guest's own to see: {guest} {device} {reason} {detail}")

    def _tell(self, device: str, reason: str, detail: str) -> None:
        self.told.append((device, reason, detail))

    def _wait(self, ready: Callable[[], bool], deadline_ns: int | None = None) -> None:
        self.child.serve_device()
        wait(ready, deadline_ns)

    def interrupted(self) -> bool:
        """Do what the hypervisor's loop does; say whether the guest was interrupted."""
        for watched, action in self.host.wires:
            if watched.ready:
                action()
        for action in tuple(self._runnable):
            action()
        return self.edge.pulses > 0

    def transfer(self, kind: int, iova: int, substream: int | None = None) -> int:
        """Do a request of the function for eight bytes; return its status."""
        port = self.child.client.ports[STREAM]
        index = port.ring.post(kind, iova, 8, 0, substream)
        assert index is not None
        port.submit()
        self.child.until(lambda: port.ring.completed == (index + 1) % (1 << 32))
        return port.ring.status(index)


@pytest.fixture(scope="module", params=[False, True], ids=["mediated", "ats"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="vb-") as directory:
        child = IommuChild(Path(directory), STREAM, ats=request.param)
        yield Machine(child, request.param)
        assert child.close() == 0


def test_each_process_of_the_guest_reaches_its_own_page_by_the_same_address(machine: Machine) -> None:
    address = Iova(machine.kernel.map(Gpa(GUEST), PAGE) + (1 << 30))
    for number in (1, 2):
        space = machine.guest.add_space(GUEST_STREAM, number)
        space.map_at(address, Gpa(GUEST + number * PAGE), PAGE)
        machine.child.memory.write(RAM + number * PAGE, f"process{number}".encode())
    sram = machine.child.segments["nic0.sram"].view
    read = {}
    for number in (1, 2):
        assert machine.transfer(d.KIND_READ, address, number) == d.STATUS_DONE
        read[number] = bytes(sram[:8])

    assert read == {1: b"process1", 2: b"process2"}


def test_a_page_is_out_of_reach_when_unmap_returns_and_the_guest_is_told(machine: Machine) -> None:
    iova = machine.kernel.map(Gpa(GUEST + 3 * PAGE), PAGE)
    assert machine.transfer(d.KIND_WRITE, iova) == d.STATUS_DONE
    machine.kernel.unmap(iova, PAGE)
    before = machine.child.memory.read(RAM, BUFFERS_BYTES)
    machine.edge.pulses = 0
    machine.told.clear()

    assert machine.transfer(d.KIND_WRITE, iova) == d.STATUS_ABORT

    machine.child.until(machine.interrupted)
    events, _errors = machine.faults.handlers
    assert events()
    detail = f"write to I/O address {iova:#x} was refused by the guest's own SMMU; no byte moved"
    assert machine.told == [("a.nic0", "F_TRANSLATION", detail)]
    assert machine.counters["smmu.F_TRANSLATION"] == 1
    assert machine.child.memory.read(RAM, BUFFERS_BYTES) == before
