"""The memory that a device and its host's IOMMU share: bells, DMA rings, invalidation requests.

Reference: our own records for what a PCIe link carries between an endpoint and a root complex; Invalidate
Request and Completion, PCI Express Base Specification §10.3. The completions travel as requests in the DMA
ring of the function that they are for.
"""

from typing import Final

from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.spec.dma_request import ring_bytes
from testbed.spec.layout import Field, Record

INVALIDATE_REQUEST: Final = Record(
    "invalidate_request", 32, "PCI Express §10.3.1",
    Field("address", 0, 8), Field("tag", 8, 4), Field("stream", 12, 4),
    Field("substream", 16, 4, "NO_SUBSTREAM: translations of requests without PASID"),
    Field("size_log2", 20, 4, "naturally aligned around the address; 64: everything"),
)  # fmt: skip
INVALIDATE_TAG_BITS: Final = 32
INVALIDATE_SLOTS: Final = 64

DMA_AREA: Final = Record(
    "dma_area", PAGE_SIZE_BYTES, "our own record: the first page",
    Field("to_iommu_rung", 0, 8), Field("to_iommu_armed", 8, 4), Field("to_iommu_sent", 16, 8),
    Field("to_device_rung", 64, 8), Field("to_device_armed", 72, 4), Field("to_device_sent", 80, 8),
    Field("invalidate_posted", 128, 4, "invalidation requests so far, the IOMMU's"),
    Field("invalidate_taken", 192, 4, "invalidation requests taken so far, the device's"),
    Field("invalidate", 1024, 8, "invalidate_request records", count=4 * INVALIDATE_SLOTS),
)  # fmt: skip
BELL_TO_IOMMU: Final = DMA_AREA.offset("to_iommu_rung")
BELL_TO_DEVICE: Final = DMA_AREA.offset("to_device_rung")


def ring_offset(index: int, slots: int) -> int:
    """Return where the ring of a device's function number `index` begins, in bytes."""
    return DMA_AREA.size + index * align_up(ring_bytes(slots), PAGE_SIZE_BYTES)


def area_bytes(functions: int, slots: int) -> int:
    """Return the size of the area of a device with so many functions."""
    return ring_offset(functions, slots)
