"""When the next frame of a flow is due: full speed, a rate, or the times of a capture.

Reference: our own; times are nanoseconds since the flow began. A sender that was held back catches up. Not
modelled: bursts or gaps on purpose.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from testbed.net.port import PASS_FRAMES_MAX

_NS_PER_SECOND = 1_000_000_000


class Pace(Protocol):
    """Says how many frames may have been sent by now."""

    def due(self, elapsed_ns: int, sent: int) -> int:
        """Return how many more frames are due."""
        ...

    def next_ns(self, sent: int) -> int:
        """Return after what time from the start the next frame is due."""
        ...


class FullSpeed:
    """Always as many as go at once."""

    def due(self, elapsed_ns: int, sent: int) -> int:  # noqa: ARG002 - the protocol's
        """All that go at once."""
        return PASS_FRAMES_MAX

    def next_ns(self, sent: int) -> int:  # noqa: ARG002 - the protocol's
        """At once."""
        return 0


class Rate:
    """So many frames a second, evenly."""

    def __init__(self, frames_per_second: float) -> None:
        self._interval_ns = _NS_PER_SECOND / frames_per_second

    def due(self, elapsed_ns: int, sent: int) -> int:
        """Frames whose time has come, what goes at once at most."""
        return max(0, min(PASS_FRAMES_MAX, int(elapsed_ns / self._interval_ns) + 1 - sent))

    def next_ns(self, sent: int) -> int:
        """The start of the next interval."""
        return math.ceil(sent * self._interval_ns)


class CapturedTimes:
    """The distances of a capture; a loop begins one mean distance after the last frame of the one before."""

    def __init__(self, times_ns: Sequence[int]) -> None:
        self._times_ns = times_ns
        self._loop_ns = times_ns[-1] + times_ns[-1] // max(1, len(times_ns) - 1)

    def due(self, elapsed_ns: int, sent: int) -> int:
        """Frames whose time has come, what goes at once at most."""
        loop, frame = divmod(sent, len(self._times_ns))
        ready = bisect_right(self._times_ns, elapsed_ns - loop * self._loop_ns)
        return max(0, min(PASS_FRAMES_MAX, ready - frame))

    def next_ns(self, sent: int) -> int:
        """The captured time of the next frame."""
        loop, frame = divmod(sent, len(self._times_ns))
        return loop * self._loop_ns + self._times_ns[frame]
