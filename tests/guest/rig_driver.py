"""A NIC driver over bare rings: what a workload sends is taken here, what it shall receive is put in here."""

from collections.abc import Sequence

from testbed.errors import DeviceError
from testbed.guest.drivers.driver import NetQueue, SteppedQueue
from testbed.messages.entries import FlowEntry
from testbed.native import FLOOD, FRAMES_MAX, Burst, FrameStore, Watched
from testbed.net.mac import format_mac
from tests.support.ring_pair import Rig, Setup, contents

SOURCE_MAC = bytes.fromhex("020000000001")
DESTINATION_MAC = bytes.fromhex("020000000002")
SLOT_BYTES = 2048


def flow(**changes: object) -> FlowEntry:
    """Return a flow of ten 60-byte frames."""
    members: dict[str, object] = {
        "id": 7,
        "name": "a->b",
        "kind": "pktgen",
        "source": "a",
        "destination": "b",
        "source_mac": format_mac(SOURCE_MAC),
        "destination_mac": format_mac(DESTINATION_MAC),
        "frame_bytes": (60,),
        "count": 10,
    }
    return FlowEntry(**{**members, **changes})  # type: ignore[arg-type]


class RigDriver(SteppedQueue):
    """A `NetDriver` with one pair of queues of `size` buffers."""

    def __init__(self, size: int = 64, mtu: int = 1500) -> None:
        self.mac, self.mtu, self.link_up = SOURCE_MAC, mtu, True
        self._rigs = (
            Rig(Setup(size=size, slot_bytes=SLOT_BYTES)),
            Rig(Setup(size=size, slot_bytes=SLOT_BYTES, device_writes=True)),
        )
        self._tx, self._rx = (rig.native_driver() for rig in self._rigs)
        self._device_tx, self._device_rx = (rig.native_device() for rig in self._rigs)
        self._rx.post_all()
        self._rx.disarm()
        self._tx.disarm()
        self.tx_watch.active = False
        self.broken = False

    @property
    def queues(self) -> Sequence[NetQueue]:
        return (self,)

    @property
    def rx_watch(self) -> Watched:
        return self._rx

    @property
    def tx_watch(self) -> Watched:
        return self._tx

    def tx_reserve(self, burst: Burst, want: int) -> int:
        if self.broken:
            raise DeviceError("the device is broken")
        return self._tx.reserve(burst, want)

    def tx_send(self, burst: Burst) -> None:
        self._tx.send(burst)

    def tx_release(self, burst: Burst, first: int) -> None:
        self._tx.release(burst, first)

    def rx_collect(self, burst: Burst) -> int:
        return self._rx.collect(burst)

    def rx_refill(self, burst: Burst) -> None:
        self._rx.post(burst)

    def set_multicast(self, macs: Sequence[bytes]) -> bool:  # noqa: ARG002
        return True

    def before_sleep(self) -> bool:
        return False

    def handle_interrupt(self) -> bool:
        return False

    def take_sent(self, at_most: int = 1 << 16) -> list[bytes]:
        """Take what was sent and give the buffers back, as a device does."""
        burst, frames = Burst(), list[bytes]()
        while self._device_tx.fetch(burst, min(FRAMES_MAX, at_most - len(frames))):
            frames += contents(burst)
            self._device_tx.complete(burst)
        return frames

    def put(self, *frames: bytes) -> int:
        """Have frames arrive; return how many there was room for."""
        store = FrameStore()
        store.load(frames)
        store.send_all_to(FLOOD)
        reached = self._device_rx.deliver(store, 0, 1)
        self._device_rx.publish()
        return reached
