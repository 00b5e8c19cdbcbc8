"""A process of the topology as the supervisor knows it, and how its end is told.

Reference: wait(2) for how a process ends. Not modelled: threads.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from launcher.result import Died
from testbed.messages.entries import ProcessPlan

State = Literal["waiting", "starting", "ready", "gone"]
FORK_SERVER: Final = "forkserver"
VMM: Final = "vmm"
GUEST: Final = "guest"
IOMMU: Final = "iommu"
NIC: Final = "nic"
_LOG_LINES: Final = 20
_LOG_BYTES: Final = 8192
_REAP_SECONDS: Final = 1.0


@dataclass
class Process:
    """One process, from before its start to after its end."""

    plan: ProcessPlan
    state: State = "waiting"
    pid: int = 0
    spawned_ns: int = 0
    ready_ns: int = 0
    cpu_seconds: float | None = None
    """Known exactly when it is gone."""
    pss_bytes: int | None = None
    reason: str = ""
    """What it said before it ended, or why we ended it."""
    ended_by_us: bool = False

    @property
    def name(self) -> str:
        """Its name in the topology."""
        return self.plan.name

    @property
    def alive(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.state in ("starting", "ready")

    def died(self, code: int, ended_by: int, log: tuple[str, ...]) -> Died:
        """Return the record of its end: its exit code, or the number of the signal that ended it."""
        return died(self.name, self.plan.role, self.pid, code, ended_by, self.reason, log)


def died(
    name: str, role: str, pid: int, code: int, ended_by: int, reason: str = "", log: tuple[str, ...] = ()
) -> Died:
    """Return the record of an end that should not have been.

    By exit code, or by signal where `ended_by` is not 0.
    """
    if not ended_by:
        return Died(name=name, role=role, pid=pid, code=code, reason=reason, log=log)
    return Died(name=name, role=role, pid=pid, signal=signal_name(ended_by), reason=reason, log=log)


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9; real-time signals have numbers only."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_lines(path: Path) -> tuple[str, ...]:
    """Return the last lines of a log; none when there is no log."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(text.splitlines()[-_LOG_LINES:])


def reap_orphans(pids: Iterable[int]) -> None:
    """Wait for processes that became our children when the fork server was killed.

    They are ending already.
    """
    deadline = time.monotonic() + _REAP_SECONDS
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            descriptor = os.pidfd_open(pid)
            ended, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            os.close(descriptor)
            if ended:
                os.waitpid(pid, 0)
