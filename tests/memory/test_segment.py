"""Mapping descriptors: sizes, protection and who closes what."""

import os
from pathlib import Path

import pytest

from testbed.errors import MachineError
from testbed.memory.segment import Segment


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    path = tmp_path / "segment"
    path.write_bytes(bytes(8192))
    return os.open(path, os.O_RDWR)


def test_map_closes_the_descriptor_and_keeps_the_memory(descriptor: int) -> None:
    segment = Segment.map(descriptor, "ram", 8192, hpa=1 << 40)

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    segment.view[0] = 7
    assert segment.view[0] == 7


def test_two_mappings_of_one_descriptor_share_memory(descriptor: int) -> None:
    other = os.dup(descriptor)
    writer = Segment.map(descriptor, "ram", 8192)
    reader = Segment.map(other, "ram", 8192, writable=False)

    writer.view[100] = 9

    assert reader.view[100] == 9
    assert reader.view.readonly
    assert not reader.pinned.writable


def test_descriptor_that_is_too_small_is_refused_and_closed(descriptor: int) -> None:
    with pytest.raises(MachineError, match="has 8192 bytes where 12288"):
        Segment.map(descriptor, "ram", 12288)

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_read_only_descriptor_cannot_be_mapped_writable(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(bytes(4096))

    with pytest.raises(MachineError, match="cannot be mapped"):
        Segment.map(os.open(path, os.O_RDONLY), "ram", 4096)
