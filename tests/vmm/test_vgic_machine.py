"""The vGIC, its list registers and its vCPUs against a plain model of a GIC: any sequence of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from testbed.spec import gic
from testbed.spec import gic_registers as reg
from testbed.vmm.vgic_distributor import Distributor
from testbed.vmm.vgic_redistributor import Redistributor
from tests.support.gic_model import GicModel, Irq
from tests.support.vgic_rig import CONFIG_TABLE, VgicRig

VCPUS = 2
SHARED = (32, 33, 47, 48, 64, 65, 1019)
PRIVATE = (0, 1, 15, 16, 26, 31)
LPIS = (8192, 8193, 9215)
priorities = st.integers(0, 31).map(lambda level: level << 3)
cpus = st.integers(0, VCPUS - 1)
groups = st.integers(0, 1)


class VgicMachine(RuleBasedStateMachine):
    """Both are told the same; a vCPU must be given what the model says, at once and in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.rig, self.model = VgicRig(VCPUS), GicModel(VCPUS)
        self.control(0b11)
        for intid in SHARED:
            self.model.add(intid, 0, edge=False, group=0, enabled=False)
        for cpu in range(VCPUS):
            for intid in PRIVATE:
                self.model.add(intid, cpu, edge=intid < 16, group=0, enabled=False)
            self._start_lpis(cpu)

    def _start_lpis(self, cpu: int) -> None:
        redistributor = self.rig.redistributors[cpu]
        redistributor.write(reg.GICR_RD["PROPBASER"].offset, 8, CONFIG_TABLE | 13)
        redistributor.write(reg.GICR_RD["CTLR"].offset, 4, 1)
        for intid in LPIS:
            self.model.add(intid, cpu, enabled=False)

    def _irq(self, intid: int, cpu: int) -> Irq:
        return self.model.irqs[-1 if 32 <= intid < 1020 else cpu, intid]

    def _write_bit(self, name: str, intid: int, cpu: int) -> None:
        if intid >= 32:
            self.rig.distributor.write(reg.GICD[name].at(intid // 32), 4, 1 << intid % 32)
        else:
            at = reg.FRAME_BYTES + reg.GICR_SGI[f"{name}0"].offset
            self.rig.redistributors[cpu].write(at, 4, 1 << intid)
        self.rig.settle()

    def _write_of(self, intid: int, cpu: int, name: str, per_register: int, value: int, private: str) -> None:
        """Change one interrupt's field of a register and leave the others."""
        width = 32 // per_register
        index, lsb = intid // per_register, intid % per_register * width
        device: Distributor | Redistributor = (
            self.rig.distributor if intid >= 32 else self.rig.redistributors[cpu]
        )
        frame = reg.FRAME_BYTES + reg.GICR_SGI[private].at(index) if intid < 32 else 0
        at = reg.GICD[name].at(index) if intid >= 32 else frame
        mask = (1 << width) - 1 << lsb
        device.write(at, 4, device.read(at, 4) & ~mask | value << lsb)
        self.rig.settle()

    # configuration

    @initialize(levels=st.lists(priorities, min_size=16, max_size=16), on=st.booleans(), split=st.booleans())
    def boot(self, levels: list[int], on: bool, split: bool) -> None:
        """Mostly begin as a kernel does: everything enabled, in group 1, with some priority."""
        if not on:
            return
        for cpu in range(VCPUS):
            self.configure_interface(cpu, 0xF8, 0b10, split)
            for intid, priority in zip(SHARED + PRIVATE, levels, strict=False):
                self.regroup(intid, cpu, 1)
                self.prioritize(intid, cpu, priority)
                self.enable(intid, cpu, True)
        for intid, priority in zip(LPIS, levels[-3:], strict=True):
            self.configure_lpi(intid, priority, True)

    @rule(intids=st.sets(st.sampled_from(SHARED + PRIVATE), min_size=5), cpu=cpus)
    def storm(self, intids: set[int], cpu: int) -> None:
        for intid in sorted(intids):
            self.software_pending(intid, cpu, True)

    def control(self, groups: int) -> None:
        self.rig.distributor.write(reg.GICD["CTLR"].offset, 4, groups)
        self.rig.settle()
        self.model.groups = {group for group in (0, 1) if groups >> group & 1}

    @rule(groups=st.sampled_from([0, 1, 2, 3, 3, 3]))
    def distributor_groups(self, groups: int) -> None:
        self.control(groups)

    @rule(intid=st.sampled_from(SHARED + PRIVATE), cpu=cpus, enabled=st.booleans())
    def enable(self, intid: int, cpu: int, enabled: bool) -> None:
        self._write_bit("ISENABLER" if enabled else "ICENABLER", intid, cpu)
        self._irq(intid, cpu).enabled = enabled

    @rule(intid=st.sampled_from(SHARED + PRIVATE), cpu=cpus, priority=priorities)
    def prioritize(self, intid: int, cpu: int, priority: int) -> None:
        self._write_of(intid, cpu, "IPRIORITYR", 4, priority, "IPRIORITYR")
        self._irq(intid, cpu).priority = priority

    @rule(intid=st.sampled_from(SHARED + PRIVATE), cpu=cpus, group=groups)
    def regroup(self, intid: int, cpu: int, group: int) -> None:
        if self._irq(intid, cpu).active:
            return
        self._write_of(intid, cpu, "IGROUPR", 32, group, "IGROUPR0")
        self._irq(intid, cpu).group = group

    @rule(intid=st.sampled_from(SHARED), edge=st.booleans())
    def trigger(self, intid: int, edge: bool) -> None:
        irq = self._irq(intid, 0)
        if irq.line or irq.latch or irq.active:
            return
        self._write_of(intid, 0, "ICFGR", 16, edge << 1, "")
        irq.edge = edge

    @rule(intid=st.sampled_from(SHARED), cpu=st.integers(0, VCPUS))
    def route(self, intid: int, cpu: int) -> None:
        self.rig.distributor.write(reg.GICD["IROUTER"].at(intid - 32), 8, cpu)
        self.rig.settle()
        irq = self._irq(intid, 0)
        irq.target = cpu
        self.model.moved(irq)

    @rule(intid=st.sampled_from(LPIS), priority=priorities, enabled=st.booleans())
    def configure_lpi(self, intid: int, priority: int, enabled: bool) -> None:
        self.rig.table[intid - 8192] = priority | enabled
        for number in range(VCPUS):
            self.rig.redistributors[number].write(reg.GICR_RD["INVLPIR"].offset, 8, intid)
            irq = self._irq(intid, number)
            irq.priority, irq.enabled = priority, enabled
        self.rig.settle()

    @rule(cpu=cpus, mask=priorities, groups=st.integers(0, 3), split=st.booleans())
    def configure_interface(self, cpu: int, mask: int, groups: int, split: bool) -> None:
        processor = self.model.cpus[cpu]
        if split != processor.split and (
            processor.running or any(i.active for i in self.model.irqs.values())
        ):
            split = processor.split
        fields = gic.VMCR_VPMR.mask | gic.VMCR_VEOIM.mask | 3
        value = gic.VMCR_VPMR.put(mask) | gic.VMCR_VEOIM.put(split) | groups
        self.rig.vcpus[cpu].cpu.change_vmcr(fields, value)
        self.rig.settle()
        processor.mask, processor.split = mask, split
        processor.groups = {group for group in (0, 1) if groups >> group & 1}

    # events

    @rule(intid=st.sampled_from(SHARED))
    def pulse(self, intid: int) -> None:
        self.rig.vgic.pulse(intid)
        self.rig.settle()
        self.model.edge(self._irq(intid, 0))

    @rule(intid=st.sampled_from(SHARED), asserted=st.booleans())
    def line(self, intid: int, asserted: bool) -> None:
        self.rig.vgic.set_level(intid, asserted)
        self.rig.settle()
        self.model.level(self._irq(intid, 0), asserted)

    @rule(intid=st.sampled_from(LPIS), cpu=cpus)
    def message(self, intid: int, cpu: int) -> None:
        self.rig.vgic.send_lpi(cpu, intid)
        self.rig.settle()
        self.model.edge(self._irq(intid, cpu))

    @rule(source=cpus, intid=st.sampled_from([0, 1, 15]), listed=st.integers(0, 3), all_others=st.booleans())
    def sgi(self, source: int, intid: int, listed: int, all_others: bool) -> None:
        value = gic.SGI_INTID.put(intid) | gic.SGI_IRM.put(all_others) | listed
        with self.rig.out(source) as sender:
            sender.send_sgi(value)
        self.rig.settle()
        for cpu in range(VCPUS):
            if (cpu != source) if all_others else listed >> cpu & 1:
                self.model.edge(self._irq(intid, cpu))

    @rule(intid=st.sampled_from(SHARED + PRIVATE), cpu=cpus, pending=st.booleans())
    def software_pending(self, intid: int, cpu: int, pending: bool) -> None:
        self._write_bit("ISPENDR" if pending else "ICPENDR", intid, cpu)
        self.model.set_pending(self._irq(intid, cpu), pending)

    # the processors

    @rule(cpu=cpus, group=groups)
    def acknowledge(self, cpu: int, group: int) -> None:
        assert self.rig.acknowledge(cpu, group) == self.model.acknowledge(cpu, group)

    @rule(cpu=cpus)
    def acknowledge_nested(self, cpu: int) -> None:
        for _ in range(4):
            self.acknowledge(cpu, 1)

    @rule(cpu=cpus)
    def end(self, cpu: int) -> None:
        ended = self.model.end(cpu)
        if ended is not None:
            group, intid = ended
            self.rig.end(intid, cpu, group)

    @rule(cpu=cpus, which=st.integers(0, 5))
    def deactivate(self, cpu: int, which: int) -> None:
        dropped = [
            irq.intid
            for (owner, _), irq in self.model.irqs.items()
            if irq.active and owner in (-1, cpu) and irq.intid not in {i for _, _, i in self._running()}
        ]
        if self.model.cpus[cpu].split and dropped and all(processor.split for processor in self.model.cpus):
            intid = dropped[which % len(dropped)]
            if intid >= 32 and not self._took(cpu, intid):
                return
            self.model.deactivate(cpu, intid)
            self.rig.deactivate(intid, cpu)

    def _running(self) -> list[tuple[int, int, int]]:
        return [one for processor in self.model.cpus for one in processor.running]

    def _took(self, cpu: int, intid: int) -> bool:
        return bool(self.rig.vgic.cpus[cpu].spi_active >> intid - 32 & 1) or self.rig.vgic.cpus[cpu].lists(
            self.rig.vgic.spis, 1 << intid - 32
        )

    @rule(cpu=cpus)
    def needless_exit(self, cpu: int) -> None:
        self.rig.exit(cpu)

    @invariant()
    def signalled_is_the_same(self) -> None:
        for number, vcpu in enumerate(self.rig.vcpus):
            assert vcpu.cpu.signals == (self.model.signalled(number) is not None)
            assert vcpu.cpu.running_priority == self.model.running(number)

    @invariant()
    def registers_show_the_same(self) -> None:
        pending, active = self.rig.vgic.state(self.rig.vgic.spis)
        for intid in SHARED:
            irq = self._irq(intid, 0)
            seen = bool(pending >> intid - 32 & 1), bool(active >> intid - 32 & 1)
            assert seen == (irq.pending, irq.active), intid
        for number, cpu in enumerate(self.rig.vgic.cpus):
            pending, active = self.rig.vgic.state(cpu.private)
            for intid in PRIVATE:
                irq = self._irq(intid, number)
                assert (bool(pending >> intid & 1), bool(active >> intid & 1)) == (irq.pending, irq.active)

    def teardown(self) -> None:
        assert self.rig.faults.reasons == []
        assert self.rig.counters["vgic.odd_access"] == 0


VgicMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestVgicMachine = VgicMachine.TestCase
