"""A host's memory behind an SMMU in one process, and functions of a device that reach it through rings.

`DmaRig`: rings that are served at once. `LinkedRig`: a device and its IOMMU's end over the area that two
processes would share; nothing moves before `run`.
"""

from collections.abc import Callable

from testbed.iommu.attachment import Attachment
from testbed.iommu.client import DmaClient, SharedArea
from testbed.iommu.dma_service import DmaService, MessageWindow
from testbed.native import DmaRequester, DmaServer, Pinned
from testbed.spec import dma_area as area
from testbed.spec import dma_request as d
from tests.iommu.machine import Machine
from tests.support.immediate_port import ImmediatePort

DEVICE_MEMORY_BYTES = 1 << 20
SLOTS = 256
_LINE = 64


def aligned(size_bytes: int) -> memoryview:
    """Return zeroed memory that begins at a cache line."""
    whole = bytearray(size_bytes + _LINE)
    start = -Pinned(whole).address % _LINE
    return memoryview(whole)[start : start + size_bytes]


class DmaRig(Machine):
    """`Machine` with device memory and a ring for each stream asked for; the SMMU is enabled."""

    def __init__(self, *streams: int, slots: int = SLOTS) -> None:
        super().__init__()
        self.device_memory = bytearray(DEVICE_MEMORY_BYTES)
        self.windows: dict[int, MessageWindow] = {}
        self.services: dict[int, DmaService] = {}
        self.pages = {stream: aligned(d.ring_bytes(slots)) for stream in streams}
        self.ports = {stream: self._port(stream, slots) for stream in streams}
        self.enable()

    def _port(self, stream: int, slots: int) -> ImmediatePort:
        page = Pinned(self.pages[stream])
        service = self.service(SharedArea(page, slots, Pinned(self.device_memory)), 0, stream)
        self.services[stream] = service
        return ImmediatePort(DmaRequester(page, 0, slots, stream), lambda: _drain(service))

    def service(self, shared: SharedArea, offset: int, stream: int) -> DmaService:
        """Return what serves a ring."""
        table = self.smmu.cache.table
        server = DmaServer(
            shared.page, offset, shared.slots, stream, shared.buffer, self.memory.host_map, table
        )
        return DmaService(server, self.smmu, self.memory, lambda: self.now_ns, self.windows)


def _drain(service: DmaService) -> None:
    while service.serve():
        pass


class CountingBell:
    """Counts how often it is rung."""

    def __init__(self) -> None:
        self.rung = 0

    def ring(self) -> None:
        """Count one."""
        self.rung += 1


class Window:
    """An interrupt controller's page: keeps what is written, and what `look` saw then."""

    def __init__(self, answer: bool | None = True, look: Callable[[], bytes] = bytes) -> None:
        self.written: list[tuple[int, int, int]] = []
        self.seen: list[bytes] = []
        self._answer, self._look = answer, look

    def __call__(self, stream: int, offset: int, value: int) -> bool | None:
        self.written.append((stream, offset, value))
        self.seen.append(self._look())
        return self._answer


class LinkedRig(DmaRig):
    """A device with some functions, linked to its host's IOMMU; `ats`: with a translation cache."""

    def __init__(self, *streams: int, ats: bool = False, slots: int = SLOTS) -> None:
        super().__init__()
        self.area = aligned(area.area_bytes(len(streams), slots))
        self.shared = SharedArea(Pinned(self.area), slots, Pinned(self.device_memory))
        self.to_device, self.to_iommu = CountingBell(), CountingBell()
        self.attachment = Attachment("nic0", self.shared, streams, self.service, self.to_device)
        self.client = DmaClient(self.shared, streams, self.to_iommu, self.memory if ats else None)
        self.devices.deliver = self.attachment.invalidate

    def serve_iommu(self) -> bool:
        """Let the IOMMU deal with what it was asked."""
        moved = [self.attachment.serve(service) for service in self.attachment.services.values()]
        return any(moved)

    def serve_device(self) -> bool:
        """Let the device take what the IOMMU answered and asked."""
        moved = self.client.invalidations.ready and self.client.invalidate()
        for watched, action in self.client.watched:
            moved |= watched.ready and action()
        return moved

    def run(self) -> None:
        """Let both go on until nothing moves."""
        while self.serve_iommu() | self.serve_device():
            pass
