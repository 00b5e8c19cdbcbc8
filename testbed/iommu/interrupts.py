"""A host's ITS among its neighbours: the window to which devices write, the processor and the vCPUs.

Reference: ARM IHI 0069 H.b §12.18 (frames), design, "Interrupt virtualization". Built by the composition root
out of what the plan grants; owns no socket. Not modelled: more than one host processor that takes LPIs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from testbed.address import PAGE_SIZE_BYTES
from testbed.iommu.dma_service import MessageWindow
from testbed.iommu.its import Its
from testbed.iommu.its_lpi_frame import LpiFrame
from testbed.iommu.its_redistributor import Redistributor
from testbed.iommu.its_vpes import VcpuBacking
from testbed.memory.host import HostMemory
from testbed.native import LpiPort, Pinned
from testbed.spec import its as s


@dataclass(frozen=True, slots=True)
class HostProcessor:
    """The page of the hypervisor's processor, and what wakes it."""

    page: Pinned
    wake: Callable[[], None]


class HostInterrupts:
    """The ITS and the redistributor of a host."""

    def __init__(
        self,
        memory: HostMemory,
        base_hpa: int,
        processor: HostProcessor,
        vcpus: Mapping[int, VcpuBacking],
        report: Callable[[str, str], None],
    ) -> None:
        redistributor = Redistributor(memory, None, LpiPort(processor.page), processor.wake)
        self.redistributor = LpiFrame(redistributor)
        self.its = Its(memory, [redistributor], vcpus.get, report=report)
        self.message_hpa = base_hpa + s.ITS["TRANSLATER"].offset
        """Where devices write events."""

    @property
    def windows(self) -> dict[int, MessageWindow]:
        """The page in which GITS_TRANSLATER is, for those who carry out devices' writes."""
        return {self.message_hpa & -PAGE_SIZE_BYTES: self._message}

    def _message(self, stream: int, offset: int, value: int) -> bool | None:
        """A device wrote 4 bytes; its DeviceID is its requester ID."""
        if offset != self.message_hpa % PAGE_SIZE_BYTES:
            return None
        return self.its.signal(stream, value)

    def counts(self) -> dict[str, int]:
        """Return what the ITS did, by the names of its counters."""
        hits, misses, delivered, wakes, absent = self.its.cache.counts
        return {
            "hits": hits,
            "misses": misses,
            "delivered": delivered,
            "wakes": wakes,
            "absent": absent,
            "dropped": self.its.dropped.total(),
            "commands": self.its.commands.executed.total(),
            "command_errors": self.its.commands.errors.total(),
        }
