"""`virtbed bench vhost-user`: how fast our back end takes what DPDK's virtio-user sends, beside DPDK's own.

Each pair runs, one after the other: a vmm with an external guest and a sink behind it, and a testpmd with a
vhost port (rxonly); the same testpmd (virtio-user, txonly) sends to either. Rates are the back end's, ratios
are taken pair by pair. Not modelled: several queues; frames towards the guest.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import uvloop
from rich.console import Group, RenderableType

from launcher import figures
from launcher.peers import cpus_of, dpdk
from launcher.peers.hugepages import hugepages
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Machine, machine
from launcher.run import Run
from launcher.rundir import Holder, claim
from launcher.spread import Spread, ratios
from launcher.table import new_table
from launcher.topology import parse_topology, vmm_name
from launcher.watcher import Watcher
from testbed.errors import MachineError
from testbed.messages.entries import Plan

HOST: Final = "h0"
GUEST: Final = "dpdk"
SOCKET: Final = f"{GUEST}.sock"
FIGURES: Final = ("frames_per_second", "peer_frames_per_second", "ratio_to_peer")
"""What `--at-least` and `--at-most` can name."""
_NS_PER_SECOND: Final = 1e9


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure."""

    ring: Literal["split", "packed"] = "split"
    frame_bytes: int = 60
    seconds: float = 1.0
    """Of each measurement."""
    pairs: int = 3
    queue_size: int = 1024
    in_order: bool = False


class VhostUserResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    schema: int
    settings: Settings
    frames_per_second: Spread
    peer_frames_per_second: Spread
    ratio_to_peer: Spread
    load_average: float
    """Of the minute before the bench began."""
    machine: Machine

    def figures(self) -> dict[str, Spread]:
        """Return every figure by the name that a bound gives it."""
        return {name: getattr(self, name) for name in FIGURES}


def topology(settings: Settings) -> dict[str, Any]:
    """Return the topology file that is measured."""
    nic = {
        "kind": "virtio-net",
        "ring": settings.ring,
        "queue_size": settings.queue_size,
        "in_order": settings.in_order,
        "backend": "sink",
    }
    return {
        "name": f"bench-vhost-user-{os.getpid()}",
        "hosts": {HOST: {"cpus": cpus_of("sink")[:1]}},
        "guests": {GUEST: {"kind": "external", "host": HOST, "nics": [nic]}},
    }


def measure_vhost_user(settings: Settings, told: Callable[[str], None]) -> VhostUserResult:
    """Measure every pair; `told` is given a line about each.

    Raises ConfigError for settings that cannot be, MachineError where DPDK is missing, BenchFailed where our
    own run does not end well.
    """
    dpdk.check_installed()
    text = msgspec.json.encode(topology(settings)).decode()
    plan, load_average = plan_fitting(parse_topology(text, "bench vhost-user")), os.getloadavg()[0]
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(1, settings.pairs + 1):
        ours.append(uvloop.run(_ours(plan, settings)))
        theirs.append(dpdk.measure(_peer(settings), settings.seconds))
        rates = f"{figures.mega(ours[-1])} Mframe/s, dpdk {figures.mega(theirs[-1])}"
        told(f"pair {number} of {settings.pairs}: {rates}")
    return VhostUserResult(
        schema=1,
        settings=settings,
        frames_per_second=Spread.of(ours),
        peer_frames_per_second=Spread.of(theirs),
        ratio_to_peer=ratios(ours, theirs),
        load_average=round(load_average, 2),
        machine=machine(),
    )


def _peer(settings: Settings) -> dpdk.Peer:
    return dpdk.Peer(
        "sink",
        settings.ring,
        settings.in_order,
        settings.frame_bytes,
        settings.queue_size,
        cpus=cpus_of("sink"),
    )


async def _ours(plan: Plan, settings: Settings) -> float:
    """Bring the vmm up, have frames sent to it for a time, and return how many it took a second."""
    holder = Holder(plan.topology, os.getpid(), "bench", time.time())
    with claim(holder) as directory:
        run = Run(plan, directory, Watcher(), stay=True)
        execution = asyncio.ensure_future(run.execute())
        idle = asyncio.ensure_future(run.idle.wait())
        await asyncio.wait([execution, idle], return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        rate, failure = 0.0, None
        try:
            if run.idle.is_set():
                rate = await asyncio.to_thread(_rate, run, directory.path, settings)
        except MachineError as error:
            failure = error
        finally:
            run.stop("measured")
            result = await execution
    if result.exit_code or result.reports or not (failure or rate > 0):
        raise BenchFailed(result) from failure
    if failure:
        raise failure
    return rate


def _rate(run: Run, directory: Path, settings: Settings) -> float:
    def taken() -> tuple[int, int]:
        counters = run.supervisor.segments.read_counters(zeros=True)
        # none where the run was interrupted meanwhile: its result says so
        return counters.get(vmm_name(HOST), {}).get(f"{GUEST}.nic0.frames_in", 0), time.monotonic_ns()

    with hugepages(dpdk.HUGEPAGES) as huge:
        sender = dpdk.send_to(_peer(settings), directory / SOCKET, directory, huge)
        try:
            sender.work(dpdk.SETTLE_SECONDS)
            before, began_ns = taken()
            sender.work(settings.seconds)
            after, ended_ns = taken()
        finally:
            sender.close()
    return (after - before) * _NS_PER_SECOND / (ended_ns - began_ns)


def vhost_user_table(measured: VhostUserResult) -> RenderableType:
    """Return the figures as a table."""
    settings = measured.settings
    title = f"virtio-user into vhost-user, {settings.ring} ring, {settings.frame_bytes} bytes"
    table = new_table(title, [figures.plural(settings.pairs, "pair")], ["min", "median", "max"])
    rows: list[tuple[str, Spread, Callable[[float], str]]] = [
        ("Mframe/s", measured.frames_per_second, figures.mega),
        ("dpdk Mframe/s", measured.peer_frames_per_second, figures.mega),
        ("ratio to dpdk", measured.ratio_to_peer, lambda value: f"{value:,.4g}"),
    ]
    for name, spread, shown in rows:
        table.add_row(name, *(shown(value) for value in (spread.min, spread.median, spread.max)))
    return Group(table, f"[dim]load average before: {measured.load_average:g}[/]")
