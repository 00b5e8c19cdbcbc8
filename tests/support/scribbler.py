"""A process that changes guest memory while native code reads it: what a second vCPU of a hostile guest does.

The memory is shared by fork. The child knows some words and, for each, what is right there and what is not;
in random order it writes what is not and then again what is right, until it is told to stop, at most
`ROUNDS_MAX` times.
"""

import mmap
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.support.strict_memory import StrictMemory

ROUNDS_MAX: Final = 50_000_000
_BATCH: Final = 500
_STARTED, _STOP = 0, 1
"""Bytes of the page that both share."""


@dataclass(frozen=True)
class Target:
    """A word of guest memory, what is right there, and what it is changed to for a moment."""

    gpa: int
    size_bytes: int
    right: int
    odd: tuple[int, ...]

    def image(self, value: int) -> bytes:
        """Return a value as it is in memory."""
        return value.to_bytes(self.size_bytes, "little")


def _scribble(memory: StrictMemory, targets: Sequence[Target], flags: mmap.mmap) -> None:
    rng, parent = random.Random(1), os.getppid()
    writes = [
        (memory.view(t.gpa, t.size_bytes), t.image(odd), t.image(t.right)) for t in targets for odd in t.odd
    ]
    for _ in range(ROUNDS_MAX // _BATCH):
        for place, odd, right in rng.choices(writes, k=_BATCH):
            place[:] = odd
            place[:] = right
        flags[_STARTED] = 1
        if flags[_STOP] or os.getppid() != parent:
            return


@contextmanager
def scribbling(memory: StrictMemory, targets: Sequence[Target]) -> Iterator[None]:
    """Change the targets from another process while the body runs; they begin and end right."""
    for target in targets:
        memory.write(target.gpa, target.image(target.right))
    flags = mmap.mmap(-1, mmap.PAGESIZE)
    child = os.fork()
    if child == 0:
        try:
            _scribble(memory, targets, flags)
        finally:
            os._exit(0)
    try:
        while not flags[_STARTED]:
            os.sched_yield()
        yield
    finally:
        flags[_STOP] = 1
        os.waitpid(child, 0)
