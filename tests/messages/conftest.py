"""A launcher's socket and a process's inbox, in one context and a directory of their own."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from testbed.messages.channel import ControlChannel
from testbed.messages.control import FromProcess, ToProcess
from testbed.messages.doorbell import Inbox, control_endpoint, inbox_endpoint

ARRIVES_MS = 10_000
"""Only a message that never comes takes so long."""
NAME = "guest-a"


class Wire:
    """The launcher's end of the control channel, and what the process has at the other."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._launcher = self.context.socket(zmq.ROUTER)
        self._launcher.set(zmq.LINGER, 0)
        self._launcher.set(zmq.ROUTER_MANDATORY, 1)
        self._launcher.bind(control_endpoint(run_dir))
        self.endpoint = inbox_endpoint(run_dir, NAME)
        self.inbox = Inbox(self.context, self.endpoint)
        self.control = ControlChannel(self.context, run_dir, NAME)
        self.at_close: list[Callable[[], None]] = []

    def hear(self) -> tuple[str, FromProcess]:
        """Return the next message and who sent it."""
        assert self._launcher.poll(ARRIVES_MS)
        name, data = self._launcher.recv_multipart()
        message: FromProcess = msgspec.json.decode(data, type=FromProcess)
        return name.decode(), message

    def say(self, message: ToProcess, to: str = NAME) -> None:
        """Send a message; one to our own process can be received when this returns."""
        self.say_raw(msgspec.json.encode(message), to)

    def say_raw(self, data: bytes, to: str = NAME) -> None:
        """Send any bytes."""
        self._launcher.send_multipart([to.encode(), data])
        assert to != NAME or self.control.socket.poll(ARRIVES_MS)

    def close(self) -> None:
        for close in self.at_close:
            close()
        self.inbox.close()
        self.control.close()
        self._launcher.close()
        self.context.term()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with tempfile.TemporaryDirectory(prefix="vb-") as directory:
        wire = Wire(str(Path(directory)))
        yield wire
        wire.close()
