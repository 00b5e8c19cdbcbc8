"""Exits: what a syndrome asks for is done and answered; anything else is counted and answered with 0."""

import mmap
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.native import ListRegisters, Pinned, SharedWords
from testbed.observe.catalogue import EXIT_REASONS, vmm_counter_names
from testbed.observe.counters import Counters
from testbed.spec import vcpu_page as spec
from testbed.spec.layout import Access, Reg, RegisterMap
from testbed.vmm.bus import Bus
from testbed.vmm.exit_counts import ExitCounts
from testbed.vmm.exit_pace import BURST_NS, OFTEN_NS, QUANTUM_NS, SELDOM_NS, SHARE_OF, ExitPace
from testbed.vmm.exits import ExitHandler
from testbed.vmm.vgic import VcpuParts, Vgic
from tests.support.recorders import ManualClock, RecordingDoorbell, RecordingFaults, RecordingReports

PAGE: Final = spec.VCPU_PAGE
DEVICE_GPA: Final = 0x0A00_0000
WINDOW: Final = 0x200
GIC_GPA: Final = 0x0800_0000
PORT: Final = 0xC000
MAP: Final = RegisterMap("device", WINDOW, Reg("Status", 0, Access.RO), Reg("Value", 8, Access.RW))
WORDS: Final = st.integers(0, (1 << 64) - 1)


def syndrome(size_bytes: int, write: bool) -> int:
    """Return ESR_EL2 for a data abort, its fields typed from DDI 0487 D17.2.37."""
    return 0x24 << 26 | 1 << 25 | 1 << 24 | (size_bytes.bit_length() - 1) << 22 | write << 6 | 0b000111


class Memory:
    """A device of plain bytes."""

    def __init__(self) -> None:
        self.data = bytearray(WINDOW)

    def read(self, offset: int, size_bytes: int) -> int:
        return int.from_bytes(self.data[offset : offset + size_bytes], "little")

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        self.data[offset : offset + size_bytes] = value.to_bytes(size_bytes, "little")


class Bench:
    """A vCPU page from the guest's side, and the vmm's handler on the other."""

    def __init__(self) -> None:
        self.page = Pinned(mmap.mmap(-1, PAGE.size))
        self.words = SharedWords(self.page)
        self.device, bus = Memory(), Bus()
        bus.add(DEVICE_GPA, WINDOW, self.device)
        self.bell = RecordingDoorbell(self.page, spec.BELL_TO_VCPU)
        self.counters, self.reports = Counters(vmm_counter_names([])), RecordingReports()
        self.ports, ports = Memory(), Bus()
        ports.add(PORT, WINDOW, self.ports)
        self.faults = RecordingFaults()
        parts = VcpuParts(ListRegisters(self.page), self.words, self.bell)
        self.vgic = Vgic([parts], self.counters, self.faults, ManualClock())
        self.clock = ManualClock()
        self.pace = ExitPace(self.clock)
        self.exits = self.handler(bus, ports)
        self.number = 0

    def handler(self, bus: Bus, ports: Bus) -> ExitHandler:
        cpu = self.vgic.cpus[0]
        return ExitHandler(self.page, bus, ports, cpu, self.bell, self.counters, self.reports, self.pace)

    def ask(self, esr: int, gpa: int, data: int = 0, reason: int = 0) -> None:
        """Leave the guest."""
        self.words.store32(PAGE.offset("exit_reason"), reason)
        self.words.store64(PAGE.offset("exit_esr"), esr)
        self.words.store64(PAGE.offset("exit_gpa"), gpa)
        self.words.store64(PAGE.offset("exit_data"), data)
        self.number = (self.number + 1) & 0xFFFF_FFFF
        self.words.store32(PAGE.offset("exit_request"), self.number)

    def leave(self, esr: int, gpa: int, data: int = 0, reason: int = 0) -> int:
        """Leave the guest, be answered, and return the result."""
        self.ask(esr, gpa, data, reason)
        asked = self.exits.requests.ready
        assert (asked, self.exits.handle(), self.exits.requests.ready) == (True, True, False)
        assert self.words.load32(PAGE.offset("exit_reply")) == self.number
        return self.words.load64(PAGE.offset("exit_result"))

    def counted(self) -> dict[str, int]:
        """Return the counters that are not zero."""
        return {name: n for name, n in self.counters.snapshot().items() if n}


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("size_bytes", [1, 2, 4, 8])
def test_exits_store_and_load_of_every_size(bench: Bench, size_bytes: int) -> None:
    data = 0xF1E2_D3C4_B5A6_9788
    assert bench.leave(syndrome(size_bytes, write=True), DEVICE_GPA + 8, data) == 0
    assert bench.device.data[8:24] == data.to_bytes(8, "little")[:size_bytes].ljust(16, b"\0")
    expected = data & (1 << 8 * size_bytes) - 1
    assert bench.leave(syndrome(size_bytes, write=False), DEVICE_GPA + 8) == expected
    assert bench.counted() == {"exits.mmio_read": 1, "exits.mmio_write": 1}


def test_exits_are_answered_with_a_bell(bench: Bench) -> None:
    bench.leave(syndrome(4, write=False), DEVICE_GPA)
    assert (bench.bell.asked, bench.bell.sent) == (1, 0)
    bench.words.store32(spec.BELL_TO_VCPU + spec.BELL.offset("armed"), 1)
    bench.leave(syndrome(4, write=False), DEVICE_GPA)
    assert (bench.bell.asked, bench.bell.sent) == (2, 1)


def test_exits_nothing_asked_for_is_nothing_done(bench: Bench) -> None:
    assert not bench.exits.handle()
    assert bench.bell.asked == 0


def test_exits_asked_for_before_the_vmm_looked_is_answered(bench: Bench) -> None:
    bench.ask(syndrome(4, write=False), DEVICE_GPA)
    late = bench.handler(Bus(), Bus())
    assert late.handle()
    assert bench.words.load32(PAGE.offset("exit_reply")) == 1


def test_exits_number_may_wrap(bench: Bench) -> None:
    bench.number = 0xFFFF_FFFE
    for _ in range(3):
        bench.leave(syndrome(4, write=False), DEVICE_GPA)
    assert bench.number == 1


@pytest.mark.parametrize("gpa", [0, DEVICE_GPA - 1, DEVICE_GPA + WINDOW - 2, DEVICE_GPA + WINDOW, 1 << 63])
@pytest.mark.parametrize("write", [False, True])
def test_exits_address_of_no_device_reads_zero_and_is_counted(bench: Bench, gpa: int, write: bool) -> None:
    assert bench.leave(syndrome(4, write), gpa, 0xFFFF_FFFF) == 0
    assert bench.device.data == bytes(WINDOW)
    assert bench.counters["exits.unknown_address"] == 1
    assert bench.reports.seen == [("vcpu", "unknown_address")]


@pytest.mark.parametrize(
    "esr",
    [
        0,
        0x15 << 26,  # SVC64
        0x25 << 26 | 1 << 24,  # a data abort without a change of level
        0x24 << 26,  # ISV clear
    ],
)
def test_exits_syndrome_that_says_nothing_is_counted(bench: Bench, esr: int) -> None:
    assert bench.leave(esr, DEVICE_GPA) == 0
    assert bench.counted() == {"exits.bad_syndrome": 1}
    assert bench.reports.seen == [("vcpu", "bad_syndrome")]


@settings(deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=20))
def test_exits_of_any_value_are_answered(exits: list[tuple[int, int, int]]) -> None:
    bench = Bench()
    for esr, gpa, data in exits:
        bench.leave(esr, gpa, data)
    counted = bench.counted()
    assert sum(counted.get(f"exits.{reason}", 0) for reason in EXIT_REASONS) == len(exits)


@settings(deadline=None)
@given(
    st.sampled_from([1, 2, 4, 8]),
    st.booleans(),
    st.integers(DEVICE_GPA - 16, DEVICE_GPA + WINDOW + 16),
    WORDS,
    st.integers(0, (1 << 7) - 1),
)
def test_exits_around_a_device_touch_only_what_they_name(
    size_bytes: int, write: bool, gpa: int, data: int, other_bits: int
) -> None:
    bench = Bench()
    result = bench.leave(syndrome(size_bytes, write) | other_bits << 14, gpa, data)
    inside = DEVICE_GPA <= gpa <= DEVICE_GPA + WINDOW - size_bytes
    changed = [i for i, byte in enumerate(bench.device.data) if byte]
    offset = gpa - DEVICE_GPA
    assert result == 0
    assert all(write and inside and offset <= i < offset + size_bytes for i in changed)
    assert bench.counters["exits.unknown_address"] == int(not inside)


def io_instruction(port: int, size_bytes: int, read: bool, other_bits: int = 0) -> int:
    """Return an exit qualification, its fields typed from Intel SDM volume 3 table 28-5."""
    return (size_bytes - 1) | read << 3 | other_bits | port << 16


@pytest.mark.parametrize("size_bytes", [1, 2, 4])
def test_exits_port_output_and_input_of_every_size(bench: Bench, size_bytes: int) -> None:
    data = 0xF1E2_D3C4_B5A6_9788
    assert bench.leave(io_instruction(PORT + 4, size_bytes, read=False), 0, data, reason=30) == 0
    assert bench.ports.data[4:8] == data.to_bytes(8, "little")[:size_bytes].ljust(4, b"\0")
    expected = data & (1 << 8 * size_bytes) - 1
    assert bench.leave(io_instruction(PORT + 4, size_bytes, read=True), 0, reason=30) == expected
    assert bench.counted() == {"exits.port_in": 1, "exits.port_out": 1}


def test_exits_port_of_no_device_is_counted(bench: Bench) -> None:
    assert bench.leave(io_instruction(PORT - 1, 4, read=True), 0, reason=30) == 0
    assert bench.counted() == {"exits.port_in": 1, "exits.unknown_address": 1}


@pytest.mark.parametrize(
    ("reason", "syndrome"),
    [
        (30, io_instruction(PORT, 4, read=True, other_bits=1 << 4)),  # string
        (30, io_instruction(PORT, 4, read=True, other_bits=1 << 5)),  # REP
        (30, io_instruction(PORT, 3, read=True)),
        (30, io_instruction(PORT, 8, read=False)),
        (0, 0x18 << 26 | 1 << 25 | 0x3A3816),  # MSR of a register that does not trap
        (0, 0x18 << 26 | 1 << 25 | 1),  # MRS
        (0xFFFF_FFFF, syndrome(4, write=False)),
    ],
)
def test_exits_for_any_other_reason_are_counted(bench: Bench, reason: int, syndrome: int) -> None:
    assert bench.leave(syndrome, DEVICE_GPA, reason=reason) == 0
    assert bench.counted() == {"exits.bad_syndrome": 1}


def test_exits_for_an_interrupt_fill_the_list_registers(bench: Bench) -> None:
    private, groups = bench.vgic.cpus[0].private, 2
    private.enabled = private.group1 = 1 << 3
    bench.vgic.groups = groups
    private.latched = 1 << 3
    assert bench.leave(0, 0, reason=1) == 0
    assert bench.counted() == {"exits.irq": 1}
    assert bench.words.load64(PAGE.offset("ich_lr")) == 3 | 1 << 60 | 1 << 62


def test_exits_for_icc_sgi1r_send_an_sgi(bench: Bench) -> None:
    """EC 0x18, Op0 3, Op2 5, Op1 0, CRn 12, CRm 11, a write: typed from DDI 0487 D17.2.37."""
    iss = 3 << 20 | 5 << 17 | 0 << 14 | 12 << 10 | 11 << 1
    bench.leave(0x18 << 26 | 1 << 25 | iss, 0, data=7 << 24 | 1)
    assert bench.counted() == {"exits.sysreg": 1}
    assert bench.vgic.cpus[0].private.latched == 1 << 7


HVC: Final = 0x16 << 26 | 1 << 25


def call(bench: Bench, *registers: int) -> tuple[int, ...]:
    """Make a hypercall and return X0 to X3."""
    for i, value in enumerate(registers):
        bench.words.store64(PAGE.offset("exit_x", i), value)
    bench.leave(HVC, 0)
    return tuple(bench.words.load64(PAGE.offset("exit_result_x", i)) for i in range(4))


def test_exits_hypercalls_are_answered_as_the_convention_says(bench: Bench) -> None:
    """DEN0028: function identifiers and results typed by hand."""
    assert call(bench, 0x8000_0000)[0] == 0x1_0001
    assert [call(bench, 0x8000_0001, f)[0] for f in (0x8000_0000, 0x8000_0001)] == [0, 0]
    assert call(bench, 0x8000_0001, 0x8000_3FFF)[0] == (1 << 64) - 1
    assert call(bench, 0x8600_FF01) == (0x5A1C_7B02, 0x4C3E_91D6, 0x7662_80A9, 0x2D64_6562)
    assert call(bench, 0x8600_FF03) == (1, 0, 0, 0)
    assert bench.counted() == {"exits.hvc": 6}


@given(WORDS, WORDS)
@settings(deadline=None)
def test_exits_unknown_hypercalls_are_not_supported_and_counted(function: int, argument: int) -> None:
    bench = Bench()
    known = function & 0xFFFF_FFFF in (0x8000_0000, 0x8000_0001, 0x8600_FF01, 0x8600_FF03)
    answer = call(bench, function, argument)
    assert known or answer == ((1 << 64) - 1, 0, 0, 0)
    assert bench.counters["hypercalls.unknown"] == int(not known)


def test_exits_to_a_register_that_counts_are_counted_the_first_time_and_every_time(bench: Bench) -> None:
    counters = Counters(vmm_counter_names([], {"a.nic0": (MAP,)}))
    bus, device = Bus(), Memory()
    bus.add(DEVICE_GPA, WINDOW, device, ExitCounts(counters, "a.nic0", MAP))
    bench.counters = counters
    bench.exits = bench.handler(bus, Bus())
    for _ in range(3):
        bench.leave(syndrome(4, write=True), DEVICE_GPA + 8, 7)
        bench.leave(syndrome(1, write=False), DEVICE_GPA + 9)
        bench.leave(syndrome(4, write=True), DEVICE_GPA, 7)
    counted = {name: n for name, n in counters.snapshot().items() if n}
    assert counted == {
        "exits.mmio_read": 3,
        "exits.mmio_write": 6,
        "exits.a.nic0.Value.write": 3,
        "exits.a.nic0.Value.read": 3,
        "exits.a.nic0.other.write": 3,
    }
    assert bench.reports.seen == []


# a guest that asks for more answers than it has time for


class SlowMemory(Memory):
    """A device whose answers take time."""

    def __init__(self, clock: ManualClock, answer_ns: int) -> None:
        super().__init__()
        self._clock, self._answer_ns = clock, answer_ns

    def read(self, offset: int, size_bytes: int) -> int:
        self._clock.advance(self._answer_ns)
        return super().read(offset, size_bytes)


ANSWER_NS: Final = 80_000


class Pair:
    """Two vCPUs of one guest with a device that is not a NIC's."""

    def __init__(self) -> None:
        self.vcpus, self.clock, self.spent = [Bench(), Bench()], ManualClock(), list[ExitPace]()
        self.pace = ExitPace(self.clock)
        self.pace.on_spent = self.spent.append
        for vcpu in self.vcpus:
            bus = Bus()
            bus.add(DEVICE_GPA, WINDOW, SlowMemory(self.clock, ANSWER_NS))
            vcpu.pace = self.pace
            vcpu.exits = vcpu.handler(bus, Bus())

    def load(self, vcpu: int = 0) -> bool:
        """Leave for a load; say whether it was answered."""
        bench = self.vcpus[vcpu]
        if not bench.exits.requests.ready:
            bench.ask(syndrome(4, write=False), DEVICE_GPA)
        return bench.exits.requests.active and bench.exits.handle()

    def storm(self) -> int:
        """Leave again and again until an exit waits; return how many were answered."""
        answered = 0
        while self.load():
            answered += 1
        return answered


def test_exits_beyond_the_time_for_answers_wait_and_are_answered_once_there_is_more() -> None:
    pair = Pair()
    requests, begun_ns = pair.vcpus[0].exits.requests, pair.clock.now_ns
    answered = pair.storm()
    gained_ns = (pair.clock.now_ns - begun_ns) // SHARE_OF
    assert answered == -(-(BURST_NS + gained_ns) // ANSWER_NS)
    assert (requests.active, requests.ready, pair.spent) == (False, True, [pair.pace])
    assert pair.vcpus[0].counters["exits.paced"] == 1

    due_ns = pair.pace.deadline_ns()
    assert due_ns is not None
    assert due_ns - pair.clock.now_ns <= SHARE_OF * (QUANTUM_NS + ANSWER_NS)
    assert [pair.pace.resume(at_ns) for at_ns in (due_ns - 1, due_ns)] == [False, True]
    assert (requests.active, requests.ready, pair.pace.deadline_ns()) == (True, True, None)
    pair.clock.now_ns = due_ns
    assert pair.load()


def test_exits_of_all_vcpus_of_a_guest_have_one_time_for_answers() -> None:
    pair = Pair()
    pair.storm()
    assert not pair.load(1)
    assert [vcpu.exits.requests.active for vcpu in pair.vcpus] == [False, False]
    assert pair.spent == [pair.pace], "told once"
    due_ns = pair.pace.deadline_ns()
    assert due_ns is not None
    pair.clock.now_ns = due_ns
    assert pair.pace.resume(due_ns)
    assert [pair.load(0), pair.load(1)] == [True, True]


def test_exits_of_a_storm_take_no_more_than_their_share_of_the_time() -> None:
    pair = Pair()
    pair.storm()
    begun_ns, answered = pair.clock.now_ns, 0
    for _ in range(20):
        due_ns = pair.pace.deadline_ns()
        assert due_ns is not None
        pair.clock.now_ns = due_ns
        pair.pace.resume(due_ns)
        answered += pair.storm()
    passed_ns = pair.clock.now_ns - begun_ns
    assert 0 < answered * ANSWER_NS <= passed_ns // SHARE_OF + ANSWER_NS


def test_exits_of_a_guest_that_rests_between_them_never_wait() -> None:
    pair = Pair()
    for _ in range(3000):
        assert pair.load()
        pair.clock.advance((SHARE_OF - 1) * ANSWER_NS)
    assert pair.spent == []


def test_exits_to_known_registers_of_a_nic_wait_for_nothing_and_cost_nothing() -> None:
    pair, bench = Pair(), Bench()
    bench.pace, bench.counters = pair.pace, Counters(vmm_counter_names([], {"a.nic0": (MAP,)}))
    bus = Bus()
    bus.add(DEVICE_GPA, WINDOW, Memory(), ExitCounts(bench.counters, "a.nic0", MAP))
    bus.add(GIC_GPA, WINDOW, Memory(), ExitCounts(bench.counters, "a.nic0", MAP), is_paced=True)
    bench.exits = bench.handler(bus, Bus())
    for gpa in (DEVICE_GPA, GIC_GPA):
        bench.leave(syndrome(4, write=False), gpa)
    pair.storm()
    for _ in range(1000):
        bench.leave(syndrome(4, write=False), DEVICE_GPA)
    bench.ask(syndrome(4, write=False), GIC_GPA)
    assert not bench.exits.handle()
    assert bench.counters["exits.paced"] == 1


@pytest.mark.parametrize(
    ("esr", "reason", "charged_ns"),
    [
        (0x16 << 26 | 1 << 25, 0, SELDOM_NS),  # HVC
        (syndrome(4, write=True), 0, SELDOM_NS),
        (io_instruction(PORT, 4, read=True), 30, SELDOM_NS),
        (0x18 << 26 | 1 << 25, 30, SELDOM_NS),  # looks like an MSR, and is none
        (0x18 << 26 | 1 << 25 | 3 << 20 | 5 << 17 | 12 << 10 | 11 << 1, 0, OFTEN_NS),  # MSR of ICC_SGI1R_EL1
        (0, 1, OFTEN_NS),  # a physical interrupt
    ],
)
def test_exits_that_nobody_makes_often_are_charged_for_the_turns_that_they_take(
    bench: Bench, esr: int, reason: int, charged_ns: int
) -> None:
    for _ in range(BURST_NS // SELDOM_NS + 1):
        bench.leave(esr, DEVICE_GPA, reason=reason)
    bench.ask(esr, DEVICE_GPA, reason=reason)
    assert bench.exits.handle() == (charged_ns < SELDOM_NS)


def test_exits_that_seem_to_take_longer_than_any_answer_are_not_charged_for_it() -> None:
    pair = Pair()
    bus = Bus()
    bus.add(DEVICE_GPA, WINDOW, SlowMemory(pair.clock, 40_000_000))
    pair.vcpus[0].exits = pair.vcpus[0].handler(bus, Bus())
    for _ in range(50):
        assert pair.load()
