"""A bare split ring between processes of its own: the frames a second that shared memory allows on this
machine.

Reference: testbed/native/bare_ring.h. Run as a program (`python -m launcher.peers.bare_ring`) this is one
of the processes. Not modelled: packed rings; the bare ring is the same limit for both formats.
"""

import argparse
import contextlib
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from launcher import prctl
from launcher.forkclient import environment
from launcher.peers import Shape
from testbed.errors import MachineError
from testbed.native import BareRing, Pinned

ROLES: Final[Mapping[Shape, Sequence[int]]] = {
    "sink": (BareRing.SINK, BareRing.SEND),
    "echo": (BareRing.FORWARD, BareRing.SEND | BareRing.RECEIVE),
    "forward": (BareRing.FORWARD, BareRing.SEND, BareRing.RECEIVE),
}
"""What each process does, by the shape of the path; the back end first."""
ANY_CPU: Final = -1
FIRST_FRAME_SECONDS: Final = 10.0
SETTLE_SECONDS: Final = 0.05
_LOOK_SECONDS: Final = 0.001
_NS_PER_SECOND: Final = 1e9


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
        with _processes(descriptor, ring, told, zip_longest(ROLES[shape], cpus, fillvalue=ANY_CPU)):
            _until_first_frame(ring)
            return _rate(ring, seconds)
    finally:
        os.close(descriptor)


def _until_first_frame(ring: BareRing) -> None:
    deadline = time.monotonic() + FIRST_FRAME_SECONDS
    while not ring.frames:
        if time.monotonic() > deadline:
            raise MachineError(f"no frame passed the bare ring within {FIRST_FRAME_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)
    time.sleep(SETTLE_SECONDS)


def _rate(ring: BareRing, seconds: float) -> float:
    begun_ns, before = time.monotonic_ns(), ring.frames
    time.sleep(seconds)
    frames, elapsed_ns = ring.frames - before, time.monotonic_ns() - begun_ns
    return frames * _NS_PER_SECOND / elapsed_ns


@contextlib.contextmanager
def _processes(
    descriptor: int, ring: BareRing, told: Ring, places: Iterable[tuple[int, int]]
) -> Iterator[None]:
    numbers = (descriptor, os.getpid(), told.queue_size, told.frame_bytes, told.in_flight)
    command = [sys.executable, "-P", "-m", "launcher.peers.bare_ring", *map(str, numbers)]
    started = [
        subprocess.Popen([*command, str(roles), str(cpu)], pass_fds=(descriptor,), env=environment())
        for roles, cpu in places
    ]
    try:
        yield
    finally:
        ring.stop()
        for process in started:
            process.wait()


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
