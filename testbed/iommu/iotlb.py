"""The caches: configurations by stream and substream, translations tagged by stream, VMID and ASID.

Reference: ARM IHI 0070 G.b §3.21, §4.3, §4.4 (scope of every invalidation). The table itself is native
(testbed/native/iotlb.c); what may be cached and what a command removes is decided here. A translation
belongs to the configuration that made it, so that invalidating a stream takes its translations along
(permitted over-invalidation). A burst's miss is walked natively, too, where the memory is known. Not
modelled: caching of faults, of intermediate tables and of level-1 descriptors; sharing of entries between
streams.
"""

from dataclasses import dataclass

from testbed.iommu.events import Request
from testbed.iommu.stream_table import Configuration
from testbed.iommu.translate import Granted, canonical
from testbed.memory.host import HostMemory
from testbed.memory.walk import Permission
from testbed.native import Iotlb, Pinned

FOLDED_TOP = 1 << 48
FOLDED_LAST = (1 << 49) - 1
_Key = tuple[int, int | None]


def fold(address: int) -> int:
    """Return the 49-bit form of an input address: bits 47 to 0 and bit 55 above them."""
    return address % FOLDED_TOP | (FOLDED_TOP if address >> 55 & 1 else 0)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a TLB invalidation names; None matches everything."""

    vmid: int | None = None
    asid: int | None = None
    global_too: bool = False
    """With an ASID: entries shared by every ASID go too."""
    first: int = 0
    """First and last folded input address."""
    last: int = FOLDED_LAST
    stage1: bool = True
    """Entries that stage 1 had a part in."""
    stage2: bool = True
    """Entries of stage 2 alone."""


class TranslationCache:
    """Configuration cache and IOTLB of one SMMU."""

    def __init__(self, entries: int = 4096, contexts: int = 1024, address_bits: int = 48) -> None:
        self.table, self._address_bits = Iotlb(entries, contexts), address_bits
        self._configurations: dict[_Key, Configuration] = {}
        self._contexts: dict[_Key, int] = {}

    def walk_in(self, memory: HostMemory) -> None:
        """Have what misses walked natively; a walk that is refused, and its record, stay Python's."""
        self.table.walk_in(memory.host_map)

    def configuration(self, request: Request) -> Configuration | None:
        """Return the cached configuration of a transaction's stream and substream."""
        return self._configurations.get((request.stream, request.substream))

    def add(self, request: Request, configuration: Configuration) -> None:
        """Cache a configuration. Where the table has no room left, everything is forgotten first."""
        key = (request.stream, request.substream)
        if len(self._configurations) >= self.table.contexts:
            self.drop_streams(0, 0xFFFF_FFFF)
        self._configurations[key] = configuration
        if configuration.aborts:
            return
        entry = configuration.entry
        context = self.table.add_context(*key, entry.vmid, configuration.asid, configuration.bypasses)
        if context is not None:
            self._contexts[key] = context
            if not configuration.bypasses:
                self._set_tables(context, configuration)

    def _set_tables(self, context: int, configuration: Configuration) -> None:
        entry, cd = configuration.entry, configuration.context
        lower, upper = (cd.lower, cd.upper) if cd is not None else (None, None)
        self.table.set_tables(context, cd is not None, lower, upper, entry.stage2, self._address_bits)

    def fill(self, request: Request, configuration: Configuration, granted: Granted) -> None:
        """Cache a translation of the transaction's address."""
        context = self._contexts.get((request.stream, request.substream))
        if context is None or configuration.bypasses:
            return
        self.table.fill(
            context,
            canonical(request.address, configuration.context),
            granted.output,
            granted.block_bytes,
            int(granted.permissions),
            granted.is_global,
            granted.stage1_bytes,
        )

    def lookup(self, request: Request, configuration: Configuration, needed: Permission) -> int | None:
        """Return the cached output address that grants all that is needed, or None."""
        context = self._contexts.get((request.stream, request.substream))
        if context is None:
            return None
        return self.table.lookup(context, canonical(request.address, configuration.context), int(needed))

    def translate(
        self, requests: Pinned, first: int, count: int, pieces: Pinned, used: int
    ) -> tuple[int, int, bool]:
        """Translate a burst until a request misses: (requests translated, pieces held, whether `pieces` is
        full).
        """
        return self.table.translate(requests, first, count, pieces, used)

    def drop_streams(self, first: int, last: int) -> None:
        """Forget every configuration of a range of streams and what was translated by them."""
        self.table.drop_streams(first, min(last, 0xFFFF_FFFF))
        for key in [key for key in self._configurations if first <= key[0] <= last]:
            self._forget(key)

    def drop_context(self, stream: int, index: int) -> None:
        """Forget the CD that a stream read from index `index` of its table (§4.3.3)."""
        keys: list[_Key] = [(stream, index)]
        if index == 0:
            keys.append((stream, None))
        for key in keys:
            if key in self._configurations:
                self.table.drop_context(*key)
                self._forget(key)

    def invalidate(self, scope: Scope) -> int:
        """Remove the translations that a command names; return how many."""
        return self.table.invalidate(
            scope.vmid, scope.asid, scope.global_too, scope.first, scope.last, scope.stage1, scope.stage2
        )

    def _forget(self, key: _Key) -> None:
        del self._configurations[key]
        self._contexts.pop(key, None)
