"""Large frames of a network stack: cut into what a NIC sends, and joined again from what it gets.

The oracle of cutting is tests/support/packets.py. Joining is held to one rule: whatever is joined, cut again,
is exactly the frames that came, in their order; so nothing of a frame is lost, mended or invented.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.native import FRAMES_MAX, Burst, FrameStore, Tap
from testbed.spec import virtio_net as net
from tests.guest.rig_driver import RigDriver
from tests.support.packets import ACK, FIN, PSH, UDP, V4, Packet, ones_complement

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
OPTIONS: Final = bytes.fromhex("0101080a0000000100000002")
"""Timestamps, as Linux sends them."""
MESSAGE_BYTES: Final = 1 << 17
NONE: Final = bytes(net.NET_HDR.size)


def data(size: int, **changes: object) -> Packet:
    payload = bytes(i * 7 % 251 for i in range(size))
    return replace(Packet(payload, B, A, options=OPTIONS), **changes)  # type: ignore[arg-type]


def header_of(packet: Packet, size: int) -> bytes:
    """The virtio_net_hdr of a frame that a stack leaves to be cut into segments of `size` bytes."""
    kind = net.GSO_TCPV4 if packet.version == 4 else net.GSO_TCPV6
    return net.NET_HDR.pack(
        flags=net.HDR_F_NEEDS_CSUM,
        gso_type=kind,
        hdr_len=packet.header_bytes,
        gso_size=size,
        csum_start=packet.transport_start,
        csum_offset=packet.checksum_offset,
        num_buffers=0,
    )


def cut(messages: Sequence[bytes]) -> list[bytes]:
    """Return the frames of the NIC's that these messages of the stack's become."""
    ours, stack = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    stack.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    driver, burst, frames = RigDriver(size=64), Burst(), list[bytes]()
    with ours, stack:
        tap = Tap(ours.fileno())
        for message in messages:
            stack.send(message)
            while tap.ready:
                reserved = driver.tx_reserve(burst, 32)
                taken = tap.read(burst)
                if taken < reserved:
                    driver.tx_release(burst, taken)
                driver.tx_send(burst)
                frames += driver.take_sent()
    return frames


def join(frames: Sequence[bytes], join: bool = True) -> list[bytes]:
    """Return the messages to the stack that these frames of one burst become."""
    ours, stack = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    stack.setblocking(False)
    with ours, stack:
        store, tap = FrameStore(), Tap(ours.fileno(), join)
        store.load(frames)
        tap.write(store)
        assert (tap.frames_written, tap.refused) == (len(frames), 0)
        messages: list[bytes] = []
        while len(messages) <= len(frames):
            try:
                messages.append(stack.recv(MESSAGE_BYTES))
            except BlockingIOError:
                break
        assert tap.frames_joined == sum(message[: len(NONE)] != NONE for message in messages)
    return messages


@pytest.mark.parametrize("version", [4, 6])
@given(
    length=st.integers(1, 60_000), size=st.integers(536, 1448), flags=st.sampled_from([ACK, ACK | PSH | FIN])
)
def test_a_large_frame_is_cut_as_a_sender_without_offload_would_send_it(
    version: int, length: int, size: int, flags: int
) -> None:
    packet = data(length, version=version, flags=flags)
    assert cut([header_of(packet, size) + packet.for_checksum_offload()]) == packet.segments(size)


@pytest.mark.parametrize("version", [4, 6])
def test_a_checksum_that_is_left_to_us_is_put_in(version: int) -> None:
    packet = data(100, version=version, protocol=UDP, options=b"")
    header = net.NET_HDR.pack(
        flags=net.HDR_F_NEEDS_CSUM, gso_type=0, hdr_len=0, gso_size=0, num_buffers=0,
        csum_start=packet.transport_start, csum_offset=packet.checksum_offset,
    )  # fmt: skip
    (frame,) = cut([header + packet.for_checksum_offload()])
    start = packet.transport_start
    assert frame[start:] == packet.build()[start:]


@pytest.mark.parametrize(
    "header",
    [
        {"flags": 1, "gso_type": net.GSO_TCPV4, "gso_size": 0},
        {"flags": 0, "gso_type": net.GSO_TCPV4, "gso_size": 500},
        {"flags": 1, "gso_type": 3, "gso_size": 500},
        {"flags": 1, "gso_type": 0, "csum_start": 60_000},
    ],
)
def test_a_header_that_asks_for_what_cannot_be_is_dropped_and_the_next_frame_goes(
    header: dict[str, int],
) -> None:
    packet = data(3000)
    fields = {name.name: header.get(name.name, 0) for name in net.NET_HDR.fields}
    assert cut([net.NET_HDR.pack(**fields) + packet.build(), NONE + b"n" * 60]) == [b"n" * 60]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [1448 * 10, 1448 * 10 + 7])
def test_segments_in_a_row_become_one_frame_with_a_partial_checksum(version: int, length: int) -> None:
    packet = data(length, version=version, flags=ACK | PSH)
    (message,) = join(packet.segments(1448))
    header, frame = message[: len(NONE)], bytearray(message[len(NONE) :])
    whole = bytearray(packet.build())
    assert header == header_of(packet, 1448)
    at = packet.transport_start + packet.checksum_offset
    partial = ones_complement(packet.pseudo(len(frame) - packet.transport_start))
    assert int.from_bytes(frame[at : at + 2], "big") == partial
    frame[at : at + 2] = whole[at : at + 2] = b"\0\0"
    assert frame == whole


def test_nothing_is_joined_where_nobody_wants_it() -> None:
    frames = data(5000).segments(1000)
    assert join(frames, join=False) == [NONE + frame for frame in frames]


def altered(frame: bytes, at: int, value: bytes) -> bytes:
    return frame[:at] + value + frame[at + len(value) :]


FIRST: Final = data(1000)
NEXT: Final = data(1000, sequence=2000, identification=8)
ALONE: Final = {
    "a gap": replace(NEXT, sequence=2001),
    "one again": replace(NEXT, sequence=1000),
    "FIN": replace(NEXT, flags=ACK | FIN),
    "no ACK": replace(NEXT, flags=0),
    "other options": replace(NEXT, options=OPTIONS[:-1] + b"\x09"),
    "no options": replace(NEXT, options=b""),
    "longer": replace(NEXT, payload=bytes(1001)),
    "empty": replace(NEXT, payload=b""),
    "to another": replace(NEXT, destination=A),
    "tagged": replace(NEXT, tag=b"\x81\x00\x00\x05"),
    "another version": replace(NEXT, version=6),
    "UDP": replace(NEXT, protocol=UDP, options=b""),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_is_no_continuation_is_not_joined(name: str) -> None:
    frames = [FIRST.build(), ALONE[name].build()]
    assert join(frames) == [NONE + frame for frame in frames]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (NEXT.header_bytes + 10, b"\xff\xff"),  # a byte of the data: the TCP checksum is wrong
        (NEXT.network_start + 10, b"\x00\x01"),  # the checksum of the IP header
        (NEXT.network_start + 6, b"\x20\x00"),  # a fragment
        (NEXT.network_start + 12, V4[1]),  # another source
        (NEXT.transport_start, b"\x00\x01"),  # another port
        (NEXT.transport_start + 8, b"\x01"),  # another acknowledgment
        (NEXT.transport_start + 14, b"\x01"),  # another window
    ],
)
def test_a_damaged_or_different_frame_is_handed_over_as_it_came(at: int, value: bytes) -> None:
    frames = [FIRST.build(), altered(NEXT.build(), at, value)]
    assert join(frames) == [NONE + frame for frame in frames]


def test_a_push_ends_a_row() -> None:
    packets = [replace(FIRST, flags=ACK | PSH), NEXT, replace(NEXT, sequence=3000, identification=9)]
    lengths = [len(message) for message in join([packet.build() for packet in packets])]
    assert lengths == [len(NONE) + FIRST.header_bytes + 1000, len(NONE) + FIRST.header_bytes + 2000]


def test_a_row_is_never_longer_than_a_datagram() -> None:
    frames = data(150_000).segments(1448)
    messages = join(frames)
    assert [len(message) <= len(NONE) + 14 + 0xFFFF for message in messages] == [True] * len(messages)
    assert len(messages) == 3
    assert cut(messages) == frames


FLOWS: Final = st.sampled_from([(4, b""), (4, OPTIONS), (6, OPTIONS)])


@st.composite
def mixed(draw: st.DrawFn) -> list[bytes]:
    """A burst of several flows, each of segments in order, mixed, with some altered or left out."""
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        version, options = draw(FLOWS)
        length, start = draw(st.integers(1, 9000)), draw(st.integers(0, 2**32 - 1))
        flags = draw(st.sampled_from([ACK, ACK | PSH, ACK | FIN]))
        packet = data(length, version=version, options=options, sequence=start, flags=flags)
        rows.append(packet.segments(draw(st.sampled_from([200, 536, 1448]))))
    frames = []
    while rows := [row for row in rows if row]:
        row = draw(st.sampled_from(rows))
        for _ in range(draw(st.integers(1, 12))):
            frames += row[:1]
            del row[:1]
    frames = frames[:FRAMES_MAX]
    for _ in range(draw(st.integers(0, 3))):
        i = draw(st.integers(0, len(frames) - 1))
        at = draw(st.integers(0, len(frames[i]) - 1))
        frames[i] = altered(frames[i], at, bytes([draw(st.integers(0, 255))]))
    return frames


@given(mixed())
def test_whatever_is_joined_cut_again_is_what_came(frames: list[bytes]) -> None:
    assert cut(join(frames)) == frames


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=30))
def test_any_bytes_are_handed_over_as_they_came(frames: list[bytes]) -> None:
    assert join(frames) == [NONE + frame for frame in frames]
