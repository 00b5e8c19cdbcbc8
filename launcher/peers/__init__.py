"""What the testbed is measured against, each with processes of its own: DPDK, a bare ring, bare wake-ups."""

import os
from typing import Literal

Shape = Literal["sink", "echo", "forward"]
"""The path of a frame: to the back end (two processes), there and back (two), to another guest (three)."""


def cpus_of(shape: Shape) -> list[int]:
    """Return a processor for each process of a path, its back end first, then the guests from the sender on.

    The back end has one for itself; guests share the others.
    """
    cpus = sorted(os.sched_getaffinity(0))
    guests = cpus[1:] or cpus
    return [cpus[0], guests[0], guests[1 % len(guests)]][: 3 if shape == "forward" else 2]
