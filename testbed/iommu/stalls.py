"""Transactions that wait for software: the Stall fault model.

Reference: ARM IHI 0070 G.b §3.12.2, §4.7.1, §4.7.2. Whoever holds the transaction gets a ticket for it and
later a release that says whether to present it again or to abort it. Not modelled: suppression of duplicate
records (permitted, never required).
"""

from collections import deque
from dataclasses import dataclass

from testbed.iommu.events import Request


@dataclass(frozen=True, slots=True)
class Release:
    """A stalled transaction's answer."""

    ticket: int
    retry: bool
    """Present it again as though it had just arrived; else it is aborted."""


class Stalls:
    """Stalled transactions by tag. Tags are the lowest free numbers, so their count bounds their size."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_tag: dict[int, tuple[int, Request]] = {}
        self._unrecorded: list[int] = []
        self._released: deque[Release] = deque()
        self._ticket = 0

    def __len__(self) -> int:
        return len(self._by_tag) + len(self._unrecorded)

    def free_tag(self) -> int | None:
        """Return a tag for one more transaction, None where no more can be held."""
        if len(self) >= self._limit:
            return None
        return next(tag for tag in range(self._limit) if tag not in self._by_tag)

    def hold(self, tag: int, request: Request) -> int:
        """Hold a transaction whose record is written; return its ticket."""
        self._by_tag[tag] = (self._next_ticket(), request)
        return self._ticket

    def hold_unrecorded(self) -> int:
        """Hold a transaction for whose record there is no room: it is retried when there is."""
        self._unrecorded.append(self._next_ticket())
        return self._ticket

    def resume(self, stream: int, tag: int, retry: bool) -> None:
        """CMD_RESUME: no effect unless the tag belongs to the stream."""
        held = self._by_tag.get(tag)
        if held is not None and held[1].stream == stream:
            del self._by_tag[tag]
            self._released.append(Release(held[0], retry))

    def terminate(self, stream: int) -> None:
        """CMD_STALL_TERM: abort all of a stream."""
        for tag in [tag for tag, (_, request) in self._by_tag.items() if request.stream == stream]:
            self.resume(stream, tag, False)

    def retry_unrecorded(self) -> None:
        """The event queue can be written again."""
        self._released.extend(Release(ticket, True) for ticket in self._unrecorded)
        self._unrecorded.clear()

    def terminate_all(self) -> None:
        """Translation is disabled (CR0.SMMUEN cleared)."""
        tickets = [ticket for ticket, _ in self._by_tag.values()] + self._unrecorded
        self._released.extend(Release(ticket, False) for ticket in tickets)
        self._by_tag.clear()
        self._unrecorded.clear()

    def take_released(self) -> tuple[Release, ...]:
        """Return what was released since the last time, in order."""
        released = tuple(self._released)
        self._released.clear()
        return released

    def _next_ticket(self) -> int:
        self._ticket += 1
        return self._ticket
