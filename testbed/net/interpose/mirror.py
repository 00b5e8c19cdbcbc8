"""Copies frames to another port of the same bridge, as a switch's mirror port has them (SPAN).

The copies are neither learned from nor answered for: what the other port has no room for is dropped and
counted there, and nobody is held back. A port's own mirrors do not see the copies it is given, so two ports
may mirror each other. Not modelled: mirrors to other hosts.
"""

from collections.abc import Callable

from testbed.native import Burst
from testbed.net.interpose.chain import Direction
from testbed.net.interpose.counts import PortCounts

Copy = Callable[[Burst], None]
"""Copies the frames that are present to a port."""


class Mirror:
    """Hands every frame that is present to `copy`."""

    def __init__(self, copy: Copy, counts: PortCounts) -> None:
        self._copy, self._counts = copy, counts

    def apply(self, burst: Burst, _direction: Direction) -> None:
        """Copy what is still present."""
        if frames := len(burst) - burst.absent:
            self._counts.add("frames_mirrored", frames)
            self._copy(burst)
