"""A guest's vGIC with its vCPUs' pages and interfaces, and no process between them.

A vCPU that is asked to exit, or whose maintenance or timer interrupt is asserted, exits at once, as the guest
process has it do; doorbells are recorded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from testbed.address import GUEST_GICD_GPA, GUEST_GICR_GPA, GUEST_RAM_GPA
from testbed.native import ListRegisters, Pinned, SharedWords, VirtualCpuInterface
from testbed.observe.counters import Counters
from testbed.spec import gic
from testbed.spec import gic_registers as registers
from testbed.spec import vcpu_page as page_spec
from testbed.vmm.vgic import VcpuParts, Vgic
from testbed.vmm.vgic_cpu import VgicCpu
from testbed.vmm.vgic_distributor import Distributor
from testbed.vmm.vgic_redistributor import Redistributor
from tests.support.recorders import ManualClock, RecordingDoorbell, RecordingFaults

PAGE = page_spec.VCPU_PAGE
CONFIG_TABLE = 0x4000_0000
_EXITS_MAX = 8
COUNTERS = ("interrupts.forced_exits", "vgic.bad_list_register", "vgic.odd_access")


class RigVcpu:
    """One vCPU: its page, its interface, and the hypervisor's side of both."""

    def __init__(self) -> None:
        self.page = Pinned(bytearray(PAGE.size))
        self.words = SharedWords(self.page)
        self.registers = ListRegisters(self.page)
        self.bell = RecordingDoorbell(self.page, page_spec.BELL_TO_VCPU)
        self.cpu = VirtualCpuInterface(self.page)
        self.exits = self.maintenance = 0
        self.is_out = False


class VgicRig:
    """`count` vCPUs that run; group 1 is enabled everywhere and nothing is masked."""

    def __init__(self, count: int = 1, *, running: bool = True, ready: bool = True) -> None:
        self.clock, self.faults = ManualClock(), RecordingFaults()
        self.counters = Counters(COUNTERS)
        self.vcpus = [RigVcpu() for _ in range(count)]
        parts = [VcpuParts(vcpu.registers, vcpu.words, vcpu.bell) for vcpu in self.vcpus]
        self.vgic = Vgic(parts, self.counters, self.faults, self.clock)
        for vcpu, cpu in zip(self.vcpus, self.vgic.cpus, strict=True):
            cpu.is_out = partial(getattr, vcpu, "is_out")
        self.table = bytearray(1024 + 128)
        """Configuration of LPIs, and behind it the bits of a pending table that begins with it."""
        odd = self._odd
        self.distributor = Distributor(self.vgic, odd)
        self.redistributors = [
            Redistributor(self.vgic, cpu, cpu.number == count - 1, self._byte, odd) for cpu in self.vgic.cpus
        ]
        for vcpu in self.vcpus:
            if running:
                vcpu.cpu.enter()
            if ready:
                vcpu.cpu.change_vmcr(gic.VMCR_VPMR.mask | gic.VMCR_VENG1.mask, 0xF8 << 24 | 2)
        if ready:
            self.vgic.groups_changed(2)
            self.settle()

    def _odd(self) -> None:
        self.counters.add("vgic.odd_access")

    def _byte(self, gpa: int) -> int | None:
        at = gpa - CONFIG_TABLE
        return self.table[at] if 0 <= at < len(self.table) else None

    def exit(self, number: int = 0) -> None:
        """Leave the guest and come back."""
        with self.out(number):
            self.vcpus[number].exits += 1

    @contextmanager
    def out(self, number: int = 0) -> Iterator[VgicCpu]:
        """The vCPU is out, and goes on afterwards."""
        self.vcpus[number].is_out = True
        yield self.vgic.cpus[number]
        self.vgic.cpus[number].enter()
        self.vcpus[number].is_out = False

    def settle(self) -> None:
        """Have every vCPU exit that has to."""
        for _ in range(_EXITS_MAX):
            wanting = [number for number in range(len(self.vcpus)) if self._has_to_exit(number)]
            for number in wanting:
                self.exit(number)
            if not wanting:
                return
        raise AssertionError(f"a vCPU does not get on: MISR {[hex(v.cpu.maintenance) for v in self.vcpus]}")

    def _has_to_exit(self, number: int) -> bool:
        vcpu = self.vcpus[number]
        maintenance = bool(vcpu.cpu.maintenance)
        vcpu.maintenance += maintenance
        return vcpu.cpu.must_exit or maintenance or self.timer_fires(number)

    def timer_fires(self, number: int) -> bool:
        """The physical timer interrupt: the condition is met and it is not active."""
        words = self.vcpus[number].words
        armed = words.load32(PAGE.offset("cntv_ctl")) & 3 == 1
        met = armed and words.load64(PAGE.offset("cntv_cval")) <= self.clock()
        return met and not words.load64(PAGE.offset("physical_active")) >> 27 & 1

    def acknowledge(self, number: int = 0, group: int = 1) -> int:
        intid = self.vcpus[number].cpu.acknowledge(group)
        self.settle()
        return intid

    def end(self, intid: int, number: int = 0, group: int = 1) -> None:
        self.vcpus[number].cpu.end(intid, group)
        self.settle()

    def deactivate(self, intid: int, number: int = 0) -> None:
        """Write ICC_DIR, which traps where the hypervisor wants to know."""
        if self.vcpus[number].cpu.traps_deactivate:
            with self.out(number) as cpu:
                cpu.deactivate(intid)
        else:
            self.vcpus[number].cpu.deactivate(intid)
        self.settle()

    def guest(self, number: int = 0) -> "RigGuest":
        """Return a vCPU as its kernel has it."""
        return RigGuest(self, number)

    def take_all(self, number: int = 0) -> list[int]:
        """Acknowledge and end until there is nothing; return the INTIDs in order."""
        taken = []
        while (intid := self.acknowledge(number)) != gic.SPURIOUS:
            taken.append(intid)
            self.end(intid, number)
        return taken


class RigGuest:
    """A vCPU whose loads and stores reach the controller's registers, each by an exit."""

    def __init__(self, rig: VgicRig, number: int) -> None:
        self._rig, self._number = rig, number
        self.interface = rig.vcpus[number].cpu
        self.page = rig.vcpus[number].page
        self.exits = 0

    def load(self, gpa: int, size_bytes: int = 4) -> int:
        device, offset = self._find(gpa)
        return self._leave(lambda: device.read(offset, size_bytes))

    def store(self, gpa: int, value: int, size_bytes: int = 4) -> None:
        if gpa >= GUEST_RAM_GPA:
            self._rig.table[gpa - CONFIG_TABLE] = value
            return
        device, offset = self._find(gpa)
        self._leave(partial(_done, device.write, offset, size_bytes, value))

    def write_system_register(self, register: gic.SystemRegister, value: int) -> None:
        assert register == gic.ICC_SGI1R_EL1
        self._leave(partial(_done, self._rig.vgic.send_sgi, self._number, value))

    def take_physical_interrupt(self) -> None:
        self._leave(lambda: 0)

    def _leave(self, serve: Callable[[], int]) -> int:
        self.exits += 1
        with self._rig.out(self._number):
            return serve()

    def _find(self, gpa: int) -> tuple[Distributor | Redistributor, int]:
        if gpa < GUEST_GICR_GPA:
            return self._rig.distributor, gpa - GUEST_GICD_GPA
        number, offset = divmod(gpa - GUEST_GICR_GPA, registers.GICR_V3_STRIDE_BYTES)
        return self._rig.redistributors[number], offset


def _done(act: Callable[..., None], *values: int) -> int:
    """Do what has no result."""
    act(*values)
    return 0
