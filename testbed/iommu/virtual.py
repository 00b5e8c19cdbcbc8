"""The SMMU that a guest sees: registers, queues and tables are the guest's own, the translations are done by
the host's SMMU.

Reference: ARM IHI 0070 G.b §3.3 (nested configuration); the front is `testbed.iommu.smmu` without stage 2,
ATS and stalls, over the guest's memory. It translates nothing itself. What it knows is copied to the host's
SMMU where the architecture lets an SMMU notice it: when the guest invalidates a stream table entry, a context
descriptor or a translation, and when it switches translation on or off; a CMD_SYNC of the guest completes
when the host's SMMU has completed the same. Faults of the guest's stage 1 come back as events of the guest's.

Not modelled: ATS of the guest's own (devices that cache are told to forget with every invalidation).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from testbed.address import PAGE_SIZE_BYTES
from testbed.interrupts.signal import Message
from testbed.iommu.features import Features
from testbed.iommu.iotlb import FOLDED_TOP, Scope, TranslationCache
from testbed.iommu.queues import QueueMemory
from testbed.iommu.smmu import Outputs, Smmu
from testbed.iommu.stream_table import decode_ste
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q

FRONT: Final = Features(stage2=False, ats=False, stall=False, command_queue_bits=8, event_queue_bits=7)
OF_THE_GUEST: Final = frozenset(
    {q.C_BAD_SUBSTREAMID, q.F_STREAM_DISABLED, q.C_BAD_CD, q.F_CD_FETCH, q.F_WALK_EABT}
    | {q.F_TRANSLATION, q.F_ADDR_SIZE, q.F_ACCESS, q.F_PERMISSION}
)
"""Kinds of record that a guest's own tables can cause; a fault of stage 2 is the hypervisor's to see."""
PAGES_MAX: Final = 64
"""A longer range is invalidated by forgetting everything of its address space."""
COMMANDS_A_TURN: Final = 16
"""Each may cost as much as several of the host's SMMU, and other guests wait meanwhile."""


class Backing(Protocol):
    """The host's SMMU, as far as one guest's functions go; streams are the guest's numbers."""

    def nest(self, stream: int, guest_entry: int | None) -> None:
        """Translate a stream by its guest's STE before stage 2; None: the guest bypasses stage 1."""
        ...

    def block(self, stream: int) -> None:
        """Abort a stream's transactions."""
        ...

    def forget_context(self, stream: int, substream: int) -> None:
        """Have a context descriptor forgotten."""
        ...

    def forget(self, asid: int | None, pages: Sequence[int] | None) -> None:
        """Have translations of the guest's stage 1 forgotten: of an ASID, of pages; None: of all."""
        ...

    def sync(self) -> None:
        """Return when all that was asked before is complete."""
        ...


@dataclass(frozen=True, slots=True)
class _Copied:
    """A record of the host's SMMU as the guest may see it."""

    image: int

    def pack(self) -> bytes:
        return self.image.to_bytes(q.EVENT_BYTES, "little")


class _Mirror(TranslationCache):
    """Stands where an SMMU has its caches: what the guest invalidates is brought up to date in the host's."""

    def __init__(self, front: "VirtualSmmu", backing: Backing) -> None:
        super().__init__(entries=4, contexts=1)
        self._front, self._backing = front, backing

    def drop_streams(self, first: int, last: int) -> None:
        self._front.mark(first, last)

    def drop_context(self, stream: int, index: int) -> None:
        if stream in self._front.streams:
            self._backing.forget_context(stream, index)

    def invalidate(self, scope: Scope) -> int:
        self._backing.forget(scope.asid, _pages(scope))
        return 0


def _pages(scope: Scope) -> Sequence[int] | None:
    """Return the input addresses of the pages that an invalidation names, None where they are too many."""
    if scope.last - scope.first >= PAGES_MAX * PAGE_SIZE_BYTES:
        return None
    upper = (1 << 64) - 2 * FOLDED_TOP if scope.first >= FOLDED_TOP else 0
    return range((scope.first & -PAGE_SIZE_BYTES) + upper, scope.last + upper + 1, PAGE_SIZE_BYTES)


class VirtualSmmu:
    """A guest's SMMU. `streams`: the functions behind it, by the numbers that the guest knows."""

    def __init__(
        self,
        memory: QueueMemory,
        streams: Sequence[int],
        backing: Backing,
        event_wire: Message,
        error_wire: Message,
    ) -> None:
        self.streams: frozenset[int] = frozenset()
        self._backing = backing
        self._stale: set[int] = set()
        """Streams that the host's SMMU does not translate as the guest's tables say."""
        outputs = Outputs(event_wire, error_wire, before_sync=self._complete)
        self.smmu = Smmu(
            memory, _no_walk, FRONT, outputs, _Mirror(self, backing), commands_a_turn=COMMANDS_A_TURN
        )
        self.streams = frozenset(streams)
        self._copy_all()

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load from the register block gives."""
        return self.smmu.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store to the register block."""
        before = self._passage()
        self.smmu.write(offset, size_bytes, value)
        if self._passage() != before:
            self._copy_all()

    def poll(self) -> bool:
        """Go on with the guest's command queue; tell whether there is more to do now."""
        return self.smmu.poll()

    def mark(self, first: int, last: int) -> None:
        """Have a range of streams copied again before the guest's next CMD_SYNC completes."""
        self._stale.update(stream for stream in self.streams if first <= stream <= last)

    def deliver(self, image: int, stream: int) -> bool:
        """Record a fault of a stream that the host's SMMU found; False where it is not the guest's to see."""
        if q.EVENT_CODE.get(image) not in OF_THE_GUEST or q.EVENT_S2.get(image):
            return False
        if q.EVENT_CODE.get(image) in (q.F_CD_FETCH, q.F_WALK_EABT):
            image = q.EVENT_FETCH_ADDRESS.put(0, image)  # a host physical address
        self.smmu.events.record(_Copied(q.EVENT_STREAM.put(stream, image)))
        return True

    def _passage(self) -> tuple[bool, int]:
        return self.smmu.translating, s.GBPA_ABORT.get(self.smmu.registers["GBPA"])

    def _copy_all(self) -> None:
        self._stale.update(self.streams)
        self._complete()

    def _complete(self) -> None:
        """Bring the host's SMMU up to date."""
        for stream in sorted(self._stale):
            self._copy(stream)
        self._stale.clear()
        self._backing.sync()

    def _copy(self, stream: int) -> None:
        if not self.smmu.translating:
            passes = not s.GBPA_ABORT.get(self.smmu.registers["GBPA"])
            self._backing.nest(stream, None) if passes else self._backing.block(stream)
            return
        image = self.smmu.transactions.entry_image(stream)
        entry = None if image is None else decode_ste(image, FRONT)
        if entry is None or not entry.config & s.CONFIG_PASSES:
            self._backing.block(stream)
        else:
            self._backing.nest(stream, image if entry.config & s.CONFIG_HAS_STAGE1 else None)


def _no_walk(*_arguments: object) -> NoReturn:
    raise AssertionError("the front of a virtual SMMU translates nothing itself")
