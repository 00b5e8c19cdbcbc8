"""One run from a plan to its result: processes up, workloads, everything down.

Whatever ends the run (its workloads, a person, a death, an error), the way out is the same: measure, stop in
order, close, leave nothing. Not modelled: more than one topology in one launcher.
"""

import asyncio
import contextlib
import resource
import signal
import time
from collections.abc import Coroutine, Mapping
from typing import Final, Literal

import uvloop

from launcher import usage
from launcher.forkclient import ROLES
from launcher.netns import guests_of
from launcher.output import write_json
from launcher.processes import Process
from launcher.result import INTERRUPTED, ProcessResult, Result, exit_code, machine
from launcher.rundir import Holder, RunDirectory, claim
from launcher.service import Service
from launcher.supervisor import Supervisor
from launcher.trace_json import chrome_trace
from launcher.trace_names import Names
from launcher.watcher import Watcher
from launcher.workload_run import WorkloadRun
from testbed.errors import MachineError, PeerGone
from testbed.messages.entries import Plan
from testbed.observe.trace import Record

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DESCRIPTORS_MAX: Final = 1 << 20
RunState = Literal["starting", "running", "idle", "stopping"]


class Run:
    """A run; `execute` it once, `stop` it from the event loop at any time."""

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        watcher: Watcher,
        *,
        workloads: bool = True,
        stay: bool = False,
        trace: bool = False,
        roles: Mapping[str, str] = ROLES,
    ) -> None:
        """Begin a run of a plan; with `stay` it goes on after its workloads until it is stopped.

        `trace`: processes record what they do from when all are ready; the last of it is in `traced` then.
        """
        self._trace = trace
        self.traced: list[Record] = []
        raise_descriptor_limit()
        self.plan = plan
        self.started = time.monotonic()
        self.watcher = watcher
        self.supervisor = Supervisor(plan, directory, watcher, roles=roles)
        self.workloads = WorkloadRun(plan, self.supervisor, watcher)
        self.state: RunState = "starting"
        self.idle = asyncio.Event()
        """Set when the workloads are over."""
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._directory = directory
        self._has_workloads = workloads
        self._stay = stay
        self._stop = asyncio.Event()
        self._signal = 0

    async def execute(self) -> Result:
        """Run from start to end and return the result; the run directory is gone afterwards."""
        error = None
        service = Service(self)
        self._handle_signals()
        self.watcher.begin(self)
        try:
            await service.start(self._directory.path)
            with contextlib.suppress(PeerGone):
                await self._until_stopped(self._work())
        except MachineError as failure:
            error = str(failure)
        finally:
            self.state = "stopping"
            try:
                await service.end_captures()
                await self._wind_down()
                result = self._result(error)
                await self.watcher.end(result)
                self.result.set_result(result)
            finally:
                self._release_signals()
                await service.close()
                await self.supervisor.close()
                self._directory.release()
        return result

    def stop(self, why: str) -> None:
        """Have the run end in order; nothing happens when it is ending already."""
        if not self._stop.is_set() and self.state != "stopping":
            self._stop.set()
            self.watcher.stopping(why)

    async def _work(self) -> None:
        self.watcher.starting(self.plan)
        await self.supervisor.start()
        self.state = "running"
        if self._trace:
            self.supervisor.segments.trace.begin()
        if self._has_workloads:
            await self.workloads.run()
        self.state = "idle"
        self.idle.set()
        if self._stay:
            await self._stop.wait()

    async def _until_stopped(self, work: Coroutine[None, None, None]) -> None:
        """Do the work until it is done, somebody stops the run, or the topology cannot go on."""
        ends = [asyncio.ensure_future(w) for w in (work, self._stop.wait(), self.supervisor.broken.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if ends[0].done():
                ends[0].result()
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)

    def _release_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    def _signalled(self, number: signal.Signals) -> None:
        if self._signal:
            self.supervisor.kill()
        self._signal = self._signal or number
        self.stop(number.name)

    async def _wind_down(self) -> None:
        died = self.supervisor.died
        self.workloads.abandon(
            INTERRUPTED if self._stop.is_set() or not died else f"{died[0].name} {died[0].how}"
        )
        if self._trace:
            self.supervisor.segments.trace.end()
            self.traced, _missing = self.supervisor.segments.trace.read()
        for process in self.supervisor.alive:
            _measure(process)
        await self.supervisor.stop()

    def _result(self, error: str | None) -> Result:
        supervisor, flows = self.supervisor, self.workloads.results
        attacks = self.workloads.attack_results
        return Result(
            topology=self.plan.topology,
            seconds=round(time.monotonic() - self.started, 3),
            exit_code=exit_code(
                flows, supervisor.died, error=bool(error), ended_by=self._signal, attacks=attacks
            ),
            interrupted=bool(self._signal),
            error=error,
            flows=flows,
            attacks=attacks,
            processes=tuple(_process_result(process) for process in supervisor.processes.values()),
            died=tuple(supervisor.died),
            reports=tuple(supervisor.reports),
            counters=supervisor.segments.read_counters(),
            machine=machine(),
        )


def _measure(process: Process) -> None:
    process.pss_bytes = usage.pss_bytes(process.pid)
    process.cpu_seconds = usage.cpu_seconds(process.pid)


def _process_result(process: Process) -> ProcessResult:
    return ProcessResult(
        name=process.name,
        role=process.plan.role,
        pid=process.pid,
        cpu_seconds=round(process.cpu_seconds or 0.0, 3),
        pss_bytes=process.pss_bytes,
    )


def raise_descriptor_limit() -> None:
    """Allow this process and its children as many open files as it may ask for: a guest costs several."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run_plan(
    plan: Plan, holder: Holder, watcher: Watcher, roles: Mapping[str, str] = ROLES, trace: str = ""
) -> Result:
    """Run a plan with its workloads, take it down, and return the result; `trace`: a file for a Chrome trace
    of the last events of every process.

    One that has network namespaces and no flows runs until somebody stops it.

    Raises ConfigError when the topology is already running, MachineError when its directory is not safe.
    """

    async def execute() -> Result:
        with claim(holder) as directory:
            stay = not plan.phases and any(guest.taps for guest in guests_of(plan))
            run = Run(plan, directory, watcher, stay=stay, trace=bool(trace), roles=roles)
            result = await run.execute()
            if trace:
                write_json(chrome_trace(Names(plan), run.traced), trace)
            return result

    return uvloop.run(execute())
