"""The guest's virtio-net driver.

Reference: virtio 1.2 §3.1 (initialization), §4.2.3 (MMIO), §5.1.5 and §5.1.6 (network device operation).
Polls like NAPI: while frames flow, used-buffer notifications stay suppressed; they are asked for only before
the guest sleeps. With MQ every pair that the device has is used. Not modelled: offloads.
"""

from collections.abc import Callable, Sequence

from testbed.address import CACHE_LINE_BYTES
from testbed.errors import DeviceError
from testbed.guest.drivers.control_queue import ControlQueue, Wait
from testbed.guest.drivers.virtio_net_queue import VirtioNetQueue
from testbed.guest.drivers.virtio_port import VirtioPort
from testbed.guest.drivers.virtqueue import DriverQueue, QueueShape, build_driver_queue
from testbed.guest.ram import RamAllocator
from testbed.messages.entries import VirtioNetEntry
from testbed.observe.counters import Counters
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from testbed.spec.flow import ETHERNET

PairPlace = tuple[VirtioPort, Counters]
"""A port whose `notify` may be called there, and where that is counted."""
_MAC_BYTES = 6
_MTU_DEFAULT = 1500
_WANTED = (
    spec.F_VERSION_1, spec.F_INDIRECT_DESC, spec.F_EVENT_IDX, spec.F_RING_PACKED, spec.F_IN_ORDER,
    net.F_MAC, net.F_STATUS, net.F_MTU, net.F_MRG_RXBUF, net.F_SPEED_DUPLEX,
    net.F_CTRL_VQ, net.F_MQ,
)  # fmt: skip


class VirtioNetDriver(VirtioNetQueue):
    """One virtio-net interface; `counter_prefix` is its block of the guest's counters.

    Brings the device up; DeviceError where it does not come, MachineError where RAM is short. It is its own
    first queue pair; `queues` has them all.
    """

    def __init__(
        self,
        port: VirtioPort,
        ram: RamAllocator,
        counters: Counters,
        counter_prefix: str,
        nic: VirtioNetEntry,
        wait: Wait,
        pair_place: Callable[[int], PairPlace] | None = None,
    ) -> None:
        """`pair_place`: from where queue pair N is used; by default all from where it is brought up."""
        self._ram, self._nic = ram, nic
        port.start(spec.DEVICE_ID_NET)
        self.features = port.negotiate(sum(1 << bit for bit in _WANTED))
        self._port: VirtioPort = port
        self.mac = port.config_bytes(net.NET_CONFIG.offset("mac"), _MAC_BYTES)
        self.mtu = self._field("mtu") if self._has(net.F_MTU) else _MTU_DEFAULT
        pairs = self._field("max_virtqueue_pairs") if self._has(net.F_MQ) else 1
        places = [pair_place(pair) if pair_place else (port, counters) for pair in range(pairs)]
        super().__init__(*places[0], counter_prefix, 0, self._queue(0, True), self._queue(1, False))
        others = [
            VirtioNetQueue(
                *places[pair],
                counter_prefix,
                pair,
                self._queue(2 * pair, True),
                self._queue(2 * pair + 1, False),
            )
            for pair in range(1, pairs)
        ]
        self.queues: tuple[VirtioNetQueue, ...] = (self, *others)
        for queue in self.queues:
            queue.post_all()
        control = self._control_queue(pairs, wait)
        port.driver_ok()
        if control is not None and not control.set_pairs(pairs):
            raise DeviceError(f"virtio-net: the device refuses {pairs} queue pairs, which it offered")
        self._link_up = self._read_link()

    @property
    def link_up(self) -> bool:
        """The link status as last read (§5.1.4)."""
        return self._link_up

    def handle_interrupt(self) -> bool:
        """Read and acknowledge the causes (§4.2.3.4); the rings themselves are polled."""
        causes = self._port.acknowledge_interrupt()
        if causes & spec.INTERRUPT_CONFIG:
            self._link_up = self._read_link()
            if self._port.needs_reset():
                raise DeviceError("virtio-net: the device asks for a reset (DEVICE_NEEDS_RESET)")
        return bool(causes)

    def set_multicast(self, macs: Sequence[bytes]) -> bool:  # noqa: ARG002 - it filters nothing
        """Every frame comes: the device has no filter."""
        return True

    def before_sleep(self) -> bool:
        """Nothing to do: notifications are asked for where the rings are armed."""
        return False

    def _control_queue(self, pairs: int, wait: Wait) -> ControlQueue | None:
        """A back end behind vhost-user has none: its rings are enabled by messages."""
        if pairs == 1 or not self._has(net.F_CTRL_VQ):
            return None
        return ControlQueue(self._port, self._ram, self.features, 2 * pairs, wait)

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

    def _queue(self, index: int, device_writes: bool) -> DriverQueue:
        merge = device_writes and self._has(net.F_MRG_RXBUF)
        nic = self._nic
        shape = QueueShape(index, nic.queue_size, self._slot_bytes(), device_writes, nic.segments, merge)
        return build_driver_queue(self._port, self._ram, self.features, shape)
