"""A vCPU that sleeps between interrupts: giving it the same one again is what filling anew comes to."""

import random

import pytest

from testbed.spec import gic
from testbed.vmm.vgic_cpu import VgicCpu
from tests.support.vgic_rig import VgicRig

EDGES, LEVEL = (40, 41, 42), 43
STEPS = 400


class Sleeper:
    """One vCPU and three edges and a level for it; it looks at its interrupts between two sleeps."""

    def __init__(self, random_: random.Random) -> None:
        self.random, self.rig = random_, VgicRig()
        spis = self.rig.vgic.spis
        for intid in (*EDGES, LEVEL):
            bit = 1 << intid - gic.SPI_FIRST
            spis.enabled, spis.group1 = spis.enabled | bit, spis.group1 | bit
            spis.edge |= bit if intid in EDGES else 0
            spis.set_priority(intid - gic.SPI_FIRST, 0x80)
        self.cpu = self.rig.vcpus[0].cpu
        self.running: list[int] = []

    def step(self) -> tuple[object, ...]:
        """Do one thing; return all that can be seen of the controller then."""
        act = self.random.choice((*(self._pulse,) * 6, *(self._awake,) * 6, self._level, self._configure))
        did = act()
        spis, cpu = self.rig.vgic.spis, self.rig.vgic.cpus[0]
        registers = self.rig.vcpus[0].registers.load()
        return act.__name__, did, registers, spis.latched, spis.listed, spis.active, cpu.spi_active

    def _pulse(self) -> object:
        intid = EDGES[0] if self.random.random() < 0.8 else self.random.choice(EDGES)
        return self.rig.vgic.pulse(intid)

    def _awake(self) -> object:
        """Take what there is, all of it or the half of one, and go back to sleep."""
        assert self.cpu.enter()
        self.rig.vgic.set_level(LEVEL, False)
        self.rig.settle()
        if self.running:
            self.rig.end(self.running.pop())
        taken = self.rig.take_all()
        if self.random.random() < 0.2 and (intid := self.rig.acknowledge()) != gic.SPURIOUS:
            self.running.append(intid)
        self.cpu.arm()
        return taken

    def _level(self) -> object:
        return self.rig.vgic.set_level(LEVEL, self.random.random() < 0.3)

    def _configure(self) -> object:
        """Change what a list register says, or whether there may be one, as a vCPU does: by an exit."""
        spis, number = self.rig.vgic.spis, EDGES[0] - gic.SPI_FIRST
        assert self.cpu.enter()
        with self.rig.out():
            spis.set_priority(number, self.random.choice((0x40, 0x80)))
            spis.enabled ^= (1 << number) * (self.random.random() < 0.3)
            self.rig.vgic.spis_changed(1 << number)
        self.rig.settle()
        self.cpu.arm()
        return None


@pytest.mark.parametrize("seed", range(6))
def test_sleeper_s_interrupt_again_is_as_if_all_were_filled_anew(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    again, repeats = VgicCpu._repeat, list[bool]()

    def counting(cpu: VgicCpu) -> bool:
        repeats.append(again(cpu))
        return repeats[-1]

    monkeypatch.setattr(VgicCpu, "_repeat", counting)
    sleeper = Sleeper(random.Random(seed))
    quick = [sleeper.step() for _ in range(STEPS)]
    monkeypatch.setattr(VgicCpu, "_repeat", lambda _cpu: False)
    sleeper = Sleeper(random.Random(seed))
    assert [sleeper.step() for _ in range(STEPS)] == quick
    assert sum(repeats) > STEPS / 40
