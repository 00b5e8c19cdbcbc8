"""What one vCPU of a guest sends: flows under way on the queues that it serves, one step a turn of its loop.

Not modelled: a flow that changes its vCPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from testbed.deadline import earliest
from testbed.guest.drivers.driver import NetQueue
from testbed.guest.interrupts import Interrupts
from testbed.guest.timer import VirtualTimer
from testbed.guest.vcpu import Vcpu
from testbed.guest.workloads.interrupts import IpiWork, SteerWork, TimerWork
from testbed.guest.workloads.lane import Lane
from testbed.guest.workloads.requester import Requester
from testbed.guest.workloads.sender import Sender
from testbed.guest.workloads.storm import StormWork

Work = Sender | Requester | TimerWork | IpiWork | SteerWork | StormWork
Action = Callable[[], bool]


class Runner(Protocol):
    """What runs every action in `runnable` at every turn: the vCPU's loop."""

    runnable: dict[Action, None]


class Senders:
    """Flows under way on a vCPU; belongs to its thread."""

    def __init__(self, loop: Runner) -> None:
        self._loop = loop
        self._works: dict[int, tuple[Work, Action]] = {}
        self._lanes: list[Lane] = []

    def join(self, lane: Lane) -> None:
        """Share the buffers of a lane's queues with its answers."""
        if lane not in self._lanes:
            self._lanes.append(lane)
            lane.on_owing = self._look_for_room

    def start(self, flow_id: int, work: Work) -> None:
        """Begin a flow; it tells by itself when it is done."""

        def step() -> bool:
            moved = work.step()
            if work.finished:
                self.cancel(flow_id)
            queue = work.queue
            if queue is not None and (work.starved or queue.tx_watch.active):  # else nobody lacks buffers
                self._look_for_room(queue)
            return moved

        self._works[flow_id] = work, step
        self._loop.runnable[step] = None
        work.start()

    def cancel(self, flow_id: int) -> None:
        """End a flow; nothing happens where it has ended."""
        work, step = self._works.pop(flow_id, (None, None))
        if work is not None and step is not None:
            self._loop.runnable.pop(step, None)
            self._look_for_room(work.queue)

    def deadline_ns(self) -> int | None:
        """Return when a flow is to step although nothing happens."""
        return earliest([work.wake_ns() for work, _step in self._works.values()]) if self._works else None

    def _look_for_room(self, queue: NetQueue | None) -> None:
        """Have sent buffers wake us only while somebody lacks them: else they would keep us from sleeping."""
        if queue is None:
            return
        starved = any(work.starved for work, _step in self._works.values() if work.queue is queue)
        starved = starved or any(lane.owes(queue) for lane in self._lanes)
        if queue.tx_watch.active != starved:
            queue.tx_watch.active = starved


class InterruptingCpu(Protocol):
    """A vCPU as workloads of interrupts have it."""

    vcpu: Vcpu
    timer: VirtualTimer
    interrupts: Interrupts
    on_work: Callable[[], bool]
    """Handles the workloads' SGI."""

    def send_work(self, number: int) -> None:
        """Send vCPU `number` the workloads' SGI."""
        ...


def at_once(call: Callable[[], None]) -> None:
    """Have a call made on a thread that is this one."""
    call()


@dataclass(frozen=True, slots=True)
class VcpuSenders:
    """The sending side of a vCPU as the first one has it."""

    senders: Senders
    post: Callable[[Callable[[], None]], None]
    """Has a call made on its thread."""
    tell: Callable[[Callable[[], None]], None]
    """Has a call made on the first vCPU's thread; for its own."""
    poke: Callable[[int], None]
    """Interrupts another vCPU; for its own."""
    cpu: InterruptingCpu | None = None
