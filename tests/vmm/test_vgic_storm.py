"""Many interrupts of every kind and priority against the plain model: none lost, none twice, in order.

Events come faster than they are taken, so list registers overflow, edges meet edges that are pending, and
handlers are interrupted by what is more urgent. Each interrupt that is taken is compared with what the model
gives at that moment. VIRTBED_INTERRUPTS sets how many are raised (1,000,000 take two minutes of a core).
"""

import os
import random
from typing import Final

import pytest

from testbed.spec import gic
from testbed.spec import gic_registers as reg
from tests.support.gic_model import SPURIOUS, GicModel, Irq
from tests.support.vgic_rig import CONFIG_TABLE, VgicRig

RAISED: Final = int(os.environ.get("VIRTBED_INTERRUPTS", "20000"))
VCPUS: Final = 2
EDGES: Final = (*range(32, 44), 1000, 1019)
LEVELS: Final = (44, 45, 46, 47)
SGIS: Final = (0, 1, 7, 15)
LPIS: Final = (8192, 8193, 8200, 9000, 9215)


class Storm:
    """Both controllers, configured alike, and one event after another for both."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rig, self.model = VgicRig(VCPUS), GicModel(VCPUS)
        self.raised = self.taken = 0
        self.running: list[list[int]] = [[] for _ in range(VCPUS)]
        self._configure()

    def _configure(self) -> None:
        spis, vgic = self.rig.vgic.spis, self.rig.vgic
        for intid in EDGES + LEVELS:
            priority, target = self._priority(), self.random.randrange(VCPUS)
            self.model.add(intid, target, edge=intid in EDGES, priority=priority)
            bit = 1 << intid - 32
            spis.enabled, spis.group1 = spis.enabled | bit, spis.group1 | bit
            spis.edge |= bit if intid in EDGES else 0
            spis.set_priority(intid - 32, priority)
            vgic.route(intid - 32, target)
        for number, cpu in enumerate(vgic.cpus):
            cpu.private.enabled = cpu.private.group1 = cpu.private.everything
            self._configure_private(number)

    def _configure_private(self, number: int) -> None:
        redistributor, cpu = self.rig.redistributors[number], self.rig.vgic.cpus[number]
        for intid in SGIS:
            priority = self._priority()
            self.model.add(intid, number, priority=priority)
            cpu.private.set_priority(intid, priority)
        for intid in LPIS:
            self.rig.table[intid - 8192] = self.rig.table[intid - 8192] or self._priority() | 1
            self.model.add(intid, number, priority=self.rig.table[intid - 8192] & 0xF8)
        redistributor.write(reg.GICR_RD["PROPBASER"].offset, 8, CONFIG_TABLE | 13)
        redistributor.write(reg.GICR_RD["CTLR"].offset, 4, 1)
        self.rig.settle()

    def _priority(self) -> int:
        return self.random.randrange(1, 30) << 3

    def _irq(self, intid: int, cpu: int) -> Irq:
        return self.model.irqs[-1 if 32 <= intid < 1020 else cpu, intid]

    def raise_one(self) -> None:
        """Let something happen, to both."""
        cpu, kind = self.random.randrange(VCPUS), self.random.randrange(4)
        self.raised += 1
        if kind == 0:
            intid = self.random.choice(EDGES)
            self.rig.vgic.pulse(intid)
            self.model.edge(self._irq(intid, cpu))
        elif kind == 1:
            intid = self.random.choice(SGIS)
            with self.rig.out(1 - cpu) as sender:
                sender.send_sgi(gic.SGI_INTID.put(intid) | 1 << cpu)
            self.model.edge(self._irq(intid, cpu))
        elif kind == 2:
            intid = self.random.choice(LPIS)
            self.rig.vgic.send_lpi(cpu, intid)
            self.model.edge(self._irq(intid, cpu))
        else:
            intid = self.random.choice(LEVELS)
            irq = self._irq(intid, cpu)
            asserted = not irq.line
            self.rig.vgic.set_level(intid, asserted)
            self.model.level(irq, asserted)
        self.rig.settle()

    def take_one(self, cpu: int) -> bool:
        """Acknowledge what is most urgent; False: nothing can be taken now."""
        intid = self.rig.acknowledge(cpu)
        assert intid == self.model.acknowledge(cpu)
        if intid == SPURIOUS:
            return False
        self.taken += 1
        self.running[cpu].append(intid)
        return True

    def end_one(self, cpu: int) -> None:
        """End the handler that runs; one of a level lets its line fall, most of the time."""
        intid = self.running[cpu].pop()
        if intid in LEVELS and self.random.random() < 0.8:
            self.model.level(self._irq(intid, cpu), False)
            self.rig.vgic.set_level(intid, False)
            self.rig.settle()
        self.model.end(cpu)
        self.rig.end(intid, cpu)

    def drain(self) -> None:
        """Take all there is, on every vCPU."""
        for cpu in range(VCPUS):
            while self.running[cpu] or self.take_one(cpu):
                self.end_one(cpu)


@pytest.mark.parametrize("seed", [1, 2])
def test_storm_every_interrupt_is_taken_once_and_in_order(seed: int) -> None:
    storm = Storm(seed)
    while storm.raised < RAISED // 2:
        for _ in range(storm.random.randrange(1, 8)):
            storm.raise_one()
        for _ in range(storm.random.randrange(1, 6)):
            cpu = storm.random.randrange(VCPUS)
            if storm.running[cpu] and storm.random.random() < 0.6:
                storm.end_one(cpu)
            else:
                storm.take_one(cpu)
    for intid in LEVELS:
        storm.rig.vgic.set_level(intid, False)
        storm.model.level(storm.model.irqs[-1, intid], False)
    storm.rig.settle()
    storm.drain()
    assert [vcpu.cpu.signals for vcpu in storm.rig.vcpus] == [False] * VCPUS
    assert not any(irq.pending or irq.active for irq in storm.model.irqs.values())
    assert storm.rig.vgic.state(storm.rig.vgic.spis) == (0, 0)
    assert all(vcpu.maintenance for vcpu in storm.rig.vcpus), "list registers never overflowed"
    assert storm.rig.faults.reasons == []
