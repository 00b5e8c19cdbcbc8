"""A process's control channel to the launcher: one DEALER socket, msgspec JSON.

Reference: testbed/messages/control.py. A launcher that goes away takes its processes with it, so nothing
here handles its loss.
"""

import msgspec
import zmq

from testbed.messages.control import FromProcess, ToProcess
from testbed.messages.doorbell import control_endpoint
from testbed.messages.zeromq import message_socket
from testbed.native import Sleeper


class ControlChannel:
    """Speaks to the launcher as `name`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", run_dir: str, name: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.set(zmq.IDENTITY, name.encode())
        self.socket.set(zmq.LINGER, 1000)
        self.socket.connect(control_endpoint(run_dir))
        self._messages = message_socket(self.socket)
        self._decoder: msgspec.json.Decoder[ToProcess] = msgspec.json.Decoder(ToProcess)

    def send(self, message: FromProcess) -> None:
        """Tell the launcher something."""
        self.socket.send(msgspec.json.encode(message))

    def receive(self) -> ToProcess | None:
        """Return the next message, None where there is none."""
        if not self._messages.readable:
            return None
        return self._decoder.decode(self.socket.recv(zmq.NOBLOCK))

    def listen(self, sleeper: Sleeper) -> None:
        """Have whoever sleeps there wake for messages."""
        sleeper.add_socket(self._messages)

    def close(self) -> None:
        """Close the socket once what was sent has left."""
        self._messages.close()
        self.socket.close()
