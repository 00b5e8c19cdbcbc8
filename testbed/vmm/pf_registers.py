"""The physical function's registers by name, as its driver uses them.

Reference: testbed/spec/igb.py. A read waits for the device, a write does not; so values that only the driver
changes are kept here and read from the device once.
"""

from testbed.errors import DeviceError
from testbed.pci.access import RegisterBus
from testbed.spec import bar_window
from testbed.spec.igb import REGISTERS

_ALL_ONES_32 = bar_window.ALL_ONES & 0xFFFF_FFFF
_POLLS_MAX = 1_000


class PfRegisters:
    """BAR 0 of the physical function."""

    def __init__(self, bus: RegisterBus) -> None:
        self._bus = bus
        self._kept: dict[int, int] = {}

    def read(self, name: str, index: int = 0) -> int:
        """Return a register, as the device has it."""
        return self._bus.read32(REGISTERS[name].at(index))

    def write(self, name: str, value: int, index: int = 0) -> None:
        """Write a register."""
        offset = REGISTERS[name].at(index)
        if offset in self._kept:
            self._kept[offset] = value
        self._bus.write32(offset, value)

    def write_all(self, name: str, value: int) -> None:
        """Write every member of a family."""
        for index in range(REGISTERS[name].count):
            self.write(name, value, index)

    def change(self, name: str, clear: int, add: int, index: int = 0) -> None:
        """Clear and set bits of a register that nobody else changes; nothing is written where it is so."""
        offset = REGISTERS[name].at(index)
        before = self._kept.get(offset)
        if before is None:
            before = self._bus.read32(offset)
        value = before & ~clear | add
        self._kept[offset] = value
        if value != before:
            self._bus.write32(offset, value)

    def forget(self) -> None:
        """The device was reset: what was kept is not so any more."""
        self._kept.clear()

    def wait(self, name: str, bits: int, wanted: int, purpose: str) -> int:
        """Read a register until its `bits` are as wanted; return it. DeviceError where they never are."""
        for _ in range(_POLLS_MAX):
            value = self.read(name)
            if value == _ALL_ONES_32:
                raise DeviceError(f"82576: the device does not answer while it should {purpose}")
            if value & bits == wanted:
                return value
        raise DeviceError(f"82576: the device does not {purpose}: {name} reads {value:#x} for too long")
