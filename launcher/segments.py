"""Shared memory of a topology: segments without a name, handed out as descriptors.

A segment is made with posix_ipc under a random name that is unlinked before anything else can fail; from then
on only its descriptors lead to it, and it is gone with the last of them. A second, read-only descriptor
serves those who may only look. The launcher maps counter pages and trace rings, read-only but for the page
by which tracing is turned on, and nothing else.

Reference: shm_open(3), design: processes, and what each can touch. Not modelled: huge pages, NUMA placement.
"""

import errno
import mmap
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import posix_ipc

from launcher.own_segments import COUNTERS_SUFFIX, TRACE_SUFFIX
from launcher.trace_rings import TraceRing, TraceRings
from testbed.errors import MachineError
from testbed.messages.entries import Plan, ProcessPlan, SegmentEntry, VmmEntry

NAME_PREFIX: Final = "virtbed-"
_SHARED_MEMORY_DIRECTORY: Final = Path("/dev/shm")  # noqa: S108 where shm_open(3) puts them
_LEFT_NAME: Final = re.compile(rf"{NAME_PREFIX}(\d+)-[0-9a-f]{{16}}")


class Segment:
    """One segment: a descriptor to use it, one to look at it, closed when nobody of ours needs them."""

    def __init__(self, entry: SegmentEntry, writable: int, read_only: int | None) -> None:
        self.entry = entry
        self._writable: int | None = writable
        self._read_only = read_only

    def descriptor(self, *, writable: bool) -> int:
        """Return the descriptor with just that right."""
        descriptor = self._writable if writable else self._read_only
        assert descriptor is not None, f"segment {self.entry.name} has no such descriptor"
        return descriptor

    def close(self) -> None:
        """Close both descriptors; memory lives on where it is mapped."""
        for descriptor in (self._writable, self._read_only):
            if descriptor is not None:
                os.close(descriptor)
        self._writable = self._read_only = None


def _failed(entry: SegmentEntry, error: OSError) -> MachineError:
    advice = {
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.ENFILE: "the system has no open files left (sysctl fs.file-max)",
        errno.ENOSPC: "make /dev/shm larger or the guests smaller",
    }.get(error.errno or 0, "see shm_open(3)")
    return MachineError(
        f"segment {entry.name} of {entry.size_bytes} bytes cannot be made: {error.strerror}; {advice}"
    )


def create(entry: SegmentEntry, *, read_only: bool) -> Segment:
    """Make a segment that has no name; with a second descriptor to look at it where `read_only`.

    Raises MachineError with what to do when the system refuses.
    """
    name = f"/{NAME_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
    try:
        segment = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, size=entry.size_bytes, mode=0o600)
    except OSError as error:
        raise _failed(entry, error) from error
    try:
        look = posix_ipc.SharedMemory(name, read_only=True).fd if read_only else None
    except OSError as error:
        os.close(segment.fd)
        raise _failed(entry, error) from error
    finally:
        posix_ipc.unlink_shared_memory(name)
    return Segment(entry, segment.fd, look)


class Segments:
    """Every segment of a plan, from making them to closing them once all their users have been spawned."""

    def __init__(self, plan: Plan) -> None:
        """Take note of who uses what; nothing is made before `create`."""
        self._plan = plan
        self._users = Counter(use.name for process in plan.processes for use in process.segments)
        self._segments: dict[str, Segment] = {}
        self._pages: dict[str, CounterPage] = {}
        self._inodes: dict[str, int] = {}
        self._rings: dict[str, TraceRing] = {}
        self.trace = TraceRings(self._rings)
        """The trace rings of the processes that have one."""

    def create(self) -> None:
        """Make every segment, map counters and trace rings; on an error the caller closes what was made.

        Raises MachineError with what to do when the system refuses.
        """
        uses = (use for process in self._plan.processes for use in process.segments)
        looked_at = {use.name for use in uses if not use.writable}
        looked_at |= {counters_name(process) for process in self._plan.processes}
        for entry in self._plan.segments:
            segment = create(entry, read_only=entry.name in looked_at)
            self._segments[entry.name] = segment
            self._inodes[entry.name] = os.fstat(segment.descriptor(writable=True)).st_ino
        for process in self._plan.processes:
            segment = self._segments[counters_name(process)]
            self._pages[process.name] = CounterPage(process.counter_names, segment)
            if ring := self._segments.get(f"{process.name}{TRACE_SUFFIX}"):
                descriptor = ring.descriptor(writable=True)
                self._rings[process.name] = TraceRing(process.name, descriptor, ring.entry.size_bytes)

    def inode(self, segment: str) -> int:
        """Return the inode by which /proc shows the mappings of a segment."""
        return self._inodes[segment]

    def descriptors(self, process: ProcessPlan) -> tuple[int, ...]:
        """Return a process's descriptors in the order of its segments, each with the rights it has there."""
        return tuple(self._segments[use.name].descriptor(writable=use.writable) for use in process.segments)

    def spawned(self, process: ProcessPlan) -> None:
        """Close the segments of which this process was the last user to be given them."""
        for use in process.segments:
            self._users[use.name] -= not restarts(process)
            if self._users[use.name] == 0:
                self._segments.pop(use.name).close()

    def read_counters(self, *, zeros: bool = False) -> dict[str, dict[str, int]]:
        """Return every process's counters by name, those at zero only when asked for."""
        return {
            process: {name: value for name, value in page.read().items() if value or zeros}
            for process, page in self._pages.items()
        }

    @property
    def guests(self) -> tuple[str, ...]:
        """The names of the guests that have counters."""
        return tuple(process.name for process in self._plan.processes if process.role == "guest")

    def counters_of(self, process: str) -> dict[str, int]:
        """Return the counters of one process by name."""
        return self._pages[process].read()

    def close(self) -> None:
        """Close what is still open and unmap counters and trace rings."""
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        for page in self._pages.values():
            page.close()
        self._pages.clear()
        self.trace.close()
        self._rings.clear()


class CounterPage:
    """A process's counters as the launcher sees them: read-only."""

    def __init__(self, names: Iterable[str], segment: Segment) -> None:
        self.names = tuple(names)
        self._map = mmap.mmap(
            segment.descriptor(writable=False), segment.entry.size_bytes, prot=mmap.PROT_READ
        )
        self._words = memoryview(self._map).cast("Q")

    def read(self) -> dict[str, int]:
        """Return every counter by name."""
        return dict(zip(self.names, self._words[: len(self.names)].tolist(), strict=True))

    def close(self) -> None:
        """Unmap the page."""
        self._words.release()
        self._map.close()


def restarts(process: ProcessPlan) -> bool:
    """Say whether a process is started again when it dies."""
    return isinstance(process.entry, VmmEntry) and process.entry.restarts


def counters_name(process: ProcessPlan) -> str:
    """Return the name of a process's counter segment."""
    return f"{process.name}{COUNTERS_SUFFIX}"


def clean() -> list[Path]:
    """Remove segments that a launcher left when it was killed between making and unlinking one.

    Return their paths.
    """
    removed = []
    for path in _SHARED_MEMORY_DIRECTORY.glob(f"{NAME_PREFIX}*"):
        match = _LEFT_NAME.fullmatch(path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed
