"""What every process of a topology has: its segments, counters, sockets and loop."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import zmq

from testbed.errors import StopRequested, VirtbedError
from testbed.memory.segment import Segment
from testbed.messages.calls import StopOrder
from testbed.messages.channel import ControlChannel
from testbed.messages.control import Failed, Ready
from testbed.messages.doorbell import Doorbell, Inbox, inbox_endpoint
from testbed.messages.entries import ProcessPlan
from testbed.messages.loop import Loop
from testbed.native import Bell, trace
from testbed.observe.counters import Counters

_OWN_SOCKETS = 16
"""Control, inbox, the host's own processes; a context sets memory aside for every socket it may have."""


class ProcessParts:
    """Opens what the plan grants to one process; `close` gives it all back. `peers`: how many it rings."""

    def __init__(self, plan: ProcessPlan, descriptors: dict[str, int], run_dir: str, peers: int = 0) -> None:
        self.plan, self.run_dir = plan, run_dir
        if plan.entry.cpus:  # first: every thread that libraries make inherits it
            os.sched_setaffinity(0, plan.entry.cpus)
        self.segments = {
            s.name: Segment.map(descriptors[s.name], s.name, s.size_bytes, s.hpa, s.writable)
            for s in plan.segments
        }
        self.counters = Counters(plan.counter_names, self.segments[f"{plan.name}.counters"].view)
        if ring := self.segments.get(f"{plan.name}.trace"):
            trace.attach(ring.pinned)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, _OWN_SOCKETS + peers)
        self.inbox = Inbox(self.context, inbox_endpoint(run_dir, plan.name))
        self.control = ControlChannel(self.context, run_dir, plan.name)
        self.loop = Loop(self.inbox, self.control, plan.entry.poll_ns, self.counters)
        self._doorbells: list[Doorbell] = []

    def doorbell(self, bell: Bell, process: str) -> Doorbell:
        """Return a doorbell that rings `process`."""
        doorbell = Doorbell(bell, self.context, inbox_endpoint(self.run_dir, process))
        self._doorbells.append(doorbell)
        return doorbell

    def serve(self) -> None:
        """Tell the launcher that this process is up, and run until it is told to stop."""
        self.control.send(Ready(at_ns=time.monotonic_ns()))
        self.loop.run()

    def close(self) -> None:
        """Close every socket, once what was sent has left."""
        trace.detach()
        for doorbell in self._doorbells:
            doorbell.close()
        self.inbox.close()
        self.control.close()
        self.context.term()


@contextmanager
def process_parts(
    plan: ProcessPlan, descriptors: dict[str, int], run_dir: str, peers: int = 0
) -> Iterator[ProcessParts]:
    """Open what the plan grants, for as long as a process lives.

    An order to stop, wherever it is taken, ends it in order; the launcher is told of an error before it is
    raised.
    """
    parts = ProcessParts(plan, descriptors, run_dir, peers)
    try:
        with suppress(StopRequested):
            yield parts
    except VirtbedError as error:
        parts.control.send(Failed(reason=str(error)))
        raise
    finally:
        parts.close()


class ThreadParts:
    """What a further thread of a process has: an inbox, a loop and doorbells of its own.

    Made by the process's first thread, used by this one from its start, closed by whichever is last.
    """

    def __init__(self, parts: ProcessParts, name: str, counters: Counters) -> None:
        self._parts = parts
        self.inbox = Inbox(parts.context, inbox_endpoint(parts.run_dir, name))
        self.order = StopOrder()
        self.loop = Loop(self.inbox, self.order, parts.plan.entry.poll_ns, counters)
        self._doorbells: list[Doorbell] = []

    def doorbell(self, bell: Bell, process: str) -> Doorbell:
        """Return a doorbell that rings `process`, for this thread alone."""
        doorbell = Doorbell(bell, self._parts.context, inbox_endpoint(self._parts.run_dir, process))
        self._doorbells.append(doorbell)
        return doorbell

    def close(self) -> None:
        """Close every socket."""
        for doorbell in self._doorbells:
            doorbell.close()
        self.inbox.close()
        self.order.close()
        self.loop.descriptors.close()
        self.loop.peers.close()
