"""How a vCPU takes interrupts: edges are latched until it takes them, levels stay until the device lets go.

Reference: testbed/spec/vcpu_page.py. Frames are found by polling the rings; what an edge still asks for
(reading and acknowledging the device's causes, which traps) can wait: it is done `LATE_NS` after the first
edge, once for all edges in between, so that a frame that wakes the guest is never behind two exits. A level
is served at once, for it stays asserted until it is. Not modelled: priorities and masking.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.native import MaskSet, Pinned
from testbed.observe.counters import Counters
from testbed.spec import vcpu_page as spec

LATE_NS: Final = 20_000_000
_BITS: Final = 64


class Interrupts:
    """The interrupt side of one vCPU; `handlers` by INTID."""

    def __init__(
        self, page: Pinned, counters: Counters, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.watched = MaskSet(page, spec.VCPU_PAGE.offset("pending"), 2 * spec.PENDING_WORDS)
        self._edge_handlers: dict[int, Callable[[], bool]] = {}
        self._level_handlers: dict[int, Callable[[], bool]] = {}
        self._vector_handlers: dict[int, Callable[[], bool]] = {}
        self._due: dict[int, None] = {}
        self._due_ns = 0
        self._counters, self._clock = counters, clock

    def on_edge(self, intid: int, handler: Callable[[], bool]) -> None:
        """Have an edge-triggered interrupt handled, late."""
        self._edge_handlers[intid] = handler

    def on_vector(self, intid: int, handler: Callable[[], bool]) -> None:
        """Have an edge handled at once: one that masks its source until it is handled, at no exit's cost."""
        self._vector_handlers[intid] = handler

    def on_level(self, intid: int, handler: Callable[[], bool]) -> None:
        """Have a level-triggered interrupt handled at once."""
        self._level_handlers[intid] = handler

    def take(self) -> bool:
        """Take every edge; handle every level. True: a level was handled."""
        if not self.watched.ready:
            return False
        taken = self.watched.take(spec.PENDING_WORDS)
        self._counters.add("interrupts.virtio", len(taken))
        vectors = [self._vector_handlers[intid] for intid in taken if intid in self._vector_handlers]
        late = [intid for intid in taken if intid not in self._vector_handlers]
        if late and not self._due:
            self._due_ns = self._clock() + LATE_NS
        self._due.update(dict.fromkeys(late))
        handled = sum(handler() for handler in vectors) > 0  # every one of them, not up to the first
        for intid in self.watched.bits(spec.PENDING_WORDS):
            handler = self._level_handlers.get(intid)
            if handler is not None and handler():
                self._counters.add("interrupts.e1000")
                handled = True
        return handled

    def serve(self) -> bool:
        """Handle edges whose time has come; True: there were any."""
        if not self._due or self._clock() < self._due_ns:
            return False
        due, self._due = self._due, {}
        handlers = [self._edge_handlers[intid] for intid in due if intid in self._edge_handlers]
        return sum(handler() for handler in handlers) > 0  # every one of them, not up to the first

    def deadline_ns(self) -> int | None:
        """Return when `serve` has work, or None."""
        return self._due_ns if self._due else None
