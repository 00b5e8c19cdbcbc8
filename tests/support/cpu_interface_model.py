"""The rules of a virtual CPU interface, written plainly: an oracle for the native one.

Reference: ARM IHI 0069 §4.8 (priorities), chapter 6 (list registers, maintenance), §12.3 (ICV_*). Numbers
are typed here, not taken from testbed/spec. Where the architecture leaves a choice: of equal
priority the lowest INTID is taken; an end of interrupt by the wrong group does nothing.
"""

from dataclasses import dataclass, field

SPURIOUS = 1023
IDLE = 0xFF
FIRST_LPI = 8192


@dataclass
class Slot:
    """A list register."""

    intid: int = 0
    priority: int = 0
    group: int = 1
    pending: bool = False
    active: bool = False
    hardware: bool = False
    pintid: int = 0
    end_asks: bool = False
    """EOI: deactivation asserts a maintenance interrupt."""

    @property
    def image(self) -> int:
        """The register's 64 bits."""
        above = self.pintid if self.hardware else self.end_asks << 9
        word = self.intid | above << 32 | self.priority << 48 | self.group << 60 | self.hardware << 61
        return word | self.pending << 62 | self.active << 63


@dataclass
class InterfaceModel:
    """One virtual CPU interface."""

    slots: list[Slot] = field(default_factory=lambda: [Slot(group=0) for _ in range(4)])
    vlpis: dict[int, tuple[int, bool]] = field(default_factory=dict)
    """Configuration by INTID: priority, enabled."""
    pending_vlpis: set[int] = field(default_factory=set)
    physical_active: set[int] = field(default_factory=set)
    on: bool = True
    mask: int = 0
    """Only a priority below it is signalled."""
    groups: set[int] = field(default_factory=set)
    points: list[int] = field(default_factory=lambda: [2, 3])
    common_point: bool = False
    split: bool = False
    """EOImode 1."""
    asks: set[str] = field(default_factory=set)
    """Maintenance conditions that are enabled: U, LRENP, NP."""
    ends_not_found: int = 0
    active: list[tuple[int, int]] = field(default_factory=list)
    """(group priority, group) of what was acknowledged and not ended."""

    def _candidates(self) -> list[tuple[int, int, int]]:
        """(priority, INTID, group) of all that could be taken."""
        listed = [(s.priority & 0xF8, s.intid, s.group) for s in self.slots if s.pending and not s.active]
        lpis = [
            (self.vlpis[i][0] & 0xF8, i, 1) for i in self.pending_vlpis if self.vlpis.get(i, (0, False))[1]
        ]
        return [one for one in listed + lpis if one[2] in self.groups]

    def point(self, group: int) -> int:
        """The binary point as it is read."""
        return min(self.points[0] + 1, 7) if group and self.common_point else self.points[group]

    def set_point(self, group: int, value: int) -> None:
        if not (group and self.common_point):
            self.points[group] = max(value, 2 + group)

    def _group_priority(self, priority: int, group: int) -> int:
        """The part of a priority that preempts."""
        if group == 0 or self.common_point:
            cut = self.points[0] + 1
        else:
            cut = self.points[1]
        return priority >> cut << cut

    @property
    def running(self) -> int:
        return min((priority for priority, _ in self.active), default=IDLE)

    def signalled(self) -> tuple[int, int, int] | None:
        """What the processor is interrupted for."""
        best = min(self._candidates(), default=None)
        if best is None or not self.on or best[0] >= self.mask:
            return None
        if self.active:
            cut = self._group_priority(best[0], best[2])
            if cut >= self._group_priority(self.running, best[2]):
                return None
        return best

    def highest_pending(self, group: int) -> int:
        best = min(self._candidates(), default=None)
        return best[1] if best is not None and best[2] == group else SPURIOUS

    def acknowledge(self, group: int) -> int:
        best = self.signalled()
        if best is None or best[2] != group:
            return SPURIOUS
        priority, intid, _ = best
        self.active.append((self._group_priority(priority, group), group))
        slot = next((s for s in self.slots if s.pending and not s.active and s.intid == intid), None)
        if slot is None:
            self.pending_vlpis.discard(intid)
        else:
            slot.pending, slot.active = False, intid < FIRST_LPI
        return intid

    def end(self, group: int, intid: int) -> None:
        if 1020 <= intid < FIRST_LPI or not self.active:
            return
        highest = min(self.active)
        if highest[1] != group:
            if (highest[0], group) not in self.active:
                return
            highest = (highest[0], group)
        self.active = [one for one in self.active if one != highest]
        if intid < 1020 and not self.split:
            self._deactivate(intid)

    def deactivate(self, intid: int) -> None:
        if intid < 1020 and self.split:
            self._deactivate(intid)

    def _deactivate(self, intid: int) -> None:
        slot = next((s for s in self.slots if s.active and s.intid == intid), None)
        if slot is None:
            self.ends_not_found = (self.ends_not_found + 1) % 32
            return
        slot.active = False
        if slot.hardware:
            self.physical_active.discard(slot.pintid)

    def maintenance(self) -> set[str]:
        """The conditions that hold, of those asked for; EOI needs none."""
        if not self.on:
            return set()
        valid = sum(s.pending or s.active for s in self.slots)
        held = {
            "EOI": any(s.end_asks and not s.hardware and not (s.pending or s.active) for s in self.slots),
            "U": "U" in self.asks and valid <= 1,
            "LRENP": "LRENP" in self.asks and self.ends_not_found > 0,
            "NP": "NP" in self.asks and not any(s.pending for s in self.slots),
        }
        return {name for name, holds in held.items() if holds}
