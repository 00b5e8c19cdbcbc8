"""Joins the bridge to the loop: which rings are looked at, and what runs when one of them has work."""

from collections.abc import Callable
from functools import partial

from testbed.native import Pinned, Watch, Watched
from testbed.net.bridge import Attachment, Bridge
from testbed.net.port import Port


class Datapath:
    """The ports of one host's bridge, each with the rings that are watched for it."""

    def __init__(self, watch: Watch[Callable[[], bool]], bridge: Bridge) -> None:
        self._watch, self.bridge = watch, bridge
        self._attachments: dict[Port, Attachment] = {}
        self._rings: dict[Port, list[Watched]] = {}

    def attach(self, port: Port, counters: Pinned, offset: int) -> None:
        """Add a NIC; nothing moves until its driver is up."""
        self._attachments[port] = self.bridge.attach(port, counters, offset)
        self._rings[port] = []

    def changed(self, port: Port) -> None:
        """A NIC's driver came up, went away or broke its rings, or its link changed."""
        attachment = self._attachments.get(port)
        if attachment is None:
            return
        self._forget_rings(port)
        self.bridge.refresh(attachment)
        for lane in attachment.lanes:
            self._look_at(port, lane.ring, partial(self.bridge.turn, lane))
        for ring, serve in port.services:
            self._look_at(port, ring, serve)
        for ring in port.room:
            self._look_at(port, ring, partial(self.bridge.room, attachment))

    def detach(self, port: Port) -> None:
        """Remove a NIC whose guest is gone."""
        self._forget_rings(port)
        self.bridge.detach(self._attachments.pop(port))

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
