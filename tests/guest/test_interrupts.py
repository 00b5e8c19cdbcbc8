"""How a vCPU takes interrupts: edges late and once for many, levels at once."""

import pytest

from testbed.guest.interrupts import LATE_NS, Interrupts
from testbed.native import Pinned
from testbed.observe.counters import Counters
from testbed.spec import vcpu_page as spec
from testbed.vmm.interrupt_line import VcpuEdge, VcpuLevel
from tests.support.recorders import ManualClock, RecordingDoorbell


class Bench:
    """The vmm's lines at one side of a page, the vCPU's interrupts at the other."""

    def __init__(self) -> None:
        self.clock, self.page = ManualClock(), Pinned(bytearray(spec.VCPU_PAGE.size))
        self.counters = Counters(("interrupts.virtio", "interrupts.e1000"))
        self.interrupts = Interrupts(self.page, self.counters, self.clock)
        self.handled: list[int] = []
        self._bell, self._vmm_counters = (
            RecordingDoorbell(self.page),
            Counters(("interrupts.virtio", "interrupts.e1000")),
        )

    def edge(self, intid: int) -> VcpuEdge:
        self.interrupts.on_edge(intid, lambda: self.handle(intid))
        return VcpuEdge(self.page, intid, self._bell, self._vmm_counters, "interrupts.virtio")

    def level(self, intid: int) -> VcpuLevel:
        self.interrupts.on_level(intid, lambda: self.handle(intid))
        return VcpuLevel(self.page, intid, self._bell, self._vmm_counters, "interrupts.virtio")

    def handle(self, intid: int) -> bool:
        self.handled.append(intid)
        return True


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_interrupts_with_nothing_pending_do_nothing(bench: Bench) -> None:
    assert not bench.interrupts.take()
    assert not bench.interrupts.serve()
    assert bench.interrupts.deadline_ns() is None


def test_interrupts_edge_is_taken_at_once_and_handled_late(bench: Bench) -> None:
    bench.edge(48).pulse()
    assert not bench.interrupts.take()
    assert not bench.interrupts.watched.ready
    assert bench.interrupts.deadline_ns() == bench.clock() + LATE_NS
    bench.clock.advance(LATE_NS - 1)
    assert not bench.interrupts.serve()
    bench.clock.advance(1)
    assert bench.interrupts.serve()
    assert (bench.handled, bench.interrupts.deadline_ns()) == ([48], None)


def test_interrupts_edges_until_then_are_handled_once(bench: Bench) -> None:
    first, second = bench.edge(48), bench.edge(1000)
    for _ in range(3):
        first.pulse()
        bench.interrupts.take()
        bench.clock.advance(LATE_NS // 4)
    second.pulse()
    bench.interrupts.take()
    bench.clock.advance(LATE_NS // 4)
    assert bench.interrupts.serve()
    assert bench.handled == [48, 1000]
    assert bench.counters["interrupts.virtio"] == 4


def test_interrupts_edge_while_another_is_handled_is_not_lost(bench: Bench) -> None:
    edge = bench.edge(48)
    edge.pulse()
    bench.interrupts.take()
    bench.clock.advance(LATE_NS)
    edge.pulse()
    bench.interrupts.serve()
    assert bench.interrupts.watched.ready
    bench.interrupts.take()
    bench.clock.advance(LATE_NS)
    bench.interrupts.serve()
    assert bench.handled == [48, 48]


def test_interrupts_level_is_handled_for_as_long_as_it_is_asserted(bench: Bench) -> None:
    line = bench.level(32)
    line.set_level(True)
    assert [bench.interrupts.take(), bench.interrupts.take()] == [True, True]
    line.set_level(False)
    assert not bench.interrupts.take()
    assert bench.handled == [32, 32]


def test_interrupts_that_nobody_handles_are_let_go(bench: Bench) -> None:
    VcpuEdge(bench.page, 99, RecordingDoorbell(bench.page), bench.counters, "interrupts.virtio").pulse()
    assert not bench.interrupts.take()
    bench.clock.advance(LATE_NS)
    assert not bench.interrupts.serve()
    assert bench.interrupts.deadline_ns() is None


def test_interrupts_vector_that_masks_its_source_is_handled_at_once(bench: Bench) -> None:
    late, vector = bench.edge(48), bench.edge(49)
    bench.interrupts.on_vector(49, lambda: bench.handle(49))
    late.pulse()
    vector.pulse()

    assert bench.interrupts.take()
    assert bench.handled == [49]
    bench.clock.advance(LATE_NS)
    assert bench.interrupts.serve()
    assert bench.handled == [49, 48]
