"""The trace rings of a topology as the launcher has them: it turns them on and off, and reads them.

It may write the first page of each, in which the flag is; the records it only reads. Reference:
testbed/spec/trace.py. Not modelled: reading rings of a launcher that has ended.
"""

import mmap
from collections.abc import Mapping

from testbed.native import Pinned, TraceReader
from testbed.observe.trace import Record, in_order, read_ring
from testbed.spec.trace import HEADER, RECORDS_OFFSET


class TraceRing:
    """One process's ring."""

    def __init__(self, process: str, descriptor: int, size_bytes: int) -> None:
        """Map it; the descriptor stays the caller's."""
        self.process = process
        self._page = mmap.mmap(descriptor, RECORDS_OFFSET)
        self._ring = mmap.mmap(descriptor, size_bytes, prot=mmap.PROT_READ)
        self._reader: TraceReader | None = TraceReader(Pinned(self._ring, False))
        self._after = 0

    def turn(self, *, on: bool) -> None:
        """Have events written from now on, or none."""
        offset = HEADER.offset("enabled")
        self._page[offset : offset + 4] = int(on).to_bytes(4, "little")

    def forget(self) -> None:
        """Regard every event so far as read."""
        assert self._reader is not None
        self._after = self._reader.head

    def read(self) -> tuple[list[Record], int]:
        """Return the events since the last `forget`, and how many of them were overwritten or lost."""
        assert self._reader is not None
        taken = read_ring(self.process, self._reader, self._after)
        return taken.records, taken.missing

    def close(self) -> None:
        """Unmap it."""
        self._reader = None
        self._page.close()
        self._ring.close()


class TraceRings:
    """Every ring of a topology."""

    def __init__(self, rings: Mapping[str, TraceRing]) -> None:
        self._rings = rings

    def begin(self) -> None:
        """Have every process write its events from now on; older ones are forgotten."""
        for ring in self._rings.values():
            ring.forget()
        for ring in self._rings.values():
            ring.turn(on=True)

    def end(self) -> None:
        """Have no process write events any more."""
        for ring in self._rings.values():
            ring.turn(on=False)

    def read(self) -> tuple[list[Record], dict[str, int]]:
        """Return the events since `begin` in the order in which they happened, and by process how many are
        missing.
        """
        records: list[Record] = []
        missing = {}
        for ring in self._rings.values():
            found, gone = ring.read()
            records += found
            if gone:
                missing[ring.process] = gone
        return in_order(records), missing

    def close(self) -> None:
        """Unmap them."""
        for ring in self._rings.values():
            ring.close()
