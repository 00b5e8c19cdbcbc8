"""The physical function's own queues as a port of the bridge: the way to the wire for guests without a VF.

Reference: 82576 datasheet (320961, revision 2.63) §4.6.9, §4.6.10 (queue set-up), §7.1.5 and §7.2.2
(descriptors). What the bridge forwards to this port is copied into the PF's transmit ring; what the PF
receives lies in its receive ring until the bridge has forwarded it. Offloads that a guest asked for are done
on the way in. Not used: header split, offloads of the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.errors import DeviceError
from testbed.native import Burst, IgbRxDriver, IgbTxDriver, Pinned, Watched
from testbed.net.port import SteppedPort, SteppedSource
from testbed.pci.dma import DmaMemory
from testbed.spec import igb
from testbed.spec.igb import field, mask
from testbed.spec.igb_ring import DESC_BYTES
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.vmm.pf_driver import VECTOR_RECEIVE, VECTOR_SEND, PfDriver

_ALL: Final = 0xFFFF_FFFF
_CACHE_LINE_BYTES: Final = 64
_WORD_BYTES: Final = 8
_ENABLE: Final = mask("RXDCTL", "ENABLE")


@dataclass(frozen=True)
class UplinkConfig:
    """ring_size: descriptors of each ring, a multiple of 8. buffer_kib: bytes of a buffer, the longest frame
    that guests may send."""

    ring_size: int = 1024
    buffer_kib: int = 2


class PfUplink(SteppedPort, SteppedSource):
    """A `Port` of the bridge, and its only `Source`.

    `counters` holds a `port_counters` record at `offset`; `changed` is called when the port comes or goes.
    `start` follows that of the driver.
    """

    def __init__(
        self,
        driver: PfDriver,
        memory: DmaMemory,
        counters: Pinned,
        offset: int,
        changed: Callable[[], None],
        config: UplinkConfig,
    ) -> None:
        self.name, self.mac = driver.config.name, bytes(6)
        self._driver, self._registers, self._queue = driver, driver.registers, driver.pool
        self._changed, self._config = changed, config
        self._words = counters.words(offset, PORT_COUNTERS.size)
        size, slot = config.ring_size, 1024 * config.buffer_kib + _CACHE_LINE_BYTES
        self._rx_ring = memory.take(size * DESC_BYTES, "uplink receive ring")
        self._tx_ring = memory.take(size * DESC_BYTES, "uplink transmit ring")
        rx, tx = (
            memory.take(size * slot, "uplink receive buffers"),
            memory.take(size * slot, "uplink buffers"),
        )
        self.rx = IgbRxDriver(self._rx_ring.pinned, rx.pinned, rx.iova, size, slot)
        self.tx = IgbTxDriver(self._tx_ring.pinned, tx.pinned, tx.iova, size, slot)
        self._masked = True
        self._offered = 0
        """The tail that the device knows."""
        self.bytes_copied = 0

    def start(self) -> None:
        """Set the queues up on a device that the driver has started. DeviceError where it refuses them."""
        registers, queue = self._registers, self._queue
        self.mac = self._driver.mac
        for name in ("RXDCTL", "TXDCTL"):
            registers.write(name, 0, queue)
        self.rx.clear()
        self.tx.clear()
        self._offered = 0
        self._place("T", self._tx_ring.iova)
        self._place("R", self._rx_ring.iova)
        one_buffer = field("SRRCTL", "DESCTYPE").put(igb.DESCTYPE_ONE_BUFFER)
        size = field("SRRCTL", "BSIZEPACKET").put(self._config.buffer_kib)
        registers.write("SRRCTL", one_buffer | size, queue)
        for name in ("TXDCTL", "RXDCTL"):
            registers.write(name, _ENABLE, queue)
            if not registers.read(name, queue) & _ENABLE:
                raise DeviceError(f"{self.name}: the device does not enable the uplink's queue ({name})")
        self._offer()
        self._masked = False
        self._changed()

    def _place(self, ring: str, iova: int) -> None:
        registers, queue = self._registers, self._queue
        registers.write(f"{ring}DBAL", iova & _ALL, queue)
        registers.write(f"{ring}DBAH", iova >> 32, queue)
        registers.write(f"{ring}DLEN", self._config.ring_size * DESC_BYTES, queue)
        for name in (f"{ring}DH", f"{ring}DT"):
            registers.write(name, 0, queue)

    def set_link(self, _up: bool) -> None:
        """The driver says that the link came or went."""
        self._changed()

    # interrupts: the rings are polled while there is work, so a vector that was sent stays masked until then

    def interrupted(self) -> None:
        """A vector of the queues was sent: it is masked now."""
        self._masked = True

    def before_sleep(self) -> bool:
        """Unmask the queues' vectors and look once more; True: there is work, do not sleep.

        Sent frames are of interest only while somebody waits for room.
        """
        if self._masked and not self._driver.gone:
            self._masked = False
            self._registers.write("EIMS", 1 << VECTOR_RECEIVE | (self.tx.active << VECTOR_SEND))
        return self.rx.ready or (self.tx.active and self.tx.ready)

    # Source

    @property
    def watched(self) -> Watched:
        """The receive ring."""
        return self.rx

    def fetch(self, burst: Burst, limit: int) -> int:
        """Take received frames; return how many. They stay readable until `complete`."""
        count = self.rx.collect(burst, limit)
        if count:
            self._masked = True  # the vector's interrupt may still be on its way
            self._count("frames_in", count)
            self._count("bytes_in", burst.byte_count)
        else:
            self._offer()  # what was bad has been given back
        return count

    def complete(self, burst: Burst) -> None:  # noqa: ARG002 - what is out is known here
        """Give the buffers of a fetched burst back."""
        self.rx.post()
        self._offer()

    def _offer(self) -> None:
        """Write RDT where buffers were given back."""
        if self._offered != self.rx.tail:
            self._offered = self.rx.tail
            self._registers.write("RDT", self._offered, self._queue)

    # Port

    @property
    def sources(self) -> Sequence["PfUplink"]:
        """One queue."""
        return (self,)

    @property
    def room(self) -> Sequence[Watched]:
        """The transmit ring."""
        return (self.tx,)

    @property
    def services(self) -> Sequence[tuple[Watched, Callable[[], bool]]]:
        """No ring carries anything but frames."""
        return ()

    @property
    def receiving(self) -> bool:
        """There is a link to the wire, or to virtual functions: while there is a device, always."""
        return self._driver.link_up or (bool(self._driver.vfs) and not self._driver.gone)

    def deliver(self, burst: Burst, first: int, number: int) -> int:
        """Copy the frames for port `number` from `first` on; return the index of the first that waits."""
        if not self.receiving:
            self.count_dropped("link_down", burst.count_for(number, first))
            return len(burst)
        reached, frames, byte_count, too_long = self.tx.deliver(burst, first, number)
        if frames:
            self._masked = True
            self._registers.write("TDT", self.tx.tail, self._queue)
            self._count("frames_out", frames)
            self._count("bytes_out", byte_count)
            self.bytes_copied += byte_count
        if too_long:
            self.count_dropped("too_long", too_long)
        return reached

    def count_dropped(self, reason: str, frames: int) -> None:
        """Count frames that should have gone out here and were dropped."""
        self._count(f"dropped_{reason}", frames)

    def _count(self, name: str, amount: int) -> None:
        self._words[PORT_COUNTERS.offset(name) // _WORD_BYTES] += amount
