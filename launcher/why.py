"""`virtbed why`: a problem that I/O virtualization solves, run as it is and run with its cure, side by side.

The topologies are files that `virtbed run` takes as well. Not modelled: problems of several runs.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import msgspec
from rich.console import Group, RenderableType
from rich.markup import escape

from launcher import figures
from launcher.forkclient import ROLES
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Machine, Result, machine
from launcher.run import run_plan
from launcher.rundir import Holder
from launcher.table import new_table
from launcher.topology import load_topology, parse_topology
from launcher.topology_records import Flow, Topology
from launcher.watcher import Watcher
from launcher.why_cases import CASES, Case
from testbed.errors import ConfigError

DIRECTORY: Final = Path(__file__).parents[1] / "configs" / "why"
_NS_PER_SECOND: Final = 1e9


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two runs."""

    file: str
    what: str
    exit_code: int
    figures: dict[str, float]


class WhyResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen."""

    schema: int
    name: str
    unsafe: Side
    fixed: Side
    refused: str
    """What `virtbed check` says of the first file when it does not say that it is unsafe, or would have more
    guests share a NIC than that has functions.
    """
    holds: bool
    """The first run had the problem, the second did not."""
    machine: Machine


def find_case(name: str) -> Case:
    """Return a case by its name. Raises ConfigError where there is none."""
    found = next((case for case in CASES if case.name == name), None)
    if found is None:
        raise ConfigError(f"why: must be one of {', '.join(case.name for case in CASES)}, not {name}")
    return found


def topology_file(name: str) -> Path:
    """Return where a topology of this module's is. Raises ConfigError where the source tree is not here."""
    path = DIRECTORY / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"{path} is not there: virtbed why needs the configs of its source tree")
    return path


def shortened(topology: Topology, seconds: float) -> Topology:
    """Return a topology whose timed workloads take so long; 0: as its file says."""
    if not seconds:
        return topology

    def shorter(flow: Flow) -> Flow:
        return replace(flow, duration_ns=int(seconds * _NS_PER_SECOND)) if flow.duration_ns else flow

    attacks = (replace(attack, duration_ns=int(seconds * _NS_PER_SECOND)) for attack in topology.attacks)
    phases = tuple(tuple(map(shorter, phase)) for phase in topology.phases)
    return replace(topology, phases=phases, attacks=tuple(attacks))


def look(
    case: Case, seconds: float, told: Callable[[str], None], roles: Mapping[str, str] = ROLES
) -> WhyResult:
    """Run both topologies of a case; `told` is given a line about each.

    Raises ConfigError where the files are not there or this machine is too small for one, BenchFailed where
    a person ended it.
    """
    unsafe = _side(case, "unsafe", seconds, told, roles)
    fixed = _side(case, "fixed", seconds, told, roles)
    codes = (unsafe.exit_code, fixed.exit_code)
    holds = codes == case.expects and case.harmed(unsafe.figures, fixed.figures)
    refused = refusal(case)
    return WhyResult(
        schema=1,
        name=case.name,
        unsafe=unsafe,
        fixed=fixed,
        refused=refused,
        holds=holds and bool(refused),
        machine=machine(),
    )


def refusal(case: Case) -> str:
    """Return what `virtbed check` says of a file with the problem but without its excuse; empty: nothing."""
    file = topology_file(case.name)
    text = re.sub(*case.refused, file.read_text())
    try:
        parse_topology(text, _shown(file), file.parent)
    except ConfigError as error:
        return error.problems[0]
    return ""


def _side(
    case: Case,
    side: Literal["unsafe", "fixed"],
    seconds: float,
    told: Callable[[str], None],
    roles: Mapping[str, str],
) -> Side:
    file = topology_file(case.name if side == "unsafe" else f"{case.name}-fixed")
    what = case.problem if side == "unsafe" else case.cure
    told(f"{'the problem' if side == 'unsafe' else 'the cure'} ({_shown(file)}): {what}")
    result = run_topology(shortened(load_topology(file), seconds), roles)
    if result.interrupted:
        raise BenchFailed(result)
    measured = dict(case.figures(result)) if result.flows else {}
    return Side(file=_shown(file), what=what, exit_code=result.exit_code, figures=measured)


def run_topology(topology: Topology, roles: Mapping[str, str] = ROLES) -> Result:
    """Run a topology, under a name that no other run of it has, and return the result."""
    plan = plan_fitting(replace(topology, name=f"{topology.name}-{os.getpid()}"))
    return run_plan(plan, Holder(plan.topology, os.getpid(), "run", time.time()), Watcher(), roles)


def _shown(file: Path) -> str:
    return "/".join(file.parts[-3:])


def why_table(seen: WhyResult) -> RenderableType:
    """Return both runs side by side, and what follows."""
    table = new_table(f"why {seen.name}", [""], ["the problem", "the cure"])
    for name in dict.fromkeys((*seen.unsafe.figures, *seen.fixed.figures)):
        table.add_row(name, *(_figure(side.figures.get(name)) for side in (seen.unsafe, seen.fixed)))
    return Group(table, "", f"virtbed check refuses it otherwise: {escape(seen.refused)}", _verdict(seen))


def _figure(value: float | None) -> str:
    return figures.NOTHING if value is None else f"{value:,.10g}"


def _verdict(seen: WhyResult) -> str:
    if seen.holds:
        return f"[green]the problem was there, and with the cure it was not[/]: {seen.fixed.what}"
    codes = f"exit codes {seen.unsafe.exit_code} and {seen.fixed.exit_code}"
    return f"[bold red]the runs do not show it[/] ({codes}): try again on a machine that is less busy"
