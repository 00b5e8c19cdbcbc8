"""The driver of an SMMU against the SMMU's model: set-up, entries, commands, events, errors."""

import pytest

from testbed.errors import DeviceError, MemoryFault
from testbed.iommu.features import Features
from testbed.iommu.transactions import Aborted
from testbed.iommu.translate import Granted
from testbed.pci import smmu_entries as entries
from testbed.pci.smmu_driver import COMMAND_BITS, EVENT_BITS, PATIENCE_NS, SmmuDriver
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from tests.iommu.machine import GUEST, HOST, PAGE, RAM, Machine, request

STREAM = 0x180


class Driven(Machine):
    """A machine whose SMMU is programmed by the driver."""

    def __init__(self) -> None:
        super().__init__(Features(stall=False))
        self._next = HOST
        self.driver = SmmuDriver(self.smmu, self.memory, self.allocate, self.pause, lambda: self.now_ns)
        self.driver.start()

    def allocate(self, size_bytes: int) -> int:
        """Return memory below the frames for translation tables."""
        at = (self._next + size_bytes - 1) & -size_bytes
        self._next = at + size_bytes
        assert self._next <= self.frames.base
        return at

    def pause(self) -> None:
        """Let time pass."""
        self.now_ns += PATIENCE_NS // 4


@pytest.fixture
def driven() -> Driven:
    return Driven()


def test_started_smmu_translates_nothing_yet(driven: Driven) -> None:
    assert driven.smmu.translating
    assert isinstance(driven.translate(request(GUEST, STREAM)), Aborted)
    assert [event.name for event in driven.driver.take_events()] == ["C_BAD_STREAMID"]


def test_bypass_entry_lets_a_stream_use_host_physical_addresses(driven: Driven) -> None:
    driven.driver.set_entry(STREAM, entries.bypass_entry())
    answer = driven.translate(request(0x1234_5678, STREAM, write=True))
    assert isinstance(answer, Granted)
    assert answer.output == 0x1234_5678


def test_stage2_entry_translates_guest_addresses(driven: Driven) -> None:
    driven.driver.set_entry(STREAM, entries.stage2_entry(5, driven.stage2_tables().root))

    answer = driven.translate(request(GUEST + 0x123, STREAM, write=True))

    assert isinstance(answer, Granted)
    assert answer.output == RAM + 0x123


def test_entry_that_is_replaced_takes_effect_at_once(driven: Driven) -> None:
    driven.driver.set_entry(STREAM, entries.stage2_entry(5, driven.stage2_tables().root))
    driven.translate(request(GUEST, STREAM))
    driven.driver.set_entry(STREAM, entries.abort_entry())

    assert driven.translate(request(GUEST, STREAM)) == Aborted(None)


def test_neighbours_of_a_stream_are_not_valid(driven: Driven) -> None:
    driven.driver.set_entry(STREAM, entries.stage2_entry(5, driven.stage2_tables().root))
    for stream in (STREAM + 1, STREAM + 2):
        driven.translate(request(GUEST, stream))

    assert [event.name for event in driven.driver.take_events()] == ["C_BAD_STE", "C_BAD_STE"]


def test_nested_entry_takes_the_guests_tables_and_nothing_else(driven: Driven) -> None:
    guest_entry = entries.stage1_entry(GUEST, 3, s.S1DSS_SUBSTREAM0) | s.STE_S2TTB.mask | s.STE_S2S.mask
    mine = entries.nested_entry(guest_entry, 5, 0x4000)

    assert s.STE_CONFIG.get(mine) == s.CONFIG_NESTED
    assert (s.STE_S2TTB.get(mine) << 4, s.STE_S2S.get(mine)) == (0x4000, 0)
    assert mine & s.STE_S1CONTEXTPTR.mask == GUEST
    assert (s.STE_S1CDMAX.get(mine), s.STE_S1DSS.get(mine)) == (3, s.S1DSS_SUBSTREAM0)


def test_event_says_who_did_what(driven: Driven) -> None:
    driven.driver.set_entry(STREAM, entries.stage2_entry(5, driven.stage2_tables().root))
    driven.translate(request(GUEST - PAGE, STREAM, write=True))

    [event] = driven.driver.take_events()

    assert (event.name, event.stream, event.address) == ("F_TRANSLATION", STREAM, GUEST - PAGE)
    assert (event.write, event.stage2, event.ipa, event.substream) == (True, True, GUEST - PAGE, None)
    assert driven.driver.take_events() == []


def test_more_events_than_the_queue_holds_are_lost_and_new_ones_are_told(driven: Driven) -> None:
    for _ in range((1 << EVENT_BITS) + 5):
        driven.translate(request(GUEST, STREAM))
    assert len(driven.driver.take_events()) == 1 << EVENT_BITS

    driven.translate(request(GUEST, STREAM))

    assert len(driven.driver.take_events()) == 1
    assert driven.driver.take_events() == []


def test_command_queue_may_wrap_many_times(driven: Driven) -> None:
    for _ in range(5 << COMMAND_BITS):
        driven.driver.command(entries.invalidate_entry(STREAM))
    driven.driver.sync()

    assert driven.consumed()


def test_illegal_command_is_reported_and_the_queue_goes_on(driven: Driven) -> None:
    driven.driver.command(0xFF)
    with pytest.raises(DeviceError, match="an illegal command"):
        driven.driver.sync()

    driven.driver.sync()

    assert driven.consumed()


def test_sync_that_never_completes_is_given_up(driven: Driven) -> None:
    driven.driver.command(entries.invalidate_device(STREAM))
    with pytest.raises(DeviceError, match="does not answer an invalidation"):
        driven.driver.sync()


def test_lost_invalidation_is_told_once(driven: Driven) -> None:
    driven.driver.command(entries.invalidate_device(STREAM))
    driven.now_ns += 91_000_000_000
    driven.smmu.poll()

    with pytest.raises(DeviceError, match="a device did not answer"):
        driven.driver.sync()
    driven.driver.sync()


def test_event_queue_that_is_no_memory_is_a_global_error(driven: Driven) -> None:
    driven.write("CR0", 0b1000)
    driven.write("EVENTQ_BASE", 0x5000 | EVENT_BITS)
    driven.write("CR0", 0b1101)
    driven.translate(request(GUEST, STREAM))

    assert driven.driver.take_errors() == s.GERROR_EVENTQ_ABT.mask
    assert driven.driver.take_errors() == 0


def test_allocator_without_room_is_told(driven: Driven) -> None:
    def refuse(size_bytes: int) -> int:
        raise MemoryFault(0, size_bytes, "has no room")

    driver = SmmuDriver(driven.smmu, driven.memory, refuse)
    with pytest.raises(MemoryFault):
        driver.start()


@pytest.mark.parametrize(
    ("size", "field"), [(PAGE, 0), (1 << 21, 9), (0, q.ATC_SIZE_ALL)], ids=["page", "block", "all"]
)
def test_device_invalidation_names_a_power_of_two_of_pages(size: int, field: int) -> None:
    command = entries.invalidate_device(3, GUEST, size, substream=7)
    assert q.ATC_SIZE.get(command) == field
    assert (q.COMMAND_SSV.get(command), q.COMMAND_SUBSTREAM.get(command)) == (1, 7)
