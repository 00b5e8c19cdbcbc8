"""Pages that the hypervisor watches while a guest attacks: one of its own, or one taken from the guest.

Reference: testbed/messages/control.py (Guard, Inspect and their answers); ARM IHI 0070 G.b §4.4
(invalidation). What is taken from a guest is taken as a balloon takes it, or write-protected as for
deduplication: the mapping first, then every cached translation of it, and only then is the page used. Not
modelled: a vCPU's own access to such a page, which stage 2 would stop; here a guest has its RAM mapped.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from testbed.address import PAGE_SIZE_BYTES
from testbed.errors import GuestError
from testbed.memory.segment import Segment
from testbed.memory.tables import Attributes, TableBuilder
from testbed.messages.attack import AttackEntry
from testbed.messages.control import FromProcess, Guard, Guarding, Inspect, Inspected

PATTERN: Final = bytes(reversed(range(256))) * (PAGE_SIZE_BYTES // 256)
READ_ONLY: Final = Attributes(write=False)


@dataclass(frozen=True, slots=True)
class Stage2:
    """A guest's memory as its hypervisor has it."""

    tables: TableBuilder
    ram: Segment


@dataclass(frozen=True, slots=True)
class _Watched:
    entry: AttackEntry
    page: memoryview
    hpa: int
    gpa: int
    """0: a page of the hypervisor's own."""


class GuardedPages:
    """One host's; own: returns (host physical address, page) of one of the hypervisor's own.

    forget(guest, gpa, bytes): returns when nobody uses an old translation of a guest's any more.
    """

    def __init__(
        self,
        guests: Mapping[str, Stage2],
        own: Callable[[], tuple[int, memoryview]],
        forget: Callable[[str, int, int], None],
        send: Callable[[FromProcess], None],
    ) -> None:
        self._guests, self._take_own, self._forget, self._send = guests, own, forget, send
        self._own: tuple[int, memoryview] | None = None
        self._watched: dict[int, _Watched] = {}

    def guard(self, message: Guard) -> None:
        """Watch a page from now on."""
        try:
            watched = self._watch(message)
        except GuestError as error:
            self._send(Guarding(attack_id=message.attack.id, refused=str(error)))
            return
        self._watched[message.attack.id] = watched
        watched.page[:] = PATTERN
        self._send(Guarding(attack_id=message.attack.id, address=watched.hpa))

    def inspect(self, message: Inspect) -> None:
        """Say what became of a page, and give it back."""
        watched = self._watched.pop(message.attack_id, None)
        if watched is None:
            return
        now = bytes(watched.page)
        changed = sum(is_now != was for is_now, was in zip(now, PATTERN, strict=True))
        if watched.gpa:
            self._give_back(watched)
        self._send(Inspected(attack_id=message.attack_id, changed_bytes=changed))

    def _watch(self, message: Guard) -> _Watched:
        entry, gpa = message.attack, message.page_gpa
        if entry.attack == "dma-vmm":
            self._own = self._own or self._take_own()
            return _Watched(entry, self._own[1], self._own[0], 0)
        stage2 = self._guests[entry.source]
        hpa = self._page_of(stage2, gpa)
        if entry.attack == "dma-read-only":
            stage2.tables.protect(gpa, PAGE_SIZE_BYTES, READ_ONLY)
        else:
            stage2.tables.unmap(gpa, PAGE_SIZE_BYTES)
        self._forget(entry.source, gpa, PAGE_SIZE_BYTES)
        at = hpa - stage2.ram.hpa
        return _Watched(entry, stage2.ram.view[at : at + PAGE_SIZE_BYTES], hpa, gpa)

    @staticmethod
    def _page_of(stage2: Stage2, gpa: int) -> int:
        """Return where a page of a guest's RAM lies: the guest has named it, so it may be none."""
        hpa = None if gpa % PAGE_SIZE_BYTES else stage2.tables.lookup(gpa)
        if hpa is None or not 0 <= hpa - stage2.ram.hpa < len(stage2.ram.view):
            raise GuestError("not_a_page", f"{gpa:#x} is no page of the guest's RAM, so it cannot be watched")
        return hpa

    def _give_back(self, watched: _Watched) -> None:
        tables, source = self._guests[watched.entry.source].tables, watched.entry.source
        if watched.entry.attack == "dma-read-only":
            tables.protect(watched.gpa, PAGE_SIZE_BYTES, Attributes())
            self._forget(source, watched.gpa, PAGE_SIZE_BYTES)
        else:
            tables.map(watched.gpa, watched.hpa, PAGE_SIZE_BYTES)
