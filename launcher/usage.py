"""What a process uses, as the kernel counts it.

Reference: proc(5): /proc/PID/stat, smaps_rollup and smaps. Proportional set size (PSS): a page that n
processes map counts as one n-th for each. Not modelled: swap, page tables, kernel memory.
"""

import os
import re
from pathlib import Path
from typing import Final

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_BYTES_PER_KB: Final = 1024
_UTIME_FIELD: Final = 11
"""Index of utime, then stime, among the fields after the command's name."""
_MAPPING: Final = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ (?P<inode>\d+)")


def _read(pid: int, name: str) -> str | None:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that a process has used; None when it is gone."""
    stat = _read(pid, "stat")
    if not stat:
        return None
    fields = stat.rpartition(")")[2].split()
    return (int(fields[_UTIME_FIELD]) + int(fields[_UTIME_FIELD + 1])) / _TICKS_PER_SECOND


def pss_bytes(pid: int) -> int | None:
    """Return a process's proportional set size; None when it is gone."""
    for line in (_read(pid, "smaps_rollup") or "").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * _BYTES_PER_KB
    return None


def pss_bytes_without(pid: int, inode: int) -> int | None:
    """Return a process's proportional set size without the mappings of one file (a guest without its RAM)."""
    smaps = _read(pid, "smaps")
    if not smaps:
        return None
    total, counted = 0, True
    for line in smaps.splitlines():
        if match := _MAPPING.match(line):
            counted = int(match["inode"]) != inode
        elif counted and line.startswith("Pss:"):
            total += int(line.split()[1]) * _BYTES_PER_KB
    return total
