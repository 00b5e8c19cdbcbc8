"""A virtio device on the bench: a backend that remembers, an edge and a fault sink that record."""

from testbed.errors import GuestError
from testbed.interrupts.signal import RecordingEdge
from testbed.spec import virtio as spec
from testbed.virtio.device import QueueConfig, VirtioDevice
from tests.support.recorders import RecordingFaults

ACKNOWLEDGE, DRIVER, DRIVER_OK = spec.STATUS_ACKNOWLEDGE, spec.STATUS_DRIVER, spec.STATUS_DRIVER_OK
FEATURES_OK, FAILED = spec.STATUS_FEATURES_OK, spec.STATUS_FAILED
NEEDS_RESET = spec.STATUS_DEVICE_NEEDS_RESET
FOUND = ACKNOWLEDGE | DRIVER
READY = FOUND | FEATURES_OK
LIVE = READY | DRIVER_OK
VERSION_1 = 1 << spec.F_VERSION_1
EVENT_IDX = 1 << spec.F_EVENT_IDX
QUEUE_SIZE = 256
CONFIG = bytes(range(0x40, 0x60))


class FakeBackend:
    """Remembers what it was asked; `refusal` is raised when it is to go live."""

    device_id = 1
    features = VERSION_1 | EVENT_IDX
    queue_sizes: tuple[int, ...] = (QUEUE_SIZE, QUEUE_SIZE)

    def __init__(self) -> None:
        self.activations: list[tuple[int, list[QueueConfig]]] = []
        self.config_writes: list[tuple[int, bytes]] = []
        self.resets = 0
        self.refusal: GuestError | None = None

    def config_read(self, offset: int, length_bytes: int) -> bytes:
        return CONFIG[offset : offset + length_bytes].ljust(length_bytes, b"\0")

    def config_write(self, offset: int, data: bytes) -> None:
        self.config_writes.append((offset, data))

    def activate(self, features: int, queues: list[QueueConfig]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.activations.append((features, queues))

    def reset(self) -> None:
        self.resets += 1


class Bench:
    """A device and everything around it."""

    def __init__(self) -> None:
        self.backend, self.edge, self.faults = FakeBackend(), RecordingEdge(), RecordingFaults()
        self.device = VirtioDevice(self.backend, self.edge, self.faults)

    def accept(self, features: int) -> None:
        self.device.set_driver_features(0, features & 0xFFFF_FFFF)
        self.device.set_driver_features(1, features >> 32)

    def go(self, *statuses: int) -> int:
        for status in statuses:
            self.device.write_status(status)
        return self.device.status

    def live(self) -> VirtioDevice:
        self.go(ACKNOWLEDGE, FOUND)
        self.accept(VERSION_1)
        assert self.go(READY, LIVE) == LIVE
        return self.device
