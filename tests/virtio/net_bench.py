"""A virtio-net device on the bench: strict memory, and a driver that writes its rings word by word."""

from testbed.interrupts.signal import RecordingEdge
from testbed.native import Pinned
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.virtio.net import VirtioNet
from testbed.virtio.net_config import NetConfig
from testbed.virtio.net_queues import QueuePair
from tests.support.raw_ring import RawSplitRing
from tests.support.recorders import RecordingFaults
from tests.support.strict_memory import StrictMemory

MAC = bytes.fromhex("020000000001")
SIZE = 8
RX_QUEUE, TX_QUEUE = 0, 1
_SLOT_BYTES = 4096
_RING_BYTES = 4096


def raw_frame(content: int) -> bytes:
    """Return a 60-byte broadcast frame."""
    return (b"\xff" * 6 + MAC + b"\x08\x00" + bytes([content])).ljust(60, b"\0")


class NetBench:
    """One device; `rings` are its queues, whose buffer `i` is descriptor `i`."""

    def __init__(self, pairs: int = 1) -> None:
        config = NetConfig("g.nic0", MAC, queue_size=SIZE, queue_pairs=pairs)
        self.memory = StrictMemory(config.queues * (_RING_BYTES + SIZE * _SLOT_BYTES))
        self.counters = Pinned(bytearray(PORT_COUNTERS.size))
        self.edge, self.faults, self.changes = RecordingEdge(), RecordingFaults(), 0
        self.net = VirtioNet(
            config, self.memory.regions, self.edge, self.counters, 0, self._changed, self.faults
        )
        self.rings = [
            RawSplitRing(self.memory, SIZE, *spec.split_parts(self._base(index), SIZE))
            for index in range(config.queues)
        ]
        self.rx, self.tx, self.control = self.rings[RX_QUEUE], self.rings[TX_QUEUE], self.rings[-1]

    @property
    def pair(self) -> QueuePair:
        """The device's first queue pair."""
        return self.net.sources[0]

    def _changed(self) -> None:
        self.changes += 1

    def _base(self, index: int) -> int:
        return self.memory.base + index * _RING_BYTES

    def _slot(self, index: int, descriptor: int) -> int:
        slots = self._base(self.net.config.queues)
        return slots + (index * SIZE + descriptor) * _SLOT_BYTES

    def up(self, missing: int | None = None, features: int | None = None) -> None:
        """Go through the initialization; leave out queue `missing`; accept MQ, where it is offered, alone."""
        if features is None:
            features = 1 << spec.F_VERSION_1 | self.net.features & (1 << net.F_MQ | 1 << net.F_CTRL_VQ)
        device = self.net.device
        device.write_status(spec.STATUS_ACKNOWLEDGE | spec.STATUS_DRIVER)
        for word in range(spec.FEATURE_WORDS):
            device.set_driver_features(word, features >> 32 * word & 0xFFFF_FFFF)
        device.write_status(device.status | spec.STATUS_FEATURES_OK)
        for index in range(len(self.rings)):
            queue = device.queue(index)
            assert queue is not None
            queue.size = SIZE
            queue.desc, queue.driver, queue.device = spec.split_parts(self._base(index), SIZE)
            if index != missing:
                device.set_queue_ready(index, True)
        device.write_status(device.status | spec.STATUS_DRIVER_OK)

    def transmit(self, *frames: bytes, pair: int = 0) -> None:
        """Offer frames from descriptor 0 on; once a bring-up."""
        index = 2 * pair + TX_QUEUE
        for descriptor, frame in enumerate(frames):
            slot = self._slot(index, descriptor)
            data = bytes(net.NET_HDR.size) + frame
            self.memory.write(slot, data)
            self.rings[index].describe(descriptor, slot, len(data))
        self.rings[index].offer(*range(len(frames)))

    def post(self, buffers: int, pair: int = 0) -> None:
        """Offer receive buffers from descriptor 0 on; once a bring-up."""
        index = 2 * pair + RX_QUEUE
        for descriptor in range(buffers):
            slot = self._slot(index, descriptor)
            self.rings[index].describe(descriptor, slot, _SLOT_BYTES, spec.DESC_F_WRITE)
        self.rings[index].offer(*range(buffers))

    def offer_command(self, command: bytes) -> int:
        """Offer a command in two descriptors; return where its answer will be."""
        index, head = len(self.rings) - 1, 2 * (self.control.avail_idx % (SIZE // 2))
        data, answer = self._slot(index, head), self._slot(index, head + 1)
        self.memory.write(data, command)
        self.memory.store(answer, 1, 0xFF)
        self.control.describe(head, data, len(command), spec.DESC_F_NEXT, head + 1)
        self.control.describe(head + 1, answer, 1, spec.DESC_F_WRITE)
        self.control.offer(head)
        return answer

    def command(self, command: bytes) -> int:
        """Give a command and return its answer."""
        answer = self.offer_command(command)
        ((_, serve),) = self.net.services
        assert serve()
        return self.memory.load(answer, 1)

    def counter(self, name: str) -> int:
        """Return one of the port's counters."""
        return int(self.counters.words(PORT_COUNTERS.offset(name), 8)[0])
