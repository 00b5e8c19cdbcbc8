"""A guest that is not ours: whatever connects as a vhost-user front end gets a port of the host's back ends.

Reference: "Vhost-user Protocol", Communication, Ring states. In either role: it listens for one front end
after another, or connects to one that listens and tries again while there is none. A front end that goes or
breaks a rule is let go of; its port stays, and whoever comes next has it. Not modelled: several front ends at
a time on one socket.
"""

import time
from collections.abc import Callable
from typing import Final

from testbed.deadline import earliest
from testbed.errors import GuestError, MachineError, PeerGone
from testbed.messages.descriptors import Descriptors, EventSignal
from testbed.messages.peer_socket import Listener, PeerSocket, close_all, connect
from testbed.native import Pinned
from testbed.virtio.device import FaultSink
from testbed.virtio.vhost_user.message import Assembler
from testbed.virtio.vhost_user.net import VhostUserNet
from testbed.virtio.vhost_user.session import OwnedEdge, Session

RETRY_NS: Final = 50_000_000
"""How long to wait before connecting again, or listening where the machine had nothing for a connection."""
POLL_NS: Final = 1_000_000
"""How often to look at rings whose front end gave no descriptor to kick with."""
_READS_MAX: Final = 128
"""Pieces of messages taken in one go: a front end that never stops talking stops nobody else."""


class _Kicks:
    """Descriptors of front ends that wake the loop; what there is to do is seen in the rings."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors

    def add(self, descriptor: int) -> None:
        """Wake up for this one."""
        self._descriptors.add(descriptor, _nothing, edge=True)

    def discard(self, descriptor: int) -> None:
        """Forget it."""
        self._descriptors.discard(descriptor)


class ExternalGuest:
    """One socket and the device behind it."""

    def __init__(
        self,
        device: VhostUserNet,
        descriptors: Descriptors,
        path: str,
        listens: bool,
        report: FaultSink,
        journal: Pinned | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Listen or begin to connect. Raises MachineError where the socket cannot be made.

        report: told of connections that later do not come about for want of something of this machine's.
        """
        self.device, self.path = device, path
        self._descriptors, self._kicks, self._journal = descriptors, _Kicks(descriptors), journal
        self._clock, self._retry_ns, self._report = clock, clock(), report
        self._deaf = False
        """Nobody looks at the listener, which would be ready again and again."""
        self._peer: PeerSocket | None = None
        self._session: Session | None = None
        self._assembler = Assembler()
        self._listener = Listener(path) if listens else None
        if self._listener is not None:
            descriptors.add(self._listener.fileno(), self._accept)
        else:
            self._try_again()

    @property
    def connected(self) -> bool:
        """A front end is there."""
        return self._peer is not None

    def tick(self) -> None:
        """Connect where it is time to; let go of a front end whose memory is gone."""
        if self._session is not None and self._session.lost:
            self._refuse(GuestError("protocol", "the front end cut short a file that it shares"))
        if self._waits and self._clock() >= self._retry_ns:
            try:
                self._try_again()
            except MachineError as error:
                self._report("socket", str(error))

    @property
    def _waits(self) -> bool:
        """There is something to try again after a time."""
        return self._deaf or (self._listener is None and self._peer is None)

    def _try_again(self) -> None:
        self._retry_ns = self._clock() + RETRY_NS
        if self._listener is not None:
            self._deaf = False
            self._descriptors.add(self._listener.fileno(), self._accept)
            return
        peer = connect(self.path)
        if peer is not None:
            self._begin(peer)

    def deadline_ns(self) -> int | None:
        """Return when to look again though nothing wakes us, or None."""
        polls = self._session is not None and self._session.polls
        return earliest((self._clock() + POLL_NS if polls else None, self._retry_ns if self._waits else None))

    def close(self) -> None:
        """Let go of the front end and stop listening."""
        self._let_go()
        if self._listener is not None:
            self._descriptors.discard(self._listener.fileno())
            self._listener.close()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            peer = self._listener.accept()
        except MachineError as error:
            self._report("socket", str(error))
            self._descriptors.discard(self._listener.fileno())
            self._deaf, self._retry_ns = True, self._clock() + RETRY_NS
            return
        if peer is None:
            return
        if self._peer is None:
            self._begin(peer)
        else:
            peer.close()
            self.device.count_fault("protocol", "a second front end at a socket that has one")

    def _begin(self, peer: PeerSocket) -> None:
        self._peer = peer
        self._session = Session(self.device, self._kicks, _signal, self._journal)
        self._descriptors.add(peer.fileno(), self._serve)

    def _serve(self) -> None:
        try:
            for _ in range(_READS_MAX):
                if not self._take_piece():
                    return
        except PeerGone:
            self._let_go()
        except GuestError as error:
            self._refuse(error)

    def _take_piece(self) -> bool:
        """Read what completes a message, or a part of it; False: there is nothing now."""
        peer, session = self._peer, self._session
        if peer is None or session is None:
            return False
        data, descriptors = peer.receive(self._assembler.wanted_bytes)
        if not data:
            return False
        message = self._assembler.feed(data, descriptors)
        answer = session.handle(message) if message is not None else None
        if answer is not None:
            try:
                peer.send(answer.data, answer.descriptors)
            finally:
                close_all(answer.descriptors)
        return True

    def _refuse(self, error: GuestError) -> None:
        self.device.count_fault(error.reason, error.detail)
        self._let_go()

    def _let_go(self) -> None:
        """End the session: its rings stop, its memory is given back."""
        close_all(self._assembler.abandon())
        if self._peer is not None:
            self._descriptors.discard(self._peer.fileno())
            self._peer.close()
            self._peer = None
        if self._session is not None:
            self._session.close()
            self._session = None
        self._retry_ns = self._clock() + RETRY_NS


def _signal(descriptor: int) -> OwnedEdge:
    signal = EventSignal(descriptor)
    return OwnedEdge(signal, signal.close)


def _nothing() -> None:
    """A kick says only that the loop is to look at its rings."""
