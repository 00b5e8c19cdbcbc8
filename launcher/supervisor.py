"""Brings the processes of a plan up, watches them, and takes them down.

Nothing is slept for (but the programs that people started in namespaces): a process says READY, a death is
heard of at once (from the fork server, or by its socket's end), a stop is a message, then SIGTERM, then
SIGKILL. A guest that dies leaves the others running; when a vmm or the fork server dies the topology cannot
go on.

Not modelled: starting a process again but a vmm all of whose guests are external.
"""

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from launcher import forkclient, prctl
from launcher.channel import Channel
from launcher.external import remove_sockets
from launcher.fork_protocol import LOG_SUFFIX, Exited
from launcher.forkclient import ROLES, ForkServer
from launcher.netns import Namespaces
from launcher.processes import FORK_SERVER, GUEST, IOMMU, NIC, VMM, Process, died, last_lines, reap_orphans
from launcher.result import Died
from launcher.rundir import RunDirectory
from launcher.segments import Segments, restarts
from launcher.watcher import Watcher
from testbed.errors import MachineError, PeerGone
from testbed.messages.control import (
    Attacked,
    Attacking,
    CaptureStarted,
    CaptureStopped,
    Expecting,
    Failed,
    FromProcess,
    Guarding,
    GuestReport,
    Inspected,
    InterruptState,
    PeerDied,
    Ready,
    Received,
    Sent,
    Stop,
    ToProcess,
    Turned,
    VfSet,
    VfStates,
)
from testbed.messages.entries import Plan

READY_SECONDS: Final = 60.0
"""A safety net only: a process that dies before it is ready ends the waiting at once."""
STOP_SECONDS: Final = 1.0
TERMINATE_SECONDS: Final = 0.3
NAMESPACE_LOOK_SECONDS: Final = 0.02
REPORTS_MAX: Final = 1000


_GUEST_RANK: Final = 2
_RANKS: Final = {IOMMU: 0, NIC: 0, VMM: 1, GUEST: _GUEST_RANK}
"""By role: a process starts when its host's of every lower rank are ready."""
AttackReply = Attacking | Turned | Attacked | Guarding | Inspected
Reply = (
    Expecting
    | Sent
    | Received
    | CaptureStarted
    | CaptureStopped
    | VfStates
    | VfSet
    | InterruptState
    | AttackReply
)
ReplyT = TypeVar(
    "ReplyT",
    Expecting,
    Sent,
    Received,
    CaptureStarted,
    CaptureStopped,
    VfStates,
    VfSet,
    InterruptState,
    Attacking,
    Turned,
    Attacked,
    Guarding,
    Inspected,
)
_Key = tuple[str, type[Reply], int]
"""Who answers, with what, about which flow, capture or request."""


@dataclass(frozen=True)
class _Pending:
    answer: asyncio.Future[Reply]
    needs: set[str]
    """Processes whose end ends the waiting."""


class Supervisor:
    """The processes of one topology, from start to stop. Used from one event loop."""

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        watcher: Watcher,
        *,
        roles: Mapping[str, str] = ROLES,
    ) -> None:
        self.plan = plan
        self.processes = {process.name: Process(process) for process in plan.processes}
        self.died: list[Died] = []
        self.reports: list[GuestReport] = []
        self.broken = asyncio.Event()
        """Set when the topology cannot go on: a vmm or the fork server is gone."""
        self.started_ns = time.monotonic_ns()
        self._directory = directory
        self._watcher = watcher
        self._by_pid: dict[int, Process] = {}
        self._pending: dict[_Key, _Pending] = {}
        self._changed = asyncio.Event()
        self._refused = ""
        self._stopping = False
        self._orphans: list[int] = []
        self._reviving: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()
        prctl.adopt_orphans(True)
        self.segments = Segments(plan)
        self.namespaces = Namespaces(plan)
        self._channel = Channel(directory.path, self._received, self._nonsense)
        wanted = Counter[str](process.role for process in plan.processes)
        needed = {str(role): main for role, main in roles.items() if role in wanted}
        self._server = ForkServer(directory, self, needed, wanted)

    @property
    def server_pid(self) -> int:
        """The fork server's process number."""
        return self._server.pid

    @property
    def alive(self) -> list[Process]:
        """The processes that have been started and have not ended."""
        return [process for process in self.processes.values() if process.alive]

    # Up

    async def start(self) -> None:
        """Make segments and namespaces, start every process, and return when all are ready.

        Raises MachineError when the system refuses or READY does not come, PeerGone when a process dies
        first.
        """
        self.segments.create()
        self.namespaces.create()
        await self._server.hold(self.namespaces.descriptors)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._bring_up()
        except TimeoutError:
            raise MachineError(self._not_ready_text()) from None
        self._watcher.ready(len(self.processes), (time.monotonic_ns() - self.started_ns) / 1e9)

    async def _bring_up(self) -> None:
        """Start every process once those of its host are ready that it needs to come up."""
        below: dict[tuple[str, int], list[str]] = defaultdict(list)
        for plan in self.plan.processes:
            for rank in range(_RANKS[plan.role] + 1, _GUEST_RANK + 1):
                below[plan.entry.host, rank].append(plan.name)
        for process in self.processes.values():
            await self._until_ready(below[process.plan.entry.host, _RANKS[process.plan.role]])
            await self._spawn(process)
        await self._until_ready(self.processes)

    async def _spawn(self, process: Process) -> None:
        process.spawned_ns = time.monotonic_ns()
        descriptors = self.segments.descriptors(process.plan) + self.namespaces.files(process.plan)
        await self._server.spawn(process.name, msgspec.json.encode(process.plan), descriptors)
        self.segments.spawned(process.plan)
        self.namespaces.spawned(process.plan)

    async def _until_ready(self, names: Iterable[str]) -> None:
        while True:
            if self._refused:
                raise MachineError(self._refused)
            if self.died:
                raise PeerGone(f"{self.died[0].name} {self.died[0].how}")
            if all(self.processes[name].state == "ready" for name in names):
                return
            self._changed.clear()
            await self._changed.wait()

    def _not_ready_text(self) -> str:
        late = [process.name for process in self.processes.values() if process.state != "ready"]
        lines = last_lines(self._log(late[0]))
        said = "".join(f"\n  {line}" for line in lines) or " nothing"
        return (
            f"every process must be ready within {READY_SECONDS:g} s, "
            f"{len(late)} of {len(self.processes)} were not ({', '.join(late[:5])}); {late[0]} said:{said}"
        )

    # Messages

    async def ask(
        self, name: str, message: ToProcess | None, reply: type[ReplyT], number: int, also: Iterable[str] = ()
    ) -> ReplyT:
        """Send a message to a process; return its answer about the flow, capture or request of that number.

        Without a message it only waits for what the process will say.

        Raises PeerGone when that process, or one named in `also`, is gone or ends before the answer.
        """
        needed = {name, *also}
        for each in needed:
            if not self.processes[each].alive:
                raise PeerGone(self._how_gone(each))
        key = (name, reply, number)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[key] = _Pending(answer, needed)
        try:
            if message is not None:
                await self.tell(name, message)
            received = await answer
        finally:
            del self._pending[key]
        assert isinstance(received, reply)
        return received

    async def tell(self, name: str, message: ToProcess) -> bool:
        """Send a message to a process; return False when it is not connected."""
        return await self._channel.send(name, message)

    def _received(self, name: str, message: FromProcess) -> None:
        process = self.processes.get(name)
        if process is None or process.state == "gone":
            return
        match message:
            case Ready(at_ns=at_ns):
                process.ready_ns = min(max(at_ns, process.spawned_ns), time.monotonic_ns())
                process.state = "ready"
                self._changed.set()
            case Failed(reason=reason):
                process.reason = reason
            case GuestReport():
                self._report(message)
            case Expecting() | Sent() | Received():
                self._answered((name, type(message), message.flow_id), message)
            case CaptureStarted() | CaptureStopped():
                self._answered((name, type(message), message.capture_id), message)
            case VfStates() | VfSet():
                self._answered((name, type(message), message.request_id), message)
            case InterruptState():
                self._answered((name, InterruptState, message.inspection_id), message)
            case Attacking() | Turned() | Attacked() | Guarding() | Inspected():
                self._answered((name, type(message), message.attack_id), message)

    def _answered(self, key: _Key, message: Reply) -> None:
        pending = self._pending.get(key)
        if pending and not pending.answer.done():
            pending.answer.set_result(message)

    def _report(self, report: GuestReport) -> None:
        if len(self.reports) < REPORTS_MAX:
            self.reports.append(report)
            self._watcher.reported(report)

    def _nonsense(self, name: str, why: str) -> None:
        process = self.processes.get(name)
        if process and process.alive:
            process.reason = f"sent what is no control message ({why})"
            self._end(process, signal.SIGKILL)

    # Deaths

    def spawned(self, name: str, pid: int) -> None:
        """Note a process that now runs (called by the fork server's client)."""
        process = self.processes[name]
        process.pid = pid
        # READY may have come first: the two take different sockets.
        if process.state == "waiting":
            process.state = "starting"
        self._by_pid[pid] = process

    def refused(self, name: str, reason: str) -> None:
        """Note that the system cannot make a process."""
        self._refused = f"{name} cannot be started: {reason}; see ulimit -u and the memory in use"
        self._changed.set()

    def exited(self, exited: Exited) -> None:
        """Note a process that has ended, and end what waits for it."""
        process = self._by_pid.pop(exited.pid)
        process.cpu_seconds = (process.cpu_seconds or 0.0) + exited.cpu_seconds
        if restarts(process.plan) and process.state == "ready" and not self._stopping:
            self._revive(process, exited)
            return
        in_order = self._stopping and exited.code == 0
        asked_for = process.ended_by_us and not process.reason
        if not in_order and not asked_for:
            log = last_lines(self._log(process.name))
            self._record(process.died(exited.code, exited.signal, log))
        self._lose(process)
        if process.plan.role == VMM:
            self.broken.set()
        elif process.plan.role in (IOMMU, NIC) and not self._stopping:
            self._telling.add(task := asyncio.get_running_loop().create_task(self._tell_of_death(process)))
            task.add_done_callback(self._telling.discard)

    async def _tell_of_death(self, process: Process) -> None:
        """Tell those of its host that a NIC or an IOMMU is gone: nobody waits for it any more."""
        for other in self.alive:
            if other.plan.entry.host == process.plan.entry.host:
                await self.tell(other.name, PeerDied(name=process.name))

    def _revive(self, process: Process, exited: Exited) -> None:
        """Start a process again; one that died before it was ready would only die again."""
        how = process.died(exited.code, exited.signal, last_lines(self._log(process.name))).how
        self._lose(process)
        name = process.name
        self._report(GuestReport(guest=name, device=name, reason="restarted", detail=f"{name} {how}"))
        process.state = "waiting"
        self._reviving = asyncio.get_running_loop().create_task(self._spawn(process))
        self._reviving.add_done_callback(self._revived)

    def _revived(self, reviving: asyncio.Task[None]) -> None:
        """A process that could not be asked for will not come: the fork server is gone."""
        if reviving.cancelled() or reviving.exception() is not None:
            self.broken.set()

    def server_gone(self) -> None:
        """Note that the fork server is gone, and every process with it."""
        status = self._server.close()
        log = last_lines(self._directory.path / forkclient.LOG_NAME)
        code, ended_by = (status, 0) if status >= 0 else (-1, -status)
        self._record(died(FORK_SERVER, FORK_SERVER, self._server.pid, code, ended_by, log=log))
        self._orphans = [process.pid for process in self.alive]
        for process in self.alive:
            self._lose(process)
        self.broken.set()

    def _record(self, died: Died) -> None:
        self.died.append(died)
        self._watcher.died(died)

    def _lose(self, process: Process) -> None:
        process.state = "gone"
        self._changed.set()
        for pending in self._pending.values():
            if process.name in pending.needs and not pending.answer.done():
                pending.answer.set_exception(PeerGone(self._how_gone(process.name)))

    def _how_gone(self, name: str) -> str:
        told = {died.name: died.how for died in self.died}
        # A process without a record of its own went with the fork server.
        who = name if name in told else FORK_SERVER
        return f"{who} {told.get(who, 'is gone')}"

    def _log(self, name: str) -> Path:
        return self._directory.path / f"{name}{LOG_SUFFIX}"

    # Down

    async def stop(self) -> None:
        """Have every process leave in order; end those that do not, and first what runs in namespaces."""
        self._stopping = True
        await self._empty_namespaces()
        for process in self.alive:
            if not await self.tell(process.name, Stop()):
                self._end(process, signal.SIGTERM)
        if await self._until_gone(STOP_SECONDS):
            return
        for process in self.alive:
            process.reason = process.reason or f"did not stop within {STOP_SECONDS:g} s and was ended"
            self._end(process, signal.SIGTERM)
        if not await self._until_gone(TERMINATE_SECONDS):
            self.kill()
            await self._until_gone(STOP_SECONDS)

    async def _empty_namespaces(self) -> None:
        """End the programs in the namespaces: their network is about to go."""
        deadline = time.monotonic() + TERMINATE_SECONDS
        left = self.namespaces.signal(signal.SIGTERM)
        while left and time.monotonic() < deadline:
            await asyncio.sleep(NAMESPACE_LOOK_SECONDS)
            left = self.namespaces.inhabited()
        if left:
            self.namespaces.signal(signal.SIGKILL)

    def kill(self) -> None:
        """End every process at once, without waiting for it."""
        self._stopping = True
        for process in self.alive:
            self._end(process, signal.SIGKILL)

    async def _until_gone(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self.alive:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _end(self, process: Process, number: signal.Signals) -> None:
        process.ended_by_us = True
        self._server.signal(process.pid, number)

    async def close(self) -> None:
        """Leave nothing: no process, no segment, no namespace, no socket.

        The run directory remains with its holder.
        """
        await self._channel.close()
        self.segments.close()
        self.namespaces.close()
        self._server.close()
        reap_orphans(self._orphans)
        remove_sockets(self.plan)
        prctl.adopt_orphans(False)
