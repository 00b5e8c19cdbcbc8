"""What becomes of each transaction that a master presents: untranslated, alone or in bursts, and those of
ATS.

Reference: ARM IHI 0070 G.b §3.3, §3.9.1 (ATS), §3.11 (bypass while disabled), §3.12 (fault models). A
refusal is a value; recording it is done here, once. Not modelled: instruction fetches, attributes.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from testbed.address import PAGE_SIZE_BYTES, split_pages
from testbed.iommu.ats import STU_BYTES, AtsCompletion, AtsEntry, AtsStatus
from testbed.iommu.events import Event, Refusal, Request
from testbed.iommu.iotlb import TranslationCache
from testbed.iommu.queues import EventQueue
from testbed.iommu.stalls import Stalls
from testbed.iommu.stream_table import Configuration, Lookup, StreamEntry, StreamTable
from testbed.iommu.translate import Granted, needed_permission, translate
from testbed.memory.register_file import RegisterFile
from testbed.memory.walk import ALL_PERMISSIONS, Permission
from testbed.native import Pinned
from testbed.spec import dma_request as d
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q

ATS_ENTRIES_MAX: Final = 32
"""Entries in one completion; PCI Express lets it hold fewer than were asked for."""
_ADDRESSES: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Aborted:
    """A transaction that was terminated: no byte moves and the device sees an abort."""

    event: Event | None
    """What was to be recorded, None for a silent abort."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """A transaction that waits; `Stalls.take_released` names the ticket when it is answered."""

    ticket: int


Outcome = Granted | Aborted | Stalled


@dataclass(frozen=True, slots=True)
class BurstResult:
    """How far a burst came: `done` requests from its beginning are dealt with; their pieces are the first
    `pieces`.
    """

    done: int
    pieces: int
    refused: tuple[tuple[int, Aborted | Stalled], ...]
    """(index of the request, what became of it); a refused request has no piece."""


class Transactions:
    """Answers transactions by the stream table, through the caches."""

    def __init__(
        self,
        registers: RegisterFile,
        lookup: Lookup,
        cache: TranslationCache,
        events: EventQueue,
        stalls: Stalls,
    ) -> None:
        self._registers, self._lookup, self._cache = registers, lookup, cache
        self._events, self._stalls = events, stalls
        self.faults: Counter[str] = Counter()
        """Refused transactions by the name of their record, `abort` where there is none."""

    def translate(self, request: Request) -> Outcome:
        """Translate one untranslated transaction, which must not cross a page."""
        if not self._enabled:
            return self._without_translation(request)
        answer = self._resolve(request)
        return answer if isinstance(answer, Granted) else self._refuse(answer)

    def burst(self, requests: memoryview, count: int, pieces: memoryview) -> BurstResult:
        """Translate `count` requests (dma_request records) into pieces of host memory (dma_piece records).

        Stops early where `pieces` has no room for the next request; it must have room for `PIECES_MAX` at
        least. Hits are native, a miss costs a walk.
        """
        assert len(pieces) >= d.PIECES_MAX * d.DMA_PIECE.size
        pinned_requests, pinned_pieces = Pinned(requests, False), Pinned(pieces)
        refused: list[tuple[int, Aborted | Stalled]] = []
        done = used = 0
        while done < count:
            if self._enabled:
                hits, used, full = self._cache.translate(pinned_requests, done, count, pinned_pieces, used)
                done += hits
                if full or done == count:
                    break
            answer = self._slowly(requests, done)
            if isinstance(answer, Aborted | Stalled):
                refused.append((done, answer))
            elif (used + len(answer)) * d.DMA_PIECE.size > len(pieces):
                break
            else:
                used = _append(pieces, used, answer, done)
            done += 1
        return BurstResult(done, used, tuple(refused))

    def ats_request(self, request: Request, units: int = 1) -> AtsCompletion:
        """Answer an ATS Translation Request for `units` of 4 KiB; `request.write` is clear where NW is set
        (§3.9.1.2).
        """
        request = Request(
            request.stream, request.address & -STU_BYTES, request.write, request.substream, request.privileged
        )
        forbidden = Event(q.F_BAD_ATS_TREQ, request, span=units)
        if not self._enabled:
            return self._ats_unsupported(forbidden)
        entry = self._entry(request)
        if isinstance(entry, Refusal):
            return self._ats_failure(entry)
        if not entry.config & s.CONFIG_PASSES:
            return AtsCompletion(AtsStatus.UNSUPPORTED_REQUEST)
        if entry.eats == s.EATS_NONE:
            return self._ats_unsupported(forbidden)
        configuration = self._configuration(request)
        if isinstance(configuration, Refusal):
            return self._ats_failure(configuration)
        return self._ats_entries(configuration, request, min(units, ATS_ENTRIES_MAX))

    def translated(self, request: Request) -> Granted | Aborted:
        """Check a transaction that is marked translated: its address is a host physical one (§3.9.1.3)."""
        if not self._enabled:
            return self._forbid(request)
        if s.CR0_ATSCHK.get(self._registers["CR0"]):
            entry = self._entry(request)
            if isinstance(entry, Refusal):
                recorded = entry.event if s.CR2_REC_CFG_ATS.get(self._registers["CR2"]) else None
                return self._abort(recorded)
            if not entry.config & s.CONFIG_PASSES:
                return self._abort(None)
            if entry.eats == s.EATS_NONE:
                return self._forbid(request)
        if request.address >> self._lookup.features.address_bits:
            return self._abort(None)
        return Granted(request.address, ALL_PERMISSIONS, PAGE_SIZE_BYTES)

    def entry_image(self, stream: int) -> int | None:
        """Return a stream's STE as it is in memory now, None where there is none that could be read."""
        image = self._lookup.image(self._table(), Request(stream, 0))
        return None if isinstance(image, Refusal) else image

    # Untranslated transactions

    @property
    def _enabled(self) -> bool:
        return bool(s.CR0_SMMUEN.get(self._registers["CR0"]))

    def _without_translation(self, request: Request) -> Granted | Aborted:
        """§3.11, §6.3.14: GBPA decides while SMMUEN is 0."""
        outside = request.address >> self._lookup.features.address_bits
        if outside or s.GBPA_ABORT.get(self._registers["GBPA"]):
            return self._abort(None)
        return Granted(request.address, ALL_PERMISSIONS, PAGE_SIZE_BYTES)

    def _table(self) -> StreamTable:
        config = self._registers["STRTAB_BASE_CFG"]
        split = s.STRTAB_CFG_SPLIT.get(config)
        return StreamTable(
            base=self._registers["STRTAB_BASE"] & s.STRTAB_ADDR.mask,
            log2size=s.STRTAB_CFG_LOG2SIZE.get(config),
            split=split if split in s.SPLITS else s.SPLITS[0],
            two_level=s.STRTAB_CFG_FMT.get(config) == s.FMT_TWO_LEVEL,
        )

    def _entry(self, request: Request) -> StreamEntry | Refusal:
        cached = self._cache.configuration(request)
        return cached.entry if cached else self._lookup.entry(self._table(), request)

    def _configuration(self, request: Request) -> Configuration | Refusal:
        cached = self._cache.configuration(request)
        if cached is not None:
            return cached
        entry = self._lookup.entry(self._table(), request)
        found = entry if isinstance(entry, Refusal) else self._lookup.configuration(entry, request)
        if isinstance(found, Configuration):
            self._cache.add(request, found)
        return found

    def _resolve(self, request: Request) -> Granted | Refusal:
        """Translate through the caches, filling them."""
        configuration = self._configuration(request)
        if isinstance(configuration, Refusal):
            return configuration
        needed = needed_permission(request)
        output = self._cache.lookup(request, configuration, needed)
        if output is not None:
            return Granted(output, needed, PAGE_SIZE_BYTES)
        return self._walk(configuration, request, needed)

    def _walk(self, configuration: Configuration, request: Request, needed: Permission) -> Granted | Refusal:
        bits = self._lookup.features.address_bits
        answer = translate(configuration, request, self._lookup.walk, bits, needed)
        if isinstance(answer, Granted):
            self._cache.fill(request, configuration, answer)
        return answer

    def resolve(self, request: Request, length: int) -> list[tuple[int, int]] | Aborted | Stalled:
        """Translate a transaction that may cross pages: its runs of (host physical address, bytes), or its
        refusal.
        """
        if length > d.LENGTH_MAX:
            return self._abort(Event(q.F_UUT, request))
        runs: list[tuple[int, int]] = []
        for address, piece in split_pages(request.address, length):
            answer = self.translate(replace(request, address=address % _ADDRESSES))
            if not isinstance(answer, Granted):
                return answer
            runs.append((answer.output, piece))
        return runs

    def _slowly(self, requests: memoryview, index: int) -> list[tuple[int, int]] | Aborted | Stalled:
        """Translate one request of a burst."""
        row = d.DMA_REQUEST.unpack(requests, index * d.DMA_REQUEST.size)
        substream = None if row["substream"] == d.NO_SUBSTREAM else row["substream"] & 0xF_FFFF
        write, privileged = row["kind"] != d.KIND_READ, bool(row["flags"] & d.FLAG_PRIVILEGED)
        return self.resolve(Request(row["stream"], row["iova"], write, substream, privileged), row["length"])

    # Refusals

    def _refuse(self, refusal: Refusal) -> Aborted | Stalled:
        event = refusal.event
        if refusal.stall and event is not None:
            ticket = self._stall(event)
            if ticket is not None:
                return Stalled(ticket)
        if event is not None and event.code == q.C_BAD_STREAMID:
            silent = not s.CR2_RECINVSID.get(self._registers["CR2"])
            return self._abort(event, silent)
        return self._abort(event)

    def _stall(self, event: Event) -> int | None:
        """Hold a transaction; None where no more can be held: it is then terminated, recorded with Stall 0
        (§3.12).
        """
        tag = self._stalls.free_tag()
        if tag is None:
            return None
        self.faults[event.name] += 1
        if self._events.writable and self._events.record(event.stalled(tag)):
            return self._stalls.hold(tag, event.request)
        return self._stalls.hold_unrecorded()

    def _abort(self, event: Event | None, silent: bool = False) -> Aborted:
        self.faults[event.name if event else "abort"] += 1
        if event is not None and not silent:
            self._events.record(event)
        return Aborted(event)

    def _forbid(self, request: Request) -> Aborted:
        return self._abort(Event(q.F_TRANSL_FORBIDDEN, request))

    # ATS

    def _ats_unsupported(self, event: Event) -> AtsCompletion:
        self._abort(event)
        return AtsCompletion(AtsStatus.UNSUPPORTED_REQUEST)

    def _ats_failure(self, refusal: Refusal) -> AtsCompletion:
        """§3.9.1.2: a fault of a page is an answer without access, anything else a completer abort."""
        if refusal.translation_related:
            return AtsCompletion(AtsStatus.SUCCESS, (AtsEntry(0, STU_BYTES, False, False),))
        event, control = refusal.event, self._registers["CR2"]
        if event is not None:
            bad_stream = event.code == q.C_BAD_STREAMID and not s.CR2_RECINVSID.get(control)
            self._abort(event, silent=bad_stream or not s.CR2_REC_CFG_ATS.get(control))
        return AtsCompletion(AtsStatus.COMPLETER_ABORT)

    def _ats_entries(self, configuration: Configuration, request: Request, units: int) -> AtsCompletion:
        entries: list[AtsEntry] = []
        address, end = request.address, request.address + units * STU_BYTES
        while address < min(end, _ADDRESSES):
            one = Request(request.stream, address, request.write, request.substream, request.privileged)
            answer = self._walk(configuration, one, Permission.NONE)
            if isinstance(answer, Refusal):
                failure = self._ats_failure(answer)
                faulted = failure.status is AtsStatus.SUCCESS
                return AtsCompletion(failure.status, (*entries, *failure.entries) if faulted else ())
            entries.append(_ats_entry(answer, request))
            address = (address & -answer.block_bytes) + answer.block_bytes
        return AtsCompletion(AtsStatus.SUCCESS, tuple(entries))


def _ats_entry(granted: Granted, request: Request) -> AtsEntry:
    """Return one entry: write only where it was asked for."""
    read = Permission.PRIVILEGED_READ if request.privileged else Permission.READ
    write = Permission.PRIVILEGED_WRITE if request.privileged else Permission.WRITE
    may_write = request.write and bool(granted.permissions & write)
    return AtsEntry(
        granted.output & -granted.block_bytes,
        granted.block_bytes,
        bool(granted.permissions & read),
        may_write,
    )


def _append(pieces: memoryview, used: int, runs: list[tuple[int, int]], index: int) -> int:
    """Write a request's runs behind the pieces held already; return how many there are then."""
    size = d.DMA_PIECE.size
    for output, length in runs:
        pieces[used * size : (used + 1) * size] = d.DMA_PIECE.pack(hpa=output, length=length, request=index)
        used += 1
    return used
