"""How fast this machine is at the moment: a fixed piece of native work, timed on every processor in turn.

A virtual machine's processors become slower by half and faster again within seconds, with what others do on
the host; figures that were measured at different times are set against each other at the machine's speed of
those times. The work is a CRC-32 (zlib), whose buffer stays in the first caches. Not modelled: memory, and
caches that processors share.
"""

import os
import statistics
import time
import zlib
from collections.abc import Sequence
from typing import Final

_BUFFER: Final = bytes(range(256)) * 64
_TIMES: Final = 64
_NS_PER_SECOND: Final = 1e9


def machine_speed(cpus: Sequence[int]) -> float:
    """Return bytes a second of one processor: the median of these, a third of a millisecond each."""
    allowed = os.sched_getaffinity(0)
    try:
        return statistics.median(_speed_of(cpu) for cpu in cpus)
    finally:
        os.sched_setaffinity(0, allowed)


def _speed_of(cpu: int) -> float:
    os.sched_setaffinity(0, (cpu,))
    begun_ns = time.perf_counter_ns()
    for _ in range(_TIMES):
        zlib.crc32(_BUFFER)
    return _TIMES * len(_BUFFER) * _NS_PER_SECOND / (time.perf_counter_ns() - begun_ns)
