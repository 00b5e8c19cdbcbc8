"""What virtio 1.2 says that a device and a driver do with a virtqueue, slow and obvious: the oracle of the
native code.

Here: what both ring formats share, and the network device's use of them (§5.1.6). The formats are in
`split_model` and `packed_model`. A model is written from the standard alone, reads and writes guest memory
word by word, and raises `BrokenRingError` with every rule that the driver broke. Limits that the standard
leaves to the device are declared here: how many pieces one chain may have, that an indirect table lies in one
piece and on 8 bytes. Not modelled: offloads.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

from tests.support.strict_memory import OutsideMemoryError

PIECES_MAX: Final = 1024
TABLE_ENTRIES_MAX: Final = 32768
HEADER_BYTES: Final = 12
"""struct virtio_net_hdr with num_buffers (§5.1.6)."""
NUM_BUFFERS_OFFSET: Final = 10
FRAME_BYTES_MAX: Final = 65550


class BrokenRingError(Exception):
    """The driver broke the standard; `rules` names all that it broke with the first bad descriptor."""

    def __init__(self, *rules: str) -> None:
        super().__init__(", ".join(sorted(rules)))
        self.rules = frozenset(rules)


class Memory(Protocol):
    """Guest memory; an address that is nowhere raises."""

    def read(self, gpa: int, length_bytes: int) -> bytes: ...
    def write(self, gpa: int, data: bytes) -> None: ...
    def load(self, gpa: int, size_bytes: int) -> int: ...
    def store(self, gpa: int, size_bytes: int, value: int) -> None: ...
    def pieces(self, gpa: int, length_bytes: int) -> list[tuple[int, int]]: ...


@dataclass(frozen=True)
class Features:
    """What driver and device agreed on."""

    event_idx: bool = False
    indirect: bool = False
    merge: bool = False
    in_order: bool = False

    def __str__(self) -> str:
        return "+".join(name for name, on in vars(self).items() if on) or "plain"


@dataclass(frozen=True)
class Element:
    """One buffer element of a chain."""

    gpa: int
    length_bytes: int
    writable: bool


@dataclass(frozen=True)
class Chain:
    """A buffer: its id, its elements, how many ring descriptors it takes."""

    ident: int
    elements: tuple[Element, ...]
    slots: int

    @property
    def length_bytes(self) -> int:
        """Bytes of all elements."""
        return sum(e.length_bytes for e in self.elements)


@dataclass(frozen=True)
class Use:
    """A buffer given back: its id, bytes written, ring descriptors it took."""

    ident: int
    written: int
    slots: int


class DeviceRing(Protocol):
    """The device's side of a ring format."""

    def pop(self, writable: bool) -> Chain | None: ...
    def mark(self) -> object: ...
    def rewind(self, mark: object) -> None: ...
    def use(self, request: Sequence[Use]) -> None: ...
    def use_batch(self, batch: Sequence[Use]) -> None: ...
    def publish(self) -> bool: ...
    def ask(self) -> None: ...
    def hush(self) -> None: ...


class DriverRing(Protocol):
    """The driver's side of a ring format."""

    def add(self, elements: Sequence[Element], table_gpa: int | None) -> int | None: ...
    def publish(self) -> bool: ...
    def take(self) -> tuple[int, int] | None: ...
    def ask(self) -> None: ...
    def hush(self) -> None: ...


class ChainReader:
    """Collects the elements of one chain and knows the rules for each."""

    def __init__(self, memory: Memory, writable: bool) -> None:
        self._memory, self._writable = memory, writable
        self.elements: list[Element] = []
        self._pieces = 0

    def add(self, addr: int, length: int, writable: bool, *also_broken: str) -> None:
        """Take one element; raises BrokenRingError with this descriptor's faults and those already known of
        it.
        """
        broken = {*also_broken, *self._faults(addr, length, writable)}
        if broken:
            raise BrokenRingError(*broken)
        self.elements.append(Element(addr, length, writable))

    def _faults(self, addr: int, length: int, writable: bool) -> set[str]:
        broken = set()
        if writable != self._writable:
            broken.add("writable" if writable else "readable")
        if length == 0:
            broken.add("zero_length")
        if addr + length >= 1 << 64:
            broken.add("length")
        try:
            self._pieces += len(self._memory.pieces(addr, length))
        except OutsideMemoryError:
            broken.add("address")
            self._pieces += 1
        if self._pieces > PIECES_MAX:
            broken.add("chain_length")
        return broken


def table_faults(memory: Memory, addr: int, length: int, has_next: bool, negotiated: bool) -> set[str]:
    """Return what is wrong with a descriptor that refers to an indirect table (§2.7.5.3, §2.8.7)."""
    broken = set()
    if not negotiated:
        broken.add("indirect_off")
    if has_next:
        broken.add("indirect_next")
    if length % 16 or not 1 <= length // 16 <= TABLE_ENTRIES_MAX:
        broken.add("indirect_length")
    try:
        if len(memory.pieces(addr, length)) > 1:
            broken.add("address")
    except OutsideMemoryError:
        broken.add("address")
    if addr % 8:
        broken.add("alignment")
    return broken


def cut(length: int, parts: int) -> list[int]:
    """Return `parts` lengths that sum up to `length`, as equal as can be, none of them zero."""
    borders = [length * i // parts for i in range(parts + 1)]
    return [b - a for a, b in pairwise(borders) if b > a]


class ModelNetDevice:
    """A virtio-net device on one queue: takes frames from a transmit queue, or puts frames into a receive
    queue.
    """

    def __init__(self, ring: DeviceRing, memory: Memory, size: int, features: Features) -> None:
        self.ring, self._memory, self._size, self._features = ring, memory, size, features
        self._fetched: list[Chain] = []
        self.broken: frozenset[str] = frozenset()

    @property
    def fetched(self) -> int:
        """Frames that were fetched and not yet completed."""
        return len(self._fetched)

    def fetch(self, limit: int) -> list[bytes]:
        """Return up to `limit` frames; a broken ring ends it and stays broken."""
        frames: list[bytes] = []
        while len(frames) < limit and not self.broken:
            try:
                chain = self.ring.pop(False)
                if chain is None:
                    break
                if chain.length_bytes < HEADER_BYTES:
                    raise BrokenRingError("header")
            except BrokenRingError as error:
                self.broken = error.rules
                break
            self._fetched.append(chain)
            frames.append(b"".join(self._memory.read(e.gpa, e.length_bytes) for e in chain.elements)[12:])
        return frames

    def complete(self) -> bool:
        """Give every fetched buffer back; True: the driver must be called."""
        batch = [Use(c.ident, 0, c.slots) for c in self._fetched]
        self._fetched = []
        if batch and self._features.in_order:
            self.ring.use_batch(batch)
        else:
            for use in batch:
                self.ring.use([use])
        return self.ring.publish()

    def deliver(self, frame: bytes) -> str:
        """Put one frame into receive buffers; return delivered, wait, too_small or broken."""
        start = self.ring.mark()
        need = HEADER_BYTES + len(frame)
        try:
            taken = self._take(need)
        except BrokenRingError as error:
            self.broken = self.broken or error.rules
            return "broken"
        if not isinstance(taken, list):
            self.ring.rewind(start)
            return taken
        self._scatter(taken, frame)
        uses = []
        for chain in taken:
            written = min(need, chain.length_bytes)
            need -= written
            uses.append(Use(chain.ident, written, chain.slots))
        self.ring.use(uses)
        return "delivered"

    def publish(self) -> bool:
        """Show the driver what was used; True: it must be called."""
        return self.ring.publish()

    def _take(self, need: int) -> list[Chain] | str:
        """Return buffers enough for `need` bytes; wait: more may come; too_small: they never suffice."""
        if self.broken:
            raise BrokenRingError(*self.broken)
        taken: list[Chain] = []
        while sum(c.length_bytes for c in taken) < need:
            if taken and (not self._features.merge or sum(c.slots for c in taken) >= self._size):
                return "too_small"
            chain = self.ring.pop(True)
            if chain is None:
                return "wait"
            taken.append(chain)
        return taken

    def _scatter(self, taken: Sequence[Chain], frame: bytes) -> None:
        header = bytes(NUM_BUFFERS_OFFSET) + len(taken).to_bytes(2, "little")
        rest = header + frame
        for element in (e for chain in taken for e in chain.elements):
            if not rest:
                break
            self._memory.write(element.gpa, rest[: element.length_bytes])
            rest = rest[element.length_bytes :]


class ModelNetDriver:
    """A network driver on one queue with `count` equal buffers from `slots_gpa` on, each described by `parts`
    descriptors.

    Every buffer is cut into equal parts wherever the borders fall, also within the header. `tables_gpa`: room
    for indirect tables.
    """

    def __init__(
        self,
        ring: DriverRing,
        memory: Memory,
        slots_gpa: int,
        slot_bytes: int,
        count: int,
        parts: int,
        tables_gpa: int | None = None,
        merge: bool = False,
    ) -> None:
        self.ring, self._memory, self._merge = ring, memory, merge
        self._slots_gpa, self._slot_bytes, self._parts, self._tables_gpa = (
            slots_gpa,
            slot_bytes,
            parts,
            tables_gpa,
        )
        self._free = deque(range(count))
        self._slot_of: dict[int, int] = {}

    def send(self, frame: bytes) -> bool:
        """Make one frame available; False: there is no room now."""
        image = bytes(HEADER_BYTES) + frame
        if self._free:
            self._memory.write(self._gpa(self._free[0]), image)
        return self._make_available(len(image), False)

    def reclaim(self) -> int:
        """Take back what the device has sent; return how many frames."""
        count = 0
        while (used := self.ring.take()) is not None:
            self._free.append(self._slot_of.pop(used[0]))
            count += 1
        return count

    def post_all(self) -> None:
        """Offer every free buffer for receiving."""
        while self._make_available(self._slot_bytes, True):
            pass

    def collect(self) -> list[bytes]:
        """Return the frames that arrived; their buffers are free again."""
        frames = []
        while (used := self.ring.take()) is not None:
            image = self._received(*used)
            buffers = int.from_bytes(image[NUM_BUFFERS_OFFSET:HEADER_BYTES], "little")
            assert buffers == 1 or (self._merge and buffers > 1)
            for _ in range(buffers - 1):
                more = self.ring.take()
                assert more is not None, "a frame's buffers are used together"
                image += self._received(*more)
            frames.append(image[HEADER_BYTES:])
        return frames

    def _received(self, ident: int, written: int) -> bytes:
        slot = self._slot_of.pop(ident)
        self._free.append(slot)
        return self._memory.read(self._gpa(slot), written)

    def _gpa(self, slot: int) -> int:
        return self._slots_gpa + slot * self._slot_bytes

    def _make_available(self, length: int, writable: bool) -> bool:
        if not self._free:
            return False
        slot = self._free[0]
        elements, gpa = [], self._gpa(slot)
        for size in cut(length, self._parts):
            elements.append(Element(gpa, size, writable))
            gpa += size
        table = None if self._tables_gpa is None else self._tables_gpa + slot * self._parts * 16
        ident = self.ring.add(elements, table)
        if ident is None:
            return False
        self._slot_of[ident] = self._free.popleft()
        return True
