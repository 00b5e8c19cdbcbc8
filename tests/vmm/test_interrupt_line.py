"""Interrupts of devices: what a vCPU that waits, or runs, is given and how it is told."""

import pytest

from testbed.guest.gic import GicDriver
from testbed.observe.counters import Counters
from testbed.spec import gic
from testbed.vmm.interrupt_line import SpiEdge, SpiLine
from tests.support.vgic_rig import VgicRig

NAME = "interrupts.virtio"


class Bench:
    """A guest with one vCPU, its kernel's driver of the controller, and devices of the vmm."""

    def __init__(self) -> None:
        self.rig = VgicRig(ready=False)
        self.cpu, self.bell = self.rig.vcpus[0].cpu, self.rig.vcpus[0].bell
        self.driver = GicDriver(self.rig.guest(), self.cpu)
        self.driver.start()
        self.counters = Counters((NAME,))

    def edge(self, intid: int) -> SpiEdge:
        self.driver.enable_spi(intid, edge=True)
        return SpiEdge(self.rig.vgic, intid, self.counters, NAME)

    def line(self, intid: int) -> SpiLine:
        self.driver.enable_spi(intid, edge=False)
        return SpiLine(self.rig.vgic, intid, self.counters, NAME)

    def told(self) -> tuple[int, int, int]:
        """Return (bells rung, interrupts counted, exits forced)."""
        forced = self.rig.counters["interrupts.forced_exits"]
        return self.bell.asked, self.counters[NAME], forced


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("intid", [32, 48, 63, 64, 1019])
def test_edge_for_a_vcpu_that_waits_is_in_a_list_register_at_once(bench: Bench, intid: int) -> None:
    edge = bench.edge(intid)
    bench.cpu.arm()
    edge.pulse()
    assert bench.told() == (1, 1, 0)
    bench.cpu.disarm()
    assert not bench.cpu.must_exit
    assert bench.rig.take_all() == [intid]


def test_edge_for_a_vcpu_that_runs_forces_it_out(bench: Bench) -> None:
    bench.edge(48).pulse()
    assert bench.told() == (1, 1, 1)
    before = (bench.cpu.must_exit, bench.cpu.signals)
    bench.rig.exit()
    after = (bench.cpu.must_exit, bench.cpu.signals)
    assert (before, after) == ((True, False), (False, True))


def test_edges_of_one_exit_are_one_bell(bench: Bench) -> None:
    first, second = bench.edge(48), bench.edge(49)
    for _ in range(3):
        first.pulse()
        second.pulse()
    assert bench.told() == (1, 2, 1)
    bench.rig.exit()
    assert bench.rig.take_all() == [48, 49]


def test_edge_after_it_was_taken_comes_again(bench: Bench) -> None:
    edge = bench.edge(48)
    edge.pulse()
    bench.rig.settle()
    intid = bench.rig.acknowledge()
    edge.pulse()
    bench.rig.settle()
    bench.rig.end(intid)
    assert bench.rig.take_all() == [48]


def test_level_is_pending_for_as_long_as_it_is_asserted(bench: Bench) -> None:
    line = bench.line(33)
    line.set_level(True)
    bench.rig.settle()
    for _ in range(3):
        assert bench.rig.acknowledge() == 33
        bench.rig.end(33)
    line.set_level(False)
    bench.rig.settle()
    assert bench.rig.take_all() == []
    assert bench.counters[NAME] == 1


def test_level_that_falls_while_it_is_served_needs_no_maintenance(bench: Bench) -> None:
    line = bench.line(33)
    line.set_level(True)
    bench.rig.settle()
    intid = bench.rig.acknowledge()
    with bench.rig.out():  # the handler reads the register that lets the line fall
        line.set_level(False)
    exits = bench.rig.vcpus[0].exits
    bench.rig.end(intid)
    assert (bench.rig.vcpus[0].exits, bench.rig.acknowledge()) == (exits, gic.SPURIOUS)


def test_level_that_rises_and_falls_before_the_vcpu_looks_is_not_taken(bench: Bench) -> None:
    line = bench.line(33)
    line.set_level(True)
    line.set_level(False)
    bench.rig.settle()
    assert bench.rig.take_all() == []
