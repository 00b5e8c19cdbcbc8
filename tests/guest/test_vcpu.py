"""A vCPU's accesses: memory through stage 2, and where that maps nothing, an exit with its syndrome."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.address import GUEST_RAM_GPA, Hpa
from testbed.errors import MemoryFault, StopRequested
from testbed.guest.hypervisor import find_hypervisor
from testbed.guest.vcpu import Vcpu
from testbed.memory.guest import GuestMemory
from testbed.memory.host import HostMemory
from testbed.native import SharedWords
from testbed.spec import vcpu_page as spec
from testbed.spec import virtio
from tests.inprocess.machine import MMIO_GPA, RAM_BYTES, HostMachine

PAGE = spec.VCPU_PAGE


class Exit:
    """What a vmm finds in the page."""

    def __init__(self, words: SharedWords) -> None:
        self.reason = words.load32(PAGE.offset("exit_reason"))
        self.esr = words.load64(PAGE.offset("exit_esr"))
        self.gpa = words.load64(PAGE.offset("exit_gpa"))
        self.data = words.load64(PAGE.offset("exit_data"))


class Bench:
    """A vCPU whose exits are answered by the test with `result`."""

    def __init__(self) -> None:
        self.guest = HostMachine("a", boot=False).guests[0]
        memory = GuestMemory(
            HostMemory([self.guest.ram, self.guest.tables]), Hpa(self.guest.entry.stage2_hpa)
        )
        self.words = SharedWords(self.guest.page)
        self.exits: list[Exit] = []
        self.result = 0
        self.vcpu = Vcpu(self.guest.page, memory, self.guest.kick, self._wait, self.guest.counters)

    def _wait(self, ready: Callable[[], bool]) -> None:
        assert not ready()
        self.exits.append(Exit(self.words))
        self.words.store64(PAGE.offset("exit_result"), self.result)
        self.words.store32(PAGE.offset("exit_reply"), self.words.load32(PAGE.offset("exit_request")))
        assert ready()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("size_bytes", [1, 2, 4, 8])
def test_vcpu_memory_is_reached_without_an_exit(bench: Bench, size_bytes: int) -> None:
    gpa = GUEST_RAM_GPA + RAM_BYTES - 8
    value = 0x1122_3344_5566_7788 & (1 << 8 * size_bytes) - 1
    bench.vcpu.store(gpa, value, size_bytes)
    assert bench.vcpu.load(gpa, size_bytes) == value
    assert bytes(bench.guest.ram.view[-8:]) == value.to_bytes(8, "little")
    assert (bench.exits, bench.guest.kick.asked) == ([], 0)


@pytest.mark.parametrize(("size_bytes", "sas"), [(1, 0), (2, 1), (4, 2), (8, 3)])
@pytest.mark.parametrize("write", [False, True])
def test_vcpu_access_to_a_device_is_an_exit(bench: Bench, size_bytes: int, sas: int, write: bool) -> None:
    """DDI 0487 D17.2.37: EC 0x24, IL, ISV, SAS, WnR and a translation fault; typed by hand."""
    bench.result = 0x55
    if write:
        bench.vcpu.store(MMIO_GPA + 8, 0x77, size_bytes)
    else:
        assert bench.vcpu.load(MMIO_GPA + 8, size_bytes) == 0x55
    (left,) = bench.exits
    assert left.esr & ~0b11 == 0x24 << 26 | 1 << 25 | 1 << 24 | sas << 22 | write << 6 | 0b000100
    assert (left.gpa, left.data) == (MMIO_GPA + 8, 0x77 * write)
    counted = {name: n for name, n in bench.guest.counters.snapshot().items() if n}
    assert counted == {"exits.mmio_write" if write else "exits.mmio_read": 1}
    assert bench.guest.kick.asked == 1


def test_vcpu_store_to_a_doorbell_rings_and_goes_on(bench: Bench) -> None:
    bench.vcpu.store(MMIO_GPA + virtio.MMIO["QueueNotify"].offset, 1)
    assert (bench.exits, bench.guest.kick.asked) == ([], 1)
    assert bench.guest.counters["exits.doorbell"] == 1


def test_vcpu_load_of_a_doorbell_is_an_exit(bench: Bench) -> None:
    bench.vcpu.load(MMIO_GPA + virtio.MMIO["QueueNotify"].offset)
    assert len(bench.exits) == 1


def test_vcpu_doorbells_may_fill_the_page(bench: Bench) -> None:
    base, record = PAGE.offset("doorbells"), spec.DOORBELL_MATCH
    for index in range(spec.DOORBELL_MATCHES):
        bench.words.store64(base + index * record.size + record.offset("gpa"), 0x1000 + index)
        bench.words.store32(base + index * record.size + record.offset("valid"), 1)
    bench.vcpu.store(0x1000 + spec.DOORBELL_MATCHES - 1, 0)
    bench.vcpu.store(0x1000 + spec.DOORBELL_MATCHES, 0)
    assert (len(bench.exits), bench.guest.counters["exits.doorbell"]) == (1, 1)


def test_vcpu_exits_are_numbered_from_where_the_page_is(bench: Bench) -> None:
    bench.words.store32(PAGE.offset("exit_reply"), 0xFFFF_FFFF)
    late = Vcpu(bench.guest.page, bench.vcpu.memory, bench.guest.kick, bench._wait, bench.guest.counters)
    late.load(MMIO_GPA)
    assert bench.words.load32(PAGE.offset("exit_request")) == 0
    late.load(MMIO_GPA)
    assert bench.words.load32(PAGE.offset("exit_request")) == 1


def test_vcpu_exit_that_nobody_answers_can_be_left(bench: Bench) -> None:
    def stopped(ready: Callable[[], bool]) -> None:
        assert not ready()
        raise StopRequested

    vcpu = Vcpu(bench.guest.page, bench.vcpu.memory, bench.guest.kick, stopped, bench.guest.counters)
    with pytest.raises(StopRequested):
        vcpu.load(MMIO_GPA)


def test_vcpu_fault_that_is_no_missing_translation_is_the_driver_s_own(bench: Bench) -> None:
    with pytest.raises(MemoryFault, match="faults with status"):
        bench.vcpu.load(GUEST_RAM_GPA + 4093, 8)  # crosses a page


@settings(deadline=None)
@given(st.integers(0, GUEST_RAM_GPA - 8), st.sampled_from([1, 2, 4, 8]), st.integers(0, (1 << 64) - 1))
def test_vcpu_any_address_below_ram_leaves_for_the_vmm(gpa: int, size_bytes: int, data: int) -> None:
    bench, aligned = Bench(), gpa & -size_bytes
    bench.result = data
    assert bench.vcpu.load(aligned, size_bytes) == data
    bench.vcpu.store(aligned, data, size_bytes)
    told = [(left.gpa, left.data) for left in bench.exits]
    rung = bench.guest.counters["exits.doorbell"]
    assert told == [(aligned, 0), (aligned, data)][: 2 - rung]


@pytest.mark.parametrize(("size_bytes", "size"), [(1, 0), (2, 1), (4, 3)])
def test_vcpu_port_io_is_an_exit_of_its_own(bench: Bench, size_bytes: int, size: int) -> None:
    """Intel SDM volume 3 table 28-5, typed by hand; basic exit reason 30."""
    bench.result = 0x55
    bench.vcpu.port_out(0xC004, 0x77, size_bytes)
    assert bench.vcpu.port_in(0xC004, size_bytes) == 0x55
    assert [left.esr for left in bench.exits] == [0xC004 << 16 | size, 0xC004 << 16 | 1 << 3 | size]
    assert [(left.reason, left.data) for left in bench.exits] == [(30, 0x77), (30, 0)]
    assert (bench.guest.counters["exits.port_out"], bench.guest.counters["exits.port_in"]) == (1, 1)


def test_vcpu_hypercall_carries_registers_both_ways(bench: Bench) -> None:
    for i in range(4):
        bench.words.store64(PAGE.offset("exit_result_x", i), 10 + i)
    assert bench.vcpu.hvc(1, 2, 3, 4) == (10, 11, 12, 13)
    assert [bench.words.load64(PAGE.offset("exit_x", i)) for i in range(4)] == [1, 2, 3, 4]
    assert [(left.reason, left.esr) for left in bench.exits] == [(0, 0x16 << 26 | 1 << 25)]
    assert bench.guest.counters["exits.hvc"] == 1


def test_hypervisor_is_found_where_its_service_answers() -> None:
    guest = HostMachine("a").guests[0]
    assert find_hypervisor(guest.vcpu) == (1, 0)


@pytest.mark.parametrize(
    "answers", [[((1 << 64) - 1, 0, 0, 0)], [(0x1_0001, 0, 0, 0), (0x28B4_6FB6, 0, 0, 0)]]
)
def test_hypervisor_of_somebody_else_is_not_taken_for_ours(answers: list[tuple[int, int, int, int]]) -> None:
    class Other:
        def hvc(self, *_x: int) -> tuple[int, int, int, int]:
            return answers.pop(0)

    assert find_hypervisor(Other()) is None
