"""Both sides of a packed virtqueue as virtio 1.2 §2.8 describes them, one descriptor at a time; see
`ring_model`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.raw_ring import (
    AVAIL,
    EVENT_DESC,
    EVENT_DISABLE,
    EVENT_ENABLE,
    INDIRECT,
    NEXT,
    USED,
    WRITE,
    Descriptor,
    RawPackedRing,
    avail_flags,
    read_packed_entry,
    used_flags,
    write_packed_entry,
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


@dataclass(frozen=True)
class Place:
    """A descriptor's offset and the wrap counter with which it is passed."""

    offset: int = 0
    wrap: bool = True

    def after(self, slots: int, size: int) -> "Place":
        """Return the place so many descriptors on."""
        laps, offset = divmod(self.offset + slots, size)
        return Place(offset, self.wrap ^ bool(laps % 2))

    @property
    def event_word(self) -> int:
        """The place as an event structure names it (§2.8.14)."""
        return self.offset | self.wrap << 15


class PackedDecider:
    """When one side must notify the other (§2.8.10): the named descriptor is among those written."""

    def __init__(self, size: int, place: Place) -> None:
        self._size, self._next = size, place
        self._passed: list[int] = []

    def made(self, slots: int) -> None:
        """So many descriptors were passed."""
        for _ in range(slots):
            self._passed.append(self._next.event_word)
            self._next = self._next.after(1, self._size)

    def decide(self, flags: int, event: int) -> bool:
        """The descriptors are visible: is a notification due?"""
        passed, self._passed = self._passed, []
        if flags == EVENT_DESC:
            return event in passed
        return bool(passed) and flags == EVENT_ENABLE


class PackedModelDevice:
    """The device's side; `place`: where it starts."""

    def __init__(
        self, memory: Memory, ring: RawPackedRing, features: Features, place: Place = Place()
    ) -> None:
        self._memory, self.ring, self._features = memory, ring, features
        self._next = self._used = place
        self._outstanding = 0
        self._decider = PackedDecider(ring.size, place)

    def mark(self) -> object:
        """Return where the device stands."""
        return self._next, self._outstanding

    def rewind(self, mark: object) -> None:
        """Go back to a mark."""
        assert isinstance(mark, tuple)
        self._next, self._outstanding = mark

    def pop(self, writable: bool) -> Chain | None:
        """Return the next available buffer, None where there is none (§2.8.1)."""
        head = self.ring.descriptor(self._next.offset)
        if head.flags & (AVAIL | USED) != avail_flags(self._next.wrap):
            return None
        elements, slots, ident = self._read_list(head, writable)
        if self._outstanding + slots > self.ring.size:
            raise BrokenRingError("avail_jump")  # §2.8.17: the driver changes no descriptor that is not used
        self._outstanding += slots
        self._next = self._next.after(slots, self.ring.size)
        return Chain(ident, elements, slots)

    def _read_list(self, head: Descriptor, writable: bool) -> tuple[tuple[Element, ...], int, int]:
        reader, slots, place, descriptor = ChainReader(self._memory, writable), 1, self._next, head
        if head.flags & INDIRECT:
            self._read_table(head, reader)
            return tuple(reader.elements), slots, head.next
        while True:
            reader.add(descriptor.addr, descriptor.len, bool(descriptor.flags & WRITE))
            if not descriptor.flags & NEXT:
                return tuple(reader.elements), slots, descriptor.next
            if slots == self.ring.size:
                raise BrokenRingError("loop")  # §2.8.17: no list longer than the queue
            slots, place = slots + 1, place.after(1, self.ring.size)
            descriptor = self.ring.descriptor(place.offset)
            if descriptor.flags & INDIRECT:
                raise BrokenRingError("indirect_next")  # §2.8.19: no INDIRECT in a list linked by NEXT

    def _read_table(self, head: Descriptor, reader: ChainReader) -> None:
        """§2.8.7: entries follow one another; of their flags only WRITE is valid, the others are ignored."""
        broken = table_faults(
            self._memory, head.addr, head.len, bool(head.flags & NEXT), self._features.indirect
        )
        if broken:
            raise BrokenRingError(*broken)
        for i in range(head.len // 16):
            entry = read_packed_entry(self._memory, head.addr + 16 * i)
            reader.add(entry.addr, entry.len, bool(entry.flags & WRITE))

    def use(self, request: Sequence[Use]) -> None:
        """Write used descriptors of one request, the first one's last (§2.8.9)."""
        places = []
        for use in request:
            places.append(self._used)
            self._step(use.slots)
        for place, use in reversed(list(zip(places, request, strict=True))):
            self._write_used(place, use)

    def use_batch(self, batch: Sequence[Use]) -> None:
        """§2.8.8: one used descriptor with the last buffer's id where the batch begins."""
        self._write_used(self._used, batch[-1])
        self._step(sum(use.slots for use in batch))

    def _write_used(self, place: Place, use: Use) -> None:
        """Write length, id and flags; the address of a used descriptor is not used (§2.8.5)."""
        flags = used_flags(place.wrap) | (WRITE if use.written else 0)
        addr = self.ring.descriptor(place.offset).addr
        self.ring.describe(place.offset, addr, use.written, flags, use.ident)

    def _step(self, slots: int) -> None:
        self._used = self._used.after(slots, self.ring.size)
        self._outstanding -= slots
        self._decider.made(slots)

    def publish(self) -> bool:
        """Used descriptors are visible as they are written; True: the driver must be called."""
        return self._decider.decide(self.ring.driver_event_flags, self.ring.driver_event_desc)

    def ask(self) -> None:
        """Ask for a kick with the next available descriptor, or with any."""
        if self._features.event_idx:
            self.ring.device_event_desc = self._next.event_word
        self.ring.device_event_flags = EVENT_DESC if self._features.event_idx else EVENT_ENABLE

    def hush(self) -> None:
        """Ask for no kicks."""
        self.ring.device_event_flags = EVENT_DISABLE


class PackedModelDriver:
    """The driver's side; buffer ids are taken in turn."""

    def __init__(
        self, memory: Memory, ring: RawPackedRing, features: Features, place: Place = Place()
    ) -> None:
        self._memory, self.ring, self._features = memory, ring, features
        self._avail = self._used = place
        for i in range(ring.size if place != Place() else 0):  # as the laps before left it
            ring.set_flags(i, used_flags(place.wrap ^ (i >= place.offset)))
        self._decider = PackedDecider(ring.size, place)
        self._slots_free = ring.size
        self._idents = deque(range(ring.size))
        self._slots: dict[int, int] = {}
        self._in_flight: deque[int] = deque()
        self._batch: deque[tuple[int, int]] = deque()

    def add(self, elements: Sequence[Element], table_gpa: int | None) -> int | None:
        """Make a buffer available at once; None: the ring has no room for it."""
        slots = 1 if table_gpa is not None else len(elements)
        if slots > self._slots_free:
            return None
        ident = self._idents.popleft()
        rows = [(e.gpa, e.length_bytes, WRITE * e.writable) for e in elements]
        if table_gpa is not None:
            for i, row in enumerate(rows):
                write_packed_entry(self._memory, table_gpa + 16 * i, *row)
            rows = [(table_gpa, 16 * len(rows), INDIRECT)]
        self._write_list(rows, ident)
        self._slots_free -= slots
        self._slots[ident] = slots
        self._in_flight.append(ident)
        return ident

    def _write_list(self, rows: Sequence[tuple[int, int, int]], ident: int) -> None:
        """Write a list's descriptors, the first one last (§2.8.14.1)."""
        places = [self._avail.after(i, self.ring.size) for i in range(len(rows))]
        for i in reversed(range(len(rows))):
            addr, length, flags = rows[i]
            flags |= avail_flags(places[i].wrap) | (NEXT if i + 1 < len(rows) else 0)
            self.ring.describe(places[i].offset, addr, length, flags, ident)
        self._avail = self._avail.after(len(rows), self.ring.size)
        self._decider.made(len(rows))

    def publish(self) -> bool:
        """True: the device must be kicked for what was added since the last time."""
        return self._decider.decide(self.ring.device_event_flags, self.ring.device_event_desc)

    def take(self) -> tuple[int, int] | None:
        """Return (id, bytes written) of the next used buffer (§2.8.15)."""
        if not self._batch:
            descriptor = self.ring.descriptor(self._used.offset)
            if descriptor.flags & (AVAIL | USED) != used_flags(self._used.wrap):
                return None
            self._open(descriptor.next, descriptor.len if descriptor.flags & WRITE else 0)
        ident, written = self._batch.popleft()
        slots = self._slots.pop(ident)
        self._used = self._used.after(slots, self.ring.size)
        self._slots_free += slots
        self._idents.append(ident)
        return ident, written

    def _open(self, last: int, written: int) -> None:
        """One used descriptor gives back one buffer, or with IN_ORDER all up to it (§2.8.8)."""
        if self._features.in_order:
            while self._in_flight[0] != last:
                self._batch.append((self._in_flight.popleft(), 0))
        self._in_flight.remove(last)
        self._batch.append((last, written))

    def ask(self) -> None:
        """Ask for a call with the next used descriptor, or with any."""
        if self._features.event_idx:
            self.ring.driver_event_desc = self._used.event_word
        self.ring.driver_event_flags = EVENT_DESC if self._features.event_idx else EVENT_ENABLE

    def hush(self) -> None:
        """Ask for no calls."""
        self.ring.driver_event_flags = EVENT_DISABLE
