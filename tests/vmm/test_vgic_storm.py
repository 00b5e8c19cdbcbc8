"""Many interrupts of every kind and priority against the plain model: none lost, none twice, in order.

Events come in bursts and faster than they are taken, so list registers overflow, edges meet edges that are
pending, and handlers are interrupted by what is more urgent; meanwhile SPIs are routed to other vCPUs and get
other priorities. Each interrupt that is taken is compared with what the model gives at that moment.
VIRTBED_INTERRUPTS sets how many are raised (1,000,000 take about a minute of a core).
"""

import os
import random
from typing import Final

import pytest

from testbed.spec import gic
from testbed.spec import gic_registers as reg
from tests.support.gic_model import SPURIOUS, GicModel, Irq
from tests.support.vgic_rig import CONFIG_TABLE, VgicRig

RAISED: Final = int(os.environ.get("VIRTBED_INTERRUPTS", "200000"))
VCPUS: Final = 2
EDGES: Final = (*range(32, 44), 1000, 1019)
LEVELS: Final = (44, 45, 46, 47)
SGIS: Final = (0, 1, 7, 15)
PPI_EDGE, PPI_LEVEL = 20, 23
PRIVATE: Final = (*SGIS, PPI_EDGE, PPI_LEVEL)
LPIS: Final = (8192, 8193, 8200, 9000, 9215)


class Storm:
    """Both controllers, configured alike, and one event after another for both."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rig, self.model = VgicRig(VCPUS), GicModel(VCPUS)
        self.raised = self.taken = 0
        self.running: list[list[int]] = [[] for _ in range(VCPUS)]
        self.kinds = (self.spi_edge, self.spi_level, self.sgi, self.ppi_edge, self.ppi_level, self.lpi)
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
        cpu.private.edge |= 1 << PPI_EDGE
        for intid in PRIVATE:
            priority = self._priority()
            self.model.add(intid, number, edge=intid != PPI_LEVEL, priority=priority)
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

    def raise_some(self) -> None:
        """Let a burst of things happen, to both; the vCPUs get to know of all of them together."""
        for _ in range(self.random.randrange(1, 8)):
            self.raised += 1
            self.random.choice(self.kinds)(self.random.randrange(VCPUS))
        if self.random.random() < 0.05:
            self.random.choice((self.reroute, self.reprioritize))()
        self.rig.settle()

    def spi_edge(self, _cpu: int) -> None:
        intid = self.random.choice(EDGES)
        self.rig.vgic.pulse(intid)
        self.model.edge(self._irq(intid, 0))

    def spi_level(self, _cpu: int) -> None:
        intid = self.random.choice(LEVELS)
        irq = self._irq(intid, 0)
        asserted = not irq.line
        self.rig.vgic.set_level(intid, asserted)
        self.model.level(irq, asserted)

    def sgi(self, cpu: int) -> None:
        intid = self.random.choice(SGIS)
        with self.rig.out(1 - cpu) as sender:
            sender.send_sgi(gic.SGI_INTID.put(intid) | 1 << cpu)
        self.model.edge(self._irq(intid, cpu))

    def ppi_edge(self, cpu: int) -> None:
        self._private(cpu, "ISPENDR0", 1 << PPI_EDGE)
        self.model.edge(self._irq(PPI_EDGE, cpu))

    def ppi_level(self, cpu: int) -> None:
        self.set_ppi(cpu, not self._irq(PPI_LEVEL, cpu).line)

    def lpi(self, cpu: int) -> None:
        intid = self.random.choice(LPIS)
        self.rig.vgic.send_lpi(cpu, intid)
        self.model.edge(self._irq(intid, cpu))

    def set_ppi(self, cpu: int, asserted: bool) -> None:
        """Assert or deassert the line of a vCPU's own level-sensitive interrupt."""
        self.rig.vgic.cpus[cpu].private.set_line(1 << PPI_LEVEL, asserted)
        self.rig.vgic.cpus[cpu].update()
        self.model.level(self._irq(PPI_LEVEL, cpu), asserted)

    def reroute(self) -> None:
        """Give an SPI to another vCPU, whatever its state."""
        intid, cpu = self.random.choice(EDGES + LEVELS), self.random.randrange(VCPUS)
        self.rig.distributor.write(reg.GICD["IROUTER"].at(intid - 32), 8, cpu)
        irq = self._irq(intid, 0)
        irq.target = cpu
        self.model.moved(irq)

    def reprioritize(self) -> None:
        """Give an SPI another priority, whatever its state."""
        intid, priority = self.random.choice(EDGES + LEVELS), self._priority()
        self.rig.distributor.write(reg.GICD["IPRIORITYR"].offset + intid, 1, priority)
        self._irq(intid, 0).priority = priority

    def _private(self, cpu: int, name: str, value: int) -> None:
        at = reg.FRAME_BYTES + reg.GICR_SGI[name].offset
        self.rig.redistributors[cpu].write(at, 4, value)

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
        if intid == PPI_LEVEL and self.random.random() < 0.8:
            self.set_ppi(cpu, False)
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
        storm.raise_some()
        for _ in range(storm.random.randrange(1, 6)):
            cpu = storm.random.randrange(VCPUS)
            if storm.running[cpu] and storm.random.random() < 0.6:
                storm.end_one(cpu)
            else:
                storm.take_one(cpu)
    for intid in LEVELS:
        storm.rig.vgic.set_level(intid, False)
        storm.model.level(storm.model.irqs[-1, intid], False)
    for cpu in range(VCPUS):
        storm.set_ppi(cpu, False)
    storm.rig.settle()
    storm.drain()
    assert [vcpu.cpu.signals for vcpu in storm.rig.vcpus] == [False] * VCPUS
    assert not any(irq.pending or irq.active for irq in storm.model.irqs.values())
    assert storm.rig.vgic.state(storm.rig.vgic.spis) == (0, 0)
    assert all(vcpu.maintenance for vcpu in storm.rig.vcpus), "list registers never overflowed"
    assert storm.rig.faults.reasons == []
