"""The fork server: parent and janitor of every process of one topology.

Run as `python -m launcher.forkserver ORDER`, started by the launcher with one end of a socket pair. It
imports once what processes need of which there are several, so that each of these is a fork and nothing more
and shares these pages. Where there is one it imports for itself: what a guest never uses would lie between
what it uses, and cost it pages of its own. The server reports every death at once; and when the launcher's
end of the socket closes, however the launcher ended, it kills and reaps its children, kills what runs in
their network namespaces, removes the run directory and exits. Its own session keeps a terminal's Ctrl-C from
it; its children die with it (PR_SET_PDEATHSIG). The lock of the run directory is inherited, so it is free
only when nothing is left.

Reference: fork(2), pidfd_open(2), unix(7), prctl(2). Not modelled: restarting a process.
"""

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from launcher import netns_programs, prctl, rundir
from launcher.fork_protocol import (
    LOG_SUFFIX,
    PACKET_BYTES,
    Exited,
    FromServer,
    HoldRequest,
    ServerOrder,
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


def load_role(place: str) -> Main:
    """Import the `module:function` of a role and return the function."""
    module, _, function = place.partition(":")
    main: Main = getattr(importlib.import_module(module), function)
    return main


def close_all_but(keep: Sequence[int]) -> None:
    """Close every descriptor of this process that is not in `keep`."""
    low = 0
    for descriptor in sorted({*keep, *_STANDARD_DESCRIPTORS}):
        # closerange(0, 0) would close everything: CPython hands -1 to close_range(2).
        if low < descriptor:
            os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _redirect_output(path: str) -> None:
    log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1, inheritable=True)
    os.dup2(log, 2, inheritable=True)
    os.close(log)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    traceback.print_exception(error)
    return 1


def run_child(request: SpawnRequest, roles: Mapping[str, str], run_dir: str, server_pid: int) -> NoReturn:
    """Be the process that was asked for, and exit with its result; never returns.

    Every page that is written here is one that a guest no longer shares, so this does little and does it
    plainly: paths are text, and there is no signal handler to take back.
    """
    code = 1
    try:
        prctl.die_with_parent(server_pid)
        plan = _decode_plan(request.plan)
        close_all_but(request.descriptors)
        prctl.set_name(plan.name)
        _redirect_output(f"{run_dir}/{plan.name}{LOG_SUFFIX}")
        names = (*(segment.name for segment in plan.segments), *plan.files)
        load_role(roles[plan.role])(plan, dict(zip(names, request.descriptors, strict=True)), run_dir)
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

    def __init__(self, connection: socket.socket, run_dir: str, roles: Mapping[str, str]) -> None:
        self._connection = connection
        self._run_dir = run_dir
        self._roles = roles
        self._children: dict[int, int] = {}
        """The pid of each child, by its pidfd, which is readable when the child has ended."""
        self._namespaces: list[int] = []
        self._epoll = select.epoll()
        self._epoll.register(connection, select.EPOLLIN)

    def serve(self) -> None:
        """Answer requests and report deaths; return when the launcher is gone."""
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor in self._children:
                    self._report_death(descriptor)
                elif not self._answer():
                    return

    def end(self) -> None:
        """Kill and reap every child (SIGKILL ends a stopped one too), and whatever runs in the namespaces."""
        for pid in self._children.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._children.values():
            os.waitpid(pid, 0)
        self._children.clear()
        netns_programs.signal_all({os.fstat(held).st_ino for held in self._namespaces}, signal.SIGKILL)

    def _answer(self) -> bool:
        try:
            request = receive_request(self._connection)
        except ConnectionError:
            return False
        if isinstance(request, SpawnRequest):
            self._spawn(request)
        elif isinstance(request, SignalRequest) and request.pid in self._children.values():
            os.kill(request.pid, request.signal)
        elif isinstance(request, HoldRequest):
            self._namespaces += request.descriptors
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
            child = os.pidfd_open(pid)
            self._children[child] = pid
            self._epoll.register(child, select.EPOLLIN)
            self._tell(Spawned(pid))
        for descriptor in request.descriptors:
            os.close(descriptor)

    def _report_death(self, descriptor: int) -> None:
        pid, status, usage = os.wait4(self._children.pop(descriptor), 0)
        self._epoll.unregister(descriptor)
        os.close(descriptor)
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -1
        self._tell(Exited(pid, code, ended_by, usage.ru_utime + usage.ru_stime))

    def _tell(self, message: FromServer) -> None:
        # A launcher that is gone is noticed where requests are read.
        with contextlib.suppress(ConnectionError):
            self._connection.send(msgspec.json.encode(message))


def main() -> None:
    """Import the roles, serve the launcher until it goes, and leave nothing behind."""
    order = msgspec.json.decode(sys.argv[1], type=ServerOrder)
    # Inherited by every process: the supervisor ends the topology in order, no terminal ends a guest.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=order.socket)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    prctl.set_name("virtbed-fork")
    for role in order.preloaded:
        load_role(order.roles[role])
    faulthandler.enable()
    gc.collect()
    gc.freeze()
    server = Server(connection, order.run_dir, order.roles)
    try:
        server.serve()
    finally:
        server.end()
    rundir.remove(Path(order.run_dir))


if __name__ == "__main__":
    main()
