"""Both sides of a split virtqueue as virtio 1.2 §2.7 describes them, entry by entry; see `ring_model`."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from tests.support.raw_ring import (
    INDIRECT,
    NEXT,
    WRITE,
    Descriptor,
    RawSplitRing,
    read_table_entry,
    write_table_entry,
)
from tests.support.ring_model import (
    BrokenRingError,
    Chain,
    ChainReader,
    Element,
    Features,
    Memory,
    Use,
    table_faults,
)

INDEX_LIMIT = 1 << 16


class SplitDecider:
    """When one side must notify the other (§2.7.7.2, §2.7.10.1)."""

    def __init__(self, event_idx: bool, index: int = 0) -> None:
        self._event_idx, self._next = event_idx, index
        self._passed: list[int] = []

    def made(self, entries: int) -> None:
        """So many entries were written into the ring."""
        for _ in range(entries):
            self._passed.append(self._next)
            self._next = (self._next + 1) % INDEX_LIMIT

    def decide(self, flags: int, event: int) -> bool:
        """The entries are visible: is a notification due?"""
        passed, self._passed = self._passed, []
        return event in passed if self._event_idx else bool(passed) and flags & 1 == 0


class SplitModelDevice:
    """The device's side; `index`: where both rings start."""

    def __init__(self, memory: Memory, ring: RawSplitRing, features: Features, index: int = 0) -> None:
        self._memory, self.ring, self._features = memory, ring, features
        self._next = self._used = index
        self._decider = SplitDecider(features.event_idx, index)

    def mark(self) -> object:
        """Return where the device stands."""
        return self._next

    def rewind(self, mark: object) -> None:
        """Go back to a mark."""
        assert isinstance(mark, int)
        self._next = mark

    def pop(self, writable: bool) -> Chain | None:
        """Return the next available buffer (§2.7.13), None where there is none."""
        ahead = (self.ring.avail_idx - self._next) % INDEX_LIMIT
        if ahead > self.ring.size:
            raise BrokenRingError("avail_jump")
        if not ahead:
            return None
        head = self.ring.head(self._next)
        if head >= self.ring.size:
            raise BrokenRingError("head_range")
        elements, slots = self._read_chain(head, writable)
        self._next = (self._next + 1) % INDEX_LIMIT
        return Chain(head, elements, slots)

    def _read_chain(self, head: int, writable: bool) -> tuple[tuple[Element, ...], int]:
        reader = ChainReader(self._memory, writable)
        index, steps = head, 0
        while True:
            descriptor, steps = self.ring.descriptor(index), steps + 1
            if descriptor.flags & INDIRECT:
                self._read_table(descriptor, reader)
                break
            last = _add(reader, descriptor, steps, self.ring.size)
            if last:
                break
            index = descriptor.next
        return tuple(reader.elements), steps

    def _read_table(self, head: Descriptor, reader: ChainReader) -> None:
        """§2.7.5.3: normal descriptors may come before, nothing behind; WRITE of the referring one is
        ignored.
        """
        broken = table_faults(
            self._memory, head.addr, head.len, bool(head.flags & NEXT), self._features.indirect
        )
        if broken:
            raise BrokenRingError(*broken)
        index, steps, entries = 0, 0, head.len // 16
        while True:
            entry, steps = read_table_entry(self._memory, head.addr + 16 * index), steps + 1
            if entry.flags & INDIRECT:
                raise BrokenRingError("nested_indirect")
            if _add(reader, entry, steps, entries):
                return
            index = entry.next

    def use(self, request: Sequence[Use]) -> None:
        """Write used elements; they are not visible yet."""
        for use in request:
            self.ring.set_used_element(self._used, use.ident, use.written)
            self._step(1)

    def use_batch(self, batch: Sequence[Use]) -> None:
        """§2.7.9: one element with the last buffer's id where the batch begins, idx forward by the batch."""
        self.ring.set_used_element(self._used, batch[-1].ident, batch[-1].written)
        self._step(len(batch))

    def _step(self, entries: int) -> None:
        self._used = (self._used + entries) % INDEX_LIMIT
        self._decider.made(entries)

    def publish(self) -> bool:
        """Move used.idx; True: the driver must be called."""
        self.ring.used_idx = self._used
        return self._decider.decide(self.ring.avail_flags, self.ring.used_event)

    def ask(self) -> None:
        """Ask for a kick with the next available entry."""
        if self._features.event_idx:
            self.ring.avail_event = self._next
        else:
            self.ring.used_flags = 0

    def hush(self) -> None:
        """Ask for no kicks; with EVENT_IDX flags must stay 0 (§2.7.10.2)."""
        if not self._features.event_idx:
            self.ring.used_flags = 1


def _add(reader: ChainReader, descriptor: Descriptor, steps: int, limit: int) -> bool:
    """Take one descriptor's element; True: it was the chain's last."""
    reader.add(descriptor.addr, descriptor.len, bool(descriptor.flags & WRITE))
    if not descriptor.flags & NEXT:
        return True
    broken = set()
    if steps == limit:
        broken.add("loop")
    if descriptor.next >= limit:
        broken.add("next_range")
    if broken:
        raise BrokenRingError(*broken)
    return False


class SplitModelDriver:
    """The driver's side; descriptors are taken from the table in order, so that IN_ORDER holds."""

    def __init__(self, memory: Memory, ring: RawSplitRing, features: Features, index: int = 0) -> None:
        self._memory, self.ring, self._features = memory, ring, features
        self._avail = self._taken = index
        ring.avail_idx = ring.used_idx = index
        self._decider = SplitDecider(features.event_idx, index)
        self._free = deque(range(ring.size))
        self._descriptors: dict[int, list[int]] = {}
        self._in_flight: deque[int] = deque()
        self._batch: deque[tuple[int, int]] = deque()

    def add(self, elements: Sequence[Element], table_gpa: int | None) -> int | None:
        """Make a buffer available once `publish` is called; None: no descriptors are free (§2.7.13.1)."""
        needed = 1 if table_gpa is not None else len(elements)
        if needed > len(self._free):
            return None
        indices = [self._free.popleft() for _ in range(needed)]
        if table_gpa is not None:
            self._write_table(table_gpa, elements)
            self.ring.describe(indices[0], table_gpa, 16 * len(elements), INDIRECT)
        else:
            self._write_chain(indices, elements)
        self.ring.set_head(self._avail, indices[0])
        self._avail = (self._avail + 1) % INDEX_LIMIT
        self._decider.made(1)
        self._descriptors[indices[0]] = indices
        self._in_flight.append(indices[0])
        return indices[0]

    def _write_chain(self, indices: Sequence[int], elements: Sequence[Element]) -> None:
        for (index, following), element in zip(pairwise([*indices, -1]), elements, strict=True):
            flags = WRITE * element.writable | (NEXT if following >= 0 else 0)
            self.ring.describe(index, element.gpa, element.length_bytes, flags, max(following, 0))

    def _write_table(self, table_gpa: int, elements: Sequence[Element]) -> None:
        for i, element in enumerate(elements):
            more = i + 1 < len(elements)
            flags = WRITE * element.writable | (NEXT if more else 0)
            write_table_entry(
                self._memory, table_gpa + 16 * i, element.gpa, element.length_bytes, flags, (i + 1) * more
            )

    def publish(self) -> bool:
        """Move avail.idx; True: the device must be kicked."""
        self.ring.avail_idx = self._avail
        return self._decider.decide(self.ring.used_flags, self.ring.avail_event)

    def take(self) -> tuple[int, int] | None:
        """Return (id, bytes written) of the next used buffer (§2.7.14)."""
        if not self._batch:
            if self.ring.used_idx == self._taken:
                return None
            self._open(*self.ring.used_element(self._taken))
        ident, written = self._batch.popleft()
        self._free.extend(self._descriptors.pop(ident))
        self._taken = (self._taken + 1) % INDEX_LIMIT
        return ident, written

    def _open(self, last: int, written: int) -> None:
        """One element gives back one buffer, or with IN_ORDER all up to it (§2.7.9)."""
        if self._features.in_order:
            while self._in_flight[0] != last:
                self._batch.append((self._in_flight.popleft(), 0))
        self._in_flight.remove(last)
        self._batch.append((last, written))

    def ask(self) -> None:
        """Ask for a call with the next used element."""
        if self._features.event_idx:
            self.ring.used_event = self._taken
        else:
            self.ring.avail_flags = 0

    def hush(self) -> None:
        """Ask for no calls; with EVENT_IDX flags must stay 0 (§2.7.7.1)."""
        if not self._features.event_idx:
            self.ring.avail_flags = 1
