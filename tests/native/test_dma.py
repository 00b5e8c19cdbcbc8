"""The IOMMU's side of a DMA ring beside a plain model of what it does, and under a ring that changes while it
is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.native import (
    POST_WAKE,
    SERVE_ATTENTION,
    SERVE_BROKEN,
    SERVE_IDLE,
    SERVE_LIMIT,
    SERVE_TELL,
    DmaRequester,
    DmaServer,
    HostMap,
    Iotlb,
    ItsCache,
    LpiPort,
    Pinned,
    SharedWords,
)
from testbed.spec import dma_request as d
from testbed.spec import lpi
from testbed.spec import page_table as pt
from tests.support.scribbler import Target, scribbling
from tests.support.strict_memory import BASE_GPA, StrictMemory

SLOTS: Final = 16
PAGE: Final = 4096
DEVICE_BYTES: Final = 3 * PAGE
RAM_BYTES: Final = 4 * PAGE
RING_BYTES: Final = d.ring_bytes(SLOTS)
STREAM: Final = 0x180
HPA: Final = 0x100_0000_0000
IOVA: Final = 0x4000_0000
READ_ONLY_PAGE: Final = 3
ROUNDS: Final = 3000


class Rig:
    """A ring, device memory and RAM between canaries; every page of RAM but the last two may be written."""

    def __init__(self) -> None:
        self.memory = StrictMemory(RING_BYTES, DEVICE_BYTES, RAM_BYTES)
        self.device_at = BASE_GPA + RING_BYTES
        self.ram_at = self.device_at + DEVICE_BYTES
        page = self.memory.pinned(BASE_GPA, RING_BYTES)
        host, self.cache = HostMap(), Iotlb()
        ram = self.memory.view(self.ram_at, RAM_BYTES)
        host.add(HPA, Pinned(ram[: READ_ONLY_PAGE * PAGE]))
        host.add(HPA + READ_ONLY_PAGE * PAGE, Pinned(ram[READ_ONLY_PAGE * PAGE :], False), False)
        context = self.cache.add_context(STREAM, None, 0, 0)
        assert context is not None
        both = pt.PERMISSION_READ | pt.PERMISSION_WRITE
        for index, permissions in enumerate((both, both, pt.PERMISSION_READ, both)):
            at = index * PAGE
            self.cache.fill(context, IOVA + at, HPA + at, PAGE, permissions, False, 0)
        self.requester = DmaRequester(page, 0, SLOTS, STREAM)
        device = self.memory.pinned(self.device_at, DEVICE_BYTES)
        self.server = DmaServer(page, 0, SLOTS, STREAM, device, host, self.cache)

    def slot(self, index: int) -> int:
        """Return where a slot lies."""
        return BASE_GPA + d.DMA_RING_HEAD.size + index % SLOTS * d.DMA_REQUEST.size


@dataclass(frozen=True)
class Asked:
    """One request."""

    kind: int
    iova: int
    length: int
    buffer: int
    flags: int = 0
    stream: int = STREAM

    @property
    def is_ordinary(self) -> bool:
        """Whether the server does it without asking anybody."""
        inside = self.buffer + self.length <= DEVICE_BYTES
        return (
            self.kind in (d.KIND_READ, d.KIND_WRITE)
            and not self.flags & d.FLAG_TRANSLATED
            and self.stream == STREAM
            and inside
            and self._is_permitted()
        )

    def _is_permitted(self) -> bool:
        end = 2 * PAGE if self.kind == d.KIND_WRITE else RAM_BYTES
        if self.length == 0:
            return True
        unprivileged = not self.flags & d.FLAG_PRIVILEGED  # what the cache grants
        return unprivileged and self.iova >= IOVA and self.iova + self.length <= IOVA + end

    def do(self, device: bytearray, ram: bytearray) -> None:
        """Do it on plain copies of both memories."""
        at = self.iova - IOVA
        if self.length == 0:
            return
        if self.kind == d.KIND_READ:
            device[self.buffer : self.buffer + self.length] = ram[at : at + self.length]
        else:
            ram[at : at + self.length] = device[self.buffer : self.buffer + self.length]


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.memory.assert_intact()


REQUESTS = st.lists(
    st.builds(
        Asked,
        kind=st.integers(0, 5),
        iova=st.integers(IOVA - 16, IOVA + RAM_BYTES + 16),
        length=st.one_of(st.integers(0, 80), st.integers(0, d.LENGTH_MAX + 1)),
        buffer=st.one_of(st.integers(0, DEVICE_BYTES), st.integers(0, (1 << 32) - 1)),
        flags=st.sampled_from([0, 0, 0, d.FLAG_TRANSLATED, d.FLAG_PRIVILEGED]),
        stream=st.sampled_from([STREAM, STREAM, STREAM, STREAM + 1]),
    ),
    min_size=1,
    max_size=SLOTS,
)


@settings(max_examples=150, deadline=None)
@given(REQUESTS, st.integers(1, SLOTS))
def test_server_does_what_a_plain_model_does(asked: list[Asked], limit: int) -> None:
    rig = Rig()
    device, ram = bytearray(range(256)) * (DEVICE_BYTES // 256), bytearray(RAM_BYTES)
    ram[:] = bytes(reversed(range(256))) * (RAM_BYTES // 256)
    rig.memory.write(rig.device_at, bytes(device))
    rig.memory.write(rig.ram_at, bytes(ram))
    for index, one in enumerate(asked):
        rig.requester.post(one.kind, one.iova, one.length, one.buffer, flags=one.flags)
        rig.memory.store(rig.slot(index) + d.DMA_REQUEST.offset("stream"), 4, one.stream)
    rig.requester.submit()
    waited = []
    while (answer := rig.server.serve(limit))[1] != SERVE_IDLE:
        if answer[1] == SERVE_ATTENTION:
            waited.append(rig.server.served)
            rig.server.finish(d.STATUS_ABORT)

    for one in asked:
        if one.is_ordinary:
            one.do(device, ram)
    assert waited == [index for index, one in enumerate(asked) if not one.is_ordinary]
    assert rig.memory.read(rig.device_at, DEVICE_BYTES) == bytes(device)
    assert rig.memory.read(rig.ram_at, RAM_BYTES) == bytes(ram)
    assert [rig.requester.status(i) for i in waited] == [d.STATUS_ABORT] * len(waited)
    assert rig.requester.completed == len(asked)
    rig.memory.assert_intact()


def test_ring_that_changes_while_it_is_read_stays_inside(rig: Rig) -> None:
    targets = []
    for index in range(SLOTS):
        for name, right, odd in (
            ("iova", IOVA + 64 * index, (0, IOVA + RAM_BYTES, IOVA + PAGE - 8, (1 << 64) - 8)),
            ("length", 64, (0, PAGE, d.LENGTH_MAX, (1 << 32) - 1)),
            ("buffer", 64 * index, (DEVICE_BYTES, (1 << 32) - 1, DEVICE_BYTES - 8)),
            ("kind", d.KIND_WRITE, (d.KIND_READ, d.KIND_MSI, 0xFFFF)),
            ("stream", STREAM, (0,)),
        ):
            size = next(field.size for field in d.DMA_REQUEST.fields if field.name == name)
            targets.append(Target(rig.slot(index) + d.DMA_REQUEST.offset(name), size, right, odd))
        rig.memory.store(rig.slot(index) + d.DMA_REQUEST.offset("substream"), 4, d.NO_SUBSTREAM)
    outcomes = set()
    with scribbling(rig.memory, targets):
        for _ in range(ROUNDS):
            assert rig.requester.completed is not None
            rig.requester.repeat(SLOTS)
            rig.requester.submit()
            while (answer := rig.server.serve(SLOTS))[1] != SERVE_IDLE:
                outcomes.add(answer[1])
                rig.server.in_device_memory()
                rig.server.finish(d.STATUS_UNSUPPORTED)

    assert outcomes <= {SERVE_ATTENTION}
    assert rig.server.counts[1] > ROUNDS


def test_limit_leaves_the_rest_for_the_next_turn(rig: Rig) -> None:
    for _ in range(5):
        rig.requester.post(d.KIND_READ, IOVA, 8, 0)
    rig.requester.submit()

    assert [rig.server.serve(2) for _ in range(3)] == [(2, SERVE_LIMIT), (2, SERVE_LIMIT), (1, SERVE_IDLE)]


@pytest.mark.parametrize("posted", [SLOTS + 1, 1 << 31, (1 << 32) - 1])
def test_impossible_index_breaks_the_ring_for_good(rig: Rig, posted: int) -> None:
    rig.memory.store(BASE_GPA, 4, posted)
    assert rig.server.serve(SLOTS) == (0, SERVE_BROKEN)
    rig.memory.store(BASE_GPA, 4, 1)

    assert rig.server.serve(SLOTS) == (0, SERVE_BROKEN)
    assert not rig.server.ready


def test_indexes_wrap_at_two_to_the_power_of_32() -> None:
    rig = Rig()
    for name in ("posted", "completed"):
        rig.memory.store(BASE_GPA + d.DMA_RING_HEAD.offset(name), 4, (1 << 32) - 3)
    page = rig.memory.pinned(BASE_GPA, RING_BYTES)
    device = rig.memory.pinned(rig.device_at, DEVICE_BYTES)
    host = HostMap()
    host.add(HPA, rig.memory.pinned(rig.ram_at, RAM_BYTES))
    requester = DmaRequester(page, 0, SLOTS, STREAM)
    server = DmaServer(page, 0, SLOTS, STREAM, device, host, rig.cache)
    for _ in range(SLOTS):
        requester.post(d.KIND_READ, IOVA, 8, 0)
    requester.submit()

    assert server.serve(SLOTS) == (SLOTS, SERVE_IDLE)
    assert (requester.completed, requester.room) == (SLOTS - 3, SLOTS)


def test_completed_count_that_cannot_be_is_not_believed(rig: Rig) -> None:
    rig.requester.post(d.KIND_READ, IOVA, 8, 0)
    rig.requester.submit()
    rig.memory.store(BASE_GPA + d.DMA_RING_HEAD.offset("completed"), 4, 7)

    assert (rig.requester.completed, rig.requester.room) == (0, SLOTS - 1)


def test_runs_that_are_no_memory_move_nothing(rig: Rig) -> None:
    rig.memory.write(rig.device_at, b"\xaa" * 64)
    rig.requester.post(d.KIND_WRITE, 0, 64, 0)
    rig.requester.submit()
    assert rig.server.serve(1) == (0, SERVE_ATTENTION)

    refused = [
        rig.server.move([(HPA, 32), (HPA + RAM_BYTES, 32)]),
        rig.server.move([(HPA, 32), (HPA + READ_ONLY_PAGE * PAGE, 32)]),
        rig.server.move([(HPA, 32)]),
        rig.server.move([(HPA + PAGE, 1 << 31), (HPA, (1 << 31) + 64)]),
    ]

    assert refused == [False] * 4
    assert not any(rig.memory.read(rig.ram_at, RAM_BYTES))
    assert rig.server.move([(HPA + 5, 32), (HPA + 100, 32)])
    assert rig.memory.read(rig.ram_at, RAM_BYTES).count(b"\xaa") == 64


@pytest.mark.parametrize(("offset", "slots"), [(0, 0), (0, 3), (8, 16), (64, 16), (-64, 16)])
def test_ring_that_does_not_fit_is_refused(offset: int, slots: int) -> None:
    rig = Rig()
    with pytest.raises(ValueError, match=r"DMA ring|do not fit"):
        DmaRequester(rig.memory.pinned(BASE_GPA, RING_BYTES), offset, slots, STREAM)


TRANSLATER: Final = PAGE + 0x40
EVENT, NUMBER, PROCESSOR = 3, 70, 1


def led(rig: Rig) -> tuple[LpiPort, Pinned]:
    """Have one event of the ring's requester lead to an LPI; return where it is raised."""
    page = Pinned(bytearray(lpi.LPI_PAGE.size))
    port, its = LpiPort(page), ItsCache(16)
    its.fill_physical(STREAM, EVENT, 0, NUMBER, port, PROCESSOR)
    rig.server.lead_messages(HPA + TRANSLATER, its)
    return port, page


def test_messages_are_posted_in_their_order_where_their_event_is_cached(rig: Rig) -> None:
    port, page = led(rig)
    SharedWords(page).store32(lpi.LPI_PAGE.offset("armed"), 1)
    post = rig.requester.post
    post(d.KIND_WRITE, IOVA, 8, 0)
    for event in (EVENT, EVENT, EVENT + 1):
        post(d.KIND_MSI, IOVA + TRANSLATER, d.MSI_BYTES, event)
    rig.requester.submit()

    assert rig.server.serve(SLOTS) == (2, SERVE_TELL)
    assert rig.server.told == (POST_WAKE, PROCESSOR, -1)
    assert rig.server.serve(SLOTS) == (1, SERVE_ATTENTION)
    assert (rig.server.current[0], rig.server.current[-1]) == (d.KIND_MSI, EVENT + 1)
    rig.server.finish(d.STATUS_DONE)
    assert rig.server.serve(SLOTS) == (0, SERVE_IDLE)
    assert (rig.server.messages, port.take_all(), rig.requester.completed) == (2, [NUMBER], 4)


@pytest.mark.parametrize(
    "asked",
    [
        Asked(d.KIND_MSI, IOVA + TRANSLATER + 4, d.MSI_BYTES, EVENT),
        Asked(d.KIND_MSI, IOVA + 2 * PAGE + 0x40, d.MSI_BYTES, EVENT),
        Asked(d.KIND_MSI, IOVA + TRANSLATER, 8, EVENT),
        Asked(d.KIND_MSI, IOVA + TRANSLATER, 0, EVENT),
        Asked(d.KIND_MSI, IOVA + TRANSLATER, d.MSI_BYTES, EVENT, d.FLAG_TRANSLATED),
        Asked(d.KIND_MSI, IOVA + TRANSLATER, d.MSI_BYTES, 0xFFFF_FFFF),
    ],
)
def test_other_messages_wait_for_a_decision(rig: Rig, asked: Asked) -> None:
    port, _ = led(rig)
    rig.requester.post(asked.kind, asked.iova, asked.length, asked.buffer, flags=asked.flags)
    rig.requester.submit()
    assert rig.server.serve(SLOTS) == (0, SERVE_ATTENTION)
    assert (rig.server.messages, port.take_all()) == (0, [])
