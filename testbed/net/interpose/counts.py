"""The counters of one port, as interposers count in them."""

from testbed.native import Pinned
from testbed.spec.port_counters import PORT_COUNTERS

_WORD_BYTES = 8


class PortCounts:
    """A `port_counters` record that begins at `offset`."""

    def __init__(self, counters: Pinned, offset: int = 0) -> None:
        self._words = counters.words(offset, PORT_COUNTERS.size)

    def add(self, member: str, amount: int) -> None:
        """Count `amount` more."""
        if amount:
            self._words[PORT_COUNTERS.offset(member) // _WORD_BYTES] += amount
