"""An interrupt line into a guest: a bit of the vCPU's page and the bell that wakes the vCPU.

Reference: design, "Doorbells and interrupts". Level-triggered: the bit is the level. The vCPU that finds it set before it sleeps stays awake, so a
line that is asserted already needs no second bell.
"""

from testbed.messages.doorbell import Doorbell
from testbed.native import Pinned, SharedWords
from testbed.observe.counters import Counters
from testbed.spec import vcpu_page as spec

_BITS = 64


class VcpuLine:
    """`Line` for one INTID of one vCPU."""

    def __init__(self, page: Pinned, intid: int, bell: Doorbell, counters: Counters, counter: str) -> None:
        self._words = SharedWords(page)
        self._offset = spec.VCPU_PAGE.offset("pending", intid // _BITS)
        self._bit = 1 << intid % _BITS
        self._bell, self._counters, self._counter = bell, counters, counter

    def set_level(self, asserted: bool) -> None:
        """Assert or deassert the line; the vCPU is told of a rise."""
        if not asserted:
            self._words.clear_bits64(self._offset, self._bit)
        elif not self._words.set_bits64(self._offset, self._bit) & self._bit:
            self._counters.add(self._counter)
            self._bell.ring()
