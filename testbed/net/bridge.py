"""A learning bridge between ports: one copy a frame, from the sender's buffers into the receiver's.

Reference: IEEE 802.1Q §8.6 (forwarding), §8.7 (learning), §8.8 (filtering database). Each source has a lane: the burst it is sending
and how far each receiver has got with it. A full receiver holds its lane back (no frame is lost), but no longer than
`stall_ns`: a guest that never takes its frames must not stop those that send to everyone.
Not modelled: spanning tree, VLANs.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.native import FRAMES_MAX, Burst, MacTable, Pinned
from testbed.net.port import Port, Source
from testbed.spec.virtio_net import FRAME_BYTES_MAX

AGE_SECONDS: Final = 300
"""802.1Q Table 8-6: default ageing time."""
_NS_PER_SECOND: Final = 1_000_000_000


class Attachment:
    """A port of the bridge, its number and its counters."""

    def __init__(self, number: int, port: Port, counters: Pinned, offset: int) -> None:
        self.number, self.port, self.counters, self.offset = number, port, counters, offset
        self.lanes: list[Lane] = []
        self.stalled = False
        self.waiters = 0
        """Lanes that wait for this port's buffers."""


class Lane:
    """What one source is sending: the burst and, for each receiver that is not done, the next frame's index."""

    def __init__(self, source: Source, attachment: Attachment) -> None:
        self.source, self.attachment = source, attachment
        self.burst = Burst()
        self.waiting: dict[int, int] = {}
        self.blocked_on: tuple[Attachment, ...] = ()
        self.blocked_since_ns = 0


class Bridge:
    """Moves bursts between ports; `turn` is one step for one lane."""

    def __init__(
        self, stall_ns: int, table_size: int = 4096, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.table = MacTable(table_size, learned_max=table_size // 4, age_seconds=AGE_SECONDS)
        self.attachments: dict[int, Attachment] = {}
        self._stall_ns, self._clock = stall_ns, clock
        self._blocked: set[Lane] = set()
        self._now_seconds = 0
        self.refresh_clock()

    def attach(self, port: Port, counters: Pinned, offset: int) -> Attachment:
        """Add a port; its counters (a `port_counters` record) begin at `offset`."""
        number = next(n for n in range(len(self.attachments) + 1) if n not in self.attachments)
        attachment = Attachment(number, port, counters, offset)
        self.attachments[number] = attachment
        return attachment

    def refresh(self, attachment: Attachment) -> None:
        """Take notice that a port's driver came up, went away or changed its queues."""
        for lane in attachment.lanes:
            self._abandon(lane)
        port = attachment.port
        attachment.lanes = [Lane(source, attachment) for source in port.sources]
        attachment.stalled = False
        self.table.drop_port(attachment.number)
        self.table.open_port(attachment.number, port.receiving)
        if port.receiving:
            self.table.fix(port.mac, attachment.number)

    def detach(self, attachment: Attachment) -> None:
        """Remove a port; what waits for it is dropped."""
        for lane in attachment.lanes:
            self._abandon(lane)
        self.table.open_port(attachment.number, False)
        self.table.drop_port(attachment.number)
        del self.attachments[attachment.number]
        for lane in list(self._blocked):
            lane.waiting.pop(attachment.number, None)
            if not lane.waiting:
                self._finish(lane)

    def turn(self, lane: Lane) -> bool:
        """Move what one lane has as far as it goes; say whether anything moved."""
        if not lane.waiting:
            if not lane.source.fetch(lane.burst, FRAMES_MAX):
                return False
            self._address(lane)
        moved = False
        for number, first in list(lane.waiting.items()):
            moved |= self._deliver(lane, number, first)
        if not lane.waiting:
            self._finish(lane)
            return True
        if moved or not lane.blocked_since_ns:
            lane.blocked_since_ns = self._clock()
            self._block(lane)
        return moved

    def retry(self) -> bool:
        """Go on with every blocked lane; drop for receivers that have stalled too long."""
        if not self._blocked:
            return False
        moved, now_ns = False, self._clock()
        for lane in list(self._blocked):
            if self.turn(lane):
                moved = True
            elif now_ns - lane.blocked_since_ns > self._stall_ns:
                self._give_up(lane)
                moved = True
        return moved

    def deadline_ns(self) -> int | None:
        """Return when `retry` must run even if nothing happens, or None."""
        return min((lane.blocked_since_ns + self._stall_ns for lane in self._blocked), default=None)

    def refresh_clock(self) -> None:
        """Take the time for learning and ageing; called once in a while, not once a burst."""
        now_seconds = self._clock() // _NS_PER_SECOND
        if now_seconds // AGE_SECONDS != self._now_seconds // AGE_SECONDS:
            self.table.expire(now_seconds & 0xFFFF_FFFF)
        self._now_seconds = now_seconds

    def _address(self, lane: Lane) -> None:
        here = lane.attachment
        ports, flood = self.table.classify(
            lane.burst,
            here.number,
            self._now_seconds & 0xFFFF_FFFF,
            here.counters,
            here.offset,
            FRAME_BYTES_MAX,
        )
        if flood:
            ports = [n for n, a in self.attachments.items() if n != here.number and a.port.receiving]
        for number in ports:
            lane.waiting[number] = 0

    def _deliver(self, lane: Lane, number: int, first: int) -> bool:
        """Give one receiver what it takes; say whether that was anything."""
        target = self.attachments[number]
        reached = target.port.deliver(lane.burst, first, number)
        if reached == len(lane.burst):
            target.stalled = False
            del lane.waiting[number]
            return True
        if reached == first and target.stalled:
            self._drop(lane, target, reached)
            return True
        lane.waiting[number] = reached
        if reached > first:
            target.stalled = False
        return reached > first

    def _drop(self, lane: Lane, target: Attachment, first: int) -> None:
        target.port.count_dropped("stalled", lane.burst.count_for(target.number, first))
        del lane.waiting[target.number]

    def _give_up(self, lane: Lane) -> None:
        """Every receiver that still holds this lane back is stalled from now on."""
        for number, first in list(lane.waiting.items()):
            target = self.attachments[number]
            target.stalled = True
            self._drop(lane, target, first)
        self._finish(lane)

    def _block(self, lane: Lane) -> None:
        """Look at the rings of the receivers that hold a lane back, and no more at its own: it fetches nothing meanwhile."""
        self._unblock(lane)
        self._blocked.add(lane)
        lane.blocked_on = tuple(self.attachments[number] for number in lane.waiting)
        for target in lane.blocked_on:
            target.waiters += 1
        self._set_active(lane)

    def _unblock(self, lane: Lane) -> None:
        self._blocked.discard(lane)
        for target in lane.blocked_on:
            target.waiters -= 1
        self._set_active(lane)
        lane.blocked_on = ()

    def _set_active(self, lane: Lane) -> None:
        watched = lane.source.watched
        if watched is not None:
            watched.active = lane not in self._blocked
        for target in lane.blocked_on:
            for ring in target.port.room:
                ring.active = target.waiters > 0

    def _finish(self, lane: Lane) -> None:
        lane.source.complete(lane.burst)
        if lane.blocked_since_ns:
            lane.blocked_since_ns = 0
            self._unblock(lane)

    def _abandon(self, lane: Lane) -> None:
        lane.waiting.clear()
        lane.burst.clear()
        self._unblock(lane)
