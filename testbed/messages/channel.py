"""A process's control channel to the launcher: one DEALER socket, msgspec JSON.

Reference: testbed/messages/control.py. A launcher that goes away takes its processes with it, so nothing
here handles its loss.
"""

import msgspec
import zmq

from testbed.messages.control import FromProcess, ToProcess
from testbed.messages.doorbell import control_endpoint, has_message


class ControlChannel:
    """Speaks to the launcher as `name`."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", run_dir: str, name: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.set(zmq.IDENTITY, name.encode())
        self.socket.set(zmq.LINGER, 1000)
        self.socket.connect(control_endpoint(run_dir))
        self._decoder: msgspec.json.Decoder[ToProcess] = msgspec.json.Decoder(ToProcess)

    def send(self, message: FromProcess) -> None:
        """Tell the launcher something."""
        self.socket.send(msgspec.json.encode(message))

    def receive(self) -> ToProcess | None:
        """Return the next message, None where there is none."""
        if not has_message(self.socket):
            return None
        return self._decoder.decode(self.socket.recv(zmq.NOBLOCK))

    def close(self) -> None:
        """Close the socket once what was sent has left."""
        self.socket.close()
