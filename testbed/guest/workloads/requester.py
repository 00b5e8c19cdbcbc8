"""Request and response: one frame in flight, the time from its sending to its answer's arrival.

Reference: RFC 2544 §26.2 (latency), with one frame at a time. A request or an answer that is lost costs
`ANSWER_NS`; one that comes later than that counts as lost. Not modelled: several requests in flight.
"""

import time
from array import array
from collections.abc import Callable
from math import ceil
from typing import Final

from testbed.guest.drivers.driver import NetDriver, queue_for
from testbed.guest.workloads.frames import headers
from testbed.messages.control import Sent
from testbed.messages.entries import FlowEntry
from testbed.native import Burst, FlowSink, FlowSource
from testbed.spec.flow import MAGIC_DATA, MAGIC_REPLY, MAGIC_REQUEST

ANSWER_NS: Final = 500_000_000
"""How long an answer is waited for."""
LOST_IN_A_ROW_MAX: Final = 4
"""After so many requests without an answer nobody is there: the flow ends."""
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
        self.flow, self._done, self._clock = flow, done, clock
        self.queue = queue_for(driver, flow.id)
        # what an echo sends back is the request itself, which nobody here must answer
        question, answer = (MAGIC_DATA, MAGIC_DATA) if flow.comes_back else (MAGIC_REQUEST, MAGIC_REPLY)
        self.sink = FlowSink(flow.id, answer)
        self._source = FlowSource(
            flow.id, question, flow.frame_bytes, [headers(flow, size) for size in flow.frame_bytes]
        )
        self._burst = Burst()
        self._latencies_ns = array("q")
        self._started_ns = self._asked_ns = 0
        self._waiting = False
        self._lost_in_a_row = 0
        self.finished = False
        self.starved = False
        """There was no buffer for a request: only room can help."""

    @property
    def sent(self) -> int:
        """Requests so far."""
        return self._source.sequence

    def start(self) -> None:
        """The flow's time begins."""
        self._started_ns = self._clock()

    def step(self) -> bool:
        """Take the answer if it has come and ask the next question; True: something happened."""
        now_ns = self._clock()
        if self._waiting and not self._settle(now_ns):
            return False
        if self._over(now_ns):
            self._finish()
            return True
        return self._ask(now_ns)

    def wake_ns(self) -> int | None:
        """Return when to step although nothing happened."""
        if self._waiting:
            return self._asked_ns + ANSWER_NS
        if not self.starved:
            return self._started_ns
        return self._started_ns + self.flow.duration_ns if self.flow.duration_ns else None

    def _settle(self, now_ns: int) -> bool:
        """Say whether the request in flight is over: answered, or lost."""
        if self.sink.next_sequence >= self._source.sequence:  # an answer carries its request's number
            self._latencies_ns.append(now_ns - self._asked_ns)
            self._lost_in_a_row = 0
        elif now_ns - self._asked_ns >= ANSWER_NS:
            self._lost_in_a_row += 1
        else:
            return False
        self._waiting = False
        return True

    def _over(self, now_ns: int) -> bool:
        if self._lost_in_a_row >= LOST_IN_A_ROW_MAX or (self.flow.count and self.sent >= self.flow.count):
            return True
        return bool(self.flow.duration_ns) and now_ns - self._started_ns >= self.flow.duration_ns

    def _ask(self, now_ns: int) -> bool:
        self._asked_ns = now_ns
        self._waiting = self.queue.tx_fill(self._source, self._burst, 1) > 0
        self.starved = not self._waiting
        return self._waiting

    def _finish(self) -> None:
        self.finished = True
        self._done(
            Sent(
                flow_id=self.flow.id,
                sent=self.sent,
                answered=len(self._latencies_ns),
                seconds=(self._clock() - self._started_ns) / _NS_PER_SECOND,
                latency_ns=quantiles(self._latencies_ns),
            )
        )


def quantiles(latencies_ns: "array[int]") -> dict[str, int] | None:
    """Return the latencies below which the named shares lie (nearest rank)."""
    if not latencies_ns:
        return None
    ordered = sorted(latencies_ns)
    return {name: ordered[ceil(share * len(ordered)) - 1] for name, share in _QUANTILES.items()}
