"""Joins NICs and what is behind them to the loop: which rings are looked at, what runs when one has work."""

from collections.abc import Callable, Iterator
from functools import partial

from testbed.native import Pinned, Watch, Watched
from testbed.net.bridge import Attachment, Bridge
from testbed.net.port import Port
from testbed.net.reflect import BackEnd, Work


class Bridged:
    """A NIC's back end: a port of the bridge."""

    def __init__(self, bridge: Bridge, attachment: Attachment) -> None:
        self._bridge, self._attachment = bridge, attachment

    def refresh(self) -> None:
        """Have the bridge take notice of a change."""
        self._bridge.refresh(self._attachment)

    def work(self) -> Iterator[Work]:
        """A lane's transmit queue, and the port's receive queues for whoever waits for them."""
        for lane in self._attachment.lanes:
            yield lane.ring, partial(self._bridge.turn, lane)
        for ring in self._attachment.port.room:
            yield ring, partial(self._bridge.room, self._attachment)

    def close(self) -> None:
        """Take the port off the bridge."""
        self._bridge.detach(self._attachment)


class Datapath:
    """The NICs of one host, each with its back end and the rings that are watched for it."""

    def __init__(self, watch: Watch[Callable[[], bool]], bridge: Bridge) -> None:
        self._watch, self.bridge = watch, bridge
        self._back_ends: dict[Port, BackEnd] = {}
        self._rings: dict[Port, list[Watched]] = {}

    def attach(self, port: Port, counters: Pinned, offset: int) -> Attachment:
        """Add a NIC to the bridge and return its port there; nothing moves until its driver is up."""
        attachment = self.bridge.attach(port, counters, offset)
        self.attach_to(port, Bridged(self.bridge, attachment))
        return attachment

    def attach_to(self, port: Port, back_end: BackEnd) -> None:
        """Add a NIC with a back end of its own."""
        self._back_ends[port] = back_end
        self._rings[port] = []

    def changed(self, port: Port) -> None:
        """A NIC's driver came up, went away or broke its rings, or its link changed."""
        back_end = self._back_ends.get(port)
        if back_end is None:
            return
        self._forget_rings(port)
        back_end.refresh()
        for ring, action in back_end.work():
            self._look_at(port, ring, action)
        for ring, serve in port.services:
            self._look_at(port, ring, serve)

    def detach(self, port: Port) -> None:
        """Remove a NIC whose guest is gone."""
        self._forget_rings(port)
        self._back_ends.pop(port).close()

    def tick(self) -> None:
        """Keep the bridge's clock and let what waited too long go."""
        self.bridge.refresh_clock()
        self.bridge.retry()

    def _look_at(self, port: Port, ring: Watched, action: Callable[[], bool]) -> None:
        self._watch.add(ring, action)
        self._rings[port].append(ring)

    def _forget_rings(self, port: Port) -> None:
        for ring in self._rings[port]:
            self._watch.discard(ring)
        self._rings[port] = []
