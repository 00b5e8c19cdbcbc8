"""A host's memory behind an SMMU in one process, and functions of a device that reach it through rings."""

from testbed.iommu.dma_service import DmaService, MessageWindow
from testbed.native import DmaRequester, DmaServer, Pinned
from testbed.pci.dma import ImmediatePort
from testbed.spec import dma_request as d
from tests.iommu.machine import Machine

DEVICE_MEMORY_BYTES = 1 << 20
SLOTS = 256


class DmaRig(Machine):
    """`Machine` with device memory and a ring for each stream asked for; the SMMU is enabled."""

    def __init__(self, *streams: int, slots: int = SLOTS) -> None:
        super().__init__()
        self.device_memory = bytearray(DEVICE_MEMORY_BYTES)
        self.windows: dict[int, MessageWindow] = {}
        self.services: dict[int, DmaService] = {}
        self.pages: dict[int, bytearray] = {}
        self.ports = {stream: self._port(stream, slots) for stream in streams}
        self.enable()

    def _port(self, stream: int, slots: int) -> ImmediatePort:
        page = self.pages[stream] = bytearray(d.ring_bytes(slots) + 64)
        pinned = Pinned(page)
        offset = -pinned.address % 64
        server = DmaServer(
            pinned,
            offset,
            slots,
            stream,
            Pinned(self.device_memory),
            self.memory.host_map,
            self.smmu.cache.table,
        )
        service = DmaService(server, self.smmu, self.memory, lambda: self.now_ns, self.windows)
        self.services[stream] = service
        return ImmediatePort(DmaRequester(pinned, offset, slots, stream), lambda: _drain(service))


def _drain(service: DmaService) -> None:
    while service.serve():
        pass
