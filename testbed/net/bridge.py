"""A learning bridge between ports: one copy a frame, from the sender's buffers into the receiver's.

Reference: IEEE 802.1Q §8.6 (forwarding), §8.7 (learning), §8.8 (filtering database). Each source has a lane:
the burst it is sending and how far each receiver has got with it. Bursts that go to one virtqueue, nearly
all, are moved natively (`Forward`); what is special about one leaves it to Python. A full receiver holds its
lane back (no frame is lost), but no longer than `stall_ns`: a guest that never takes its frames must not stop
those that send to everyone. Whatever a port does may make its owner call `refresh` or `detach` in the middle
of a turn.
Not modelled: spanning tree, VLANs.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.errors import ConfigError
from testbed.native import (
    FLOOD,
    FRAMES_MAX,
    Burst,
    BurstView,
    Forward,
    ForwardTable,
    MacTable,
    Pinned,
    Watched,
    removed_frames,
)
from testbed.net.port import PASS_FRAMES_MAX, Interposer, Port, Source
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
        """It held a sender back too long: what it has no room for is dropped until it takes frames again."""
        self.waiters = 0
        """Lanes that wait for this port's buffers."""
        self.interposer: Interposer | None = None
        """Sees the port's frames on their way; set with `Bridge.interpose`."""

    def look_for_room(self) -> None:
        """Have the receive rings looked at exactly while a lane waits for them."""
        for ring in self.port.room:
            ring.active = self.waiters > 0


class Lane:
    """What one source is sending: the burst and, for each receiver that is not done, its next frame."""

    def __init__(self, source: Source, ring: Watched, attachment: Attachment, forward: Forward) -> None:
        self.source, self.ring, self.attachment, self.forward = source, ring, attachment, forward
        self.burst = Burst()
        self.loaded = False
        """The burst was fetched and not yet completed."""
        self.special = False
        """The last burst was not for native queues alone: the next is fetched whole, not in pieces."""
        self.waiting: dict[int, int] = {}
        self.removed: dict[int, bytes] = {}
        """Frames of the burst that one receiver's interposer removed, a bitmap each."""
        self.blocked_on: tuple[Attachment, ...] = ()
        self.blocked_since_ns = 0
        self.closed = False
        """The queue it drew from is gone: its burst must never be completed."""


class Bridge:
    """Moves bursts between ports; `turn` is one step for one lane."""

    def __init__(
        self, stall_ns: int, table_size: int = 4096, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.table = MacTable(table_size, learned_max=table_size // 4, age_seconds=AGE_SECONDS)
        self.forwards = ForwardTable(self.table)
        self._native: set[int] = set()
        """Ports open in it."""
        self.attachments: dict[int, Attachment] = {}
        self._stall_ns, self._clock = stall_ns, clock
        self._blocked: dict[Lane, None] = {}
        self._held: dict[Lane, int] = {}
        """Lanes that an interposer lets fetch nothing before a time."""
        self._interposed: set[int] = set()
        self._view, self._seen, self._copies = BurstView(), BurstView(), BurstView()
        self._now_seconds = 0
        self.refresh_clock()

    def attach(self, port: Port, counters: Pinned, offset: int) -> Attachment:
        """Add a port; its counters (a `port_counters` record) begin at `offset`.

        ConfigError where the bridge has no port left.
        """
        number = next(n for n in range(len(self.attachments) + 1) if n not in self.attachments)
        try:
            self.table.open_port(number, False)
        except ValueError as error:
            raise ConfigError(f"{port.name} finds no port: {error}; spread the guests over hosts") from error
        # before its driver is up: nobody can learn the address away, and frames for it are not flooded
        self.table.fix(port.mac, number)
        attachment = Attachment(number, port, counters, offset)
        self.attachments[number] = attachment
        return attachment

    def interpose(self, attachment: Attachment, interposer: Interposer | None) -> None:
        """Have an interposer see the frames of a port from now on, or nobody."""
        attachment.interposer = interposer
        self._interposed.discard(attachment.number)
        if interposer is not None:
            self._interposed.add(attachment.number)
        self._open(attachment)
        for lane in attachment.lanes:
            self._release(lane)

    def mirror(self, frames: Burst, target: Attachment) -> None:
        """Copy the frames that are present to one port: nobody is held back for it and nothing is learned."""
        if self.attachments.get(target.number) is not target:
            return
        view = self._copies
        view.copy_all(frames, target.number)
        if target.interposer is not None:
            target.interposer.to_guest(view, mirrored=True)
        reached = target.port.deliver(view, 0, target.number) if target.port.receiving else 0
        if left := view.count_for(target.number, reached):
            target.port.count_dropped("mirror", left)

    def refresh(self, attachment: Attachment) -> None:
        """Take notice that a port's driver came up, went away or changed its queues, or that its link
        changed.

        A lane whose queue is still in use goes on with its burst; the frames of any other are dropped.
        """
        number, port = attachment.number, attachment.port
        lanes = [
            self._lane(attachment, source, ring)
            for source in port.sources
            if (ring := source.watched) is not None
        ]
        for lane in attachment.lanes:
            if lane not in lanes:
                self._abandon(lane)
        attachment.lanes = lanes
        attachment.stalled = False
        attachment.look_for_room()
        self.table.open_port(number, port.receiving)
        self._open(attachment)
        if not port.receiving:
            self.table.drop_port(number)
            self.table.fix(port.mac, number)

    def detach(self, attachment: Attachment) -> None:
        """Remove a port; what waits for it is dropped."""
        for lane in attachment.lanes:
            self._abandon(lane)
        attachment.lanes = []
        self.forwards.close(attachment.number)
        self._native.discard(attachment.number)
        self.table.open_port(attachment.number, False)
        self.table.drop_port(attachment.number)
        for other in self.attachments.values():
            for lane in other.lanes:
                if attachment.number in lane.waiting:
                    self._drop(lane, attachment, "device_broken")
        self._interposed.discard(attachment.number)
        del self.attachments[attachment.number]

    def turn(self, lane: Lane) -> bool:
        """Move what one lane has as far as it goes; say whether anything moved."""
        if lane.closed:
            return False
        if not lane.loaded:
            if lane.attachment.interposer is None and not lane.special:
                return self._pass(lane)
            if not self._load(lane):
                return False
        return self._move(lane)

    def room(self, attachment: Attachment) -> bool:
        """Go on with the lanes that wait for a port which has buffers again; say whether anything moved."""
        moved = False
        for lane in tuple(self._blocked):
            if attachment.number in lane.waiting:
                moved |= self.turn(lane)
        return moved

    def retry(self) -> bool:
        """Go on with every blocked lane; drop for receivers that have stalled too long."""
        if not (self._blocked or self._held):
            return False
        moved, now_ns = False, self._clock()
        for lane, due_ns in tuple(self._held.items()):
            if now_ns >= due_ns:
                self._release(lane)
                moved |= self.turn(lane)
        for lane in tuple(self._blocked):
            if self.turn(lane):
                moved = True
            elif lane in self._blocked and now_ns - lane.blocked_since_ns >= self._stall_ns:
                self._give_up(lane)
                moved = True
        return moved

    def deadline_ns(self) -> int | None:
        """Return when `retry` must run even if nothing happens, or None."""
        if not (self._blocked or self._held):
            return None
        due = [lane.blocked_since_ns + self._stall_ns for lane in self._blocked]
        return min((*due, *self._held.values()), default=None)

    def refresh_clock(self) -> None:
        """Take the time for learning and ageing; called once in a while, not once a burst."""
        now_seconds = self._clock() // _NS_PER_SECOND
        if now_seconds // AGE_SECONDS != self._now_seconds // AGE_SECONDS:
            self.table.expire(now_seconds & 0xFFFF_FFFF)
        self._now_seconds = self.forwards.now_seconds = now_seconds & 0xFFFF_FFFF

    def _lane(self, attachment: Attachment, source: Source, ring: Watched) -> Lane:
        """Return the lane that draws from this queue already, or a new one."""
        for lane in attachment.lanes:
            if lane.source is source and lane.ring is ring and not lane.closed:
                return lane
        here = attachment
        forward = Forward(self.forwards, here.number, here.counters, here.offset, FRAME_BYTES_MAX)
        return Lane(source, ring, attachment, forward)

    def _open(self, attachment: Attachment) -> None:
        """Have frames for a port delivered natively where nobody else needs to see them or to count them."""
        special = attachment.interposer is not None or attachment.stalled
        rings = () if special else attachment.port.deliveries
        self.forwards.open(attachment.number, rings)
        (self._native.add if rings else self._native.discard)(attachment.number)

    def _pass(self, lane: Lane) -> bool:
        """Move bursts natively until there are no more, somebody wants a call, or one of them is special."""
        forward = lane.forward
        moved, stays = lane.source.drain(forward, lane.burst, PASS_FRAMES_MAX)
        number, call = forward.take_called()
        if stays:
            ports, flood = forward.targets
            lane.loaded = True
            self._send_to(lane, ports, flood, forward.reached)
        if number >= 0:  # may end this lane's own device: what stays is then dropped, and counted
            self.attachments[number].port.settle(call)
        if not lane.loaded:
            return stays or moved > 0
        return self._move(lane) or moved > 0

    def _load(self, lane: Lane) -> bool:
        """Fetch the lane's next burst; say whether there is one."""
        interposer = lane.attachment.interposer
        limit = FRAMES_MAX if interposer is None else interposer.allowance()
        if interposer is not None and not limit:
            self._hold(lane, interposer.allowed_ns())
            return False
        if not lane.source.fetch(lane.burst, limit):
            return False
        lane.loaded = True
        self._address(lane)
        return True

    def _move(self, lane: Lane) -> bool:
        """Offer the burst to every receiver that is not done; complete it, or block the lane."""
        moved = False
        for number in tuple(lane.waiting):
            moved |= self._deliver(lane, number)
        if lane.closed:
            return True
        if not lane.waiting:
            self._finish(lane)
            return True
        if moved or lane not in self._blocked:
            self._block(lane)
        return moved

    def _address(self, lane: Lane) -> None:
        """Decide for every frame of a burst where it goes."""
        here = lane.attachment
        if here.interposer is not None:
            here.interposer.from_guest(lane.burst)
            if lane.closed:  # a mirror's target may have been the sender's own broken device
                return
        ports, flood = self.table.classify(
            lane.burst, here.number, self._now_seconds, here.counters, here.offset, FRAME_BYTES_MAX
        )
        self._send_to(lane, ports, flood, 0)

    def _send_to(self, lane: Lane, ports: list[int], flood: bool, reached: int) -> None:
        """Note who is to get an addressed burst, and have the receivers' interposers see it."""
        here = lane.attachment
        lane.special = flood or not self._native.issuperset(ports)
        if flood:
            ports = [n for n, a in self.attachments.items() if n != here.number and a.port.receiving]
            if not ports:
                here.port.count_dropped("no_receiver", lane.burst.count_for(FLOOD, 0))
        lane.waiting = dict.fromkeys(ports, reached)
        if self._interposed or lane.removed:
            self._interpose_receivers(lane)

    def _interpose_receivers(self, lane: Lane) -> None:
        """Have the interposers of the receivers see the burst, once; remember what each removes."""
        lane.removed = {}
        for number in tuple(lane.waiting):
            target = self.attachments.get(number)
            if target is None or target.interposer is None:
                continue
            self._seen.look(lane.burst, number)
            target.interposer.to_guest(self._seen)
            removed = removed_frames(self._seen)
            if removed is not None:
                lane.removed[number] = removed

    def _burst_for(self, lane: Lane, number: int) -> Burst:
        """Return the burst as one receiver is to have it; valid until this is asked again."""
        removed = lane.removed.get(number) if lane.removed else None
        if removed is None:
            return lane.burst
        self._view.look(lane.burst, number, removed)
        return self._view

    def _deliver(self, lane: Lane, number: int) -> bool:
        """Give one receiver what it takes; say whether that was anything."""
        if number not in lane.waiting:  # dropped since the turn began
            return False
        target, first = self.attachments[number], lane.waiting.pop(number)
        reached = target.port.deliver(self._burst_for(lane, number), first, number)
        burst = self._burst_for(lane, number)  # again: a port may call back and have others looked at
        left = burst.count_for(number, reached)
        if target.stalled and left < burst.count_for(number, first):  # frames for others say nothing of it
            target.stalled = False
            self._open(target)
        if not left:
            return True
        if lane.closed or self.attachments.get(number) is not target:
            target.port.count_dropped("device_broken", left)
            return True
        if target.stalled:
            target.port.count_dropped("stalled", left)
            return True
        lane.waiting[number] = reached
        return reached > first

    def _drop(self, lane: Lane, target: Attachment, reason: str) -> None:
        """Drop what one receiver has not taken of a burst."""
        first = lane.waiting.pop(target.number)
        left = self._burst_for(lane, target.number).count_for(target.number, first)
        target.port.count_dropped(reason, left)

    def _give_up(self, lane: Lane) -> None:
        """Every receiver that still holds this lane back is stalled from now on."""
        for number in tuple(lane.waiting):
            target = self.attachments[number]
            target.stalled = True
            self._open(target)
            self._drop(lane, target, "stalled")
        self._finish(lane)

    def _block(self, lane: Lane) -> None:
        """Look at the rings of the receivers that hold a lane back, and not at its own meanwhile."""
        self._unblock(lane)
        self._blocked[lane] = None
        lane.blocked_since_ns = self._clock()
        lane.blocked_on = tuple(self.attachments[number] for number in lane.waiting)
        for target in lane.blocked_on:
            target.waiters += 1
            target.look_for_room()
        lane.ring.active = False

    def _unblock(self, lane: Lane) -> None:
        self._blocked.pop(lane, None)
        for target in lane.blocked_on:
            target.waiters -= 1
            target.look_for_room()
        lane.blocked_on = ()
        lane.ring.active = True

    def _hold(self, lane: Lane, until_ns: int) -> None:
        """Fetch nothing from a lane before `until_ns`."""
        self._held[lane] = until_ns
        lane.ring.active = False

    def _release(self, lane: Lane) -> None:
        if self._held.pop(lane, None) is not None:
            lane.ring.active = True

    def _finish(self, lane: Lane) -> None:
        lane.loaded = False
        self._unblock(lane)
        # last: giving the buffers back may end the device, which refreshes its port
        lane.source.complete(lane.burst)

    def _abandon(self, lane: Lane) -> None:
        """Forget a lane whose queue is gone; its frames lie in memory that the guest may use again."""
        for number in tuple(lane.waiting):
            self._drop(lane, self.attachments[number], "device_broken")
        lane.loaded = False
        lane.closed = True
        self._release(lane)
        self._unblock(lane)
