"""DMA requests, their ring and their area: our own records, typed again, so that they change on purpose.

The kinds are those of PCI Express §2.2 and §10, the status codes those of §2.2.9 (table 2-34).
"""

import pytest

from testbed.spec import dma_area, iommu_window
from testbed.spec import dma_request as d
from testbed.spec.layout import Record

RECORDS = [
    (
        d.DMA_REQUEST,
        32,
        {
            "iova": (0, 8), "length": (8, 4), "stream": (12, 4), "substream": (16, 4), "kind": (20, 2),
            "flags": (22, 2), "buffer": (24, 4), "status": (28, 4),
        },
    ),
    (d.DMA_PIECE, 16, {"hpa": (0, 8), "length": (8, 4), "request": (12, 4)}),
    (d.DMA_RING_HEAD, 128, {"posted": (0, 4), "completed": (64, 4)}),
    (
        dma_area.INVALIDATE_REQUEST,
        32,
        {"address": (0, 8), "tag": (8, 4), "stream": (12, 4), "substream": (16, 4), "size_log2": (20, 4)},
    ),
    (
        iommu_window.IOMMU_WIRES,
        64,
        {"event_queue": (0, 4), "global_error": (4, 4), "command_sync": (8, 4)},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("record", "size", "members"), RECORDS, ids=[row[0].name for row in RECORDS])
def test_record_is_laid_out_as_it_was(record: Record, size: int, members: dict[str, tuple[int, int]]) -> None:
    assert record.size == size
    assert {f.name: (f.offset, f.size * f.count) for f in record.fields} == members


def test_completion_status_is_that_of_pci_express() -> None:
    assert (d.STATUS_DONE, d.STATUS_UNSUPPORTED, d.STATUS_ABORT) == (0b000, 0b001, 0b100)


def test_request_touches_at_most_so_many_pages() -> None:
    assert (d.LENGTH_MAX, d.PIECES_MAX) == (65536, 17)


def test_what_two_sides_write_is_on_lines_of_its_own() -> None:
    head = d.DMA_RING_HEAD
    assert head.offset("completed") - head.offset("posted") >= 64
    area = dma_area.DMA_AREA
    lines = {area.offset(name) // 64 for name in ("to_iommu_rung", "to_device_rung", "invalidate_posted")}
    assert len(lines | {area.offset("invalidate_taken") // 64}) == 4


@pytest.mark.parametrize("functions", [1, 9])
def test_rings_follow_the_first_page_and_do_not_overlap(functions: int) -> None:
    places = [dma_area.ring_offset(index, 1024) for index in range(functions)]
    assert places == [4096 + index * 36864 for index in range(functions)]
    assert dma_area.area_bytes(functions, 1024) == 4096 + functions * 36864
