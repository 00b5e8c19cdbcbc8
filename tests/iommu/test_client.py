"""A device linked to its host's IOMMU, both ways: mediated, and with translations of its own (ATS)."""

import pytest

from testbed.iommu.ats import AtsInvalidation
from testbed.iommu.client import AtsPort, DmaClient
from testbed.memory.tables import Attributes, TableBuilder
from testbed.native import Iotlb
from testbed.spec import dma_area as area
from testbed.spec import dma_request as d
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from tests.iommu.machine import GUEST, PAGE, RAM
from tests.support.dma_rig import LinkedRig, Window

STREAM, OTHER = 0x100, 0x180
BLOCK = 1 << 21
DOORBELL_HPA, DOORBELL_IOVA = 0x100_0808_0000, 0x0808_0000


class Host(LinkedRig):
    """Two functions with the same view of a guest: a block, a page, a read-only page, an MSI page."""

    def __init__(self, ats: bool, slots: int = 64) -> None:
        super().__init__(STREAM, OTHER, ats=ats, slots=slots)
        self.window = self.windows[DOORBELL_HPA] = Window(look=lambda: self.memory.read(RAM, 5))
        self.write("CR0", 0b1_1101)
        self.builder = TableBuilder(self.memory, self.frames, 2)
        self.builder.map(GUEST, RAM, BLOCK)
        self.builder.map(GUEST + BLOCK, RAM + BLOCK, PAGE)
        self.builder.map(GUEST + BLOCK + PAGE, RAM + BLOCK + 4 * PAGE, PAGE, Attributes(write=False))
        self.builder.map(DOORBELL_IOVA, DOORBELL_HPA, PAGE, Attributes(device=True))
        self.ats_enabled = s.EATS_FULL if ats else s.EATS_NONE
        for stream in (STREAM, OTHER):
            self.entry(stream, self.ats_enabled)

    def entry(self, stream: int, eats: int) -> None:
        """Write a function's STE."""
        self.stage2(stream, self.builder.root, (s.STE_EATS, eats))

    def enable(self, *_args: int, **_more: int) -> None:
        """Program a stream table that has room for the functions."""
        super().enable(log2size=9)

    def transfer(self, kind: int, iova: int, length: int, buffer: int = 0, stream: int = STREAM) -> int:
        """Do one request to its end; return its status."""
        ring = self.client.ports[stream].ring
        index = ring.post(kind, iova, length, buffer)
        assert index is not None
        self.client.ports[stream].submit()
        self.run()
        assert ring.completed == (index + 1) % (1 << 32)
        return ring.status(index)


@pytest.fixture(params=[False, True], ids=["mediated", "ats"])
def host(request: pytest.FixtureRequest) -> Host:
    return Host(ats=request.param)


def test_both_ways_move_the_same_bytes(host: Host) -> None:
    host.memory.write(RAM + BLOCK - 10, b"across the border")

    assert host.transfer(d.KIND_READ, GUEST + BLOCK - 10, 17, 100) == d.STATUS_DONE
    assert host.transfer(d.KIND_WRITE, GUEST + BLOCK - 5, 17, 100) == d.STATUS_DONE

    assert host.memory.read(RAM + BLOCK - 5, 17) == b"across the border"


@pytest.mark.parametrize(
    ("kind", "iova", "event"),
    [
        (d.KIND_READ, GUEST - PAGE, "F_TRANSLATION"),
        (d.KIND_WRITE, GUEST + BLOCK + 2 * PAGE, "F_TRANSLATION"),
        (d.KIND_WRITE, GUEST + BLOCK + PAGE, "F_PERMISSION"),
        (d.KIND_READ, RAM, "F_TRANSLATION"),
        (d.KIND_READ, 1 << 48, "F_ADDR_SIZE"),
    ],
)
def test_access_that_is_not_permitted_is_aborted_and_recorded(
    host: Host, kind: int, iova: int, event: str
) -> None:
    host.device_memory[:64] = b"x" * 64

    assert host.transfer(kind, iova, 64) == d.STATUS_ABORT

    assert host.event_names() == [event]
    assert bytes(host.device_memory[:64]) == b"x" * 64


def test_refused_function_does_not_stop_the_other(host: Host) -> None:
    ring = host.client.ports[STREAM].ring
    for _ in range(40):
        ring.post(d.KIND_WRITE, GUEST - PAGE, 64, 0)
    host.client.ports[STREAM].submit()

    host.device_memory[0] = 9
    assert host.transfer(d.KIND_WRITE, GUEST, 1, stream=OTHER) == d.STATUS_DONE

    assert host.memory.read(RAM, 1) == b"\x09"


def test_msi_follows_the_data_it_announces(host: Host) -> None:
    host.device_memory[:5] = b"frame"
    port = host.client.ports[STREAM]
    port.ring.post(d.KIND_WRITE, GUEST, 5, 0)
    port.ring.post(d.KIND_MSI, DOORBELL_IOVA + 0x40, 4, 1)
    port.submit()
    host.run()

    assert host.window.seen == [b"frame"]
    assert host.window.written == [(STREAM, 0x40, 1)]


def test_batches_overlap_and_keep_their_order(host: Host) -> None:
    port = host.client.ports[STREAM]
    for value in range(50):
        host.device_memory[value] = value
        port.ring.post(d.KIND_WRITE, GUEST + PAGE * (value % 2), 1, value)
        if value % 7 == 0:
            port.submit()
            host.serve_iommu()
    port.submit()
    host.run()

    assert port.ring.completed == 50
    assert (host.memory.read(RAM, 1), host.memory.read(RAM + PAGE, 1)) == (bytes([48]), bytes([49]))


def test_device_of_which_the_iommu_moves_every_byte_has_no_host_memory() -> None:
    host = Host(ats=False)
    assert host.transfer(d.KIND_READ, GUEST, 8) == d.STATUS_DONE
    assert host.client.counts.requests == 0
    assert host.attachment.services[STREAM].server.counts == (1, 0, 8, 0)


def test_ats_device_asks_once_for_a_block() -> None:
    host = Host(ats=True)
    for i in range(20):
        assert host.transfer(d.KIND_READ, GUEST + PAGE * i, 8) == d.STATUS_DONE

    assert host.client.counts.requests == 1
    assert host.attachment.services[STREAM].server.counts == (0, 0, 0, 0)


def test_ats_function_that_may_not_use_it_falls_back_to_ordinary_requests() -> None:
    host = Host(ats=True)
    host.entry(STREAM, s.EATS_NONE)

    assert host.transfer(d.KIND_READ, GUEST, 8) == d.STATUS_DONE
    assert host.transfer(d.KIND_READ, GUEST, 8) == d.STATUS_DONE

    assert host.event_names() == ["F_BAD_ATS_TREQ"]
    assert host.attachment.services[STREAM].server.counts == (2, 0, 16, 0)


def _unmap_and_invalidate(host: Host) -> None:
    host.builder.unmap(GUEST + BLOCK, PAGE)
    host.issue(q.OP_TLBI_S12_VMALL, (q.TLBI_VMID, 7))
    if host.ats_enabled:
        host.issue(q.OP_ATC_INV, (q.COMMAND_STREAM, STREAM), (q.ATC_ADDRESS, (GUEST + BLOCK) >> 12))
    host.issue(q.OP_SYNC)


def test_stale_translation_is_not_used_after_sync(host: Host) -> None:
    assert host.transfer(d.KIND_READ, GUEST + BLOCK, 8) == d.STATUS_DONE
    _unmap_and_invalidate(host)
    host.run()
    assert host.consumed()

    assert host.transfer(d.KIND_READ, GUEST + BLOCK, 8) == d.STATUS_ABORT

    assert host.event_names() == ["F_TRANSLATION"]


def test_ats_sync_waits_for_the_device() -> None:
    host = Host(ats=True)
    host.transfer(d.KIND_READ, GUEST + BLOCK, 8)
    _unmap_and_invalidate(host)

    before = host.consumed()
    host.serve_device()
    between = host.consumed()
    host.serve_iommu()

    assert (before, between, host.consumed()) == (False, False, True)


def test_ats_answer_under_way_when_its_invalidation_arrives_is_not_kept() -> None:
    host = Host(ats=True)
    port = host.client.ports[STREAM]
    port.ring.post(d.KIND_READ, GUEST + BLOCK, 8, 0)
    port.submit()
    host.serve_iommu()
    _unmap_and_invalidate(host)
    host.run()

    assert port.ring.completed == 1
    assert port.ring.status(0) == d.STATUS_ABORT


def test_ats_invalidation_of_one_function_leaves_the_other() -> None:
    host = Host(ats=True)
    for stream in (STREAM, OTHER):
        host.transfer(d.KIND_READ, GUEST, 8, stream=stream)
    host.issue(q.OP_ATC_INV, (q.COMMAND_STREAM, STREAM), (q.ATC_SIZE, q.ATC_SIZE_ALL))
    host.run()
    for stream in (STREAM, OTHER):
        host.transfer(d.KIND_READ, GUEST, 8, stream=stream)

    assert host.client.counts.requests == 3


def test_completion_for_another_function_does_not_count() -> None:
    host = Host(ats=True)
    host.issue(q.OP_ATC_INV, (q.COMMAND_STREAM, STREAM), (q.ATC_SIZE, q.ATC_SIZE_ALL))
    host.issue(q.OP_SYNC)
    other = host.client.ports[OTHER]
    assert isinstance(other, AtsPort)
    other.remote.ring.post(d.KIND_INVALIDATED, 0, 0, host.devices.asked[0].tag)
    other.remote.submit()
    host.serve_iommu()
    before = host.consumed()
    host.run()

    assert (before, host.consumed()) == (False, True)


def test_more_invalidations_than_the_queue_holds_arrive_all() -> None:
    host = Host(ats=True, slots=256)
    for _ in range(area.INVALIDATE_SLOTS + 20):
        assert host.attachment.invalidate(_everything())
    host.run()

    assert host.client.counts.invalidations == area.INVALIDATE_SLOTS + 20


def _everything() -> AtsInvalidation:
    return AtsInvalidation(1, STREAM, None, 0, 1 << 64, False)


def test_device_that_is_gone_holds_nothing_up() -> None:
    host = Host(ats=True)
    _unmap_and_invalidate(host)
    host.attachment.drop()
    host.smmu.forget_device(STREAM)

    assert host.consumed()
    assert not host.attachment.invalidate(_everything())


def test_ats_request_that_needs_more_than_the_cache_holds_goes_to_the_iommu() -> None:
    host = Host(ats=True)
    host.builder.unmap(GUEST, BLOCK)
    for page in range(17):
        host.builder.map(GUEST + page * PAGE, RAM + page * PAGE, PAGE)
    host.client = DmaClient(host.shared, (STREAM, OTHER), host.to_iommu, host.memory, Iotlb(4, 2))
    host.memory.write(RAM + 100, bytes(range(256)) * 256)

    assert host.transfer(d.KIND_READ, GUEST + 100, d.LENGTH_MAX) == d.STATUS_DONE

    assert bytes(host.device_memory[: d.LENGTH_MAX]) == bytes(range(256)) * 256
    assert host.client.counts.forwarded == 1
