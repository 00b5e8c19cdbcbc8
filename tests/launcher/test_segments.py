"""Segments have no name, one right each descriptor, and do not outlive their users."""

import errno
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from launcher import segments
from launcher.segments import Segments, create
from testbed.errors import MachineError
from testbed.messages.entries import SegmentEntry
from tests.support.plans import PAGE, plan

ENTRY = SegmentEntry(name="a.ram", size_bytes=4 * PAGE)


@pytest.fixture
def small() -> Iterator[Segments]:
    made = Segments(plan(["a", "b"]))
    made.create()
    yield made
    made.close()


def test_a_segment_has_its_size_and_no_name() -> None:
    segment = create(ENTRY, read_only=False)
    status = os.fstat(segment.descriptor(writable=True))
    segment.close()

    assert (status.st_size, status.st_nlink, status.st_mode & 0o777) == (4 * PAGE, 0, 0o600)


def test_the_read_only_descriptor_cannot_be_mapped_for_writing() -> None:
    segment = create(ENTRY, read_only=True)
    look = segment.descriptor(writable=False)

    with mmap.mmap(look, PAGE, prot=mmap.PROT_READ) as page:
        assert page[0] == 0
    with pytest.raises(PermissionError):
        mmap.mmap(look, PAGE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    segment.close()


def test_both_descriptors_are_the_same_memory() -> None:
    segment = create(ENTRY, read_only=True)
    os.pwrite(segment.descriptor(writable=True), b"x", 7)

    assert os.pread(segment.descriptor(writable=False), 1, 7) == b"x"
    segment.close()


def test_close_leaves_no_descriptor() -> None:
    before = psutil.Process().num_fds()
    made = Segments(plan(["a", "b", "c"]))
    made.create()
    made.close()

    assert psutil.Process().num_fds() == before


def test_a_process_gets_its_segments_in_order_with_its_rights(small: Segments) -> None:
    guest = plan(["a", "b"]).processes[1]
    given = small.descriptors(guest)

    assert [os.fstat(fd).st_ino for fd in given] == [small.inode(s.name) for s in guest.segments]
    assert [os.get_inheritable(fd) for fd in given] == [False] * 3
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(given[1], b"x", 0)  # a.stage2, which a guest may only walk


def test_a_segment_is_closed_with_its_last_user(small: Segments) -> None:
    vmm, a, b = plan(["a", "b"]).processes
    before = psutil.Process().num_fds()
    small.spawned(vmm)
    after_vmm = psutil.Process().num_fds()
    small.spawned(a)
    after_a = psutil.Process().num_fds()
    small.spawned(b)

    # The vmm's counters; then for each guest RAM, and tables and counters with two descriptors each.
    assert before - after_vmm == 2
    assert after_vmm - after_a == 5
    assert after_a - psutil.Process().num_fds() == 5


def test_counters_are_seen_while_they_are_counted(small: Segments) -> None:
    a = plan(["a", "b"]).processes[1]
    counters = small.descriptors(a)[-1]
    os.pwrite(counters, (3).to_bytes(8, "little"), 8)

    assert small.read_counters() == {"h0": {}, "a": {"exits": 3}, "b": {}}
    assert small.read_counters(zeros=True)["a"] == {"frames": 0, "exits": 3}


def test_counters_are_seen_after_their_owner_and_its_descriptors_are_gone(small: Segments) -> None:
    a = plan(["a", "b"]).processes[1]
    os.pwrite(small.descriptors(a)[-1], (3).to_bytes(8, "little"), 8)
    for process in plan(["a", "b"]).processes:
        small.spawned(process)

    assert small.read_counters()["a"] == {"exits": 3}


def _refusing(number: int) -> Callable[..., object]:
    def refuse(*_arguments: object, **_named: object) -> object:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.EMFILE, "ulimit -n"), (errno.ENFILE, "fs.file-max"), (errno.ENOSPC, "make /dev/shm larger")],
)
def test_a_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    monkeypatch.setattr("posix_ipc.SharedMemory", _refusing(number))

    with pytest.raises(MachineError, match=rf"segment a.ram of 16384 bytes cannot be made: .*{advice}"):
        create(ENTRY, read_only=False)


def test_clean_removes_segments_of_dead_launchers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_SHARED_MEMORY_DIRECTORY", tmp_path)
    dead = tmp_path / "virtbed-99999999-0123456789abcdef"
    for path in (dead, tmp_path / f"virtbed-{os.getpid()}-0123456789abcdef", tmp_path / "virtbed-mine"):
        path.touch()

    assert segments.clean() == [dead]
    assert len(list(tmp_path.iterdir())) == 2
