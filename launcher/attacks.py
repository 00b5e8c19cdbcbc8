"""Resolves the attacks among a topology file's workloads, and checks that each can be had.

An attack is a guest whose driver of a virtual function is hostile while the other workloads of its phase run.
Not modelled: hostile drivers of emulated and paravirtual NICs, whose registers the vmm sees.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from launcher.flows import is_phase
from launcher.nics import Vf
from launcher.problems import Path, did_you_mean
from launcher.schema import AttackSection, FlowSection, TopologySection
from launcher.topology_records import Attack, End, Guest
from launcher.units import shown
from launcher.validation import Checked

NEEDS_VICTIM: Final = ("dma-other-guest", "spoof-mac")
NEEDS_VLAN: Final = ("spoof-vlan",)


def resolve_attacks(
    checked: Checked, section: TopologySection, guests: Mapping[str, Guest]
) -> tuple[Attack, ...]:
    """Return the attacks; mistakes are noted in `checked`, and an attack with one is left out."""
    resolver = _Attacks(checked, section, guests)
    found = (
        resolver.attack(path, phase, attack)
        for path, phase, attack in _sections(checked, section)
        if checked.intact(path)
    )
    return tuple(attack for attack in found if attack is not None)


def _sections(checked: Checked, section: TopologySection) -> Iterator[tuple[Path, int, AttackSection]]:
    written, number = checked.document.data.get("workloads"), 0
    for index, phase in enumerate(section.workloads):
        is_list = isinstance(written, list) and isinstance(written[index], list)
        number += is_phase(phase)
        for i, workload in enumerate(phase):
            if isinstance(workload, AttackSection):
                yield ("workloads", index, i) if is_list else ("workloads", index), number, workload


@dataclass
class _Attacks:
    checked: Checked
    section: TopologySection
    guests: Mapping[str, Guest]
    _taken: dict[tuple[int, End], Path] = field(default_factory=dict)
    _names: dict[str, int] = field(default_factory=dict)

    def attack(self, path: Path, phase: int, section: AttackSection) -> Attack | None:
        source = self._source((*path, "from"), section)
        if source is None:
            return None
        good = self._alone(path, phase, source) & self._victim(path, section, source)
        good &= self._vlan(path, section)
        return self._record(phase, section, source) if good else None

    def _record(self, phase: int, section: AttackSection, source: End) -> Attack:
        victim = section.victim or ""
        name = f"{section.attack} {source.guest}" + (f"->{victim}" if victim else "")
        self._names[name] = self._names.get(name, 0) + 1
        return Attack(
            name=name if self._names[name] == 1 else f"{name} #{self._names[name]}",
            phase=phase,
            attack=section.attack,
            source=source,
            duration_ns=section.duration,
            victim=victim,
            vlan=section.vlan or 0,
            others_keep=section.others_keep or 0.0,
        )

    def _source(self, path: Path, section: AttackSection) -> End | None:
        name, dot, nic = section.source.partition(".")
        guest = self._guest(path, name)
        if guest is None:
            return None
        functions = {f"nic{i}": i for i, each in enumerate(guest.nics) if isinstance(each, Vf)}
        if functions and (not dot or nic in functions):
            return End(name, functions[nic] if dot else next(iter(functions.values())))
        if self.checked.intact(("guests", name)):
            there = f"only {', '.join(functions)}" if functions else "no virtual function"
            self._add(path, f"{there} of guest {name} can attack: give it a NIC of kind vf")
        return None

    def _guest(self, path: Path, name: str) -> Guest | None:
        """Return a guest of ours; a mistake where there is none of that name."""
        guest = self.guests.get(name)
        if guest is not None and guest.external is None:
            return guest
        if guest is not None:
            self._add(path, f"{name} is an external guest: nobody here is its driver or sees its memory")
        elif self.checked.intact(("guests",)):
            hint = did_you_mean(name, self.guests) or f"; the guests are {', '.join(list(self.guests)[:8])}"
            self._add(path, f"there is no guest {shown(name)}{hint}")
        return None

    def _alone(self, path: Path, phase: int, source: End) -> bool:
        """Whether the function is nobody else's in the phase."""
        first = self._taken.setdefault((phase, source), path)
        used = source in self._ends(path)
        if first != path:
            line = self.checked.document.line(first)
            self._add((*path, "from"), f"the function attacks already (line {line})")
        elif used:
            self._add(
                (*path, "from"), "must not be an end of a flow at the same time: its driver is hostile then"
            )
        return first == path and not used

    def _ends(self, path: Path) -> set[End]:
        """Return the ends of the flows that run at the same time."""
        index = path[1]
        assert isinstance(index, int)
        ends = set()
        for other in self.section.workloads[index]:
            if not isinstance(other, FlowSection):
                continue
            for text in (other.source, other.destination or other.source):
                name, dot, nic = text.partition(".")
                ends.add(End(name, int(nic[3:]) if dot and nic[3:].isdigit() else 0))
        return ends

    def _victim(self, path: Path, section: AttackSection, source: End) -> bool:
        path = (*path, "victim")
        if section.attack not in NEEDS_VICTIM:
            return self._absent(path, section.victim, f"{section.attack} is against no guest: leave it out")
        if section.victim is None:
            self._add(path, f"is required for {section.attack}: the guest that it is against")
            return False
        victim = self._guest(path, section.victim)
        if victim is None:
            return False
        text = ""
        if victim.name == source.guest:
            text = "must be another guest than `from`"
        elif victim.host != self.guests[source.guest].host:
            text = f"must be on the same host as {source.guest}: a function's DMA stays on its host"
        elif not victim.nics and section.attack == "spoof-mac":
            text = f"has no NIC whose address could be taken: {victim.name}"
        if text:
            self._add(path, text)
        return not text

    def _vlan(self, path: Path, section: AttackSection) -> bool:
        path = (*path, "vlan")
        if section.attack not in NEEDS_VLAN:
            return self._absent(path, section.vlan, f"is for {NEEDS_VLAN[0]}: leave it out")
        if section.vlan is None:
            self._add(path, f"is required for {section.attack}, e.g. `vlan: 100`: what it sends into")
        return section.vlan is not None

    def _absent(self, path: Path, value: object, text: str) -> bool:
        if value is not None:
            self._add(path, text)
        return value is None

    def _add(self, path: Path, text: str) -> None:
        self.checked.add(path, text)
