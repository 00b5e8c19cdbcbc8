"""From a topology file to a plan that this machine can hold, before anything is started."""

import os
from pathlib import Path

from launcher import rundir
from launcher.capacity import Machine, check_capacity
from launcher.placement import place
from launcher.planner import plan_topology
from launcher.topology import load_topology
from launcher.topology_records import Topology
from testbed.messages.entries import Plan


def prepare(file: Path) -> Plan:
    """Return the plan of a topology file, with a place on this machine's cores where the file names none.

    Raises ConfigError with every mistake, and where the machine is too small.
    """
    plan = plan_fitting(load_topology(file))
    # another topology that runs would be given the same cores
    return plan if rundir.held() else place(plan, sorted(os.sched_getaffinity(0)))


def plan_fitting(topology: Topology) -> Plan:
    """Return the plan of a topology. Raises ConfigError where this machine is too small for it."""
    plan = plan_topology(topology)
    check_capacity(plan, Machine.measure(), rundir.path_of(plan.topology))
    return plan
