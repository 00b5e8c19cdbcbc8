"""Questions and orders about virtual functions of a running topology, from the service's side.

Each vmm knows the NICs of its host; one that is gone has none. Not modelled: changes of several virtual
functions at once.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final

import msgspec

from launcher.problems import did_you_mean
from launcher.processes import VMM
from testbed.errors import PeerGone
from testbed.messages.control import NicState, SetVf, ShowVfs, VfChanges, VfSet, VfStates

if TYPE_CHECKING:
    from launcher.run import Run

_numbers: Final = itertools.count(1)


class ListVfs(msgspec.Struct, frozen=True, tag=True):
    """Ask what virtual functions there are; `VfList` answers."""


class VfList(msgspec.Struct, frozen=True):
    """Every NIC with virtual functions."""

    nics: list[NicState]


class ChangeVf(msgspec.Struct, frozen=True, tag=True):
    """Change settings of a virtual function; `Changed` answers."""

    nic: str
    number: int
    changes: VfChanges


class Changed(msgspec.Struct, frozen=True):
    """The settings are in force, unless there is a problem."""

    problem: str = ""


async def list_vfs(run: Run) -> VfList:
    """Ask every vmm."""
    found = await asyncio.gather(*(_nics_of(run, vmm) for vmm in _vmms(run)))
    return VfList([nic for nics in found for nic in nics])


async def change_vf(run: Run, request: ChangeVf) -> Changed:
    """Have the vmm change it whose host has the NIC."""
    names: list[str] = []
    for vmm in _vmms(run):
        nics = [nic.name for nic in await _nics_of(run, vmm)]
        names += nics
        if request.nic in nics:
            return await _change(run, vmm, request)
    there = f"; there are {', '.join(names)}" if names else "; it has no NIC with virtual functions"
    hint = did_you_mean(request.nic, names) or there
    return Changed(f"topology {run.plan.topology} has no NIC {request.nic}{hint}")


async def _change(run: Run, vmm: str, request: ChangeVf) -> Changed:
    number = next(_numbers)
    order = SetVf(request_id=number, nic=request.nic, number=request.number, changes=request.changes)
    try:
        answer = await run.supervisor.ask(vmm, order, VfSet, number)
    except PeerGone as error:
        return Changed(str(error))
    return Changed(answer.refused)


async def _nics_of(run: Run, vmm: str) -> tuple[NicState, ...]:
    number = next(_numbers)
    try:
        answer = await run.supervisor.ask(vmm, ShowVfs(request_id=number), VfStates, number)
    except PeerGone:
        return ()
    return answer.nics


def _vmms(run: Run) -> list[str]:
    return [process.name for process in run.plan.processes if process.role == VMM]
