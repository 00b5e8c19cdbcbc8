"""Hostile drivers of a virtual function on a whole NIC in one process: what each tries stays where it is."""

import pytest

from testbed.guest.workloads.hostile import PATIENCE_NS, make_program
from testbed.guest.workloads.hostile_function import HostileFunction
from testbed.messages.attack import AttackEntry, AttackName
from testbed.net.mac import format_mac
from testbed.vmm.pf_functions import VfSettings
from tests.nic.test_drivers import uplink_takes
from tests.support.nic_bench import frame
from tests.support.nic_world import FUNCTION_BASE, NicWorld, receive, send
from tests.support.pf_machine import VF_MACS

FOREIGN = 3 * FUNCTION_BASE + 0x3000
"""In the memory of the other function's guest."""
MSI_GPA = 0xFEE0_0000
STEPS = 100


class Attacked:
    """A NIC with a hostile driver on function 0 and an ordinary one on function 1."""

    def __init__(self, attack: AttackName, **settings: object) -> None:
        self.nic = NicWorld(
            VfSettings(mac=VF_MACS[0], **settings),  # type: ignore[arg-type]
            VfSettings(mac=VF_MACS[1], vlan=100 if attack == "spoof-vlan" else 0),
        )
        self.mallory, self.alice = self.nic.load(0), self.nic.load(1)
        entry = AttackEntry(
            id=1,
            name="attack",
            phase=1,
            attack=attack,
            source="m",
            source_nic=0,
            function="nic0.vf0",
            nic="nic0",
            pool=0,
            iommu="iommu-h0",
            vmm="vmm-h0",
            victim_mac=format_mac(VF_MACS[1]) if attack == "spoof-mac" else "",
            vlan=100 if attack == "spoof-vlan" else 0,
            duration_ns=1,
        )
        self.function = HostileFunction(self.mallory.bus, self.mallory.memory)
        self.program = make_program(entry, self.function, self.mallory.mac, MSI_GPA, self.nic.clock)

    def run(self, hostile: bool, target: int = FOREIGN, steps: int = STEPS) -> None:
        for _ in range(steps):
            self.program.step(hostile, target)
            self.nic.turn()
            self.nic.advance(PATIENCE_NS // 50)

    def count(self, *names: str) -> int:
        return sum(self.nic.count(0, name) for name in names)


FAULTS = ("fault_dma", "fault_register", "fault_descriptor")
DROPS = ("dropped_spoof", "dropped_too_short", "dropped_too_long")
COUNTED: dict[AttackName, tuple[str, ...]] = {
    "dma-other-guest": ("fault_dma",),
    "dma-unmapped": ("fault_dma",),
    "dma-msi-window": ("fault_dma",),
    "spoof-mac": ("dropped_spoof",),
    "spoof-vlan": ("dropped_spoof",),
    "malformed-descriptors": ("fault_descriptor", "fault_register", "dropped_too_short", "dropped_too_long"),
    "ring-loop": ("fault_descriptor",),
}


@pytest.mark.parametrize("attack", COUNTED)
def test_every_attack_is_counted_and_reaches_nobody(attack: AttackName) -> None:
    attacked = Attacked(attack)
    memory = attacked.nic.memories[2].strict
    before = memory.read(memory.base, memory.end - memory.base)
    attacked.run(hostile=True)

    assert attacked.program.attempts > 5
    assert attacked.program.through == 0
    assert [name for name in COUNTED[attack] if not attacked.count(name)] == []
    assert memory.read(memory.base, memory.end - memory.base) == before
    assert (receive(attacked.alice), uplink_takes(attacked.nic)) == ([], [])
    attacked.nic.assert_intact()
    others_send_as_before_and_it_comes_up_again(attacked, hears=attack != "spoof-vlan")


def others_send_as_before_and_it_comes_up_again(attacked: Attacked, hears: bool) -> None:
    nic = attacked.nic
    assert send(attacked.alice, [frame(bytes.fromhex("02000000ff01"), VF_MACS[1], 1)]) == 1
    nic.run()
    assert nic.count(1, "tx_frames") + nic.count(1, "dropped_link_down") == 1
    attacked.function.give_back()
    attacked.mallory.restart()
    nic.run()
    assert attacked.mallory.mailbox.clear_to_send
    assert send(attacked.mallory, [frame(VF_MACS[1], VF_MACS[0], 2)]) == 1
    nic.run()
    assert len(receive(attacked.alice)) == hears  # who is in a VLAN hears those in it only


@pytest.mark.parametrize("attack", COUNTED)
def test_the_same_work_with_what_is_its_own_breaks_no_rule(attack: AttackName) -> None:
    attacked = Attacked(attack)
    attacked.run(hostile=False)
    assert attacked.program.attempts == 0
    assert attacked.count(*FAULTS, *DROPS) == 0
    assert attacked.nic.stopped == []


@pytest.mark.parametrize("attack", ["spoof-mac", "spoof-vlan"])
def test_a_function_that_is_not_checked_gets_through(attack: AttackName) -> None:
    attacked = Attacked(attack, spoof_check=False)
    attacked.run(hostile=True, steps=100)
    attacked.nic.run()
    assert attacked.count("dropped_spoof") == 0
    assert len(receive(attacked.alice)) > 0


def test_memory_of_others_that_is_sent_is_counted_as_having_got_through() -> None:
    attacked = Attacked("dma-other-guest")
    own = attacked.nic.memories[1].take(4096, "a page that may be read").iova
    attacked.run(hostile=True, target=own)
    assert attacked.program.through > 0


def test_a_flood_of_mail_is_answered_a_limited_number_of_times() -> None:
    attacked = Attacked("flood-mailbox")
    attacked.run(hostile=True, steps=20)
    counts = attacked.nic.driver.vfs[0].counts
    assert attacked.program.attempts == 20 * 64
    assert counts.refused > 0
    assert counts.messages < attacked.program.attempts // 10
