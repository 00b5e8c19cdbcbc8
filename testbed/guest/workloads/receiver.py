"""What is expected at one NIC: flows by generated frames or by those of a capture, and their accounts.

Reference: captured.py (frames of a replay). Where several vCPUs serve the NIC's queues, each has a lane of
its own (lane.py), and a flow's account is common to all.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from testbed.guest.drivers.driver import NetDriver, NetQueue
from testbed.guest.workloads.captured import CapturedFrames, load_captured
from testbed.guest.workloads.lane import Lane
from testbed.messages.control import Received
from testbed.messages.entries import FlowEntry
from testbed.native import FlowSink
from testbed.net.mac import parse_mac
from testbed.observe.counters import Counters
from testbed.spec.flow import MAGIC_DATA, MAGIC_REQUEST

_NS_PER_SECOND = 1e9


@dataclass(frozen=True, slots=True)
class OtherLane:
    """A lane of another vCPU than the first; `post` has a call made on its thread."""

    lane: Lane
    post: Callable[[Callable[[], None]], None]


class Receiver:
    """The receiving side of one NIC and of every flow that is expected there; belongs to the first vCPU."""

    def __init__(
        self,
        driver: NetDriver,
        counters: Counters,
        foreign: str,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.driver = driver
        self.lane = Lane(driver.mtu, counters, foreign, clock)
        self.others: dict[int, OtherLane] = {}
        """Lanes of further vCPUs, by their number."""
        self.sinks: dict[int, FlowSink] = {}
        self._groups: set[bytes] = set()

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
        self.lane.add(sink)
        for other in self.others.values():
            other.post(partial(other.lane.add, sink))

    def forget(self, flow_id: int) -> None:
        """Expect a flow no more."""
        sink = self.sinks.pop(flow_id, None)
        if sink is not None:
            self.lane.remove(flow_id, sink)
            for other in self.others.values():
                other.post(partial(other.lane.remove, flow_id, sink))

    def step(self, queue: NetQueue | None = None) -> bool:
        """Take what is in a queue of the NIC, the first unless another is named; True: there was any."""
        return self.lane.step(queue or self.driver)

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


def _replay_sink(flow: FlowEntry, frames: CapturedFrames) -> FlowSink:
    return FlowSink(
        flow.id,
        0,
        digests=frames.digests.tobytes(),
        total=frames.count * flow.loops,
        source_mac=parse_mac(flow.source_mac),
    )
