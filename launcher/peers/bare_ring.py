"""A bare split ring between processes of its own: the frames a second that shared memory allows on this
machine.

Reference: testbed/native/bare_ring.h. Run as a program (`python -m launcher.peers.bare_ring`) this is one
of the processes. Not modelled: packed rings; the bare ring is the same limit for both formats.
"""

import argparse
import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from launcher import prctl
from launcher.peers import Shape
from launcher.peers.crew import crew
from testbed.native import BareRing, Pinned

ROLES: Final[Mapping[Shape, Sequence[int]]] = {
    "sink": (BareRing.SINK, BareRing.SEND),
    "echo": (BareRing.FORWARD, BareRing.SEND | BareRing.RECEIVE),
    "forward": (BareRing.FORWARD, BareRing.SEND, BareRing.RECEIVE),
}
"""What each process does, by the shape of the path; the back end first."""
ANY_CPU: Final = -1
SETTLE_SECONDS: Final = 0.05
_COUNT_MODULUS: Final = 1 << 64


@dataclass(frozen=True)
class Ring:
    """What every process of a bare ring is told."""

    queue_size: int
    frame_bytes: int
    in_flight: int = 0
    """How many frames the sender keeps on their way, 0: as many as fit."""


def measure(shape: Shape, told: Ring, seconds: float, cpus: Sequence[int] = ()) -> float:
    """Return frames a second that reach the last process; `cpus` has one for each, back end first, or none.

    Raises MachineError when no frame arrives.
    """
    size_bytes = BareRing.bytes_needed(told.queue_size, told.frame_bytes)
    descriptor = os.memfd_create("virtbed-bare-ring", 0)
    try:
        os.ftruncate(descriptor, size_bytes)
        ring = BareRing(Pinned(mmap.mmap(descriptor, size_bytes)), told.queue_size, told.frame_bytes)
        ring.prepare()
        places = zip_longest(ROLES[shape], cpus, fillvalue=ANY_CPU)
        commands = [_command(descriptor, told, roles, cpu) for roles, cpu in places]
        with crew("the bare ring", commands, descriptor, ring.stop) as ours:
            ours.until_first(lambda: ring.frames, "frame")
            ours.pause(SETTLE_SECONDS)
            return ours.rate(lambda: ring.frames, seconds, _COUNT_MODULUS)
    finally:
        os.close(descriptor)


def _command(descriptor: int, told: Ring, roles: int, cpu: int) -> Sequence[str]:
    numbers = (descriptor, os.getpid(), told.queue_size, told.frame_bytes, told.in_flight, roles, cpu)
    return [sys.executable, "-P", "-m", "launcher.peers.bare_ring", *map(str, numbers)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Be one process of a bare ring until its maker says stop or ends."""
    parser = argparse.ArgumentParser()
    for name in ("descriptor", "parent", "queue_size", "frame_bytes", "in_flight", "roles", "cpu"):
        parser.add_argument(name, type=int)
    told = parser.parse_args(arguments)
    prctl.die_with_parent(told.parent)
    prctl.set_name("bare-ring")
    if told.cpu != ANY_CPU:
        os.sched_setaffinity(0, [told.cpu])
    size_bytes = BareRing.bytes_needed(told.queue_size, told.frame_bytes)
    shared = Pinned(mmap.mmap(told.descriptor, size_bytes))
    BareRing(shared, told.queue_size, told.frame_bytes).run(told.roles, told.in_flight)


if __name__ == "__main__":
    main()
