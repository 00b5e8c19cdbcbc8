"""Pages that the hypervisor takes from an attacking guest: nothing that was cached reaches them any more."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from testbed.memory.segment import Segment
from testbed.messages.attack import AttackEntry, AttackName
from testbed.messages.control import FromProcess, Guard, Guarding, Inspect, Inspected
from testbed.vmm.guarded import PATTERN, GuardedPages, Stage2
from tests.iommu.machine import GUEST, PAGE, RAM
from tests.vmm.test_assignment import FIRST, HALF, Host


class Guarded:
    """A host whose guest a attacks with one function; the page at `GUEST + PAGE` is its own."""

    def __init__(self) -> None:
        self.host = Host()
        self.host.give("a", FIRST)
        self.sent: list[FromProcess] = []
        self.own_hpa = RAM + 2 * HALF - PAGE
        ram = SimpleNamespace(hpa=RAM, view=self.host.memory.view(RAM, HALF))
        tables = self.host.spaces["a"]
        self.pages = GuardedPages(
            {"a": Stage2(tables, cast(Segment, ram))},
            lambda: (self.own_hpa, self.host.memory.view(self.own_hpa, PAGE)),
            self.host.assignments.forget_range,
            self.sent.append,
        )

    def guard(self, attack: AttackName) -> int:
        self.pages.guard(Guard(attack=entry(attack), page_gpa=GUEST + PAGE))
        answer = self.sent.pop()
        assert isinstance(answer, Guarding)
        return answer.address

    def inspect(self) -> int:
        self.pages.inspect(Inspect(attack_id=1))
        answer = self.sent.pop()
        assert isinstance(answer, Inspected)
        return answer.changed_bytes


def entry(attack: AttackName) -> AttackEntry:
    members: dict[str, Any] = {"function": "nic0.vf0", "nic": "nic0", "iommu": "i", "vmm": "v", "source": "a"}
    return AttackEntry(id=1, name="x", phase=1, attack=attack, source_nic=0, pool=0, duration_ns=1, **members)


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


def test_a_page_that_was_taken_is_reached_no_more_and_given_back(guarded: Guarded) -> None:
    host = guarded.host
    assert host.reach(FIRST, GUEST + PAGE) == RAM + PAGE  # and is cached now
    assert guarded.guard("stale-translation") == RAM + PAGE
    assert host.reach(FIRST, GUEST + PAGE) is None
    assert host.reach(FIRST, GUEST + 2 * PAGE) == RAM + 2 * PAGE
    assert host.memory.read(RAM + PAGE, PAGE) == PATTERN
    assert guarded.inspect() == 0
    assert host.reach(FIRST, GUEST + PAGE) == RAM + PAGE


def test_a_page_that_was_write_protected_can_be_read_only(guarded: Guarded) -> None:
    host = guarded.host
    assert host.reach(FIRST, GUEST + PAGE) == RAM + PAGE
    guarded.guard("dma-read-only")
    assert host.reach(FIRST, GUEST + PAGE, write=True) is None
    assert host.reach(FIRST, GUEST + PAGE, write=False) == RAM + PAGE
    assert guarded.inspect() == 0
    assert host.reach(FIRST, GUEST + PAGE, write=True) == RAM + PAGE


def test_every_byte_that_changed_is_counted_and_once(guarded: Guarded) -> None:
    address = guarded.guard("dma-vmm")
    assert address == guarded.own_hpa
    guarded.host.memory.write(address + 8, bytes(4))
    assert guarded.inspect() == 4
    guarded.guard("dma-vmm")
    assert guarded.inspect() == 0


@pytest.mark.parametrize("gpa", [GUEST + PAGE + 8, GUEST + HALF, 1 << 47])
def test_a_page_that_is_none_is_refused_in_words(guarded: Guarded, gpa: int) -> None:
    guarded.pages.guard(Guard(attack=entry("stale-translation"), page_gpa=gpa))
    [answer] = guarded.sent
    assert isinstance(answer, Guarding)
    assert f"{gpa:#x} is no page of the guest's RAM" in answer.refused
    guarded.pages.inspect(Inspect(attack_id=1))
    assert guarded.sent == [answer]


def test_a_page_that_nobody_watches_is_not_asked_about(guarded: Guarded) -> None:
    guarded.pages.inspect(Inspect(attack_id=7))
    assert guarded.sent == []
