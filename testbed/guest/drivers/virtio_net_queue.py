"""One pair of queues of the guest's virtio-net driver: frames by bursts, kicks where the device wants them.

Reference: virtio 1.2 §5.1.6.2 (sending), §5.1.6.3 (receiving). What the device breaks is a DeviceError.
"""

from testbed.errors import DeviceError
from testbed.guest.drivers.driver import Arrived
from testbed.guest.drivers.virtio_port import VirtioPort
from testbed.guest.drivers.virtqueue import DriverQueue
from testbed.native import Burst, Filler, Inspector, Watched
from testbed.observe.counters import Counters

_COUNTED = ("tx_frames", "tx_bytes", "tx_kicks", "rx_frames", "rx_bytes", "rx_kicks")


class VirtioNetQueue:
    """A `NetQueue` over a receive and a transmit virtqueue with indexes `2 * pair` and `2 * pair + 1`."""

    def __init__(
        self,
        port: VirtioPort,
        counters: Counters,
        counter_prefix: str,
        pair: int,
        rx: DriverQueue,
        tx: DriverQueue,
    ) -> None:
        self._port, self._words = port, counters.words
        index = [counters.index[f"{counter_prefix}.{what}"] for what in _COUNTED]
        self._tx_frames, self._tx_bytes, self._tx_kicks, *received = index
        self._rx_frames, self._rx_bytes, self._rx_kicks = received
        self._rx_index, self._tx_index = 2 * pair, 2 * pair + 1
        self._rx, self._tx = rx, tx
        self._crumbs = max(1, tx.buffers // 2)
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
        self._check_sent(count)
        return count

    def tx_fill(self, filler: Filler, through: Burst, want: int) -> int:
        """Send natively, burst by burst; crumbs are less than half of the queue where more is wanted."""
        sent, byte_count, kick = self._tx.transmit(filler, through, want, min(want, self._crumbs))
        self._count_sent(sent, byte_count, kick)
        self._check_sent(sent)
        return sent

    def tx_send(self, burst: Burst) -> None:
        """Send a filled burst; one kick at most."""
        self._count_sent(len(burst), burst.byte_count, self._tx.send(burst))

    def tx_release(self, burst: Burst, first: int) -> None:
        """Take back the reserved frames from `first` on."""
        self._tx.release(burst, first)

    def rx_collect(self, burst: Burst) -> int:
        """Take received frames; return how many."""
        count = self._rx.collect(burst)
        if count:
            self._words[self._rx_frames] += count
            self._words[self._rx_bytes] += burst.byte_count
        else:
            self._check()
        return count

    def rx_inspect(self, inspector: Inspector, through: Burst, limit: int, now_ns: int) -> Arrived:
        """Take and check frames natively, burst by burst."""
        got, byte_count, foreign, requests, kick = self._rx.receive(inspector, through, limit, now_ns)
        if got:
            self._words[self._rx_frames] += got
            self._words[self._rx_bytes] += byte_count
        if kick:
            self._kick_rx()
        self._check()
        return Arrived(got, foreign, requests)

    def rx_refill(self, burst: Burst) -> None:
        """Post the buffers of a collected burst again; one kick at most.

        A queue that broke behind good frames is never ready again: it is told here.
        """
        self._check()
        if self._rx.post(burst):
            self._kick_rx()

    def post_all(self) -> None:
        """Give the device every receive buffer, before it is told to go live: no kick."""
        self._rx.post_all()

    def _count_sent(self, frames: int, byte_count: int, kick: bool) -> None:
        if kick:  # first: somebody waits for it
            self._port.notify(self._tx_index)
            self._words[self._tx_kicks] += 1
        self._words[self._tx_frames] += frames
        self._words[self._tx_bytes] += byte_count

    def _kick_rx(self) -> None:
        self._words[self._rx_kicks] += 1
        self._port.notify(self._rx_index)

    def _check_sent(self, count: int) -> None:
        if not count and self._tx.broken:
            raise DeviceError("virtio-net: the device gave back a transmit buffer that it did not have")

    def _check(self) -> None:
        if self._rx.broken:
            raise DeviceError("virtio-net: the device gave back a receive buffer that it did not have")
