"""Which processors the processes of a small topology run on, where its file does not say.

With more processes than cores, all of which poll, the scheduler moves them about at every yield. A vmm is
in the way of every frame, so it gets a core of its own and the guests share the others: measured on two
cores, two guests and their vmm move as many frames or more and answer in seven tenths of the time. Pure: the
same plan and cores give the same plan. Not modelled: caches shared between cores, several topologies at once.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from testbed.messages.entries import Plan, ProcessPlan

CROWD: Final = 2
"""Processes a core from which on nothing is gained: most of them sleep, and any core may wake them."""


def place(plan: Plan, cores: Sequence[int]) -> Plan:
    """Return the plan with `cpus` for every process, or as it is where that helps nobody.

    `cores`: the processors that may be used.
    """
    vmms = [process for process in plan.processes if process.role == "vmm"]
    crowded = len(cores) < len(plan.processes) <= CROWD * len(cores)
    told = any(process.entry.cpus for process in plan.processes)
    polls = any(process.entry.poll_ns for process in plan.processes)
    if told or not polls or not crowded or len(vmms) >= len(cores):
        return plan
    own = {vmm.name: (core,) for vmm, core in zip(vmms, cores, strict=False)}
    rest = tuple(cores[len(vmms) :])
    return replace(plan, processes=tuple(_on(p, own.get(p.name, rest)) for p in plan.processes))


def _on(process: ProcessPlan, cpus: tuple[int, ...]) -> ProcessPlan:
    return replace(process, entry=replace(process.entry, cpus=cpus))
