"""Flows that end in a sink of the vmm: it answers for them as a receiving guest does.

A verified flow is checked frame by frame; of an unverified one the sink counts what comes in while the flow
lasts, so one such flow at a time goes to a sink. Not modelled: comparison with a capture.
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

    sink: Sink
    checked: FlowSink | None
    frames_before: int
    bytes_before: int
    sent: int | None = None
    asked_ns: int = 0
    """When `Collect` came."""

    def arrived(self) -> int:
        """Frames so far, sound or not."""
        if self.checked is not None:
            return self.checked.received + self.checked.corrupted
        return self.sink.frames - self.frames_before

    def result(self, flow_id: int) -> Received:
        checked, sink = self.checked, self.sink
        if checked is None:
            span_ns, counted = sink.arrived_ns - sink.first_ns, sink.byte_count - self.bytes_before
            return _received(flow_id, self.arrived(), counted, span_ns)
        return _received(
            flow_id,
            checked.received,
            checked.byte_count,
            checked.span_ns,
            (checked.reordered, checked.corrupted, checked.duplicated),
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
            flow = self._flows[message.flow_id]
            flow.sent, flow.asked_ns = message.sent, self._clock()
        elif isinstance(message, Cancel):
            self._forget(message.flow_id)

    def tick(self) -> None:
        """Answer what is complete, or what has been quiet too long."""
        for flow_id, flow in list(self._flows.items()):
            if flow.sent is None:
                continue
            if flow.arrived() >= flow.sent or self._clock() >= self._quiet_at(flow):
                self._send(flow.result(flow_id))
                self._forget(flow_id)

    def deadline_ns(self) -> int | None:
        """Return when something is due although nothing happens."""
        due = (self._quiet_at(flow) for flow in self._flows.values() if flow.sent is not None)
        return min(due, default=None)

    def _expect(self, flow: FlowEntry) -> None:
        sink = self._sinks[f"{flow.source}.nic{flow.source_nic}"]
        sink.restart()
        checked = None
        if flow.verify and flow.kind == "pktgen":
            checked = FlowSink(flow.id, MAGIC_DATA)
            sink.expect(checked)
        self._flows[flow.id] = _Flow(sink, checked, sink.frames, sink.byte_count)
        self._send(Expecting(flow_id=flow.id))

    @staticmethod
    def _quiet_at(flow: _Flow) -> int:
        return max(flow.asked_ns, flow.sink.arrived_ns) + QUIET_NS

    def _forget(self, flow_id: int) -> None:
        flow = self._flows.pop(flow_id, None)
        if flow is not None and flow.checked is not None:
            flow.sink.forget(flow.checked)


def _received(
    flow_id: int, frames: int, byte_count: int, span_ns: int, wrong: tuple[int, int, int] = (0, 0, 0)
) -> Received:
    reordered, corrupted, duplicated = wrong
    return Received(
        flow_id=flow_id,
        received=frames,
        reordered=reordered,
        corrupted=corrupted,
        duplicated=duplicated,
        bytes=byte_count,
        seconds=span_ns / _NS_PER_SECOND,
    )
