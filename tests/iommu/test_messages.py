"""MSIs of devices by a DMA ring into the ITS: by the tables first, natively from then on, each its own."""

import pytest

from testbed.iommu.interrupts import HostInterrupts, HostProcessor
from testbed.iommu.its_vpes import VcpuBacking
from testbed.memory.tables import Attributes, TableBuilder
from testbed.native import Pinned, SharedWords, VpePort
from testbed.spec import dma_request as d
from testbed.spec import lpi
from testbed.spec.vcpu_page import VCPU_PAGE
from testbed.vmm.host_lpis import HostLpis
from testbed.vmm.its_driver import ItsDriver
from tests.iommu.machine import GUEST, PAGE, RAM
from tests.support.dma_rig import DmaRig

DEVICE, OTHER = 1, 2
ITS_BASE = 0x2_0000_0000
PAGE_IOVA = 0x0809_0000
TRANSLATER = PAGE_IOVA + 0x40
ARENA, VPT = RAM + (2 << 20), RAM + (4 << 20)
VLPI = lpi.LPI_FIRST + 5


class Host(DmaRig):
    """SMMU and ITS, two functions of a device, and a vCPU to which the first one's event 1 goes directly."""

    def __init__(self) -> None:
        super().__init__(DEVICE, OTHER)
        builder = TableBuilder(self.memory, self.frames, 2)
        builder.map(GUEST, RAM, 1 << 21)
        builder.map(PAGE_IOVA, ITS_BASE + 0x1_0000, PAGE, Attributes(device=True))
        for stream in (DEVICE, OTHER):
            self.stage2(stream, builder.root)
        self._next = ARENA
        self.reports, self.woken, self.host_woken = list[str](), 0, 0
        self.vcpu, self.lpis_page = Pinned(bytearray(VCPU_PAGE.size)), Pinned(bytearray(PAGE))
        self.interrupts = HostInterrupts(
            self.memory,
            ITS_BASE,
            HostProcessor(self.lpis_page, self._wake_host),
            {VPT: VcpuBacking(self.vcpu, self._wake)},
            lambda reason, _detail: self.reports.append(reason),
        )
        self.windows.update(self.interrupts.windows)
        for service in self.services.values():
            service.server.lead_messages(self.interrupts.message_hpa, self.interrupts.its.cache)
            service.tell = self.interrupts.its.tell
        self.lpis = HostLpis(self.lpis_page)
        self.its = ItsDriver(self.interrupts.its, self.interrupts.redistributor, self.memory, self._allocate)
        self.its.start()
        self.port = VpePort(self.vcpu, Pinned(self.memory.view(VPT + 1024, lpi.VLPI_WORDS * 8)))
        self.doorbell = self.its.doorbell()
        vpe = self.its.map_vpe(VPT)
        self.its.map_device(DEVICE, 4)
        self.its.map_vlpi(DEVICE, 1, vpe, VLPI, self.doorbell)
        self.port.enter(0)

    def _allocate(self, size_bytes: int) -> int:
        at = -(-self._next // size_bytes) * size_bytes
        self._next = at + size_bytes
        return at

    def _wake(self) -> None:
        self.woken += 1

    def _wake_host(self) -> None:
        self.host_woken += 1

    def send(self, stream: int, *events: int) -> list[int]:
        """Have a function write events; return what became of each request."""
        ring = self.ports[stream].ring
        posted = [ring.post(d.KIND_MSI, TRANSLATER, d.MSI_BYTES, event) for event in events]
        self.ports[stream].submit()
        return [ring.status(index) for index in posted if index is not None]

    def taken(self) -> bool:
        """Take the vCPU's virtual LPI; tell whether it was pending."""
        return self.port.take(VLPI - lpi.LPI_FIRST)

    def native(self, stream: int) -> int:
        """Return how many messages needed no decision."""
        return self.services[stream].server.messages


@pytest.fixture
def host() -> Host:
    return Host()


def test_messages_are_delivered_natively_once_address_and_event_are_known(host: Host) -> None:
    for _ in range(5):
        assert host.send(DEVICE, 1) == [d.STATUS_DONE]
        assert host.taken()
    assert host.native(DEVICE) == 4
    assert host.services[DEVICE].totals()["messages"] == 5
    hits, misses, delivered, _, _ = host.interrupts.its.cache.counts
    assert (hits, misses, delivered) == (4, 1, 4)


def test_message_is_behind_the_data_that_it_announces(host: Host) -> None:
    host.send(DEVICE, 1)
    host.taken()
    ring = host.ports[DEVICE].ring
    host.device_memory[:8] = b"announce"
    ring.post(d.KIND_WRITE, GUEST, 8, 0)
    ring.post(d.KIND_MSI, TRANSLATER, d.MSI_BYTES, 1)
    ring.post(d.KIND_READ, GUEST + (1 << 21), 8, 0)  # not mapped: it ends the pass
    ring.post(d.KIND_WRITE, GUEST + 8, 8, 0)
    host.ports[DEVICE].submit()
    assert (host.taken(), host.memory.read(RAM, 16)) == (True, b"announce" * 2)


def test_sleeping_vcpu_gets_one_message_and_the_ring_goes_on(host: Host) -> None:
    host.send(DEVICE, 1)
    host.taken()
    for sleeps in (1, 2):
        SharedWords(host.vcpu).store32(VCPU_PAGE.offset("to_vcpu_armed"), 1)
        assert host.send(DEVICE, *[1] * 100) == [d.STATUS_DONE] * 100
        assert (host.woken, host.taken(), host.taken()) == (sleeps, True, False)


def test_absent_vcpu_has_its_doorbell_rung(host: Host) -> None:
    host.send(DEVICE, 1)
    host.port.leave()
    rung = list[int]()
    host.lpis.on(host.doorbell, lambda: rung.append(1))
    SharedWords(host.lpis_page).store32(lpi.LPI_PAGE.offset("armed"), 1)
    host.send(DEVICE, 1, 1, 1)
    host.lpis.take()
    assert (rung, host.host_woken, host.taken()) == ([1], 1, True)


def test_host_is_woken_once_for_a_physical_event(host: Host) -> None:
    handled = list[int]()
    host.lpis.on(host.its.map_lpi(DEVICE, 2), lambda: handled.append(2))
    for sleeps in (1, 2, 3):
        SharedWords(host.lpis_page).store32(lpi.LPI_PAGE.offset("armed"), 1)
        host.send(DEVICE, 2, 2, 2)
        host.lpis.take()
        assert (host.host_woken, len(handled)) == (sleeps, sleeps)


def test_device_raises_only_what_is_mapped_for_its_own_identity(host: Host) -> None:
    host.send(DEVICE, 1)
    host.taken()
    host.send(OTHER, 0, 1, 2, 3, 0xFFFF_FFFF)
    host.its.map_device(OTHER, 2)
    host.send(OTHER, 0, 1, 2)
    assert (host.taken(), host.lpis.take(), host.native(OTHER)) == (False, False, 0)
    assert set(host.reports) == {"EVENT_UNMAPPED_DEVICE", "EVENT_UNMAPPED_INTERRUPT", "EVENT_ID_OOR"}
    assert host.interrupts.counts()["dropped"] == 8


def test_event_that_is_unmapped_leads_nowhere_at_once(host: Host) -> None:
    host.send(DEVICE, 1)
    host.taken()
    host.its.unmap_event(DEVICE, 1)
    host.send(DEVICE, 1)
    assert (host.taken(), host.reports) == (False, ["EVENT_UNMAPPED_INTERRUPT"])
