"""Declarations: what contradicts itself fails when it is declared, what stands serves Python and C alike."""

import ctypes
import re
import subprocess
from pathlib import Path

import pytest

from testbed.spec import virtio, virtio_net
from testbed.spec.c_header import c_header
from testbed.spec.layout import Access, Bits, Field, LayoutError, Record, Reg, RegisterMap

PAIR = Record(
    "pair", 16, "ours", Field("a", 0, 4), Field("b", 4, 2), Field("c", 8, 1, count=4), Field("d", 12, 4)
)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ((Field("a", 0, 4), Field("b", 2, 2)), "r: b at 0x2 overlaps a"),
        ((Field("b", 4, 4), Field("a", 0, 8)), "r: b at 0x4 overlaps a"),
        ((Field("a", 6, 4),), "r: a ends at 0xa, behind the end 0x8"),
        ((Field("a", 0, 1, count=9),), "r: a ends at 0x9, behind the end 0x8"),
        ((Field("a", 0, 2), Field("a", 2, 2)), "r: a is declared twice"),
        ((Field("a", 0, 3),), r"r\.a: size must be one of \(1, 2, 4, 8\), not 3"),
    ],
)
def test_record_that_contradicts_itself_is_refused(fields: tuple[Field, ...], problem: str) -> None:
    with pytest.raises(LayoutError, match=problem):
        Record("r", 8, "ours", *fields)


@pytest.mark.parametrize(
    ("registers", "problem"),
    [
        ((Reg("A", 0, Access.RW), Reg("B", 2, Access.RW)), r"m: B\[0\] at 0x2 overlaps A\[0\]"),
        ((Reg("A", 0, Access.RW, count=4, step=8), Reg("B", 16, Access.RW)), "overlaps"),
        ((Reg("A", 0x3E, Access.RW),), "behind the end 0x40"),
        ((Reg("A", 0, Access.RW, count=2, step=2),), "overlaps"),
        ((Reg("A", 0, Access.RW), Reg("A", 8, Access.RW)), "declared twice"),
    ],
)
def test_register_map_that_contradicts_itself_is_refused(registers: tuple[Reg, ...], problem: str) -> None:
    with pytest.raises(LayoutError, match=problem):
        RegisterMap("m", 0x40, *registers)


def test_record_packs_what_it_unpacks() -> None:
    image = PAIR.pack(a=0x11223344, b=0x5566, d=0xFFFFFFFF)
    assert image == bytes.fromhex("44332211 6655 0000 00000000 ffffffff")
    assert PAIR.unpack(b"??" + image, 2) == {"a": 0x11223344, "b": 0x5566, "d": 0xFFFFFFFF}


def test_member_of_an_array_has_its_own_offset() -> None:
    assert [PAIR.offset("c", i) for i in range(4)] == [8, 9, 10, 11]
    with pytest.raises(LayoutError, match="has 4 elements, not 5"):
        PAIR.offset("c", 4)


def test_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OverflowError):
        PAIR.pack(b=0x10000)


@pytest.mark.parametrize(
    ("lsb", "width", "value", "word"), [(0, 1, 1, 1), (4, 8, 0xAB, 0xAB0), (63, 1, 1, 1 << 63)]
)
def test_bit_field_puts_what_it_gets(lsb: int, width: int, value: int, word: int) -> None:
    bits = Bits("f", lsb, width)
    assert bits.put(value) == word == bits.mask & word
    assert bits.get(word) == value
    assert bits.put(0, (1 << 64) - 1) == (1 << 64) - 1 - bits.mask


@pytest.mark.parametrize("value", [-1, 16, 1 << 40])
def test_bit_field_refuses_what_it_cannot_hold(value: int) -> None:
    with pytest.raises(LayoutError, match="f has 4 bits and cannot hold"):
        Bits("f", 2, 4).put(value)


def test_register_is_found_by_name_and_by_its_first_byte() -> None:
    array = Reg("A", 0x10, Access.RW, count=3, step=0x10)
    registers = RegisterMap("m", 0x40, array, Reg("B", 0, Access.RO))
    assert registers["A"] is array
    assert registers.find(0x30) == (array, 2)
    assert registers.find(0x31) is None
    assert registers.find(0x40) is None
    with pytest.raises(LayoutError, match="A has 3 members, not 4"):
        array.at(3)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Return what a C compiler makes of the header: sizes and offsets of some records, some constants."""
    folder = tmp_path_factory.mktemp("layouts")
    (folder / "layouts.h").write_text(c_header())
    names = {
        f"{r.name}.{f.name}": f"offsetof({r.name}_t, {f.name})"
        for r in (
            virtio.VIRTQ_DESC,
            virtio.PACKED_DESC,
            virtio.PACKED_EVENT,
            virtio_net.NET_HDR,
            virtio_net.NET_CONFIG,
        )
        for f in r.fields
    }
    names |= {
        r.name: f"sizeof({r.name}_t)" for r in (virtio.VIRTQ_DESC, virtio_net.NET_HDR, virtio_net.NET_CONFIG)
    }
    names |= {n: n for n in ("VIRTIO_QUEUE_SIZE_MAX", "VIRTIO_DESC_F_USED", "VIRTIO_NET_FRAME_BYTES_MAX")}
    prints = "".join(
        f'  printf("%s %lu\\n", "{n}", (unsigned long)({value}));\n' for n, value in names.items()
    )
    (folder / "show.c").write_text(
        f'#include <stdio.h>\n#include "layouts.h"\nint main(void) {{\n{prints}}}\n'
    )
    return _run(folder)


def _run(folder: Path) -> dict[str, int]:
    subprocess.run(["cc", "-std=gnu11", "-Wall", "-Werror", "show.c", "-o", "show"], cwd=folder, check=True)
    output = subprocess.run([folder / "show"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


def test_c_sees_the_same_records(compiled: dict[str, int]) -> None:
    for record in (
        virtio.VIRTQ_DESC,
        virtio.PACKED_DESC,
        virtio.PACKED_EVENT,
        virtio_net.NET_HDR,
        virtio_net.NET_CONFIG,
    ):
        for member in record.fields:
            assert compiled[f"{record.name}.{member.name}"] == member.offset
    assert (compiled["virtq_desc"], compiled["virtio_net_hdr"], compiled["virtio_net_config"]) == (16, 12, 17)


def test_c_sees_the_same_constants(compiled: dict[str, int]) -> None:
    assert compiled["VIRTIO_QUEUE_SIZE_MAX"] == 32768
    assert compiled["VIRTIO_DESC_F_USED"] == 0x8000
    assert compiled["VIRTIO_NET_FRAME_BYTES_MAX"] == 65550


def test_header_asserts_every_offset() -> None:
    """A compiler that lays a struct out in another way stops the build."""
    text = PAIR.c_struct()
    assert len(re.findall(r"_Static_assert\(offsetof\(pair_t, [abcd]\) == (0|4|8|12),", text)) == 4
    assert '_Static_assert(sizeof(pair_t) == 16, "pair");' in text
    assert "uint8_t c[4];" in text
    assert "uint8_t reserved_6[2];" in text


def test_record_without_natural_alignment_is_packed() -> None:
    odd = Record("odd", 5, "ours", Field("a", 0, 1), Field("b", 1, 4))
    assert "__attribute__((packed))" in odd.c_struct()
    assert "__attribute__((packed))" not in PAIR.c_struct()


def test_python_and_ctypes_agree_on_a_record() -> None:
    class Mirror(ctypes.LittleEndianStructure):
        _fields_ = (
            ("addr", ctypes.c_uint64),
            ("len", ctypes.c_uint32),
            ("flags", ctypes.c_uint16),
            ("next", ctypes.c_uint16),
        )

    image = virtio.VIRTQ_DESC.pack(addr=1 << 40, len=7, flags=3, next=9)
    mirror = Mirror.from_buffer_copy(image)
    assert (mirror.addr, mirror.len, mirror.flags, mirror.next) == (1 << 40, 7, 3, 9)
