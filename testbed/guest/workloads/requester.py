"""Request and response: one frame in flight, the time from its sending to its answer's arrival."""

import time
from array import array
from collections.abc import Callable

import numpy as np

from testbed.guest.drivers.driver import NetDriver
from testbed.guest.workloads.frames import headers
from testbed.messages.control import Sent
from testbed.messages.entries import FlowEntry
from testbed.native import Burst, FlowSink, FlowSource
from testbed.spec.flow import MAGIC_REPLY, MAGIC_REQUEST

_NS_PER_SECOND = 1e9
_QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


class Requester:
    """Asks, waits for the answer, asks again; `sink` is where the guest's receiver accounts the answers."""

    def __init__(
        self,
        flow: FlowEntry,
        driver: NetDriver,
        done: Callable[[Sent], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.flow, self._driver, self._done, self._clock = flow, driver, done, clock
        self.sink = FlowSink(flow.id, MAGIC_REPLY)
        self._source = FlowSource(
            flow.id, MAGIC_REQUEST, flow.frame_bytes, [headers(flow, size) for size in flow.frame_bytes]
        )
        self._burst = Burst()
        self._latencies_ns = array("q")
        self._started_ns = self._asked_ns = 0
        self._answered = 0
        self.finished = False

    @property
    def sent(self) -> int:
        """Requests so far."""
        return self._source.sequence

    def start(self) -> None:
        """The flow's time begins."""
        self._started_ns = self._clock()

    def step(self) -> bool:
        """Take the answer if it has come and ask the next question; True: something happened."""
        if self.sent > self._answered:
            if self.sink.received == self._answered:
                return False
            self._latencies_ns.append(self._clock() - self._asked_ns)
            self._answered = self.sink.received
        if self._over():
            self._finish()
            return True
        return self._ask()

    def wake_ns(self) -> int | None:
        """Nothing but the answer is waited for."""
        return None

    def _over(self) -> bool:
        if self.flow.count and self.sent >= self.flow.count:
            return True
        return bool(self.flow.duration_ns) and self._clock() - self._started_ns >= self.flow.duration_ns

    def _ask(self) -> bool:
        if not self._driver.tx_reserve(self._burst, 1):
            return False
        self._source.fill(self._burst)
        self._asked_ns = self._clock()
        self._driver.tx_send(self._burst)
        return True

    def _finish(self) -> None:
        self.finished = True
        quantiles = None
        if self._latencies_ns:
            values = np.quantile(np.frombuffer(self._latencies_ns, dtype=np.int64), list(_QUANTILES.values()))
            quantiles = dict(zip(_QUANTILES, (int(v) for v in values), strict=True))
        seconds = (self._clock() - self._started_ns) / _NS_PER_SECOND
        self._done(
            Sent(
                flow_id=self.flow.id,
                sent=self.sent,
                answered=self._answered,
                seconds=seconds,
                latency_ns=quantiles,
            )
        )
