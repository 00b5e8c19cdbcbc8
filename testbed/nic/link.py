"""A NIC's end of the wire as a link: whether the other end is there, up, and alive.

Reference: testbed/spec/wire.py. Each end says in its outgoing segment that it is up and who it is; the link
is up while both are. A process that dies cannot say so, so the other end watches its process descriptor
(pidfd_open(2)), which tells of its end whatever the reason and whoever waits for it. Not modelled:
auto-negotiation, speeds.
"""

import os
import select
from collections.abc import Callable
from typing import Final

from testbed.native import Pinned, SharedWords
from testbed.spec import wire

LOOK_NS: Final = 200_000_000
"""How often the other end is looked at when nothing else happens."""
_LINK, _PID = wire.WIRE.offset("link"), wire.WIRE.offset("sender_pid")


class Peer:
    """The process at the other end: alive until it ends."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._poll = select.poll()
        try:
            self._descriptor = os.pidfd_open(pid)
        except (OSError, OverflowError):  # it has ended already, or there is no such number
            self._descriptor = -1
        else:
            self._poll.register(self._descriptor, select.POLLIN)

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self._descriptor >= 0 and not self._poll.poll(0)

    def close(self) -> None:
        """Stop watching."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Link:
    """The state of the wire, seen from one end.

    changed: called with the new state when it changes.
    """

    def __init__(self, outgoing: Pinned, incoming: Pinned, changed: Callable[[bool], None]) -> None:
        self._ours, self._theirs, self._changed = SharedWords(outgoing), SharedWords(incoming), changed
        self._peer: Peer | None = None
        self.up = False
        self.changes = 0

    def announce(self, up: bool) -> None:
        """Tell the other end about this one."""
        self._ours.store32(_PID, os.getpid())
        # release: who sees the state sees whose it is
        self._ours.store32(_LINK, wire.LINK_UP if up else wire.LINK_DOWN)

    def look(self) -> None:
        """Find out about the other end."""
        up = self._theirs.load32(_LINK) == wire.LINK_UP and self._alive(self._theirs.load32(_PID))
        if up != self.up:
            self.up = up
            self.changes += 1
            self._changed(up)

    def _alive(self, pid: int) -> bool:
        if self._peer is None or self._peer.pid != pid:
            self.close()
            self._peer = Peer(pid)
        return self._peer.alive

    def close(self) -> None:
        """Stop watching the other end."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None
