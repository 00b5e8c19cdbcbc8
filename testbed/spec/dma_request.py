"""What a DMA master asks of the IOMMU, and the pieces of host memory that the answer consists of.

Reference: our own records, named after what a PCIe memory request carries: address, length, requester ID
(StreamID) and PASID (SubstreamID); PCI Express Base Specification §2.2.
"""

from typing import Final

from testbed.spec.layout import Field, Record

DMA_REQUEST: Final = Record(
    "dma_request", 24, "our own record",
    Field("iova", 0, 8), Field("length", 8, 4, "bytes"), Field("stream", 12, 4),
    Field("substream", 16, 4, "NO_SUBSTREAM where the request has no PASID"), Field("flags", 20, 4),
)  # fmt: skip
DMA_PIECE: Final = Record(
    "dma_piece", 16, "our own record",
    Field("hpa", 0, 8), Field("length", 8, 4, "bytes"), Field("request", 12, 4, "index in the burst"),
)  # fmt: skip
NO_SUBSTREAM: Final = 0xFFFF_FFFF
FLAG_WRITE: Final = 1
FLAG_PRIVILEGED: Final = 2
BURST_MAX: Final = 256
LENGTH_MAX: Final = 65536
"""A longer request is malformed: no function of ours has a descriptor that asks for more."""
PIECES_MAX: Final = LENGTH_MAX // 4096 + 1
"""Pages that one request can touch."""
