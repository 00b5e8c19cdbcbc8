"""What every NIC driver of a guest offers to the workloads above it: frames by bursts.

Nothing here says what the hardware is. Not modelled: offloads, multicast filters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from testbed.native import FRAMES_MAX, Burst, Filler, Inspector, Watched


@dataclass(slots=True)
class Arrived:
    """What one look at a receive queue gave."""

    frames: int
    foreign: int
    """Frames that belong to no flow."""
    requests: int
    """Requests among the frames that still lie in the burst: answer them, then `rx_refill`; 0: none lie."""


class NetQueue(Protocol):
    """One pair of queues of an interface; whatever the device breaks is a DeviceError."""

    @property
    def rx_watch(self) -> Watched:
        """What says natively that frames arrived."""
        ...

    @property
    def tx_watch(self) -> Watched:
        """What says natively that sent frames left and buffers can be had again."""
        ...

    def tx_reserve(self, burst: Burst, want: int) -> int:
        """Open up to `want` buffers as frames to fill; return how many there are."""
        ...

    def tx_send(self, burst: Burst) -> None:
        """Send a reserved burst whose every frame has been filled."""
        ...

    def tx_release(self, burst: Burst, first: int) -> None:
        """Take back the reserved frames from `first` on."""
        ...

    def tx_fill(self, filler: Filler, through: Burst, want: int) -> int:
        """Send up to `want` frames that `filler` writes, as many as there is room for; return how many.

        Crumbs stay where they are: what a few frames cost to pass on, a few hundred cost together.
        """
        ...

    def rx_inspect(self, inspector: Inspector, through: Burst, limit: int, now_ns: int) -> Arrived:
        """Take up to `limit` frames, check each, give the buffers back."""
        ...

    def rx_collect(self, burst: Burst) -> int:
        """Take received frames; return how many. They stay readable until `rx_refill`."""
        ...

    def rx_refill(self, burst: Burst) -> None:
        """Give the buffers of a collected burst back to the device."""
        ...


class SteppedQueue:
    """`tx_fill` and `rx_inspect` for a queue that is no virtqueue: a burst at a time."""

    _most = 0
    """The largest burst for which there was room."""

    def tx_reserve(self, burst: Burst, want: int) -> int:
        """See NetQueue."""
        raise NotImplementedError

    def tx_send(self, burst: Burst) -> None:
        """See NetQueue."""
        raise NotImplementedError

    def tx_release(self, burst: Burst, first: int) -> None:
        """See NetQueue."""
        raise NotImplementedError

    def rx_collect(self, burst: Burst) -> int:
        """See NetQueue."""
        raise NotImplementedError

    def rx_refill(self, burst: Burst) -> None:
        """See NetQueue."""
        raise NotImplementedError

    def tx_fill(self, filler: Filler, through: Burst, want: int) -> int:
        """See NetQueue."""
        want = min(want, FRAMES_MAX)
        got = self.tx_reserve(through, want)
        self._most = max(self._most, got)
        if not got:
            return 0
        if got < min(want, self._most // 2):
            self.tx_release(through, 0)
            return 0
        filler.fill(through)
        self.tx_send(through)
        return got

    def rx_inspect(self, inspector: Inspector, through: Burst, limit: int, now_ns: int) -> Arrived:
        """See NetQueue."""
        got = self.rx_collect(through) if limit else 0
        if not got:
            return Arrived(0, 0, 0)
        _data, requests, _replies, foreign = inspector.inspect(through, now_ns)
        if not requests:
            self.rx_refill(through)
        return Arrived(got, foreign, requests)


class NetDriver(NetQueue, Protocol):
    """One network interface of a guest; it is its own first queue."""

    mac: bytes
    mtu: int

    @property
    def queues(self) -> Sequence[NetQueue]:
        """All pairs of queues, itself first."""
        ...

    @property
    def link_up(self) -> bool:
        """The device says there is a link."""
        ...

    def handle_interrupt(self) -> bool:
        """Do what the interrupt line asks for; True: anything was done."""
        ...

    def set_multicast(self, macs: Sequence[bytes]) -> bool:
        """Have the device take frames to these groups; False where it refuses."""
        ...

    def before_sleep(self) -> bool:
        """Have the device interrupt when something happens from now on; True: there is work, do not sleep."""
        ...


def queue_for(driver: NetDriver, flow_id: int) -> NetQueue:
    """Return the queue by which a flow leaves: always the same, so that its frames keep their order."""
    return driver.queues[flow_id % len(driver.queues)]
