"""Several topologies that are up at once and take turns: one phase of each, then the next phase of each.

So what disturbs the machine for a while disturbs them all alike, and each is measured over the whole time.
Whoever has no turn sleeps. Not modelled: topologies with different numbers of phases.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import uvloop

from launcher.compare_ways import POLL_MS
from launcher.machine_speed import machine_speed
from launcher.phase_meter import Phase, PhaseMeter
from launcher.result import FlowResult, Result
from launcher.run import Run
from launcher.rundir import Holder, claim
from testbed.messages.entries import Plan

_REST_SECONDS: Final = (POLL_MS + 1) / 1000
"""Whoever had the turn before looks for work for so long."""
Reached = Callable[[int], None]
"""Called with the number of a phase, from 0, before the first one's turn at it: all had the one before."""


class Turns:
    """Whose turn it is; the first one's comes when everybody has asked for one."""

    def __init__(self, runs: int, reached: Reached) -> None:
        self._turns = [asyncio.Event() for _ in range(runs)]
        self._waiting: set[int] = set()
        self._phase = 0
        self._reached = reached

    async def take(self, number: int) -> None:
        """Return when it is this one's turn."""
        self._waiting.add(number)
        if not self._phase and len(self._waiting) == len(self._turns):
            self._turns[0].set()
        await self._turns[number].wait()
        self._turns[number].clear()
        if number == 0:
            self._reached(self._phase)
            self._phase += 1

    def pass_on(self, number: int) -> None:
        """Let the next one have its turn."""
        self._turns[(number + 1) % len(self._turns)].set()


class TurnMeter(PhaseMeter):
    """Measures the phases of a run that takes turns with others."""

    def __init__(self, turns: Turns, number: int) -> None:
        super().__init__(rest_seconds=_REST_SECONDS)
        self._turns, self._number = turns, number
        self._cpus = sorted(os.sched_getaffinity(0))
        self.speeds: list[float] = []
        """Of the machine, before each phase of the first of them."""

    async def before_phase(self) -> None:
        """Wait for a turn; then as every phase, and once for all look how fast the machine is at rest."""
        await self._turns.take(self._number)
        await super().before_phase()
        if self._number == 0:
            self.speeds.append(machine_speed(self._cpus))

    def flow_ended(self, result: FlowResult) -> None:
        """Take the snapshot after, and let the next one have its turn."""
        super().flow_ended(result)
        self._turns.pass_on(self._number)


@dataclass(frozen=True)
class Outcome:
    """What came of one run."""

    result: Result
    phases: Sequence[Phase]
    speeds: Sequence[float]
    """Of the machine before each phase of the first run, as `machine_speed` has it; no others have any."""


def run_in_turns(plans: Sequence[Plan], roles: Mapping[str, str], reached: Reached) -> list[Outcome]:
    """Bring all plans up, have their phases take turns, take all down; return what came of each.

    Where one ends before its time, so do the others. Raises ConfigError when a topology is already running.
    """

    async def execute() -> list[Outcome]:
        turns = Turns(len(plans), reached)
        meters = [TurnMeter(turns, number) for number in range(len(plans))]
        with contextlib.ExitStack() as held:
            runs = []
            for plan, meter in zip(plans, meters, strict=True):
                directory = held.enter_context(
                    claim(Holder(plan.topology, os.getpid(), "bench", time.time()))
                )
                runs.append(Run(plan, directory, meter, stay=True, roles=roles))
            results = await _until_all_are_done(runs)
        pairs = zip(results, meters, strict=True)
        return [Outcome(result, meter.phases, meter.speeds) for result, meter in pairs]

    return uvloop.run(execute())


async def _until_all_are_done(runs: Sequence[Run]) -> list[Result]:
    ends = [asyncio.ensure_future(run.execute()) for run in runs]
    done = asyncio.ensure_future(_until_idle(runs))
    try:
        await asyncio.wait((done, *ends), return_when=asyncio.FIRST_COMPLETED)
    finally:
        done.cancel()
        for run in runs:
            run.stop("every measurement was made, or one topology has ended")
        await asyncio.wait(ends)
    return [end.result() for end in ends]


async def _until_idle(runs: Sequence[Run]) -> None:
    for run in runs:
        await run.idle.wait()
