"""What each command of the command queue does: one table from opcode to handler.

Reference: ARM IHI 0070 G.b chapter 4. A command that the advertised features do not have is illegal, as are
reserved opcodes. Reserved fields are ignored (§4.1.5). Not modelled: prefetch (permitted to do nothing),
level hints of invalidations (wider scope is permitted).
"""

from collections.abc import Callable
from dataclasses import dataclass

from testbed.interrupts.signal import Message
from testbed.iommu.ats import AtsInvalidations
from testbed.iommu.features import Features
from testbed.iommu.iotlb import FOLDED_LAST, FOLDED_TOP, Scope, TranslationCache, fold
from testbed.iommu.queues import Outcome
from testbed.iommu.stalls import Stalls
from testbed.spec import smmu_queues as q


@dataclass(frozen=True, slots=True)
class Completion:
    """What a CMD_SYNC does when everything before it is complete."""

    wire: Message
    """Pulsed where the command asks for an interrupt."""
    before: Callable[[], None] = lambda: None


class Commands:
    """Executes commands on the caches, the stalled transactions and the devices' translation caches."""

    def __init__(
        self,
        features: Features,
        cache: TranslationCache,
        stalls: Stalls,
        ats: AtsInvalidations,
        completion: Completion,
        translating: Callable[[], bool],
    ) -> None:
        self._cache, self._stalls, self._ats = cache, stalls, ats
        self._completion, self._translating = completion, translating
        self._handlers = self._table(features)

    def execute(self, command: int) -> Outcome:
        """Execute one command, given as its 128-bit image."""
        handler = self._handlers.get(q.COMMAND_OPCODE.get(command))
        return Outcome.ILLEGAL if handler is None else handler(command)

    def _table(self, features: Features) -> dict[int, Callable[[int], Outcome]]:
        table = {
            q.OP_PREFETCH_CONFIG: self._for_stream(lambda _: None),
            q.OP_PREFETCH_ADDR: self._for_stream(lambda _: None),
            q.OP_CFGI_STE: self._for_stream(self._cfgi_ste),
            q.OP_CFGI_STE_RANGE: self._for_stream(self._cfgi_ste_range),
            q.OP_TLBI_NSNH_ALL: _always(lambda _: self._invalidate(Scope())),
            q.OP_SYNC: self._sync,
        }
        if features.stage1:
            table |= self._stage1_table()
        if features.stage2:
            table[q.OP_TLBI_S12_VMALL] = _always(lambda c: self._invalidate(Scope(vmid=_vmid(c))))
            table[q.OP_TLBI_S2_IPA] = self._tlbi_s2_ipa
        if features.stall:
            table[q.OP_RESUME] = self._for_stream(self._resume)
            table[q.OP_STALL_TERM] = self._for_stream(self._stall_term)
        if features.ats:
            table[q.OP_ATC_INV] = _always(self._atc_inv)
        return table

    def _stage1_table(self) -> dict[int, Callable[[int], Outcome]]:
        return {
            q.OP_CFGI_CD: self._for_stream(self._cfgi_cd),
            q.OP_CFGI_CD_ALL: self._for_stream(self._cfgi_ste),
            q.OP_TLBI_NH_ALL: _always(lambda c: self._invalidate(Scope(vmid=_vmid(c), stage2=False))),
            q.OP_TLBI_NH_ASID: _always(
                lambda c: self._invalidate(Scope(vmid=_vmid(c), asid=q.TLBI_ASID.get(c), stage2=False))
            ),
            q.OP_TLBI_NH_VA: lambda c: self._tlbi_nh_va(c, q.TLBI_ASID.get(c)),
            q.OP_TLBI_NH_VAA: lambda c: self._tlbi_nh_va(c, None),
        }

    def _for_stream(self, action: Callable[[int], None]) -> Callable[[int], Outcome]:
        """§4.1.6: SSec set on a Non-secure queue is illegal."""

        def handler(command: int) -> Outcome:
            if q.COMMAND_SSEC.get(command):
                return Outcome.ILLEGAL
            action(command)
            return Outcome.DONE

        return handler

    def _cfgi_ste(self, command: int) -> None:
        stream = q.COMMAND_STREAM.get(command)
        self._cache.drop_streams(stream, stream)

    def _cfgi_ste_range(self, command: int) -> None:
        count = 2 << q.CFGI_RANGE.get(command)
        first = q.COMMAND_STREAM.get(command) & -count
        self._cache.drop_streams(first, first + count - 1)

    def _cfgi_cd(self, command: int) -> None:
        self._cache.drop_context(q.COMMAND_STREAM.get(command), q.COMMAND_SUBSTREAM.get(command))

    def _invalidate(self, scope: Scope) -> None:
        self._cache.invalidate(scope)

    def _tlbi_nh_va(self, command: int, asid: int | None) -> Outcome:
        length = _range_bytes(command)
        if length is None:
            return Outcome.ILLEGAL
        first = fold(q.TLBI_ADDRESS.get(command) << q.TLBI_ADDRESS_SHIFT)
        # A range ends with its half of the address space (§4.4.1.1: the address does not wrap).
        last = min(first + length - 1, FOLDED_TOP - 1 if first < FOLDED_TOP else FOLDED_LAST)
        self._invalidate(Scope(_vmid(command), asid, True, first, last, stage2=False))
        return Outcome.DONE

    def _tlbi_s2_ipa(self, command: int) -> Outcome:
        length = _range_bytes(command)
        if length is None:
            return Outcome.ILLEGAL
        first = q.TLBI_IPA.get(command) << q.TLBI_ADDRESS_SHIFT
        if first < FOLDED_TOP:
            last = min(first + length, FOLDED_TOP) - 1
            self._invalidate(Scope(_vmid(command), first=first, last=last, stage1=False))
        return Outcome.DONE

    def _atc_inv(self, command: int) -> None:
        if self._translating():
            self._ats.issue(command)

    def _resume(self, command: int) -> None:
        retry = q.RESUME_ACTION.get(command) == q.RESUME_ACTION_RETRY
        self._stalls.resume(q.COMMAND_STREAM.get(command), q.RESUME_STAG.get(command), retry)

    def _stall_term(self, command: int) -> None:
        self._stalls.terminate(q.COMMAND_STREAM.get(command))

    def _sync(self, command: int) -> Outcome:
        signal = q.SYNC_CS.get(command)
        if signal not in (q.SYNC_NONE, q.SYNC_IRQ, q.SYNC_SEV):
            return Outcome.ILLEGAL
        if self._ats.take_loss():
            return Outcome.INVALIDATION_LOST
        if len(self._ats):
            return Outcome.WAIT
        self._completion.before()
        if signal == q.SYNC_IRQ:
            self._completion.wire.send()
        return Outcome.DONE


def _always(action: Callable[[int], None]) -> Callable[[int], Outcome]:
    def handler(command: int) -> Outcome:
        action(command)
        return Outcome.DONE

    return handler


def _vmid(command: int) -> int:
    return q.TLBI_VMID.get(command)


def _range_bytes(command: int) -> int | None:
    """Return what an invalidation by address covers, None where its parameters are reserved (§4.4.1.1)."""
    granule_shift = q.TLBI_GRANULE_SHIFTS.get(q.TLBI_TG.get(command))
    if granule_shift is None:
        return 1
    number, scale = q.TLBI_NUM.get(command), q.TLBI_SCALE.get(command)
    if not number and not scale and not q.TLBI_TTL.get(command):
        return None
    return (number + 1) << scale << granule_shift
