"""One vCPU of a guest with all that is its own: accesses, interrupts, timer, what it sends, what it receives.

Reference: design, "Interrupt virtualization". Each vCPU has a page, a loop and, but for the first, a thread;
nothing here is used by another thread but what says so. The first vCPU brings devices up and takes their
interrupts; where queue pairs of a virtio-net NIC are other vCPUs', it wakes these by an SGI, as a kernel
steers received packets. Not modelled: a vCPU that is stopped or started again (PSCI).
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from testbed.deadline import earliest
from testbed.guest.drivers.driver import NetQueue
from testbed.guest.drivers.virtio_mmio import VirtioMmioPort
from testbed.guest.drivers.virtio_net import PairPlace
from testbed.guest.gic import GicDriver
from testbed.guest.interrupts import Interrupts
from testbed.guest.senders import Senders, VcpuSenders, at_once
from testbed.guest.timer import VirtualTimer
from testbed.guest.vcpu import Vcpu
from testbed.guest.workloads.lane import Lane
from testbed.guest.workloads.receiver import OtherLane, Receiver
from testbed.memory.guest import GuestMemory
from testbed.messages.calls import Calls
from testbed.messages.doorbell import Doorbell
from testbed.messages.loop import Loop
from testbed.native import Gate, Pinned, VirtualCpuInterface
from testbed.observe.counters import Counters

SGI_RESCHEDULE: Final = 0
"""Asks a vCPU to look at what is its own to do."""
SGI_WORK: Final = 1
"""Sent by workloads."""


class Processor:
    """vCPU `number` of a guest, on `loop`; `calls` are how other threads reach it."""

    def __init__(
        self,
        number: int,
        page: Pinned,
        memory: GuestMemory,
        kick: Doorbell,
        loop: Loop,
        counters: Counters,
        spin_ns: int,
    ) -> None:
        self.number, self.loop, self.counters, self._kick = number, loop, counters, kick
        self.vcpu = Vcpu(page, memory, kick, loop.wait_for, counters, spin_ns)
        gic = GicDriver(self.vcpu, VirtualCpuInterface(page), number)
        self.interrupts = Interrupts(gic, self.vcpu, counters)
        self.timer = VirtualTimer(page, self.vcpu)
        self.senders = Senders(loop)
        self.calls = Calls(loop.descriptors)
        self.on_work: Callable[[], bool] = _look_again
        """Handles the workloads' SGI."""

    def start(self, *, has_peers: bool) -> None:
        """Enter the guest, with an interrupt controller that is awake."""
        self.interrupts.driver.interface.enter()
        self.interrupts.driver.start()
        if has_peers:
            self.interrupts.on_private(SGI_RESCHEDULE, _look_again, "interrupts.ipi")
            self.interrupts.on_private(SGI_WORK, self._worked, "interrupts.ipi")

    def _worked(self) -> bool:
        return self.on_work()

    def run_interrupts(self) -> None:
        """Take interrupts from now on, as the loop finds them."""
        self.loop.watch.add(self.interrupts.watched, self.interrupts.take)

    def serve(self, lane: Lane, queue: NetQueue) -> None:
        """Take what arrives in a queue from now on."""
        self.loop.watch.add(queue.rx_watch, partial(lane.step, queue))
        self.loop.watch.add(queue.tx_watch, partial(lane.answer_waiting, queue))
        queue.tx_watch.active = False  # looked at only while somebody waits for room
        self.senders.join(lane)

    def poke(self, number: int) -> None:
        """Have another vCPU look at what it has to do; on this one's thread."""
        self.interrupts.driver.send_sgi(SGI_RESCHEDULE, 1 << number)

    def send_work(self, number: int) -> None:
        """Send another vCPU the workloads' SGI; on this one's thread."""
        self.interrupts.driver.send_sgi(SGI_WORK, 1 << number)

    def deadline_ns(self) -> int | None:
        """Return when its interrupts or its timer have work."""
        return earliest((self.interrupts.deadline_ns(), self.timer.deadline_ns()))

    def tick(self) -> None:
        """Do what has fallen due, and publish what was counted."""
        self.timer.tick()
        self.interrupts.serve()
        self.counters.set("bell.asked", self._kick.asked)
        self.counters.set("bell.sent", self._kick.sent)


class Secondary(Processor):
    """A vCPU behind the first, in a thread of its own."""

    def run_alone(self) -> None:
        """Have the loop do all of this vCPU's work."""
        self.run_interrupts()
        self.loop.deadline = self._own_deadline_ns
        self.loop.on_tick = self.tick

    def _own_deadline_ns(self) -> int | None:
        due = (self.deadline_ns(), self.senders.deadline_ns())
        return earliest(due)


class VcpuSpread:
    """Queue pairs over vCPUs, pair N on vCPU N modulo their number."""

    def __init__(self, processors: Sequence[Processor]) -> None:
        self._processors = processors

    def owner(self, pair: int) -> Processor:
        """Return whose a pair is."""
        return self._processors[pair % len(self._processors)]

    def place(self, pair: int, mmio_gpa: int) -> PairPlace:
        """See `testbed.guest.nics.Spread`."""
        owner = self.owner(pair)
        return VirtioMmioPort(owner.vcpu, mmio_gpa), owner.counters

    def steer(self, queues: Sequence[NetQueue]) -> None:
        """See `testbed.guest.nics.Spread`.

        An interrupt came because a queue's vCPU was about to sleep: it is told even if it still runs.
        """
        first = self._processors[0]
        ready = {self.owner(pair).number for pair, queue in enumerate(queues) if _has_work(queue)}
        for number in ready - {first.number}:
            first.poke(number)

    def share(self, receiver: Receiver, foreign: str, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Have each vCPU take what arrives in its queues of a NIC; `foreign` as in `Lane`."""
        gate = Gate()
        receiver.lane.inspector.share(gate)
        for pair, queue in enumerate(receiver.driver.queues):
            owner = self.owner(pair)
            if owner.number == 0:
                owner.serve(receiver.lane, queue)
                continue
            if owner.number not in receiver.others:
                lane = Lane(receiver.driver.mtu, owner.counters, foreign, clock)
                lane.inspector.share(gate)
                receiver.others[owner.number] = OtherLane(lane, owner.calls.post)
            owner.calls.post(partial(owner.serve, receiver.others[owner.number].lane, queue))

    def senders(self) -> list[VcpuSenders]:
        """Return what sends on each vCPU."""
        first = self._processors[0]
        others = (
            VcpuSenders(other.senders, other.calls.post, first.calls.post, other.poke, other)
            for other in self._processors[1:]
        )
        return [VcpuSenders(first.senders, at_once, at_once, first.poke, first), *others]


def _has_work(queue: NetQueue) -> bool:
    return queue.rx_watch.ready or (queue.tx_watch.active and queue.tx_watch.ready)


def _look_again() -> bool:
    """The loop's next turn does."""
    return True
