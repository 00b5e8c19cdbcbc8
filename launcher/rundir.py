"""The run directory of a topology: its sockets, its logs, and the lock that says whether it runs.

`$XDG_RUNTIME_DIR/virtbed/NAME`, or `/tmp/virtbed-UID/NAME` where no such directory is; `VIRTBED_RUN_DIR`
names another parent. Mode 0700, because whoever can open the sockets commands the topology. The lock is a
flock(2) held by the launcher and inherited by its fork server: it is free when both are gone, so a directory
whose lock is free is what a dead run left behind.

Not modelled: a parent on a network file system.
"""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final, Literal, Self

import msgspec

from testbed.errors import ConfigError, MachineError
from testbed.messages.patience import awaited

PARENT_VARIABLE: Final = "VIRTBED_RUN_DIR"
LOCK_NAME: Final = "lock"
ENDING_SECONDS: Final = 2.0
"""How long a run whose launcher is gone may take to leave the directory."""
_PRIVATE_MODE: Final = 0o700


class Holder(msgspec.Struct, frozen=True):
    """Who holds a run directory, as its lock file says."""

    name: str
    pid: int
    mode: Literal["run", "up", "bench"] = "run"
    started: float = 0.0
    """Seconds since the epoch."""
    file: str = ""


class RunDirectory:
    """A run directory that this process holds."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock
        """Descriptor of the lock, to be inherited by the fork server."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Remove the directory, unless it is gone and somebody else's by now, and let the lock go."""
        if self.lock < 0:
            return
        if _is_lock_of(self.path, self.lock):
            remove(self.path)
        os.close(self.lock)
        self.lock = -1


def parent_path() -> Path:
    """Return the directory in which run directories are made, whether it exists or not."""
    if chosen := os.environ.get(PARENT_VARIABLE):
        return Path(chosen)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "virtbed"
    return Path(f"/tmp/virtbed-{os.geteuid()}")  # noqa: S108 its owner and mode are checked


def path_of(name: str) -> Path:
    """Return the run directory of the topology called `name`."""
    return parent_path() / name


def _checked_parent() -> Path:
    parent = parent_path()
    try:
        parent.mkdir(mode=_PRIVATE_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"{parent} cannot be the directory of run directories: {error.strerror}; name another one in "
            f"{PARENT_VARIABLE}"
        ) from None
    status = parent.lstat()
    mode = stat.S_IMODE(status.st_mode)
    owned = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not owned or mode & 0o077:
        what = f"is mode {mode:#o}" if owned else f"belongs to user {status.st_uid}"
        raise MachineError(
            f"run directories must be in a directory of your own with mode 0700, {parent} {what}: "
            f"chmod 700 it or name another one in {PARENT_VARIABLE}"
        )
    return parent


def _read_holder(path: Path) -> Holder | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((path / LOCK_NAME).read_bytes(), type=Holder)
    return None


def _is_lock_of(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), (path / LOCK_NAME).stat())
    except FileNotFoundError:
        return False


def _try_lock(path: Path) -> int | None:
    """Return the locked lock file of a directory that is still in place.

    None when somebody holds it or removes it.
    """
    try:
        lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    if _is_lock_of(path, lock):
        return lock
    os.close(lock)
    return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def claim(holder: Holder) -> RunDirectory:
    """Make the topology's run directory and hold it; what a dead run left there is removed.

    Raises ConfigError when the topology is already running, MachineError when the parent directory is not
    safe.
    """
    path = _checked_parent() / holder.name
    lock = awaited(lambda: _lock_unless_it_lives(path), ENDING_SECONDS)
    if lock is None:
        raise _running(path)
    _empty(path)
    os.truncate(lock, 0)
    os.pwrite(lock, msgspec.json.encode(holder), 0)
    return RunDirectory(path, lock)


def _lock_unless_it_lives(path: Path) -> int | None:
    """Return the lock of a directory that is made where there is none; None: a run is leaving it."""
    path.mkdir(mode=_PRIVATE_MODE, exist_ok=True)
    lock = _try_lock(path)
    if lock is None and (other := _read_holder(path)) is not None and _alive(other.pid):
        raise _running(path)
    return lock


def _running(path: Path) -> ConfigError:
    other = _read_holder(path)
    pid = f" (pid {other.pid})" if other else ""
    return ConfigError(f"topology {path.name} is already running{pid}; end it with: virtbed down {path.name}")


def _empty(path: Path) -> None:
    for left in path.iterdir():
        if left.is_dir() and not left.is_symlink():
            _empty(left)
            left.rmdir()
        elif left.name != LOCK_NAME:
            left.unlink()


def remove(path: Path) -> None:
    """Remove a run directory, its lock file last; nothing happens when it is gone."""
    with contextlib.suppress(FileNotFoundError):
        _empty(path)
        (path / LOCK_NAME).unlink()
        try:
            path.rmdir()
        except OSError as error:
            # The next run of that name has put its lock there already: the directory is now its own.
            if error.errno != errno.ENOTEMPTY:
                raise


def held() -> list[Holder]:
    """Return who runs now, by name."""
    return [
        holder for path in _directories() if _is_held(path) and (holder := _read_holder(path)) is not None
    ]


def find(name: str) -> Holder:
    """Return the running topology called `name`; ConfigError names those that run when it does not."""
    running = held()
    for holder in running:
        if holder.name == name:
            return holder
    others = ", ".join(holder.name for holder in running) or "none"
    raise ConfigError(f"no topology {name} is running; running now: {others}")


def wait_until_free(name: str) -> None:
    """Wait until the topology called `name` has left its directory, for `ENDING_SECONDS` at most."""
    awaited(lambda: not _is_held(path_of(name)), ENDING_SECONDS)


def clean() -> list[Path]:
    """Remove what dead runs left in the parent directory and return the paths."""
    removed = []
    for path in _directories():
        lock = _try_lock(path)
        if lock is not None:
            remove(path)
            os.close(lock)
            removed.append(path)
    return removed


def _directories() -> list[Path]:
    parent = parent_path()
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _is_held(path: Path) -> bool:
    try:
        lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(lock)
