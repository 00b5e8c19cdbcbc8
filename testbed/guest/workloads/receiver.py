"""Takes what arrives at one NIC: checks every frame, answers requests, gives buffers back.

An answer for which there is no buffer (a sender of the same guest has them all) waits for one. It is copied
for that: received frames are taken meanwhile, else two guests that wait for each other would wait for ever.

Reference: testbed/spec/flow.py (the tag of a generated frame), captured.py (frames of a replay). Not
modelled: a network stack; what belongs to no flow is counted as foreign.
"""

import time
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from testbed.guest.drivers.driver import NetDriver, NetQueue
from testbed.guest.workloads.captured import CapturedFrames, load_captured
from testbed.messages.control import Received
from testbed.messages.entries import FlowEntry
from testbed.native import Burst, FlowSink, FrameStore, Inspector, ReplaySource, echo
from testbed.net.mac import parse_mac
from testbed.net.port import PASS_FRAMES_MAX
from testbed.observe.counters import Counters
from testbed.spec.flow import ETHERNET, MAGIC_DATA, MAGIC_REQUEST

WAITING_MAX: Final = 256
"""Answers of a queue that may wait; who asks has one question under way, so more are owed to nobody."""
_NS_PER_SECOND = 1e9


class Receiver:
    """The receiving side of one NIC and of every flow that is expected there."""

    def __init__(
        self,
        driver: NetDriver,
        counters: Counters,
        foreign: str,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.driver, self._counters, self._foreign, self._clock = driver, counters, foreign, clock
        self.inspector = Inspector()
        self.sinks: dict[int, FlowSink] = {}
        self._groups: set[bytes] = set()
        self._burst, self._answers = Burst(), Burst()
        self._waiting: dict[NetQueue, list[bytes]] = {}
        self.on_owing: Callable[[NetQueue], None] = lambda _queue: None
        """Told of a queue where answers begin or cease to wait for buffers."""

    def expect(self, flow: FlowEntry) -> None:
        """Check this flow from now on; of a replay, have its groups' frames taken."""
        if flow.kind == "replay":
            frames = load_captured(flow)
            self._groups.update(frames.groups)
            self.driver.set_multicast(sorted(self._groups))
            self.add(flow.id, _replay_sink(flow, frames))
        else:
            magic = MAGIC_REQUEST if flow.kind == "rr" else MAGIC_DATA
            self.add(flow.id, FlowSink(flow.id, magic, flow.verify))

    def add(self, flow_id: int, sink: FlowSink) -> None:
        """Account frames of a flow in `sink`."""
        self.forget(flow_id)
        self.sinks[flow_id] = sink
        self.inspector.add(sink)

    def forget(self, flow_id: int) -> None:
        """Expect a flow no more."""
        sink = self.sinks.pop(flow_id, None)
        if sink is not None:
            self.inspector.remove(sink)

    def step(self, queue: NetQueue | None = None) -> bool:
        """Take what is in a queue of the NIC, the first unless another is named; True: there was any."""
        queue = queue or self.driver
        arrived = queue.rx_inspect(self.inspector, self._burst, PASS_FRAMES_MAX, self._clock())
        if arrived.foreign:
            self._counters.add(self._foreign, arrived.foreign)
        if arrived.requests:
            self._answer(queue, arrived.requests)
            queue.rx_refill(self._burst)
        return arrived.frames > 0

    def result(self, flow_id: int) -> Received:
        """Return what arrived of a flow."""
        sink = self.sinks[flow_id]
        return Received(
            flow_id=flow_id,
            received=sink.received,
            reordered=sink.reordered,
            corrupted=sink.corrupted,
            duplicated=sink.duplicated,
            bytes=sink.byte_count,
            seconds=sink.span_ns / _NS_PER_SECOND,
        )

    def owes(self, queue: NetQueue) -> bool:
        """Say whether answers wait for buffers of a queue."""
        return queue in self._waiting

    def answer_waiting(self, queue: NetQueue) -> bool:
        """Send answers that waited, as many as there are buffers for now; True: any was sent."""
        waiting = self._waiting.get(queue)
        if waiting is None:
            return False
        sent = queue.tx_fill(_frames_source(waiting), self._answers, len(waiting))
        del waiting[:sent]
        if not waiting:
            del self._waiting[queue]
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
        waiting, store = self._waiting.get(queue, []), FrameStore()
        longest = self.driver.mtu + ETHERNET.size
        store.load([bytes(longest)] * min(count, WAITING_MAX - len(waiting)))
        written = echo(self._burst, store, first)
        if written:
            self._waiting[queue] = waiting + [store.frame_bytes(index) for index in range(written)]
            self.on_owing(queue)


def _frames_source(frames: Sequence[bytes]) -> ReplaySource:
    """Return what writes these frames, in their order."""
    return ReplaySource(b"".join(frames), array("I", accumulate(map(len, frames), initial=0)).tobytes())


def _replay_sink(flow: FlowEntry, frames: CapturedFrames) -> FlowSink:
    return FlowSink(
        flow.id,
        0,
        digests=frames.digests.tobytes(),
        total=frames.count * flow.loops,
        source_mac=parse_mac(flow.source_mac),
    )
