"""Counters in shared memory: one segment a process, written by its owner, read without disturbing it.

A counter is one 64-bit word. Which word counts what is fixed by the plan (`ProcessPlan.counter_names`), so
the segment holds numbers only. Words are written by one thread each; a reader may see a value that is a
moment old, never a torn one (aligned 64-bit words).
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Final

from typing_extensions import Buffer

from testbed.errors import DeviceError

WORD_BYTES: Final = 8


def segment_bytes(names: Sequence[str]) -> int:
    """Return the size of the segment that holds these counters, whole pages."""
    return max(4096, -(-len(names) * WORD_BYTES // 4096) * 4096)


class Counters:
    """The owner's side: named words that only go up."""

    def __init__(self, names: Sequence[str], buffer: Buffer | None = None) -> None:
        self.buffer = bytearray(segment_bytes(names)) if buffer is None else buffer
        self._view = self.words = memoryview(self.buffer).cast("B").cast("Q")
        if len(self._view) < len(names):
            raise DeviceError(
                f"a counter segment of {len(self._view)} words cannot hold {len(names)} counters"
            )
        # `words` by `index` is `add` without a look-up, for what counts often
        self.index: Mapping[str, int] = {name: i for i, name in enumerate(names)}

    def add(self, name: str, amount: int = 1) -> None:
        """Count `amount` more of `name`; a name that was not declared is a KeyError (a bug)."""
        self._view[self.index[name]] += amount

    def set(self, name: str, value: int) -> None:
        """Publish a total that is counted elsewhere."""
        self._view[self.index[name]] = value

    def __getitem__(self, name: str) -> int:
        return self._view[self.index[name]]

    def offset(self, name: str) -> int:
        """Return the byte offset of a counter, for native code that counts itself."""
        return self.index[name] * WORD_BYTES

    def block(self, prefix: str) -> "Counters":
        """Return the counters whose names begin with `prefix`, by what follows it, in the same words."""
        part = copy.copy(self)
        names = self.index.items()
        part.index = {name.removeprefix(prefix): i for name, i in names if name.startswith(prefix)}
        return part

    def snapshot(self) -> dict[str, int]:
        """Return every counter by name."""
        return {name: self._view[i] for name, i in self.index.items()}
