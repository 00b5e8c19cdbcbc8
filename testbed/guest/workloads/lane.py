"""Takes what arrives in the queues of a NIC that one vCPU serves: checks every frame, answers requests.

An answer for which there is no buffer (a sender of the same guest has them all) waits for one. It is copied
for that: received frames are taken meanwhile, else two guests that wait for each other would wait for ever.

Reference: testbed/spec/flow.py (the tag of a generated frame). Not modelled: a network stack; what belongs to
no flow is counted as foreign.
"""

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from testbed.guest.drivers.driver import NetQueue
from testbed.native import Burst, FlowSink, FrameStore, Inspector, ReplaySource, echo
from testbed.net.port import PASS_FRAMES_MAX
from testbed.observe.counters import Counters
from testbed.spec.flow import ETHERNET

WAITING_MAX: Final = 256
"""Answers of a queue that may wait; who asks has one question under way, so more are owed to nobody."""


class Lane:
    """Belongs to its vCPU's thread. `foreign` names the counter of frames that belong to no flow."""

    def __init__(
        self,
        mtu: int,
        counters: Counters,
        foreign: str,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._mtu, self._counters, self._foreign, self._clock = mtu, counters, foreign, clock
        self.inspector = Inspector()
        self._burst, self._answers = Burst(), Burst()
        self._owed: dict[NetQueue, list[bytes]] = {}
        self.on_owing: Callable[[NetQueue], None] = lambda _queue: None
        """Told of a queue where answers begin or cease to wait for buffers."""
        self._requesters: dict[int, _Requester] = {}

    def step(self, queue: NetQueue) -> bool:
        """Take what is in a queue; True: there was any."""
        arrived = queue.rx_inspect(self.inspector, self._burst, PASS_FRAMES_MAX, self._clock())
        if arrived.foreign:
            self._counters.add(self._foreign, arrived.foreign)
        if arrived.requests:
            self._answer(queue, arrived.requests)
            queue.rx_refill(self._burst)
        for requester in tuple(self._requesters.values()):  # waking is an exit: more calls come meanwhile
            requester.look()
        return arrived.frames > 0

    def tell(self, flow_id: int, sink: FlowSink, wake: Callable[[], None]) -> None:
        """Have another vCPU woken when an answer has come for which a requester waits there."""
        self._requesters[flow_id] = _Requester(sink, wake)

    def add(self, sink: FlowSink) -> None:
        """Expect the frames of a flow."""
        self.inspector.add(sink)

    def remove(self, flow_id: int, sink: FlowSink) -> None:
        """Expect them no more."""
        self._requesters.pop(flow_id, None)
        self.inspector.remove(sink)

    def owes(self, queue: NetQueue) -> bool:
        """Say whether answers wait for buffers of a queue."""
        return queue in self._owed

    def answer_waiting(self, queue: NetQueue) -> bool:
        """Send answers that waited, as many as there are buffers for now; True: any was sent."""
        waiting = self._owed.get(queue)
        if waiting is None:
            return False
        sent = queue.tx_fill(_frames_source(waiting), self._answers, len(waiting))
        del waiting[:sent]
        if not waiting:
            del self._owed[queue]
            self.on_owing(queue)
        return sent > 0

    def _answer(self, queue: NetQueue, requests: int) -> None:
        """Send answers; behind those that wait, and where buffers are short, they wait as well."""
        written = 0
        if not self.owes(queue) and queue.tx_reserve(self._answers, requests):
            written = echo(self._burst, self._answers)
            if written < len(self._answers):
                queue.tx_release(self._answers, written)
            queue.tx_send(self._answers)
        if written < requests:
            self._keep(queue, written, requests - written)

    def _keep(self, queue: NetQueue, first: int, count: int) -> None:
        """Have answers wait, those of the last burst from the `first` on."""
        waiting, store = self._owed.get(queue, []), FrameStore()
        longest = self._mtu + ETHERNET.size
        store.load([bytes(longest)] * min(count, WAITING_MAX - len(waiting)))
        written = echo(self._burst, store, first)
        if written:
            self._owed[queue] = waiting + [store.frame_bytes(index) for index in range(written)]
            self.on_owing(queue)


@dataclass(slots=True)
class _Requester:
    """A requester on another vCPU, and how far the answers were when it was woken last."""

    sink: FlowSink
    wake: Callable[[], None]
    seen: int = 0

    def look(self) -> None:
        if (come := self.sink.next_sequence) != self.seen:
            self.seen = come
            self.wake()


def _frames_source(frames: Sequence[bytes]) -> ReplaySource:
    """Return what writes these frames, in their order."""
    return ReplaySource(b"".join(frames), array("I", accumulate(map(len, frames), initial=0)).tobytes())
