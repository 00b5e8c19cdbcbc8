"""Workloads of interrupts: every one is accounted as taken, lost or spurious, with its time."""

from collections.abc import Callable

from testbed.guest.timer import VirtualTimer
from testbed.guest.workloads.interrupts import LOST_NS, IpiWork, SteerWork, TimerWork
from testbed.messages.control import Sent
from tests.guest.rig_driver import flow
from tests.guest.test_interrupts import Bench
from tests.support.recorders import ManualClock
from tests.support.vgic_rig import VgicRig

MS = 1_000_000


class TimerBench(Bench):
    """A vCPU whose timer is worked."""

    def __init__(self, **changes: object) -> None:
        super().__init__()
        self.timer = VirtualTimer(self.guest.page, self.guest, self.clock)
        self.said: list[Sent] = []
        entry = flow(kind="timer", interval_ns=MS, **changes)
        self.work = TimerWork(entry, self.timer, self.interrupts, self.said.append, self.clock)
        self.work.start()

    def run(self, steps: int, step_ns: int) -> None:
        for _ in range(steps):
            while not self.work.finished and self.work.step():
                self.interrupts.take()
            self.clock.advance(step_ns)


def test_timer_work_fires_at_every_multiple_of_its_interval() -> None:
    bench = TimerBench(count=5)
    for _ in range(5):
        assert bench.work.step()  # armed
        bench.clock.advance(MS - 700 if bench.work.taken else MS)
        assert bench.work.step()  # left for the hypervisor
        bench.clock.advance(700)
        assert bench.interrupts.take()
    assert bench.work.step()
    assert [(sent.sent, sent.answered) for sent in bench.said] == [(5, 5)]
    assert bench.said[0].latency_ns == {"p50": 700, "p99": 700, "p999": 700}
    assert bench.work.received().received == 5
    assert bench.timer.deadline_ns() is None


def test_timer_work_that_comes_late_leaves_out_what_has_passed() -> None:
    bench = TimerBench(count=0, duration_ns=10 * MS)
    bench.run(6, 2 * MS + MS // 2)
    assert [(sent.sent, sent.answered) for sent in bench.said] == [(4, 4)]


def test_timer_work_without_a_handler_has_lost_one() -> None:
    bench = TimerBench(count=2)
    bench.work.step()
    bench.clock.advance(2 * MS)
    assert bench.work.step()  # its physical interrupt, which nobody takes
    bench.clock.advance(LOST_NS)
    bench.work.step()
    bench.clock.advance(MS)
    assert bench.interrupts.take()
    bench.work.step()
    sent = bench.said[0]
    assert (sent.sent, sent.answered) == (2, 1)


class IpiBench:
    """Two vCPUs, one of which interrupts the other."""

    def __init__(self, **changes: object) -> None:
        rig = VgicRig(2, ready=False)
        self.benches = [Bench(rig, number) for number in range(2)]
        self.clock = rig.clock
        self.said: list[Sent] = []
        entry = flow(kind="ipi", interval_ns=MS, destination_vcpu=1, **changes)
        self.work = IpiWork(entry, self, self.said.append, self.clock)
        self.benches[1].interrupts.on_private(1, self.work.took_one, "interrupts.ipi")
        self.work.start()

    def send_work(self, number: int) -> None:
        self.benches[0].interrupts.driver.send_sgi(1, 1 << number)

    def take(self) -> bool:
        return self.benches[1].interrupts.take()


def test_ipi_work_sends_the_next_when_the_last_was_taken_and_its_time_has_come() -> None:
    bench = IpiBench(count=2)
    assert bench.work.step()
    bench.clock.advance(300)
    assert (bench.work.step(), bench.take()) == (False, True)
    assert (bench.work.step(), bench.work.wake_ns()) == (False, bench.clock() - 300 + MS)
    bench.clock.advance(MS)
    assert (bench.work.step(), bench.take()) == (True, True)
    assert (bench.work.step(), bench.work.finished) == (True, True)
    assert [(sent.sent, sent.answered, sent.latency_ns) for sent in bench.said] == [
        (2, 2, {"p50": 0, "p99": 300, "p999": 300})
    ]


def test_ipi_work_counts_what_nobody_sent_and_what_never_came() -> None:
    bench = IpiBench(count=1)
    bench.send_work(1)
    assert bench.take()
    assert bench.work.received().duplicated == 1
    assert bench.work.step()
    bench.clock.advance(LOST_NS)
    assert (bench.work.step(), bench.work.finished) == (True, True)
    assert (bench.said[0].sent, bench.said[0].answered) == (1, 0)
    assert bench.take()
    assert (bench.work.received().received, bench.work.received().duplicated) == (0, 2)


class SteerBench:
    """A vector whose interrupts the test delivers."""

    vcpus = 2

    def __init__(self, **changes: object) -> None:
        self.clock = ManualClock()
        self.did: list[str] = []
        self.said: list[Sent] = []
        self.handler: Callable[[], bool] = lambda: False
        entry = flow(kind="steer", interval_ns=MS, **changes)
        self.work = SteerWork(entry, self, self.said.append, self.clock)
        self.work.start()

    def begin(self, handler: Callable[[], bool]) -> None:
        self.handler = handler

    def end(self) -> None:
        self.did.append("end")

    def steer(self, vcpu: int) -> None:
        self.did.append(f"to {vcpu}")

    def fire(self) -> None:
        self.did.append("fire")


def test_steer_work_moves_the_vector_while_each_interrupt_is_under_way() -> None:
    bench = SteerBench(count=2)
    assert bench.work.step()
    bench.clock.advance(400)
    assert (bench.work.step(), bench.handler()) == (False, True)
    bench.clock.advance(MS)
    assert (bench.work.step(), bench.handler(), bench.work.step()) == (True, True, True)
    assert bench.did == ["fire", "to 1", "fire", "to 0", "end"]
    assert bench.work.finished
    assert [(sent.sent, sent.answered) for sent in bench.said] == [(2, 2)]
    assert bench.said[0].latency_ns == {"p50": 0, "p99": 400, "p999": 400}


def test_steer_work_counts_what_came_twice_and_what_never_came() -> None:
    bench = SteerBench(count=2)
    bench.work.step()
    assert (bench.handler(), bench.handler()) == (True, True)
    bench.clock.advance(MS)
    bench.work.step()
    bench.clock.advance(LOST_NS)
    assert (bench.work.step(), bench.work.finished) == (True, True)
    received = bench.work.received()
    assert (bench.said[0].sent, received.received, received.duplicated) == (2, 1, 1)
