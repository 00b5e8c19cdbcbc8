"""A plan as a person reads it: processes with what each may map, then the flows phase by phase.

Not modelled: the difference of two plans.
"""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from launcher import figures
from launcher.table import new_table
from launcher.units import format_duration, format_size
from testbed.messages.attack import AttackEntry
from testbed.messages.entries import (
    POLL_FOREVER,
    FlowEntry,
    GuestEntry,
    Plan,
    ProcessEntry,
    ProcessPlan,
    VmmEntry,
)


def plan_view(plan: Plan) -> RenderableType:
    """Return the whole plan."""
    size = format_size(sum(segment.size_bytes for segment in plan.segments))
    processes = figures.plural(len(plan.processes), "process")
    segments = figures.plural(len(plan.segments), "segment")
    head = f"[bold]{escape(plan.topology)}[/]: {processes}, {segments} of {size} in all"
    parts: list[RenderableType] = [head, "", _process_table(plan.processes)]
    if any(plan.phases):
        parts += ["", _flow_table(plan.phases)]
    if plan.attacks:
        parts += ["", _attack_table(plan.attacks)]
    return Group(*parts)


def _process_table(processes: Iterable[ProcessPlan]) -> Table:
    table = new_table(
        "Processes, in start order", ["process", "host", "NICs", "maps"], ["RAM", "vCPUs", "poll", "CPUs"]
    )
    for process in processes:
        entry = process.entry
        guest = entry if isinstance(entry, GuestEntry) else None
        table.add_row(
            escape(process.name),
            escape(entry.host),
            (_nics(guest) if guest else _sockets(entry)) or figures.NOTHING,
            _maps(process),
            format_size(guest.memory_bytes) if guest else figures.NOTHING,
            str(guest.vcpus) if guest else figures.NOTHING,
            "forever" if entry.poll_ns == POLL_FOREVER else format_duration(entry.poll_ns),
            ",".join(map(str, entry.cpus)) or "any",
        )
    return table


def _nics(guest: GuestEntry) -> str:
    return "\n".join(f"{nic.name} {nic.mac} {nic.summary}" for nic in guest.nics)


def _sockets(entry: ProcessEntry) -> str:
    """Name the NICs that a vmm gives to guests which are not ours."""
    externals = entry.externals if isinstance(entry, VmmEntry) else ()
    return "\n".join(
        escape(f"{external.nic.name} {external.nic.mac} {external.socket or 'vhost-user'}")
        for external in externals
    )


def _maps(process: ProcessPlan) -> str:
    """Name a guest's segments; count those of a vmm."""
    if process.role != "guest":
        return f"{figures.plural(len(process.segments), 'segment')}"
    rights = ((segment.name.rpartition(".")[2], segment.writable) for segment in process.segments)
    return ", ".join(kind if writable else f"{kind} (read)" for kind, writable in rights)


def _flow_table(phases: Iterable[Iterable[FlowEntry]]) -> Table:
    table = new_table("Flows", ["phase", "flow", "kind", "from", "to", "frames", "until", "rate"], [])
    for number, flows in enumerate(phases, start=1):
        for flow in flows:
            table.add_row(
                str(number),
                escape(flow.name),
                flow.kind,
                escape(_sender(flow)),
                escape(_receiver(flow)),
                escape(flow.capture) or ", ".join(f"{size} bytes" for size in flow.frame_bytes),
                _until(flow),
                _rate(flow),
            )
    return table


def _sender(flow: FlowEntry) -> str:
    return (
        f"{flow.source}.vcpu{flow.source_vcpu}"
        if flow.is_interrupts and flow.kind != "steer"
        else f"{flow.source}.nic{flow.source_nic}"
    )


def _attack_table(attacks: Iterable[AttackEntry]) -> Table:
    table = new_table("Attacks", ["phase", "attack", "by", "function", "watched by", "until"], [])
    for attack in attacks:
        table.add_row(
            str(attack.phase),
            escape(attack.name),
            escape(f"{attack.source}.nic{attack.source_nic}"),
            escape(attack.function),
            escape(attack.guard) or figures.NOTHING,
            format_duration(attack.duration_ns),
        )
    return table


def _receiver(flow: FlowEntry) -> str:
    if flow.kind == "steer":
        return f"vCPUs of {flow.destination} in turn"
    if flow.is_interrupts:
        return f"{flow.destination}.vcpu{flow.destination_vcpu}"
    if flow.is_sunk:
        return f"sink in {flow.destination}"
    if flow.ends_on_wire:
        return f"wire at {flow.destination}"
    nic = f"{flow.destination}.nic{flow.destination_nic}"
    return f"{nic} (echo)" if flow.comes_back else nic


def _until(flow: FlowEntry) -> str:
    if flow.kind == "replay":
        return figures.plural(flow.loops, "loop")
    return (
        figures.plural(flow.count, "interrupt" if flow.is_interrupts else "frame")
        if flow.count
        else format_duration(flow.duration_ns)
    )


def _rate(flow: FlowEntry) -> str:
    if flow.is_interrupts:
        return flow.storm or f"every {format_duration(flow.interval_ns)}"
    if flow.captured_times:
        return "captured times"
    return f"{flow.frames_per_second:,.0f} frames/s" if flow.frames_per_second else "full speed"
