"""The flows of a guest: what the launcher asks for, carried out by senders and receivers on its NICs.

Reference: testbed/messages/control.py (Expect, Start, Collect, Cancel and their answers). All of it is the
first vCPU's but the sending, which is done by the vCPU that serves the flow's queue. Not modelled: a flow
between two NICs of the same guest.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from testbed.deadline import earliest
from testbed.guest.drivers.igbvf import IgbVfDriver
from testbed.guest.senders import Senders, VcpuSenders, Work, at_once
from testbed.guest.workloads.interrupts import InterruptWork, IpiWork, SteerWork, TimerWork
from testbed.guest.workloads.receiver import OtherLane, Receiver
from testbed.guest.workloads.requester import Requester
from testbed.guest.workloads.sender import Sender
from testbed.guest.workloads.storm import StormWork
from testbed.messages.control import Cancel, Collect, Expect, Expecting, FromProcess, Sent, Start, ToProcess
from testbed.messages.entries import FlowEntry
from testbed.native import FlowSink

QUIET_NS = 500_000_000
"""After so long without a frame of a flow the rest of it counts as lost."""


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
    """Runs on the first vCPU's loop, as `senders`; `receivers` by NIC; `send` speaks to the launcher."""

    def __init__(
        self,
        senders: Senders,
        receivers: list[Receiver],
        send: Callable[[FromProcess], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._receivers, self._send, self._clock = receivers, send, clock
        self._senders = [VcpuSenders(senders, at_once, at_once, _nobody)]
        self._post: Callable[[Callable[[], None]], None] = at_once
        self._collecting: dict[int, _Collecting] = {}
        self._where: dict[int, Receiver] = {}
        """By flow, the NIC at which something of it arrives."""
        self._interrupts: dict[int, InterruptWork | StormWork] = {}
        self._sending: dict[int, VcpuSenders] = {}
        for receiver in receivers:
            senders.join(receiver.lane)

    def share(self, senders: Sequence[VcpuSenders], post: Callable[[Callable[[], None]], None]) -> None:
        """Have all vCPUs send, the first included, each by its queues; `post` has a call made here."""
        self._senders = list(senders)
        self._post = post

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
        sending = self._senders[0].senders.deadline_ns()
        if not self._collecting:
            return sending
        due = [sending]
        due += [collecting.since_ns + QUIET_NS for collecting in self._collecting.values()]
        return earliest(due)

    def _expect(self, flow: FlowEntry) -> None:
        if flow.is_interrupts:
            self._send(Expecting(flow_id=flow.id))
            return
        receiver = self._receivers[flow.destination_nic]
        receiver.expect(flow)
        self._where[flow.id] = receiver
        self._once_all_know(lambda: self._send(Expecting(flow_id=flow.id)))

    def _once_all_know(self, then: Callable[[], None]) -> None:
        """Call `then` when every vCPU has done what was posted to it before."""
        others = self._senders[1:]
        if not others:
            then()
            return
        left = [len(others)]

        def known() -> None:
            left[0] -= 1
            if not left[0]:
                then()

        for other in others:
            other.post(partial(self._post, known))

    def _collect(self, message: Collect) -> None:
        work = self._interrupts.pop(message.flow_id, None)
        if work is not None:
            self._send(work.received())
            return
        sink = self._where[message.flow_id].sinks[message.flow_id]
        self._collecting[message.flow_id] = _Collecting(message, sink, 0, self._clock())

    def _start(self, flow: FlowEntry) -> None:
        if flow.is_interrupts:
            self._begin(flow, flow.source_vcpu, self._interrupt_work(flow))
            return
        receiver = self._receivers[flow.source_nic]
        number = flow.id % len(receiver.driver.queues) % len(self._senders)
        number = number if number in receiver.others else 0
        self._begin(flow, number, self._work(flow, receiver, number))

    def _begin(self, flow: FlowEntry, number: int, work: Work) -> None:
        vcpu = self._senders[number]
        self._sending[flow.id] = vcpu
        self._once_all_know(lambda: vcpu.post(partial(vcpu.senders.start, flow.id, work)))

    def _done(self, flow: FlowEntry, number: int) -> Callable[[Sent], None]:
        """Return what a flow's work tells when it is done, on its own vCPU."""

        def done(message: Sent) -> None:
            self._senders[number].tell(partial(self._sent, flow, message))

        return done

    def _interrupt_work(self, flow: FlowEntry) -> TimerWork | IpiWork | SteerWork | StormWork:
        source, target = self._senders[flow.source_vcpu], self._senders[flow.destination_vcpu]
        assert source.cpu is not None
        assert target.cpu is not None
        done = self._done(flow, flow.source_vcpu)
        work: TimerWork | IpiWork | SteerWork | StormWork
        if flow.kind == "storm":
            work = StormWork(flow, source.cpu.vcpu, source.cpu.interrupts.driver, done, self._clock)
        elif flow.kind == "timer":
            work = TimerWork(flow, source.cpu.timer, source.cpu.interrupts, done, self._clock)
        elif flow.kind == "steer":
            driver = self._receivers[flow.source_nic].driver
            assert isinstance(driver, IgbVfDriver)
            assert driver.steering is not None
            work = SteerWork(flow, driver.steering, done, self._clock)
        else:
            work = IpiWork(flow, source.cpu, done, self._clock)
            target.cpu.on_work = work.took_one
        self._interrupts[flow.id] = work
        return work

    def _work(self, flow: FlowEntry, receiver: Receiver, number: int) -> Work:
        done = self._done(flow, number)
        if flow.kind != "rr":
            return Sender(flow, receiver.driver, done, self._clock)
        requester = Requester(flow, receiver.driver, done, self._clock)
        receiver.add(flow.id, requester.sink)
        self._have_told(flow.id, receiver, requester, number)
        self._where[flow.id] = receiver
        return requester

    def _have_told(self, flow_id: int, receiver: Receiver, requester: Requester, number: int) -> None:
        """Have whoever takes the answers wake the vCPU that waits for them."""
        lanes = {0: OtherLane(receiver.lane, at_once), **receiver.others}
        for taker, each in lanes.items():
            if taker != number:
                wake = partial(self._senders[taker].poke, number)
                each.post(partial(each.lane.tell, flow_id, requester.sink, wake))

    def _sent(self, flow: FlowEntry, message: Sent) -> None:
        if self._sending.pop(flow.id, None) is None:
            return  # cancelled meanwhile
        self._send(message)
        if flow.kind == "rr" and not flow.comes_back:
            self._forget(flow.id)  # else this end is also asked what arrived

    def _cancel(self, flow_id: int) -> None:
        vcpu = self._sending.pop(flow_id, None)
        if vcpu is not None:
            vcpu.post(partial(vcpu.senders.cancel, flow_id))
        self._collecting.pop(flow_id, None)
        self._interrupts.pop(flow_id, None)
        self._forget(flow_id)

    def _forget(self, flow_id: int) -> None:
        receiver = self._where.pop(flow_id, None)
        if receiver is not None:
            receiver.forget(flow_id)


def _nobody(_number: int) -> None:
    """There is no other vCPU to interrupt."""
