"""`virtbed bench launch`: how fast guests come up, and what each costs in memory.

N guests on one host; guest i sends one frame to guest i+1, the last to the first, each checked where it
arrives. Time runs from before the fork server is started to the last READY. Memory is the proportional set
size of a guest's process without the mapping of its RAM, after the frames. Not modelled: several hosts.
"""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import uvloop
from rich.table import Table

from launcher import figures, usage
from launcher.forkclient import ROLES
from launcher.prepare import plan_fitting
from launcher.processes import GUEST, Process
from launcher.result import Result
from launcher.run import Run
from launcher.rundir import Holder, claim
from launcher.supervisor import Supervisor
from launcher.table import new_table
from launcher.topology import parse_topology
from launcher.watcher import Watcher
from testbed.messages.entries import Plan

FRAME_BYTES: Final = 60
_NS_PER_MS: Final = 1e6
_NS_PER_SECOND: Final = 1e9


class LaunchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What bringing guests up took."""

    schema: int = 1
    guests: int
    guests_per_second: float
    """Guests by the time from start to all ready."""
    seconds_to_all_ready: float
    seconds_to_all_verified: float
    """From start until each guest's frame has been checked by its neighbour."""
    ready_ms: dict[str, float]
    """p50 and p99 of the time from asking for a guest to its READY."""
    verified_frames: int
    pss_bytes_per_guest: dict[str, int]
    """mean and max, without RAM."""
    result: Result
    """The whole run."""


class _Clock(Watcher):
    """Notes when all were ready."""

    ready_seconds = 0.0

    def ready(self, processes: int, seconds: float) -> None:
        super().ready(processes, seconds)
        self.ready_seconds = seconds


def ring_plan(guests: int, memory: str) -> Plan:
    """Return the plan of a ring of guests, each sending one frame to the next.

    Raises ConfigError when the memory is no size, or this machine too small.
    """
    flows = [
        {"kind": "pktgen", "from": f"g{i}", "to": f"g{(i + 1) % guests}", "frame": FRAME_BYTES, "count": 1}
        for i in range(guests)
    ]
    topology = {
        "name": f"bench-launch-{os.getpid()}",
        "guests": {"g": {"count": guests, "memory": memory}},
        "workloads": [flows],
    }
    return plan_fitting(parse_topology(msgspec.json.encode(topology).decode(), "bench launch"))


def measure_launch(guests: int, memory: str, roles: Mapping[str, str] = ROLES) -> LaunchResult:
    """Bring up so many guests, let each pass a frame, and return what it took. Raises as `ring_plan`."""
    return uvloop.run(_measure(ring_plan(guests, memory), roles))


async def _measure(plan: Plan, roles: Mapping[str, str]) -> LaunchResult:
    clock = _Clock()
    holder = Holder(plan.topology, os.getpid(), "bench", time.time())
    with claim(holder) as directory:
        run = Run(plan, directory, clock, stay=True, roles=roles)
        execution = asyncio.ensure_future(run.execute())
        idle = asyncio.ensure_future(run.idle.wait())
        await asyncio.wait([execution, idle], return_when=asyncio.FIRST_COMPLETED)
        seconds = (time.monotonic_ns() - run.supervisor.started_ns) / _NS_PER_SECOND
        guests = [process for process in run.supervisor.processes.values() if process.plan.role == GUEST]
        sizes = _sizes(guests, run.supervisor)
        idle.cancel()
        run.stop("measured")
        result = await execution
    return LaunchResult(
        guests=len(guests),
        guests_per_second=round(len(guests) / clock.ready_seconds, 1) if clock.ready_seconds else 0.0,
        seconds_to_all_ready=round(clock.ready_seconds, 3),
        seconds_to_all_verified=round(seconds, 3),
        ready_ms=_percentiles([guest.ready_ns - guest.spawned_ns for guest in guests if guest.ready_ns]),
        verified_frames=sum(flow.received for flow in result.flows if flow.good),
        pss_bytes_per_guest={"mean": round(sum(sizes) / max(1, len(sizes))), "max": max(sizes, default=0)},
        result=result,
    )


def _sizes(guests: Sequence[Process], supervisor: Supervisor) -> list[int]:
    sizes = (
        usage.pss_bytes_without(guest.pid, supervisor.segments.inode(f"{guest.name}.ram"))
        for guest in guests
        if guest.alive
    )
    return [size for size in sizes if size is not None]


def _percentiles(durations_ns: Sequence[int]) -> dict[str, float]:
    ordered = sorted(durations_ns)
    last = len(ordered) - 1
    if last < 0:
        return {}
    return {
        name: round(ordered[round(last * share)] / _NS_PER_MS, 3)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }


def launch_table(measured: LaunchResult) -> Table:
    """Return the figures as a table."""
    table = new_table(f"Launch of {figures.plural(measured.guests, 'guest')}", ["", ""], [])
    rows = {
        "to all ready": figures.seconds(measured.seconds_to_all_ready),
        "guests per second": f"{measured.guests_per_second:,.1f}",
        "ready p50, p99": ", ".join(f"{value:,.1f} ms" for value in measured.ready_ms.values()),
        "to all verified": figures.seconds(measured.seconds_to_all_verified),
        "verified frames": f"{measured.verified_frames:,}",
        "memory without RAM, mean": f"{figures.mebibytes(measured.pss_bytes_per_guest['mean'])} MiB",
        "memory without RAM, max": f"{figures.mebibytes(measured.pss_bytes_per_guest['max'])} MiB",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
