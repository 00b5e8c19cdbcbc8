"""`virtbed irq`: the interrupts of a running topology: who got how many of what by which way, what is pending
or active and where, what the ITS's tables say.

Counts are the processes' own; states are asked of vmms and IOMMUs, which go on meanwhile. Not modelled: one
instant for all.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from launcher.figures import NOTHING
from launcher.service import Interrupts, InterruptStatus, ask
from launcher.table import NARROW_GAP, new_table
from testbed.messages.control import EventRoute, ListRegister, VcpuInterrupts

SHOWN_MAX: Final = 6
"""Pending or active interrupts that are named."""
LISTED: Final = "list-registers"
"""The way of whatever no ITS injects."""
_TAKEN: Final = "interrupts."
_PREFIXES = ("interrupts.", "its.", "vgic.", "dma.messages", "exits.irq", "exits.maintenance")


def interrupts_of(name: str) -> InterruptStatus:
    """Ask a running topology. Raises ConfigError and MachineError as `service.ask`."""
    status = ask(name, Interrupts(), InterruptStatus)
    counters = {process: _of_interrupts(counts) for process, counts in status.counters.items()}
    return msgspec.structs.replace(status, counters={p: counts for p, counts in counters.items() if counts})


def _of_interrupts(counts: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in counts.items() if value and _split(name)[1].startswith(_PREFIXES)}


def _split(name: str) -> tuple[str, str]:
    """Return the vCPU that counts, and what."""
    vcpu, dot, rest = name.partition(".")
    is_further = dot and vcpu.startswith("vcpu") and vcpu[4:].isdigit()
    return (vcpu[4:], rest) if is_further else ("0", name)


def irq_view(status: InterruptStatus) -> RenderableType:
    """Return everything as tables; one that would be empty is left out."""
    guests = {vcpu.guest: vcpu.way for vcpu in status.vcpus}
    tables = [_taken(status.counters, guests), _counts(status.counters, guests), _vcpus(status.vcpus)]
    if status.routes:
        tables.append(_routes(status.routes))
    return Group(*tables)


def _taken(counters: dict[str, dict[str, int]], guests: dict[str, str]) -> Table:
    """Return who got how many of what by which way."""
    table = new_table("Interrupts", ["vCPU", "kind", "way"], ["taken"], gap=NARROW_GAP)
    for guest, way in guests.items():
        shown = ""
        for name, value in counters.get(guest, {}).items():
            vcpu, what = _split(name)
            if what.startswith(_TAKEN):
                kind, who = what.removeprefix(_TAKEN), f"{guest}.{vcpu}"
                named = escape(who) if who != shown else ""
                table.add_row(named, escape(kind), way if kind == "vf" else LISTED, f"{value:,}")
                shown = who
    return table


def _counts(counters: dict[str, dict[str, int]], guests: dict[str, str]) -> Table:
    """Return what processes did for interrupts."""
    table = new_table("Counts", ["process", "what"], ["count"], gap=NARROW_GAP)
    for process, counts in counters.items():
        shown = escape(process)
        for name, value in counts.items():
            if process not in guests or not _split(name)[1].startswith(_TAKEN):
                table.add_row(shown, escape(name), f"{value:,}")
                shown = ""
    return table


def _vcpus(vcpus: tuple[VcpuInterrupts, ...]) -> Table:
    columns = ["vCPU", "state", "list registers", "waiting", "active", "vLPIs", "running\npriorities"]
    table = new_table("vCPUs", columns, [], gap=NARROW_GAP)
    for column in table.columns:
        column.vertical = "top"
    for vcpu in vcpus:
        state = "running" if vcpu.running else "waiting"
        if vcpu.resident is not None:
            state += f"\nresident on {vcpu.resident}"
        table.add_row(
            escape(f"{vcpu.guest}.{vcpu.vcpu}"),
            state,
            "\n".join(map(_list_register, vcpu.list_registers)) or NOTHING,
            _numbers((*vcpu.waiting, *(f"{intid} off" for intid in vcpu.disabled))),
            _numbers(vcpu.active),
            _numbers(vcpu.pending),
            " ".join(f"{priority:#04x}" for priority in vcpu.active_priorities) or NOTHING,
        )
    return table


def _numbers(intids: Sequence[object]) -> str:
    """Return some of them, and how many more there are."""
    shown = " ".join(map(str, intids[:SHOWN_MAX])) or NOTHING
    more = len(intids) - SHOWN_MAX
    return shown if more <= 0 else f"{shown} and {more} more"


def _list_register(register: ListRegister) -> str:
    return f"{register.intid} {register.state} {register.priority:#04x}"


def _routes(routes: dict[str, tuple[EventRoute, ...]]) -> Table:
    columns = ["ITS", "function", "DeviceID", "event", "leads to", "doorbell"]
    table = new_table("ITS tables", columns, [], gap=NARROW_GAP)
    for iommu, each in routes.items():
        shown, function = escape(iommu), ""
        for route in each:
            name = escape(route.function) if route.function != function else ""
            doorbell = NOTHING if route.doorbell is None else str(route.doorbell)
            table.add_row(shown, name, f"{route.device:#06x}", str(route.event), _leads_to(route), doorbell)
            shown, function = "", route.function
    return table


def _leads_to(route: EventRoute) -> str:
    kind = "vLPI" if route.virtual else "LPI"
    target = f"vPE {route.target}" if route.virtual else f"collection {route.target}"
    if route.vcpu:
        target += f" ({escape(route.vcpu)})"
    where = "not mapped" if route.processor is None else f"processor {route.processor}"
    return f"{kind} {route.intid} of {target}, {where}"
