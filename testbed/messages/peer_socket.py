"""Unix sockets towards programs that are not ours: bytes with file descriptors, in either role.

Reference: unix(7), SCM_RIGHTS. Nothing here blocks but `exchange`, which a driver uses while it comes up. A
peer that does not take what it is sent is gone. Not modelled: credentials.
"""

import errno
import os
import select
import socket
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from testbed.errors import GuestError, MachineError, PeerGone
from testbed.messages.patience import awaited
from testbed.spec.vhost_user import DESCRIPTORS_MAX

PATH_BYTES_MAX: Final = 107
"""unix(7): sun_path has 108 bytes with the zero at its end."""
_NOBODY_CAME: Final = frozenset({errno.EAGAIN, errno.ECONNABORTED, errno.EINTR})
_NOBODY_LISTENS: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN})


class PeerSocket:
    """One connection; whoever reads says how many bytes it wants next."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def receive(self, size_bytes: int) -> tuple[bytes, list[int]]:
        """Return at most `size_bytes` and the descriptors that came with them, or nothing.

        Raises PeerGone at the end, GuestError where more descriptors came than any message has.
        """
        space = socket.CMSG_SPACE(4 * DESCRIPTORS_MAX)
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(size_bytes, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return b"", []
        except OSError as error:
            raise PeerGone(f"the peer's socket: {error.strerror}") from error
        descriptors = _descriptors(ancillary)
        if flags & socket.MSG_CTRUNC:
            close_all(descriptors)
            raise GuestError("protocol", f"more than {DESCRIPTORS_MAX} descriptors with one message")
        if not data:
            close_all(descriptors)
            raise PeerGone("the peer closed its socket")
        return data, descriptors

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message whole. Raises PeerGone where the peer is gone or takes nothing."""
        try:
            sent = socket.send_fds(self._socket, [data], list(descriptors))
        except OSError as error:
            raise PeerGone(f"the peer does not take what it is sent: {error.strerror}") from error
        if sent != len(data):
            raise PeerGone(f"the peer took {sent} of {len(data)} bytes")

    def wait(self, seconds: float) -> bool:
        """Block until there is something to read; False: not within that time."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Listener:
    """A socket file on which one peer after another connects."""

    def __init__(self, path: str) -> None:
        """Make the file; one that a dead process left is replaced. Raises MachineError where it cannot be."""
        self.path = path
        remove_stale(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind(path)
            self._socket.listen(1)
        except OSError as error:
            self._socket.close()
            raise MachineError(f"a socket at {path} cannot be made: {error.strerror}") from error

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def accept(self) -> PeerSocket | None:
        """Return the next connection, None while there is none.

        Raises MachineError where there is one that this process cannot have: it keeps waiting at the socket.
        """
        try:
            return PeerSocket(self._socket.accept()[0])
        except OSError as error:
            if error.errno in _NOBODY_CAME:
                return None
            raise MachineError(f"a connection at {self.path} cannot be taken: {error.strerror}") from error

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._socket.close()
        Path(self.path).unlink(missing_ok=True)


def connect(path: str) -> PeerSocket | None:
    """Connect to a peer that listens; None where nobody does (now). Raises MachineError where it must not."""
    with ExitStack() as undo:
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            undo.callback(connection.close)
            connection.connect(path)
        except OSError as error:
            if error.errno in _NOBODY_LISTENS:
                return None
            raise MachineError(f"there is no connection to {path}: {error.strerror}") from error
        undo.pop_all()
    return PeerSocket(connection)


def connect_within(path: str, seconds: float, pause: Callable[[float], object] = time.sleep) -> PeerSocket:
    """Connect to a peer, waiting for it to listen. Raises MachineError where it does not within that time,
    and what `pause` raises, which lets so many seconds pass.
    """
    connection = awaited(lambda: connect(path), seconds, pause)
    if connection is None:
        raise MachineError(f"nobody listens at {path} within {seconds:g} s: start the back end first")
    return connection


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that nobody keeps."""
    for descriptor in descriptors:
        os.close(descriptor)


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(data) - len(data) % 4
            found += [int.from_bytes(data[i : i + 4], "little") for i in range(0, whole, 4)]
    return found


def remove_stale(path: str) -> None:
    """Remove a socket file on which nobody listens. Raises MachineError for a path that is too long."""
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise MachineError(
            f"a socket's path has at most {PATH_BYTES_MAX} bytes, not {path}: choose a shorter one"
        )
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return
    except OSError:
        return
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with probe:
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            Path(path).unlink(missing_ok=True)
