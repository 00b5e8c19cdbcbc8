"""Doorbells between processes: a bell in shared memory says what happened, a ZeroMQ message wakes who sleeps.

Reference: design, "Doorbells and interrupts". Each process binds one PULL socket, its inbox; whoever rings it
connects a PUSH socket. A message has no content: the state is in shared memory. Whoever rings counts for
itself what it asked for and sent: a guest may write anything into a bell that it shares. Not modelled: the
eventfd form, for peers that are not ours.
"""

from typing import Final, Protocol

import zmq

from testbed.native import Bell

_QUEUED_MAX: Final = 64
"""Messages that may wait for one consumer; more would say nothing new, so they are not sent."""
_CONNECTING_MAX: Final = 4096
"""Peers that may connect at the same moment: one that finds the queue full tries again only after 100 ms."""


def inbox_endpoint(run_dir: str, process: str) -> str:
    """Return where a process listens for doorbells."""
    return f"ipc://{run_dir}/{process}.bell"


def vcpu_inbox(guest: str, number: int) -> str:
    """Return the name under which vCPU `number` of a guest listens: the first has its process's own."""
    return f"{guest}.vcpu{number}" if number else guest


def control_endpoint(run_dir: str) -> str:
    """Return where the launcher listens for control messages."""
    return f"ipc://{run_dir}/control"


class Ringer(Protocol):
    """The producer's side of a doorbell, however its message travels."""

    asked: int
    """How often it was rung."""
    sent: int
    """How often that took a message."""

    def ring(self) -> None:
        """Tell the other side that something happened."""
        ...


def has_message(socket: "zmq.Socket[bytes]") -> bool:
    """Say whether a message can be received; costs less than the exception of a failed receive."""
    return bool(int(socket.get(zmq.EVENTS)) & zmq.POLLIN)


class Doorbell:
    """The producer's side over ZeroMQ: rings a bell and sends a message only where the consumer sleeps."""

    def __init__(self, bell: Bell, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str) -> None:
        self._bell = bell
        self.asked = self.sent = 0
        self._socket = context.socket(zmq.PUSH)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.SNDHWM, _QUEUED_MAX)
        self._socket.connect(endpoint)

    def ring(self) -> None:
        """Tell the other side that something happened."""
        self.asked += 1
        if self._bell.ring():
            self.wake()

    def wake(self) -> None:
        """Send the message that a bell has been found to ask for by whoever rang it natively."""
        self.sent += 1
        try:
            self._socket.send(b"", zmq.NOBLOCK)
        except zmq.Again:  # its queue is full of messages that say the same
            return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Inbox:
    """The consumer's side: the socket on which a process sleeps."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str) -> None:
        self.socket = context.socket(zmq.PULL)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.BACKLOG, _CONNECTING_MAX)
        self.socket.bind(endpoint)

    def drain(self) -> int:
        """Take every message that is there; return how many, at most what one peer may queue."""
        taken = 0
        while taken < _QUEUED_MAX and has_message(self.socket):
            self.socket.recv(zmq.NOBLOCK)
            taken += 1
        return taken

    def close(self) -> None:
        """Close the socket; its file goes with it."""
        self.socket.close()
