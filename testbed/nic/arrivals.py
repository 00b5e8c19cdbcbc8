"""Flows that end where a NIC takes their frames off its wire: it answers for them as a receiving guest does.

The frames are for nobody behind the NIC: its filters drop them as they come in, counted, which is how it
knows how many came and when. Nothing looks into them. Not modelled: two such flows at the same time.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.messages.control import (
    Cancel,
    Collect,
    Expect,
    Expecting,
    FromProcess,
    Received,
    ToProcess,
)
from testbed.native import NicEngine

QUIET_NS: Final = 500_000_000
"""After so long without a frame the rest of a flow counts as lost."""
_NS_PER_SECOND: Final = 1e9


class WireArrivals:
    """The flow that ends at one NIC's wire; `send` speaks to the launcher."""

    def __init__(
        self,
        engine: NicEngine,
        send: Callable[[FromProcess], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._engine, self._send, self._clock = engine, send, clock
        self._flow_id = 0
        self._sent: int | None = None
        self._asked_ns = 0
        self.total = 0
        """Unclaimed frames of the flows before."""

    def handle(self, message: ToProcess) -> None:
        """Carry out one message of the launcher."""
        if isinstance(message, Expect):
            self.total += self._engine.unclaimed[0]
            self._engine.mark_unclaimed()
            self._flow_id, self._sent = message.flow.id, None
            self._send(Expecting(flow_id=message.flow.id))
        elif isinstance(message, Collect) and message.flow_id == self._flow_id:
            self._sent, self._asked_ns = message.sent, self._clock()
        elif isinstance(message, Cancel) and message.flow_id == self._flow_id:
            self._flow_id, self._sent = 0, None

    def tick(self) -> None:
        """Answer when the flow is complete, or has been quiet too long."""
        if self._sent is None:
            return
        frames, byte_count, first_ns, last_ns = self._engine.unclaimed
        if frames < self._sent and self._clock() < self._quiet_at():
            return
        seconds = (last_ns - first_ns) / _NS_PER_SECOND
        self._send(
            Received(
                flow_id=self._flow_id,
                received=frames,
                reordered=0,
                corrupted=0,
                duplicated=0,
                bytes=byte_count,
                seconds=seconds,
            )
        )
        self._flow_id, self._sent = 0, None

    def deadline_ns(self) -> int | None:
        """Return when something is due although nothing happens."""
        return None if self._sent is None else self._quiet_at()

    def _quiet_at(self) -> int:
        return max(self._asked_ns, self._engine.unclaimed[3]) + QUIET_NS
