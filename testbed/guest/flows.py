"""The flows of a guest: what the launcher asks for, carried out by senders and receivers on the guest's NICs."""

import time
from collections.abc import Callable

from testbed.guest.drivers.driver import NetDriver
from testbed.guest.workloads.receiver import Receiver
from testbed.guest.workloads.requester import Requester
from testbed.guest.workloads.sender import Sender
from testbed.messages.control import Cancel, Collect, Expect, Expecting, FromProcess, Sent, Start, ToProcess
from testbed.messages.entries import FlowEntry
from testbed.messages.loop import Loop

QUIET_NS = 500_000_000
"""After so long without a frame the rest of a flow counts as lost."""


class Flows:
    """Runs on the guest's loop; `send` speaks to the launcher."""

    def __init__(
        self,
        loop: Loop,
        receivers: list[Receiver],
        send: Callable[[FromProcess], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._loop, self._receivers, self._send, self._clock = loop, receivers, send, clock
        self._sending: dict[int, tuple[Sender | Requester, Callable[[], bool]]] = {}
        self._collecting: dict[int, tuple[Collect, int]] = {}
        self._where: dict[int, Receiver] = {}

    def handle(self, message: ToProcess) -> None:
        """Carry out one message of the launcher."""
        if isinstance(message, Expect):
            self._expect(message.flow)
        elif isinstance(message, Start):
            self._start(message.flow)
        elif isinstance(message, Collect):
            self._collecting[message.flow_id] = (message, self._clock())
        elif isinstance(message, Cancel):
            self._cancel(message.flow_id)

    def tick(self) -> None:
        """Answer what is complete, or what has been quiet too long."""
        for flow_id, (message, since_ns) in list(self._collecting.items()):
            receiver = self._where[flow_id]
            sink = receiver.sinks[flow_id]
            complete = sink.received + sink.corrupted >= message.sent
            if complete or self._clock() - max(since_ns, receiver.arrived_ns) > QUIET_NS:
                del self._collecting[flow_id]
                self._send(receiver.result(flow_id))
                self._forget(flow_id)

    def deadline_ns(self) -> int | None:
        """Return when something is due although nothing happens."""
        due = [work.wake_ns() for work, _ in self._sending.values()]
        due += [
            max(since, self._where[f].arrived_ns) + QUIET_NS for f, (_, since) in self._collecting.items()
        ]
        return min((at for at in due if at is not None), default=None)

    def _expect(self, flow: FlowEntry) -> None:
        receiver = self._receivers[flow.destination_nic]
        receiver.expect(flow)
        self._where[flow.id] = receiver
        self._send(Expecting(flow_id=flow.id))

    def _start(self, flow: FlowEntry) -> None:
        receiver = self._receivers[flow.source_nic]
        driver: NetDriver = receiver.driver
        work: Sender | Requester
        if flow.kind == "rr":
            work = Requester(flow, driver, self._sent)
            receiver.add(flow.id, work.sink)
            self._where[flow.id] = receiver
        else:
            work = Sender(flow, driver, self._sent)

        def step() -> bool:
            moved = work.step()
            if work.finished:
                self._stop(flow.id)
            return moved

        self._sending[flow.id] = (work, step)
        self._loop.runnable[step] = None
        driver.tx_watch.active = True
        work.start()

    def _sent(self, message: Sent) -> None:
        self._send(message)

    def _stop(self, flow_id: int) -> None:
        work, step = self._sending.pop(flow_id)
        self._loop.runnable.pop(step, None)
        if isinstance(work, Requester):
            self._forget(flow_id)
        if not self._sending:
            for receiver in self._receivers:
                receiver.driver.tx_watch.active = False

    def _cancel(self, flow_id: int) -> None:
        if flow_id in self._sending:
            self._stop(flow_id)
        self._collecting.pop(flow_id, None)
        self._forget(flow_id)

    def _forget(self, flow_id: int) -> None:
        receiver = self._where.pop(flow_id, None)
        if receiver is not None:
            receiver.forget(flow_id)
