"""What a DMA master asks of the IOMMU, the ring in which it asks, and the pieces of host memory that an
answer consists of.

Reference: our own records, named after what a PCIe memory request carries: address, length, requester ID
(StreamID) and PASID (SubstreamID), PCI Express Base Specification §2.2; completion status §2.2.9; ATS
requests §10. Each function of a NIC has a ring of its own: a head and a power of two of slots, indexes free
running modulo 2 to the power of 32.
"""

from typing import Final

from testbed.spec.layout import Field, Record

DMA_REQUEST: Final = Record(
    "dma_request", 32, "our own record",
    Field("iova", 0, 8), Field("length", 8, 4, "bytes"), Field("stream", 12, 4),
    Field("substream", 16, 4, "NO_SUBSTREAM where the request has no PASID"),
    Field("kind", 20, 2), Field("flags", 22, 2),
    Field("buffer", 24, 4, "offset in device memory; MSI: the data; INVALIDATED: the tag"),
    Field("status", 28, 4, "zero when posted; written by the IOMMU only where the request is refused"),
)  # fmt: skip
DMA_PIECE: Final = Record(
    "dma_piece", 16, "our own record",
    Field("hpa", 0, 8), Field("length", 8, 4, "bytes"), Field("request", 12, 4, "index in the burst"),
)  # fmt: skip
NO_SUBSTREAM: Final = 0xFFFF_FFFF

KIND_READ: Final = 0
"""Host memory into device memory."""
KIND_WRITE: Final = 1
"""Device memory into host memory; posted."""
KIND_MSI: Final = 2
"""A posted write of 4 bytes that the request itself carries."""
KIND_TRANSLATE: Final = 3
"""ATS Translation Request for the page of an address. One entry answers it, in the slot: `iova` is the host
physical address of the block around it, `length` the logarithm of the block's size, `flags` what it permits.
"""
KIND_INVALIDATED: Final = 4
"""ATS Invalidate Completion for a tag."""

FLAG_PRIVILEGED: Final = 2
FLAG_TRANSLATED: Final = 4
"""The address is a host physical one, from a translation (AT field of the request)."""
FLAG_NO_WRITE: Final = 8
"""TRANSLATE: no write permission is asked for (NW)."""

STATUS_DONE: Final = 0
STATUS_UNSUPPORTED: Final = 1
"""Unsupported Request: malformed, or not for this requester."""
STATUS_ABORT: Final = 4
"""Completer Abort: the IOMMU refused it; no byte moved."""

DMA_RING_HEAD: Final = Record(
    "dma_ring_head", 128, "our own record",
    Field("posted", 0, 4, "requests published, counted by the requester"),
    Field("completed", 64, 4, "requests dealt with, counted by the IOMMU"),
)  # fmt: skip

TRANSLATION_READ: Final = 1
"""In the answer's flags; none set: there is no access (PCI Express §10.2.3)."""
TRANSLATION_WRITE: Final = 2

BURST_MAX: Final = 256
LENGTH_MAX: Final = 65536
"""A longer request is malformed: no function of ours has a descriptor that asks for more."""
MSI_BYTES: Final = 4
PIECES_MAX: Final = LENGTH_MAX // 4096 + 1
"""Pages that one request can touch."""


def ring_bytes(slots: int) -> int:
    """Return the size of a ring with so many slots."""
    return DMA_RING_HEAD.size + slots * DMA_REQUEST.size
