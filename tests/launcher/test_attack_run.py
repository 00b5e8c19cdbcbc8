"""One attack as the launcher runs it: turns, what is measured in each, and what is made of it."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from launcher import attack_run
from launcher.attack_run import Attack
from launcher.supervisor import Supervisor
from launcher.watcher import Watcher
from testbed.errors import PeerGone
from testbed.messages.attack import AttackEntry, AttackName
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
from tests.support.plans import flow

REFUSED = "nic0.vf0.refused"
DECIDED = "nic0.vf0.decided_ns"
WORKED_NS = 1_000_000


@dataclass
class Beside:
    entry: FlowEntry
    sending: bool = True


@dataclass
class Host:
    """Processes that answer at once; the attacker is refused once in each hostile turn."""

    changed_bytes: int = 0
    foreign_frames: int = 0
    notices: bool = True
    dies_in: str = ""
    asked: list[object] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = {"iommu": ["fault.F_TRANSLATION", REFUSED, DECIDED, "iotlb.hits"], "nic": [], "vmm": []}
        self.counters = {process: dict.fromkeys(mine, 0) for process, mine in names.items()}
        self.counters |= {guest: {"nic0.foreign_frames": 0, "nic0.rx_frames": 0} for guest in "mab"}
        self.segments = SimpleNamespace(guests=("m", "a", "b"), counters_of=self._counters_of)

    def _counters_of(self, process: str) -> dict[str, int]:
        self.counters["b"]["nic0.rx_frames"] += 1000
        return dict(self.counters[process])

    async def ask(self, name: str, message: Any, reply: Any, number: int, also: set[str]) -> Any:
        assert name not in also
        if type(message).__name__ == self.dies_in:
            raise PeerGone(f"{name} killed by SIGKILL")
        self.asked.append(message)
        match message:
            case BeginAttack():
                return Attacking(attack_id=number, page_gpa=0x1000)
            case Turn():
                if message.behave == "hostile":
                    self._count()
                return Turned(attack_id=number, attempts=3, through=0)
            case Guard():
                return Guarding(attack_id=number, address=0x2000)
            case Inspect():
                return Inspected(attack_id=number, changed_bytes=self.changed_bytes)
            case EndAttack():
                return Attacked(attack_id=number, attempts=5, through=0, recovered=True)
        raise AssertionError(reply)

    def _count(self) -> None:
        if self.notices:
            self.counters["iommu"]["fault.F_TRANSLATION"] += 1
            self.counters["iommu"][REFUSED] += 1
        self.counters["iommu"]["iotlb.hits"] += 7
        self.counters["iommu"][DECIDED] += WORKED_NS
        self.counters["a"]["nic0.foreign_frames"] += self.foreign_frames
        self.counters["m"]["nic0.foreign_frames"] += 99


def between(number: int, source: str, destination: str) -> FlowEntry:
    return msgspec.structs.replace(flow(number, source, destination), source_mac="52:54:00:00:00:02")


def entry(attack: AttackName = "dma-other-guest") -> AttackEntry:
    return AttackEntry(
        id=1,
        name="attack",
        phase=1,
        attack=attack,
        source="m",
        source_nic=0,
        function="nic0.vf0",
        nic="nic",
        pool=0,
        iommu="iommu",
        vmm="vmm",
        guard="a" if attack == "dma-other-guest" else "",
        guard_hpa=0x100_0000,
        duration_ns=100_000_000,
    )


async def attacked(host: Host, *flows: Beside, attack: AttackName = "dma-other-guest") -> Attack:
    run = Attack(entry(attack), cast(Supervisor, host), Watcher())
    await run.run(flows)
    return run


async def test_hostile_and_harmless_turns_alternate_with_the_memory_watched() -> None:
    host = Host()
    run = await attacked(host)
    assert run.result is not None
    kinds = [type(message) for message in host.asked]
    assert kinds[:8] == [BeginAttack, Turn, Turn, Guard, Turn, Turn, Inspect, Turn]
    assert kinds[-2:] == [Inspect, EndAttack]
    turns = [message for message in host.asked if isinstance(message, Turn)]
    assert [turn.behave for turn in turns[:5]] == ["quiet", "harmless", "hostile", "quiet", "quiet"]
    assert {turn.target for turn in turns} == {0, 0x100_2000}
    hostile = sum(turn.behave == "hostile" for turn in turns)
    assert run.result.stopped_by == {"iommu fault.F_TRANSLATION": hostile, f"iommu {REFUSED}": hostile}
    assert list(run.result.given) == ["iommu"]
    assert 0 < run.result.given["iommu"] <= hostile * WORKED_NS / run.entry.duration_ns
    assert (run.result.attempts, run.result.through, run.result.good, run.state) == (5, 0, True, "done")


async def test_changed_memory_and_foreign_frames_have_got_through() -> None:
    run = await attacked(Host(changed_bytes=4))
    assert run.result is not None
    assert run.result.through % 4 == 0
    assert not run.result.good
    heard = await attacked(Host(foreign_frames=2), attack="dma-unmapped")
    assert heard.result is not None
    assert heard.result.through % 2 == 0
    assert "got through" in heard.result.wrong


async def test_what_nothing_counts_is_told(monkeypatch: Any) -> None:
    monkeypatch.setattr(attack_run, "SETTLE_LOOKS", 2)
    run = await attacked(Host(notices=False))
    assert run.result is not None
    assert (run.result.stopped_by, run.result.wrong) == ({}, "nothing noticed 5 attempts")


async def test_flows_that_send_are_measured_in_both_kinds_of_turn_and_others_are_not() -> None:
    flows = (
        Beside(between(1, "a", "b")),
        Beside(between(2, "b", "a"), sending=False),
        Beside(between(3, "m", "b")),
    )
    run = await attacked(Host(), *flows)
    assert run.result is not None
    (other,) = run.result.others
    assert (other.name, other.kept > 0) == ("a-b", True)


async def test_the_attack_ends_with_the_last_flow_beside_it() -> None:
    host = Host()
    run = await attacked(host, Beside(between(1, "a", "b"), sending=False))
    turns = [message for message in host.asked if isinstance(message, Turn)]
    assert [turn.behave for turn in turns] == ["quiet", "harmless", "hostile", "quiet"]
    assert run.result is not None
    assert run.result.good


async def test_an_attack_whose_process_dies_has_failed_and_one_that_is_abandoned_too() -> None:
    run = await attacked(Host(dies_in="Guard"))
    assert run.result is not None
    assert (run.state, run.result.failed) == ("failed", "a killed by SIGKILL")
    waiting = Attack(entry(), cast(Supervisor, Host()), Watcher())
    waiting.abandon("interrupted")
    assert waiting.result is None
