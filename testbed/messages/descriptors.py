"""The eventfd form of doorbells, and other descriptors that a loop sleeps on beside its ZeroMQ sockets.

Reference: design, "Doorbells and interrupts" (the eventfd form); eventfd(2), epoll(7). What an eventfd counts
is never read: the ring says what there is, and an edge-triggered look tells of every write, so that no
descriptor of a peer can block its reader. The armed flag of this form is the virtqueue's own event
suppression. Not modelled: descriptors that become writable.
"""

import errno
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Final

from testbed.errors import GuestError

_EVENTFD_LINK: Final = "anon_inode:[eventfd]"
_EVENTS_MAX: Final = 64


class Descriptors:
    """File descriptors and what to do when one has something; `fileno` can be polled for all of them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._actions: dict[int, Callable[[], object]] = {}

    def __len__(self) -> int:
        return len(self._actions)

    def fileno(self) -> int:
        """Return the descriptor that is readable while there is something to serve."""
        return self._epoll.fileno()

    def add(self, descriptor: int, action: Callable[[], object], *, edge: bool = False) -> None:
        """Call `action` whenever there is something to read; `edge`: once for each time that there is more.

        GuestError where the descriptor is of a kind that cannot be waited for.
        """
        try:
            self._epoll.register(descriptor, select.EPOLLIN | (select.EPOLLET if edge else 0))
        except OSError as error:
            raise GuestError(
                "protocol", f"a descriptor that cannot be waited for: {error.strerror}"
            ) from error
        self._actions[descriptor] = action

    def discard(self, descriptor: int) -> None:
        """Look at a descriptor no more; do this before it is closed."""
        if self._actions.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def serve(self) -> bool:
        """Run the action of whatever has something, without blocking; True: there was anything."""
        events = self._epoll.poll(0, _EVENTS_MAX)
        for descriptor, _ in events:
            action = self._actions.get(descriptor)
            if action is not None:  # an action before it may have taken it away
                action()
        return bool(events)

    def close(self) -> None:
        """Look at nothing any more."""
        self._epoll.close()


class EventSignal:
    """An `Edge` that a peer gave as an eventfd: to call a driver, kick a device, tell of an error."""

    def __init__(self, descriptor: int) -> None:
        """Own the descriptor; GuestError, and it is closed, where it is no eventfd."""
        self._descriptor = descriptor
        link = Path(f"/proc/self/fd/{descriptor}")
        if str(link.readlink()) != _EVENTFD_LINK:
            os.close(descriptor)
            raise GuestError("protocol", "a descriptor to be signalled is no eventfd")
        os.set_blocking(descriptor, False)

    def pulse(self) -> None:
        """Signal it; a counter that is full says so already."""
        # Whether a write blocks is a property of the file, which the peer shares and may have changed since,
        # and no write to an eventfd says it for itself (pwritev2 with RWF_NOWAIT is not supported). There
        # remains a peer that fills it and makes it blocking between this call and the next.
        os.set_blocking(self._descriptor, False)
        try:
            os.eventfd_write(self._descriptor, 1)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)
