"""How a vCPU takes interrupts: edges late and once for many, levels at once, timers and other vCPUs' SGIs."""

import pytest

from testbed.guest.gic import GicDriver
from testbed.guest.interrupts import LATE_NS, TAKEN_MAX, Interrupts
from testbed.guest.timer import VirtualTimer
from testbed.observe.counters import Counters
from testbed.spec import gic
from tests.support.vgic_rig import VgicRig

COUNTERS = (
    "interrupts.virtio",
    "interrupts.e1000",
    "interrupts.timer",
    "interrupts.ipi",
    "exits.maintenance",
)


class Bench:
    """The vmm's controller at one side of a page, a vCPU's interrupts at the other."""

    def __init__(self, rig: VgicRig | None = None, number: int = 0) -> None:
        self.rig = rig or VgicRig(ready=False)
        self.clock, self.vgic = self.rig.clock, self.rig.vgic
        self.guest = self.rig.guest(number)
        self.counters = Counters(COUNTERS)
        driver = GicDriver(self.guest, self.guest.interface, number)
        driver.start()
        self.interrupts = Interrupts(driver, self.guest, self.counters, self.clock)
        self.handled: list[int] = []

    def edge(self, intid: int) -> None:
        self.interrupts.driver.enable_spi(intid, edge=True)
        self.interrupts.on_edge(intid, lambda: self._handle(intid), "interrupts.virtio")

    def level(self, intid: int, served: bool = True) -> None:
        self.interrupts.driver.enable_spi(intid, edge=False)
        self.interrupts.on_level(intid, lambda: self._handle(intid, served), "interrupts.e1000")

    def pulse(self, intid: int) -> bool:
        self.vgic.pulse(intid)
        return self.interrupts.take()

    def _handle(self, intid: int, lowers: bool = False) -> bool:
        self.handled.append(intid)
        if lowers:
            with self.rig.out():
                self.vgic.set_level(intid, False)
        return True


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_interrupts_with_nothing_pending_do_nothing(bench: Bench) -> None:
    assert not bench.interrupts.take()
    assert not bench.interrupts.serve()
    assert bench.interrupts.deadline_ns() is None


def test_interrupts_edge_is_taken_at_once_and_handled_late(bench: Bench) -> None:
    bench.edge(48)
    assert not bench.pulse(48)
    assert not bench.interrupts.watched.ready
    assert bench.interrupts.deadline_ns() == bench.clock() + LATE_NS
    bench.clock.advance(LATE_NS - 1)
    assert not bench.interrupts.serve()
    bench.clock.advance(1)
    assert bench.interrupts.serve()
    assert (bench.handled, bench.interrupts.deadline_ns()) == ([48], None)


def test_interrupts_edges_until_then_are_handled_once(bench: Bench) -> None:
    bench.edge(48)
    bench.edge(1000)
    for _ in range(3):
        bench.pulse(48)
        bench.clock.advance(LATE_NS // 4)
    bench.pulse(1000)
    bench.clock.advance(LATE_NS // 4)
    assert bench.interrupts.serve()
    assert bench.handled == [48, 1000]
    assert bench.counters["interrupts.virtio"] == 4


def test_interrupts_edge_while_another_is_handled_is_not_lost(bench: Bench) -> None:
    bench.edge(48)
    bench.pulse(48)
    bench.clock.advance(LATE_NS)
    bench.vgic.pulse(48)
    bench.interrupts.serve()
    assert bench.interrupts.watched.ready
    bench.interrupts.take()
    bench.clock.advance(LATE_NS)
    bench.interrupts.serve()
    assert bench.handled == [48, 48]


def test_interrupts_level_is_handled_until_it_falls(bench: Bench) -> None:
    bench.level(33)
    bench.vgic.set_level(33, True)
    assert [bench.interrupts.take(), bench.interrupts.take()] == [True, False]
    assert (bench.handled, bench.counters["exits.maintenance"]) == ([33], 0)


def test_interrupts_vector_that_masks_its_source_is_handled_at_once(bench: Bench) -> None:
    bench.edge(48)
    bench.edge(49)
    bench.interrupts.on_vector(49, lambda: bench._handle(49), "interrupts.virtio")
    bench.vgic.pulse(48)
    assert bench.pulse(49)
    assert bench.handled == [49]
    bench.clock.advance(LATE_NS)
    assert bench.interrupts.serve()
    assert bench.handled == [49, 48]


def test_interrupts_that_nobody_handles_are_ended(bench: Bench) -> None:
    bench.interrupts.driver.enable_spi(99, edge=True)
    assert not bench.pulse(99)
    assert not bench.pulse(99)
    assert bench.interrupts.deadline_ns() is None
    assert bench.guest.interface.running_priority == gic.PRIORITY_IDLE


def test_interrupts_more_than_list_registers_are_all_taken(bench: Bench) -> None:
    for intid in range(40, 52):
        bench.edge(intid)
        bench.vgic.pulse(intid)
    bench.interrupts.take()
    bench.clock.advance(LATE_NS)
    bench.interrupts.serve()
    assert bench.handled == list(range(40, 52))
    assert bench.counters["exits.maintenance"] >= 2


def test_interrupts_that_do_not_end_leave_the_rest_of_the_guest_its_turn(bench: Bench) -> None:
    bench.level(49, served=False)
    with bench.rig.out():
        bench.vgic.set_level(49, True)
    assert bench.interrupts.take()
    assert len(bench.handled) == TAKEN_MAX
    assert bench.interrupts.watched.ready


def test_interrupts_wait_until_the_hypervisor_is_done(bench: Bench) -> None:
    bench.edge(48)
    bench.guest.interface.arm()
    registers = bench.rig.vcpus[0].registers
    assert registers.claim()
    bench.guest.interface.disarm()
    assert not bench.interrupts.take()
    registers.release()
    bench.pulse(48)
    assert bench.counters["interrupts.virtio"] == 1


def test_timer_fires_once_at_its_time_by_an_exit(bench: Bench) -> None:
    timer = VirtualTimer(bench.guest.page, bench.guest, bench.clock)
    fired: list[int] = []

    def fire(at_ns: int) -> bool:
        fired.append(at_ns)
        return True

    timer.start(bench.interrupts, fire)
    exits, at_ns = bench.guest.exits, bench.clock() + 1000
    timer.arm(at_ns)
    assert (timer.tick(), timer.deadline_ns(), bench.guest.exits) == (False, at_ns, exits)
    bench.clock.advance(1000)
    assert timer.tick()
    assert (timer.tick(), timer.deadline_ns()) == (False, None)  # the physical interrupt is active
    assert bench.interrupts.take()
    assert (fired, bench.guest.exits, bench.counters["interrupts.timer"]) == ([at_ns], exits + 1, 1)
    assert (timer.tick(), bench.interrupts.take()) == (False, False)


def test_timer_armed_by_its_handler_fires_again(bench: Bench) -> None:
    timer = VirtualTimer(bench.guest.page, bench.guest, bench.clock)
    fired: list[int] = []

    def again(at_ns: int) -> bool:
        fired.append(at_ns)
        timer.arm(at_ns)  # in the past: it is due as soon as this one is ended
        return True

    timer.start(bench.interrupts, again)
    timer.arm(bench.clock())
    for _ in range(3):
        timer.tick()
        bench.interrupts.take()
    assert fired == [bench.clock()] * 3


def test_timer_that_is_stopped_does_not_fire(bench: Bench) -> None:
    timer = VirtualTimer(bench.guest.page, bench.guest, bench.clock)
    timer.start(bench.interrupts, lambda _at_ns: True)
    timer.arm(bench.clock())
    timer.tick()
    timer.stop()
    bench.guest.take_physical_interrupt()
    assert not bench.interrupts.take()


def test_sgi_reaches_the_vcpus_that_are_named() -> None:
    rig = VgicRig(3, ready=False)
    benches = [Bench(rig, number) for number in range(3)]
    for bench in benches:
        bench.interrupts.on_private(5, lambda b=bench: b._handle(5), "interrupts.ipi")  # type: ignore[misc]
    benches[0].interrupts.driver.send_sgi(5, 0b110)
    assert [bench.interrupts.take() for bench in benches] == [False, True, True]
    assert [bench.counters["interrupts.ipi"] for bench in benches] == [0, 1, 1]
