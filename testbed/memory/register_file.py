"""A register block as a device keeps it: storage, the access rule of every row, and handlers for side
effects.

Reference: the rows are `spec.layout.Reg`; what each access kind means is `spec.layout.Access`. Done here
once for every device:
- a register that names bit fields stores those bits only: the others are reserved, ignored when written;
- RO ignores writes, WO reads as zero, W1C and W1S clear and set, RC is cleared by the read;
- an access that is no whole register goes to each register it touches, in ascending order: a read takes the
  bytes it asked for out of whole-register reads; a write of part of a register is ignored, or, for the
  registers named in `narrow_writes`, replaces its bytes and leaves the others (for W1C and W1S: the others
  are zero);
- bytes that belong to no register read as zero and ignore writes; nothing an access can be raises.

A handler is for what lies beyond that, and a row has at most one each way. A read handler gives the value in
place of the stored one; a write handler is called with the raw value after the rule has been applied.
Not modelled: access width restrictions that fault; byte order other than little-endian.
"""

from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from testbed.spec.layout import Access, LayoutError, Reg, RegisterMap

Read = Callable[[], int]
Write = Callable[[int], None]
MAX_ACCESS_BYTES: Final = 8


@dataclass(slots=True)
class AccessCounts:
    """Accesses that a correct driver does not make, each kind for itself.

    unknown: some byte belongs to no register. read_only: a write to an RO or RC register. unimplemented: a
    register that is stored and does nothing. partial: a write that was ignored because it covers part of a
    register.
    """

    unknown: int = 0
    read_only: int = 0
    unimplemented: int = 0
    partial: int = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """The part of an access that falls into one register."""

    reg: Reg
    start: int
    first: int
    """First byte of the register that is meant."""
    length: int
    place: int
    """Where the part lies in the access."""


def _value_mask(reg: Reg) -> int:
    """Return the bits that the register stores."""
    if not reg.bits:
        return (1 << 8 * reg.size) - 1
    return sum(bits.mask for bits in reg.bits)


class RegisterFile:
    """One device's registers.

    Parameters
    registers: the declaration.
    unimplemented: names of registers that the device stores but does not act upon.
    narrow_writes: names of registers that take writes of fewer bytes than they have.
    """

    def __init__(
        self, registers: RegisterMap, unimplemented: Collection[str] = (), narrow_writes: Collection[str] = ()
    ) -> None:
        self.registers = registers
        self.counts = AccessCounts()
        self._unimplemented = frozenset(unimplemented)
        self._narrow = frozenset(narrow_writes)
        self._values: dict[int, int] = {}
        self._protected: dict[int, int] = {}
        self._read_handlers: dict[int, Read] = {}
        self._write_handlers: dict[int, Write] = {}
        # by (offset, size) as one number, filled at the first access
        self._readers: dict[int, Read] = {}
        self._writers: dict[int, Write] = {}

    # the bus side

    def read(self, offset: int, size: int) -> int:
        """Return what a load of `size` bytes (1 to 8) at `offset` gives."""
        reader = self._readers.get(offset << 4 | size)
        return reader() if reader is not None else self._read_any(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """Do a store of `size` bytes (1 to 8) at `offset`."""
        writer = self._writers.get(offset << 4 | size)
        if writer is not None:
            writer(value)
        else:
            self._write_any(offset, size, value)

    def name_at(self, offset: int) -> str:
        """Return the name (with index, in a family) of the register that holds the byte, or "unknown"."""
        found = self.registers.holding(offset)
        if found is None:
            return "unknown"
        reg, start = found
        return reg.name if reg.count == 1 else f"{reg.name}[{(start - reg.offset) // (reg.step or reg.size)}]"

    # the device's side

    def __getitem__(self, name: str) -> int:
        """Return the stored value of a register, without side effect."""
        reg = self.registers[name]
        return self._values.get(reg.offset, reg.reset)

    def __setitem__(self, name: str, value: int) -> None:
        """Store a value as the device itself: no rule, no handler."""
        self._values[self.registers[name].offset] = value

    def get(self, name: str, index: int) -> int:
        """Return the stored value of a member of a family."""
        reg = self.registers[name]
        return self._values.get(reg.at(index), reg.reset)

    def put(self, name: str, index: int, value: int) -> None:
        """Store a value in a member of a family: no rule, no handler."""
        self._values[self.registers[name].at(index)] = value

    def on_read(self, name: str, handler: Read) -> None:
        """Let `handler` give the value of a single register. An RC row's storage is still cleared."""
        self._bind_read(self._single(name), handler)

    def on_write(self, name: str, handler: Write) -> None:
        """Call `handler` with the raw value after each write of a single register.

        RC and RO registers with a handler take writes: they are the handler's business and not counted.
        """
        self._bind_write(self._single(name), handler)

    def on_read_each(self, name: str, handler: Callable[[int], int]) -> None:
        """As `on_read` for every member of a family; the handler is given the member's index."""
        reg = self.registers[name]
        for index in range(reg.count):
            self._bind_read(reg.at(index), partial(handler, index))

    def on_write_each(self, name: str, handler: Callable[[int, int], None]) -> None:
        """As `on_write` for every member of a family; the handler is given index and value."""
        reg = self.registers[name]
        for index in range(reg.count):
            self._bind_write(reg.at(index), partial(handler, index))

    def protect(self, name: str, mask: int) -> None:
        """Make bits of a RW register read only: the device alone changes them."""
        self._protected[self._single(name)] = mask
        self._forget(self._single(name))

    def reset(self, preserve: Collection[str] = ()) -> None:
        """Give every register its initial value, but those named in `preserve`. Handlers are not called."""
        kept = {at: value for at, value in self._values.items() if self._name_of(at) in preserve}
        self._values.clear()
        self._values.update(kept)

    def snapshot(self) -> dict[str, int]:
        """Return every register that differs from its initial value, by name: for comparison in tests."""
        changed = {}
        for offset, value in self._values.items():
            found = self.registers.find(offset)
            if found is not None and value != found[0].reset:
                changed[self.name_at(offset)] = value
        return changed

    # how an access finds its way

    def _name_of(self, offset: int) -> str:
        """Return the name of the register, or family, that begins at `offset`."""
        found = self.registers.find(offset)
        return "" if found is None else found[0].name

    def _single(self, name: str) -> int:
        reg = self.registers[name]
        if reg.count != 1:
            raise LayoutError(f"{self.registers.name}.{name} is a family of {reg.count}: bind each member")
        return reg.offset

    def _bind_read(self, offset: int, handler: Read) -> None:
        self._claim(self._read_handlers, offset)
        self._read_handlers[offset] = handler

    def _bind_write(self, offset: int, handler: Write) -> None:
        self._claim(self._write_handlers, offset)
        self._write_handlers[offset] = handler

    def _claim(self, taken: Container[int], offset: int) -> None:
        if offset in taken:
            raise LayoutError(f"{self.registers.name}.{self.name_at(offset)} has a handler already")
        self._forget(offset)

    def _forget(self, offset: int) -> None:
        for size in range(1, MAX_ACCESS_BYTES + 1):
            self._readers.pop(offset << 4 | size, None)
            self._writers.pop(offset << 4 | size, None)

    def _pieces(self, offset: int, size: int) -> Iterator[_Piece]:
        """Divide an access by the registers that it touches; bytes of none are counted and left out."""
        at, end, unknown = offset, offset + size, False
        while at < end:
            found = self.registers.holding(at)
            if found is None:
                unknown, at = True, at + 1
                continue
            reg, start = found
            stop = min(end, start + reg.size)
            yield _Piece(reg, start, at - start, stop - at, at - offset)
            at = stop
        self.counts.unknown += unknown

    def _read_any(self, offset: int, size: int) -> int:
        found = self.registers.find(offset)
        if found is not None and found[0].size == size:
            reader = self._readers[offset << 4 | size] = self._reader(offset, found[0])
            return reader()
        value = 0
        for piece in self._pieces(offset, size):
            part = self.read(piece.start, piece.reg.size) >> 8 * piece.first
            value |= (part & ((1 << 8 * piece.length) - 1)) << 8 * piece.place
        return value

    def _write_any(self, offset: int, size: int, value: int) -> None:
        found = self.registers.find(offset)
        if found is not None and found[0].size == size:
            writer = self._writers[offset << 4 | size] = self._writer(offset, found[0])
            writer(value)
            return
        for piece in self._pieces(offset, size):
            part = (value >> 8 * piece.place) & ((1 << 8 * piece.length) - 1)
            if piece.length == piece.reg.size:
                self.write(piece.start, piece.reg.size, part)
            elif piece.reg.name in self._narrow:
                self.write(piece.start, piece.reg.size, self._merge(piece, part))
            else:
                self.counts.partial += 1

    def _merge(self, piece: _Piece, part: int) -> int:
        """Return the whole-register value that a narrow write stands for."""
        others = 0
        if piece.reg.access is Access.RW:
            written = ((1 << 8 * piece.length) - 1) << 8 * piece.first
            others = self._values.get(piece.start, piece.reg.reset) & ~written
        return others | part << 8 * piece.first

    # one function a register and direction

    def _reader(self, offset: int, reg: Reg) -> Read:
        values, reset = self._values, reg.reset
        read: Read = self._read_handlers.get(offset) or (lambda: values.get(offset, reset))
        if offset not in self._read_handlers and reg.access in (Access.WO, Access.RSV):
            return lambda: 0
        if reg.access is Access.RC:
            return self._clearing(offset, read)
        return self._counting_read(read) if reg.name in self._unimplemented else read

    def _clearing(self, offset: int, read: Read) -> Read:
        def read_and_clear() -> int:
            value = read()
            self._values[offset] = 0
            return value

        return read_and_clear

    def _counting_read(self, read: Read) -> Read:
        def counted() -> int:
            self.counts.unimplemented += 1
            return read()

        return counted

    def _writer(self, offset: int, reg: Reg) -> Write:
        handler = self._write_handlers.get(offset)
        store = self._store(offset, reg)
        width = (1 << 8 * reg.size) - 1
        if store is None:
            return (lambda value: handler(value & width)) if handler is not None else self._refusal(reg)
        if handler is not None:
            return _then(store, handler, width)
        return self._counting_write(store) if reg.name in self._unimplemented else store

    def _refusal(self, reg: Reg) -> Write:
        """Return what a write does to a register that stores nothing and has no handler."""

        def refuse(_value: int) -> None:
            self.counts.read_only += reg.access in (Access.RO, Access.RC)

        return refuse

    def _counting_write(self, store: Write) -> Write:
        def counted(value: int) -> None:
            self.counts.unimplemented += 1
            store(value)

        return counted

    def _store(self, offset: int, reg: Reg) -> Write | None:
        """Return what stores a written value by the row's rule; None where the rule stores nothing."""
        values, reset, kept = self._values, reg.reset, self._protected.get(offset, 0)
        mask = _value_mask(reg) & ~kept

        def replace(value: int) -> None:
            values[offset] = value & mask

        def replace_some(value: int) -> None:
            values[offset] = (value & mask) | (values.get(offset, reset) & kept)

        def clear(value: int) -> None:
            values[offset] = values.get(offset, reset) & ~(value & mask)

        def set_bits(value: int) -> None:
            values[offset] = values.get(offset, reset) | (value & mask)

        rules = {Access.RW: replace_some if kept else replace, Access.W1C: clear, Access.W1S: set_bits}
        return rules.get(reg.access)


def _then(store: Write, handler: Write, width: int) -> Write:
    def store_and_tell(value: int) -> None:
        store(value)
        handler(value & width)

    return store_and_tell
