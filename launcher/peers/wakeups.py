"""What a bare ZeroMQ wake-up costs: two processes that sleep, and a message to and fro between them.

PUSH to PULL over ipc, as a doorbell of the testbed has them, and nothing else: a blocking receive, a send.
Run as a program (`python -m launcher.peers.wakeups`) this is the process that answers.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import zmq

from launcher import prctl
from launcher.forkclient import environment
from launcher.rundir import Holder, claim
from testbed.errors import MachineError

ANSWER_MS: Final = 5000
WARM_UP: Final = 50
_NS_PER_SECOND: Final = 1_000_000_000
_NS_PER_US: Final = 1e3


def measure(seconds: float) -> list[float]:
    """Return the microseconds of one-way wake-ups: halves of round trips, in order.

    Raises MachineError when no answer comes.
    """
    holder = Holder(f"bench-wakeups-{os.getpid()}", os.getpid(), "bench", time.time())
    with claim(holder) as directory:
        command = [
            sys.executable,
            "-P",
            "-m",
            "launcher.peers.wakeups",
            str(directory.path),
            str(os.getpid()),
        ]
        answering = subprocess.Popen(command, env=environment())
        try:
            return _ask(directory.path, seconds)
        finally:
            answering.kill()
            answering.wait()


def _sockets(
    context: "zmq.Context[zmq.Socket[bytes]]", directory: Path, inbox: str, outbox: str
) -> tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]:
    receiving, sending = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    sending.set(zmq.LINGER, 0)
    receiving.bind(f"ipc://{directory / inbox}")
    sending.connect(f"ipc://{directory / outbox}")
    return receiving, sending


def _ask(directory: Path, seconds: float) -> list[float]:
    with zmq.Context() as context:
        receiving, sending = _sockets(context, directory, "asker", "answerer")
        with receiving, sending:
            receiving.set(zmq.RCVTIMEO, ANSWER_MS)
            for _ in range(WARM_UP):
                _round_trip_ns(receiving, sending)
            until_ns = time.monotonic_ns() + int(seconds * _NS_PER_SECOND)
            halves = []
            while time.monotonic_ns() < until_ns:
                halves.append(_round_trip_ns(receiving, sending) / 2 / _NS_PER_US)
            return halves


def _round_trip_ns(receiving: "zmq.Socket[bytes]", sending: "zmq.Socket[bytes]") -> int:
    begun_ns = time.monotonic_ns()
    sending.send(b"")
    try:
        receiving.recv()
    except zmq.Again:
        raise MachineError(f"no answer to a bare wake-up within {ANSWER_MS} ms") from None
    return time.monotonic_ns() - begun_ns


def main(arguments: Sequence[str] = ()) -> None:
    """Answer every message until the one who asks ends."""
    directory, parent = arguments or sys.argv[1:]
    prctl.die_with_parent(int(parent))
    with zmq.Context() as context:
        receiving, sending = _sockets(context, Path(directory), "answerer", "asker")
        while True:
            receiving.recv()
            sending.send(b"")


if __name__ == "__main__":
    main()
