"""Plays recorded configuration accesses to a function and collects the reads that gave another value.

The recording says offset and value, not the width: it is the least of the register's own, 2 and 4 bytes that
holds the value.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from testbed.pci.config_space import ConfigSpace


class Difference(NamedTuple):
    """A read that gave another value than in the recording."""

    offset: int
    recorded: int
    read: int


def play(space: ConfigSpace, path: Path, phase: str) -> tuple[int, list[Difference]]:
    """Play one phase of a file; return how many reads were compared, and the differences, each once."""
    reads, differences = 0, []
    for way, offset, value, times in _accesses(path, phase):
        size_bytes = _width(space, offset, value)
        for _ in range(times):
            if way == "W":
                space.write(offset, size_bytes, value)
                continue
            reads += 1
            found = Difference(offset, value, space.read(offset, size_bytes))
            if found.read != value and found not in differences:
                differences.append(found)
    return reads, differences


def _accesses(path: Path, phase: str) -> Iterator[tuple[str, int, int, int]]:
    now = ""
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("phase"):
            now = words[1]
        elif now == phase:
            times = int(words[3].removeprefix("x")) if len(words) > 3 else 1
            yield words[0], int(words[1], 16), int(words[2], 16), times


def _width(space: ConfigSpace, offset: int, value: int) -> int:
    found = space.registers.registers.find(offset)
    own = found[0].size if found is not None else 1
    return next(size for size in (own, 2, 4) if size >= own and value >> 8 * size == 0)
