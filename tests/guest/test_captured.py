"""Captures: content kept, addresses made the flow's, times from the first frame on; trouble is told."""

from collections.abc import Sequence
from pathlib import Path

import dpkt
import pytest

from testbed.errors import ConfigError
from testbed.guest.workloads.captured import CapturedFrames, load_captured
from testbed.native import frame_digest
from tests.guest.rig_driver import DESTINATION_MAC, SOURCE_MAC, flow

BROADCAST = b"\xff" * 6
OTHER = b"\x02" * 6


def write(path: Path, frames: Sequence[tuple[float, bytes]]) -> None:
    """Write a pcap file."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for seconds, data in frames:
            writer.writepkt(data, seconds)


def load(path: Path) -> CapturedFrames:
    """Load a capture as a replay flow does."""
    return load_captured(flow(kind="replay", capture=str(path)))


def test_captured_frames_keep_their_content_and_take_the_flow_s_addresses(tmp_path: Path) -> None:
    path = tmp_path / "two.pcap"
    write(path, [(5.0, OTHER + OTHER + b"\x08\x00unicast"), (5.25, BROADCAST + OTHER + b"\x08\x06arp")])
    frames = load(path)
    first = DESTINATION_MAC + SOURCE_MAC + b"\x08\x00unicast"
    second = BROADCAST + SOURCE_MAC + b"\x08\x06arp"
    assert frames.content == first + second
    assert frames.offsets.tolist() == [0, len(first), len(first) + len(second)]
    assert frames.digests.tolist() == [frame_digest(first), frame_digest(second)]
    assert (frames.count, frames.longest_bytes) == (2, len(first))


def test_captured_times_count_from_the_first_frame_and_never_fall(tmp_path: Path) -> None:
    path = tmp_path / "times.pcap"
    data = OTHER + OTHER + b"\x08\x00"
    write(path, [(10.0, data), (10.5, data), (10.25, data), (11.0, data)])
    assert load(path).times_ns.tolist() == [0, 500_000_000, 500_000_000, 1_000_000_000]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "cannot be read as a capture"),
        (b"not a capture at all, not even nearly", "cannot be read as a capture"),
    ],
)
def test_captured_file_that_is_no_capture_is_told(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "bad.pcap"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"bad.pcap: {text}"):
        load(path)


def test_captured_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.pcap: cannot be read as a capture: .*No such file"):
        load(tmp_path / "gone.pcap")


def test_captured_file_that_ends_midway_is_told_or_cut(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    write(path, [(1.0, OTHER + OTHER + b"\x08\x00first"), (2.0, OTHER + OTHER + b"\x08\x00second")])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ConfigError, match=r"cut\.pcap: "):
        load(path)


@pytest.mark.parametrize("frames", [[], [(1.0, b"")], [(1.0, b"\xff" * 13)]])
def test_captured_file_without_a_frame_that_can_be_sent_is_told(
    tmp_path: Path, frames: list[tuple[float, bytes]]
) -> None:
    path = tmp_path / "short.pcap"
    write(path, frames)
    with pytest.raises(ConfigError, match=r"short\.pcap: "):
        load(path)


def test_captured_frames_are_padded_as_a_nic_on_the_way_does(tmp_path: Path) -> None:
    path = tmp_path / "short.pcap"
    write(
        path, [(0.0, OTHER + OTHER + b"\x08\x06" + b"x" * 28), (0.0, OTHER + OTHER + b"\x08\x00" + b"y" * 50)]
    )
    frames = load_captured(flow(kind="replay", capture=str(path), padded_bytes=60))
    first = DESTINATION_MAC + SOURCE_MAC + b"\x08\x06" + b"x" * 28 + bytes(18)
    assert frames.offsets.tolist() == [0, 60, 124]
    assert frames.content[:60] == first
    assert frames.digests[0] == frame_digest(first)


def test_captured_groups_are_those_that_a_receiver_must_ask_for(tmp_path: Path) -> None:
    path, group = tmp_path / "groups.pcap", b"\x01\x00\x5e\x00\x00\xfb"
    write(path, [(0.0, to + OTHER + b"\x08\x00") for to in (OTHER, BROADCAST, group, group)])
    assert load(path).groups == [group]
