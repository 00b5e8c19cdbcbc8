"""Frames told in a line, and pcapng taken in pieces."""

import pytest

from launcher.frame_line import BlockReader, CapturedFrame, frame_line
from testbed.native import FrameStore, PcapngBuffer
from testbed.net.interpose.capture import header

MACS = bytes.fromhex("020000000002020000000001")
SHOWN = "02:00:00:00:00:01 > 02:00:00:00:00:02"
IPV4 = bytes.fromhex("4500002e00000000401100000a0000010a000002")
IPV6 = (
    bytes.fromhex("600000000008063a") + b"\xfe\x80" + bytes(13) + b"\x01" + b"\xff\x02" + bytes(13) + b"\x02"
)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x08\x00" + IPV4 + b"\x00\x09\x00\x35", "IPv4 UDP 10.0.0.1.9 > 10.0.0.2.53"),
        (b"\x08\x00" + IPV4[:7] + b"\x10" + IPV4[8:] + b"\x00\x09\x00\x35", "IPv4 UDP 10.0.0.1 > 10.0.0.2"),
        (b"\x08\x00" + IPV4[:9] + b"\x01" + IPV4[10:], "IPv4 ICMP 10.0.0.1 > 10.0.0.2"),
        (b"\x08\x00" + IPV4[:9] + b"\xc8" + IPV4[10:], "IPv4 protocol 200 10.0.0.1 > 10.0.0.2"),
        (b"\x86\xdd" + IPV6[:6] + b"\x3a" + IPV6[7:], "IPv6 ICMPv6 fe80::1 > ff02::2"),
        (
            bytes.fromhex("0806 0001080006040001 020000000001 0a000001 000000000000 0a000002"),
            "ARP who has 10.0.0.2? tell 10.0.0.1",
        ),
        (
            bytes.fromhex("0806 0001080006040002 020000000001 0a000001 000000000000 0a000002"),
            "ARP 10.0.0.1 is at 02:00:00:00:00:01",
        ),
        (b"\x08\x00\x45", "0x0800"),
        (b"\x88\xcc", "0x88cc"),
    ],
)  # fmt: skip
def test_line_says_who_speaks_to_whom(content: bytes, told: str) -> None:
    line = frame_line(CapturedFrame(1_000_000_007, "tx", MACS + content))
    assert line.endswith(f":01.000000007 tx {len(MACS + content):5d} {SHOWN} {told}")


@pytest.mark.parametrize("piece_bytes", [1, 7, 64, 10_000])
def test_reader_finds_every_frame_however_the_stream_is_cut(piece_bytes: int) -> None:
    store, buffer = FrameStore(), PcapngBuffer(1 << 16)
    frames = [MACS + b"\x88\xcc" + bytes(n) for n in range(46, 60)]
    store.load(frames)
    buffer.put(header("a.nic0"))
    buffer.append(store, 0, 100, 5_000_000_000, 1)
    stream, reader = buffer.pending(), BlockReader()
    found = [
        frame
        for at in range(0, len(stream), piece_bytes)
        for frame in reader.feed(stream[at : at + piece_bytes])
    ]
    assert found == [CapturedFrame(5_000_000_000, "rx", frame) for frame in frames]
