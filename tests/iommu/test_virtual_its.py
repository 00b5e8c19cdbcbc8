"""A guest's ITS: what its commands make of the host's. The guest drives it with the driver that it has."""

from collections.abc import Callable

import pytest

from testbed.iommu.virtual_its import COMMANDS_A_TURN, VirtualIts
from testbed.memory.host import HostMemory
from testbed.memory.segment import Segment
from testbed.pci.its_software import ItsSoftware
from testbed.spec import its_commands as c

BASE, BYTES = 0x4000_0000, 1 << 20
DEVICE, FOREIGN = 0x08, 0x10
LPI = 8192
VCPUS = 2


class Recorded:
    """The host's ITS: what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.asked.append((name, *arguments))

    def take(self) -> list[tuple[object, ...]]:
        """Return what was asked for since."""
        asked, self.asked = self.asked, []
        return asked


class Guest:
    """A guest's memory, its ITS and its driver."""

    def __init__(self) -> None:
        self.memory = HostMemory([Segment("ram", BYTES, BASE, bytearray(BYTES))])
        self._next = BASE
        self.host = Recorded()
        self.reports: list[str] = []
        self.its = VirtualIts(
            self.memory, VCPUS, {DEVICE: 3}, self.host, lambda reason, _detail: self.reports.append(reason)
        )
        self.driver = ItsSoftware(self.its, self.memory, self.allocate, self.go_on)
        self.driver.start(VCPUS)
        self.host.take()

    def go_on(self) -> None:
        """Give the ITS its turn."""
        self.its.poll()

    def allocate(self, size_bytes: int) -> int:
        at = (self._next + size_bytes - 1) & -size_bytes
        self._next = at + size_bytes
        return at


@pytest.fixture
def guest() -> Guest:
    guest = Guest()
    guest.driver.map_device(DEVICE, 3)
    return guest


def test_event_is_led_moved_and_dropped_as_the_guest_says(guest: Guest) -> None:
    guest.driver.map_event(DEVICE, 1, LPI + 5, 1)
    guest.driver.move_event(DEVICE, 1, 0)
    guest.driver.move_event(DEVICE, 1, 0)
    guest.driver.unmap_event(DEVICE, 1)

    assert guest.host.take() == [
        ("lead", DEVICE, 1, 1, LPI + 5),
        ("changed", DEVICE, 1),
        ("move", DEVICE, 1, 0),
        ("drop", DEVICE, 1),
    ]
    assert guest.reports == []


def test_interrupts_that_software_raises_and_clears_are_the_host_s(guest: Guest) -> None:
    guest.driver.map_event(DEVICE, 0, LPI)
    guest.host.take()
    guest.driver.raise_event(DEVICE, 0)
    guest.driver.clear_event(DEVICE, 0)
    guest.driver.command(c.OP_INVALL, (c.COMMAND_ICID, 1))
    guest.driver.sync()

    assert guest.host.take() == [("post", DEVICE, 0), ("clear", DEVICE, 0), ("all_changed", 1)]


def test_collection_that_moves_takes_its_events_along(guest: Guest) -> None:
    guest.driver.map_event(DEVICE, 0, LPI, 0)
    guest.driver.map_event(DEVICE, 2, LPI + 2, 1)
    guest.host.take()
    guest.driver.command(c.OP_MAPC, (c.COMMAND_ICID, 0), (c.COMMAND_RDBASE, 1), (c.COMMAND_V, 1))
    guest.driver.command(c.OP_MAPC, (c.COMMAND_ICID, 1))
    guest.driver.sync()

    assert guest.host.take() == [("move", DEVICE, 0, 1), ("drop", DEVICE, 2)]


def test_device_that_is_mapped_anew_has_no_events(guest: Guest) -> None:
    guest.driver.map_event(DEVICE, 0, LPI)
    guest.host.take()
    guest.driver.map_device(DEVICE, 3)
    guest.driver.raise_event(DEVICE, 0)

    assert guest.host.take() == [("drop", DEVICE, 0)]
    assert guest.reports == ["INT_UNMAPPED_INTERRUPT"]


def test_other_devices_and_events_lead_nowhere(guest: Guest) -> None:
    guest.driver.map_device(FOREIGN, 3)
    guest.driver.map_device(DEVICE, 16)
    guest.driver.map_event(FOREIGN, 0, LPI)
    guest.driver.move_event(FOREIGN, 0, 1)
    guest.driver.raise_event(FOREIGN, 0)
    guest.driver.map_event(DEVICE, 3, LPI)

    assert guest.host.take() == []


@pytest.mark.parametrize("intid", [LPI + 1024, LPI - 1])
def test_interrupt_that_no_vcpu_has_is_refused(guest: Guest, intid: int) -> None:
    guest.driver.map_event(DEVICE, 0, intid)

    assert guest.host.take() == []
    assert guest.reports[0] == "MAPTI_PHYSICALID_OOR"


def test_processor_that_is_no_vcpu_is_refused(guest: Guest) -> None:
    guest.driver.command(c.OP_MAPC, (c.COMMAND_ICID, 0), (c.COMMAND_RDBASE, VCPUS), (c.COMMAND_V, 1))
    guest.driver.sync()

    assert guest.reports == ["MAPC_PROCNUM_OOR"]


def test_long_queue_takes_several_turns(guest: Guest) -> None:
    waited = 0

    def pause() -> None:
        nonlocal waited
        waited += 1
        guest.its.poll()

    guest.driver._pause = pause
    guest.driver._its = _Late(guest.its)
    for event in (0, 1, 2):
        guest.driver.of_event(c.OP_MAPTI, DEVICE, event, (c.MAPTI_PINTID, LPI + event))
    for _ in range(2 * COMMANDS_A_TURN):
        guest.driver.of_event(c.OP_INV, DEVICE, 0)
    guest.its.write(0x88, 8, guest.driver._writer)
    assert len(guest.host.asked) == COMMANDS_A_TURN
    guest.driver._its = guest.its
    guest.driver.sync()

    assert waited >= 1
    assert len(guest.host.take()) == 3 + 2 * COMMANDS_A_TURN


class _Late:
    """Registers of an ITS that is not told of each command."""

    def __init__(self, its: VirtualIts) -> None:
        self._its = its

    def read(self, offset: int, size_bytes: int) -> int:
        """Return a register."""
        return self._its.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Keep what is written."""
