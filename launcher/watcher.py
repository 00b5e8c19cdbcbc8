"""What happens in a run, told to whoever shows it.

A watcher is called from the event loop and must not block; this one ignores everything, the views override
what they show.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.result import AttackResult, Died, FlowResult, Result
from testbed.messages.attack import AttackEntry
from testbed.messages.control import GuestReport
from testbed.messages.entries import FlowEntry, Plan

if TYPE_CHECKING:
    from launcher.run import Run


class Watcher:
    """Hears what happens in a run."""

    def begin(self, run: "Run") -> None:
        """Look at this run from now on."""

    async def end(self, result: Result) -> None:
        """Look no more: this came of it. Whoever waits for the result is told afterwards."""

    def starting(self, plan: Plan) -> None:
        """Processes are about to be started."""

    def ready(self, processes: int, seconds: float) -> None:
        """Every process has said READY."""

    async def before_phase(self) -> None:
        """The next phase begins when this returns."""

    def phase_started(self, phase: int, flows: Sequence[FlowEntry | AttackEntry]) -> None:
        """A phase begins (from 1)."""

    def flow_ended(self, result: FlowResult) -> None:
        """A flow is over, well or not."""

    def attack_ended(self, result: AttackResult) -> None:
        """An attack is over, stopped or not."""

    def died(self, died: Died) -> None:
        """A process ended that should not have."""

    def reported(self, report: GuestReport) -> None:
        """A guest broke a rule."""

    def stopping(self, why: str) -> None:
        """The run ends before its workloads do."""
