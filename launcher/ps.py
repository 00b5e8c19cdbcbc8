"""What runs: all topologies of this user, or the processes and flows of one.

CPU time and memory are read from /proc here, not asked of the launcher. Not modelled: history.
"""

import time

import msgspec
from rich.console import Group, RenderableType
from rich.markup import escape

from launcher import figures, rundir, usage
from launcher.service import FlowStatus, Ps, TopologyStatus, ask
from launcher.table import flow_table, interrupts_table, new_table
from testbed.errors import VirtbedError


class ProcessUse(msgspec.Struct, frozen=True):
    """A process and what it uses now."""

    name: str
    role: str
    pid: int
    state: str
    cpu_seconds: float | None
    pss_bytes: int | None


class Status(msgspec.Struct, frozen=True):
    """One running topology; without processes where its launcher does not answer (yet, or any more)."""

    name: str
    pid: int
    mode: str
    file: str
    state: str
    seconds: float
    processes: list[ProcessUse]
    flows: list[FlowStatus]

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all its processes."""
        return sum(process.cpu_seconds or 0.0 for process in self.processes)

    @property
    def pss_bytes(self) -> int:
        """Memory of all its processes."""
        return sum(process.pss_bytes or 0 for process in self.processes)


def status(name: str) -> Status:
    """Return one running topology. Raises ConfigError when it does not run."""
    holder = rundir.find(name)
    return _combine(holder, ask(name, Ps(), TopologyStatus))


def all_status() -> list[Status]:
    """Return every running topology of this user."""
    return [_status_or_silent(holder) for holder in rundir.held()]


def _status_or_silent(holder: rundir.Holder) -> Status:
    try:
        return status(holder.name)
    except VirtbedError:
        seconds = round(time.time() - holder.started, 3)
        return Status(holder.name, holder.pid, holder.mode, holder.file, "silent", seconds, [], [])


def _combine(holder: rundir.Holder, told: TopologyStatus) -> Status:
    processes = [
        ProcessUse(p.name, p.role, p.pid, p.state, *_use(p.pid if p.state != "gone" else 0))
        for p in told.processes
    ]
    return Status(
        told.name, holder.pid, holder.mode, holder.file, told.state, told.seconds, processes, told.flows
    )


def _use(pid: int) -> tuple[float | None, int | None]:
    return (usage.cpu_seconds(pid), usage.pss_bytes(pid)) if pid else (None, None)


def ps_view(shown: Status | list[Status]) -> RenderableType:
    """Return one topology with its processes and flows, or all of them with a line each."""
    return _one(shown) if isinstance(shown, Status) else _all(shown)


def _all(topologies: list[Status]) -> RenderableType:
    if not topologies:
        return "no topology is running"
    table = new_table(
        "", ["topology", "state", "mode", "file"], ["pid", "up", "processes", "flows", "CPU s", "PSS MiB"]
    )
    for topology in topologies:
        done = sum(flow.result is not None for flow in topology.flows)
        table.add_row(
            escape(topology.name),
            topology.state,
            topology.mode,
            escape(topology.file),
            str(topology.pid),
            figures.seconds(topology.seconds),
            str(len(topology.processes)),
            f"{done}/{len(topology.flows)}",
            f"{topology.cpu_seconds:.2f}",
            figures.mebibytes(topology.pss_bytes),
        )
    return table


def _one(topology: Status) -> RenderableType:
    table = new_table("Processes", ["process", "role", "state"], ["pid", "CPU s", "PSS MiB"])
    for process in topology.processes:
        cpu = figures.NOTHING if process.cpu_seconds is None else f"{process.cpu_seconds:.2f}"
        memory = figures.mebibytes(process.pss_bytes)
        pid = str(process.pid or figures.NOTHING)
        table.add_row(escape(process.name), process.role, process.state, pid, cpu, memory)
    head = f"[bold]{escape(topology.name)}[/] {topology.state}, up {figures.seconds(topology.seconds)}"
    parts: list[RenderableType] = [head, "", table]
    done = [flow.result for flow in topology.flows if flow.result]
    if frames := [flow for flow in done if not flow.is_interrupts]:
        parts += ["", flow_table(frames)]
    if interrupts := [flow for flow in done if flow.is_interrupts]:
        parts += ["", interrupts_table(interrupts)]
    parts += [f"flow {escape(flow.name)}: {flow.state}" for flow in topology.flows if not flow.result]
    return Group(*parts)
