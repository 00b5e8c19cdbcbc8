"""The virtio network device, device side: between a guest's virtqueues and a port of the bridge.

Reference: virtio 1.2 §5.1. Advertised: VERSION_1, MAC, STATUS, MTU, SPEED_DUPLEX, MRG_RXBUF, INDIRECT_DESC,
EVENT_IDX, RING_PACKED, IN_ORDER, CTRL_VQ with MQ, each only where the topology allows it. Not modelled, so
not offered: checksum and segmentation offload, receive filters, legacy.
"""

from collections.abc import Callable, Sequence
from typing import Final

from testbed.interrupts.signal import Edge
from testbed.native import Burst, DeviceRing, Pinned, Regions, Watched, deliver_spread
from testbed.observe.counters import WORD_BYTES
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from testbed.spec.port_counters import PORT_COUNTERS, fault_name
from testbed.virtio.device import FaultSink, QueueConfig, VirtioDevice
from testbed.virtio.device_queue import build_device_queue
from testbed.virtio.net_config import NetConfig
from testbed.virtio.net_queues import ControlQueue, DeviceQueue, QueuePair

_CALLS: Final = PORT_COUNTERS.offset("calls") // WORD_BYTES


class VirtioNet:
    """A `Backend` towards the transport, a `Port` towards the bridge with a `Source` a queue pair.

    `counters` holds a `port_counters` record at `offset`; `changed` is called when the driver comes up or
    goes away, when its rings break, when the link or the number of queue pairs changes; also within `fetch`,
    `complete` and `deliver`, as their last act.
    """

    device_id = spec.DEVICE_ID_NET

    def __init__(
        self,
        config: NetConfig,
        memory: Regions,
        interrupt: Edge,
        counters: Pinned,
        offset: int,
        changed: Callable[[], None],
        report: FaultSink,
    ) -> None:
        self.config, self.name, self.mac = config, config.name, config.mac
        self.features = config.features
        self.queue_sizes: tuple[int, ...] = (config.queue_size,) * config.queues
        self._memory, self._counters, self._offset = memory, counters, offset
        self._words = counters.words(offset, PORT_COUNTERS.size)
        self._changed, self._report = changed, report
        self.link_up = True
        self._pairs: list[QueuePair] = []
        self._used: list[QueuePair] = []
        """Those of the pairs that the driver said it uses; the first one until it says so (§5.1.6.5.5)."""
        self._control: ControlQueue | None = None
        self.device = VirtioDevice(self, interrupt, self.count_fault)

    # Backend

    def config_read(self, offset: int, length_bytes: int) -> bytes:
        """Return bytes of virtio_net_config (§5.1.4)."""
        return self.config.space(self.link_up)[offset : offset + length_bytes].ljust(length_bytes, b"\0")

    def config_write(self, offset: int, data: bytes) -> None:
        """Nothing in the configuration space is writable with VERSION_1 (§5.1.4)."""
        self.count_fault("register", f"write of {len(data)} bytes to the configuration space at {offset:#x}")

    def activate(self, features: int, queues: list[QueueConfig]) -> None:
        """Build the queues: the first pair, and of the others what the driver made ready."""
        control = self.config.control_queue(features)
        pairs = self.config.queue_pairs if features >> net.F_MQ & 1 else 1
        rx_tx = [(queues[2 * i], queues[2 * i + 1]) for i in range(pairs)]
        rx_tx = rx_tx[:1] + [pair for pair in rx_tx[1:] if all(queue.ready for queue in pair)]
        merge = bool(features >> net.F_MRG_RXBUF & 1)
        self._pairs = [
            QueuePair(self, self._build(rx, features, merge), self._build(tx, features)) for rx, tx in rx_tx
        ]
        self._used = self._pairs[:1]
        if control is not None and queues[control].ready:
            self._control = ControlQueue(self, self._build(queues[control], features), self._set_pairs)
        self._changed()

    def reset(self) -> None:
        """Drop every queue."""
        if self._pairs:  # else nobody knew of it: a driver may reset as often as it likes
            self._pairs, self._used, self._control = [], [], None
            self._changed()

    def _build(self, queue: QueueConfig, features: int, merge: bool = False) -> DeviceQueue:
        return build_device_queue(queue, features, self._memory, self._counters, self._offset, merge)

    def _set_pairs(self, count: int) -> bool:
        if not 1 <= count <= len(self._pairs):
            return False
        self._used = self._pairs[:count]
        self._changed()
        return True

    # Port

    @property
    def sources(self) -> Sequence[QueuePair]:
        """All queue pairs: what was queued on one before it fell out of use is sent, too."""
        return self._pairs

    @property
    def room(self) -> Sequence[Watched]:
        """The receive queues, while they are in use."""
        return [pair.rx for pair in self._used] if self.device.active else ()

    @property
    def services(self) -> Sequence[tuple[Watched, Callable[[], bool]]]:
        """The control queue."""
        if self._control is None or not self.device.active:
            return ()
        return ((self._control.queue, self._control.serve),)

    @property
    def receiving(self) -> bool:
        """The driver is up, nothing is broken, the link is up."""
        return self.live and self.link_up

    def deliver(self, burst: Burst, first: int, number: int) -> int:
        """Copy frames into receive buffers, each flow to one queue; call the driver where it asks for it."""
        if not self.receiving:
            reason = "link_down" if self.live else "device_broken"
            self.count_dropped(reason, burst.count_for(number, first))
            return len(burst)
        rings = [pair.rx for pair in self._used]
        reached = deliver_spread(rings, burst, first, number)
        self.settle(sum(ring.publish() for ring in rings) > 0)
        return reached

    @property
    def deliveries(self) -> Sequence[DeviceRing]:
        """The receive queues, while frames may be sent here."""
        return [pair.rx for pair in self._used] if self.receiving else ()

    def settle(self, call: bool) -> None:
        """Call the driver where it asks for it; a queue that broke ends the device."""
        if call:
            self.call()
        for pair in self._used:
            if pair.rx.fault:
                self.queue_broke(pair.rx)

    @property
    def bytes_copied(self) -> int:
        """Bytes of frames copied into the guest since its driver came up."""
        return sum(pair.rx.bytes_copied for pair in self._pairs)

    def set_link(self, up: bool) -> None:
        """Raise or cut the link (§5.1.4: VIRTIO_NET_S_LINK_UP)."""
        if up != self.link_up:
            self.link_up = up
            self.device.config_changed()
            self._changed()

    def count_dropped(self, reason: str, frames: int) -> None:
        """Count frames for this guest that were dropped."""
        self._add(f"dropped_{reason}", frames)

    def count_fault(self, reason: str, detail: str) -> None:
        """Count and report something the driver did wrong."""
        self._add(f"fault_{reason}", 1)
        self._report(reason, detail)

    # Owner of the queues

    @property
    def live(self) -> bool:
        """The driver is up and nothing is broken."""
        return self.device.active and bool(self._used)

    def call(self) -> None:
        """Interrupt the driver for used buffers."""
        self._words[_CALLS] += 1
        self.device.raise_interrupt(spec.INTERRUPT_USED)

    def queue_broke(self, queue: DeviceQueue) -> None:
        """End the device: it needs a reset (§2.1.2)."""
        if self.device.active:
            self.device.break_down(fault_name(queue.fault), f"{self.name}: the virtqueue breaks the standard")
            self._changed()

    def _add(self, member: str, amount: int) -> None:
        self._words[PORT_COUNTERS.offset(member) // WORD_BYTES] += amount
