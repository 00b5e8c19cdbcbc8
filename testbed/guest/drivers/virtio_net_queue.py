"""One pair of queues of the guest's virtio-net driver: frames by bursts, kicks where the device wants them.

Reference: virtio 1.2 §5.1.6.2 (sending), §5.1.6.3 (receiving). What the device breaks is a DeviceError.
"""

from testbed.errors import DeviceError
from testbed.guest.drivers.virtio_mmio import VirtioMmioPort
from testbed.guest.drivers.virtqueue import DriverQueue
from testbed.native import Burst, Watched
from testbed.observe.counters import Counters

_COUNTED = ("tx_frames", "tx_bytes", "rx_frames", "rx_bytes", "tx_kicks", "rx_kicks")


class VirtioNetQueue:
    """A `NetQueue` over a receive and a transmit virtqueue with indexes `2 * pair` and `2 * pair + 1`."""

    def __init__(
        self,
        port: VirtioMmioPort,
        counters: Counters,
        counter_prefix: str,
        pair: int,
        rx: DriverQueue,
        tx: DriverQueue,
    ) -> None:
        self._port, self._counters = port, counters
        self._count = {what: f"{counter_prefix}.{what}" for what in _COUNTED}
        self._rx_index, self._tx_index = 2 * pair, 2 * pair + 1
        self._rx, self._tx = rx, tx
        tx.disarm()

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
            self._port.notify(self._tx_index)

    def tx_release(self, burst: Burst, first: int) -> None:
        """Take back the reserved frames from `first` on."""
        self._tx.release(burst, first)

    def rx_collect(self, burst: Burst) -> int:
        """Take received frames; return how many."""
        count = self._rx.collect(burst)
        if count:
            self._counters.add(self._count["rx_frames"], count)
            self._counters.add(self._count["rx_bytes"], burst.byte_count)
        else:
            self._check()
        return count

    def rx_refill(self, burst: Burst) -> None:
        """Post the buffers of a collected burst again; one kick at most.

        A queue that broke behind good frames is never ready again: it is told here.
        """
        self._check()
        if self._rx.post(burst):
            self._counters.add(self._count["rx_kicks"])
            self._port.notify(self._rx_index)

    def post_all(self) -> None:
        """Give the device every receive buffer, before it is told to go live: no kick."""
        self._rx.post_all()

    def _check(self) -> None:
        if self._rx.broken:
            raise DeviceError("virtio-net: the device gave back a receive buffer that it did not have")
