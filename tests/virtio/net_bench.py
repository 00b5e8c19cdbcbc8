"""A virtio-net device on the bench: strict memory, and a driver that writes its rings word by word."""

from testbed.interrupts.signal import RecordingEdge
from testbed.native import Pinned
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.virtio.net import RX_QUEUE, TX_QUEUE, NetConfig, VirtioNet
from tests.support.raw_ring import RawSplitRing
from tests.support.recorders import RecordingFaults
from tests.support.strict_memory import StrictMemory

MAC = bytes.fromhex("020000000001")
SIZE = 8
SLOT_BYTES = 2048
_RING_BYTES = 4096


def raw_frame(content: int) -> bytes:
    """Return a 60-byte broadcast frame."""
    return (b"\xff" * 6 + MAC + b"\x08\x00" + bytes([content])).ljust(60, b"\0")


class NetBench:
    """One device; `rx` and `tx` are its rings, whose buffer `i` is descriptor `i`."""

    def __init__(self) -> None:
        self.memory = StrictMemory(2 * _RING_BYTES + 2 * SIZE * SLOT_BYTES)
        self.counters = Pinned(bytearray(PORT_COUNTERS.size))
        self.edge, self.faults, self.changes = RecordingEdge(), RecordingFaults(), 0
        config = NetConfig("g.nic0", MAC, queue_size=SIZE)
        self.net = VirtioNet(
            config, self.memory.regions, self.edge, self.counters, 0, self._changed, self.faults
        )
        self.rx, self.tx = (self._ring(index) for index in (RX_QUEUE, TX_QUEUE))

    def _changed(self) -> None:
        self.changes += 1

    def _ring(self, index: int) -> RawSplitRing:
        base = self.memory.base + index * _RING_BYTES
        return RawSplitRing(self.memory, SIZE, *spec.split_parts(base, SIZE))

    def _slot(self, index: int, descriptor: int) -> int:
        slots = self.memory.base + 2 * _RING_BYTES
        return slots + (index * SIZE + descriptor) * SLOT_BYTES

    def up(self, missing: int | None = None) -> None:
        """Go through the initialization; leave out queue `missing`."""
        device = self.net.device
        device.write_status(spec.STATUS_ACKNOWLEDGE | spec.STATUS_DRIVER)
        device.set_driver_features(1, 1 << spec.F_VERSION_1 - 32)
        device.write_status(device.status | spec.STATUS_FEATURES_OK)
        for index in (RX_QUEUE, TX_QUEUE):
            queue = device.queue(index)
            assert queue is not None
            queue.size = SIZE
            queue.desc, queue.driver, queue.device = spec.split_parts(
                self.memory.base + index * _RING_BYTES, SIZE
            )
            if index != missing:
                device.set_queue_ready(index, True)
        device.write_status(device.status | spec.STATUS_DRIVER_OK)

    def transmit(self, *frames: bytes) -> None:
        """Offer frames from descriptor 0 on; once a bring-up."""
        for descriptor, frame in enumerate(frames):
            slot = self._slot(TX_QUEUE, descriptor)
            data = bytes(net.NET_HDR.size) + frame
            self.memory.write(slot, data)
            self.tx.describe(descriptor, slot, len(data))
        self.tx.offer(*range(len(frames)))

    def post(self, buffers: int) -> None:
        """Offer receive buffers from descriptor 0 on; once a bring-up."""
        for descriptor in range(buffers):
            slot = self._slot(RX_QUEUE, descriptor)
            self.rx.describe(descriptor, slot, SLOT_BYTES, spec.DESC_F_WRITE)
        self.rx.offer(*range(buffers))

    def counter(self, name: str) -> int:
        """Return one of the port's counters."""
        return int(self.counters.words(PORT_COUNTERS.offset(name), 8)[0])
