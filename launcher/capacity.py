"""Does a plan fit this machine? Asked before anything is started.

Guest RAM is committed only when it is touched, but a guest may touch all of it, so all of it is counted.
What a process itself takes was measured on Linux with CPython 3.11: about 2 MiB proportional set size after
the fork, 4 MiB with rings, sockets and buffers in use. Not modelled: huge pages, swap (it is not counted as
memory), and other users who take what was free a moment ago.
"""

import contextlib
import os
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from launcher.units import MIB, format_size
from testbed.errors import ConfigError
from testbed.messages.entries import GuestEntry, Plan, ProcessPlan

PROCESS_BYTES: Final = 4 * MIB
TASKS_PER_PROCESS: Final = 3
"""Its main thread and the two of a ZeroMQ context."""
VMM_DESCRIPTORS_PER_GUEST: Final = 6
VMM_DESCRIPTORS: Final = 64
"""Of the interpreter, the event loop, logs and its own sockets."""
SOCKET_PATH_BYTES_MAX: Final = 107
"""sun_path of unix(7), its closing zero apart."""
SOCKET_SUFFIX_BYTES: Final = 16
"""Room for what a socket's file name has besides the process name."""
SHM_DIRECTORY: Final = Path("/dev/shm")  # noqa: S108
_CGROUP: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What a machine has left. None: nothing that we know of limits it."""

    memory_available_bytes: int
    shm_free_bytes: int
    descriptors_max: int
    tasks_free: int | None
    cpus: frozenset[int]

    @classmethod
    def measure(cls) -> "Machine":
        """Return what this machine has left now, container limits included."""
        shm = os.statvfs(SHM_DIRECTORY) if SHM_DIRECTORY.is_dir() else None
        return cls(
            memory_available_bytes=_memory_available(),
            shm_free_bytes=shm.f_bavail * shm.f_frsize if shm else 0,
            descriptors_max=_limit(resource.RLIMIT_NOFILE),
            tasks_free=_tasks_free(),
            cpus=frozenset(os.sched_getaffinity(0)),
        )


@dataclass(frozen=True)
class Need:
    """What a plan takes of a machine."""

    segment_bytes: int
    processes: int
    guests: int
    vmm_descriptors: int
    """Of the vmm that has the most guests."""
    cpus: Mapping[int, str]
    """With the first process that is to run there."""

    @property
    def memory_bytes(self) -> int:
        """Segments and processes."""
        return self.segment_bytes + self.processes * PROCESS_BYTES

    @property
    def tasks(self) -> int:
        """Processes and their threads."""
        return self.processes * TASKS_PER_PROCESS

    @classmethod
    def of(cls, plan: Plan) -> "Need":
        """Return what a plan takes."""
        vmms = [process for process in plan.processes if process.role == "vmm"]
        guests = [len(process.segments) // 3 for process in vmms]
        return cls(
            segment_bytes=sum(segment.size_bytes for segment in plan.segments),
            processes=len(plan.processes),
            guests=sum(isinstance(process.entry, GuestEntry) for process in plan.processes),
            vmm_descriptors=VMM_DESCRIPTORS + VMM_DESCRIPTORS_PER_GUEST * max(guests, default=0),
            cpus={cpu: process.name for process in reversed(plan.processes) for cpu in process.entry.cpus},
        )


def check_capacity(plan: Plan, machine: Machine, run_directory: Path) -> None:
    """Raise ConfigError where a plan does not fit a machine.

    One line has everything that is short: what is needed and what there is. `run_directory` is where sockets
    will be; one more line is for a path that is too long, one for CPUs that there are not.
    """
    need = Need.of(plan)
    short = list(_shortages(need, machine))
    problems = list(_unknown_cpus(need, machine)) + list(_long_paths(plan.processes, run_directory))
    if short:
        vmms = sum(process.role == "vmm" for process in plan.processes)
        what = f"{need.guests} guests and {vmms} vmm{'s' if vmms > 1 else ''}"
        advice = "use fewer guests or less memory each"
        subject = f"topology {plan.topology}: {what} do not fit this machine"
        problems.insert(0, f"{subject}: they need {', '.join(short)}; {advice}")
    if problems:
        raise ConfigError(*problems)


def _shortages(need: Need, machine: Machine) -> Iterable[str]:
    memory, shm = machine.memory_available_bytes, machine.shm_free_bytes
    if need.memory_bytes > memory:
        yield f"{format_size(need.memory_bytes)} of memory where {format_size(memory)} is available"
    if need.segment_bytes > shm:
        wanted = format_size(need.segment_bytes)
        yield f"{wanted} of shared memory where {SHM_DIRECTORY} has {format_size(shm)} free"
    if need.vmm_descriptors > machine.descriptors_max:
        most = machine.descriptors_max
        yield f"{need.vmm_descriptors} open files in one vmm where ulimit -Hn allows {most}"
    if machine.tasks_free is not None and need.tasks > machine.tasks_free:
        yield f"{need.tasks} processes and threads where {machine.tasks_free} more are allowed"


def _unknown_cpus(need: Need, machine: Machine) -> Iterable[str]:
    if missing := sorted(need.cpus.keys() - machine.cpus):
        there, absent = (", ".join(map(str, cpus)) for cpus in (sorted(machine.cpus), missing))
        whose = ", ".join(dict.fromkeys(need.cpus[cpu] for cpu in missing))
        yield f"cpus of {whose}: must be among those that may be used here ({there}), not {absent}"


def _long_paths(processes: Iterable[ProcessPlan], run_directory: Path) -> Iterable[str]:
    longest = max((process.name for process in processes), key=len, default="")
    size = len(os.fsencode(run_directory)) + 1 + len(longest) + SOCKET_SUFFIX_BYTES
    if size > SOCKET_PATH_BYTES_MAX:
        yield (
            f"run directory {run_directory}: the path of a socket must have at most "
            f"{SOCKET_PATH_BYTES_MAX} bytes, not {size}: choose a shorter directory"
        )


def _memory_available() -> int:
    available = psutil.virtual_memory().available
    limit, used = _cgroup_number("memory.max"), _cgroup_number("memory.current")
    return int(available if limit is None else min(available, max(0, limit - (used or 0))))


def _tasks_free() -> int | None:
    limit, used = _cgroup_number("pids.max"), _cgroup_number("pids.current")
    limits = [] if limit is None else [max(0, limit - (used or 0))]
    if (
        os.geteuid() != 0
        and (of_user := resource.getrlimit(resource.RLIMIT_NPROC)[1]) != resource.RLIM_INFINITY
    ):
        limits.append(of_user)
    with contextlib.suppress(OSError, ValueError):
        limits.append(int(Path("/proc/sys/kernel/pid_max").read_text()))
    return min(limits, default=None)


def _limit(kind: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return (1 << 62) if hard == resource.RLIM_INFINITY else hard


def _cgroup_number(name: str) -> int | None:
    """A limit of the control group that a container sees as its root; None where there is none."""
    try:
        return int((_CGROUP / name).read_text())
    except (OSError, ValueError):
        return None
