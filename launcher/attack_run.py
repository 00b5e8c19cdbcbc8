"""Runs one attack beside the flows of its phase: quiet, harmless and hostile by turns.

A turn lasts some milliseconds; between turns the attacker is told what to be, whoever watches memory is asked
what became of it, and the flows' receivers' counters are read. What a flow keeps is the median over rounds of
its throughput beside the hostile driver in terms of that beside the harmless one, which is as busy with what
is its own: what the attack adds. It depends on the scheduler, which on two cores has a process for each guest
to place beside the NIC's and the IOMMU's: a guest that only computes takes more from the others than any
attack. So what device and IOMMU themselves gave the attacker is counted where they give it (`given`), in
time that they worked, which no other process of the machine changes. The speed beside the same guest asleep
is told too. A harmless turn stands before each hostile one, so that what budgets a sleeping driver has saved
is spent there. Not modelled: attacks that last longer than the flows beside them.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal, Protocol, TypeVar, get_args

from launcher.attack_evidence import Evidence
from launcher.flow_counters import received_frames
from launcher.result import AttackResult, OtherFlow
from launcher.supervisor import Supervisor
from launcher.watcher import Watcher
from testbed.errors import GuestError, PeerGone
from testbed.messages.attack import AttackEntry, Behaviour
from testbed.messages.control import (
    Attacked,
    Attacking,
    BeginAttack,
    EndAttack,
    Guard,
    Guarding,
    Inspect,
    Inspected,
    Turn,
    Turned,
)
from testbed.messages.entries import FlowEntry

AttackState = Literal["waiting", "attacking", "done", "failed"]
ReplyT = TypeVar("ReplyT", Attacking, Turned, Attacked, Guarding, Inspected)
ROUNDS: Final = 9
"""Turns of each kind in an attack, where they are not too short or too long."""
TURN_MIN_SECONDS: Final = 0.01
TURN_MAX_SECONDS: Final = 0.1
SETTLE_LOOKS: Final = 50
"""How often counters are looked at again that their owners may not have published yet."""
SETTLE_SECONDS: Final = 0.01
FIRST_FRAME_LOOKS: Final = 100
"""How often a flow that sends is looked at before its first frame has come."""
_NS_PER_SECOND: Final = 1e9


class Beside(Protocol):
    """A flow of the same phase."""

    @property
    def entry(self) -> FlowEntry: ...

    @property
    def sending(self) -> bool:
        """Its frames are under way now."""
        ...


@dataclass
class _Measured:
    """A flow's throughput in the turns of each kind, frames a second, round by round."""

    flow: Beside
    rates: dict[Behaviour, list[float]] = field(
        default_factory=lambda: {behave: [] for behave in get_args(Behaviour)}
    )

    def result(self) -> OtherFlow | None:
        """Return what it kept; None where it was not measured."""
        rounds = zip(self.rates["hostile"], self.rates["harmless"], strict=False)
        pairs = [pair for pair in rounds if pair[1] > 0]
        if not pairs:
            return None
        rate = {behave: round(median(rates), 1) for behave, rates in self.rates.items()}
        return OtherFlow(
            name=self.flow.entry.name,
            frames_per_second=rate["hostile"],
            harmless_frames_per_second=rate["harmless"],
            quiet_frames_per_second=rate["quiet"],
            kept=round(median(hostile / other for hostile, other in pairs), 3),
        )


@dataclass
class Attack:
    """One attack and how far it is."""

    entry: AttackEntry
    supervisor: Supervisor
    watcher: Watcher
    state: AttackState = "waiting"
    attempts: int = 0
    through: int = 0
    result: AttackResult | None = None
    _measured: list[_Measured] = field(default_factory=list)
    _evidence: Evidence | None = None

    async def run(self, beside: Iterable[Beside]) -> None:
        """Attack until the time is over, or no flow is left beside it."""
        entry = self.entry
        self._measured = [_Measured(flow) for flow in beside if entry.source not in _ends(flow.entry)]
        self._evidence = Evidence(entry, self.supervisor.segments)
        self.state = "attacking"
        try:
            begun = await self._ask(entry.source, BeginAttack(attack=entry), Attacking)
            await self._until_flows_run()
            await self._turns(begun.page_gpa)
            ended = await self._ask(entry.source, EndAttack(attack_id=entry.id), Attacked)
        except (PeerGone, GuestError) as error:
            self._end(failed=str(error))
            return
        self.attempts = ended.attempts
        await self._settle()
        self._end(through=self.through + ended.through, recovered=ended.recovered)

    def abandon(self, why: str) -> None:
        """Account for an attack that was under way when the run was ended."""
        if self.state == "attacking":
            self._end(failed=why)

    async def _until_flows_run(self) -> None:
        """Wait for the first frames of the others: there is nothing to measure before."""
        first = [self._received(each.flow.entry)[0] for each in self._measured]
        for each, frames in zip(self._measured, first, strict=True):
            for _ in range(FIRST_FRAME_LOOKS):
                if not each.flow.sending or self._received(each.flow.entry)[0] > frames:
                    break
                await asyncio.sleep(SETTLE_SECONDS)

    async def _turns(self, page_gpa: int) -> None:
        seconds = self.entry.duration_ns / _NS_PER_SECOND
        turn = min(max(seconds / (len(get_args(Behaviour)) * ROUNDS), TURN_MIN_SECONDS), TURN_MAX_SECONDS)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self._turn(turn, "quiet")
            await self._turn(turn, "harmless")
            target = await self._guard(page_gpa)
            await self._turn(turn, "hostile", target)
            await self._ask(self.entry.source, Turn(attack_id=self.entry.id, behave="quiet"), Turned)
            await self._inspect()
            if self._measured and not any(each.flow.sending for each in self._measured):
                break

    async def _turn(self, seconds: float, behave: Behaviour, target: int = 0) -> None:
        """Have the attacker be one thing for a while, and measure the others."""
        entry = self.entry
        turned = await self._ask(entry.source, Turn(attack_id=entry.id, behave=behave, target=target), Turned)
        self.attempts = turned.attempts
        sending = [each for each in self._measured if each.flow.sending]
        before = [self._received(each.flow.entry) for each in sending]
        await asyncio.sleep(seconds)
        for each, (frames, at_ns) in zip(sending, before, strict=True):
            now_frames, now_ns = self._received(each.flow.entry)
            if each.flow.sending:
                each.rates[behave].append((now_frames - frames) / (now_ns - at_ns) * _NS_PER_SECOND)

    async def _guard(self, page_gpa: int) -> int:
        """Have memory watched; return the address that is to be attacked."""
        entry = self.entry
        if not entry.guard:
            return 0
        guarding = await self._ask(entry.guard, Guard(attack=entry, page_gpa=page_gpa), Guarding)
        if guarding.refused:
            raise GuestError("guard", guarding.refused)
        return guarding.address + entry.guard_hpa

    async def _inspect(self) -> None:
        entry = self.entry
        if entry.guard:
            inspected = await self._ask(entry.guard, Inspect(attack_id=entry.id), Inspected)
            self.through += inspected.changed_bytes

    async def _settle(self) -> None:
        """Wait for the counters of others, who publish them now and then."""
        assert self._evidence is not None
        for _ in range(SETTLE_LOOKS):
            if self._evidence.noticed():
                break
            await asyncio.sleep(SETTLE_SECONDS)

    async def _ask(
        self, name: str, message: BeginAttack | Turn | EndAttack | Guard | Inspect, reply: type[ReplyT]
    ) -> ReplyT:
        entry = self.entry
        also = {entry.source, entry.nic, entry.iommu, entry.vmm} - {name}
        return await self.supervisor.ask(name, message, reply, entry.id, also=also)

    def _received(self, flow: FlowEntry) -> tuple[int, int]:
        """Return the frames that a flow's receiver has had, and when that was."""
        counters = self.supervisor.segments.counters_of(flow.destination)
        return received_frames(flow, counters), time.monotonic_ns()

    def _end(self, *, through: int = 0, recovered: bool = True, failed: str | None = None) -> None:
        entry, evidence = self.entry, self._evidence
        assert evidence is not None
        others: Sequence[OtherFlow | None] = [each.result() for each in self._measured]
        self.state = "failed" if failed else "done"
        self.result = AttackResult(
            name=entry.name,
            attack=entry.attack,
            phase=entry.phase,
            source=entry.source,
            function=entry.function,
            victim=entry.victim,
            attempts=self.attempts,
            stopped_by=evidence.grown(),
            given=evidence.given(),
            noticed=evidence.noticed(),
            through=through + evidence.foreign_frames(),
            recovered=recovered,
            others=tuple(other for other in others if other),
            others_keep=entry.others_keep,
            failed=failed,
        )
        self.watcher.attack_ended(self.result)


def _ends(flow: FlowEntry) -> set[str]:
    return {flow.source, flow.destination}
