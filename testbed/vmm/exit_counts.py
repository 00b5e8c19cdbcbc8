"""Exits by register: which counter an access to a register block goes to.

Reference: testbed/observe/catalogue.py has the names. Not modelled: members of a family apart.
"""

from testbed.observe.catalogue import exit_counter
from testbed.observe.counters import Counters
from testbed.spec.layout import RegisterMap


class ExitCounts:
    """Those of one register block of one NIC."""

    def __init__(self, counters: Counters, nic: str, registers: RegisterMap) -> None:
        self._index, self._nic, self._registers = counters.index, nic, registers

    def index(self, offset: int, *, write: bool) -> int:
        """Return the word that counts accesses to the register that holds the byte at `offset`."""
        found = self._registers.holding(offset)
        name = exit_counter(self._nic, found[0] if found else None, write=write)
        return self._index[name]


class GicExitCounts:
    """Those of a guest's interrupt controller, all its registers together."""

    def __init__(self, counters: Counters) -> None:
        self._read, self._write = counters.index["exits.gic.read"], counters.index["exits.gic.write"]

    def index(self, offset: int, *, write: bool) -> int:
        """Return the word that counts an access, wherever it is."""
        assert offset >= 0
        return self._write if write else self._read
