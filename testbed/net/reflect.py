"""Back ends without a bridge: a sink takes every frame, an echo sends every frame back to its guest.

Reference: `Source` and `Port` in testbed/net/port.py; what a back end promises is `BackEnd`. A sink copies
each frame into memory of its own, an echo copies it once, from transmit buffers into receive buffers. An
echo whose guest has no receive buffers takes no more frames until there are some: nothing is dropped. Not
modelled: rewriting of addresses.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from testbed.native import (
    Burst,
    EchoDrain,
    FlowSink,
    Inspector,
    Pinned,
    SinkDrain,
    SinkStore,
    Watched,
)
from testbed.net.port import PASS_FRAMES_MAX, Port, Source
from testbed.spec.port_counters import PORT_COUNTERS
from testbed.spec.virtio_net import FRAME_BYTES_MAX

STORE_BYTES: Final = 192 * 1024
"""Memory of a sink: three of the longest frames, small enough to stay in a second-level cache."""
_ECHO_PORT: Final = 0
"""The only destination there is."""
_WORD_BYTES: Final = 8

Work = tuple[Watched, Callable[[], bool]]
"""A ring to look at, and what to do when it has something."""


class BackEnd(Protocol):
    """What moves the frames of one NIC."""

    def refresh(self) -> None:
        """Take notice that the driver came up, went away or changed its queues, or that the link changed."""
        ...

    def work(self) -> Iterator[Work]:
        """Name the rings to look at from now on."""
        ...

    def close(self) -> None:
        """Forget the NIC."""
        ...


class Path:
    """One queue of a NIC: the burst under way and how far it has got."""

    def __init__(self, source: Source, ring: Watched) -> None:
        self.source, self.ring = source, ring
        self.burst = Burst()
        self.loaded = False
        """The burst was fetched and not yet completed."""
        self.reached = 0
        self.closed = False
        """The queue is gone: its burst must never be completed."""


class _Reflector:
    """What sink and echo have in common: a path for each queue of one port."""

    def __init__(self, port: Port, counters: Pinned, offset: int) -> None:
        self.port, self._counters, self._offset = port, counters, offset
        self._paths: list[Path] = []

    def refresh(self) -> None:
        """Keep the paths whose queue is still in use, drop the others' frames, open new ones."""
        rings = [(source, ring) for source in self.port.sources if (ring := source.watched) is not None]
        paths = [self._path(source, ring) for source, ring in rings]
        for path in self._paths:
            if path not in paths:
                self._abandon(path)
        self._paths = paths

    def close(self) -> None:
        """Forget every path."""
        for path in self._paths:
            self._abandon(path)
        self._paths = []

    def _path(self, source: Source, ring: Watched) -> Path:
        for path in self._paths:
            if path.source is source and path.ring is ring:
                return path
        return Path(source, ring)

    def _abandon(self, path: Path) -> None:
        """Forget a burst that lies in memory which the guest may use again."""
        if path.loaded:
            self.port.count_dropped("device_broken", path.burst.count_for(_ECHO_PORT, path.reached))
        path.burst.clear()
        path.loaded, path.closed = False, True

    @staticmethod
    def _finish(path: Path) -> None:
        path.loaded = False
        # last: giving the buffers back may end the device, which refreshes this
        path.source.complete(path.burst)


class Sink(_Reflector):
    """Copies every frame into its own memory and drops it; checks those of the flows it is told to expect."""

    def __init__(
        self, port: Port, counters: Pinned, offset: int, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        super().__init__(port, counters, offset)
        self._clock, self._inspector, self._expected = clock, Inspector(), 0
        store = SinkStore(STORE_BYTES, FRAME_BYTES_MAX)
        self._drain = SinkDrain(store, self._inspector, counters, offset)
        self._words = counters.words(offset, PORT_COUNTERS.size)
        self.first_ns = self.arrived_ns = 0
        """When the first frame since `restart` arrived, and the newest."""

    @property
    def frames(self) -> int:
        """Frames taken so far."""
        dropped = self._count("dropped_too_long") + self._count("dropped_too_short")
        return self._count("frames_in") - dropped

    @property
    def byte_count(self) -> int:
        """Bytes of the frames taken so far, each copied once."""
        return self._count("bytes_in")

    def restart(self) -> None:
        """The next frame to arrive is the first."""
        self.first_ns = self.arrived_ns = 0

    def expect(self, flow: FlowSink) -> None:
        """Check the frames of a flow from now on."""
        self._inspector.add(flow)
        self._expected += 1

    def forget(self, flow: FlowSink) -> None:
        """Check a flow that was expected no more."""
        self._inspector.remove(flow)
        self._expected -= 1

    def work(self) -> Iterator[Work]:
        """The transmit queues."""
        for path in self._paths:
            yield path.ring, partial(self.turn, path)

    def turn(self, path: Path) -> bool:
        """Take what there is; True: there was something."""
        if path.closed:
            return False
        now_ns = self._clock()
        self._drain.begin(now_ns, self._expected > 0)
        taken, _stays = path.source.drain(self._drain, path.burst, PASS_FRAMES_MAX)
        if taken:
            self.first_ns = self.first_ns or now_ns
            self.arrived_ns = now_ns
        return taken > 0

    def _count(self, member: str) -> int:
        return self._words[PORT_COUNTERS.offset(member) // _WORD_BYTES]


class Echo(_Reflector):
    """Sends every frame back to the guest that sent it, in order."""

    def __init__(self, port: Port, counters: Pinned, offset: int) -> None:
        super().__init__(port, counters, offset)
        self._drain = EchoDrain(_ECHO_PORT, FRAME_BYTES_MAX, counters, offset)

    def refresh(self) -> None:
        """As every back end; new receive rings are looked at only while a path waits for them."""
        super().refresh()
        self._drain.open(self.port.deliveries)
        self._look_where_needed()

    def work(self) -> Iterator[Work]:
        """The transmit queues, and the receive queues while a path waits for buffers."""
        for path in self._paths:
            yield path.ring, partial(self.turn, path)
        for ring in self.port.room:
            yield ring, self.retry

    def turn(self, path: Path) -> bool:
        """Move one path's frames as far as there are buffers; True: something moved."""
        if path.closed:
            return False
        if not path.loaded:
            moved, stays = path.source.drain(self._drain, path.burst, PASS_FRAMES_MAX)
            path.loaded, path.reached = stays, self._drain.reached
            call, settle = self._drain.take_called()
            if settle:  # may end the device, which abandons the path
                self.port.settle(call)
            if not path.loaded:
                return stays or moved > 0
            if path.reached:
                return self._went(path, 0, path.reached)
        before = path.reached
        reached = self.port.deliver(path.burst, before, _ECHO_PORT)
        return self._went(path, before, reached)

    def retry(self) -> bool:
        """Go on with what waited for receive buffers; True: something moved."""
        moved = False
        for path in self._paths:
            moved |= path.loaded and self.turn(path)
        return moved

    def _went(self, path: Path, before: int, reached: int) -> bool:
        """Complete a burst that is through, wait with one that is not; True: something moved."""
        if path.closed:  # a fault in the receive queue has ended the device
            return True
        path.reached = reached
        through = reached == len(path.burst)
        if through:
            self._finish(path)
        self._look_where_needed()
        return through or reached > before

    def _look_where_needed(self) -> None:
        """A path that waits for buffers fetches nothing; nobody else waits for buffers."""
        waiting = False
        for path in self._paths:
            path.ring.active = not path.loaded
            waiting |= path.loaded
        for ring in self.port.room:
            ring.active = waiting
