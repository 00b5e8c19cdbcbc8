"""The part of a GICv3 redistributor that deals with physical LPIs: which are enabled, which are pending.

Reference: ARM IHI 0069 H.b §6.1 (LPIs), §6.1.1 (configuration table; may be cached until INV), §6.1.2
(pending table), §12.11 (GICR_PROPBASER, GICR_PENDBASER). An enabled LPI that becomes pending is raised at the
host processor, where software takes it; one that is disabled waits in the pending table. Not modelled:
priorities between physical LPIs (the host takes all that are raised at once), EnableLPIs turned off again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from testbed.errors import ItsFault, MemoryFault
from testbed.iommu.its_tables import ItsMemory
from testbed.native import LpiPort
from testbed.spec import lpi as s


@dataclass(frozen=True, slots=True)
class LpiTables:
    """GICR_PROPBASER and GICR_PENDBASER: where software keeps the two tables, and bits of an INTID."""

    config: int
    pending: int
    id_bits: int = s.ID_BITS_MIN


class Redistributor:
    """One host processor's LPIs; `wake` sends the processor the one message that it asked for."""

    tables: LpiTables | None
    """Where the tables are; None: LPIs are not enabled, and none becomes pending (GICR_CTLR.EnableLPIs)."""

    def __init__(
        self,
        memory: ItsMemory,
        tables: LpiTables | None,
        port: LpiPort,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._memory, self.tables = memory, tables
        self.port, self.wake = port, wake
        self._enabled: dict[int, bool] = {}

    def is_enabled(self, intid: int) -> bool:
        """Tell what the configuration table said when it was last looked at."""
        enabled = self._enabled.get(intid)
        if enabled is None:
            if self.tables is None:
                return False
            entry = self._load(self.tables.config + s.config_offset(intid))
            enabled = self._enabled[intid] = bool(s.LPI_ENABLE.get(entry))
        return enabled

    def is_known_enabled(self, intid: int) -> bool:
        """Tell whether the configuration table has been looked at and said so; it is not looked at now."""
        return self._enabled.get(intid, False)

    def set_pending(self, intid: int) -> None:
        """Make an LPI pending."""
        if self.is_enabled(intid):
            self._raise(intid)
        else:
            self._mark(intid, True)

    def take(self, intid: int) -> bool:
        """Make an LPI not pending; tell whether it was."""
        raised = self.port.take(intid - s.LPI_FIRST)
        marked = self._is_marked(intid)
        if marked:
            self._mark(intid, False)
        return raised or marked

    def is_pending(self, intid: int) -> bool:
        """Tell whether an LPI waits in the pending table."""
        return self._is_marked(intid)

    def invalidate(self, intid: int) -> None:
        """Look at an LPI's configuration anew: one that waited may be raised, one that is disabled waits."""
        self._enabled.pop(intid, None)
        if self.take(intid):
            self.set_pending(intid)

    def invalidate_all(self) -> None:
        """Look at every configuration anew."""
        known, self._enabled = set(self._enabled), {}
        for intid in sorted(known | set(self._marked())):
            if self.take(intid):
                self.set_pending(intid)

    def move_all(self, other: "Redistributor") -> None:
        """Let every pending LPI be pending at another processor instead."""
        raised = [n + s.LPI_FIRST for n in self.port.take_all()]
        for intid in sorted({*raised, *self._marked()}):
            self.take(intid)
            other.set_pending(intid)

    def _raise(self, intid: int) -> None:
        if self.port.raise_lpi(intid - s.LPI_FIRST):
            self.wake()

    def _marked(self) -> list[int]:
        """Return every LPI whose bit of the pending table is set."""
        if self.tables is None:
            return []
        words = self._read(self.tables.pending + s.PENDING_RESERVED_BYTES, s.HOST_LPIS // 8)
        image = int.from_bytes(words, "little")
        return [s.LPI_FIRST + n for n in range(s.HOST_LPIS) if image >> n & 1] if image else []

    def _is_marked(self, intid: int) -> bool:
        if self.tables is None:
            return False
        return bool(self._load(self.tables.pending + intid // 8) >> intid % 8 & 1)

    def _mark(self, intid: int, pending: bool) -> None:
        if self.tables is None:
            return
        address = self.tables.pending + intid // 8
        byte = self._load(address) & ~(1 << intid % 8) | pending << intid % 8
        try:
            self._memory.write(address, bytes([byte]))
        except MemoryFault as fault:
            raise ItsFault("TABLE_FAULT", fault.detail) from fault

    def _load(self, address: int) -> int:
        return self._read(address, 1)[0]

    def _read(self, address: int, length_bytes: int) -> bytes:
        try:
            return self._memory.read(address, length_bytes)
        except MemoryFault as fault:
            raise ItsFault("TABLE_FAULT", fault.detail) from fault
