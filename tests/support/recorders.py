"""Stand-ins that remember what was done to them: clocks, doorbells, fault reports."""

from testbed.native import Bell, Pinned


class ManualClock:
    """CLOCK_MONOTONIC as a test wants it; begins at one second."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, by_ns: int) -> None:
        self.now_ns += by_ns


class RecordingDoorbell:
    """A doorbell without a socket."""

    def __init__(self, page: Pinned, offset: int = 0) -> None:
        self._bell = Bell(page, offset)
        self.asked = self.sent = 0

    def ring(self) -> None:
        self.asked += 1
        self.sent += self._bell.ring()


class RecordingFaults:
    """A device's `FaultSink`."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __call__(self, reason: str, detail: str) -> None:
        assert detail
        self.reasons.append(reason)


class RecordingReports:
    """A vmm's `Report`."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __call__(self, device: str, reason: str, detail: str) -> None:
        assert detail
        self.seen.append((device, reason))
