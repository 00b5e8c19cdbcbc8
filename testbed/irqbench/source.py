"""A device that signals one interrupt after another, each when the last one's handler has begun.

Reference: testbed/pci/dma.py (an MSI is a posted write in the function's ring), testbed/spec/irq_stamps.py.
Not modelled: more than one interrupt under way.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.errors import DeviceError
from testbed.native import Pinned, SharedWords
from testbed.observe.counters import Counters
from testbed.pci.dma import DmaPort
from testbed.spec import dma_request as d
from testbed.spec.irq_stamps import IRQ_STAMPS

WARM_UP: Final = 20
"""Interrupts before those that count: caches are filled, sockets connected."""
EVENT: Final = 3
LOST_NS: Final = 2_000_000_000
"""An interrupt without a handler for so long is lost."""
_AT = IRQ_STAMPS.offset
_SIGNALLED, _SIGNALLED_NS, _HANDLED = _AT("signalled"), _AT("signalled_ns"), _AT("handled")
_HANDLED_NS, _VMM_NS, _MAPPED = _AT("handled_ns"), _AT("vmm_ns"), _AT("mapped")


class Signaller:
    """Signals for `duration_ns`, then writes its figures into its counters."""

    def __init__(
        self,
        stamps: Pinned,
        duration_ns: int,
        gap_ns: int,
        counters: Counters,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._words = SharedWords(stamps)
        self._duration_ns, self._gap_ns = duration_ns, gap_ns
        self._counters, self._clock_ns = counters, clock_ns
        self._number = self._begun_ns = self._next_ns = 0
        self._latencies_ns: list[int] = []
        self._vmm_ns: list[int] = []
        self._waiting = False
        self.done = False

    def prepare(self) -> None:
        """Get the next interrupt ready."""
        raise NotImplementedError

    def send(self) -> None:
        """Let it go."""
        raise NotImplementedError

    @property
    def settled(self) -> bool:
        """Nothing of the last one is under way any more."""
        raise NotImplementedError

    def step(self) -> bool:
        """Signal, or take the handler's stamp; tell whether anything moved."""
        if self.done or not self._words.load32(_MAPPED):
            return False
        return self._take() if self._waiting else self._signal()

    def _signal(self) -> bool:
        now_ns = self._clock_ns()
        if now_ns < self._next_ns:
            return False
        if self._begun_ns and now_ns >= self._begun_ns + self._duration_ns:
            self._finish(now_ns)
            return False
        self._number += 1
        if self._number == WARM_UP + 1:
            self._begun_ns = self._clock_ns()
        self.prepare()
        self._words.store64(_VMM_NS, 0)
        self._words.store64(_SIGNALLED_NS, self._clock_ns())
        # release: whoever sees the count sees the stamp
        self._words.store32(_SIGNALLED, self._number)
        self.send()
        self._waiting = True
        return True

    def _take(self) -> bool:
        if self._words.load32(_HANDLED) != self._number or not self.settled:
            if self._clock_ns() - self._words.load64(_SIGNALLED_NS) > LOST_NS:
                self._counters.add("lost")
                self._finish(self._clock_ns())
            return False
        signalled_ns = self._words.load64(_SIGNALLED_NS)
        if self._number > WARM_UP:
            self._latencies_ns.append(self._words.load64(_HANDLED_NS) - signalled_ns)
            if vmm_ns := self._words.load64(_VMM_NS):
                self._vmm_ns.append(vmm_ns - signalled_ns)
        self._waiting = False
        self._next_ns = self._clock_ns() + self._gap_ns
        return True

    def _finish(self, now_ns: int) -> None:
        counters, latencies = self._counters, self._latencies_ns
        counters.set("signalled", self._number)
        counters.set("interrupts", len(latencies))
        counters.set("measured_ns", now_ns - self._begun_ns if self._begun_ns else 0)
        counters.set("p50_ns", quantile(latencies, 0.5))
        counters.set("p99_ns", quantile(latencies, 0.99))
        counters.set("vmm_p50_ns", quantile(self._vmm_ns, 0.5))
        counters.set("done", 1)
        self.done = True


class Source(Signaller):
    """A device function: an MSI is a posted write in its ring."""

    def __init__(
        self,
        stamps: Pinned,
        port: DmaPort,
        message_iova: int,
        duration_ns: int,
        gap_ns: int,
        counters: Counters,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(stamps, duration_ns, gap_ns, counters, clock_ns)
        self._port, self._iova = port, message_iova

    def prepare(self) -> None:
        """See Signaller."""
        ring = self._port.ring
        if ring.completed != ring.next or ring.post(d.KIND_MSI, self._iova, d.MSI_BYTES, EVENT) is None:
            raise DeviceError("an MSI was handled and its request is not complete")

    def send(self) -> None:
        """See Signaller."""
        self._port.submit()

    @property
    def settled(self) -> bool:
        """See Signaller."""
        return self._port.ring.completed == self._port.ring.next


class SoftSource(Signaller):
    """A device that is software in the hypervisor: it raises its line, and the handler has it lowered."""

    def __init__(
        self,
        stamps: Pinned,
        raise_line: Callable[[], object],
        is_low: Callable[[], bool],
        duration_ns: int,
        gap_ns: int,
        counters: Counters,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(stamps, duration_ns, gap_ns, counters, clock_ns)
        self._raise, self._is_low = raise_line, is_low

    def prepare(self) -> None:
        """Nothing is needed."""

    def send(self) -> None:
        """See Signaller."""
        self._raise()

    @property
    def settled(self) -> bool:
        """See Signaller."""
        return self._is_low()


def quantile(values: list[int], share: float) -> int:
    """Return the value that this share of all does not exceed; 0 where there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0
