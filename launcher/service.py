"""The socket by which a running topology answers `ps`, `stats`, `exec`, `capture`, `vf` and `down`.

A Unix stream socket in the run directory; a request and its reply are one line of JSON each, one request a
connection. A capture lasts as long as whoever asked for it keeps the connection open for writing: one line
when it begins, one when it has ended. The reply to `Down` is the run's result and comes when everything has
ended; a connection that ends without a reply means that the launcher is gone.

Not modelled: several versions of virtbed side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from launcher import rundir
from launcher.capture_session import Capture, CaptureSession
from launcher.explain_steps import Step, steps_of
from launcher.irq_follow import ANY, SOURCES, follow
from launcher.netns import why_none
from launcher.problems import did_you_mean
from launcher.processes import IOMMU, VMM
from launcher.result import FlowResult, Result
from launcher.trace_names import Names
from launcher.vf_requests import ChangeVf, ListVfs, change_vf, list_vfs
from testbed.errors import MachineError, PeerGone
from testbed.messages.control import EventRoute, InspectInterrupts, InterruptState, VcpuInterrupts
from testbed.messages.entries import ExternalEntry, Plan, VmmEntry

if TYPE_CHECKING:
    from launcher.run import Run

SOCKET_NAME: Final = "service"
_CLOSE_SECONDS: Final = 1.0
_REQUEST_BYTES: Final = 1 << 16
_FOLLOW_SECONDS: Final = 0.02
"""Events are recorded for so long at a time: a busy process's ring holds few milliseconds."""


class Ps(msgspec.Struct, frozen=True, tag=True):
    """Ask what runs."""


class Stats(msgspec.Struct, frozen=True, tag=True):
    """Ask for every counter."""


class Down(msgspec.Struct, frozen=True, tag=True):
    """End the topology in order."""


class Enter(msgspec.Struct, frozen=True, tag=True):
    """Ask where a guest's network namespace is."""

    guest: str


class NamespaceAt(msgspec.Struct, frozen=True):
    """A namespace: a descriptor of the launcher's, and by which inode to know it again."""

    path: str = ""
    inode: int = 0
    problem: str = ""
    """Why there is none."""


class WhereExternal(msgspec.Struct, frozen=True, tag=True):
    """Ask where an external guest is to connect, and what it will find."""

    guest: str


class ExternalAt(msgspec.Struct, frozen=True):
    """A guest that is not ours, its socket named in full."""

    entry: ExternalEntry | None = None
    problem: str = ""
    """Why there is none."""


class ProcessStatus(msgspec.Struct, frozen=True):
    """One process as it is now."""

    name: str
    role: str
    pid: int
    state: str


class FlowStatus(msgspec.Struct, frozen=True):
    """One flow as it is now."""

    name: str
    kind: str
    phase: int
    state: str
    result: FlowResult | None


class TopologyStatus(msgspec.Struct, frozen=True):
    """A running topology as it is now."""

    name: str
    state: str
    seconds: float
    processes: list[ProcessStatus]
    flows: list[FlowStatus]


class CounterStatus(msgspec.Struct, frozen=True):
    """Every counter of every process, zeros too, at one time (CLOCK_MONOTONIC)."""

    at_ns: int
    counters: dict[str, dict[str, int]]


class Interrupts(msgspec.Struct, frozen=True, tag=True):
    """Ask for the state of interrupts."""


class InterruptStatus(msgspec.Struct, frozen=True):
    """The interrupts of a topology: every counter, every vCPU, and by IOMMU where its ITS leads events."""

    counters: dict[str, dict[str, int]]
    vcpus: tuple[VcpuInterrupts, ...]
    routes: dict[str, tuple[EventRoute, ...]]


class FollowInterrupt(msgspec.Struct, frozen=True, tag=True):
    """Ask for the way of one interrupt, of the next that comes within some seconds."""

    seconds: float
    of: str = ""
    """A kind (`irq_follow.SOURCES`); empty: of any."""


class InterruptFollowed(msgspec.Struct, frozen=True):
    """The way of an interrupt; no steps where none came to its end."""

    steps: list[Step]


Request = (
    FollowInterrupt | Ps | Stats | Interrupts | Down | Enter | WhereExternal | Capture | ListVfs | ChangeVf
)
ReplyT = TypeVar("ReplyT")


class Service:
    """Answers for one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._captures: dict[CaptureSession, asyncio.Task[None]] = {}
        self._inspections = itertools.count(1)
        self._recording = asyncio.Lock()
        """Who has the trace rings."""
        self._answers: dict[type[Ps | Stats | Interrupts | Down], Callable[[], Awaitable[object]]] = {
            Ps: self._ps,
            Stats: self._stats,
            Interrupts: self._interrupts,
            Down: self._down,
        }

    async def start(self, run_dir: Path) -> None:
        """Listen in the run directory."""
        self._server = await asyncio.start_unix_server(
            self._serve, run_dir / SOCKET_NAME, limit=_REQUEST_BYTES
        )

    async def end_captures(self) -> None:
        """End every capture while its vmm can still say what it has."""
        for session in self._captures:
            session.end()
        if self._captures:
            await asyncio.wait(self._captures.values(), timeout=_CLOSE_SECONDS)

    async def close(self) -> None:
        """Listen no more; let those who wait for the result have it."""
        if self._server:
            self._server.close()
        if self._serving:
            await asyncio.wait(self._serving, timeout=_CLOSE_SECONDS)
        for task in self._serving:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(
                ConnectionError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
            ):
                request = msgspec.json.decode(await reader.readuntil(), type=Request)
                if isinstance(request, Capture):
                    session = CaptureSession(self._run, reader, writer)
                    self._captures[session] = task
                    await session.serve(request)
                    return
                writer.write(msgspec.json.encode(await self._answer(request)) + b"\n")
                await writer.drain()
        finally:
            writer.close()
            self._serving.discard(task)
            self._captures = {session: t for session, t in self._captures.items() if t is not task}

    async def _answer(
        self,
        request: FollowInterrupt
        | Ps
        | Stats
        | Interrupts
        | Down
        | Enter
        | WhereExternal
        | ListVfs
        | ChangeVf,
    ) -> object:
        if isinstance(request, FollowInterrupt):
            return await self._follow(request)
        if isinstance(request, Enter):
            return self._enter(request.guest)
        if isinstance(request, WhereExternal):
            return self._external(request.guest)
        if isinstance(request, ChangeVf):
            return await change_vf(self._run, request)
        if isinstance(request, ListVfs):
            return await list_vfs(self._run)
        return await self._answers[type(request)]()

    def _enter(self, guest: str) -> NamespaceAt:
        namespace = self._run.supervisor.namespaces.find(guest)
        if namespace is None:
            return NamespaceAt(problem=why_none(self._run.plan, guest))
        return NamespaceAt(f"/proc/{os.getpid()}/fd/{namespace.descriptor}", namespace.inode)

    def _external(self, guest: str) -> ExternalAt:
        externals = externals_of(self._run.plan)
        if guest in externals:
            entry = externals[guest]
            socket = entry.socket or str(rundir.path_of(self._run.plan.topology) / f"{guest}.sock")
            return ExternalAt(msgspec.structs.replace(entry, socket=socket))
        hint = did_you_mean(guest, externals) or f"; there are {', '.join(externals) or 'none'}"
        return ExternalAt(problem=f"topology {self._run.plan.topology} has no external guest {guest}{hint}")

    async def _ps(self) -> TopologyStatus:
        run = self._run
        processes = [
            ProcessStatus(process.name, process.plan.role, process.pid, process.state)
            for process in run.supervisor.processes.values()
        ]
        flows = [
            FlowStatus(flow.entry.name, flow.entry.kind, flow.phase, flow.state, flow.result)
            for flow in run.workloads.flows
        ]
        seconds = round(time.monotonic() - run.started, 3)
        return TopologyStatus(run.plan.topology, run.state, seconds, processes, flows)

    async def _stats(self) -> CounterStatus:
        return CounterStatus(time.monotonic_ns(), self._run.supervisor.segments.read_counters(zeros=True))

    async def _interrupts(self) -> InterruptStatus:
        supervisor = self._run.supervisor
        vcpus: list[VcpuInterrupts] = []
        routes: dict[str, tuple[EventRoute, ...]] = {}
        for process in supervisor.alive:
            if process.plan.role not in (VMM, IOMMU):
                continue
            number = next(self._inspections)
            with contextlib.suppress(PeerGone):  # what is gone has no interrupts
                inspect = InspectInterrupts(inspection_id=number)
                state = await supervisor.ask(process.name, inspect, InterruptState, number)
                vcpus += state.vcpus
                if state.routes:
                    routes[process.name] = state.routes
        return InterruptStatus(supervisor.segments.read_counters(), tuple(vcpus), routes)

    async def _follow(self, request: FollowInterrupt) -> InterruptFollowed:
        """Have events recorded for a moment at a time, until the whole way of an interrupt is among them."""
        trace, names = self._run.supervisor.segments.trace, Names(self._run.plan)
        until = time.monotonic() + request.seconds
        sources = SOURCES.get(request.of, ANY)
        while time.monotonic() < until:
            async with self._recording:
                trace.begin()
                try:
                    await asyncio.sleep(_FOLLOW_SECONDS)
                finally:
                    trace.end()
                recorded = trace.read()[0]
            if way := follow(names, recorded, sources):
                return InterruptFollowed(steps_of(names, way))
        return InterruptFollowed([])

    async def _down(self) -> Result:
        self._run.stop("virtbed down")
        return await asyncio.shield(self._run.result)


def externals_of(plan: Plan) -> dict[str, ExternalEntry]:
    """Return the guests of a plan that are not ours, by name."""
    vmms = (process.entry for process in plan.processes if isinstance(process.entry, VmmEntry))
    return {external.name: external for vmm in vmms for external in vmm.externals}


def ask(name: str, request: Request, reply: type[ReplyT]) -> ReplyT:
    """Ask a running topology and return its reply.

    Raises ConfigError when no such topology runs, MachineError when it ends without a reply.
    """
    holder = rundir.find(name)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(rundir.path_of(name) / SOCKET_NAME))
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as replies:
                line = replies.readline()
    except (FileNotFoundError, ConnectionError):
        line = b""
    if not line:
        raise MachineError(
            f"topology {name} (pid {holder.pid}) does not answer: it is starting or ending; try again"
        )
    return msgspec.json.decode(line, type=reply)
