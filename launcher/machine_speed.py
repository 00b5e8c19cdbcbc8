"""How fast this machine is at the moment: a fixed piece of native work, timed on every processor in turn.

A virtual machine's processors, and the caches that they share with others of the host, become slower by half
and faster again within seconds; figures that were measured at different times are set against each other at
the machine's speed of those times. The work is that of frames, copies and checksums: a copy of as much as
the rings of one way hold, which is more than a processor's own caches, and a CRC-32 (zlib) of what stays in
them, half of the time each. What others do to the caches slows the one, what they do to a processor both.
Not modelled: processors at work together, and what passes between them.
"""

import os
import statistics
import time
import zlib
from collections.abc import Sequence
from typing import Final

_BYTES: Final = 2 << 20
"""1024 buffers of 2 KiB: those of one side; the copy is the other's."""
_FROM: Final = memoryview(bytes(range(256)) * (_BYTES // 256))
_TO: Final = memoryview(bytearray(_BYTES))
_CHECKED: Final = _FROM[: 16 << 10]
_TIMES: Final = 2
_CHECKS: Final = 20
"""Of each copy's time as much again."""
_NS_PER_SECOND: Final = 1e9


def machine_speed(cpus: Sequence[int]) -> float:
    """Return bytes copied a second by one processor: the median of these, half a millisecond each."""
    allowed = os.sched_getaffinity(0)
    try:
        return statistics.median(_speed_of(cpu) for cpu in cpus)
    finally:
        os.sched_setaffinity(0, allowed)


def _speed_of(cpu: int) -> float:
    os.sched_setaffinity(0, (cpu,))
    _TO[:] = _FROM  # once unmeasured: what was there before is no concern of ours
    begun_ns = time.perf_counter_ns()
    for _ in range(_TIMES):
        _TO[:] = _FROM
        for _ in range(_CHECKS):
            zlib.crc32(_CHECKED)
    return _TIMES * _BYTES * _NS_PER_SECOND / (time.perf_counter_ns() - begun_ns)
