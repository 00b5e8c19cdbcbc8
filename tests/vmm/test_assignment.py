"""Assigned functions: what they reach, what is told of what they do not, and how they are taken back."""

import pytest

from testbed.errors import DeviceError
from testbed.iommu.features import Features
from testbed.iommu.translate import Granted
from testbed.memory.arena import Arena
from testbed.memory.guest import GuestMemory
from testbed.memory.host import FrameAllocator
from testbed.memory.tables import TableBuilder
from testbed.pci import smmu_entries as entries
from testbed.pci.smmu_driver import SmmuDriver
from testbed.spec import smmu as s
from testbed.vmm.assignment import Assigned, Assignments, Window
from tests.iommu.machine import GUEST, HOST, PAGE, RAM, Machine, request

FIRST, SECOND = 0x180, 0x182
HALF = 4 << 20
ITS_GPA, ITS_HPA = 0x0809_0000, 0x1FF_0809_0000


class Host(Machine):
    """Two guests with half of the RAM each, at the same guest physical address."""

    def __init__(self) -> None:
        super().__init__(Features(stall=False))
        arena = Arena(self.memory, HOST, 0x1_0000)
        self.driver = SmmuDriver(self.smmu, self.memory, arena.allocate)
        self.driver.start()
        self.told: list[tuple[str, str, str]] = []
        self.assignments = Assignments(self.driver, self._report)
        self.spaces = {name: TableBuilder(self.memory, self.frames, 2) for name in "ab"}
        for index, name in enumerate("ab"):
            self.spaces[name].map(GUEST, RAM + index * HALF, HALF)

    def _report(self, guest: str, device: str, reason: str, detail: str) -> None:
        assert detail
        self.told.append((guest, device, reason))

    def give(self, guest: str, stream: int, ats: bool = False) -> None:
        """Assign a function."""
        windows = (
            Window(ITS_GPA, ITS_HPA),
            Window(0x1000_0000 + stream * PAGE, 0x1FF_0000_0000 + stream * PAGE),
        )
        vmid = 1 + "ab".index(guest)
        self.assignments.assign(
            Assigned(f"nic0.vf{stream & 7}", stream, guest, vmid, self.spaces[guest], ats, windows)
        )

    def reach(self, stream: int, address: int, write: bool = True) -> int | None:
        """Return where a transaction ends, None where it is aborted."""
        answer = self.translate(request(address, stream, write))
        return answer.output if isinstance(answer, Granted) else None


@pytest.fixture
def host() -> Host:
    host = Host()
    host.give("a", FIRST)
    host.give("b", SECOND)
    return host


def test_function_reaches_its_own_guest_by_the_guests_addresses(host: Host) -> None:
    assert (host.reach(FIRST, GUEST + 5), host.reach(SECOND, GUEST + 5)) == (RAM + 5, RAM + HALF + 5)


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        (RAM, "its own RAM by host address"),
        (RAM + HALF, "the other guest"),
        (HOST, "the hypervisor's tables"),
    ],
)
def test_host_physical_addresses_lead_nowhere(host: Host, address: int, whose: str) -> None:
    assert host.reach(FIRST, address) is None, whose
    host.assignments.take_events()
    assert host.told == [("a", "nic0.vf0", "F_TRANSLATION")]
    assert host.assignments.events == {"F_TRANSLATION": 1}


def test_msi_page_and_registers_are_mapped_at_stage_2(host: Host) -> None:
    assert host.reach(FIRST, ITS_GPA + 0x40) == ITS_HPA + 0x40
    assert host.spaces["a"].lookup(0x1000_0000 + FIRST * PAGE) == 0x1FF_0000_0000 + FIRST * PAGE


def test_second_function_of_a_guest_shares_the_msi_page(host: Host) -> None:
    host.give("a", SECOND + 2)
    assert host.reach(SECOND + 2, ITS_GPA) == ITS_HPA


def test_function_belongs_to_one_guest_at_a_time(host: Host) -> None:
    with pytest.raises(DeviceError, match="is guest a's already"):
        host.give("b", FIRST)


def test_released_function_reaches_nothing_and_may_be_given_to_another(host: Host) -> None:
    assert host.reach(FIRST, GUEST) == RAM
    host.assignments.release(FIRST)
    assert host.reach(FIRST, GUEST) is None

    host.give("b", FIRST)

    assert host.reach(FIRST, GUEST) == RAM + HALF


def test_unmapped_range_is_out_of_reach_once_forgotten(host: Host) -> None:
    assert host.reach(FIRST, GUEST) == RAM
    host.spaces["a"].unmap(GUEST, PAGE)
    host.assignments.forget_range("a", GUEST, PAGE)

    assert host.reach(FIRST, GUEST) is None
    assert host.reach(SECOND, GUEST) == RAM + HALF
    assert host.reach(FIRST, GUEST + PAGE) == RAM + PAGE


def test_range_of_a_guest_without_functions_needs_nothing(host: Host) -> None:
    before = host.read("CMDQ_PROD")
    host.assignments.forget_range("c", GUEST, PAGE)
    assert host.read("CMDQ_PROD") == before


def test_ats_function_is_told_to_forget_too() -> None:
    host = Host()
    host.devices.present = False
    host.give("a", FIRST, ats=True)
    host.assignments.forget_range("a", GUEST, 1 << 30)
    host.assignments.block(FIRST)

    assert [(asked.stream, asked.size_bytes) for asked in host.devices.asked] == [(FIRST, 1 << 64)] * 2


def test_event_of_a_function_that_nobody_has_is_the_hosts(host: Host) -> None:
    host.reach(SECOND + 4, GUEST)
    host.assignments.take_events()
    assert host.told == [("", f"stream {SECOND + 4:#x}", "C_BAD_STE")]


def test_nested_function_uses_the_guests_stage_1_and_its_faults_are_the_guests(
    host: Host,
) -> None:
    taken: list[str] = []

    def take(event: entries.EventRecord) -> bool:
        taken.append(event.name)
        return True

    host.assignments.release(FIRST)
    host.assignments.assign(Assigned("nic0.vf0", FIRST, "a", 1, host.spaces["a"], on_event=take))
    guest = GuestMemory(host.memory, host.spaces["a"].root)
    stage1 = TableBuilder(guest, FrameAllocator(guest, GUEST + (1 << 20), 64 * PAGE), 1)
    stage1.map(0x7000_0000_0000, GUEST + 3 * PAGE, PAGE)
    cds = GUEST + HALF - PAGE
    guest.write(cds, entries.context_descriptor(stage1.root, 9).to_bytes(64, "little"))

    host.assignments.nest(FIRST, entries.stage1_entry(cds, 0, s.S1DSS_TERMINATE))

    assert host.reach(FIRST, 0x7000_0000_0123) == RAM + 3 * PAGE + 0x123
    assert host.reach(FIRST, GUEST) is None
    host.assignments.take_events()
    assert (taken, host.told) == (["F_TRANSLATION"], [])
    host.assignments.nest(FIRST, None)
    assert host.reach(FIRST, GUEST) == RAM


def test_lost_device_reaches_nothing_and_its_caches_are_waited_for_by_nobody() -> None:
    host = Host()
    host.give("a", FIRST, ats=True)
    host.give("b", SECOND)
    assert host.reach(FIRST, GUEST) == RAM

    host.assignments.lose((FIRST, SECOND + 2))  # the second was never given to anybody

    assert (host.reach(FIRST, GUEST), host.reach(SECOND, GUEST)) == (None, RAM + HALF)
    host.assignments.forget_range("a", GUEST, PAGE)
    assert (host.devices.asked, host.told) == ([], [])
