"""A virtio-net device behind vhost-user: between a front end's virtqueues and a port of the bridge.

Reference: "Vhost-user Protocol", Ring states, Multiple queue support; virtio 1.2 §5.1. The second transport
of the virtio-net device: the rings are those of `testbed.virtio.net`, but each starts and stops by itself,
and the status, the configuration space and the control queue are the front end's. Not modelled, so not
offered: checksum and segmentation offload, the legacy interface, ACCESS_PLATFORM.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from testbed.errors import GuestError
from testbed.native import Burst, DeviceRing, DirtyLog, Drain, Pinned, Watched, deliver_spread
from testbed.net.port import Source, SteppedSource
from testbed.spec import vhost_user as spec
from testbed.spec import virtio
from testbed.spec import virtio_net as net
from testbed.spec.port_counters import PORT_COUNTERS, fault_name
from testbed.virtio.device import FaultSink
from testbed.virtio.net_config import NetConfig
from testbed.virtio.vhost_user.memory import MemoryTable
from testbed.virtio.vhost_user.ring import Ring

_PAIR: Final = 2
_FRONT_ENDS_OWN: Final = (
    net.F_MAC, net.F_STATUS, net.F_MTU, net.F_SPEED_DUPLEX, net.F_CTRL_VQ,
)  # fmt: skip
"""What the configuration space and the control queue are about."""


class Kicks(Protocol):
    """Descriptors that wake us when a front end kicks."""

    def add(self, descriptor: int) -> None:
        """Wake up for this one from now on; GuestError where it is of the wrong kind."""
        ...

    def discard(self, descriptor: int) -> None:
        """Forget it; it is closed afterwards."""
        ...


class TransmitQueue(SteppedSource):
    """A `Source`: the frames of one transmit ring."""

    def __init__(self, owner: "VhostUserNet", ring: Ring) -> None:
        self._owner, self._ring = owner, ring

    @property
    def watched(self) -> Watched | None:
        """The transmit ring, while it runs."""
        return self._ring.queue if self._ring.running else None

    def fetch(self, burst: Burst, limit: int) -> int:
        """Take frames from the guest; those of a disabled ring are used and dropped."""
        ring, queue = self._ring, self._ring.queue
        if queue is None:
            return 0
        journal = ring.journal
        before = ring.place() if journal is not None else 0
        count = queue.fetch(burst, limit)
        if not count:
            if queue.fault:
                self._owner.ring_broke(ring)
            return 0
        if journal is not None:
            journal.take(burst, before, ring.place())
        ring.out = burst
        if not ring.enabled:
            self._owner.count_dropped("disabled", count)
            self.complete(burst)
            return 0
        return count

    def drain(self, where: Drain, through: Burst, limit: int) -> tuple[int, bool]:
        """As `fetch` and `complete` would, natively where nobody keeps a journal or a log of it."""
        ring, queue = self._ring, self._ring.queue
        if queue is None:
            return 0, False
        if ring.journal is not None or self._owner.log is not None or not ring.enabled:
            return super().drain(where, through, limit)
        done, call, stays = queue.drain(where, through, limit)
        ring.out = through if stays else None
        if call:
            self._owner.call(ring)
        if queue.fault and not stays:
            self._owner.ring_broke(ring)
        return done, stays

    def complete(self, burst: Burst) -> None:
        """Return transmit buffers, call the driver where it asks for it."""
        ring, queue = self._ring, self._ring.queue
        if queue is None:
            return
        ring.out = None
        called = queue.complete(burst)
        ring.remember(self._owner.log)
        if called:
            self._owner.call(ring)
        if queue.fault:
            self._owner.ring_broke(ring)


class VhostUserNet:
    """A `Port` towards the bridge; `session` starts and stops its rings.

    `counters` holds a `port_counters` record at `offset`; `changed` is called when a ring starts, stops, is
    enabled, disabled or breaks; also within `fetch`, `complete` and `deliver`, as their last act.
    """

    services: tuple[()] = ()

    def __init__(
        self,
        config: NetConfig,
        counters: Pinned,
        offset: int,
        changed: Callable[[], None],
        report: FaultSink,
    ) -> None:
        self.config, self.name, self.mac = config, config.name, config.mac
        own = sum(1 << bit for bit in _FRONT_ENDS_OWN)
        self.features = config.features & ~own | 1 << spec.F_LOG_ALL | 1 << spec.F_PROTOCOL_FEATURES
        """Feature bits to offer to a front end."""
        self.rings = [Ring(index) for index in range(_PAIR * config.queue_pairs)]
        self._log: DirtyLog | None = None
        self._counters, self._offset = counters, offset
        self._words = counters.words(offset, PORT_COUNTERS.size)
        self._changed, self._report = changed, report
        self._sources: dict[int, TransmitQueue] = {}
        self._receivers: list[Ring] = []
        self._copied = 0

    @property
    def log(self) -> DirtyLog | None:
        """Where writes are logged, while they are."""
        return self._log

    @log.setter
    def log(self, log: DirtyLog | None) -> None:
        self._log = log
        self.refresh()

    # Rings, for the session

    def start(self, ring: Ring, memory: MemoryTable, features: int) -> None:
        """Have a ring run; GuestError where it cannot."""
        if not features >> virtio.F_VERSION_1 & 1:
            raise GuestError("protocol", "a ring without VERSION_1; the legacy interface is not offered")
        receives = ring.index % _PAIR == 0
        merge = receives and bool(features >> net.F_MRG_RXBUF & 1)
        ring.start(memory, features, merge, self._counters, self._offset)
        if not receives:
            self._sources[ring.index] = TransmitQueue(self, ring)
        self.refresh()

    def stop(self, ring: Ring) -> None:
        """Have a ring stop; what it holds is given back, and the bridge lets go of it."""
        if ring.queue is None:
            return
        if ring.index % _PAIR == 0:
            self._copied += ring.queue.bytes_copied
        ring.stop()
        self._sources.pop(ring.index, None)
        self.refresh()

    def refresh(self) -> None:
        """Take notice of rings that were started, stopped, enabled or disabled."""
        self._receivers = [ring for ring in self.rings[::_PAIR] if ring.running and ring.enabled]
        self._changed()

    def ring_broke(self, ring: Ring) -> None:
        """A ring breaks the standard: it stays as it is until its front end stops it."""
        queue = ring.queue
        assert queue is not None
        self.count_fault(fault_name(queue.fault), f"{self.name}: virtqueue {ring.index} breaks the standard")
        if ring.error is not None:
            ring.error.pulse()
        self.refresh()

    # Port

    @property
    def sources(self) -> Sequence[Source]:
        """Every transmit ring that runs, enabled or not: what a disabled one has is to be dropped."""
        return list(self._sources.values())

    @property
    def room(self) -> Sequence[Watched]:
        """The receive rings in use."""
        return [ring.queue for ring in self._receivers if ring.queue is not None]

    @property
    def receiving(self) -> bool:
        """A receive ring runs and is enabled."""
        return bool(self._receivers)

    def deliver(self, burst: Burst, first: int, number: int) -> int:
        """Copy frames into receive buffers, each flow to one ring; call the driver where it asks for it."""
        receivers = self._receivers
        queues = [ring.queue for ring in receivers if ring.queue is not None]
        if not queues:
            self.count_dropped("link_down", burst.count_for(number, first))
            return len(burst)
        if self.log is not None:
            return self._deliver_logged(receivers[0], burst, first, number)
        reached = deliver_spread(queues, burst, first, number)
        for ring in receivers:
            self._publish(ring)
        return reached

    @property
    def deliveries(self) -> Sequence[DeviceRing]:
        """The receive rings in use, while nobody keeps a journal or a log of what is written there."""
        if self.log is not None or any(ring.journal is not None for ring in self._receivers):
            return ()
        return [ring.queue for ring in self._receivers if ring.queue is not None]

    def settle(self, call: bool) -> None:
        """Call the driver; on several rings one call too many is one that it may get (virtio 1.2 §2.7.7)."""
        for ring in tuple(self._receivers):
            if call:
                self.call(ring)
            if ring.queue is not None and ring.queue.fault:
                self.ring_broke(ring)

    def _deliver_logged(self, ring: Ring, burst: Burst, first: int, number: int) -> int:
        """As `deliver` to one ring, with every page that is written marked before it is published."""
        assert self.log is not None
        assert ring.queue is not None
        self.log.foresee(ring.queue)
        reached = ring.queue.deliver(burst, first, number)
        self.log.wrote(ring.queue)
        self._publish(ring)
        return reached

    def _publish(self, ring: Ring) -> None:
        queue = ring.queue
        assert queue is not None
        called = queue.publish()
        if ring.journal is not None or self.log is not None:
            ring.remember(self.log)
        if called:
            self.call(ring)
        if queue.fault:
            self.ring_broke(ring)

    @property
    def bytes_copied(self) -> int:
        """Bytes of frames copied into the guest."""
        running = (ring.queue.bytes_copied for ring in self.rings[::_PAIR] if ring.queue is not None)
        return self._copied + sum(running)

    def call(self, ring: Ring) -> None:
        """Tell the driver of used buffers."""
        if ring.call is not None:
            self._add("calls", 1)
            ring.call.pulse()

    def count_dropped(self, reason: str, frames: int) -> None:
        """Count frames for this guest that were dropped."""
        self._add(f"dropped_{reason}", frames)

    def count_fault(self, reason: str, detail: str) -> None:
        """Count and report something the front end or its driver did wrong."""
        self._add(f"fault_{reason}", 1)
        self._report(reason, detail)

    def _add(self, member: str, amount: int) -> None:
        self._words[PORT_COUNTERS.offset(member) // 8] += amount
