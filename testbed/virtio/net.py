"""The virtio network device, device side: between a guest's virtqueues and a port of the bridge.

Reference: virtio 1.2 §5.1. Advertised: VERSION_1, MAC, STATUS, MTU, SPEED_DUPLEX, MRG_RXBUF, INDIRECT_DESC,
EVENT_IDX, RING_PACKED, IN_ORDER, each only where the topology allows it. Not modelled, so not offered:
control queue, checksum and segmentation offload, legacy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from testbed.interrupts.signal import Edge
from testbed.native import Burst, PackedDevice, Pinned, Regions, SplitDevice, Watched
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from testbed.spec.port_counters import PORT_COUNTERS, fault_name
from testbed.virtio.device import FaultSink, QueueConfig, VirtioDevice
from testbed.virtio.device_queue import build_device_queue

RX_QUEUE = 0
TX_QUEUE = 1
_SPEED_MBIT = 10_000


@dataclass(frozen=True)
class NetConfig:
    """What the topology says about one device."""

    name: str
    mac: bytes
    queue_size: int = 256
    mtu: int = 1500
    indirect: bool = True
    event_idx: bool = True
    mrg_rxbuf: bool = True
    packed: bool = False
    in_order: bool = False

    @property
    def features(self) -> int:
        """Feature bits to offer."""
        bits = [spec.F_VERSION_1, net.F_MAC, net.F_STATUS, net.F_MTU, net.F_SPEED_DUPLEX]
        optional = (
            (self.indirect, spec.F_INDIRECT_DESC),
            (self.event_idx, spec.F_EVENT_IDX),
            (self.mrg_rxbuf, net.F_MRG_RXBUF),
            (self.packed, spec.F_RING_PACKED),
            (self.in_order, spec.F_IN_ORDER),
        )
        return sum(1 << bit for bit in bits + [bit for wanted, bit in optional if wanted])


class VirtioNet:
    """A `Backend` towards the transport, a `Port` with one `Source` towards the bridge.

    `counters` holds a `port_counters` record at `offset`; `changed` is called when the driver comes up or
    goes away, when its rings break and when the link changes; also within `fetch`, `complete` and `deliver`,
    as their last act.
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
        self.queue_sizes: tuple[int, ...] = (config.queue_size, config.queue_size)
        self._memory, self._counters, self._offset = memory, counters, offset
        self._words = counters.words(offset, PORT_COUNTERS.size)
        self._changed, self._report = changed, report
        self.link_up = True
        self._rx: SplitDevice | PackedDevice | None = None
        self._tx: SplitDevice | PackedDevice | None = None
        self.device = VirtioDevice(self, interrupt, self.count_fault)

    # Backend

    def config_read(self, offset: int, length_bytes: int) -> bytes:
        """Return bytes of virtio_net_config (§5.1.4)."""
        image = bytearray(
            net.NET_CONFIG.pack(
                status=net.STATUS_LINK_UP * self.link_up,
                max_virtqueue_pairs=1,
                mtu=self.config.mtu,
                speed=_SPEED_MBIT,
                duplex=net.DUPLEX_FULL,
            )
        )
        image[: len(self.mac)] = self.mac
        return bytes(image[offset : offset + length_bytes]).ljust(length_bytes, b"\0")

    def config_write(self, offset: int, data: bytes) -> None:
        """Nothing in the configuration space is writable with VERSION_1 (§5.1.4)."""
        self.count_fault("register", f"write of {len(data)} bytes to the configuration space at {offset:#x}")

    def activate(self, features: int, queues: list[QueueConfig]) -> None:
        """Build both queues."""
        rest = (features, self._memory, self._counters, self._offset)
        self._rx = build_device_queue(queues[RX_QUEUE], *rest, merge=bool(features >> net.F_MRG_RXBUF & 1))
        self._tx = build_device_queue(queues[TX_QUEUE], *rest, merge=False)
        self._changed()

    def reset(self) -> None:
        """Drop both queues."""
        if self._rx is not None:  # else nobody knew of it: a driver may reset as often as it likes
            self._rx = self._tx = None
            self._changed()

    # Port and Source

    @property
    def sources(self) -> Sequence["VirtioNet"]:
        """One queue pair: the device is its own source."""
        return (self,)

    @property
    def watched(self) -> Watched | None:
        """The transmit queue, while it is in use."""
        return self._tx if self.device.active else None

    @property
    def room(self) -> Sequence[Watched]:
        """The receive queue, while it is in use."""
        return () if self._rx is None or not self.device.active else (self._rx,)

    @property
    def receiving(self) -> bool:
        """The driver is up, nothing is broken, the link is up."""
        return self._rx is not None and self.device.active and self.link_up

    def fetch(self, burst: Burst, limit: int) -> int:
        """Take frames from the guest; a queue that is broken and empty ends the device."""
        tx = self._tx
        if tx is None or not self.device.active:
            return 0
        count = tx.fetch(burst, limit)
        if count and not self.link_up:
            self.count_dropped("link_down", count)
            self.complete(burst)
            return 0
        if tx.fault and not count:
            self._broken(tx)
        return count

    def complete(self, burst: Burst) -> None:
        """Return transmit buffers, call the driver where it asks for it.

        What came before a fault is sent; the device breaks here, for a broken queue is never ready again.
        """
        tx = self._tx
        if tx is None:
            return
        if tx.complete(burst):
            self._call()
        if tx.fault:
            self._broken(tx)

    def deliver(self, burst: Burst, first: int, number: int) -> int:
        """Copy frames into receive buffers; call the driver where it asks for it."""
        rx = self._rx
        if rx is None or not self.device.active:
            self.count_dropped("device_broken", burst.count_for(number, first))
            return len(burst)
        if not self.link_up:
            self.count_dropped("link_down", burst.count_for(number, first))
            return len(burst)
        reached = rx.deliver(burst, first, number)
        if rx.publish():
            self._call()
        if rx.fault:
            self._broken(rx)
        return reached

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

    def _broken(self, queue: SplitDevice | PackedDevice) -> None:
        if self.device.active:
            self.device.break_down(fault_name(queue.fault), f"{self.name}: the virtqueue breaks the standard")
            self._changed()

    def _call(self) -> None:
        self._add("calls", 1)
        self.device.raise_interrupt(spec.INTERRUPT_USED)

    def _add(self, member: str, amount: int) -> None:
        self._words[PORT_COUNTERS.offset(member) // 8] += amount
