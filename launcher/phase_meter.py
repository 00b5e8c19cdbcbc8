"""What each phase of a run cost: counters and CPU time, read when it begins and when it ends.

Processes write their counters once a turn of their loop, so each phase waits until those of the one before
have come to rest. What bringing the topology up and taking it down cost is in no figure. Reference:
clock_getcpuclockid(3) for the CPU time of another process, all its threads together. Not modelled: phases
with several flows.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from launcher.result import FlowResult, Machine, ProcessResult, Result
from launcher.watcher import Watcher
from launcher.wire_ways import Cost, cost_of

if TYPE_CHECKING:
    from launcher.run import Run

_PROCESS_CLOCK: Final = 2
"""CPUCLOCK_SCHED, below the complement of the process ID shifted by 3."""
_NS_PER_SECOND: Final = 1e9
REST_SECONDS: Final = 0.01
_EXITS: Final = "exits."


@dataclass(frozen=True)
class Snapshot:
    """Counters by process, and CPU time."""

    counters: Mapping[str, Mapping[str, int]]
    cpu_seconds: Mapping[str, float]


@dataclass(frozen=True)
class Phase:
    """One phase that is over."""

    flow: FlowResult
    before: Snapshot
    after: Snapshot

    def cost(self, roles: Mapping[str, str], machine: Machine) -> Cost:
        """Return what one of its frames cost; `roles` of all processes."""
        before, after = (_as_result(s, roles, self.flow, machine) for s in (self.before, self.after))
        return cost_of(after, before)

    def exits(self, guests: Sequence[str]) -> dict[str, int]:
        """Return the exits of some guests by reason; those that were not taken are left out."""
        found: dict[str, int] = {}
        for guest in guests:
            before = self.before.counters.get(guest, {})
            for name, value in self.after.counters.get(guest, {}).items():
                taken = value - before.get(name, 0)
                if name.startswith(_EXITS) and taken:
                    reason = name.removeprefix(_EXITS)
                    found[reason] = found.get(reason, 0) + taken
        return found


@dataclass
class PhaseMeter(Watcher):
    """Takes a snapshot around each phase of one run."""

    phases: list[Phase] = field(default_factory=list)
    rest_seconds: float = REST_SECONDS
    """How long everybody takes to come to rest after a phase."""
    _run: "Run | None" = None
    _before: Snapshot | None = None

    def begin(self, run: "Run") -> None:
        """Look at this run."""
        self._run = run

    async def before_phase(self) -> None:
        """Let everybody come to rest, and take the snapshot before."""
        await asyncio.sleep(self.rest_seconds)
        self._before = self._snapshot()

    def flow_ended(self, result: FlowResult) -> None:
        """Take the snapshot after."""
        assert self._before is not None
        self.phases.append(Phase(result, self._before, self._snapshot()))

    def _snapshot(self) -> Snapshot:
        assert self._run is not None
        supervisor = self._run.supervisor
        used = {process.name: cpu_seconds(process.pid) for process in supervisor.alive}
        return Snapshot(supervisor.segments.read_counters(), used)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, to the nanosecond; 0 where it is gone."""
    try:
        return time.clock_gettime_ns(~pid << 3 | _PROCESS_CLOCK) / _NS_PER_SECOND
    except OSError:
        return 0.0


def _as_result(snapshot: Snapshot, roles: Mapping[str, str], flow: FlowResult, machine: Machine) -> Result:
    processes = (
        ProcessResult(name=name, role=roles[name], pid=0, cpu_seconds=used, pss_bytes=None)
        for name, used in snapshot.cpu_seconds.items()
    )
    return Result(
        topology="",
        seconds=0.0,
        exit_code=0,
        flows=(flow,),
        processes=tuple(processes),
        counters={name: dict(values) for name, values in snapshot.counters.items()},
        machine=machine,
    )
