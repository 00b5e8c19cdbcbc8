"""Interrupt lines: a bit in the vCPU's page, and a bell only where the bit rises."""

import mmap

import pytest

from testbed.native import MaskSet, Pinned
from testbed.observe.counters import Counters
from testbed.spec import vcpu_page as spec
from testbed.vmm.interrupt_line import VcpuEdge, VcpuLevel
from tests.support.recorders import RecordingDoorbell


class Bench:
    """A page and what a vCPU sees in it."""

    def __init__(self) -> None:
        self.page = Pinned(mmap.mmap(-1, spec.VCPU_PAGE.size))
        self.bell = RecordingDoorbell(self.page, spec.BELL_TO_VCPU)
        self.counters = Counters(("interrupts.virtio",))
        self.pending = MaskSet(self.page, spec.VCPU_PAGE.offset("pending"), 2 * spec.PENDING_WORDS)

    def edge(self, intid: int) -> VcpuEdge:
        return VcpuEdge(self.page, intid, self.bell, self.counters, "interrupts.virtio")

    def level(self, intid: int) -> VcpuLevel:
        return VcpuLevel(self.page, intid, self.bell, self.counters, "interrupts.virtio")

    def rung(self) -> tuple[int, int]:
        """Return (bells rung, interrupts counted)."""
        return self.bell.asked, self.counters["interrupts.virtio"]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("intid", [0, 48, 63, 64, 1023])
def test_edge_is_pending_until_it_is_taken(bench: Bench, intid: int) -> None:
    bench.edge(intid).pulse()
    assert bench.pending.ready
    assert bench.pending.take(spec.PENDING_WORDS) == [intid]
    assert bench.pending.take(spec.PENDING_WORDS) == []
    assert bench.rung() == (1, 1)


def test_edge_that_is_pending_already_rings_nobody(bench: Bench) -> None:
    edge = bench.edge(48)
    edge.pulse()
    edge.pulse()
    assert bench.rung() == (1, 1)
    bench.pending.take(spec.PENDING_WORDS)
    edge.pulse()
    assert bench.rung() == (2, 2)


@pytest.mark.parametrize("intid", [0, 48, 1023])
def test_level_is_pending_for_as_long_as_it_is_asserted(bench: Bench, intid: int) -> None:
    line = bench.level(intid)
    seen = []
    for asserted in (True, True, False, False, True):
        line.set_level(asserted)
        seen.append(bench.pending.bits(spec.PENDING_WORDS))
    assert seen == [[intid], [intid], [], [], [intid]]
    assert bench.rung() == (2, 2)


def test_lines_of_one_word_do_not_touch_each_other(bench: Bench) -> None:
    bench.edge(40).pulse()
    bench.edge(41).pulse()
    first, second = bench.level(40), bench.level(41)
    first.set_level(True)
    second.set_level(True)
    first.set_level(False)
    assert bench.pending.bits(spec.PENDING_WORDS) == [41]
    assert bench.pending.take(spec.PENDING_WORDS) == [40, 41]
