"""Captures are looked at before anything starts: both formats, and each reason to refuse one."""

# ruff: noqa: E501 - a message stands on one line, as a person reads it

import io
import struct
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.capture import Capture, inspect_capture
from launcher.topology import parse_topology
from testbed.errors import ConfigError


def refused(directory: Path, guests: str = "{a: {}, b: {}}") -> list[str]:
    workload = "{kind: replay, from: a, to: b, pcap: c}"
    with pytest.raises(ConfigError) as caught:
        parse_topology(f"name: t\nguests: {guests}\nworkloads:\n  - {workload}\n", "f", directory)
    return list(caught.value.problems)


def pcap(*frames: bytes, cut: int = 0, link: int = dpkt.pcap.DLT_EN10MB) -> bytes:
    file = io.BytesIO()
    writer = dpkt.pcap.Writer(file, linktype=link)
    for frame in frames:
        header = dpkt.pcap.LEPktHdr(caplen=len(frame) - cut, len=len(frame))
        file.write(bytes(header) + frame[: len(frame) - cut])
    content = file.getvalue()
    writer.close()
    return content


def pcapng(*frames: bytes, link: int = dpkt.pcap.DLT_EN10MB) -> bytes:
    file = io.BytesIO()
    writer = dpkt.pcapng.Writer(file, linktype=link)
    for frame in frames:
        writer.writepkt(frame, ts=1.0)
    content = file.getvalue()
    writer.close()
    return content


def simple_packet(frame: bytes) -> bytes:
    padded = frame + bytes(-len(frame) % 4)
    return struct.pack("<III", 3, 16 + len(padded), len(frame)) + padded + struct.pack("<I", 16 + len(padded))


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_captures_of_both_formats(tmp_path: Path, write: Any) -> None:
    (tmp_path / "c").write_bytes(write(bytes(60), bytes(1514), bytes(42)))
    capture = inspect_capture(tmp_path / "c")
    assert (capture.frames, capture.longest_bytes) == (3, 1514)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "is not a capture (pcap or pcapng)"),
        (b"\x7fELF" + bytes(60), "is not a capture (pcap or pcapng)"),
        (pcap(), "is a capture without a single frame"),
        (pcapng(), "is a capture without a single frame"),
        (pcap(bytes(60), bytes(100), cut=4), "frame 1 was cut to 56 of its 60 bytes (snap length): capture whole frames"),
        (pcap(bytes(60), link=113), "has link type 113, not Ethernet (1)"),
        (pcapng(bytes(60), link=101), "has link type 101, not Ethernet (1)"),
        (pcap(bytes(60))[:-1], "is a damaged capture: it ends inside a frame"),
        (pcap(bytes(60)) + b"\1", "is a damaged capture: it ends inside a frame"),
        (pcapng(bytes(60))[:-1], "is a damaged capture: it ends inside a block"),
        (pcap(bytes(60))[:10], "is a damaged capture"),
        (pcapng(bytes(60))[:10], "is a damaged capture"),
        (pcap(bytes(13)), "frame 1 has 13 bytes, less than an Ethernet header"),
        (pcapng() + simple_packet(bytes(60)), "is a pcapng with simple packet blocks, which cannot be replayed: write it anew as pcap"),
        (pcapng(bytes(60)) + pcapng(bytes(60)), "is a pcapng with several sections, which cannot be replayed: write it anew as pcap"),
        (pcapng() + struct.pack("<II", 6, 4), "is a damaged capture: a block of 4 bytes"),
    ],
)  # fmt: skip
def test_captures_that_cannot_be_replayed(tmp_path: Path, content: bytes, rule: str) -> None:
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        inspect_capture(tmp_path / "c")
    assert caught.value.problems[0].startswith(rule)
    (line,) = refused(tmp_path)
    assert line.startswith(f'f:4: workloads[0].pcap: "c": {rule}')


def test_a_capture_must_fit_both_nics(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(pcap(bytes(60), bytes(2000)))
    guests = "{a: {nics: [{kind: virtio-net, mtu: 9000}]}, b: {}}"
    (line,) = refused(tmp_path, guests)
    assert "a frame of 2000 bytes does not fit nic0 of guest b: its mtu 1500 allows at most 1514" in line


def outcome_of(path: Path) -> Capture | tuple[str, ...]:
    try:
        return inspect_capture(path)
    except ConfigError as error:
        return error.problems


@given(st.binary(max_size=200), st.integers(0, 160), st.sampled_from([pcap, pcapng]))
def test_any_damage_to_a_capture_is_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, position: int, write: Any
) -> None:
    content = write(bytes(60))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[:position] + noise + content[position + len(noise) :])
    outcome = outcome_of(path)
    assert outcome.frames >= 1 if isinstance(outcome, Capture) else len(outcome) == 1
