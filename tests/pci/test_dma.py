"""The DMA contract of a function: batches, order, refusals; with memory in the same process."""

import pytest

from testbed.pci.dma import RingPort
from testbed.spec import dma_request as d
from tests.iommu.machine import GUEST, PAGE, RAM
from tests.support.dma_rig import DmaRig

STREAM, OTHER = 1, 2


@pytest.fixture
def rig() -> DmaRig:
    rig = DmaRig(STREAM, OTHER, slots=16)
    rig.stage2(STREAM, rig.stage2_tables().root)
    return rig


def test_read_copies_host_memory_into_device_memory(rig: DmaRig) -> None:
    rig.memory.write(RAM + 100, b"descriptor")
    port = rig.ports[STREAM]
    index = port.ring.post(d.KIND_READ, GUEST + 100, 10, 5000)

    port.submit()

    assert index is not None
    assert port.ring.completed == index + 1
    assert port.ring.status(index) == d.STATUS_DONE
    assert rig.device_memory[5000:5010] == b"descriptor"


@pytest.mark.parametrize("length", [1, 8, 60, 64, 1024, 1032, 2 * PAGE + 5, d.LENGTH_MAX])
def test_write_copies_device_memory_into_host_memory(rig: DmaRig, length: int) -> None:
    data = bytes(i * 7 % 251 for i in range(length))
    rig.device_memory[64 : 64 + length] = data
    port = rig.ports[STREAM]
    for _ in range(2):  # by a walk, then by the translation cache
        port.ring.post(d.KIND_WRITE, GUEST + PAGE - 8, length, 64)
        port.submit()
        assert rig.memory.read(RAM + PAGE - 8, length + 1) == data + b"\0"
        rig.memory.write(RAM + PAGE - 8, bytes(length))


def test_batch_is_dealt_with_in_order(rig: DmaRig) -> None:
    rig.device_memory[:4] = b"abcd"
    port = rig.ports[STREAM]
    for at in (0, 1, 2):
        port.ring.post(d.KIND_WRITE, GUEST, 1, at)
    port.ring.post(d.KIND_READ, GUEST, 1, 100)
    port.ring.post(d.KIND_WRITE, GUEST, 1, 3)

    port.submit()

    assert bytes(rig.device_memory[100:101]) + rig.memory.read(RAM, 1) == b"cd"


def test_refused_request_moves_nothing_and_the_others_go_on(rig: DmaRig) -> None:
    rig.device_memory[:3] = b"xyz"
    port = rig.ports[STREAM]
    posted = [
        port.ring.post(d.KIND_WRITE, GUEST, 1, 0),
        port.ring.post(d.KIND_WRITE, GUEST - PAGE, 1, 1),
        port.ring.post(d.KIND_WRITE, GUEST + 1, 1, 2),
    ]

    port.submit()

    assert [port.ring.status(index) for index in posted if index is not None] == [0, d.STATUS_ABORT, 0]
    assert rig.memory.read(RAM, 3) == b"xz\0"
    assert rig.event_names() == ["F_TRANSLATION"]


def test_ring_that_is_full_takes_no_more_until_requests_are_completed(rig: DmaRig) -> None:
    port = rig.ports[STREAM]
    assert all(port.ring.post(d.KIND_READ, GUEST, 1, 0) is not None for _ in range(16))
    assert (port.ring.room, port.ring.post(d.KIND_READ, GUEST, 1, 0)) == (0, None)

    port.submit()

    assert port.ring.completed == 16
    assert port.ring.room == 16


def test_indexes_run_on_over_many_rounds(rig: DmaRig) -> None:
    port = rig.ports[STREAM]
    for value in range(100):
        rig.device_memory[0] = value
        port.ring.post(d.KIND_WRITE, GUEST + value, 1, 0)
        port.submit()
        assert port.ring.completed == value + 1
    assert rig.memory.read(RAM, 100) == bytes(range(100))


def test_port_rings_only_where_there_is_something_new() -> None:
    class Bell:
        rung = 0

        def ring(self) -> None:
            self.rung += 1

    rig, bell = DmaRig(STREAM), Bell()
    port = RingPort(rig.ports[STREAM].ring, bell)

    port.submit()
    port.ring.post(d.KIND_READ, GUEST, 1, 0)
    port.submit()
    port.submit()

    assert bell.rung == 1


def test_immediate_port_serves_what_was_submitted() -> None:
    rig = DmaRig(STREAM)
    rig.bypass(STREAM)
    rig.memory.write(RAM, b"\x2a")
    port = rig.ports[STREAM]
    port.ring.post(d.KIND_READ, RAM, 1, 0)

    port.submit()

    assert port.ring.completed == 1
    assert not port.ring.ready
    assert rig.device_memory[0] == 0x2A


def test_ring_is_ready_while_completions_were_not_looked_at(rig: DmaRig) -> None:
    ring = rig.ports[STREAM].ring
    before = ring.ready
    ring.post(d.KIND_READ, GUEST, 1, 0)
    rig.ports[STREAM].submit()
    news = ring.ready
    assert ring.completed == 1

    assert (before, news, ring.ready) == (False, True, False)
