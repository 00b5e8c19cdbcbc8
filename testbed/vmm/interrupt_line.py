"""Interrupt lines into a guest: bits of the vCPU's page and the bell that wakes the vCPU.

Reference: design, "Doorbells and interrupts"; GICv3 (IHI 0069) §1.2.1: an edge stays pending until the CPU
takes it, a level is pending for as long as the device asserts it. A vCPU that finds a bit set before it
sleeps stays awake, so a bit that is set already needs no second bell.
"""

from testbed.messages.doorbell import Ringer
from testbed.native import Pinned, SharedWords
from testbed.observe.counters import Counters
from testbed.spec import vcpu_page as spec

_BITS = 64


class _VcpuBit:
    """One INTID's bit in one array of the vCPU's page."""

    def __init__(
        self, array: str, page: Pinned, intid: int, bell: Ringer, counters: Counters, counter: str
    ) -> None:
        self._words = SharedWords(page)
        self._offset = spec.VCPU_PAGE.offset(array, intid // _BITS)
        self._bit = 1 << intid % _BITS
        self._bell, self._counters, self._counter = bell, counters, counter

    def _set(self) -> None:
        if not self._words.set_bits64(self._offset, self._bit) & self._bit:
            self._counters.add(self._counter)
            self._bell.ring()


class VcpuEdge(_VcpuBit):
    """`Edge` for one INTID of one vCPU."""

    def __init__(self, page: Pinned, intid: int, bell: Ringer, counters: Counters, counter: str) -> None:
        super().__init__("pending", page, intid, bell, counters, counter)

    def pulse(self) -> None:
        """Make the interrupt pending; one that is pending already stays one."""
        self._set()


class VcpuLevel(_VcpuBit):
    """`Line` for one INTID of one vCPU."""

    def __init__(self, page: Pinned, intid: int, bell: Ringer, counters: Counters, counter: str) -> None:
        super().__init__("level", page, intid, bell, counters, counter)

    def set_level(self, asserted: bool) -> None:
        """Assert or deassert the line; the vCPU is told of a rise."""
        if asserted:
            self._set()
        else:
            self._words.clear_bits64(self._offset, self._bit)
