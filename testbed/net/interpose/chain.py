"""An ordered chain of interposers for one port of the bridge, applied to a burst at a time.

Reference: `Interposer` in testbed/net/port.py. An interposer marks frames of a burst as removed; none
changes a frame or its order. From the guest (`tx`) the chain runs before the bridge classifies a burst, to
the guest (`rx`) before it is delivered, once, whether or not the receiver has room. A frame that one
interposer removed is not seen by the next.
"""

from collections.abc import Iterable
from typing import Final, Literal, Protocol, cast

from testbed.native import FRAMES_MAX, Burst, begin_interposing
from testbed.spec.virtio_net import FRAME_BYTES_MAX

Direction = Literal["tx", "rx"]
"""`tx`: from the guest, `rx`: to the guest."""
DIRECTIONS: Final[tuple[Direction, ...]] = ("tx", "rx")


class Stage(Protocol):
    """One interposer."""

    def apply(self, burst: Burst, direction: Direction, /) -> None:
        """See the frames that are present; remove some."""
        ...


class Holding(Stage, Protocol):
    """An interposer that says how much may be fetched from the guest."""

    hold: bool

    def allowance(self) -> int:
        """Return how many frames may be fetched now, at most a burst; 0: none yet."""
        ...

    def allowed_ns(self) -> int:
        """Return when there will be an allowance."""
        ...


class Chain:
    """What a port's frames go through; an empty chain lets everything pass."""

    def __init__(self) -> None:
        self._stages: dict[Direction, list[Stage]] = {"tx": [], "rx": []}
        self._copying: list[Stage] = []
        self._holding: list[Holding] = []

    @property
    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not any(self._stages.values())

    def add(self, stage: Stage, directions: Iterable[Direction], *, copies: bool = False) -> None:
        """Add an interposer behind the others; one that `copies` does not see what was copied here."""
        for direction in directions:
            self._stages[direction].append(stage)
        if copies:
            self._copying.append(stage)
        if getattr(stage, "hold", False):
            self._holding.append(cast(Holding, stage))

    def add_at_guest(self, stage: Stage, directions: Iterable[Direction]) -> None:
        """Add an interposer next to the guest: it sees what the guest sends and what the guest gets."""
        for direction in directions:
            stages = self._stages[direction]
            stages.insert(0 if direction == "tx" else len(stages), stage)

    def remove(self, stage: Stage) -> None:
        """Take an interposer out."""
        for direction, stages in self._stages.items():
            self._stages[direction] = [other for other in stages if other is not stage]
        self._copying = [other for other in self._copying if other is not stage]
        self._holding = [other for other in self._holding if other is not stage]

    def allowance(self) -> int:
        """Return how many frames may be fetched from the guest now; 0: none yet."""
        return min((stage.allowance() for stage in self._holding), default=FRAMES_MAX)

    def allowed_ns(self) -> int:
        """Return when `allowance` will not be 0 any more."""
        return max((stage.allowed_ns() for stage in self._holding if not stage.allowance()), default=0)

    def from_guest(self, burst: Burst) -> None:
        """Run the chain over a burst that was fetched."""
        begin_interposing(burst, FRAME_BYTES_MAX)
        for stage in self._stages["tx"]:
            stage.apply(burst, "tx")

    def to_guest(self, burst: Burst, mirrored: bool = False) -> None:
        """Run the chain over what goes to the guest."""
        for stage in self._stages["rx"]:
            if not (mirrored and stage in self._copying):
                stage.apply(burst, "rx")
