"""`virtbed bench virtio`: frames a second through virtio-net, beside DPDK and a bare ring, in one run.

Each pair runs, one after another: a topology of our own (brought up, measured, taken down), the same shape
with DPDK, and a bare ring. Rates are the receiver's; ratios are taken pair by pair, so that what disturbs
the machine for a while disturbs both sides. Frames are written by the sender and copied by the back end, on
every side.
Not modelled: peers in other virtual machines; several NICs.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from rich.console import Group, RenderableType

from launcher import figures
from launcher.forkclient import ROLES
from launcher.peers import Shape, bare_ring, cpus_of, dpdk
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Machine, machine
from launcher.run import run_plan
from launcher.rundir import Holder
from launcher.spread import Spread, ratios
from launcher.table import new_table
from launcher.topology import parse_topology
from launcher.watcher import Watcher
from testbed.errors import ConfigError
from testbed.messages.entries import Plan

HOST: Final = "h0"
SENDER: Final = "sender"
RECEIVER: Final = "receiver"
FIGURES: Final = (
    "frames_per_second",
    "bits_per_second",
    "peer_frames_per_second",
    "ratio_to_peer",
    "limit_frames_per_second",
    "ratio_to_limit",
    "p50_us",
    "p99_us",
    "p999_us",
)
"""What `--at-least` and `--at-most` can name."""
_US_PER_SECOND: Final = 1e6


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    path: Shape
    ring: Literal["split", "packed"] = "split"
    frame_bytes: int = 60
    seconds: float = 1.0
    """Of each measurement."""
    pairs: int = 3
    queues: int = 1
    """Queue pairs, with a flow for each."""
    queue_size: int = 1024
    in_order: bool = False
    in_flight: int = 0
    """1: request and response, one frame at a time; 0: as many as the queues hold."""
    verify: bool = True
    pin: bool = True
    """Give every process one processor, the same on every side; else each side does as it does by itself."""
    poll: str = "200us"
    peer: Literal["", "dpdk"] = ""
    limit: bool = False

    def check(self) -> None:
        """Raise ConfigError where the settings do not go together."""
        if self.in_flight not in (0, 1) or (self.in_flight and (self.path != "echo" or self.queues > 1)):
            raise ConfigError("--in-flight: must be 1, with --path echo and one queue, or left out")


class VirtioResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was measured; what was not asked for is left out."""

    schema: int
    settings: Settings
    frames_per_second: Spread
    """For one frame in flight, round trips a second."""
    bits_per_second: Spread
    latency_us: dict[str, Spread] | None = None
    """p50, p99, p999 of the round trip with one frame in flight."""
    peer_frames_per_second: Spread | None = None
    peer_round_trip_us: Spread | None = None
    """The mean, with one frame in flight."""
    ratio_to_peer: Spread | None = None
    limit_frames_per_second: Spread | None = None
    ratio_to_limit: Spread | None = None
    load_average: float
    """Of the minute before the bench began: what else kept the machine busy."""
    machine: Machine

    def figures(self) -> dict[str, Spread]:
        """Return every figure by the name that a bound gives it."""
        named = {name: getattr(self, name) for name in FIGURES if hasattr(self, name)}
        named |= {f"{quantile}_us": spread for quantile, spread in (self.latency_us or {}).items()}
        return {name: spread for name, spread in named.items() if spread is not None}


@dataclass(frozen=True)
class Measured:
    """One measurement of ours, all flows together."""

    frames_per_second: float
    bits_per_second: float
    latency_us: dict[str, float] | None


def topology(settings: Settings) -> dict[str, Any]:
    """Return the topology file that is measured."""
    nic = {
        "kind": "virtio-net",
        "ring": settings.ring,
        "queue_size": settings.queue_size,
        "queue_pairs": settings.queues,
        "in_order": settings.in_order,
        "backend": "bridge" if settings.path == "forward" else settings.path,
    }
    flow: dict[str, Any] = {
        "kind": "rr" if settings.in_flight else "pktgen",
        "from": SENDER,
        "frame": settings.frame_bytes,
        "duration": f"{settings.seconds}s",
    }
    if not settings.in_flight:
        flow["verify"] = settings.verify
    guests, cpus = [SENDER], cpus_of(settings.path)
    if settings.path == "forward":
        flow["to"] = RECEIVER
        guests.append(RECEIVER)
    return {
        "name": f"bench-virtio-{os.getpid()}",
        "poll": settings.poll if settings.poll != "0" else 0,
        "hosts": {HOST: {"cpus": cpus[:1]} if settings.pin else {}},
        "guests": {
            name: _guest(nic, cpu if settings.pin else None)
            for name, cpu in zip(guests, cpus[1:], strict=True)
        },
        "workloads": [[flow] * settings.queues],
    }


def _guest(nic: dict[str, Any], cpu: int | None) -> dict[str, Any]:
    guest: dict[str, Any] = {"host": HOST, "nics": [nic]}
    return guest if cpu is None else guest | {"cpus": [cpu]}


def plan_for(settings: Settings) -> Plan:
    """Return the plan of the topology that is measured. Raises ConfigError for settings that cannot be."""
    settings.check()
    text = msgspec.json.encode(topology(settings)).decode()
    return plan_fitting(parse_topology(text, "bench virtio"))


def measure_virtio(
    settings: Settings, told: Callable[[str], None], roles: Mapping[str, str] = ROLES
) -> VirtioResult:
    """Measure every pair; `told` is given a line about each.

    Raises ConfigError for bad settings, MachineError where a peer is missing, BenchFailed where our own run
    does not end well.
    """
    plan, load_average = plan_for(settings), os.getloadavg()[0]
    if settings.peer:
        dpdk.check_installed()
    ours: list[Measured] = []
    theirs: list[float] = []
    limits: list[float] = []
    for number in range(1, settings.pairs + 1):
        ours.append(_ours(plan, roles))
        line = f"pair {number} of {settings.pairs}: {figures.mega(ours[-1].frames_per_second)} Mframe/s"
        if settings.peer:
            theirs.append(_peer(settings))
            line += f", {settings.peer} {figures.mega(theirs[-1])}"
        if settings.limit:
            limits.append(_limit(settings))
            line += f", bare ring {figures.mega(limits[-1])}"
        told(line)
    return _result(settings, ours, theirs, limits, load_average)


def _ours(plan: Plan, roles: Mapping[str, str]) -> Measured:
    holder = Holder(plan.topology, os.getpid(), "bench", time.time())
    result = run_plan(plan, holder, Watcher(), roles)
    if result.exit_code:
        raise BenchFailed(result)
    return Measured(
        sum(flow.frames_per_second for flow in result.flows),
        sum(flow.bits_per_second for flow in result.flows),
        result.flows[0].latency_us,
    )


def _peer(settings: Settings) -> float:
    peer = dpdk.Peer(
        settings.path,
        settings.ring,
        settings.in_order,
        settings.frame_bytes,
        settings.queue_size,
        settings.queues,
        settings.in_flight,
        _cpus(settings),
    )
    return dpdk.measure(peer, settings.seconds)


def _limit(settings: Settings) -> float:
    ring = bare_ring.Ring(settings.queue_size, settings.frame_bytes, settings.in_flight)
    return bare_ring.measure(settings.path, ring, settings.seconds, _cpus(settings))


def _cpus(settings: Settings) -> list[int]:
    return cpus_of(settings.path) if settings.pin else []


def _result(
    settings: Settings,
    measured: list[Measured],
    theirs: list[float],
    limits: list[float],
    load_average: float,
) -> VirtioResult:
    ours = [each.frames_per_second for each in measured]
    round_trips = [_US_PER_SECOND / rate for rate in theirs] if settings.in_flight else []
    return VirtioResult(
        schema=1,
        settings=settings,
        frames_per_second=Spread.of(ours),
        bits_per_second=Spread.of(each.bits_per_second for each in measured),
        latency_us=_latency(measured),
        peer_frames_per_second=Spread.of(theirs) if theirs else None,
        peer_round_trip_us=Spread.of(round_trips) if round_trips else None,
        ratio_to_peer=ratios(ours, theirs) if theirs else None,
        limit_frames_per_second=Spread.of(limits) if limits else None,
        ratio_to_limit=ratios(ours, limits) if limits else None,
        load_average=round(load_average, 2),
        machine=machine(),
    )


def _latency(measured: list[Measured]) -> dict[str, Spread] | None:
    latencies = [each.latency_us for each in measured if each.latency_us]
    if not latencies:
        return None
    return {name: Spread.of(latency[name] for latency in latencies) for name in latencies[0]}


def virtio_table(measured: VirtioResult) -> RenderableType:
    """Return the figures as a table."""
    settings = measured.settings
    title = f"virtio {settings.path}, {settings.ring} ring, {settings.frame_bytes} bytes"
    pairs = figures.plural(settings.pairs, "pair")
    table = new_table(title, [pairs], ["min", "median", "max"])
    rows: list[tuple[str, Spread | None, Callable[[float], str]]] = [
        ("Mframe/s", measured.frames_per_second, figures.mega),
        ("Gbit/s", measured.bits_per_second, figures.giga),
        *((f"{name} us", spread, _plain) for name, spread in (measured.latency_us or {}).items()),
        (f"{settings.peer} Mframe/s", measured.peer_frames_per_second, figures.mega),
        (f"{settings.peer} mean round trip us", measured.peer_round_trip_us, _plain),
        (f"ratio to {settings.peer}", measured.ratio_to_peer, _plain),
        ("bare ring Mframe/s", measured.limit_frames_per_second, figures.mega),
        ("ratio to the bare ring", measured.ratio_to_limit, _plain),
    ]
    for name, spread, shown in rows:
        if spread is not None:
            table.add_row(name, *(shown(value) for value in (spread.min, spread.median, spread.max)))
    return Group(table, f"[dim]load average before: {measured.load_average:g}[/]")


def _plain(value: float) -> str:
    return f"{value:,.4g}"
