"""The vPEs that an ITS delivers virtual LPIs to.

Reference: ARM IHI 0069 H.b chapter 6 (GICv4), §5.3 (VMAPP, VMOVP). A vPE is known by its entry in the vPE
table; its port (vCPU page, virtual pending table) is made when it is first needed. The vCPU that runs a vPE
is the one whose page is registered for the vPE's virtual pending table: in hardware, whoever has that address
in its GICR_VPENDBASER. A vPE without such a page is never resident. Not modelled: GICv4.1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from testbed.errors import ItsFault, MemoryFault
from testbed.iommu.its_redistributor import Redistributor
from testbed.iommu.its_tables import ItsMemory, ItsTables, Vpe
from testbed.native import POST_ABSENT, POST_WAKE, LpiPort, Pinned, VpePort
from testbed.spec import lpi
from testbed.spec.vcpu_page import VCPU_PAGE


@dataclass(frozen=True, slots=True)
class VcpuBacking:
    """The page of the vCPU that a vPE is scheduled on, and what sends it the one message it asked for."""

    page: Pinned
    wake: Callable[[], None]


Backings = Callable[[int], VcpuBacking | None]
"""Find the vCPU by the address of the virtual pending table."""


class Vpes:
    """Ports by vPEID."""

    def __init__(
        self, memory: ItsMemory, tables: ItsTables, redistributors: list[Redistributor], backings: Backings
    ) -> None:
        self._memory, self._tables = memory, tables
        self._redistributors, self._backings = redistributors, backings
        self._ports: dict[int, tuple[VpePort, Callable[[], None], Vpe]] = {}

    def port(self, vpe: int) -> VpePort:
        """Return the port of a mapped vPE; VCPU_OOR, VCPU_INVALID, TABLE_FAULT."""
        return self._find(vpe)[0]

    def entry(self, vpe: int) -> Vpe:
        """Return what is mapped; as `port`."""
        return self._find(vpe)[2]

    def drop(self, vpe: int) -> None:
        """Forget a vPE: its entry has changed."""
        self._ports.pop(vpe, None)

    def drop_all(self) -> None:
        """Forget every vPE."""
        self._ports.clear()

    def move(self, vpe: int, processor: int) -> None:
        """Take a vPE to be on another processor (VMOVP): its entry changes, its port lives on."""
        port, wake, entry = self._find(vpe)
        moved = Vpe(processor, entry.vpt, entry.id_bits)
        self._tables.map_vpe(vpe, moved)
        self._ports[vpe] = port, wake, moved
        if port.move(processor):
            wake()

    def number(self, vpe: int, vintid: int) -> int:
        """Return the number of a virtual LPI from 8192; VIRTUALID_OOR where the vPE has no such one."""
        if vintid >> self.entry(vpe).id_bits or not lpi.LPI_FIRST <= vintid < lpi.LPI_FIRST + lpi.VLPIS:
            raise ItsFault("VIRTUALID_OOR", f"vPEID {vpe:#x} has no virtual LPI {vintid}")
        return vintid - lpi.LPI_FIRST

    def post(self, vpe: int, vintid: int, doorbell: int) -> None:
        """Make a virtual LPI pending."""
        outcome = self.port(vpe).post(self.number(vpe, vintid))
        if outcome == POST_WAKE:
            self.wake(vpe)
        elif outcome == POST_ABSENT:
            self.ring_doorbell(vpe, doorbell)

    def wake(self, vpe: int) -> None:
        """Send a vCPU the message that it asked for."""
        self._find(vpe)[1]()

    def ring_doorbell(self, vpe: int, doorbell: int) -> None:
        """A vPE that is not resident has something pending: make its doorbell pending at its processor."""
        if doorbell != lpi.INTID_NONE:
            self._redistributors[self.entry(vpe).processor].set_pending(doorbell)

    def doorbell_port(self, vpe: int, doorbell: int) -> tuple[LpiPort | None, int]:
        """Return where a vPE's doorbell is raised and at which processor; no port where it is not known to be
        enabled.
        """
        processor = self.entry(vpe).processor
        redistributor = self._redistributors[processor]
        return redistributor.port if redistributor.is_known_enabled(doorbell) else None, processor

    def config_changed(self, vpe: int) -> None:
        """Have the vCPU look at its configuration table anew."""
        if self.port(vpe).config_changed():
            self.wake(vpe)

    def _find(self, vpe: int) -> tuple[VpePort, Callable[[], None], Vpe]:
        found = self._ports.get(vpe)
        if found is None:
            found = self._ports[vpe] = self._make(self._tables.vpe(vpe))
        return found

    def _make(self, entry: Vpe) -> tuple[VpePort, Callable[[], None], Vpe]:
        backing = self._backings(entry.vpt)
        if backing is None:
            backing = VcpuBacking(Pinned(bytearray(VCPU_PAGE.size)), lambda: None)
        try:
            words = self._memory.view(entry.vpt + lpi.PENDING_RESERVED_BYTES, lpi.VLPI_WORDS * 8)
        except MemoryFault as fault:
            raise ItsFault("TABLE_FAULT", fault.detail) from fault
        return VpePort(backing.page, Pinned(words), entry.processor), backing.wake, entry
