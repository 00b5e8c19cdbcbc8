"""Workloads of interrupts: a vCPU's virtual timer, SGIs from one vCPU of a guest to another, and a function's
vector that moves from vCPU to vCPU.

Reference: ARM IHI 0069 §2.2.1 (PPIs), §4.7 (SGIs); DDI 0487 D13.2 (the generic timer). Each interrupt's time
is from its source's (the timer's compare value, the write of ICC_SGI1R, of VTEICS) to the handler's first
line. The next is sent when the last one has been taken: two of one number would be one. Not modelled: several
timers of one vCPU.
"""

import time
from array import array
from collections.abc import Callable
from typing import Final, Protocol

from testbed.guest.drivers.igbvf import SteeredVector
from testbed.guest.interrupts import Interrupts
from testbed.guest.timer import VirtualTimer
from testbed.guest.workloads.requester import quantiles
from testbed.messages.control import Received, Sent
from testbed.messages.entries import FlowEntry

LOST_NS: Final = 500_000_000
"""An interrupt that is not taken for so long is lost; nothing sent before counts as taken afterwards."""
_LOOK_NS: Final = 1_000_000
_NS_PER_SECOND: Final = 1e9


class InterruptWork:
    """What both kinds have; `step`, `start` and `wake_ns` as a sender of frames."""

    queue = None
    starved = False

    def __init__(self, flow: FlowEntry, done: Callable[[Sent], None], clock: Callable[[], int]) -> None:
        self.flow, self._done, self._clock = flow, done, clock
        self.sent = self.taken = self.spurious = 0
        self.finished = False
        self._latencies_ns = array("q")
        self._started_ns = self._due_ns = 0
        self._due = False
        """One is under way; whoever takes it says that it is not."""

    def start(self) -> None:
        """The flow's time begins."""
        self._started_ns = self._clock()

    def took(self, since_ns: int) -> None:
        """The handler's first act: one that was sent at this time has come."""
        now_ns = self._clock()
        if not self._due or now_ns < since_ns:
            self.spurious += 1
            return
        self._latencies_ns.append(now_ns - since_ns)
        self.taken += 1
        self._due = False

    def received(self) -> Received:
        """Return what was taken; `duplicated` are those that nobody had sent."""
        seconds = (self._clock() - self._started_ns) / _NS_PER_SECOND
        none = {"reordered": 0, "corrupted": 0, "bytes": 0}
        return Received(
            flow_id=self.flow.id, received=self.taken, duplicated=self.spurious, seconds=seconds, **none
        )

    @property
    def _is_over(self) -> bool:
        if self.flow.count:
            return self.sent >= self.flow.count
        return self._clock() - self._started_ns >= self.flow.duration_ns

    @property
    def _is_lost(self) -> bool:
        return self._due and self._clock() - self._due_ns >= LOST_NS

    def _finish(self) -> None:
        self.finished = True
        self._done(
            Sent(
                flow_id=self.flow.id,
                sent=self.sent,
                answered=self.taken,
                seconds=(self._clock() - self._started_ns) / _NS_PER_SECOND,
                latency_ns=quantiles(self._latencies_ns),
            )
        )


class TimerWork(InterruptWork):
    """Has a vCPU's timer fire again and again; runs on that vCPU."""

    def __init__(
        self,
        flow: FlowEntry,
        timer: VirtualTimer,
        interrupts: Interrupts,
        done: Callable[[Sent], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(flow, done, clock)
        self._timer, self._interrupts = timer, interrupts
        self._is_set_up = False

    def step(self) -> bool:
        """Arm the timer, or take its physical interrupt where it is due; True: something happened."""
        if not self._is_set_up:
            self._is_set_up = True
            self._timer.start(self._interrupts, self._fired)
            self._due_ns = self._clock()
            return self._arm()
        if self._due and not self._is_lost:
            return self._timer.tick()
        self._timer.stop()
        if self._is_over:
            self._finish()
            return True
        return self._arm()

    def wake_ns(self) -> int | None:
        """Return when to step although nothing happened: the vCPU knows when its timer is due."""
        return self._due_ns + LOST_NS if self._due else self._started_ns

    def _arm(self) -> bool:
        """Fire at the next multiple of the interval that has not passed."""
        late_ns = max(0, self._clock() - self._due_ns)
        self._due_ns += self.flow.interval_ns * (1 + late_ns // self.flow.interval_ns)
        self._due = True
        self.sent += 1
        self._timer.arm(self._due_ns)
        return True

    def _fired(self, at_ns: int) -> bool:
        self.took(at_ns)
        return True


class IpiPort(Protocol):
    """How a vCPU interrupts another, for a workload."""

    def send_work(self, number: int) -> None:
        """Send vCPU `number` the workloads' SGI."""
        ...


class IpiWork(InterruptWork):
    """Sends SGIs from one vCPU to another; runs on the first, `took_one` on the other."""

    def __init__(
        self,
        flow: FlowEntry,
        port: IpiPort,
        done: Callable[[Sent], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(flow, done, clock)
        self._port = port
        self._next_ns = 0

    def step(self) -> bool:
        """Send the next one when its time has come and the last one has been taken; True: it was sent."""
        if self._due and not self._is_lost:
            return False
        if self._is_over:
            self._due = False
            self._finish()
            return True
        now_ns = self._clock()
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + self.flow.interval_ns
        self.sent += 1
        self._due, self._due_ns = True, self._clock()
        self._port.send_work(self.flow.destination_vcpu)
        return True

    def wake_ns(self) -> int | None:
        """Return when to step although nothing happened: that one was taken is not told by an interrupt."""
        return self._clock() + _LOOK_NS if self._due else self._next_ns

    def took_one(self) -> bool:
        """The other vCPU's handler."""
        self.took(self._due_ns)
        return True


class SteerWork(InterruptWork):
    """Has a function raise one vector again and again, and steers it to the next vCPU while it is under way;
    runs on the vCPU that has the function's registers.
    """

    def __init__(
        self,
        flow: FlowEntry,
        vector: SteeredVector,
        done: Callable[[Sent], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(flow, done, clock)
        self._vector = vector
        self._vcpu = 0
        self._next_ns = 0

    def start(self) -> None:
        """The flow's time begins; the vector is the workload's from now on."""
        self._vector.begin(self.took_one)
        super().start()

    def step(self) -> bool:
        """Raise the next one when its time has come and the last one has been taken; True: it was raised."""
        if self._due and not self._is_lost:
            return False
        if self._is_over:
            self._due = False
            self._vector.end()
            self._finish()
            return True
        now_ns = self._clock()
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + self.flow.interval_ns
        self.sent += 1
        self._due, self._due_ns = True, self._clock()
        self._vector.fire()
        self._vcpu = (self._vcpu + 1) % self._vector.vcpus
        self._vector.steer(self._vcpu)
        return True

    def wake_ns(self) -> int | None:
        """Return when to step although nothing happened: that one was taken is not told by an interrupt."""
        return self._clock() + _LOOK_NS if self._due else self._next_ns

    def took_one(self) -> bool:
        """The handler, on whichever vCPU."""
        self.took(self._due_ns)
        return True
