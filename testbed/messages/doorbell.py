"""Doorbells between processes: a bell in shared memory says what happened, a ZeroMQ message wakes who sleeps.

Reference: design, "Doorbells and interrupts". Each process binds one PULL socket, its inbox; whoever rings it
connects a PUSH socket. A message has no content: the state is in shared memory. Whoever rings counts for
itself what it asked for and sent: a guest may write anything into a bell that it shares. Not modelled: the
eventfd form, for peers that are not ours.
"""

from typing import Final, Protocol

import zmq

from testbed.messages.zeromq import message_socket
from testbed.native import Bell, BellRinger
from testbed.observe.trace import process_number

_QUEUED_MAX: Final = 64
"""Messages that may wait for one consumer; more would say nothing new, so they are not sent."""
_CONNECTING_MAX: Final = 4096
"""Peers that may connect at the same moment; one that finds the queue full tries again later."""
_CONNECT_MIN_MS: Final = 1
_CONNECT_MAX_MS: Final = 100
"""How soon it is tried again to connect, each time after twice as long: whoever is rung may not have bound
its inbox yet, and the message that is to wake it waits for the connection.
"""


def inbox_endpoint(run_dir: str, process: str) -> str:
    """Return where a process listens for doorbells."""
    return f"ipc://{run_dir}/{process}.bell"


def _listener(endpoint: str) -> str:
    """Return who listens there."""
    return endpoint.rpartition("/")[2].removesuffix(".bell")


def vcpu_inbox(guest: str, number: int) -> str:
    """Return the name under which vCPU `number` of a guest listens: the first has its process's own."""
    return f"{guest}.vcpu{number}" if number else guest


def control_endpoint(run_dir: str) -> str:
    """Return where the launcher listens for control messages."""
    return f"ipc://{run_dir}/control"


class Ringer(Protocol):
    """The producer's side of a doorbell, however its message travels."""

    @property
    def asked(self) -> int:
        """How often it was rung."""
        ...

    @property
    def sent(self) -> int:
        """How often that took a message."""
        ...

    def ring(self) -> None:
        """Tell the other side that something happened."""
        ...


class Doorbell(BellRinger):
    """The producer's side over ZeroMQ: rings a bell and sends a message only where the consumer sleeps.

    Ringing is native from end to end: whoever waits for it waits for every step of the way.
    """

    def __init__(self, bell: Bell, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str) -> None:
        self._socket = context.socket(zmq.PUSH)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDHWM, _QUEUED_MAX)
        self._socket.set(zmq.RECONNECT_IVL, _CONNECT_MIN_MS)
        self._socket.set(zmq.RECONNECT_IVL_MAX, _CONNECT_MAX_MS)
        self._socket.connect(endpoint)
        self._messages = message_socket(self._socket)
        super().__init__(bell, self._messages)
        self.who = process_number(_listener(endpoint))

    def close(self) -> None:
        """Close the socket."""
        self._messages.close()
        self._socket.close()


class Inbox:
    """The consumer's side: the socket on which a process sleeps."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str) -> None:
        self.socket = context.socket(zmq.PULL)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.BACKLOG, _CONNECTING_MAX)
        self.socket.bind(endpoint)
        self.messages = message_socket(self.socket)

    def drain(self) -> int:
        """Take every message that is there; return how many, at most what one peer may queue."""
        return self.messages.drain(_QUEUED_MAX)

    def close(self) -> None:
        """Close the socket; its file goes with it."""
        self.messages.close()
        self.socket.close()
