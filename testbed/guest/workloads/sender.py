"""Sends one flow: generated frames or a capture, by bursts, at a pace, until a count or a time is reached.

Reference: design, "The data plane: bursts". Not modelled: several flows sharing one pace.
"""

import time
from collections.abc import Callable

from testbed.errors import ConfigError
from testbed.guest.drivers.driver import NetDriver, queue_for
from testbed.guest.workloads.captured import load_captured
from testbed.guest.workloads.frames import headers
from testbed.guest.workloads.pace import CapturedTimes, FullSpeed, Pace, Rate
from testbed.messages.control import Sent
from testbed.messages.entries import FlowEntry
from testbed.native import Burst, Filler, FlowSource, ReplaySource
from testbed.net.port import PASS_FRAMES_MAX
from testbed.spec.flow import ETHERNET, MAGIC_DATA

_NS_PER_SECOND = 1e9
_WITHOUT_END = 1 << 62


class Sender:
    """One flow on its way out; `step` sends what there is room for.

    ConfigError where a frame is too long for the NIC.
    """

    def __init__(
        self,
        flow: FlowEntry,
        driver: NetDriver,
        done: Callable[[Sent], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.flow, self._done, self._clock = flow, done, clock
        self.queue = queue_for(driver, flow.id)
        self._burst = Burst()
        self._filler, self._pace, self._count = _prepare(flow, driver.mtu + ETHERNET.size)
        self.sent = 0
        self._started_ns = 0
        self.finished = False
        self.starved = False
        """A frame was due and there was no buffer: only room can help."""

    def start(self) -> None:
        """The flow's time begins."""
        self._started_ns = self._clock()

    def step(self) -> bool:
        """Send what is due and what there is room for; True: something was sent."""
        elapsed_ns = self._clock() - self._started_ns
        if self.flow.duration_ns and elapsed_ns >= self.flow.duration_ns:
            self._finish(elapsed_ns)
            return True
        want = min(PASS_FRAMES_MAX, self._pace.due(elapsed_ns, self.sent), self._count - self.sent)
        sent = self.queue.tx_fill(self._filler, self._burst, want) if want > 0 else 0
        self.sent += sent
        self.starved = want > 0 and not sent
        if self.sent == self._count:
            self._finish(self._clock() - self._started_ns)
        return sent > 0

    def wake_ns(self) -> int | None:
        """Return when to step although nothing happened; in the past where a frame fell due meanwhile."""
        end_ns = self._started_ns + self.flow.duration_ns if self.flow.duration_ns else None
        if self.starved:
            return end_ns
        due_ns = self._started_ns + self._pace.next_ns(self.sent)
        return due_ns if end_ns is None else min(due_ns, end_ns)

    def _finish(self, elapsed_ns: int) -> None:
        self.finished = True
        self._done(Sent(flow_id=self.flow.id, sent=self.sent, seconds=elapsed_ns / _NS_PER_SECOND))


def _prepare(flow: FlowEntry, frame_bytes_max: int) -> tuple[Filler, Pace, int]:
    """Return what writes the frames, their pace, and how many there are."""
    if flow.kind == "replay":
        frames = load_captured(flow)
        _check_length(flow, frames.longest_bytes, frame_bytes_max)
        pace: Pace = CapturedTimes(frames.times_ns) if flow.captured_times else FullSpeed()
        return ReplaySource(frames.content, frames.offsets.tobytes()), pace, frames.count * flow.loops
    _check_length(flow, max(flow.frame_bytes), frame_bytes_max)
    source = FlowSource(
        flow.id, MAGIC_DATA, flow.frame_bytes, [headers(flow, size) for size in flow.frame_bytes]
    )
    pace = Rate(flow.frames_per_second) if flow.frames_per_second else FullSpeed()
    return source, pace, flow.count or _WITHOUT_END


def _check_length(flow: FlowEntry, frame_bytes: int, limit: int) -> None:
    if frame_bytes > limit:
        raise ConfigError(
            f"flow {flow.name}: a frame is at most {limit} bytes long on this NIC, not {frame_bytes}; "
            "raise its mtu"
        )
