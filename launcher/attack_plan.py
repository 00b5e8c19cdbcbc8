"""The part of a plan that has the attacks: who is hostile, with which function, and who watches the memory.

Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from launcher.nics import Vf
from launcher.topology import iommu_name, vmm_name
from launcher.topology_records import Attack, Guest, Topology
from testbed.messages.attack import AttackEntry
from testbed.messages.entries import GuestEntry, SegmentEntry

BY_VMM: Final = ("dma-vmm", "dma-read-only", "stale-translation")
"""Attacks whose memory the vmm watches: its own, or what it has taken from the attacker."""
BY_VICTIM: Final = ("dma-other-guest",)


def plan_attacks(
    topology: Topology, memory: Mapping[str, tuple[GuestEntry, SegmentEntry]]
) -> tuple[AttackEntry, ...]:
    """Return the attacks of a topology; memory: of each guest of ours, its entry and RAM."""
    guests = {guest.name: guest for guest in topology.guests}
    return tuple(_entry(attack, i, guests, memory) for i, attack in enumerate(topology.attacks, start=1))


def _entry(
    attack: Attack,
    number: int,
    guests: Mapping[str, Guest],
    memory: Mapping[str, tuple[GuestEntry, SegmentEntry]],
) -> AttackEntry:
    attacker = guests[attack.source.guest]
    vf = attacker.nics[attack.source.nic]
    assert isinstance(vf, Vf)
    vmm = vmm_name(attacker.host)
    guard, guard_hpa = vmm if attack.attack in BY_VMM else "", 0
    if attack.attack in BY_VICTIM:
        entry, ram = memory[attack.victim]
        guard, guard_hpa = attack.victim, ram.hpa - entry.ram_gpa
    return AttackEntry(
        id=number,
        name=attack.name,
        phase=attack.phase,
        attack=attack.attack,
        source=attack.source.guest,
        source_nic=attack.source.nic,
        function=vf.function,
        nic=vf.nic,
        pool=vf.number,
        iommu=iommu_name(attacker.host),
        vmm=vmm,
        guard=guard,
        guard_hpa=guard_hpa,
        victim=attack.victim,
        victim_mac=_first_mac(guests, attack.victim),
        vlan=attack.vlan,
        duration_ns=attack.duration_ns,
        others_keep=attack.others_keep,
    )


def _first_mac(guests: Mapping[str, Guest], name: str) -> str:
    nics: Iterable[str] = (nic.mac for nic in guests[name].nics) if name else ()
    return next(iter(nics), "")
