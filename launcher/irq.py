"""`virtbed irq`: the interrupts of a running topology: who got how many of what, what is pending or active,
what the ITS's tables say.

Counts are the processes' own; states are asked of vmms and IOMMUs, which go on meanwhile. Not modelled: one
instant for all.
"""

import msgspec
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from launcher.service import Interrupts, InterruptStatus, ask
from launcher.table import new_table
from testbed.messages.control import EventRoute, ListRegister, VcpuInterrupts

_PREFIXES = ("interrupts.", "its.", "vgic.", "dma.messages", "exits.irq", "exits.maintenance")


def interrupts_of(name: str) -> InterruptStatus:
    """Ask a running topology. Raises ConfigError and MachineError as `service.ask`."""
    status = ask(name, Interrupts(), InterruptStatus)
    counters = {process: _of_interrupts(counts) for process, counts in status.counters.items()}
    return msgspec.structs.replace(status, counters={p: counts for p, counts in counters.items() if counts})


def _of_interrupts(counts: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in counts.items() if value and name.startswith(_PREFIXES)}


def irq_view(status: InterruptStatus) -> RenderableType:
    """Return everything as tables; one that would be empty is left out."""
    tables = [_counts(status), _vcpus(status.vcpus)]
    if status.routes:
        tables.append(_routes(status.routes))
    return Group(*tables)


def _counts(status: InterruptStatus) -> Table:
    table = new_table("Interrupts", ["process", "what"], ["count"])
    for process, counts in status.counters.items():
        shown = escape(process)
        for name, value in counts.items():
            table.add_row(shown, escape(name), f"{value:,}")
            shown = ""
    return table


def _vcpus(vcpus: tuple[VcpuInterrupts, ...]) -> Table:
    columns = ["vCPU", "way", "state", "pending", "list registers", "active priorities"]
    table = new_table("vCPUs", columns, [])
    for vcpu in vcpus:
        state = "running" if vcpu.running else "waiting"
        if vcpu.resident is not None:
            state += f", resident on {vcpu.resident}"
        table.add_row(
            escape(f"{vcpu.guest}.{vcpu.vcpu}"),
            vcpu.way,
            state,
            " ".join(map(str, vcpu.pending)) or "-",
            "; ".join(map(_list_register, vcpu.list_registers)) or "-",
            " ".join(f"{priority:#04x}" for priority in vcpu.active_priorities) or "-",
        )
    return table


def _list_register(register: ListRegister) -> str:
    return f"{register.intid} {register.state} {register.priority:#04x}"


def _routes(routes: dict[str, tuple[EventRoute, ...]]) -> Table:
    table = new_table("ITS", ["host", "DeviceID", "EventID", "leads to", "doorbell"], [])
    for iommu, each in routes.items():
        shown = escape(iommu)
        for route in each:
            doorbell = "-" if route.doorbell is None else str(route.doorbell)
            table.add_row(shown, f"{route.device:#06x}", str(route.event), _leads_to(route), doorbell)
            shown = ""
    return table


def _leads_to(route: EventRoute) -> str:
    target = f"vPE {route.target}" if route.virtual else f"collection {route.target}"
    kind = "virtual LPI" if route.virtual else "LPI"
    where = "not mapped" if route.processor is None else f"processor {route.processor}"
    return f"{kind} {route.intid} of {target}, {where}"
