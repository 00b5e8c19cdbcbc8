"""Between the threads of a process: calls that one thread asks another's loop to make, and the order to stop.

Reference: eventfd(2). A loop looks at both as it looks at what comes from outside: a descriptor wakes it.
Nothing here is on a data path. Not modelled: answers; whoever wants one has a call made back.
"""

import os
import threading
from collections import deque
from collections.abc import Callable

from testbed.messages.control import Stop, ToProcess
from testbed.messages.descriptors import Descriptors
from testbed.native import Sleeper


class Calls:
    """Runs what other threads ask for on the thread whose loop looks at `descriptors`.

    A call may come while that thread waits for an answer: it must not wait itself.
    """

    def __init__(self, descriptors: Descriptors) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._descriptors = descriptors
        descriptors.add(self._descriptor, self._run, edge=True)

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` made; from any thread."""
        self._calls.append(call)
        os.eventfd_write(self._descriptor, 1)

    def _run(self) -> None:
        while self._calls:
            self._calls.popleft()()

    def close(self) -> None:
        """Make no more calls; whoever posts has ended."""
        self._descriptors.discard(self._descriptor)
        os.close(self._descriptor)


class StopOrder:
    """The control channel of a further thread: it says stop, once."""

    def __init__(self) -> None:
        self.socket = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._given = threading.Event()

    def give(self) -> None:
        """Have the thread's loop end; from any thread."""
        self._given.set()
        os.eventfd_write(self.socket, 1)

    def listen(self, sleeper: Sleeper) -> None:
        """Have whoever sleeps there wake for the order."""
        sleeper.add_file(self.socket)

    def receive(self) -> ToProcess | None:
        """Return Stop where it was ordered."""
        return Stop() if self._given.is_set() else None

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.socket)
