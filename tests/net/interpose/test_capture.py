"""Captures: every byte of the file, what dpkt reads back, bounded memory, pipes and disks that fail."""

import os
from pathlib import Path

import dpkt
import pytest

from testbed.errors import ConfigError
from testbed.native import FrameStore, Pinned
from testbed.net.interpose.capture import BUFFER_BYTES, FLUSH_NS, Capture, header
from testbed.net.interpose.chain import Direction
from testbed.net.interpose.counts import PortCounts
from testbed.net.interpose.filter import compile_filter
from testbed.spec.port_counters import PORT_COUNTERS
from tests.support.recorders import ManualClock

TIME_NS = 0x0102_0304_0506_0708


class Taken:
    """A capture with a clock of its own; `reports` is what it told."""

    def __init__(self, path: Path, expression: str = "", limit: int = 0) -> None:
        self.clock, self.page = ManualClock(), Pinned(bytearray(PORT_COUNTERS.size))
        self.reports: list[tuple[str, str]] = []
        self.capture = Capture(
            str(path),
            "a.nic0",
            PortCounts(self.page),
            lambda *told: self.reports.append(told),
            compile_filter(expression) if expression else None,
            limit,
            times=(lambda: TIME_NS, self.clock),
        )

    def take(self, frames: list[bytes], direction: Direction = "tx") -> None:
        store = FrameStore()
        store.load(frames)
        self.capture.apply(store, direction)

    def count(self, name: str) -> int:
        return int(self.page.words(PORT_COUNTERS.offset(name), 8)[0])


def read_back(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [bytes(frame) for _, frame in dpkt.pcapng.Reader(file)]


def test_capture_file_is_what_the_draft_says_byte_for_byte(tmp_path: Path) -> None:
    taken = Taken(tmp_path / "a.pcapng")
    taken.take([b"\xaa" * 61], "tx")
    taken.take([b"\xbb" * 64], "rx")
    taken.capture.close()

    section = (
        "0a0d0d0a 2c000000 4d3c2b1a 0100 0000 ffffffffffffffff 0400 0700 7669727462656400 00000000 2c000000"
    )
    described = (
        "01000000 2c000000 0100 0000 0d000100 0200 0600 612e6e6963300000 0900 0100 09000000 00000000 2c000000"
    )
    first = "06000000 6c000000 00000000 04030201 08070605 3d000000 3d000000" + "aa" * 61 + "000000"
    first += "0200 0400 02000000 00000000 6c000000"
    second = "06000000 6c000000 00000000 04030201 08070605 40000000 40000000" + "bb" * 64
    second += "0200 0400 01000000 00000000 6c000000"
    written = (tmp_path / "a.pcapng").read_bytes()
    snap = written[44 + 12 : 44 + 16]
    expected = bytes.fromhex(section + described + first + second)
    assert written == expected[:56] + snap + expected[60:]
    assert int.from_bytes(snap, "little") >= 9014
    assert written.startswith(header("a.nic0"))


def test_capture_is_read_back_frame_by_frame_however_many_fill_the_buffer(tmp_path: Path) -> None:
    taken = Taken(tmp_path / "a.pcapng")
    frames = [bytes([n % 251]) * (60 + n * 37 % 1455) for n in range(1024)]
    for first in range(0, len(frames), 256):
        taken.take(frames[first : first + 256])
    taken.capture.close()

    assert sum(map(len, frames)) > 2 * BUFFER_BYTES
    assert read_back(tmp_path / "a.pcapng") == frames
    assert taken.count("frames_captured") == taken.capture.frames == 1024


def test_capture_takes_only_what_matches_and_is_present_up_to_its_limit(tmp_path: Path) -> None:
    taken = Taken(tmp_path / "a.pcapng", "len > 60", limit=2)
    store = FrameStore()
    frames = [bytes(60), bytes(61), bytes(62), bytes(63), bytes(64)]
    store.load(frames)
    store.remove(1)
    taken.capture.apply(store, "tx")
    assert taken.capture.ended
    taken.capture.close()
    assert read_back(tmp_path / "a.pcapng") == [frames[2], frames[3]]


def test_capture_is_written_when_it_is_due_and_not_before(tmp_path: Path) -> None:
    taken, path = Taken(tmp_path / "a.pcapng"), tmp_path / "a.pcapng"
    due = [taken.capture.due_ns]
    taken.take([bytes(60)])
    due.append(taken.capture.due_ns)
    assert read_back(path) == []
    taken.capture.flush()
    assert [*due, taken.capture.due_ns] == [None, taken.clock.now_ns + FLUSH_NS, None]
    assert read_back(path) == [bytes(60)]


def test_capture_into_a_pipe_that_nobody_empties_misses_frames_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    taken = Taken(path)
    for _ in range(4):
        taken.take([bytes(1514)] * 256)
    assert taken.capture.frames + taken.capture.missed == 1024
    assert taken.count("captures_missed") == taken.capture.missed > 0
    content = b""
    while chunk := os.read(reader, 1 << 16):
        content += chunk
        taken.capture.flush()
        if taken.capture.due_ns is None:
            taken.capture.close()
    os.close(reader)
    (tmp_path / "copy").write_bytes(content)
    assert read_back(tmp_path / "copy") == [bytes(1514)] * taken.capture.frames


def test_capture_whose_reader_has_gone_ends_and_says_so_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    taken = Taken(path)
    os.close(reader)
    taken.take([bytes(60)])
    taken.capture.flush()
    taken.take([bytes(60)])
    assert taken.capture.ended
    assert [reason for reason, _ in taken.reports] == ["capture_error"]
    assert "Broken pipe" in taken.capture.error


def test_capture_on_a_full_disk_ends_and_says_so() -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        Taken(Path("/nonexistent/a.pcapng"))
    taken = Taken(Path("/dev/full"))
    assert taken.capture.ended
    assert "No space left" in taken.reports[0][1]
