"""A topology that is up in the background while a test talks to it from outside."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from launcher import background, service
from launcher.background import Order, Up
from launcher.planner import plan_topology
from launcher.result import Result
from launcher.rundir import wait_until_free
from launcher.service import CounterStatus, Ps, Stats, TopologyStatus
from launcher.topology import parse_topology
from testbed.messages.patience import awaited

PATIENCE_SECONDS: Final = 60.0
"""A safety net only."""
STILL_SECONDS: Final = 0.2


class Background:
    """A topology that is up until `down`; its counters can be read."""

    def __init__(self, text: str, directory: Path) -> None:
        topology = parse_topology(text, directory=directory)
        self.name = topology.name
        started = background.start(Order(plan=plan_topology(topology)))
        assert isinstance(started, Up), started

    def pid_of(self, process: str) -> int:
        """Return the pid of one of its processes."""
        status = service.ask(self.name, Ps(), TopologyStatus)
        return next(each.pid for each in status.processes if each.name == process)

    def count(self, name: str, process: str = "vmm-h0") -> int:
        """Return a counter as it is now."""
        return service.ask(self.name, Stats(), CounterStatus).counters[process][name]

    def settled(self, name: str) -> int:
        """Return a counter once it stands still for a while."""
        seen = self.count(name)
        while awaited(lambda: self.count(name) != seen, STILL_SECONDS):  # noqa: B023 used at once
            seen = self.count(name)
        return seen

    def down(self) -> Result:
        """Take it down; return what it was."""
        result = service.ask(self.name, service.Down(), Result)
        wait_until_free(self.name)
        return result


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does; fail where it never does."""
    assert awaited(holds, PATIENCE_SECONDS), f"never: {what}"
