"""Where a NIC's back end meets what moves frames: sources of bursts and ports that take them.

A `Source` hands out frames that lie in its guest's memory and stay there until the burst is completed; a
`Port` copies frames of a burst into its guest. A NIC with one queue is its own only source; one with
several has a source a queue, so that each keeps its order. Neither knows a bridge, a socket or a loop.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from testbed.native import FRAMES_MAX, Burst, DeviceRing, Drain, Watched

PASS_FRAMES_MAX: Final = 2048
"""How many frames go through native steps in one go: enough that what Python does around them hardly counts,
and few enough that nobody else waits long."""


class Source(Protocol):
    """One queue of frames that leave a guest."""

    @property
    def watched(self) -> Watched | None:
        """What says natively that there are frames; None while the device is not set up."""
        ...

    def fetch(self, burst: Burst, limit: int) -> int:
        """Fill `burst` with at most `limit` frames; return how many. A guest's faults are contained here."""
        ...

    def complete(self, burst: Burst) -> None:
        """Give the buffers of a fetched burst back to the guest; its frames are not read after this."""
        ...

    def drain(self, where: Drain, through: Burst, limit: int) -> tuple[int, bool]:
        """Have `where` deal with up to `limit` frames, burst by burst, and complete them.

        Returns (frames completed, the last burst stays): where `where` left one alone, `through` has it,
        fetched and not completed.
        """
        ...


class SteppedSource:
    """`drain` for a source that is no virtqueue: a burst at a time."""

    def fetch(self, burst: Burst, limit: int) -> int:
        """See Source."""
        raise NotImplementedError

    def complete(self, burst: Burst) -> None:
        """See Source."""
        raise NotImplementedError

    def drain(self, where: Drain, through: Burst, limit: int) -> tuple[int, bool]:
        """See Source."""
        count = self.fetch(through, min(limit, FRAMES_MAX))
        if not count:
            return 0, False
        if not where.take_burst(through):
            return 0, True
        self.complete(through)
        return count, False


class Port(Protocol):
    """One NIC as the bridge sees it."""

    name: str
    mac: bytes

    @property
    def sources(self) -> Sequence[Source]:
        """The queues from which frames come."""
        ...

    @property
    def room(self) -> Sequence[Watched]:
        """What says natively that a full receiver has buffers again."""
        ...

    @property
    def services(self) -> Sequence[tuple[Watched, Callable[[], bool]]]:
        """Rings that carry no frames (a control queue), and what serves each; True: something moved."""
        ...

    @property
    def receiving(self) -> bool:
        """The driver is up and the link, too: frames may be sent here."""
        ...

    def deliver(self, burst: Burst, first: int, number: int) -> int:
        """Copy the frames from index `first` on that go to port `number` or to everyone into the guest.

        Returns the index of the first frame that must wait for buffers, or the burst's length.
        """
        ...

    def count_dropped(self, reason: str, frames: int) -> None:
        """Count frames that should have come here and were dropped by the bridge."""
        ...

    @property
    def deliveries(self) -> Sequence[DeviceRing]:
        """Queues into which frames may be delivered without asking; none where only `deliver` can."""
        ...

    def settle(self, call: bool) -> None:
        """Deal with what came of a delivery into those queues: the driver wants a `call`, or one broke."""
        ...


class SteppedPort:
    """A port that is no virtqueue: frames come by `deliver` only."""

    @property
    def deliveries(self) -> Sequence[DeviceRing]:
        """See Port."""
        return ()

    def settle(self, call: bool) -> None:
        """See Port."""


class Interposer(Protocol):
    """Looks at the frames of one port of the bridge on their way and removes some; it never changes one."""

    def allowance(self) -> int:
        """Return how many frames may be fetched from the guest now, at most a burst; 0: none yet."""
        ...

    def allowed_ns(self) -> int:
        """Return when `allowance` will not be 0 any more."""
        ...

    def from_guest(self, burst: Burst) -> None:
        """See a burst that was fetched, before it is classified."""
        ...

    def to_guest(self, burst: Burst, mirrored: bool = False) -> None:
        """See what goes to this port, before it is delivered; once a burst, whether or not there is room."""
        ...
