"""The timer and ipi part of `virtbed bench irq`: a guest of a topology and a workload of interrupts.

What bringing the guest up costs in messages is known from a run without the workload and taken away.
"""

import os
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from launcher.irq_plan import Way
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Result
from launcher.run import run_plan
from launcher.rundir import Holder
from launcher.topology import parse_topology
from launcher.watcher import Watcher

GuestKind = Literal["timer", "ipi"]
_INTERVAL_MIN_NS: Final = 100_000
_HYPERVISOR: Final = "vmm-h0"
_EXITS: Final = ("exits.irq", "exits.sysreg")
"""Why a vCPU leaves for a timer's or another vCPU's interrupt."""


def topology(way: Way, kind: GuestKind, seconds: float, gap_ns: int, poll_ns: int) -> dict[str, Any]:
    """Return the topology file that is measured."""
    interval = f"{max(gap_ns, _INTERVAL_MIN_NS)}ns"
    work = {"kind": kind, "from": "a", "interval": interval, "duration": f"{int(seconds * 1e6)}us"}
    guest: dict[str, Any] = {"vcpus": 2, "interrupts": way, "nics": []}
    poll = "forever" if poll_ns < 0 else f"{poll_ns}ns"
    return {"name": f"bench-irq-{os.getpid()}", "poll": poll, "guests": {"a": guest}, "workloads": [work]}


def measure_guest(
    way: Way, kind: GuestKind, seconds: float, gap_ns: int, poll_ns: int, roles: Mapping[str, str]
) -> tuple[dict[str, float], int]:
    """Return the figures of one run, and how many interrupts they are of. Raises BenchFailed."""
    file = topology(way, kind, seconds, gap_ns, poll_ns)
    idle, busy = _run({**file, "workloads": []}, roles), _run(file, roles)
    flow = busy.flows[0]
    if not flow.latency_us:
        raise BenchFailed(busy)
    taken = flow.received
    messages = max(0, _messages(busy) - _messages(idle)) / taken
    exits = sum(_counted(busy, "a", name) - _counted(idle, "a", name) for name in _EXITS)
    return {
        "p50_us": flow.latency_us["p50"],
        "p99_us": flow.latency_us["p99"],
        "exits_per_interrupt": exits / taken,
        "vmm_messages_per_interrupt": messages,
        "messages_per_interrupt": messages,
        "interrupts_per_second": flow.interrupts_per_second,
    }, taken


def _run(file: Mapping[str, Any], roles: Mapping[str, str]) -> Result:
    plan = plan_fitting(parse_topology(msgspec.json.encode(file).decode(), "bench irq"))
    result = run_plan(plan, Holder(plan.topology, os.getpid(), "bench", time.time()), Watcher(), roles)
    if result.exit_code:
        raise BenchFailed(result)
    return result


def _counted(result: Result, process: str, name: str) -> int:
    """Return a counter of a process, those of all vCPUs together."""
    counts = result.counters.get(process, {}).items()
    return sum(value for key, value in counts if key == name or key.endswith(f".{name}"))


def _messages(result: Result) -> int:
    """Return what guest and hypervisor sent each other: nobody else is there."""
    return _counted(result, "a", "bell.sent") + _counted(result, _HYPERVISOR, "bell.sent")
