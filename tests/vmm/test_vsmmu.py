"""A guest with I/O address spaces of its own: its driver, its virtual SMMU, the host's, a function's DMA."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.address import IOVA_BASE, Gpa, Iova
from testbed.errors import MachineError
from testbed.guest.iova import GuestIommu
from testbed.guest.ram import RamAllocator
from testbed.iommu.features import Features
from testbed.iommu.translate import Granted
from testbed.iommu.virtual import FRONT, VirtualSmmu
from testbed.memory.arena import Arena
from testbed.memory.guest import GuestMemory
from testbed.memory.tables import TableBuilder
from testbed.pci import smmu_entries as entries
from testbed.pci.smmu_driver import SmmuDriver
from testbed.spec import smmu as s
from testbed.spec.layout import Reg
from testbed.vmm.assignment import Assigned, Assignments
from testbed.vmm.vsmmu import GuestStage1
from tests.iommu.machine import GUEST, HOST, PAGE, RAM, Machine, Wire, request

STREAM, GUEST_STREAM, VMID = 0x180, 8, 3
BUFFERS = Gpa(GUEST)
"""The first MiB of RAM is for buffers, what follows for the guest's allocator."""
ALLOCATED = GUEST + (1 << 20)


class Host(Machine):
    """One guest, with one function behind its virtual SMMU."""

    def __init__(self) -> None:
        super().__init__(Features(stall=False))
        driver = SmmuDriver(self.smmu, self.memory, Arena(self.memory, HOST, 0x1_0000).allocate)
        driver.start()
        self.told: list[str] = []
        self.assignments = Assignments(driver, self._report)
        self.tables = self.stage2_tables()
        self.memory_of_guest = GuestMemory(self.memory, self.tables.root)
        self.assignments.assign(Assigned("nic0.vf0", STREAM, "a", VMID, self.tables, on_event=self._event))
        self.backing = GuestStage1(self.assignments, VMID, {GUEST_STREAM: STREAM})
        self.event_wire_of_guest = Wire()
        self.front = VirtualSmmu(
            self.memory_of_guest, (GUEST_STREAM,), self.backing, self.event_wire_of_guest, Wire()
        )
        ram = RamAllocator(self.memory_of_guest, Gpa(ALLOCATED), 6 << 20)
        self.guest = GuestIommu(self.front, self.memory_of_guest, ram)

    def _report(self, guest: str, device: str, reason: str, detail: str) -> None:
        assert detail
        self.told.append(f"{guest} {device} {reason}")

    def _event(self, event: entries.EventRecord) -> bool:
        return self.backing.take(self.front, event)

    def reach(self, address: int, substream: int | None = None, write: bool = True) -> int | None:
        """Return where a transaction of the function ends, None where it is aborted."""
        answer = self.translate(request(address, STREAM, write, substream))
        return answer.output if isinstance(answer, Granted) else None


@pytest.fixture
def host() -> Host:
    return Host()


def test_function_reaches_nothing_before_the_guest_has_set_up_its_smmu(host: Host) -> None:
    assert host.reach(GUEST) is None


def test_guest_that_lets_everything_pass_is_translated_by_stage_2_alone(host: Host) -> None:
    gbpa = s.SMMU["GBPA"].offset
    host.front.write(gbpa, 4, s.GBPA_UPDATE.mask)
    assert host.reach(GUEST + 5) == RAM + 5

    host.front.write(gbpa, 4, s.GBPA_UPDATE.mask | s.GBPA_ABORT.mask)
    assert host.reach(GUEST + 5) is None


def test_mapped_pages_are_reached_by_their_iova_and_by_nothing_else(host: Host) -> None:
    host.guest.start()
    space = host.guest.attach(GUEST_STREAM)
    iova = space.map(Gpa(BUFFERS + PAGE), 2 * PAGE)

    assert iova >= IOVA_BASE
    assert host.reach(iova + PAGE + 7) == RAM + 2 * PAGE + 7
    assert host.reach(BUFFERS + PAGE) is None
    assert host.reach(iova + 2 * PAGE) is None


def test_read_only_page_may_not_be_written(host: Host) -> None:
    host.guest.start()
    iova = host.guest.attach(GUEST_STREAM).map(BUFFERS, PAGE, write=False)

    assert (host.reach(iova, write=False), host.reach(iova)) == (RAM, None)


def test_unmapped_page_is_out_of_reach_when_unmap_returns(host: Host) -> None:
    host.guest.start()
    space = host.guest.attach(GUEST_STREAM)
    iova, other = space.map(BUFFERS, PAGE), space.map(BUFFERS, PAGE)
    assert host.reach(iova) == RAM
    assert host.reach(other) == RAM

    space.unmap(iova, PAGE)

    assert (host.reach(iova), host.reach(other)) == (None, RAM)


def test_processes_have_spaces_of_their_own(host: Host) -> None:
    host.guest.start()
    kernel = host.guest.attach(GUEST_STREAM)
    spaces = {n: host.guest.add_space(GUEST_STREAM, n) for n in (1, 2)}
    at = {n: spaces[n].map(Gpa(BUFFERS + n * PAGE), PAGE) for n in (1, 2)}
    mine = kernel.map(BUFFERS, PAGE)

    assert (host.reach(at[1], 1), host.reach(at[2], 2), host.reach(mine)) == (RAM + PAGE, RAM + 2 * PAGE, RAM)
    assert [host.reach(at[1], 2), host.reach(at[2], 1), host.reach(at[1]), host.reach(mine, 1)] == [None] * 4


def test_same_iova_leads_each_process_to_its_own_page(host: Host) -> None:
    host.guest.start()
    host.guest.attach(GUEST_STREAM)
    for n in (1, 2):
        host.guest.add_space(GUEST_STREAM, n).map_at(Iova(IOVA_BASE), Gpa(BUFFERS + n * PAGE), PAGE)
    for _ in range(2):
        assert [host.reach(IOVA_BASE, n) for n in (1, 2)] == [RAM + PAGE, RAM + 2 * PAGE]


@pytest.mark.parametrize("substream", [0, 16, 1 << 19])
def test_substream_that_no_process_can_have_is_refused(host: Host, substream: int) -> None:
    host.guest.start()
    host.guest.attach(GUEST_STREAM)
    with pytest.raises(MachineError, match="a SubstreamID is 1 to 15"):
        host.guest.add_space(GUEST_STREAM, substream)


def test_fault_of_stage_1_is_the_guests_event_by_the_guests_stream(host: Host) -> None:
    host.guest.start()
    host.guest.attach(GUEST_STREAM)
    host.guest.add_space(GUEST_STREAM, 2)
    host.reach(IOVA_BASE, 2)
    host.assignments.take_events()

    [event] = host.guest.driver.take_events()

    assert (event.name, event.stream, event.substream) == ("F_TRANSLATION", GUEST_STREAM, 2)
    assert (event.address, event.stage2, host.told) == (IOVA_BASE, False, [])
    assert host.event_wire_of_guest.pulses == 1


def test_fault_of_stage_2_is_the_hypervisors_although_stage_1_permits(host: Host) -> None:
    host.guest.start()
    iova = host.guest.attach(GUEST_STREAM).map(Gpa(0x1_0000_0000), PAGE)
    assert host.reach(iova) is None
    host.assignments.take_events()

    assert host.guest.driver.take_events() == []
    assert host.told == ["a nic0.vf0 F_TRANSLATION"]


def test_context_descriptors_outside_the_guests_memory_do_not_lead_out(host: Host) -> None:
    host.guest.start()
    host.guest.driver.set_entry(GUEST_STREAM, entries.stage1_entry(RAM, 0, s.S1DSS_TERMINATE))
    assert host.reach(IOVA_BASE) is None
    host.assignments.take_events()
    assert host.told == ["a nic0.vf0 F_TRANSLATION"]


def test_stage_1_tables_at_host_addresses_do_not_lead_out(host: Host) -> None:
    host.guest.start()
    host.guest.attach(GUEST_STREAM)
    outside = TableBuilder(host.memory, host.frames, 1)
    outside.map(IOVA_BASE, HOST, PAGE)
    table = ALLOCATED + (1 << 19)
    host.memory_of_guest.write(table, entries.context_descriptor(outside.root, 9).to_bytes(64, "little"))
    host.guest.driver.set_entry(GUEST_STREAM, entries.stage1_entry(table, 0, s.S1DSS_TERMINATE))

    assert host.reach(IOVA_BASE) is None


def test_guest_that_disables_its_smmu_stops_its_function(host: Host) -> None:
    host.guest.start()
    iova = host.guest.attach(GUEST_STREAM).map(BUFFERS, PAGE)
    assert host.reach(iova) == RAM

    host.front.write(s.SMMU["CR0"].offset, 4, 0)

    assert host.reach(iova) is None


def test_many_commands_take_turns(host: Host) -> None:
    host.guest.start()
    prod = s.SMMU["CMDQ_PROD"]
    begin = host.front.read(prod.offset, 4)
    base = host.front.read(s.SMMU["CMDQ_BASE"].offset, 8) & s.BASE_ADDR.mask
    command = entries.invalidate_entry(GUEST_STREAM).to_bytes(16, "little")
    for i in range(100):
        host.memory_of_guest.write(base + (begin + i) % 256 * 16, command)
    host.front.write(prod.offset, 4, begin + 100)
    turns = 1
    while host.front.poll():
        turns += 1

    assert turns == 6
    assert host.front.read(s.SMMU["CMDQ_CONS"].offset, 4) == begin + 100


def test_virtual_smmu_offers_stage_1_only() -> None:
    assert (FRONT.stage1, FRONT.stage2, FRONT.ats, FRONT.stall) == (True, False, False, False)


WORDS = st.lists(
    st.tuples(
        st.sampled_from([register for register in s.SMMU.registers if register.size in (4, 8)]),
        st.one_of(
            st.integers(0, (1 << 64) - 1),
            st.integers(GUEST, GUEST + (8 << 20)),
            st.integers(0, 32),
        ),
    ),
    max_size=30,
)


@settings(max_examples=100, deadline=None)
@given(WORDS, st.binary(min_size=64, max_size=256))
def test_whatever_a_guest_writes_its_function_stays_in_its_memory(
    writes: list[tuple[Reg, int]], memory: bytes
) -> None:
    host = Host()
    for at in range(GUEST, GUEST + 0x1_0000, 0x1000):
        host.memory_of_guest.write(at, memory)
    for register, value in writes:
        host.front.write(register.offset, register.size, value & (1 << 8 * register.size) - 1)
    for address in (0, GUEST, IOVA_BASE, RAM, HOST):
        for substream in (None, 0, 1):
            answer = host.translate(request(address, STREAM, True, substream))
            assert not isinstance(answer, Granted) or RAM <= answer.output < RAM + (8 << 20)
