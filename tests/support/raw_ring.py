"""Every word of a virtqueue, readable and writable: what a hostile driver or device has, and the places that
the models use.

Reference: virtio 1.2 §2.7.5, §2.7.6, §2.7.8 (split), §2.8.13, §2.8.14 (packed). Offsets are typed from the
standard's C structs, not taken from testbed/spec: whoever reads a ring through here checks those declarations
as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

NEXT: Final = 1
WRITE: Final = 2
INDIRECT: Final = 4
AVAIL: Final = 0x80
USED: Final = 0x8000
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = 0, 1, 2
DESC_BYTES: Final = 16


class Words(Protocol):
    """Guest memory by little-endian number."""

    def load(self, gpa: int, size_bytes: int) -> int: ...
    def store(self, gpa: int, size_bytes: int, value: int) -> None: ...


class _Placed(Protocol):
    @property
    def memory(self) -> Words: ...


_Ring = TypeVar("_Ring", bound=_Placed)


class _Word(Generic[_Ring]):
    """A 16-bit word of a ring at an address that the ring knows."""

    def __init__(self, place: Callable[[_Ring], int]) -> None:
        self._place = place

    def __get__(self, ring: _Ring, owner: type[_Ring]) -> int:
        return ring.memory.load(self._place(ring), 2)

    def __set__(self, ring: _Ring, value: int) -> None:
        ring.memory.store(self._place(ring), 2, value & 0xFFFF)


@dataclass(frozen=True)
class Descriptor:
    """One descriptor of either format; `next` is the split one's link, the packed one's buffer id."""

    addr: int
    len: int
    flags: int
    next: int


def read_table_entry(memory: Words, gpa: int) -> Descriptor:
    """Return the split descriptor at an address."""
    return Descriptor(
        memory.load(gpa, 8), memory.load(gpa + 8, 4), memory.load(gpa + 12, 2), memory.load(gpa + 14, 2)
    )


def write_table_entry(memory: Words, gpa: int, addr: int, length: int, flags: int = 0, link: int = 0) -> None:
    """Write a split descriptor (of an indirect table, too)."""
    for offset, size, value in ((0, 8, addr), (8, 4, length), (12, 2, flags), (14, 2, link)):
        memory.store(gpa + offset, size, value & ((1 << 8 * size) - 1))


def read_packed_entry(memory: Words, gpa: int) -> Descriptor:
    """Return the packed descriptor at an address."""
    return Descriptor(
        memory.load(gpa, 8), memory.load(gpa + 8, 4), memory.load(gpa + 14, 2), memory.load(gpa + 12, 2)
    )


def write_packed_entry(
    memory: Words, gpa: int, addr: int, length: int, flags: int = 0, ident: int = 0
) -> None:
    """Write a packed descriptor, its flags last."""
    for offset, size, value in ((0, 8, addr), (8, 4, length), (12, 2, ident), (14, 2, flags)):
        memory.store(gpa + offset, size, value & ((1 << 8 * size) - 1))


class RawSplitRing:
    """A split virtqueue of `size` entries at three addresses."""

    size: int
    avail: int
    used: int

    avail_flags = _Word["RawSplitRing"](lambda r: r.avail)
    avail_idx = _Word["RawSplitRing"](lambda r: r.avail + 2)
    used_event = _Word["RawSplitRing"](lambda r: r.avail + 4 + 2 * r.size)
    used_flags = _Word["RawSplitRing"](lambda r: r.used)
    used_idx = _Word["RawSplitRing"](lambda r: r.used + 2)
    avail_event = _Word["RawSplitRing"](lambda r: r.used + 4 + 8 * r.size)

    def __init__(self, memory: Words, size: int, desc: int, avail: int, used: int) -> None:
        self.memory, self.size = memory, size
        self.desc, self.avail, self.used = desc, avail, used

    def describe(self, index: int, addr: int, length: int, flags: int = 0, link: int = 0) -> None:
        """Write descriptor `index`."""
        write_table_entry(self.memory, self.desc + DESC_BYTES * index, addr, length, flags, link)

    def descriptor(self, index: int) -> Descriptor:
        """Read descriptor `index`."""
        return read_table_entry(self.memory, self.desc + DESC_BYTES * index)

    def head(self, position: int) -> int:
        """Return the available entry at a free running position."""
        return self.memory.load(self.avail + 4 + 2 * (position % self.size), 2)

    def set_head(self, position: int, head: int) -> None:
        """Write the available entry at a free running position."""
        self.memory.store(self.avail + 4 + 2 * (position % self.size), 2, head)

    def used_element(self, position: int) -> tuple[int, int]:
        """Return (id, len) at a free running position."""
        at = self.used + 4 + 8 * (position % self.size)
        return self.memory.load(at, 4), self.memory.load(at + 4, 4)

    def set_used_element(self, position: int, ident: int, length: int) -> None:
        """Write (id, len) at a free running position."""
        at = self.used + 4 + 8 * (position % self.size)
        self.memory.store(at, 4, ident)
        self.memory.store(at + 4, 4, length)

    def offer(self, *heads: int) -> None:
        """Make heads available as a driver does: entries, then idx."""
        for step, head in enumerate(heads):
            self.set_head(self.avail_idx + step, head)
        self.avail_idx += len(heads)


class RawPackedRing:
    """A packed virtqueue of `size` descriptors and its two event structures."""

    driver_event: int
    device_event: int

    driver_event_desc = _Word["RawPackedRing"](lambda r: r.driver_event)
    driver_event_flags = _Word["RawPackedRing"](lambda r: r.driver_event + 2)
    device_event_desc = _Word["RawPackedRing"](lambda r: r.device_event)
    device_event_flags = _Word["RawPackedRing"](lambda r: r.device_event + 2)

    def __init__(self, memory: Words, size: int, desc: int, driver_event: int, device_event: int) -> None:
        self.memory, self.size, self.desc = memory, size, desc
        self.driver_event, self.device_event = driver_event, device_event

    def describe(self, index: int, addr: int, length: int, flags: int = 0, ident: int = 0) -> None:
        """Write descriptor `index`."""
        write_packed_entry(self.memory, self.desc + DESC_BYTES * index, addr, length, flags, ident)

    def descriptor(self, index: int) -> Descriptor:
        """Read descriptor `index`; its buffer id is `next`."""
        return read_packed_entry(self.memory, self.desc + DESC_BYTES * index)

    def set_flags(self, index: int, flags: int) -> None:
        """Write the flags of descriptor `index` alone."""
        self.memory.store(self.desc + DESC_BYTES * index + 14, 2, flags)


def avail_flags(wrap: bool) -> int:
    """Return the bits of an available packed descriptor (§2.8.1)."""
    return AVAIL if wrap else USED


def used_flags(wrap: bool) -> int:
    """Return the bits of a used packed descriptor (§2.8.1)."""
    return AVAIL | USED if wrap else 0
