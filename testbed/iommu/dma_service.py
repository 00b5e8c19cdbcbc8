"""Serves the DMA ring of one device function: what the translation cache cannot answer is decided here.

Reference: PCI Express Base Specification §2.2.9 (completion status), §10.2 (translation requests), §10.3
(invalidate completion); ARM IHI 0070 G.b §3.9.1. Native code (testbed/native/dma_serve.c) does the ordinary
case, whole bursts at a time; a miss, a refusal, an MSI that is not cached or a request of ATS comes here, one
at a time and in order. Every value of a request is the device's invention: what does not fit is refused,
counted and moves nothing. A refusal costs far more than a hit, and so does an event that leads nowhere; so
each function has a budget of them that fills with time: who spends it waits, and nobody else does.

Not modelled: stalled transactions (a PCIe device's must not be stalled, §3.12.2; the SMMU that serves devices
is built without them).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from testbed.address import PAGE_SIZE_BYTES
from testbed.budget import TokenBucket
from testbed.errors import MemoryFault
from testbed.iommu.ats import AtsStatus
from testbed.iommu.events import Request
from testbed.iommu.smmu import Smmu
from testbed.iommu.transactions import Aborted, Stalled
from testbed.iommu.translate import Granted
from testbed.memory.host import HostMemory
from testbed.native import SERVE_ATTENTION, SERVE_BROKEN, SERVE_TELL, DmaServer, trace
from testbed.spec import dma_request as d
from testbed.spec import trace as events

REFUSALS_BURST: Final = 32
REFUSAL_NS: Final = 2_000_000
"""One more refusal is allowed after each such time."""
TURN: Final = 4 * d.BURST_MAX
"""Requests dealt with before others get their turn."""
SLOW_A_TURN: Final = 16
"""Requests decided here before others get their turn."""

MessageWindow = Callable[[int, int, int], bool | None]
"""Takes (requester's stream, offset, value of 4 bytes) written into an interrupt controller's window.

False: the event leads nowhere; None: nothing answers there.
"""
Tell = Callable[[int, int, int], object]
"""Sends the message that a delivered MSI asks for: `ItsCache.post`'s outcome, whom it concerns, doorbell."""


@dataclass(slots=True)
class ServiceCounts:
    """What one ring's requests came to, the native counts of reads and writes apart."""

    messages: int = 0
    """Those decided here."""
    translation_requests: int = 0
    invalidations_completed: int = 0
    refused: int = 0
    """By the IOMMU; each is an event or a silent abort."""
    foreign_stream: int = 0
    """Requests in another requester's name."""
    malformed: int = 0
    """Unknown kind, impossible length, or a buffer outside device memory."""
    paused: int = 0
    """How often the budget of refusals was spent."""
    broken: int = 0
    """The requester published an index that cannot be: its ring is dead."""
    decided_ns: int = 0
    """Time that this thread has worked on decisions."""


@dataclass(slots=True)
class DmaService:
    """One ring's requests, from the IOMMU's side."""

    server: DmaServer
    smmu: Smmu
    memory: HostMemory
    clock_ns: Callable[[], int]
    windows: Mapping[int, MessageWindow] = field(default_factory=dict)
    """Interrupt controllers by host physical page address."""
    tell: Tell = lambda _outcome, _target, _doorbell: None
    work_clock_ns: Callable[[], int] = time.thread_time_ns
    """How long this thread has worked: what it waits for a processor is nobody's doing."""
    counts: ServiceCounts = field(default_factory=ServiceCounts)
    _budget: TokenBucket = field(default_factory=lambda: TokenBucket(REFUSALS_BURST, REFUSAL_NS))
    _paused: bool = False

    def serve(self) -> bool:
        """Deal with a burst of requests; tell whether anything moved."""
        if self._paused and not self.resume(self.clock_ns()):
            return False
        moved = slow = 0
        while slow < SLOW_A_TURN and not self._paused and moved < TURN:
            done, reason = self.server.serve(TURN - moved, self.smmu.translating)
            moved += done
            if reason == SERVE_BROKEN:
                self.counts.broken = 1
            if reason == SERVE_TELL:
                self.tell(*self.server.told)
            elif reason == SERVE_ATTENTION:
                begun_ns = self.work_clock_ns()
                self.server.finish(self._decide())
                self.counts.decided_ns += self.work_clock_ns() - begun_ns
                moved += 1
            else:
                break
            slow += 1
        return moved > 0

    def totals(self) -> dict[str, int]:
        """Return everything that the ring came to, by the names of `observe.catalogue.DMA_COUNTERS`."""
        reads, writes, bytes_read, bytes_written = self.server.counts
        native = {"reads": reads, "writes": writes, "bytes_read": bytes_read, "bytes_written": bytes_written}
        own = asdict(self.counts)
        return native | own | {"messages": own["messages"] + self.server.messages}

    def deadline_ns(self) -> int | None:
        """Return when a paused ring may go on, None where it is not paused."""
        return self._budget.due_ns() if self._paused else None

    def resume(self, now_ns: int) -> bool:
        """Go on where the budget of refusals allows it again; tell whether the ring runs."""
        due = self._budget.due_ns()
        if self._paused and (due is None or due <= now_ns):
            self._paused, self.server.active = False, True
        return not self._paused

    def end(self) -> None:
        """Serve nothing any more: the requester is gone."""
        self._paused = self.server.active = False

    def _decide(self) -> int:
        kind, flags, stream, substream, iova, length, buffer = self.server.current
        if stream != self.server.stream:
            self.counts.foreign_stream += 1
            return self._refused(d.STATUS_UNSUPPORTED)
        if not self._well_formed(kind, length):
            self.counts.malformed += 1
            return self._refused(d.STATUS_UNSUPPORTED)
        write = kind in (d.KIND_WRITE, d.KIND_MSI)
        request = Request(stream, iova, write, substream, bool(flags & d.FLAG_PRIVILEGED))
        match kind:
            case d.KIND_READ | d.KIND_WRITE:
                return self._transfer(request, length, bool(flags & d.FLAG_TRANSLATED))
            case d.KIND_MSI:
                return self._message(request, buffer, bool(flags & d.FLAG_TRANSLATED))
            case d.KIND_TRANSLATE:
                return self._translate(request, not flags & d.FLAG_NO_WRITE)
            case _:
                return self._invalidated(buffer)

    def _well_formed(self, kind: int, length: int) -> bool:
        if kind in (d.KIND_READ, d.KIND_WRITE):
            return length <= d.LENGTH_MAX and self.server.in_device_memory()
        return kind in (d.KIND_MSI, d.KIND_TRANSLATE, d.KIND_INVALIDATED)

    def _runs(self, request: Request, length: int, translated: bool) -> list[tuple[int, int]] | None:
        """Return where a transfer goes, None where it is refused."""
        transactions = self.smmu.transactions
        if translated:
            granted = transactions.translated(request)
            return [(granted.output, length)] if isinstance(granted, Granted) else None
        runs = transactions.resolve(request, length)
        # a stalled transaction would hold up everything behind it: it is given up at once
        return None if isinstance(runs, Aborted | Stalled) else runs

    def _transfer(self, request: Request, length: int, translated: bool) -> int:
        runs = self._runs(request, length, translated)
        if runs is None:
            return self._refused(d.STATUS_ABORT)
        if self.server.move(runs):
            return d.STATUS_DONE
        if request.write and length == d.MSI_BYTES and len(runs) == 1:
            data = self.server.outgoing()
            if self._deliver(request.stream, runs[0][0], int.from_bytes(data, "little")):
                return d.STATUS_DONE
        return self._refused(d.STATUS_ABORT)

    def _message(self, request: Request, data: int, translated: bool) -> int:
        runs = self._runs(request, d.MSI_BYTES, translated)
        if runs is None or len(runs) != 1:
            return self._refused(d.STATUS_ABORT)
        if self._deliver(request.stream, runs[0][0], data):
            return d.STATUS_DONE
        try:
            self.memory.write(runs[0][0], data.to_bytes(d.MSI_BYTES, "little"))
        except MemoryFault:
            return self._refused(d.STATUS_ABORT)
        return d.STATUS_DONE

    def _deliver(self, stream: int, hpa: int, data: int) -> bool:
        window = self.windows.get(hpa & -PAGE_SIZE_BYTES)
        if window is None or hpa % d.MSI_BYTES:
            return False
        if trace:
            trace(events.MSI_WRITTEN, stream, data, hpa)
        led = window(stream, hpa % PAGE_SIZE_BYTES, data)
        if led is None:
            return False
        self.counts.messages += 1
        if not led:
            self._spend()
        return True

    def _translate(self, request: Request, write: bool) -> int:
        """Answer a Translation Request with its first entry."""
        self.counts.translation_requests += 1
        completion = self.smmu.transactions.ats_request(replace(request, write=write))
        if completion.status is not AtsStatus.SUCCESS:
            unsupported = completion.status is AtsStatus.UNSUPPORTED_REQUEST
            return self._refused(d.STATUS_UNSUPPORTED if unsupported else d.STATUS_ABORT)
        entry = completion.entries[0]
        permitted = d.TRANSLATION_READ * entry.read | d.TRANSLATION_WRITE * entry.write
        if not permitted:
            self._spend()
        if trace:
            trace(events.ATS_ANSWERED, request.stream, request.address, entry.output, entry.size_bytes)
        self.server.answer(entry.output, entry.size_bytes.bit_length() - 1, permitted)
        return d.STATUS_DONE

    def _invalidated(self, tag: int) -> int:
        self.counts.invalidations_completed += 1
        self.smmu.acknowledge(tag, self.server.stream)
        return d.STATUS_DONE

    def _refused(self, status: int) -> int:
        self.counts.refused += 1
        if trace:
            kind, _flags, stream, _substream, iova, _length, _buffer = self.server.current
            trace(events.DMA_REFUSED, stream, kind, iova)
        self._spend()
        return status

    def _spend(self) -> None:
        self._budget.spend(1, self.clock_ns())
        if self._budget.due_ns() is not None:
            self._paused, self.server.active = True, False
            self.counts.paused += 1
