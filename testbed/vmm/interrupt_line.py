"""What a device of a guest signals with: an SPI of the guest's interrupt controller.

Reference: testbed/interrupts/signal.py; ARM IHI 0069 §1.2.1: an edge stays pending until the CPU takes it, a
level is pending for as long as the device asserts it. Whether an SPI is edge-triggered is the guest's to say.
"""

from testbed.native import trace
from testbed.observe.counters import Counters
from testbed.spec import trace as events
from testbed.vmm.vgic import Vgic


class SpiEdge:
    """`Edge` for one SPI; `counter` counts the edges that a vCPU is told of."""

    def __init__(self, vgic: Vgic, intid: int, counters: Counters, counter: str) -> None:
        self._vgic, self._intid = vgic, intid
        self._words, self._index = counters.words, counters.index[counter]

    def pulse(self) -> None:
        """Make the interrupt pending; one that is pending already stays one."""
        if trace:
            trace(events.EDGE, self._intid, self._vgic.who_gets(self._intid))
        self._words[self._index] += self._vgic.pulse(self._intid)


class SpiLine:
    """`Line` for one SPI; `counter` counts its rises."""

    def __init__(self, vgic: Vgic, intid: int, counters: Counters, counter: str) -> None:
        self._vgic, self._intid = vgic, intid
        self._words, self._index = counters.words, counters.index[counter]

    def set_level(self, asserted: bool) -> None:
        """Assert or deassert the line."""
        if trace:
            trace(events.LINE_SET, self._intid, asserted, self._vgic.who_gets(self._intid))
        changed = self._vgic.set_level(self._intid, asserted)
        self._words[self._index] += changed and asserted
