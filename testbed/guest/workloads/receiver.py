"""Takes what arrives at one NIC: checks every frame, answers requests, gives buffers back.

Reference: testbed/spec/flow.py (the tag of a generated frame), captured.py (frames of a replay). Not
modelled: a network stack; what belongs to no flow is counted as foreign.
"""

import time
from collections.abc import Callable

from testbed.guest.drivers.driver import NetDriver, NetQueue
from testbed.guest.workloads.captured import CapturedFrames, load_captured
from testbed.messages.control import Received
from testbed.messages.entries import FlowEntry
from testbed.native import Burst, FlowSink, Inspector, echo
from testbed.net.mac import parse_mac
from testbed.net.port import PASS_FRAMES_MAX
from testbed.observe.counters import Counters
from testbed.spec.flow import MAGIC_DATA, MAGIC_REQUEST

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

    def _answer(self, queue: NetQueue, requests: int) -> None:
        """Send replies; a request for which there is no buffer stays unanswered, which its sender counts."""
        if queue.tx_reserve(self._answers, requests):
            written = echo(self._burst, self._answers)
            if written < len(self._answers):
                queue.tx_release(self._answers, written)
            queue.tx_send(self._answers)


def _replay_sink(flow: FlowEntry, frames: CapturedFrames) -> FlowSink:
    return FlowSink(
        flow.id,
        0,
        digests=frames.digests.tobytes(),
        total=frames.count * flow.loops,
        source_mac=parse_mac(flow.source_mac),
    )
