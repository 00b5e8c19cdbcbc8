"""The programs that run in network namespaces: found in /proc, ended with the topology.

Reference: proc(5), /proc/PID/ns. Not modelled: a thread that is elsewhere than its process.
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

OWN_NAMESPACE: Final = "/proc/thread-self/ns/net"


def inhabitants(inodes: Iterable[int]) -> list[int]:
    """Return the processes in these namespaces; our own namespace is never meant."""
    wanted = set(inodes) - {_inode(Path(OWN_NAMESPACE))}
    if not wanted:
        return []
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _inode(path / "ns/net") in wanted]


def signal_all(inodes: Iterable[int], number: signal.Signals) -> bool:
    """Send a signal to every process in these namespaces; say whether there are any."""
    pids = inhabitants(inodes)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(pids)


def _inode(path: Path) -> int:
    """0 where the process is gone, or is not ours to look at."""
    try:
        return path.stat().st_ino
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
