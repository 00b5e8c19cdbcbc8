"""Limits the rate of frames or bits with a token bucket.

Reference: RFC 2697 §3 (a bucket of committed burst size), one colour. Tokens are frames, or bits of frames
without FCS. What finds no tokens is dropped and counted; or, where the excess is held, the guest's queue is
not fetched from until there are tokens again: then what was fetched may bring the bucket below zero, so
that the rate is exact over time. Not modelled: holding what goes to a guest, which would hold back everyone
who sends to it.
"""

import math
from collections.abc import Callable
from typing import Final

from testbed.native import FRAMES_MAX, Burst, police
from testbed.net.interpose.chain import Direction
from testbed.net.interpose.counts import PortCounts

_NS_PER_SECOND: Final = 1e9
_TYPICAL_FRAME_BITS: Final = 8 * 1514
_REFILL_SECONDS: Final = 1e-3
"""How much is waited for once the bucket is empty; a wake-up costs more than a burst."""


class Rate:
    """One bucket that holds at most `depth` tokens and gets `per_second`; full to begin with."""

    def __init__(
        self,
        per_second: float,
        depth: float,
        bits: bool,
        hold: bool,
        counts: PortCounts,
        clock: Callable[[], int],
    ) -> None:
        self._per_second, self._depth = per_second, depth
        self._bits, self.hold, self._counts, self._clock = bits, hold, counts, clock
        self._tokens, self._filled_ns = depth, clock()

    def apply(self, burst: Burst, _direction: Direction) -> None:
        """Charge the frames that are present; drop what the tokens do not cover, unless it is held."""
        self._refill()
        self._tokens, removed = police(burst, self._tokens, self._bits, self.hold)
        self._counts.add("dropped_rate", removed)

    def allowance(self) -> int:
        """Return how many frames may be fetched now, at most a burst; 0: none yet."""
        self._refill()
        if self._tokens <= 0:
            return 0
        frames = self._tokens / (_TYPICAL_FRAME_BITS if self._bits else 1)
        return max(1, min(FRAMES_MAX, int(frames)))

    def allowed_ns(self) -> int:
        """Return when there will be enough tokens to go on."""
        wanted = min(self._depth, max(1.0, self._per_second * _REFILL_SECONDS))
        missing = max(0.0, wanted - self._tokens)
        return self._filled_ns + math.ceil(missing / self._per_second * _NS_PER_SECOND)

    def _refill(self) -> None:
        now_ns = self._clock()
        gained = (now_ns - self._filled_ns) / _NS_PER_SECOND * self._per_second
        self._tokens = min(self._depth, self._tokens + gained)
        self._filled_ns = now_ns
