"""The launcher's control socket: one ZeroMQ ROUTER to which every process of the topology connects.

A peer's identity is its process's name. What a process sends is not trusted: anything but a control message
is told to the owner of the channel, who ends the sender. Reference: zmq_socket(3), ROUTER;
`testbed.messages.control`. Not modelled: authentication, since the run directory is this user's alone.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import zmq
import zmq.asyncio

from testbed.messages.control import FromProcess, ToProcess

ENDPOINT_NAME: Final = "control"
BACKLOG: Final = 4096
"""Hundreds of guests connect at once, and one that finds the queue full tries again only after 100 ms."""
_decode: Final[Callable[[bytes], FromProcess]] = msgspec.json.Decoder(FromProcess).decode
_encode: Final = msgspec.json.Encoder().encode


class Channel:
    """Messages to and from processes, by name.

    `on_message` and `on_nonsense` are called from the event loop.
    """

    def __init__(
        self,
        run_dir: Path,
        on_message: Callable[[str, FromProcess], None],
        on_nonsense: Callable[[str, str], None],
    ) -> None:
        self._on_message = on_message
        self._on_nonsense = on_nonsense
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDHWM, 0)
        self._socket.set(zmq.RCVHWM, 0)
        self._socket.set(zmq.ROUTER_MANDATORY, 1)
        # a process that is started again has the name of the one before it
        self._socket.set(zmq.ROUTER_HANDOVER, 1)
        self._socket.set(zmq.BACKLOG, BACKLOG)
        self._socket.bind(f"ipc://{run_dir / ENDPOINT_NAME}")
        self._task = asyncio.get_running_loop().create_task(self._receive())

    async def send(self, name: str, message: ToProcess) -> bool:
        """Send a message; return False when no such process is connected."""
        try:
            await self._socket.send_multipart((name.encode(), _encode(message)))
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    async def _receive(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            name = frames[0].decode(errors="replace")
            try:
                message = _decode(frames[-1])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._on_nonsense(name, str(error))
            else:
                self._on_message(name, message)

    async def close(self) -> None:
        """Stop receiving and close the socket."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._context.destroy(linger=0)
