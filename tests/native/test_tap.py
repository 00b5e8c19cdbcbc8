"""Frames between bursts and a descriptor, each with a virtio_net_hdr: in order, refused ones counted.

A SOCK_SEQPACKET pair stands where the kernel's TAP device is: it keeps frames apart and does not block. Its
other end is what the network stack sees.
"""

import errno
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.native import FLOOD, FRAMES_MAX, Burst, FrameStore, Tap
from testbed.spec.virtio_net import NET_HDR
from tests.guest.rig_driver import SLOT_BYTES, RigDriver
from tests.support.ring_model import Features
from tests.support.ring_pair import Rig, Setup, contents

HEADER_BYTES = NET_HDR.size
ROOM = SLOT_BYTES - HEADER_BYTES
NONE = bytes(HEADER_BYTES)
"""The header of a frame that asks for nothing."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, stack = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, stack):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with ours, stack:
        yield ours, stack


Pair = tuple[socket.socket, socket.socket]


def reserved(want: int, size: int = 512) -> tuple[RigDriver, Burst]:
    driver, burst = RigDriver(size=size), Burst()
    assert driver.tx_reserve(burst, want) == want
    return driver, burst


def loaded(frames: list[bytes]) -> FrameStore:
    store = FrameStore()
    store.load(frames)
    return store


def test_nothing_to_read_fills_nothing(pair: Pair) -> None:
    tap, (_, burst) = Tap(pair[0].fileno()), reserved(4)
    assert (tap.ready, tap.arm(), tap.read(burst), tap.frames_read) == (False, False, 0, 0)


def test_frames_are_read_in_order_up_to_what_was_reserved(pair: Pair) -> None:
    frames = [bytes([i]) * (60 + i) for i in range(5)]
    for frame in frames:
        pair[1].send(NONE + frame)
    tap, (driver, burst) = Tap(pair[0].fileno()), reserved(3)
    assert (tap.ready, tap.read(burst)) == (True, 3)
    driver.tx_send(burst)
    assert driver.take_sent() == frames[:3]
    driver, burst = reserved(FRAMES_MAX)
    assert tap.read(burst) == 2
    assert [burst.frame_bytes(i) for i in range(2)] == frames[3:]
    assert (tap.frames_read, tap.ready) == (5, False)


def test_a_frame_too_long_for_its_buffer_is_dropped_and_the_next_takes_its_place(pair: Pair) -> None:
    for frame in (b"a" * ROOM, b"b" * (ROOM + 1), b"c" * 60):
        pair[1].send(NONE + frame)
    tap, (_, burst) = Tap(pair[0].fileno()), reserved(8)
    assert tap.read(burst) == 2
    assert [burst.frame_bytes(i)[:1] for i in range(2)] == [b"a", b"c"]
    assert (tap.too_long, tap.frames_read) == (1, 2)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20))
def test_every_frame_is_written_whole(frames: list[bytes]) -> None:
    ours, stack = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, stack:
        tap = Tap(ours.fileno())
        tap.write(loaded(frames))
        assert [stack.recv(1024) for _ in frames] == [NONE + frame for frame in frames]
        assert (tap.frames_written, tap.refused) == (len(frames), 0)


def test_a_frame_in_pieces_is_written_as_one(pair: Pair) -> None:
    rig = Rig(Setup(size=8, device_writes=True, features=Features(merge=True)))
    driver, device, burst = rig.native_driver(), rig.native_device(), Burst()
    frame = bytes(range(256)) * 20  # three merged receive buffers
    driver.post_all()
    sent = loaded([frame])
    sent.send_all_to(FLOOD)
    device.deliver(sent, 0, 1)
    device.publish()
    assert driver.collect(burst) == 1
    Tap(pair[0].fileno()).write(burst)
    assert contents(burst) == [frame]
    assert pair[1].recv(1 << 16) == NONE + frame


def test_a_frame_that_the_kernel_refuses_is_counted_and_the_next_one_goes(pair: Pair) -> None:
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    tap = Tap(pair[0].fileno())
    tap.write(loaded([b"x" * 60, b"y" * 60_000, b"z" * 60]))
    assert (tap.frames_written, tap.refused) == (2, 1)


def test_a_device_that_is_gone_is_told_after_what_was_read(pair: Pair) -> None:
    pair[1].send(NONE + b"f" * 60)
    tap, (_, burst) = Tap(pair[0].fileno()), reserved(4)
    assert tap.read(burst) == 1
    pair[0].close()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        tap.read(burst)
    assert caught.value.errno == errno.EBADF
