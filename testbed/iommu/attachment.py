"""A device as its host's IOMMU sees it: the DMA ring of each of its functions, and the way to its address
translation cache.

Reference: testbed/spec/dma_area.py; PCI Express Base Specification §10.3 (invalidation). Which functions a
device has is the plan's to say, so a device can speak for none but its own. Invalidation requests wait here
while the device's queue is full; none is lost. Not modelled: functions that come or go.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from testbed.iommu.ats import AtsInvalidation
from testbed.iommu.client import SharedArea
from testbed.iommu.dma_service import DmaService
from testbed.native import Bell, SharedWords
from testbed.spec import dma_area as area
from testbed.spec import dma_request as d


class Doorbell(Protocol):
    """What wakes the device's process."""

    def ring(self) -> None:
        """Tell it that there is news."""
        ...


class Attachment:
    """One device. `serve_with` makes a function's service from the offset of its ring and its stream."""

    def __init__(
        self,
        name: str,
        memory: SharedArea,
        streams: Sequence[int],
        serve_with: Callable[[SharedArea, int, int], DmaService],
        bell: Doorbell,
    ) -> None:
        self.name, self._bell = name, bell
        self.from_device = Bell(memory.page, area.BELL_TO_IOMMU)
        """Rung by the device; to be armed before this process sleeps."""
        self.services = {
            stream: serve_with(memory, area.ring_offset(i, memory.slots), stream)
            for i, stream in enumerate(streams)
        }
        self._page, self._words = memory.page, SharedWords(memory.page)
        self._waiting: deque[AtsInvalidation] = deque()
        self._posted = 0
        self.gone = False
        """The device's process is gone: nothing is taken from it or sent to it any more."""

    def serve(self, service: DmaService) -> bool:
        """Deal with a burst of one function's requests; tell whether anything moved."""
        if self.gone or not service.serve():
            return False
        self.flush()
        self._bell.ring()
        return True

    def invalidate(self, invalidation: AtsInvalidation) -> bool:
        """Send an invalidation to the device; False where no function of its is meant."""
        if self.gone or invalidation.stream not in self.services:
            return False
        self._waiting.append(invalidation)
        self.flush()
        return True

    def flush(self) -> None:
        """Send what waits, as far as the device's queue has room."""
        sent = False
        while self._waiting and self._room():
            self._send(self._waiting.popleft())
            sent = True
        if sent:
            self._bell.ring()

    def drop(self) -> None:
        """The device's process is gone."""
        self.gone = True
        self._waiting.clear()
        for service in self.services.values():
            service.end()

    def _room(self) -> bool:
        # the device's count, so anything: a count ahead of ours only makes it miss requests of its own
        taken = self._words.load32(area.DMA_AREA.offset("invalidate_taken"))
        return (self._posted - taken) % (1 << 32) < area.INVALIDATE_SLOTS

    def _send(self, invalidation: AtsInvalidation) -> None:
        slot = self._posted % area.INVALIDATE_SLOTS * area.INVALIDATE_REQUEST.size
        at = area.DMA_AREA.offset("invalidate") + slot
        substream = d.NO_SUBSTREAM if invalidation.substream is None else invalidation.substream
        self._page.bytes_view()[at : at + area.INVALIDATE_REQUEST.size] = area.INVALIDATE_REQUEST.pack(
            address=invalidation.address,
            tag=invalidation.tag,
            stream=invalidation.stream,
            substream=substream,
            size_log2=invalidation.size_bytes.bit_length() - 1,
        )
        self._posted = (self._posted + 1) % (1 << 32)
        # release: a device that acquires the count sees the request
        self._words.store32(area.DMA_AREA.offset("invalidate_posted"), self._posted)
