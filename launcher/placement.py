"""Which processors the processes of a small topology run on, where its file does not say.

With more processes than cores, all of which poll, the scheduler moves them about at every yield. A vmm is
in the way of every frame, so it gets a core of its own and the guests share the others: measured on two
cores, two guests and their vmm move as many frames or more and answer in seven tenths of the time. Where
frames go by virtual functions alone, no vmm is in their way: NICs get a core, and guests and IOMMUs share the
others: measured on two cores, mediated functions send a quarter more frames and answer in six sevenths of the
time, with ATS nothing changes. Processes that all sleep at once, and of which only one at a time has anything
to do, share one core: to wake another that has halted takes three times as long as to wake a process on one's
own. Pure: the same plan and cores give the same plan. Not modelled: caches shared between cores, several
topologies at once.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from testbed.messages.entries import GuestEntry, Plan, ProcessPlan, VfEntry

CROWD_OF_FUNCTIONS: Final = 3
"""The same of those that flows between virtual functions pass, whose others sleep."""
CROWD: Final = 2
"""Processes a core from which on nothing is gained: most of them sleep, and any core may wake them."""


def place(plan: Plan, cores: Sequence[int]) -> Plan:
    """Return the plan with `cpus` for every process, or as it is where that helps nobody.

    `cores`: the processors that may be used.
    """
    if any(process.role == "nic" for process in plan.processes):
        return _place_functions(plan, cores)
    vmms = [process for process in plan.processes if process.role == "vmm"]
    crowded = len(cores) < len(plan.processes) <= CROWD * len(cores)
    told = any(process.entry.cpus for process in plan.processes)
    if not told and len(plan.processes) <= CROWD * len(cores) and _take_turns(plan):
        return replace(plan, processes=tuple(_on(process, tuple(cores[-1:])) for process in plan.processes))
    polls = any(process.entry.poll_ns for process in plan.processes)
    if told or not polls or not crowded or len(vmms) >= len(cores):
        return plan
    own = {vmm.name: (core,) for vmm, core in zip(vmms, cores, strict=False)}
    rest = tuple(cores[len(vmms) :])
    return replace(plan, processes=tuple(_on(p, own.get(p.name, rest)) for p in plan.processes))


def _place_functions(plan: Plan, cores: Sequence[int]) -> Plan:
    """Place the processes of a topology with NICs whose flows are all between virtual functions."""
    flows = [flow for phase in plan.phases for flow in phase]
    busy = {name for flow in flows for name in (flow.source, flow.destination, *flow.through)}
    crowded = 1 < len(cores) < len(busy) <= CROWD_OF_FUNCTIONS * len(cores)
    told = any(process.entry.cpus for process in plan.processes)
    polls = any(process.entry.poll_ns for process in plan.processes)
    if told or not polls or not crowded or not all(_is_direct(p) for p in plan.processes if p.name in busy):
        return plan
    nics, rest = tuple(cores[:1]), tuple(cores[1:])
    placed = (_on(p, nics if p.role == "nic" else rest) for p in plan.processes)
    return replace(plan, processes=tuple(placed))


def _is_direct(process: ProcessPlan) -> bool:
    """Whether no frame of a process passes a vmm."""
    entry = process.entry
    return not isinstance(entry, GuestEntry) or all(isinstance(nic, VfEntry) for nic in entry.nics)


def _take_turns(plan: Plan) -> bool:
    """Say whether nobody polls and all there is to do is one question and its answer after the other."""
    asks = all(len(phase) == 1 and phase[0].kind == "rr" for phase in plan.phases)
    return bool(plan.phases) and asks and not any(process.entry.poll_ns for process in plan.processes)


def _on(process: ProcessPlan, cpus: tuple[int, ...]) -> ProcessPlan:
    return replace(process, entry=replace(process.entry, cpus=cpus))
