"""The flows of a guest: what the launcher asks for, carried out by senders and receivers on its NICs.

Reference: testbed/messages/control.py (Expect, Start, Collect, Cancel and their answers). Not modelled: a
flow between two NICs of the same guest.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from testbed.guest.drivers.driver import NetQueue
from testbed.guest.workloads.receiver import Receiver
from testbed.guest.workloads.requester import Requester
from testbed.guest.workloads.sender import Sender
from testbed.messages.control import Cancel, Collect, Expect, Expecting, FromProcess, Sent, Start, ToProcess
from testbed.messages.entries import FlowEntry
from testbed.native import FlowSink

QUIET_NS = 500_000_000
"""After so long without a frame of a flow the rest of it counts as lost."""

Work = Sender | Requester
Action = Callable[[], bool]


class Runner(Protocol):
    """What runs every action in `runnable` at every turn: the process's loop."""

    runnable: dict[Action, None]


@dataclass
class _Sending:
    """A flow under way and its step in the loop."""

    work: Work
    queue: NetQueue
    step: Action


@dataclass
class _Collecting:
    """A flow whose sender is done: what has arrived, and since when no more has."""

    message: Collect
    sink: FlowSink
    arrived: int
    since_ns: int

    def complete(self, now_ns: int) -> bool:
        """Say whether all is here, or nothing has come for so long that the rest is lost."""
        whole = self.sink.received + self.sink.corrupted
        arrived = whole + self.sink.duplicated
        if arrived != self.arrived:
            self.arrived, self.since_ns = arrived, now_ns
        return whole >= self.message.sent or now_ns >= self.since_ns + QUIET_NS


class Flows:
    """Runs on the guest's loop; `receivers` by NIC; `send` speaks to the launcher."""

    def __init__(
        self,
        loop: Runner,
        receivers: list[Receiver],
        send: Callable[[FromProcess], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._loop, self._receivers, self._send, self._clock = loop, receivers, send, clock
        self._sending: dict[int, _Sending] = {}
        self._collecting: dict[int, _Collecting] = {}
        self._where: dict[int, Receiver] = {}
        """By flow, the NIC at which something of it arrives."""
        for receiver in receivers:
            receiver.on_owing = self._look_for_room

    def handle(self, message: ToProcess) -> None:
        """Carry out one message of the launcher."""
        if isinstance(message, Expect):
            self._expect(message.flow)
        elif isinstance(message, Start):
            self._start(message.flow)
        elif isinstance(message, Collect):
            self._collect(message)
        elif isinstance(message, Cancel):
            self._cancel(message.flow_id)

    def tick(self) -> None:
        """Answer what is complete, or what has been quiet too long."""
        if not self._collecting:
            return
        now_ns = self._clock()
        for flow_id, collecting in tuple(self._collecting.items()):
            if collecting.complete(now_ns):
                del self._collecting[flow_id]
                self._send(self._where[flow_id].result(flow_id))
                self._forget(flow_id)

    def deadline_ns(self) -> int | None:
        """Return when something is due although nothing happens."""
        due = [sending.work.wake_ns() for sending in self._sending.values()]
        due += [collecting.since_ns + QUIET_NS for collecting in self._collecting.values()]
        return min((at for at in due if at is not None), default=None)

    def _expect(self, flow: FlowEntry) -> None:
        receiver = self._receivers[flow.destination_nic]
        receiver.expect(flow)
        self._where[flow.id] = receiver
        self._send(Expecting(flow_id=flow.id))

    def _collect(self, message: Collect) -> None:
        sink = self._where[message.flow_id].sinks[message.flow_id]
        self._collecting[message.flow_id] = _Collecting(message, sink, 0, self._clock())

    def _start(self, flow: FlowEntry) -> None:
        receiver = self._receivers[flow.source_nic]
        work = self._work(flow, receiver)

        def step() -> bool:
            moved = work.step()
            if work.finished:
                self._stop(flow.id)
            self._look_for_room(work.queue)
            return moved

        self._sending[flow.id] = _Sending(work, work.queue, step)
        self._loop.runnable[step] = None
        work.start()

    def _work(self, flow: FlowEntry, receiver: Receiver) -> Work:
        if flow.kind != "rr":
            return Sender(flow, receiver.driver, self._sent, self._clock)
        requester = Requester(flow, receiver.driver, self._sent, self._clock)
        receiver.add(flow.id, requester.sink)
        self._where[flow.id] = receiver
        return requester

    def _look_for_room(self, queue: NetQueue) -> None:
        """Have sent buffers wake us only while somebody lacks them: else they would keep us from sleeping."""
        starved = any(s.work.starved for s in self._sending.values() if s.queue is queue)
        starved = starved or any(receiver.owes(queue) for receiver in self._receivers)
        if queue.tx_watch.active != starved:
            queue.tx_watch.active = starved

    def _sent(self, message: Sent) -> None:
        self._send(message)

    def _stop(self, flow_id: int) -> None:
        sending = self._sending.pop(flow_id)
        self._loop.runnable.pop(sending.step, None)
        if isinstance(sending.work, Requester) and not sending.work.flow.comes_back:
            self._forget(flow_id)  # else this end is also asked what arrived

    def _cancel(self, flow_id: int) -> None:
        if flow_id in self._sending:
            queue = self._sending[flow_id].queue
            self._stop(flow_id)
            self._look_for_room(queue)
        self._collecting.pop(flow_id, None)
        self._forget(flow_id)

    def _forget(self, flow_id: int) -> None:
        receiver = self._where.pop(flow_id, None)
        if receiver is not None:
            receiver.forget(flow_id)
