"""Virtual SMMUs on the host's SMMU: what a guest does to its own is done to the machine's, for its functions.

Reference: ARM IHI 0070 G.b §3.3 (nested translation), §4.4 (TLB invalidation by ASID and VMID). A guest's
ASIDs are kept apart by its VMID; its stream numbers are translated to those of the machine. Not modelled:
ATS of the guest's own.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from testbed.interrupts.signal import Edge
from testbed.iommu.virtual import VirtualSmmu
from testbed.memory.access import MemoryAccess
from testbed.pci import smmu_entries as entries
from testbed.pci.smmu_entries import EventRecord
from testbed.spec import smmu_queues as q
from testbed.vmm.assignment import Assignments


class GuestStage1:
    """The host's side of one guest's virtual SMMU. `streams`: the guest's numbers to the machine's."""

    def __init__(self, assignments: Assignments, vmid: int, streams: Mapping[int, int]) -> None:
        self._assignments, self._vmid, self._streams = assignments, vmid, streams
        self._guests = {host: guest for guest, host in streams.items()}
        self._pending = False

    @property
    def streams(self) -> Sequence[int]:
        """The functions, by the guest's numbers."""
        return tuple(self._streams)

    def nest(self, stream: int, guest_entry: int | None) -> None:
        """Translate a stream by its guest's STE before stage 2; None: the guest bypasses stage 1."""
        self._assignments.nest(self._streams[stream], guest_entry)

    def block(self, stream: int) -> None:
        """Abort a stream's transactions."""
        self._assignments.block(self._streams[stream])

    def forget_context(self, stream: int, substream: int) -> None:
        """Have a context descriptor forgotten."""
        self._command(entries.invalidate_context(self._streams[stream], substream))

    def forget(self, asid: int | None, pages: Sequence[int] | None) -> None:
        """Have translations of the guest's stage 1 forgotten: of an ASID, of pages; None: of all."""
        if pages is None:
            self._forget_space(asid)
            return
        opcode = q.OP_TLBI_NH_VAA if asid is None else q.OP_TLBI_NH_VA
        for page in pages:
            self._command(entries.invalidate_by_address(opcode, page, self._vmid, asid or 0))

    def sync(self) -> None:
        """Return when all that was asked before is complete, also in the devices' own caches."""
        if self._pending:
            self._pending = False
            self._assignments.complete(self._streams.values())

    def take(self, front: VirtualSmmu, event: EventRecord) -> bool:
        """Give the guest an event of one of its functions; False where it is not the guest's to see."""
        return front.deliver(event.image, self._guests[event.stream])

    def _forget_space(self, asid: int | None) -> None:
        if asid is None:
            self._command(entries.command(q.OP_TLBI_NH_ALL, (q.TLBI_VMID, self._vmid)))
        else:
            vmid = (q.TLBI_VMID, self._vmid)
            # entries shared by every ASID go with an address of any (§4.4.1), which this does not name
            self._command(entries.command(q.OP_TLBI_NH_ASID, vmid, (q.TLBI_ASID, asid)))

    def _command(self, image: int) -> None:
        self._assignments.command(image)
        self._pending = True


@dataclass(frozen=True, slots=True)
class _Wire:
    """A wire of the SMMU as an interrupt of the guest's."""

    edge: Edge

    def send(self) -> None:
        """Give one edge."""
        self.edge.pulse()


class GuestSmmu:
    """A guest's virtual SMMU as a device of its VM. `runnable`: what the process runs at every turn."""

    def __init__(
        self,
        memory: MemoryAccess,
        stage1: GuestStage1,
        events: Edge,
        errors: Edge,
        runnable: MutableMapping[Callable[[], bool], None],
    ) -> None:
        self._stage1, self._runnable = stage1, runnable
        self.front = VirtualSmmu(memory, stage1.streams, stage1, _Wire(events), _Wire(errors))

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load from the register block gives."""
        return self.front.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store to the register block."""
        self.front.write(offset, size_bytes, value)
        self._runnable[self._go_on] = None

    def take(self, event: EventRecord) -> bool:
        """Give the guest an event of one of its functions; False where it is not the guest's to see."""
        return self._stage1.take(self.front, event)

    def _go_on(self) -> bool:
        """Execute commands that a register write left over."""
        more = self.front.poll()
        if not more:
            self._runnable.pop(self._go_on, None)
        return more
