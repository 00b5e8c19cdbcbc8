"""Requests cross the socket whole, however many packets they take."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.fork_protocol import (
    DESCRIPTORS_PER_PACKET,
    PACKET_BYTES,
    SignalRequest,
    SpawnRequest,
    receive_request,
    send,
    signal_packet,
    spawn_packets,
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def _pass(pair: tuple[socket.socket, socket.socket], plan: bytes, descriptors: list[int]) -> SpawnRequest:
    for packet in spawn_packets(plan, descriptors):
        send(pair[0], packet)
    request = receive_request(pair[1])
    assert isinstance(request, SpawnRequest)
    for descriptor in request.descriptors:
        os.close(descriptor)
    return request


def test_a_guest_takes_one_packet() -> None:
    assert len(list(spawn_packets(b"x" * 2000, [1, 2, 3, 4]))) == 1


@given(plan_bytes=st.integers(0, 4 * PACKET_BYTES), descriptors=st.integers(0, 5 * DESCRIPTORS_PER_PACKET))
def test_every_packet_is_within_the_limits(plan_bytes: int, descriptors: int) -> None:
    packets = list(spawn_packets(b"x" * plan_bytes, range(descriptors)))

    assert all(0 < len(packet.data) <= PACKET_BYTES for packet in packets)
    assert all(len(packet.descriptors) <= DESCRIPTORS_PER_PACKET for packet in packets)
    assert sum(len(packet.descriptors) for packet in packets) == descriptors


@pytest.mark.parametrize("plan_bytes", [0, 1, PACKET_BYTES - 9, PACKET_BYTES - 8, 2 * PACKET_BYTES])
@pytest.mark.parametrize("count", [0, 1, 200, 201, 450])
def test_a_spawn_request_arrives_whole(
    pair: tuple[socket.socket, socket.socket], plan_bytes: int, count: int
) -> None:
    plan = os.urandom(plan_bytes)
    with Path(os.devnull).open() as null:
        request = _pass(pair, plan, [null.fileno()] * count)

    assert request.plan == plan
    assert len(request.descriptors) == len(set(request.descriptors)) == count


def test_descriptors_keep_their_order(pair: tuple[socket.socket, socket.socket]) -> None:
    files = [os.memfd_create(str(i)) for i in range(300)]
    inodes = [os.fstat(file).st_ino for file in files]
    for packet in spawn_packets(b"plan", files):
        send(pair[0], packet)
    request = receive_request(pair[1])

    assert isinstance(request, SpawnRequest)
    assert [os.fstat(file).st_ino for file in request.descriptors] == inodes
    for file in (*files, *request.descriptors):
        os.close(file)


def test_a_signal_request_arrives(pair: tuple[socket.socket, socket.socket]) -> None:
    send(pair[0], signal_packet(4711, 9))

    assert receive_request(pair[1]) == SignalRequest(4711, 9)


def test_a_launcher_that_is_gone_is_no_request(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()

    assert receive_request(pair[1]) is None


def test_a_launcher_that_goes_within_a_request_is_no_request(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    send(pair[0], next(iter(spawn_packets(b"x" * 2 * PACKET_BYTES, []))))
    pair[0].close()

    assert receive_request(pair[1]) is None
