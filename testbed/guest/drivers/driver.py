"""What every NIC driver of a guest offers to the workloads above it: frames by bursts.

Nothing here says what the hardware is. Not modelled: offloads, multicast filters.
"""

from collections.abc import Sequence
from typing import Protocol

from testbed.native import Burst, Watched


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

    def rx_collect(self, burst: Burst) -> int:
        """Take received frames; return how many. They stay readable until `rx_refill`."""
        ...

    def rx_refill(self, burst: Burst) -> None:
        """Give the buffers of a collected burst back to the device."""
        ...


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

    def before_sleep(self) -> bool:
        """Have the device interrupt when something happens from now on; True: there is work, do not sleep."""
        ...


def queue_for(driver: NetDriver, flow_id: int) -> NetQueue:
    """Return the queue by which a flow leaves: always the same, so that its frames keep their order."""
    return driver.queues[flow_id % len(driver.queues)]
