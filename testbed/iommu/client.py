"""A device's end of the way to its host's memory: mediated by the IOMMU's process, or by translations that
the device caches (ATS).

Reference: testbed/spec/dma_area.py; PCI Express Base Specification §10.2 (translation), §10.3 (invalidation).
Mediated, a function's ring is served by the IOMMU, which moves every byte itself. With ATS the device
serves its own rings: native code looks into the address translation cache and copies; a miss becomes a
Translation Request; what may not be accessed so (no permission, no translation, an MSI) is handed to the
IOMMU as an ordinary request, which records what is wrong with it. An invalidation is acknowledged only when
no transaction uses what it names.

Not modelled: page requests, several entries in one completion, execute permission.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from testbed.address import CACHE_LINE_BYTES, PAGE_SIZE_BYTES, split_pages
from testbed.iommu.iotlb import FOLDED_LAST, fold
from testbed.memory.host import HostMemory
from testbed.native import (
    SERVE_ATTENTION,
    SERVE_LIMIT,
    Bell,
    DmaRequester,
    DmaServer,
    Iotlb,
    Pinned,
    SharedWords,
    WordChanges,
)
from testbed.pci.dma import DmaPort, Doorbell, RingPort
from testbed.spec import dma_area as area
from testbed.spec import dma_request as d
from testbed.spec import page_table as pt

_PRIVILEGED_SHIFT = 2
"""From unprivileged to privileged permissions in `testbed.spec.page_table`."""
_MOVED = ("reads", "writes", "bytes_read", "bytes_written")
_ASKED_MAX = 2 * d.PIECES_MAX
"""Translation Requests for one request; one that needs more thrashes the cache and goes to the IOMMU."""


@dataclass(slots=True)
class AtsCounts:
    """What a device did with translations."""

    requests: int = 0
    """Translation Requests sent."""
    denied: int = 0
    """Translations that did not give the access needed."""
    forwarded: int = 0
    """Requests handed to the IOMMU untranslated, MSIs apart."""
    messages: int = 0
    invalidations: int = 0
    malformed: int = 0


@dataclass(frozen=True, slots=True)
class _Awaited:
    """The request of the shared ring for which the head of the local ring waits."""

    index: int
    translates: int | None = None
    """The address to be translated; None: the request itself was handed on."""
    again: bool = False
    """It could not be posted: the shared ring was full."""


class AtsPort:
    """One function's way into memory through the device's address translation cache.

    `ring` is the device's own; `remote` is the ring that the IOMMU serves.
    """

    def __init__(
        self, ring: DmaRequester, server: DmaServer, remote: RingPort, cache: Iotlb, counts: AtsCounts
    ) -> None:
        self.ring, self.remote = ring, remote
        self._server, self._cache, self._counts = server, cache, counts
        self._awaited: _Awaited | None = None
        self._untranslated = False
        """The function may not use ATS: everything goes to the IOMMU."""
        self._asked = 0
        """Translation Requests for the head of the ring."""

    @property
    def moved(self) -> tuple[int, int, int, int]:
        """Reads, writes, bytes read, bytes written."""
        return self._server.counts

    @property
    def server(self) -> DmaServer:
        """Serves `ring` by cached translations."""
        return self._server

    @property
    def open(self) -> bool:
        """Whether requests are served here; else one waits for the IOMMU, or none may be."""
        return self._awaited is None and not self._untranslated

    def submit(self) -> None:
        """Publish what was posted and serve it as far as translations are there."""
        if self.ring.submit():
            self.serve()

    def serve(self) -> None:
        """Serve the ring until it is empty or a request waits for the IOMMU."""
        self._take_answer()
        while self._awaited is None:
            done, reason = self._server.serve(d.BURST_MAX, not self._untranslated)
            self._asked = 0 if done else self._asked
            if reason == SERVE_ATTENTION:
                self._decide()
            elif reason != SERVE_LIMIT:
                break
        self.remote.submit()

    def settle(self) -> None:
        """Take every translation that has arrived, before an invalidation that may name it takes effect."""
        self._take_answer()
        self._untranslated = False

    def _decide(self) -> None:
        kind, flags, stream, substream, iova, length, buffer = self._server.current
        if stream != self.ring.stream or not self._well_formed(kind, length):
            self._counts.malformed += 1
            self._finish(d.STATUS_UNSUPPORTED)
            return
        if kind == d.KIND_MSI:
            self._message(iova, buffer, substream, flags)
            return
        missing = None if self._untranslated or self._asked == _ASKED_MAX else self._missing()
        if missing is None:
            self._forward()
            return
        self._asked += 1
        self._counts.requests += 1
        asked = flags & d.FLAG_PRIVILEGED
        index = self.remote.ring.post(d.KIND_TRANSLATE, missing, PAGE_SIZE_BYTES, 0, substream, asked)
        self._await(index, missing)

    def _finish(self, status: int) -> None:
        self._asked = 0
        self._server.finish(status)

    def _well_formed(self, kind: int, length: int) -> bool:
        if kind == d.KIND_MSI:
            return True
        transfers = kind in (d.KIND_READ, d.KIND_WRITE)
        return transfers and length <= d.LENGTH_MAX and self._server.in_device_memory()

    def _message(self, iova: int, data: int, substream: int | None, flags: int) -> None:
        """Hand an MSI on. The data before it were copied by this process, so they are in memory already."""
        if self.remote.ring.post(d.KIND_MSI, iova, d.MSI_BYTES, data, substream, flags) is None:
            self._await(None)
            return
        self._counts.messages += 1
        self._finish(d.STATUS_DONE)

    def _missing(self) -> int | None:
        """Return the first page of the request that waits without a translation that suffices."""
        kind, flags, stream, substream, iova, length, _ = self._server.current
        context = self._cache.find_context(stream, substream)
        needed = _needed(kind != d.KIND_READ, flags)
        for address, _ in split_pages(iova, length):
            if context is None or self._cache.lookup(context, address % (1 << 64), needed) is None:
                return address % (1 << 64) & -PAGE_SIZE_BYTES
        return None

    def _forward(self) -> None:
        kind, flags, _, substream, iova, length, buffer = self._server.current
        self._counts.forwarded += 1
        self._await(self.remote.ring.post(kind, iova, length, buffer, substream, flags))

    def _await(self, index: int | None, translates: int | None = None) -> None:
        """Wait for a request of the shared ring, or, where that is full, for room in it."""
        if index is None:
            self._awaited = _Awaited((self.remote.ring.next - 1) % (1 << 32), again=True)
        else:
            self._awaited = _Awaited(index, translates)

    def _take_answer(self) -> None:
        completed = self.remote.ring.completed
        awaited = self._awaited
        if awaited is None or (completed - awaited.index - 1) % (1 << 32) >= 1 << 31:
            return
        self._awaited = None
        if awaited.again:
            return
        status = self.remote.ring.status(awaited.index)
        if awaited.translates is None:
            self._finish(status)
        else:
            self._take_translation(awaited, status)

    def _take_translation(self, awaited: _Awaited, status: int) -> None:
        kind, flags, stream, substream, *_ = self._server.current
        if status == d.STATUS_UNSUPPORTED:
            self._untranslated = True
        hpa, size_log2, permitted = self.remote.ring.translation(awaited.index)
        granted = permitted << _PRIVILEGED_SHIFT if flags & d.FLAG_PRIVILEGED else permitted
        if status != d.STATUS_DONE or _needed(kind != d.KIND_READ, flags) & ~granted:
            self._counts.denied += 1
            self._forward()
            return
        assert awaited.translates is not None
        context = self._context(stream, substream)
        self._cache.fill(context, awaited.translates, hpa, 1 << size_log2, granted, False, 0)

    def _context(self, stream: int, substream: int | None) -> int:
        """Return the cache's context of a function and PASID, forgetting all where there is no room."""
        context = self._cache.find_context(stream, substream)
        # tagged with the function where the SMMU's own cache has a VMID
        if context is None:
            context = self._cache.add_context(stream, substream, stream & 0xFFFF, 0)
        if context is None:
            self._cache.drop_streams(0, 0xFFFF_FFFF)
            context = self._cache.add_context(stream, substream, stream & 0xFFFF, 0)
        assert context is not None
        return context


def _needed(write: bool, flags: int) -> int:
    needed = pt.PERMISSION_WRITE if write else pt.PERMISSION_READ
    return needed << _PRIVILEGED_SHIFT if flags & d.FLAG_PRIVILEGED else needed


@dataclass(frozen=True, slots=True)
class SharedArea:
    """What a device shares with the IOMMU."""

    page: Pinned
    """`DMA_AREA` and the rings behind it."""
    slots: int
    """Of each ring, a power of two."""
    buffer: Pinned
    """The device's own memory, in which requests name offsets."""


class DmaClient:
    """Every function of a device, by stream.

    `host` is the host's memory where the device uses ATS; None: the IOMMU moves every byte.
    """

    def __init__(
        self,
        shared: SharedArea,
        streams: Sequence[int],
        bell: Doorbell,
        host: HostMemory | None = None,
        cache: Iotlb | None = None,
    ) -> None:
        self.from_iommu = Bell(shared.page, area.BELL_TO_DEVICE)
        """Rung by the IOMMU; to be armed before this process sleeps."""
        self.counts = AtsCounts()
        self.cache = Iotlb() if cache is None else cache
        self.invalidations = WordChanges(shared.page, area.DMA_AREA.offset("invalidate_posted"))
        """To be watched; `invalidate` is what to do then."""
        self._shared, self._words, self._taken = shared, SharedWords(shared.page), 0
        self._unanswered: deque[tuple[int, int]] = deque()
        self._remotes = {stream: self._remote(i, stream, bell) for i, stream in enumerate(streams)}
        remotes = self._remotes.items()
        self._ats = {} if host is None else {stream: self._ats_port(port, host) for stream, port in remotes}
        self.ports: Mapping[int, DmaPort] = self._ats or self._remotes

    @property
    def watched(self) -> list[tuple[DmaRequester, Callable[[], bool]]]:
        """What is to be watched besides `invalidations` and the ports' rings, and what to do then."""
        return [(port.remote.ring, partial(self._step, port)) for port in self._ats.values()]

    @property
    def caching(self) -> Mapping[int, AtsPort]:
        """The ports by which the device reaches memory itself, by stream; none without ATS."""
        return self._ats

    def moved(self) -> dict[str, int]:
        """Return what the device has moved itself and looked up in its translation cache."""
        counts = [port.moved for port in self._ats.values()]
        totals = (sum(each) for each in zip(*counts, strict=True)) if counts else (0,) * len(_MOVED)
        found = {"hits": self.cache.hits, "misses": self.cache.misses}
        return dict(zip(_MOVED, totals, strict=True)) | found

    def invalidate(self) -> bool:
        """Take invalidation requests and acknowledge them; tell whether there were any."""
        posted = self.invalidations.take()
        pending = min((posted - self._taken) % (1 << 32), area.INVALIDATE_SLOTS)
        for _ in range(pending):
            self._invalidate_one()
        self._words.store32(area.DMA_AREA.offset("invalidate_taken"), self._taken)
        self._answer()
        for port in self._ats.values():
            port.serve()
        return pending > 0

    def _step(self, port: AtsPort) -> bool:
        """Go on with what the IOMMU answered."""
        if self._unanswered:
            self._answer()
        port.serve()
        return True

    def _remote(self, index: int, stream: int, bell: Doorbell) -> RingPort:
        shared = self._shared
        offset = area.ring_offset(index, shared.slots)
        return RingPort(DmaRequester(shared.page, offset, shared.slots, stream), bell)

    def _ats_port(self, remote: RingPort, host: HostMemory) -> AtsPort:
        shared, stream = self._shared, remote.ring.stream
        page = Pinned(bytearray(d.ring_bytes(shared.slots) + CACHE_LINE_BYTES))
        offset = -page.address % CACHE_LINE_BYTES
        server = DmaServer(page, offset, shared.slots, stream, shared.buffer, host.host_map, self.cache)
        ring = DmaRequester(page, offset, shared.slots, stream)
        return AtsPort(ring, server, remote, self.cache, self.counts)

    def _invalidate_one(self) -> None:
        slot = self._taken % area.INVALIDATE_SLOTS * area.INVALIDATE_REQUEST.size
        at = area.DMA_AREA.offset("invalidate") + slot
        row = area.INVALIDATE_REQUEST.unpack(self._shared.page.bytes_view(), at)
        self._taken = (self._taken + 1) % (1 << 32)
        port = self._ats.get(row["stream"])
        if port is not None:
            # an answer that was sent before this request may not outlive it
            port.settle()
        first, last = _folded_range(row["address"], row["size_log2"])
        self.cache.invalidate(row["stream"] & 0xFFFF, None, True, first, last, True, True)
        self.counts.invalidations += 1
        self._unanswered.append((row["stream"], row["tag"]))

    def _answer(self) -> None:
        """Acknowledge what takes effect from now on; where a ring is full, the next time."""
        for _ in range(len(self._unanswered)):
            stream, tag = self._unanswered.popleft()
            port = self._remotes.get(stream)
            if port is None:
                continue
            if port.ring.post(d.KIND_INVALIDATED, 0, 0, tag) is None:
                self._unanswered.append((stream, tag))
            port.submit()


def _folded_range(address: int, size_log2: int) -> tuple[int, int]:
    """Return the first and last cached address that an invalidation names; more than it says is permitted."""
    if size_log2 >= pt.INPUT_BITS_MAX:
        return 0, FOLDED_LAST
    first = address & -(1 << size_log2)
    return fold(first), fold(first) + (1 << size_log2) - 1
