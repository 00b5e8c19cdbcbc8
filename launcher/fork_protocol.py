"""What the launcher and its fork server say to each other, and how descriptors travel with it.

Reference: unix(7), SOCK_SEQPACKET and SCM_RIGHTS (at most 253 descriptors a packet, hence the train of
packets). To the server: a fixed header (`SPAWN`, `SIGNAL`, `HOLD`), for a spawn the process's plan and
descriptors in as many packets as they need, for namespaces to hold just the descriptors. From the server: one
JSON packet for every process that was born or has died. Requests are answered in the order in which they were
sent.
"""

import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

SPAWN: Final = b"S"
SIGNAL: Final = b"K"
HOLD: Final = b"H"
_HEADER: Final = struct.Struct("<cII")
"""Request, then (plan bytes, descriptors), (pid, signal) or (0, descriptors)."""
PACKET_BYTES: Final = 64 * 1024
DESCRIPTORS_PER_PACKET: Final = 200
LOG_SUFFIX: Final = ".log"
"""A process's output is in `NAME.log` of the run directory."""


class ServerOrder(msgspec.Struct, frozen=True):
    """What the fork server is told when it is started (JSON, its only argument)."""

    socket: int
    """Its end of the socket, inherited."""
    run_dir: str
    roles: dict[str, str]
    """`module:function` of the main of each role."""
    preloaded: tuple[str, ...]
    """The roles whose modules the server imports, so that their processes share them."""


class Spawned(msgspec.Struct, frozen=True, tag=True):
    """The next process asked for runs."""

    pid: int


class SpawnFailed(msgspec.Struct, frozen=True, tag=True):
    """The next process asked for could not be made."""

    reason: str


class Exited(msgspec.Struct, frozen=True, tag=True):
    """A process is gone and has been reaped. `signal` is 0 for one that exited by itself."""

    pid: int
    code: int
    signal: int
    cpu_seconds: float


FromServer = Spawned | SpawnFailed | Exited


class Packet(msgspec.Struct, frozen=True):
    """One SOCK_SEQPACKET message: bytes, and the descriptors that go with them."""

    data: bytes
    descriptors: tuple[int, ...] = ()


class SpawnRequest(msgspec.Struct, frozen=True):
    """A process to make.

    Its plan (msgspec JSON of `ProcessPlan`) and its descriptors in the order of `ProcessPlan.segments`,
    then of `ProcessPlan.files`.
    """

    plan: bytes
    descriptors: tuple[int, ...]


class SignalRequest(msgspec.Struct, frozen=True):
    """A signal for one of the server's children; nothing happens when it is gone."""

    pid: int
    signal: int


class HoldRequest(msgspec.Struct, frozen=True):
    """Network namespaces to hold as long as the server lives, and to empty at its end."""

    descriptors: tuple[int, ...]


def spawn_packets(plan: bytes, descriptors: Sequence[int]) -> Iterator[Packet]:
    """Yield the packets that ask for one process; an ordinary guest needs one."""
    room = PACKET_BYTES - _HEADER.size
    first = tuple(descriptors[:DESCRIPTORS_PER_PACKET])
    yield Packet(_HEADER.pack(SPAWN, len(plan), len(descriptors)) + plan[:room], first)
    plan, descriptors = plan[room:], descriptors[DESCRIPTORS_PER_PACKET:]
    while plan or descriptors:
        # A packet of no bytes would read as the end of the connection.
        yield Packet(plan[:PACKET_BYTES] or b"\0", tuple(descriptors[:DESCRIPTORS_PER_PACKET]))
        plan, descriptors = plan[PACKET_BYTES:], descriptors[DESCRIPTORS_PER_PACKET:]


def signal_packet(pid: int, number: int) -> Packet:
    """Return the packet that has the server send a signal to its child."""
    return Packet(_HEADER.pack(SIGNAL, pid, number))


def hold_packets(descriptors: Sequence[int]) -> Iterator[Packet]:
    """Yield the packets that give the server network namespaces to hold."""
    for first in range(0, len(descriptors), DESCRIPTORS_PER_PACKET):
        part = tuple(descriptors[first : first + DESCRIPTORS_PER_PACKET])
        yield Packet(_HEADER.pack(HOLD, 0, len(part)), part)


def send(connection: socket.socket, packet: Packet) -> None:
    """Send one packet with its descriptors (BlockingIOError when the socket is full and does not block)."""
    if packet.descriptors:
        socket.send_fds(connection, [packet.data], packet.descriptors)
    else:
        connection.send(packet.data)


def _receive(connection: socket.socket) -> Packet:
    data, descriptors, _flags, _address = socket.recv_fds(
        connection, PACKET_BYTES, DESCRIPTORS_PER_PACKET, socket.MSG_CMSG_CLOEXEC
    )
    return Packet(data, tuple(descriptors))


def receive_request(connection: socket.socket) -> SpawnRequest | SignalRequest | HoldRequest | None:
    """Return the launcher's next request, all its packets together; None when the launcher is gone."""
    packet = _receive(connection)
    if not packet.data:
        return None
    kind, first, second = _HEADER.unpack_from(packet.data)
    if kind == SIGNAL:
        return SignalRequest(first, second)
    if kind == HOLD:
        return HoldRequest(packet.descriptors)
    plan, descriptors = packet.data[_HEADER.size :], list(packet.descriptors)
    while len(plan) < first or len(descriptors) < second:
        packet = _receive(connection)
        if not packet.data:
            return None
        plan += packet.data
        descriptors += packet.descriptors
    return SpawnRequest(plan[:first], tuple(descriptors))
