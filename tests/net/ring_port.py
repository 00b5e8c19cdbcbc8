"""A port for the bridge's tests: real rings in strict memory, an honest driver, hooks for what may happen."""

from collections import Counter
from collections.abc import Callable, Sequence

from testbed.native import Burst, DeviceRing, Drain, Pinned, Watched
from testbed.net.bridge import Attachment, Bridge
from testbed.net.mac import parse_mac
from testbed.net.port import SteppedPort, SteppedSource
from testbed.spec.port_counters import PORT_COUNTERS
from tests.support.ring_pair import NativeDevice, Rig, RxDriver, Setup, TxDriver

SLOT_BYTES = 256
QUEUE_SIZE = 8
BROADCAST = b"\xff" * 6


def mac(number: int) -> bytes:
    """Return a unicast address."""
    return parse_mac(f"02:00:00:00:00:{number:02x}")


def frame(to: bytes, source: bytes, content: int = 0) -> bytes:
    """Return a 60-byte frame."""
    return (to + source + b"\x08\x00" + content.to_bytes(4, "little")).ljust(60, b"\0")


class RingPort(SteppedPort, SteppedSource):
    """`Port` and its only `Source`; `queue` and `receive` are the device's sides of its two rings.

    `native`: it lets its rings be filled and drained natively, as a virtio device does.
    """

    native = False

    def __init__(self, number: int, receive_size: int = QUEUE_SIZE) -> None:
        self.name, self.mac = f"g{number}.nic0", mac(number)
        self.receive_size = receive_size
        self.up = self.receiving = True
        self.dropped: Counter[str] = Counter()
        self.completed = 0
        self.on_deliver: Callable[[], None] = lambda: None
        self.on_complete: Callable[[], None] = lambda: None
        self.counters = Pinned(bytearray(PORT_COUNTERS.size))
        self.restart()

    def restart(self) -> None:
        """Come up with fresh rings, as after a reset."""
        transmit = Rig(Setup(size=QUEUE_SIZE, slot_bytes=SLOT_BYTES))
        receive = Rig(Setup(size=self.receive_size, slot_bytes=SLOT_BYTES, device_writes=True))
        self._rigs = transmit, receive
        self.sender, self.receiver = TxDriver(transmit.native_driver()), RxDriver(receive.native_driver())
        self.queue: NativeDevice = transmit.native_device()
        self.receive: NativeDevice = receive.native_device()
        self.receiver.post_all()

    @property
    def sources(self) -> Sequence["RingPort"]:
        return (self,)

    @property
    def watched(self) -> Watched | None:
        return self.queue if self.up else None

    @property
    def room(self) -> Sequence[Watched]:
        return (self.receive,) if self.up else ()

    @property
    def services(self) -> Sequence[tuple[Watched, Callable[[], bool]]]:
        return ()

    def fetch(self, burst: Burst, limit: int) -> int:
        return self.queue.fetch(burst, limit)

    def complete(self, burst: Burst) -> None:
        self.completed += len(burst)
        self.queue.complete(burst)
        self.on_complete()

    def deliver(self, burst: Burst, first: int, number: int) -> int:
        if not self.receiving:
            self.count_dropped("device_broken", burst.count_for(number, first))
            return len(burst)
        reached = self.receive.deliver(burst, first, number)
        self.receive.publish()
        self.on_deliver()
        return reached

    def drain(self, where: Drain, through: Burst, limit: int) -> tuple[int, bool]:
        if not self.native:
            return super().drain(where, through, limit)
        done, _call, stays = self.queue.drain(where, through, limit)
        if done:
            self.completed += done
            self.on_complete()
        return done, stays

    @property
    def deliveries(self) -> Sequence[DeviceRing]:
        return (self.receive,) if self.native and self.receiving else ()

    def settle(self, call: bool) -> None:  # noqa: ARG002 - the protocol's
        self.on_deliver()

    def count_dropped(self, reason: str, frames: int) -> None:
        self.dropped[reason] += frames

    def send(self, *frames: bytes) -> int:
        """Give frames to the ring; return how many there was room for."""
        return self.sender.send(frames)[0]

    def take(self) -> list[bytes]:
        """Take what has arrived and give the buffers back."""
        return self.receiver.collect()[0]

    def counter(self, name: str) -> int:
        """Return a counter that classification counts."""
        return int(self.counters.words(PORT_COUNTERS.offset(name), 8)[0])

    def frames_out(self) -> int:
        """Return how many frames this driver's receive ring was given."""
        return self._rigs[1].counter("frames_out")

    def fail(self) -> None:
        """Go down as a device does that breaks."""
        self.up = self.receiving = False


def attach(bridge: Bridge, port: RingPort) -> Attachment:
    """Attach a port whose driver is up."""
    attachment = bridge.attach(port, port.counters, 0)
    bridge.refresh(attachment)
    return attachment
