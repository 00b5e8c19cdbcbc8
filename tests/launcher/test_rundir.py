"""The run directory is private, held by one run at a time, and taken over from the dead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import rundir
from launcher.rundir import Holder
from testbed.errors import ConfigError, MachineError

ME = Holder("quick", os.getpid())
DEAD_PID = 99_999_999


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "runs"
    monkeypatch.setenv(rundir.PARENT_VARIABLE, str(path))
    return path


def _leave_dead(parent: Path, name: str) -> Path:
    path = parent / name
    path.mkdir(parents=True)
    parent.chmod(0o700)
    (path / "lock").write_text(f'{{"name":"{name}","pid":{DEAD_PID}}}')
    (path / "control").touch()
    (path / "deeper").mkdir()
    return path


def test_the_variable_names_the_parent(parent: Path) -> None:
    assert rundir.path_of("quick") == parent / "quick"


def test_the_runtime_directory_is_preferred_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(rundir.PARENT_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    there = rundir.parent_path()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "not-there"))

    assert there == tmp_path / "virtbed"
    assert rundir.parent_path() == Path(f"/tmp/virtbed-{os.geteuid()}")


def test_directories_are_private(parent: Path) -> None:
    with rundir.claim(ME) as directory:
        assert [path.stat().st_mode & 0o777 for path in (parent, directory.path)] == [0o700, 0o700]


def test_release_leaves_nothing(parent: Path) -> None:
    with rundir.claim(ME) as directory:
        (directory.path / "control").touch()

    assert list(parent.iterdir()) == []


def test_a_parent_that_others_can_enter_is_refused(parent: Path) -> None:
    parent.mkdir()
    parent.chmod(0o755)

    with pytest.raises(MachineError, match=r"mode 0700, .*/runs is mode 0o755: chmod 700 it or"):
        rundir.claim(ME)


def test_a_parent_that_is_a_link_is_refused(parent: Path, tmp_path: Path) -> None:
    parent.symlink_to(tmp_path)

    with pytest.raises(MachineError, match="must be in a directory of your own"):
        rundir.claim(ME)


def test_a_parent_of_somebody_else_is_refused(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent.mkdir(mode=0o700)
    owner = parent.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    with pytest.raises(MachineError, match=f"/runs belongs to user {owner}: "):
        rundir.claim(ME)


def test_a_parent_that_cannot_be_is_refused(parent: Path) -> None:
    parent.write_text("a file")
    with pytest.raises(MachineError, match=r"/runs cannot be .*: File exists; name another"):
        rundir.claim(ME)


def test_the_same_name_twice_is_refused_with_what_to_do(parent: Path) -> None:
    with rundir.claim(ME), pytest.raises(ConfigError) as refusal:
        rundir.claim(ME)

    pid = os.getpid()
    assert str(refusal.value) == (
        f"topology quick is already running (pid {pid}); end it with: virtbed down quick"
    )


def test_two_names_run_side_by_side(parent: Path) -> None:
    with rundir.claim(ME), rundir.claim(Holder("slow", os.getpid())):
        assert [holder.name for holder in rundir.held()] == ["quick", "slow"]


def test_what_a_dead_run_left_is_taken_over(parent: Path) -> None:
    _leave_dead(parent, "quick")

    with rundir.claim(ME) as directory:
        assert [path.name for path in directory.path.iterdir()] == ["lock"]
        assert rundir.held() == [ME]


def test_the_lock_outlives_the_launcher_while_a_heir_has_it(parent: Path) -> None:
    directory = rundir.claim(ME)
    heir = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        pass_fds=[directory.lock],
    )
    os.close(directory.lock)
    directory.lock = -1
    while_alive = rundir.held()
    heir.communicate()

    assert while_alive == [ME]
    assert rundir.held() == []


def test_release_leaves_the_directory_of_the_next_run_alone(parent: Path) -> None:
    first = rundir.claim(ME)
    rundir.remove(first.path)
    with rundir.claim(ME) as second:
        first.release()

        assert (second.path / "lock").exists()


def test_find_names_what_runs(parent: Path) -> None:
    with (
        rundir.claim(ME),
        pytest.raises(ConfigError, match="no topology slow is running; running now: quick"),
    ):
        rundir.find("slow")


def test_nothing_is_held_where_nothing_ever_ran(parent: Path) -> None:
    assert (rundir.held(), rundir.clean()) == ([], [])


def test_clean_removes_what_the_dead_left_and_nothing_else(parent: Path) -> None:
    dead = _leave_dead(parent, "dead")
    with rundir.claim(ME) as directory:
        removed = rundir.clean()

        assert removed == [dead]
        assert directory.path.exists()
    assert list(parent.iterdir()) == []
