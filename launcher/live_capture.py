"""`virtbed capture`: frames of a NIC of a running topology, to a file, as lines, or as pcapng to a pipe.

To a file the vmm writes itself, and nothing is missed. Lines and standard output go through a pipe that the
vmm never waits for: what we are too slow for is missed and counted. Ctrl-C ends the capture, not the
topology; a second one ends waiting for its last words. Not modelled: several NICs at a time.
"""

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Self

import msgspec

from launcher import rundir
from launcher.capture_session import Capture, Captured, Capturing, NotCaptured
from launcher.frame_line import BlockReader, frame_line
from launcher.output import STDOUT
from launcher.service import SOCKET_NAME
from testbed.errors import ConfigError, MachineError
from testbed.net.interpose.filter import compile_filter

PIPE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 16
_Answer = Capturing | Captured | NotCaptured
_decode: Final[Callable[[bytes], _Answer]] = msgspec.json.Decoder(_Answer).decode
_SET_PIPE_SIZE: Final = 1031
"""F_SETPIPE_SZ of fcntl(2)."""


class Asked:
    """A capture that was asked for; it lasts until `stop`, its count, or the topology's end."""

    def __init__(self, topology: str, request: Capture) -> None:
        """Ask for it and return once it has begun. Raises ConfigError where it is refused."""
        rundir.find(topology)
        self._topology, self._received = topology, b""
        self._connection = socket.socket(socket.AF_UNIX)
        try:
            self.nic = self._ask(request)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def stop(self) -> None:
        """Say that the capture is no longer wanted."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def result(self) -> Captured:
        """Wait for its end and return what it has. Raises MachineError where the topology is gone first."""
        reply = self._reply()
        if isinstance(reply, NotCaptured):
            raise MachineError(f"topology {self._topology} ended during the capture: {reply.problem}")
        assert isinstance(reply, Captured)
        return reply

    def _ask(self, request: Capture) -> str:
        """Ask and return whose frames are captured from now on."""
        try:
            self._connection.connect(str(rundir.path_of(self._topology) / SOCKET_NAME))
            self._connection.sendall(msgspec.json.encode(request) + b"\n")
        except (FileNotFoundError, ConnectionError):
            what = f"topology {self._topology} does not answer"
            raise MachineError(f"{what}: it is starting or ending; try again") from None
        reply = self._reply()
        if isinstance(reply, NotCaptured):
            raise ConfigError(reply.problem)
        assert isinstance(reply, Capturing)
        return reply.nic

    def _reply(self) -> _Answer:
        while b"\n" not in self._received:
            piece = self._connection.recv(_READ_BYTES)
            if not piece:
                raise MachineError(f"topology {self._topology} ended during the capture")
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        return _decode(line)


def check_filter(expression: str) -> None:
    """Raise ConfigError where an expression does not compile."""
    try:
        if expression:
            compile_filter(expression)
    except ConfigError as error:
        raise ConfigError(f"--filter: {error.problems[0]}: {expression}") from None


def capture_to_file(topology: str, request: Capture) -> Captured:
    """Capture to `request.file` until Ctrl-C, the count or the topology's end."""
    with Asked(topology, request) as asked:
        try:
            _note(f"capturing {asked.nic} to {request.file}; end with Ctrl-C")  # which may come at once
            return asked.result()
        except KeyboardInterrupt:
            asked.stop()
            return asked.result()


def capture_to_pipe(topology: str, request: Capture, take: Callable[[bytes], None]) -> Captured:
    """Capture and hand every piece of pcapng to `take`, until Ctrl-C, the count or the topology's end."""
    with _pipe() as (path, reader):
        request = msgspec.structs.replace(request, file=path)
        with Asked(topology, request) as asked:
            os.set_blocking(reader, True)
            try:
                _note(f"capturing {asked.nic}; end with Ctrl-C")
                _drain(reader, take)
            except KeyboardInterrupt:
                asked.stop()
                _drain(reader, take)
            except BrokenPipeError:
                asked.stop()
                raise
            return asked.result()


def print_lines(piece_reader: BlockReader) -> Callable[[bytes], None]:
    """Return what prints a line a frame."""

    def take(piece: bytes) -> None:
        for frame in piece_reader.feed(piece):
            sys.stdout.write(frame_line(frame) + "\n")
        sys.stdout.flush()

    return take


def write_through(piece: bytes) -> None:
    """Write pcapng to standard output, for a program that reads it there."""
    sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def run_capture(topology: str, nic: str, file: str, count: int, expression: str) -> Captured:
    """Do what the command says and return what was captured."""
    check_filter(expression)
    where = "" if file in ("", STDOUT) else str(Path(file).absolute())
    request = Capture(nic=nic, file=where, expression=expression, count=count)
    if where:
        return capture_to_file(topology, request)
    return capture_to_pipe(topology, request, write_through if file else print_lines(BlockReader()))


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[str, int]]:
    """Make a named pipe that only this user can open; yield its path and the end to read from."""
    import fcntl

    with tempfile.TemporaryDirectory(prefix="virtbed-capture-") as directory:
        path = str(Path(directory) / "frames")
        os.mkfifo(path, 0o600)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with contextlib.suppress(PermissionError):
                fcntl.fcntl(reader, _SET_PIPE_SIZE, PIPE_BYTES)
            yield path, reader
        finally:
            os.close(reader)


def _drain(reader: int, take: Callable[[bytes], None]) -> None:
    while piece := os.read(reader, _READ_BYTES):
        take(piece)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
