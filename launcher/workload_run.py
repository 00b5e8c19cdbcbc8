"""Runs a plan's workloads: phases one after another, the flows of a phase at the same time.

A flow is three questions: `Expect` to its receiver, `Start` to its sender, `Collect` to its receiver with
what was sent. All receivers of a phase expect before its first sender starts. A flow whose guest dies has
failed; the others go on.

Not modelled: flows that depend on each other within a phase.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from launcher.attack_run import Attack
from launcher.result import AttackResult, FlowResult, failed_flow, flow_result
from launcher.supervisor import Supervisor
from launcher.watcher import Watcher
from testbed.errors import PeerGone
from testbed.messages.attack import AttackEntry
from testbed.messages.control import Cancel, Collect, Expect, Expecting, Received, Sent, Start
from testbed.messages.entries import FlowEntry, Plan

FlowState = Literal["waiting", "expecting", "sending", "collecting", "done", "failed"]
_ENDED: Final = ("done", "failed")


@dataclass
class Flow:
    """A flow and how far it is."""

    entry: FlowEntry
    phase: int
    """From 1."""
    state: FlowState = "waiting"
    sent: Sent | None = None
    result: FlowResult | None = None


@dataclass(frozen=True)
class _Beside:
    """A flow as an attack beside it has to know it."""

    flow: Flow

    @property
    def entry(self) -> FlowEntry:
        return self.flow.entry

    @property
    def sending(self) -> bool:
        return self.flow.state == "sending"


@dataclass
class WorkloadRun:
    """The workloads of one run."""

    plan: Plan
    supervisor: Supervisor
    watcher: Watcher
    flows: list[Flow] = field(init=False)
    attacks: list[Attack] = field(init=False)

    def __post_init__(self) -> None:
        phases = enumerate(self.plan.phases, start=1)
        self.flows = [Flow(entry, number) for number, entries in phases for entry in entries]
        self.attacks = [Attack(entry, self.supervisor, self.watcher) for entry in self.plan.attacks]

    @property
    def results(self) -> tuple[FlowResult, ...]:
        """The accounts of the flows that are over."""
        return tuple(flow.result for flow in self.flows if flow.result)

    @property
    def attack_results(self) -> tuple[AttackResult, ...]:
        """The accounts of the attacks that are over."""
        return tuple(attack.result for attack in self.attacks if attack.result)

    async def run(self) -> None:
        """Run every phase."""
        for number in range(1, len(self.plan.phases) + 1):
            flows = [flow for flow in self.flows if flow.phase == number]
            await self.watcher.before_phase()
            attacks = [attack for attack in self.attacks if attack.entry.phase == number]
            entries: list[FlowEntry | AttackEntry] = [flow.entry for flow in flows]
            entries += [attack.entry for attack in attacks]
            self.watcher.phase_started(number, entries)
            await _together(self.expect(flow) for flow in flows)
            transfers = [self.transfer(flow) for flow in flows if flow.state not in _ENDED]
            await _together(
                [*transfers, *(attack.run(_Beside(flow) for flow in flows) for attack in attacks)]
            )

    def abandon(self, why: str) -> None:
        """Account for the flows that were under way when the run was ended."""
        for flow in self.flows:
            if flow.state not in ("waiting", *_ENDED):
                self._fail(flow, why)
        for attack in self.attacks:
            attack.abandon(why)

    async def expect(self, flow: Flow) -> None:
        """Have a flow's receiver ready."""
        entry = flow.entry
        flow.state = "expecting"
        try:
            message = Expect(flow=entry)
            await self.supervisor.ask(
                entry.destination, message, Expecting, entry.id, also=(entry.source, *entry.through)
            )
        except PeerGone as error:
            await self._give_up(flow, error)

    async def transfer(self, flow: Flow) -> None:
        """Send a flow whose receiver is ready, and account for it."""
        entry, ask = flow.entry, self.supervisor.ask
        try:
            flow.state = "sending"
            sent = await ask(
                entry.source, Start(flow=entry), Sent, entry.id, also=(entry.destination, *entry.through)
            )
            flow.sent, flow.state = sent, "collecting"
            collect = Collect(flow_id=entry.id, sent=sent.sent)
            received = await ask(entry.destination, collect, Received, entry.id, also=entry.through)
        except PeerGone as error:
            await self._give_up(flow, error)
        else:
            self._end(flow, flow_result(entry, flow.phase, sent, received))

    async def _give_up(self, flow: Flow, error: PeerGone) -> None:
        self._fail(flow, str(error))
        for guest in (flow.entry.source, flow.entry.destination):
            if self.supervisor.processes[guest].alive:
                await self.supervisor.tell(guest, Cancel(flow_id=flow.entry.id))

    def _fail(self, flow: Flow, why: str) -> None:
        self._end(flow, failed_flow(flow.entry, flow.phase, why, flow.sent))
        flow.state = "failed"

    def _end(self, flow: Flow, result: FlowResult) -> None:
        flow.state, flow.result = "done", result
        self.watcher.flow_ended(result)


async def _together(steps: Iterable[Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(step)
