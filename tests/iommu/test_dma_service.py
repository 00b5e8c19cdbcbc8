"""Hostile and unusual requests of a DMA ring: contained, counted, attributed to the ring's own requester."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.iommu.dma_service import REFUSAL_NS, REFUSALS_BURST
from testbed.memory.tables import Attributes, TableBuilder
from testbed.spec import dma_request as d
from testbed.spec import smmu as s
from tests.iommu.machine import GUEST, PAGE, RAM, RAM_BYTES
from tests.support.dma_rig import DEVICE_MEMORY_BYTES, DmaRig, Window

STREAM, OTHER = 1, 2
DOORBELL_HPA = 0x100_0808_0000
DOORBELL_IOVA = 0x0808_0000
SLOTS = 256


@pytest.fixture
def rig() -> DmaRig:
    rig = DmaRig(STREAM, OTHER, slots=SLOTS)
    builder = TableBuilder(rig.memory, rig.frames, 2)
    builder.map(GUEST, RAM, 1 << 21)
    builder.map(GUEST + (1 << 21), RAM + (1 << 21), PAGE, Attributes(write=False))
    builder.map(DOORBELL_IOVA, DOORBELL_HPA, PAGE, Attributes(device=True))
    rig.stage2(STREAM, builder.root)
    rig.bypass(OTHER)
    return rig


def _scribble(rig: DmaRig, index: int, stream: int = STREAM, **fields: int) -> None:
    """Overwrite a posted request of `STREAM`'s ring."""
    values = {"iova": GUEST, "length": 8, "stream": stream, "substream": d.NO_SUBSTREAM, **fields}
    at = d.DMA_RING_HEAD.size + index * d.DMA_REQUEST.size
    rig.pages[STREAM][at : at + d.DMA_REQUEST.size] = d.DMA_REQUEST.pack(**values)


def _ask(rig: DmaRig, **fields: int) -> int:
    """Have one scribbled request served; return its status."""
    index = rig.ports[STREAM].ring.post(d.KIND_READ, 0, 0, 0)
    assert index is not None
    _scribble(rig, index, **fields)
    rig.ports[STREAM].submit()
    assert rig.ports[STREAM].ring.completed == index + 1
    return rig.ports[STREAM].ring.status(index)


@pytest.mark.parametrize("kind", [d.KIND_READ, d.KIND_WRITE])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(DEVICE_MEMORY_BYTES, 1), (DEVICE_MEMORY_BYTES - 7, 8), (0xFFFF_FFFF, 8), (0xFFFF_FFF8, 16)],
)
def test_buffer_outside_device_memory_is_malformed(rig: DmaRig, kind: int, offset: int, length: int) -> None:
    before = rig.memory.read(RAM, 64)

    assert _ask(rig, kind=kind, buffer=offset, length=length) == d.STATUS_UNSUPPORTED

    assert rig.services[STREAM].counts.malformed == 1
    assert (rig.memory.read(RAM, 64), any(rig.device_memory)) == (before, False)


@pytest.mark.parametrize(
    "fields", [{"kind": 5}, {"kind": 0xFFFF}, {"length": d.LENGTH_MAX + 1}, {"length": 0xFFFF_FFFF}]
)
def test_malformed_request_is_unsupported(rig: DmaRig, fields: dict[str, int]) -> None:
    assert _ask(rig, **fields) == d.STATUS_UNSUPPORTED
    assert rig.services[STREAM].counts.malformed == 1


def test_request_in_another_name_is_refused_although_the_other_may(rig: DmaRig) -> None:
    rig.device_memory[:4] = b"evil"

    assert _ask(rig, stream=OTHER, iova=RAM, kind=d.KIND_WRITE) == d.STATUS_UNSUPPORTED

    assert rig.services[STREAM].counts.foreign_stream == 1
    assert rig.memory.read(RAM, 4) == bytes(4)


def test_write_to_a_read_only_page_moves_nothing_also_of_the_pages_before_it(rig: DmaRig) -> None:
    rig.device_memory[:64] = b"x" * 64

    assert _ask(rig, iova=GUEST + (1 << 21) - 32, length=64, kind=d.KIND_WRITE) == d.STATUS_ABORT

    assert rig.memory.read(RAM + (1 << 21) - 32, 64) == bytes(64)
    assert rig.event_names() == ["F_PERMISSION"]


def test_index_that_cannot_be_kills_the_ring_and_no_other(rig: DmaRig) -> None:
    rig.pages[STREAM][:4] = (SLOTS + 1).to_bytes(4, "little")

    assert not rig.services[STREAM].serve()
    rig.memory.write(RAM, b"\x07")
    rig.ports[OTHER].ring.post(d.KIND_READ, RAM, 1, 0)
    rig.ports[OTHER].submit()

    assert rig.services[STREAM].totals()["broken"] == 1
    assert not rig.services[OTHER].totals()["broken"]
    assert not rig.services[STREAM].server.ready
    assert rig.device_memory[0] == 7


def test_msi_reaches_the_interrupt_controller_behind_the_data_it_announces(rig: DmaRig) -> None:
    window = rig.windows[DOORBELL_HPA] = Window(look=lambda: rig.memory.read(RAM, 4))
    rig.device_memory[:4] = b"data"
    ring = rig.ports[STREAM].ring
    ring.post(d.KIND_WRITE, GUEST, 4, 0)
    ring.post(d.KIND_MSI, DOORBELL_IOVA + 0x40, d.MSI_BYTES, 33)

    rig.ports[STREAM].submit()

    assert window.seen == [b"data"]
    assert rig.services[STREAM].counts.messages == 1


def test_msi_carries_requester_register_and_value(rig: DmaRig) -> None:
    window = rig.windows[DOORBELL_HPA] = Window()

    assert _ask(rig, kind=d.KIND_MSI, iova=DOORBELL_IOVA + 0x40, buffer=0xFFFF_FFFF) == d.STATUS_DONE

    assert window.written == [(STREAM, 0x40, 0xFFFF_FFFF)]


def test_write_of_a_word_into_the_window_is_an_msi_like_any_other(rig: DmaRig) -> None:
    window = rig.windows[DOORBELL_HPA] = Window()
    rig.device_memory[8:12] = (77).to_bytes(4, "little")

    assert _ask(rig, kind=d.KIND_WRITE, iova=DOORBELL_IOVA + 0x40, length=4, buffer=8) == d.STATUS_DONE

    assert window.written == [(STREAM, 0x40, 77)]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": d.KIND_WRITE, "length": 8},
        {"kind": d.KIND_WRITE, "length": 4, "iova": DOORBELL_IOVA + 2},
        {"kind": d.KIND_READ, "length": 4},
        {"kind": d.KIND_MSI, "iova": DOORBELL_IOVA + 1},
    ],
)
def test_other_access_to_the_window_is_aborted(rig: DmaRig, fields: dict[str, int]) -> None:
    window = rig.windows[DOORBELL_HPA] = Window()

    assert _ask(rig, **{"iova": DOORBELL_IOVA, **fields}) == d.STATUS_ABORT

    assert window.written == []


def test_msi_that_nothing_takes_is_aborted(rig: DmaRig) -> None:
    rig.windows[DOORBELL_HPA] = Window(answer=None)
    assert _ask(rig, kind=d.KIND_MSI, iova=DOORBELL_IOVA, buffer=1) == d.STATUS_ABORT


def test_events_that_lead_nowhere_spend_the_budget_and_hold_up_nobody_else(rig: DmaRig) -> None:
    window = rig.windows[DOORBELL_HPA] = Window(answer=False)
    for event in range(REFUSALS_BURST + 10):
        rig.ports[STREAM].ring.post(d.KIND_MSI, DOORBELL_IOVA, d.MSI_BYTES, event)
    rig.ports[STREAM].submit()
    assert len(window.written) == REFUSALS_BURST
    assert rig.services[STREAM].counts.paused == 1

    rig.windows[DOORBELL_HPA] = other = Window()
    rig.ports[OTHER].ring.post(d.KIND_MSI, DOORBELL_HPA, d.MSI_BYTES, 1)
    rig.ports[OTHER].submit()
    assert other.written == [(OTHER, 0, 1)]

    rig.now_ns += REFUSAL_NS
    assert rig.services[STREAM].serve()
    assert len(other.written) == 11


def test_msi_that_is_not_mapped_is_an_event(rig: DmaRig) -> None:
    assert _ask(rig, kind=d.KIND_MSI, iova=DOORBELL_IOVA + PAGE, buffer=1) == d.STATUS_ABORT
    assert rig.event_names() == ["F_TRANSLATION"]


def test_msi_into_memory_is_a_write_of_its_value(rig: DmaRig) -> None:
    assert _ask(rig, kind=d.KIND_MSI, iova=GUEST + 16, buffer=0x0403_0201) == d.STATUS_DONE
    assert rig.memory.read(RAM + 16, 5) == b"\1\2\3\4\0"


def test_translated_request_without_ats_is_forbidden(rig: DmaRig) -> None:
    rig.write("CR0", 0b1_1101)

    assert _ask(rig, flags=d.FLAG_TRANSLATED, iova=RAM) == d.STATUS_ABORT

    assert rig.event_names() == ["F_TRANSL_FORBIDDEN"]


def test_translated_request_with_ats_reaches_its_address(rig: DmaRig) -> None:
    rig.write("CR0", 0b1_1101)
    rig.stage2(STREAM, rig.stage2_tables().root, (s.STE_EATS, s.EATS_FULL))
    rig.memory.write(RAM + 5, b"\x2a")

    assert _ask(rig, flags=d.FLAG_TRANSLATED, iova=RAM + 5, length=1) == d.STATUS_DONE

    assert rig.device_memory[0] == 0x2A


def test_refusals_beyond_the_budget_wait_and_delay_nobody_else(rig: DmaRig) -> None:
    ring = rig.ports[STREAM].ring
    for _ in range(REFUSALS_BURST + 10):
        ring.post(d.KIND_READ, 0, 8, 0)
    rig.ports[STREAM].submit()
    service = rig.services[STREAM]
    assert (ring.completed, service.serve()) == (REFUSALS_BURST, False)
    assert not service.server.active

    rig.ports[OTHER].ring.post(d.KIND_READ, RAM, 1, 0)
    rig.ports[OTHER].submit()
    assert rig.ports[OTHER].ring.completed == 1

    rig.now_ns = service.deadline_ns() or 0
    assert service.serve()
    assert ring.completed == REFUSALS_BURST + 1
    rig.now_ns += 9 * REFUSAL_NS
    while service.serve():
        pass
    assert ring.completed == REFUSALS_BURST + 10


def test_ring_whose_requester_is_gone_is_served_no_more_also_when_its_budget_fills(rig: DmaRig) -> None:
    ring, service = rig.ports[STREAM].ring, rig.services[STREAM]
    for _ in range(REFUSALS_BURST + 10):
        ring.post(d.KIND_READ, 0, 8, 0)
    rig.ports[STREAM].submit()
    due_ns = service.deadline_ns()
    assert due_ns is not None
    service.end()
    assert service.deadline_ns() is None
    service.resume(due_ns)
    assert not service.server.active


ROW = st.tuples(
    st.one_of(st.integers(0, (1 << 64) - 1), st.integers(GUEST - PAGE, GUEST + RAM_BYTES)),
    st.one_of(st.integers(0, (1 << 32) - 1), st.integers(0, 3 * PAGE)),
    st.sampled_from([STREAM, OTHER, 0, 0xFFFF_FFFF]),
    st.sampled_from([d.NO_SUBSTREAM, 0, 1, 0xFFFF_FFFE]),
    st.integers(0, 8),
    st.integers(0, 15),
    st.one_of(st.integers(0, (1 << 32) - 1), st.integers(0, DEVICE_MEMORY_BYTES)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=8))
def test_any_requests_are_dealt_with_and_touch_nothing_else(rows: list[tuple[int, ...]]) -> None:
    rig = DmaRig(STREAM, OTHER, slots=SLOTS)
    builder = TableBuilder(rig.memory, rig.frames, 2)
    builder.map(GUEST, RAM + PAGE, 2 * PAGE)
    rig.stage2(STREAM, builder.root)
    rig.bypass(OTHER)
    rig.write("CR0", 0b1_1101)
    rig.device_memory[:] = b"\xff" * DEVICE_MEMORY_BYTES
    tables = rig.memory.read(builder.root, PAGE)
    for row in rows:
        _ask(
            rig,
            **dict(
                zip(("iova", "length", "stream", "substream", "kind", "flags", "buffer"), row, strict=True)
            ),
        )

    assert rig.memory.read(builder.root, PAGE) == tables
    assert not any(rig.memory.read(RAM, PAGE))
    assert not any(rig.memory.read(RAM + 3 * PAGE, RAM_BYTES - 3 * PAGE))
