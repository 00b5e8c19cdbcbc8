"""Flows that end in a sink of the vmm: it answers for them as a receiving guest does.

A verified flow is checked frame by frame. Of an unverified flow that has a sink for itself, the sink counts
what comes in while the flow lasts; where several share one, each is told by the tags of its frames.
Not modelled: comparison with a capture.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from testbed.messages.control import (
    Cancel,
    Collect,
    Expect,
    Expecting,
    FromProcess,
    Received,
    ToProcess,
)
from testbed.messages.entries import FlowEntry
from testbed.native import FlowSink
from testbed.net.reflect import Sink
from testbed.spec.flow import MAGIC_DATA

QUIET_NS: Final = 500_000_000
"""After so long without a frame the rest of a flow counts as lost."""
_NS_PER_SECOND: Final = 1e9


@dataclass
class _Flow:
    """A flow that is expected."""

    entry: FlowEntry
    sink: Sink
    frames_before: int
    bytes_before: int
    tagged: FlowSink | None = None
    """Accounts its frames by their tags, where it does."""
    sent: int | None = None
    asked_ns: int = 0
    """When `Collect` came."""

    def tell_by_tags(self) -> None:
        """Tell its frames from others' by their tags; a capture's have none."""
        if self.tagged is None and self.entry.kind == "pktgen":
            self.tagged = FlowSink(self.entry.id, MAGIC_DATA, self.entry.verify)
            self.sink.expect(self.tagged)

    def forget(self) -> None:
        """Look at its tags no more."""
        if self.tagged is not None:
            self.sink.forget(self.tagged)

    def arrived(self) -> int:
        """Frames so far, sound or not."""
        if self.tagged is not None:
            return self.tagged.received + self.tagged.corrupted
        return self.sink.frames - self.frames_before

    def result(self) -> Received:
        """Return what arrived."""
        tagged, sink = self.tagged, self.sink
        return Received(
            flow_id=self.entry.id,
            received=tagged.received if tagged else self.arrived(),
            reordered=tagged.reordered if tagged else 0,
            corrupted=tagged.corrupted if tagged else 0,
            duplicated=tagged.duplicated if tagged else 0,
            bytes=tagged.byte_count if tagged else sink.byte_count - self.bytes_before,
            seconds=(tagged.span_ns if tagged else sink.arrived_ns - sink.first_ns) / _NS_PER_SECOND,
        )


class SinkFlows:
    """The flows that end in one vmm; `sinks` has them by NIC, `send` speaks to the launcher."""

    def __init__(
        self,
        sinks: Mapping[str, Sink],
        send: Callable[[FromProcess], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._sinks, self._send, self._clock = sinks, send, clock
        self._flows: dict[int, _Flow] = {}

    def handle(self, message: ToProcess) -> None:
        """Carry out one message of the launcher."""
        if isinstance(message, Expect):
            self._expect(message.flow)
        elif isinstance(message, Collect):
            self._collect(message)
        elif isinstance(message, Cancel):
            self._forget(message.flow_id)

    def tick(self) -> None:
        """Answer what is complete, or what has been quiet too long."""
        for flow_id, flow in list(self._flows.items()):
            if flow.sent is None:
                continue
            if flow.arrived() >= flow.sent or self._clock() >= self._quiet_at(flow):
                self._send(flow.result())
                self._forget(flow_id)

    def deadline_ns(self) -> int | None:
        """Return when something is due although nothing happens."""
        if not self._flows:
            return None
        due = (self._quiet_at(flow) for flow in self._flows.values() if flow.sent is not None)
        return min(due, default=None)

    def _expect(self, entry: FlowEntry) -> None:
        sink = self._sinks[f"{entry.source}.nic{entry.source_nic}"]
        others = [flow for flow in self._flows.values() if flow.sink is sink]
        if not others:
            sink.restart()
        flow = self._flows[entry.id] = _Flow(entry, sink, sink.frames, sink.byte_count)
        if others or entry.verify:
            flow.tell_by_tags()
        for other in others:
            other.tell_by_tags()
        self._send(Expecting(flow_id=entry.id))

    def _collect(self, message: Collect) -> None:
        flow = self._flows.get(message.flow_id)
        if flow is not None:
            flow.sent, flow.asked_ns = message.sent, self._clock()

    @staticmethod
    def _quiet_at(flow: _Flow) -> int:
        return max(flow.asked_ns, flow.sink.arrived_ns) + QUIET_NS

    def _forget(self, flow_id: int) -> None:
        flow = self._flows.pop(flow_id, None)
        if flow is not None:
            flow.forget()
