"""What a run may not leave behind: processes, shared memory, files.

Every process of a run has `VIRTBED_RUN_DIR` in its environment, so those of one test are told from all
others.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from launcher.rundir import PARENT_VARIABLE
from launcher.segments import NAME_PREFIX

GONE_SECONDS: Final = 2.0
_SHARED_MEMORY: Final = Path("/dev/shm")


def processes_of(parent: Path) -> list[psutil.Process]:
    """Return the processes, this one apart, whose run directories are in `parent`; zombies of ours too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = {} if process.pid == os.getpid() else process.environ()
            if environment.get(PARENT_VARIABLE) == str(parent):
                found.append(process)
    zombies = [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
    return found + zombies


def _segments_of(pids: set[int]) -> list[str]:
    names = [path.name for path in _SHARED_MEMORY.glob(f"{NAME_PREFIX}*")]
    return [name for name in names if int(name.removeprefix(NAME_PREFIX).partition("-")[0]) in pids]


def _told(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.status()} {process.cmdline()}"
    except psutil.Error as error:
        return f"{process.pid} {error}"


def _is_inits(process: psutil.Process) -> bool:
    """Whether a process has ended and only init, in its own time, has still to take note of it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.ppid() != os.getpid()
    except psutil.NoSuchProcess:
        return True


def assert_nothing_left(parent: Path) -> None:
    """Fail when two seconds after a run's end anything of it is there."""
    started = processes_of(parent)
    _gone, alive = psutil.wait_procs(started, timeout=GONE_SECONDS)
    left = [_told(process) for process in alive if not _is_inits(process)]
    if left:
        pytest.fail(f"left in the process table: {left}")
    assert _segments_of({os.getpid(), *(process.pid for process in started)}) == []
    assert list(parent.iterdir()) == []


@pytest.fixture
def run_parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A parent for run directories (its path short enough for sockets); proves that nothing is left."""
    parent = Path(tempfile.mkdtemp(prefix="vb-"))
    monkeypatch.setenv(PARENT_VARIABLE, str(parent))
    try:
        yield parent
        assert_nothing_left(parent)
    finally:
        for process in processes_of(parent):
            process.kill()
        shutil.rmtree(parent, ignore_errors=True)
