"""The state of interrupts as a distributor or redistributor keeps it: sets of them, one bit each.

Reference: ARM IHI 0069 §1.2 (states), §4.1 (life cycle), §4.8 (priorities). An edge is latched until it is
taken; a level is pending for as long as its line is asserted, or until taken where software made it pending.
A set is an integer: bit n is INTID `first` + n, so what concerns many interrupts is one operation. Not
modelled: interrupts that are both 1 of N and targeted, extended ranges.
"""

from collections.abc import Callable
from typing import Final

from testbed.spec import gic
from testbed.spec.lpi import LPI_ENABLE

LEVELS: Final = 1 << gic.PRIORITY_BITS
_UNUSED_BITS: Final = 8 - gic.PRIORITY_BITS


class Bank:
    """`count` interrupts from INTID `first` on. `edge` and `group1` are what they are at reset."""

    __slots__ = (
        "active",
        "count",
        "edge",
        "enabled",
        "everything",
        "first",
        "group1",
        "latched",
        "levels",
        "line",
        "listed",
        "priorities",
    )

    def __init__(self, first: int, count: int, edge: int = 0) -> None:
        self.first, self.count, self.everything = first, count, (1 << count) - 1
        self.enabled = self.group1 = self.latched = self.line = self.active = 0
        self.edge = edge
        self.listed = 0
        """In a list register of a vCPU; what is pending or active of those is there."""
        self.priorities = bytearray(count)
        self.levels = [0] * LEVELS
        """The interrupts of each priority."""
        self.levels[0] = self.everything

    @property
    def pending(self) -> int:
        """Those that are pending, apart from what is in list registers."""
        return self.latched | (self.line & ~self.edge)

    def set_priority(self, number: int, priority: int) -> None:
        """Give interrupt `first` + `number` a priority; bits that are not implemented are dropped (§4.8)."""
        bit, old = 1 << number, self.priorities[number]
        priority &= gic.PRIORITY_MASK
        if priority != old:
            self.levels[old >> _UNUSED_BITS] &= ~bit
            self.levels[priority >> _UNUSED_BITS] |= bit
            self.priorities[number] = priority

    def set_line(self, bit: int, asserted: bool) -> None:
        """Take the level of an interrupt's line; a rise of one that is edge-triggered is latched."""
        if not asserted:
            self.line &= ~bit
        elif not self.line & bit:
            self.line |= bit
            self.latched |= bit & self.edge

    def in_groups(self, groups: int) -> int:
        """Return those that belong to the groups enabled: bit 0 group 0, bit 1 group 1."""
        return (self.group1 if groups & 2 else 0) | (self.everything & ~self.group1 if groups & 1 else 0)


class LpiBank(Bank):
    """The LPIs of one redistributor: edges of group 1 without an active state (§6.1).

    `config` returns an LPI's configuration byte; it is asked once and again after an invalidation.
    """

    __slots__ = ("_known", "config")

    def __init__(self, first: int, count: int) -> None:
        super().__init__(first, count, edge=(1 << count) - 1)
        self.group1 = self.everything
        self._known = 0
        self.config: Callable[[int], int] = lambda _number: 0

    def latch(self, number: int) -> None:
        """Make an LPI pending."""
        self.latched |= 1 << number
        if not self._known >> number & 1:
            self._learn(number)

    def invalidate(self, numbers: int) -> None:
        """Forget configurations; those of what is pending are looked at anew."""
        self._known &= ~numbers
        self.enabled &= ~numbers
        pending = self.latched & numbers
        while pending:
            low = pending & -pending
            self._learn(low.bit_length() - 1)
            pending ^= low

    def _learn(self, number: int) -> None:
        byte = self.config(number)
        self._known |= 1 << number
        if byte & LPI_ENABLE.mask:
            self.enabled |= 1 << number
        self.set_priority(number, byte)


def bits(members: int) -> list[int]:
    """Return the numbers in a set, ascending."""
    found = []
    while members:
        low = members & -members
        found.append(low.bit_length() - 1)
        members ^= low
    return found
