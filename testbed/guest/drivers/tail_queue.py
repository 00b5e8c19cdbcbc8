"""One pair of rings whose device is told by tail registers, as the 8254x and the 82576 are.

Reference: 8254x SDM §3.2 and §3.4; 82576 datasheet (320961) §7.1 and §7.2. Not modelled: more than one pair.
"""

from typing import Final, Self

from testbed.guest.drivers.driver import SteppedQueue
from testbed.native import Burst, SlotRxDriver, SlotTxDriver, Watched
from testbed.observe.counters import Counters
from testbed.pci.access import RegisterBus

_COUNTED: Final = ("tx_frames", "tx_bytes", "rx_frames", "rx_bytes", "tx_kicks", "rx_kicks")
_REFILL_BATCH: Final = 16
"""Buffers that are given back at a time, of a small ring half of them: each time is a register write."""


class TailQueue(SteppedQueue):
    """A driver is one: its rings as `_rx` and `_tx`, where TDT and RDT are, and how many frames go with a
    write of TDT. `ring_size`: descriptors of each ring.
    """

    _rx: SlotRxDriver
    _tx: SlotTxDriver

    def __init__(
        self,
        registers: RegisterBus,
        tail_offsets: tuple[int, int],
        counters: Counters,
        counter_prefix: str,
        frames_per_kick: int,
        ring_size: int,
    ) -> None:
        self._tails, self._tail_offsets, self._frames_per_kick = registers, tail_offsets, frames_per_kick
        self._counters = counters
        self._count = {what: f"{counter_prefix}.{what}" for what in _COUNTED}
        self._batch = min(_REFILL_BATCH, ring_size // 2)
        self._offered = 0
        """Of the buffers that were given back, those that the device knows of."""

    @property
    def queues(self) -> tuple[Self]:
        """One pair of queues."""
        return (self,)

    @property
    def rx_watch(self) -> Watched:
        """The receive ring."""
        return self._rx

    @property
    def tx_watch(self) -> Watched:
        """The transmit ring."""
        return self._tx

    def tx_reserve(self, burst: Burst, want: int) -> int:
        """Open up to `want` buffers as frames to fill; return how many there are."""
        return self._tx.reserve(burst, want)

    def tx_send(self, burst: Burst) -> None:
        """Send a filled burst; TDT is written after each `frames_per_kick` frames and after the last."""
        count, step, tdt = len(burst), self._frames_per_kick, self._tail_offsets[0]
        send, write = self._tx.send, self._tails.write32
        for first in range(0, count, step):
            write(tdt, send(burst, first, step))
        self._counters.add(self._count["tx_kicks"], -(-count // step))
        self._counters.add(self._count["tx_frames"], count)
        self._counters.add(self._count["tx_bytes"], burst.byte_count)

    def tx_release(self, burst: Burst, first: int) -> None:
        """Take back the reserved frames from `first` on: what is not sent is reserved again the next time."""
        burst.truncate(first)

    def rx_collect(self, burst: Burst) -> int:
        """Take received frames; return how many. They stay readable until `rx_refill`."""
        count = self._rx.collect(burst)
        if count:
            self._counters.add(self._count["rx_frames"], count)
            self._counters.add(self._count["rx_bytes"], burst.byte_count)
        else:
            self._offer()  # what was bad has been given back
        return count

    def rx_refill(self, burst: Burst) -> None:
        """Give the buffers of a collected burst back; RDT is written for a batch of them."""
        self._rx.post()
        self._offer()
        burst.clear()

    def _offer(self) -> None:
        """Write RDT where a batch of buffers has come together."""
        posted = self._rx.posted
        if posted - self._offered >= self._batch:
            self._tails.write32(self._tail_offsets[1], self._rx.tail)
            self._counters.add(self._count["rx_kicks"])
            self._offered = posted
