"""The fork server makes processes with what is theirs and nothing else, tells every death, and leaves
nothing.
"""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest

from launcher import rundir
from launcher.fork_protocol import PACKET_BYTES, Exited, SpawnFailed, send, spawn_packets
from launcher.forkclient import LOG_NAME, ForkServer, preloaded_roles
from launcher.forkserver import Server, close_all_but
from testbed.messages.entries import ProcessPlan, SegmentEntry
from tests.support.plans import guest_entry

ROLES = {"guest": "tests.support.children:main"}


class Heard:
    """A listener that keeps what it hears and lets a test wait for it."""

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}
        self.deaths: dict[int, Exited] = {}
        self.gone = asyncio.Event()
        self._changed = asyncio.Event()

    def spawned(self, name: str, pid: int) -> None:
        self.pids[name] = pid
        self._changed.set()

    def refused(self, name: str, reason: str) -> None:
        raise AssertionError(f"{name} refused: {reason}")

    def exited(self, exited: Exited) -> None:
        self.deaths[exited.pid] = exited
        self._changed.set()

    def server_gone(self) -> None:
        self.gone.set()

    async def pid(self, name: str) -> int:
        while name not in self.pids:
            await self._change()
        return self.pids[name]

    async def death(self, name: str) -> Exited:
        pid = await self.pid(name)
        while pid not in self.deaths:
            await self._change()
        return self.deaths[pid]

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Served:
    """A fork server under test with its listener and run directory."""

    def __init__(self, directory: rundir.RunDirectory) -> None:
        self.path = directory.path
        self.heard = Heard()
        self.server = ForkServer(directory, self.heard, ROLES)

    async def spawn(self, name: str, segments: int = 0) -> None:
        names = tuple(SegmentEntry(name=f"s{i}", size_bytes=1) for i in range(segments))
        plan = ProcessPlan(name=name, role="guest", entry=guest_entry(name), segments=names, counter_names=())
        files = [os.memfd_create(f"s{i}") for i in range(segments)]
        await self.server.spawn(name, msgspec.json.encode(plan), files)
        for file in files:
            os.close(file)

    def log(self, name: str) -> str:
        return (self.path / f"{name}.log").read_text()


@pytest.fixture
async def served(run_parent: Path) -> AsyncIterator[Served]:
    with rundir.claim(rundir.Holder("forks", os.getpid())) as directory:
        served = Served(directory)
        yield served
        served.server.close()


async def test_exit_code_is_reported(served: Served) -> None:
    await served.spawn("exits")
    death = await served.heard.death("exits")

    assert (death.code, death.signal) == (5, 0)


async def test_return_is_exit_code_zero(served: Served) -> None:
    await served.spawn("returns")
    death = await served.heard.death("returns")

    assert (death.code, death.signal) == (0, 0)


async def test_signal_is_reported(served: Served) -> None:
    await served.spawn("waits")
    served.server.signal(await served.heard.pid("waits"), signal.SIGKILL)
    death = await served.heard.death("waits")

    assert (death.code, death.signal) == (-1, signal.SIGKILL)


async def test_traceback_is_in_the_log_of_the_process(served: Served) -> None:
    await served.spawn("raises")
    death = await served.heard.death("raises")

    assert death.code == 1
    assert served.log("raises").splitlines()[-1] == "RuntimeError: upside down"


async def test_cpu_time_is_reported(served: Served) -> None:
    await served.spawn("spins")
    death = await served.heard.death("spins")

    assert death.cpu_seconds >= 0.05


async def test_hundreds_of_descriptors_arrive_in_the_order_of_the_plan(served: Served) -> None:
    await served.spawn("lists", segments=700)
    await served.heard.death("lists")
    given = dict(line.split() for line in served.log("lists").splitlines() if line.startswith("s"))

    assert given == {f"s{i}": f"/memfd:s{i}" for i in range(700)}


async def test_a_process_has_no_descriptor_but_its_own(served: Served) -> None:
    await served.spawn("waits", segments=3)
    await served.heard.pid("waits")
    await served.spawn("opens", segments=2)
    await served.heard.death("opens")
    log = str(served.path / "opens.log")

    assert served.log("opens").split() == ["/dev/null", log, log, "/memfd:s0", "/memfd:s1"]


async def test_the_kernel_knows_the_process_by_its_name(served: Served) -> None:
    await served.spawn("says-its-long-name")
    await served.heard.death("says-its-long-name")

    assert served.log("says-its-long-name").strip() == "says-its-long-n"


async def test_close_ends_children_even_stopped_ones_and_the_directory(served: Served) -> None:
    await served.spawn("waits")
    await served.spawn("stops")
    processes = [psutil.Process(await served.heard.pid(name)) for name in ("waits", "stops")]

    assert served.server.close() == 0
    assert not any(process.is_running() for process in processes)
    assert not served.path.exists()


async def test_death_of_the_server_is_heard_and_ends_its_children(served: Served) -> None:
    await served.spawn("waits")
    child = psutil.Process(await served.heard.pid("waits"))
    os.kill(served.server.pid, signal.SIGKILL)
    await served.heard.gone.wait()

    assert served.server.close() == -signal.SIGKILL
    assert psutil.wait_procs([child], timeout=2)[1] == []


async def test_a_terminal_cannot_interrupt_a_process(served: Served) -> None:
    await served.spawn("waits")
    pid = await served.heard.pid("waits")

    assert os.getsid(pid) == served.server.pid != os.getsid(0)


def test_roles_of_which_there_are_several_are_imported_once_for_all() -> None:
    processes = {"vmm": 2, "iommu": 1, "guest": 1}
    assert preloaded_roles(("vmm", "guest", "iommu", "nic"), processes) == ("vmm", "guest")


async def test_a_role_that_cannot_be_imported_ends_the_server(run_parent: Path) -> None:
    with rundir.claim(rundir.Holder("forks", os.getpid())) as directory:
        heard = Heard()
        server = ForkServer(directory, heard, {"guest": "tests.support.no_such_module:main"})
        await heard.gone.wait()
        said = (directory.path / LOG_NAME).read_text()

        assert server.close() == 1
        assert "No module named 'tests.support.no_such_module'" in said


def test_a_fork_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse() -> int:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", refuse)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for packet in spawn_packets(b"{}", []):
            send(ours, packet)
        ours.shutdown(socket.SHUT_WR)
        Server(theirs, str(tmp_path), {}).serve()
        answer = msgspec.json.decode(ours.recv(PACKET_BYTES), type=SpawnFailed)

    assert answer == SpawnFailed("Resource temporarily unavailable")


def test_close_all_but_keeps_what_it_is_told_to() -> None:
    kept, closed = os.memfd_create("kept"), os.memfd_create("closed")
    child = os.fork()
    if child == 0:
        close_all_but([kept])
        still = [Path(f"/proc/self/fd/{fd}").exists() for fd in (0, 1, 2, kept, closed)]
        os._exit(0 if still == [True, True, True, True, False] else 1)
    for descriptor in (kept, closed):
        os.close(descriptor)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
