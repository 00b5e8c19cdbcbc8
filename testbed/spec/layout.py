"""How a record in memory or a register block is declared.

One declaration serves both directions and both languages: `Record` packs and unpacks in Python and is
written out as a C struct for the native extension; a `RegisterMap` gives offsets to device and driver. A
declaration whose rows overlap, stick out or repeat a name fails when the module is imported. Everything is
little-endian.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Final

_WIDTHS_BYTES: Final = (1, 2, 4, 8)


class LayoutError(AssertionError):
    """A declaration that contradicts itself; a bug of ours, found at import."""


@dataclass(frozen=True, slots=True)
class Bits:
    """A bit field: `width` bits from bit `lsb` of its word (or of a record's whole image)."""

    name: str
    lsb: int
    width: int = 1
    doc: str = ""

    @property
    def mask(self) -> int:
        """All bits of the field set, in place."""
        return ((1 << self.width) - 1) << self.lsb

    def get(self, word: int) -> int:
        """Return the field's value in `word`."""
        return (word >> self.lsb) & ((1 << self.width) - 1)

    def put(self, value: int, word: int = 0) -> int:
        """Return `word` with the field set to `value`."""
        if value < 0 or value >> self.width:
            raise LayoutError(f"{self.name} has {self.width} bits and cannot hold {value:#x}")
        return (word & ~self.mask) | (value << self.lsb)


def bit_fields(text: str) -> tuple[Bits, ...]:
    """Read `NAME lsb[:width]` items, separated by commas."""
    items = (item.split() for item in text.split(",") if item.strip())
    return tuple(
        Bits(name, int(place.partition(":")[0]), int(place.partition(":")[2] or 1)) for name, place in items
    )


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a record: `count` little-endian integers of `size` bytes at `offset`."""

    name: str
    offset: int
    size: int
    doc: str = ""
    count: int = 1


def _check_rows(owner: str, size: int, rows: list[tuple[str, int, int]]) -> None:
    """Raise where rows (name, first byte, length) repeat a name, overlap, or leave [0, size)."""
    end, previous, names = 0, "", set()
    for name, offset, length in sorted(rows, key=lambda row: row[1]):
        if name in names:
            raise LayoutError(f"{owner}: {name} is declared twice")
        if offset < end:
            raise LayoutError(f"{owner}: {name} at {offset:#x} overlaps {previous}")
        if offset + length > size:
            raise LayoutError(f"{owner}: {name} ends at {offset + length:#x}, behind the end {size:#x}")
        names.add(name)
        end, previous = offset + length, name


class Record:
    """A fixed record in memory.

    Parameters
    ----------
    name: C type name (`virtq_desc`).
    size: whole size in bytes.
    ref: standard and section.
    """

    def __init__(self, name: str, size: int, ref: str, *fields: Field) -> None:
        _check_rows(name, size, [(f.name, f.offset, f.size * f.count) for f in fields])
        for member in fields:
            if member.size not in _WIDTHS_BYTES:
                raise LayoutError(
                    f"{name}.{member.name}: size must be one of {_WIDTHS_BYTES}, not {member.size}"
                )
        self.name, self.size, self.ref, self.fields = name, size, ref, fields

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        return {f.name: f for f in self.fields}

    def offset(self, name: str, index: int = 0) -> int:
        """Return the byte offset of a member (of its element `index`)."""
        member = self._by_name[name]
        if not 0 <= index < member.count:
            raise LayoutError(f"{self.name}.{name} has {member.count} elements, not {index + 1}")
        return member.offset + index * member.size

    def pack(self, **values: int) -> bytes:
        """Return the record's bytes; members that are not named are zero."""
        image = bytearray(self.size)
        for name, value in values.items():
            member = self._by_name[name]
            image[member.offset : member.offset + member.size] = value.to_bytes(member.size, "little")
        return bytes(image)

    def unpack(self, data: bytes | bytearray | memoryview, base: int = 0) -> dict[str, int]:
        """Return every single member of the record that begins at `base` of `data`, by name."""
        return {
            f.name: int.from_bytes(data[base + f.offset : base + f.offset + f.size], "little")
            for f in self.fields
            if f.count == 1
        }

    def c_struct(self) -> str:
        """Return the record as a packed C struct with assertions on its size and offsets."""
        rows, asserts, end = [], [], 0
        for f in sorted(self.fields, key=lambda f: f.offset):
            if f.offset > end:
                rows.append(f"  uint8_t reserved_{end:x}[{f.offset - end}];")
            array = f"[{f.count}]" if f.count > 1 else ""
            rows.append(f"  uint{8 * f.size}_t {f.name}{array};")
            asserts.append(
                f'_Static_assert(offsetof({self.name}_t, {f.name}) == {f.offset}, "{self.name}.{f.name}");'
            )
            end = f.offset + f.size * f.count
        if self.size > end:
            rows.append(f"  uint8_t reserved_{end:x}[{self.size - end}];")
        asserts.append(f'_Static_assert(sizeof({self.name}_t) == {self.size}, "{self.name}");')
        body = "\n".join(rows)
        natural = all(f.offset % f.size == 0 and self.size % f.size == 0 for f in self.fields)
        packed = "" if natural else "__attribute__((packed)) "
        return (
            f"/* {self.ref} */\ntypedef struct {packed}{{\n{body}\n}} {self.name}_t;\n"
            + "\n".join(asserts)
            + "\n"
        )


class Access(Enum):
    """What a driver's access does to a register; side effects beyond this are the device's handlers."""

    RO = "read only"
    RW = "read and write"
    WO = "write only; reads as zero"
    W1C = "a written one clears the bit"
    RC = "a read clears the register"
    W1S = "a written one sets the bit"
    RSV = "reserved: reads as zero, writes are ignored"


@dataclass(frozen=True, slots=True)
class Reg:
    """One register, or a family of `count` registers `step` bytes apart (`step` 0: their size)."""

    name: str
    offset: int
    access: Access
    reset: int = 0
    ref: str = ""
    doc: str = ""
    size: int = 4
    count: int = 1
    step: int = 0
    bits: tuple[Bits, ...] = field(default=())

    def at(self, index: int = 0) -> int:
        """Return the byte offset of member `index` of the family."""
        if not 0 <= index < self.count:
            raise LayoutError(f"{self.name} has {self.count} members, not {index + 1}")
        return self.offset + index * (self.step or self.size)


_REGISTER_BYTES_MAX: Final = 8


class RegisterMap:
    """A register block of `size` bytes; look-up by name or by offset."""

    def __init__(self, name: str, size: int, *registers: Reg) -> None:
        rows = [(f"{r.name}[{i}]", r.at(i), r.size) for r in registers for i in range(r.count)]
        _check_rows(name, size, rows)
        self.name, self.size, self.registers = name, size, registers
        self.by_name: Mapping[str, Reg] = {r.name: r for r in registers}
        if len(self.by_name) != len(registers):
            raise LayoutError(f"{name}: a register name is declared twice")
        self._by_offset = {r.at(i): (r, i) for r in registers for i in range(r.count)}

    def __getitem__(self, name: str) -> Reg:
        return self.by_name[name]

    def field(self, register: str, name: str) -> Bits:
        """Return a bit field of a register by both names; KeyError where there is none."""
        for bits in self.by_name[register].bits:
            if bits.name == name:
                return bits
        raise KeyError(f"{self.name}: {register}.{name}")

    def mask(self, register: str, *names: str) -> int:
        """Return the bits of these fields, in place."""
        return sum(self.field(register, name).mask for name in names)

    def find(self, offset: int) -> tuple[Reg, int] | None:
        """Return the register (and family index) that begins exactly at `offset`, or None."""
        return self._by_offset.get(offset)

    def holding(self, offset: int) -> tuple[Reg, int] | None:
        """Return the register that holds the byte at `offset`, and where it begins; None where none does."""
        for start in range(offset, offset - _REGISTER_BYTES_MAX, -1):
            found = self._by_offset.get(start)
            if found is not None:
                return (found[0], start) if offset < start + found[0].size else None
        return None
