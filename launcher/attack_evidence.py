"""What an attack leaves in the counters of the processes that stop it.

Reference: ARM IHI 0070 G.b §7.3 (events), 82576 datasheet §7.10.3.9 (anti-spoofing) and §8.8 (DOUTSYNC: a
stopped queue); testbed/observe/catalogue.py. Counters are compared with what they were when the attack began.
"""

import time
from typing import Final

from launcher.segments import Segments
from testbed.messages.attack import AttackEntry, AttackName

_DMA: Final = ("fault.F_",)
_EXPECTED: Final[dict[AttackName, tuple[str, ...]]] = {
    "dma-other-guest": _DMA,
    "dma-vmm": _DMA,
    "dma-unmapped": _DMA,
    "dma-read-only": ("fault.F_PERMISSION",),
    "dma-msi-window": (".refused",),
    "stale-translation": ("fault.F_TRANSLATION",),
    "spoof-mac": (".dropped.spoof",),
    "spoof-vlan": (".dropped.spoof",),
    "flood-mailbox": (".refused", ".throttled"),
    "flood-doorbell": (".coalesced",),
    "flood-interrupt": (".throttled",),
    "malformed-descriptors": (".fault.descriptor", ".fault.register", ".dropped.too_"),
    "ring-loop": (".fault.descriptor",),
}
"""Parts of the names of counters, one of which at least must count each attack."""
_OF_POOL: Final = ("fault.", "dropped.spoof", "dropped.too_")
_OF_FUNCTION: Final = ("refused", "malformed", "foreign_stream", "paused", "throttled", "spoof_events")
_OF_WINDOW: Final = ("throttled", "coalesced")
_OF_NIC: Final = ("windows.", "ats.denied")


class Evidence:
    """The counters that one attack moves."""

    def __init__(self, entry: AttackEntry, segments: Segments) -> None:
        self._entry, self._segments = entry, segments
        self._processes = [entry.iommu, entry.nic, entry.vmm]
        self._before = {name: segments.counters_of(name) for name in self._processes}
        self._guests = [name for name in segments.guests if name != entry.source]
        self._foreign = self._foreign_now()
        self._begun_ns = time.monotonic_ns()

    def grown(self) -> dict[str, int]:
        """Return what has counted the attack, `PROCESS COUNTER`, and how much."""
        found = {}
        for process in self._processes:
            before = self._before[process]
            for name, value in self._segments.counters_of(process).items():
                if value > before[name] and self._is_evidence(name):
                    found[f"{process} {name}"] = value - before[name]
        return found

    def given(self) -> dict[str, float]:
        """Return the share of time since the attack began that each process has worked for its function."""
        elapsed_ns = time.monotonic_ns() - self._begun_ns
        work = {
            self._entry.nic: f"vf{self._entry.pool}.access_ns",
            self._entry.iommu: f"{self._entry.function}.decided_ns",
        }
        return {
            process: round((now[name] - self._before[process][name]) / elapsed_ns, 4)
            for process, name in work.items()
            if name in (now := self._segments.counters_of(process))
        }

    def noticed(self) -> bool:
        """Say whether this kind of attack was counted by what is there to stop it."""
        expected = _EXPECTED[self._entry.attack]
        return any(part in name for name in self.grown() for part in expected)

    def foreign_frames(self) -> int:
        """Return the frames at other guests that belong to no flow."""
        return self._foreign_now() - self._foreign

    def _foreign_now(self) -> int:
        return sum(
            value
            for guest in self._guests
            for name, value in self._segments.counters_of(guest).items()
            if name.endswith(".foreign_frames")
        )

    def _is_evidence(self, name: str) -> bool:
        pool, function = f"pool{self._entry.pool}.", f"{self._entry.function}."
        window = f"vf{self._entry.pool}."
        if name.startswith(pool):
            return name.removeprefix(pool).startswith(_OF_POOL)
        if name.startswith(function):
            return name.removeprefix(function) in _OF_FUNCTION
        if name.startswith(window):
            return name.removeprefix(window) in _OF_WINDOW
        return name.startswith(("fault.", *_OF_NIC))
