"""The same paths with DPDK: virtio-user towards vhost in dpdk-testpmd, over sockets of our own.

Reference: DPDK 22.11, "Testpmd Application User Guide", "Vhost library", "Virtio_user". Sink: txonly into
rxonly. Echo: flowgen, which writes every frame and takes what returns, towards io, which sends each back;
with one frame in flight, one frame that both sides forward. Forward: txonly, a testpmd between two vhost
ports in io, rxonly. Each process has one forwarding core; all share the processors that this process may
use.
Not modelled: several forwarding cores in one process.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from launcher.peers import Shape
from launcher.peers.hugepages import hugepages
from launcher.peers.testpmd import PROGRAM, Stats, Testpmd
from launcher.rundir import Holder, claim
from testbed.errors import MachineError

HUGEPAGES: Final = 240
"""Of 2 MiB, for three processes."""
HUGE_OPTIONS: Final = ("--in-memory", "--single-file-segments")
NO_HUGE_OPTIONS: Final = ("--no-huge", "--no-shconf", "-m", "128")
SETTLE_SECONDS: Final = 0.3
_NS_PER_SECOND: Final = 1e9


@dataclass(frozen=True)
class Peer:
    """What to measure."""

    shape: Shape
    ring: Literal["split", "packed"]
    in_order: bool
    frame_bytes: int
    queue_size: int
    queues: int = 1
    in_flight: int = 0
    """1: one frame goes round and round; 0: as many as fit."""
    cpus: Sequence[int] = ()
    """A processor for each process, back end first; empty: all of them for each."""


def check_installed() -> None:
    """Raise MachineError where there is no testpmd."""
    if shutil.which(PROGRAM) is None:
        raise MachineError(
            f"the peer dpdk needs {PROGRAM}, which is not on this machine: install DPDK (Debian: "
            "apt-get install dpdk dpdk-dev)"
        )


def measure(peer: Peer, seconds: float) -> float:
    """Return frames a second that reach the last process.

    Raises MachineError where testpmd is missing or fails.
    """
    check_installed()
    holder = Holder(f"bench-dpdk-{os.getpid()}", os.getpid(), "bench", time.time())
    with claim(holder) as directory, hugepages(HUGEPAGES) as huge, contextlib.ExitStack() as stack:
        return _rate(_start(peer, directory.path, huge, stack), peer, seconds)


@dataclass(frozen=True)
class _Role:
    """One testpmd of a path."""

    name: str
    mode: str
    devices: tuple[str, ...]
    start: str = ""


def _roles(peer: Peer, directory: Path) -> list[_Role]:
    """Return the processes in the order in which they start: whoever makes the socket first."""
    sockets = [directory / "0.sock", directory / "1.sock"]
    vhost = [f"net_vhost{i},iface={path},queues={peer.queues}" for i, path in enumerate(sockets)]
    users = [_virtio_user(peer, path) for path in sockets]
    if peer.shape == "sink":
        return [_Role("vhost", "rxonly", (vhost[0],)), _Role("sender", "txonly", (users[0],))]
    if peer.shape == "forward":
        back_end = _Role("vhost", "io", tuple(vhost))
        return [back_end, _Role("sender", "txonly", (users[0],)), _Role("receiver", "rxonly", (users[1],))]
    guest = _Role("guest", "flowgen", (users[0],))
    if peer.in_flight == 1:
        guest = _Role("guest", "io", (users[0],), "tx_first 1")
    return [_Role("vhost", "io", (vhost[0],)), guest]


def _virtio_user(peer: Peer, path: Path) -> str:
    numbers = f"queues={peer.queues},queue_size={peer.queue_size}"
    formats = f"packed_vq={int(peer.ring == 'packed')},in_order={int(peer.in_order)},mrg_rxbuf=1"
    return f"net_virtio_user0,path={path},{numbers},{formats}"


def _start(
    peer: Peer, directory: Path, huge: bool, stack: contextlib.ExitStack
) -> list[tuple[_Role, Testpmd]]:
    memory = HUGE_OPTIONS if huge else NO_HUGE_OPTIONS
    started = []
    for index, role in enumerate(_roles(peer, directory)):
        eal = (*memory, f"--lcores={_lcores(peer.cpus[index : index + 1])}")
        testpmd = Testpmd(role.name, directory, eal, role.devices, _options(peer, role))
        stack.callback(testpmd.close)
        testpmd.ready()
        started.append((role, testpmd))
    return started


def send_to(peer: Peer, socket: Path, directory: Path, huge: bool) -> Testpmd:
    """Start a virtio-user that sends (txonly) to whoever has the back end at a socket; close it afterwards.

    Raises MachineError where testpmd fails.
    """
    role = _Role("sender", "txonly", (_virtio_user(peer, socket),))
    eal = (*(HUGE_OPTIONS if huge else NO_HUGE_OPTIONS), f"--lcores={_lcores(peer.cpus[1:2])}")
    sender = Testpmd(role.name, directory, eal, role.devices, _options(peer, role))
    try:
        sender.ready()
        sender.start()
    except BaseException:
        sender.close()
        raise
    return sender


def _lcores(cpus: Sequence[int]) -> str:
    """A core for the prompt and one for the frames, each on these processors, or on any."""
    where = ",".join(map(str, cpus or sorted(os.sched_getaffinity(0))))
    return f"0@({where}),1@({where})"


def _options(peer: Peer, role: _Role) -> Sequence[str]:
    options = [f"--forward-mode={role.mode}", f"--txpkts={peer.frame_bytes}"]
    options += [f"--rxq={peer.queues}", f"--txq={peer.queues}"]
    return [*options, "--burst=1"] if peer.in_flight == 1 else options


def _rate(processes: Sequence[tuple[_Role, Testpmd]], peer: Peer, seconds: float) -> float:
    for role, testpmd in reversed(processes):
        if role.mode != "txonly":
            testpmd.start(role.start)
    for role, testpmd in processes:
        if role.mode == "txonly":
            testpmd.start()
    counted = next(t for role, t in processes if role.mode == "rxonly" or role.name == "guest")
    counted.work(SETTLE_SECONDS)
    before = counted.stats()
    counted.work(seconds)
    rate = _between(before, counted.stats())
    if not rate:
        raise MachineError(f"{PROGRAM}: no frame passed ({peer})")
    return rate


def _between(before: Stats, after: Stats) -> float:
    return (after.received - before.received) * _NS_PER_SECOND / (after.at_ns - before.at_ns)
