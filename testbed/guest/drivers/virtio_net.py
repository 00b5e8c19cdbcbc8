"""The guest's virtio-net driver.

Reference: virtio 1.2 §3.1 (initialization), §4.2.3 (MMIO), §5.1.5 and §5.1.6 (network device operation).
Polls like NAPI: while frames flow, used-buffer notifications stay suppressed; they are asked for only before
the guest sleeps. Not modelled: control queue, offloads.
"""

from testbed.address import CACHE_LINE_BYTES
from testbed.errors import DeviceError
from testbed.guest.drivers.virtio_mmio import VirtioMmioPort
from testbed.guest.drivers.virtqueue import DriverQueue, QueueShape, build_driver_queue
from testbed.guest.ram import RamAllocator
from testbed.native import Burst, Watched
from testbed.observe.counters import Counters
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from testbed.spec.flow import ETHERNET

RX_QUEUE, TX_QUEUE = 0, 1
_MAC_BYTES = 6
_MTU_DEFAULT = 1500
_WANTED = (
    spec.F_VERSION_1, spec.F_INDIRECT_DESC, spec.F_EVENT_IDX, spec.F_RING_PACKED, spec.F_IN_ORDER,
    net.F_MAC, net.F_STATUS, net.F_MTU, net.F_MRG_RXBUF, net.F_SPEED_DUPLEX,
)  # fmt: skip


class VirtioNetDriver:
    """One virtio-net interface; `counter_prefix` is its block of the guest's counters.

    Brings the device up; DeviceError where it does not come, MachineError where RAM is short.
    """

    def __init__(
        self,
        port: VirtioMmioPort,
        ram: RamAllocator,
        counters: Counters,
        counter_prefix: str,
        queue_size: int,
        segments: int = 1,
    ) -> None:
        self._port, self._ram, self._counters = port, ram, counters
        self._count = {
            w: f"{counter_prefix}.{w}"
            for w in ("tx_frames", "tx_bytes", "rx_frames", "rx_bytes", "tx_kicks", "rx_kicks")
        }
        self._parts = segments
        port.start(spec.DEVICE_ID_NET)
        self.features = port.negotiate(sum(1 << bit for bit in _WANTED))
        self.mac = port.config_bytes(net.NET_CONFIG.offset("mac"), _MAC_BYTES)
        self.mtu = self._field("mtu") if self._has(net.F_MTU) else _MTU_DEFAULT
        self._rx = self._queue(RX_QUEUE, queue_size, device_writes=True)
        self._tx = self._queue(TX_QUEUE, queue_size, device_writes=False)
        self._tx.disarm()
        self._rx.post_all()
        port.driver_ok()
        self._link_up = self._read_link()

    @property
    def link_up(self) -> bool:
        """The link status as last read (§5.1.4)."""
        return self._link_up

    @property
    def rx_watch(self) -> Watched:
        """The receive queue's used ring."""
        return self._rx

    @property
    def tx_watch(self) -> Watched:
        """The transmit queue's used ring."""
        return self._tx

    def tx_reserve(self, burst: Burst, want: int) -> int:
        """Open up to `want` buffers as frames to fill; return how many there are."""
        count = self._tx.reserve(burst, want)
        if not count and self._tx.broken:
            raise DeviceError("virtio-net: the device gave back a transmit buffer that it did not have")
        return count

    def tx_send(self, burst: Burst) -> None:
        """Send a filled burst; one kick at most."""
        self._counters.add(self._count["tx_frames"], len(burst))
        self._counters.add(self._count["tx_bytes"], burst.byte_count)
        if self._tx.send(burst):
            self._counters.add(self._count["tx_kicks"])
            self._port.notify(TX_QUEUE)

    def tx_release(self, burst: Burst, first: int) -> None:
        """Take back the reserved frames from `first` on."""
        self._tx.release(burst, first)

    def rx_collect(self, burst: Burst) -> int:
        """Take received frames; return how many."""
        count = self._rx.collect(burst)
        if count:
            self._counters.add(self._count["rx_frames"], count)
            self._counters.add(self._count["rx_bytes"], burst.byte_count)
        elif self._rx.broken:
            raise DeviceError("virtio-net: the device gave back a receive buffer that it did not have")
        return count

    def rx_refill(self, burst: Burst) -> None:
        """Post the buffers of a collected burst again; one kick at most.

        A queue that broke behind good frames is never ready again: it is told here.
        """
        if self._rx.broken:
            raise DeviceError("virtio-net: the device gave back a receive buffer that it did not have")
        if self._rx.post(burst):
            self._counters.add(self._count["rx_kicks"])
            self._port.notify(RX_QUEUE)

    def handle_interrupt(self) -> bool:
        """Read and acknowledge the causes (§4.2.3.4); the rings themselves are polled."""
        causes = self._port.acknowledge_interrupt()
        if causes & spec.INTERRUPT_CONFIG:
            self._link_up = self._read_link()
            if self._port.needs_reset():
                raise DeviceError("virtio-net: the device asks for a reset (DEVICE_NEEDS_RESET)")
        return bool(causes)

    def _has(self, bit: int) -> bool:
        return bool(self.features >> bit & 1)

    def _read_link(self) -> bool:
        if not self._has(net.F_STATUS):
            return True
        return bool(self._field("status") & net.STATUS_LINK_UP)

    def _field(self, name: str) -> int:
        """Return a 16-bit field of virtio_net_config."""
        return self._port.config(net.NET_CONFIG.offset(name), 2)

    def _slot_bytes(self) -> int:
        """Room for header and frame: an odd number of cache lines, to spread slots over a cache's sets."""
        lines = -(-(net.NET_HDR.size + ETHERNET.size + self.mtu) // CACHE_LINE_BYTES)
        return (lines | 1) * CACHE_LINE_BYTES

    def _queue(self, index: int, size: int, device_writes: bool) -> DriverQueue:
        merge = device_writes and self._has(net.F_MRG_RXBUF)
        shape = QueueShape(index, size, self._slot_bytes(), device_writes, self._parts, merge)
        return build_driver_queue(self._port, self._ram, self.features, shape)
