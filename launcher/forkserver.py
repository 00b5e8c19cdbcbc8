"""The fork server: parent and janitor of every process of one topology.

Run as `python -m launcher.forkserver`, started by the launcher with one end of a socket pair. It imports what
the processes need once, so that a process is a fork and nothing more and shares these pages; it reports every
death at once; and when the launcher's end of the socket closes, however the launcher ended, it kills and
reaps its children, removes the run directory and exits. Its own session keeps a terminal's Ctrl-C from it;
its children die with it (PR_SET_PDEATHSIG). The lock of the run directory is inherited, so it is free only
when nothing is left.

Reference: fork(2), unix(7), prctl(2). Not modelled: restarting a process.
"""

import argparse
import contextlib
import faulthandler
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from launcher import prctl, rundir
from launcher.fork_protocol import (
    LOG_SUFFIX,
    PACKET_BYTES,
    Exited,
    FromServer,
    SignalRequest,
    Spawned,
    SpawnFailed,
    SpawnRequest,
    receive_request,
)
from testbed.messages.entries import ProcessPlan

Main = Callable[[ProcessPlan, dict[str, int], str], None]
_STANDARD_DESCRIPTORS: Final = (0, 1, 2)
_SEND_BUFFER_BYTES: Final = 8 * PACKET_BYTES
_decode_plan: Final = msgspec.json.Decoder(ProcessPlan).decode


def load_roles(table: Sequence[str]) -> dict[str, Main]:
    """Import `role=module:function` entries and return the functions by role."""
    roles: dict[str, Main] = {}
    for row in table:
        role, _, place = row.partition("=")
        module, _, function = place.partition(":")
        roles[role] = getattr(importlib.import_module(module), function)
    return roles


def close_all_but(keep: Sequence[int]) -> None:
    """Close every descriptor of this process that is not in `keep`."""
    low = 0
    for descriptor in sorted({*keep, *_STANDARD_DESCRIPTORS}):
        # closerange(0, 0) would close everything: CPython hands -1 to close_range(2).
        if low < descriptor:
            os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    # The supervisor ends the topology in order; a Ctrl-C meant for it must not end a guest.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _redirect_output(path: Path) -> None:
    log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1, inheritable=True)
    os.dup2(log, 2, inheritable=True)
    os.close(log)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error)
    return 1


def run_child(request: SpawnRequest, roles: dict[str, Main], run_dir: Path, server_pid: int) -> NoReturn:
    """Be the process that was asked for, and exit with its result; never returns."""
    code = 1
    try:
        prctl.die_with_parent(server_pid)
        _default_signals()
        plan = _decode_plan(request.plan)
        close_all_but(request.descriptors)
        prctl.set_name(plan.name)
        _redirect_output(run_dir / f"{plan.name}{LOG_SUFFIX}")
        names = (segment.name for segment in plan.segments)
        roles[plan.role](plan, dict(zip(names, request.descriptors, strict=True)), str(run_dir))
        code = 0
    except BaseException as error:  # the last frame of this process: whatever it was is told by code and log
        code = _exit_code(error)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Server:
    """Serves one launcher over one socket until that closes."""

    def __init__(self, connection: socket.socket, run_dir: Path, roles: dict[str, Main]) -> None:
        self._connection = connection
        self._run_dir = run_dir
        self._roles = roles
        self._children: set[int] = set()
        self._wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Answer requests and report deaths; return when the launcher is gone."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._report_deaths()
            if self._connection.fileno() in ready and not self._answer():
                return

    def end(self) -> None:
        """Kill and reap every child (SIGKILL ends a stopped one too)."""
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        while self._children:
            self._children.discard(os.waitpid(-1, 0)[0])

    def _answer(self) -> bool:
        try:
            request = receive_request(self._connection)
        except ConnectionError:
            return False
        if isinstance(request, SpawnRequest):
            self._spawn(request)
        elif isinstance(request, SignalRequest) and request.pid in self._children:
            os.kill(request.pid, request.signal)
        return request is not None

    def _spawn(self, request: SpawnRequest) -> None:
        server_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(SpawnFailed(os.strerror(error.errno or 0)))
        else:
            if pid == 0:
                run_child(request, self._roles, self._run_dir, server_pid)
            self._children.add(pid)
            self._tell(Spawned(pid))
        for descriptor in request.descriptors:
            os.close(descriptor)

    def _report_deaths(self) -> None:
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
            self._tell(Exited(pid, code, ended_by, usage.ru_utime + usage.ru_stime))

    def _tell(self, message: FromServer) -> None:
        # A launcher that is gone is noticed where requests are read.
        with contextlib.suppress(ConnectionError):
            self._connection.send(msgspec.json.encode(message))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--role", action="append", required=True)
    return parser.parse_args()


def main() -> None:
    """Import the roles, serve the launcher until it goes, and leave nothing behind."""
    arguments = _arguments()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=arguments.socket)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    prctl.set_name("virtbed-fork")
    roles = load_roles(arguments.role)
    faulthandler.enable()
    gc.collect()
    gc.freeze()
    server = Server(connection, arguments.run_dir, roles)
    try:
        server.serve()
    finally:
        server.end()
    rundir.remove(arguments.run_dir)


if __name__ == "__main__":
    main()
