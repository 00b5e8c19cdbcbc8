"""Which device answers: windows do not overlap, and an access belongs to one device whole or to none."""

import pytest

from testbed.errors import DeviceError
from testbed.vmm.bus import Bus

WINDOW = 0x200


class Device:
    """A register block that nobody reads or writes here."""

    def read(self, offset: int, size_bytes: int) -> int:
        raise AssertionError(f"read of {size_bytes} bytes at {offset:#x}")

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        raise AssertionError(f"write of {size_bytes} bytes at {offset:#x}: {value:#x}")


@pytest.fixture
def devices() -> tuple[Device, Device]:
    return Device(), Device()


@pytest.fixture
def bus(devices: tuple[Device, Device]) -> Bus:
    bus = Bus()
    bus.add(0x2000, WINDOW, devices[1])
    bus.add(0x1000, WINDOW, devices[0])
    return bus


@pytest.mark.parametrize(
    ("gpa", "size_bytes", "which", "offset"),
    [
        (0x1000, 4, 0, 0),
        (0x11FC, 4, 0, 0x1FC),
        (0x11FF, 1, 0, 0x1FF),
        (0x2000, 8, 1, 0),
    ],
)
def test_bus_finds_device_and_offset(
    bus: Bus, devices: tuple[Device, Device], gpa: int, size_bytes: int, which: int, offset: int
) -> None:
    found = bus.find(gpa, size_bytes)
    assert found is not None
    assert (found.device, gpa - found.base) == (devices[which], offset)


@pytest.mark.parametrize(
    ("gpa", "size_bytes"),
    [(0, 4), (0xFFF, 1), (0xFFE, 4), (0x11FD, 4), (0x1200, 1), (0x2200, 1), ((1 << 64) - 1, 8)],
)
def test_bus_access_that_is_not_wholly_in_a_window_finds_nothing(bus: Bus, gpa: int, size_bytes: int) -> None:
    assert bus.find(gpa, size_bytes) is None


def test_bus_empty_finds_nothing() -> None:
    assert Bus().find(0, 1) is None


@pytest.mark.parametrize("gpa", [0x1000, 0x0FFF, 0x0E01, 0x11FF, 0x1F00, 0x2100])
def test_bus_windows_may_not_overlap(bus: Bus, gpa: int) -> None:
    with pytest.raises(DeviceError, match=f"a window of 0x200 bytes at {gpa:#x} overlaps another device"):
        bus.add(gpa, WINDOW, Device())


@pytest.mark.parametrize("gpa", [0x0E00, 0x1200, 0x1E00, 0x2200])
def test_bus_windows_may_touch(bus: Bus, gpa: int) -> None:
    device = Device()
    bus.add(gpa, WINDOW, device)
    found = bus.find(gpa, 4)
    assert found is not None
    assert (found.device, found.base) == (device, gpa)
