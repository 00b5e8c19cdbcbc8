"""The launcher's side of the fork server: starts it, asks for processes, hears of deaths.

The socket never blocks the event loop. Requests may be sent one after another without waiting for answers,
which come in the same order. Not modelled: a second fork server for one topology.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from launcher.fork_protocol import (
    PACKET_BYTES,
    Exited,
    FromServer,
    Packet,
    ServerOrder,
    Spawned,
    SpawnFailed,
    hold_packets,
    send,
    signal_packet,
    spawn_packets,
)
from launcher.rundir import RunDirectory

ROLES: Final[Mapping[str, str]] = {
    "vmm": "testbed.vmm.process:main",
    "guest": "testbed.guest.process:main",
    "iommu": "testbed.iommu.process:main",
    "nic": "testbed.nic.process:main",
}
PRELOADED: Final = frozenset({"guest"})
"""Roles of which a topology may have hundreds of processes."""
PRELOADED_FROM: Final = 2
"""Of the other roles, so many processes import faster together than each for itself."""
LOG_NAME: Final = "forkserver.log"
LEAVE_SECONDS: Final = 2.0
_decode: Final[Callable[[bytes], FromServer]] = msgspec.json.Decoder(FromServer).decode


def preloaded_roles(roles: Iterable[str], processes: Mapping[str, int]) -> tuple[str, ...]:
    """Return the roles that the fork server imports once for all. Pure."""
    return tuple(role for role in roles if role in PRELOADED or processes.get(role, 0) >= PRELOADED_FROM)


def environment() -> dict[str, str]:
    """Return the environment of the fork server.

    No thread pools behind numpy, and our packages importable from anywhere.
    """
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return {**os.environ, **one_thread, "PYTHONPATH": path}


class Listener(Protocol):
    """Who hears of processes; called from the event loop."""

    def spawned(self, name: str, pid: int) -> None:
        """The process asked for under `name` runs."""

    def refused(self, name: str, reason: str) -> None:
        """The system cannot make it."""

    def exited(self, exited: Exited) -> None:
        """A process is gone and has been reaped; told once for each, after `spawned`."""

    def server_gone(self) -> None:
        """The fork server is gone, and its children with it."""


class ForkServer:
    """A running fork server, used from one event loop."""

    def __init__(
        self,
        directory: RunDirectory,
        listener: Listener,
        roles: Mapping[str, str] = ROLES,
        processes: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Start it; it imports while the caller goes on. `processes`: how many of a role there will be."""
        self._listener = listener
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.setblocking(False)
        preloaded = preloaded_roles(roles, processes)
        order = ServerOrder(theirs.fileno(), str(directory.path), dict(roles), preloaded)
        with theirs, (directory.path / LOG_NAME).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "launcher.forkserver", msgspec.json.encode(order)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(theirs.fileno(), directory.lock),
                env=environment(),
            )
        self._unanswered: deque[str] = deque()
        self._outgoing: deque[Packet] = deque()
        self._flushed = asyncio.Event()
        self._gone = False
        asyncio.get_running_loop().add_reader(self._connection, self._receive)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    async def spawn(self, name: str, plan: bytes, descriptors: Sequence[int]) -> None:
        """Ask for a process; the descriptors may be closed on return, the listener hears of it later."""
        self._unanswered.append(name)
        self._outgoing.extend(spawn_packets(plan, descriptors))
        self._flush()
        await self._flushed.wait()

    async def hold(self, namespaces: Sequence[int]) -> None:
        """Have the server hold network namespaces as long as it lives; they may be closed on return."""
        self._outgoing.extend(hold_packets(namespaces))
        self._flush()
        await self._flushed.wait()

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process of this server; nothing happens when it is gone."""
        self._outgoing.append(signal_packet(pid, number))
        self._flush()

    def _flush(self) -> None:
        """Send what can be sent; the rest when the socket takes more."""
        loop = asyncio.get_running_loop()
        while self._outgoing and not self._gone:
            try:
                send(self._connection, self._outgoing[0])
            except BlockingIOError:
                self._flushed.clear()
                loop.add_writer(self._connection, self._flush)
                return
            except ConnectionError:
                self._lose()
                return
            self._outgoing.popleft()
        loop.remove_writer(self._connection)
        self._flushed.set()

    def _receive(self) -> None:
        while not self._gone:
            try:
                data = self._connection.recv(PACKET_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:
                self._lose()
                return
            self._handle(_decode(data))

    def _handle(self, message: FromServer) -> None:
        match message:
            case Exited():
                self._listener.exited(message)
            case Spawned(pid):
                self._listener.spawned(self._unanswered.popleft(), pid)
            case SpawnFailed(reason):
                self._listener.refused(self._unanswered.popleft(), reason)

    def _lose(self) -> None:
        if not self._gone:
            self._detach()
            self._listener.server_gone()

    def _detach(self) -> None:
        self._gone = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._connection)
        loop.remove_writer(self._connection)
        self._flushed.set()

    def close(self) -> int:
        """Close the socket, upon which the server ends all its children and the run directory.

        Return its exit status.
        """
        if not self._gone:
            self._detach()
        self._connection.close()
        try:
            return self._process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            # Its children die with it.
            self._process.kill()
            return self._process.wait()
