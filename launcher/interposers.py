"""Resolves the interposers of a topology file and checks that they can work."""

import importlib.machinery
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Final

from launcher.interposer_schema import (
    CallSection,
    CaptureSection,
    FilterSection,
    MirrorSection,
    RateSection,
)
from launcher.nics import AnyNicSection, Nic, Vf
from launcher.problems import Path, did_you_mean
from launcher.schema import GuestSection, TopologySection
from launcher.topology_records import Guest
from launcher.units import shown
from launcher.validation import Checked
from testbed.messages.entries import (
    CallEntry,
    CaptureEntry,
    FilterEntry,
    InterposeEntry,
    MirrorEntry,
    RateEntry,
)

AnyInterposer = CaptureSection | FilterSection | RateSection | MirrorSection | CallSection
DEPTH_SECONDS: Final = 0.01
"""A bucket holds what its rate gives in this time, and at least one frame."""


def resolve_interposers(
    checked: Checked, section: TopologySection, guests: Mapping[str, Guest], directory: FilePath
) -> dict[str, Guest]:
    """Return the guests with their interposers; mistakes are noted in `checked`."""
    resolver = _Interposers(checked, guests, directory)
    resolved = dict(guests)
    for name, guest in section.guests.items():
        members = [name] if guest.count is None else [f"{name}{i}" for i in range(guest.count)]
        for i, nic in enumerate(guest.nics):
            if nic.interpose:
                resolver.check_seen(("guests", name, "nics", i), nic)
        for member in members:
            if member in guests and any(nic.interpose for nic in guest.nics):
                resolved[member] = resolver.guest(guests[member], ("guests", name), guest)
    return resolved


@dataclass
class _Interposers:
    checked: Checked
    guests: Mapping[str, Guest]
    directory: FilePath
    _files: dict[FilePath, Path] = field(default_factory=dict)
    _told: set[tuple[Path, str]] = field(default_factory=set)

    def check_seen(self, path: Path, nic: AnyNicSection) -> None:
        """Only what goes through the bridge can be looked at."""
        if nic.hidden and self.checked.intact_at((*path, "backend")):
            self._add((*path, "interpose"), nic.hidden)

    def guest(self, guest: Guest, path: Path, section: GuestSection) -> Guest:
        """Return a guest with the interposers of its NICs."""
        nics = tuple(
            replace(
                nic, interpose=self._nic(f"{guest.name}.nic{i}", nic, (*path, "nics", i), written.interpose)
            )
            for i, (nic, written) in enumerate(zip(guest.nics, section.nics, strict=True))
        )
        return replace(guest, nics=nics)

    def _nic(
        self, name: str, nic: Nic, path: Path, sections: list[AnyInterposer]
    ) -> tuple[InterposeEntry, ...]:
        entries = []
        for i, section in enumerate(sections):
            at: Path = (*path, "interpose", i)
            if self.checked.intact(at):
                entry = self._entry(name, nic, at, section)
                entries += [entry] if entry else []
        return tuple(entries)

    def _entry(self, name: str, nic: Nic, path: Path, section: AnyInterposer) -> InterposeEntry | None:
        match section:
            case CaptureSection():
                return self._capture(path, section)
            case FilterSection():
                return self._filter(path, section)
            case RateSection():
                return self._rate(path, section, nic)
            case MirrorSection():
                return self._mirror(name, path, section)
            case CallSection():
                return self._call(path, section)

    def _capture(self, path: Path, section: CaptureSection) -> CaptureEntry:
        file = FilePath(os.path.abspath(self.directory / section.file))  # noqa: PTH100 `..` must go, links stay
        path = (*path, "file")
        if file in self._files:
            line = self.checked.document.line(self._files[file])
            where = "by several guests" if self._files[file] == path else f"on line {line}"
            self._add(path, f"is written already {where}: give each capture a file of its own")
        self._files.setdefault(file, path)
        if file.is_dir():
            self._add(path, f"must be a file, but {shown(section.file)} is a directory")
        elif not file.parent.is_dir():
            self._add(path, f"there is no directory {shown(str(file.parent))} to write it in")
        elif not os.access(file if file.exists() else file.parent, os.W_OK):
            self._add(path, f"{shown(str(file))} cannot be written: choose another place")
        return CaptureEntry(file=str(file), direction=section.direction)

    def _filter(self, path: Path, section: FilterSection) -> FilterEntry | None:
        if (section.drop is None) == (section.only is None):
            self._add(path, "must have either drop or pass, e.g. `{kind: filter, drop: udp port 9}`")
            return None
        return FilterEntry(
            expression=section.drop or section.only or "",
            drops="matching" if section.drop else "others",
            direction=section.direction,
        )

    def _rate(self, path: Path, section: RateSection, nic: Nic) -> RateEntry:
        limit = section.limit
        bits = limit.bits_per_second > 0
        per_second = limit.bits_per_second or limit.frames_per_second
        if section.excess == "hold" and section.direction != "tx":
            text = (
                "hold needs `direction: tx`: holding back what goes to a guest would hold back every sender"
            )
            self._add((*path, "excess"), text)
        return RateEntry(
            per_second=per_second,
            depth=max(per_second * DEPTH_SECONDS, 8.0 * nic.frame_bytes_max if bits else 1.0),
            unit="bits" if bits else "frames",
            excess=section.excess,
            direction=section.direction,
        )

    def _mirror(self, name: str, path: Path, section: MirrorSection) -> MirrorEntry | None:
        path = (*path, "to")
        target, dot, nic = section.to.partition(".")
        guest = self.guests.get(target)
        if guest is None:
            hint = did_you_mean(target, self.guests) or "; name a guest or GUEST.nicN"
            self._add(path, f"there is no guest {shown(target)}{hint}")
            return None
        names = [f"nic{i}" for i in range(len(guest.nics))]
        nic = nic if dot else "nic0"
        if nic not in names:
            has = ", ".join(names) or "no NIC"
            self._add(path, f"guest {target} has {has}, not {shown(nic)}")
            return None
        self._check_target(name, path, guest, nic)
        return MirrorEntry(to=f"{target}.{nic}", direction=section.direction)

    def _check_target(self, name: str, path: Path, guest: Guest, nic: str) -> None:
        here = self.guests[name.partition(".")[0]].host
        target = guest.nics[int(nic.removeprefix("nic"))]
        back_end = "vf" if isinstance(target, Vf) else target.backend
        if name == f"{guest.name}.{nic}":
            self._add(path, f"must be another NIC than {name} itself")
        elif here and guest.host and here != guest.host:
            self._add(
                path, f"{guest.name} is on host {guest.host} and {name} on host {here}: must be the same"
            )
        elif back_end != "bridge":
            self._add(path, f"{guest.name}.{nic} has no bridge behind it ({back_end}): no copy can reach it")

    def _call(self, path: Path, section: CallSection) -> CallEntry:
        directory = str(self.directory.absolute())
        top = section.function.partition(":")[0].partition(".")[0]
        built_in = top in sys.builtin_module_names
        if not built_in and importlib.machinery.PathFinder.find_spec(top, [directory, *sys.path]) is None:
            self._add((*path, "function"), f"there is no module {top}, here or beside the topology file")
        return CallEntry(function=section.function, directory=directory, direction=section.direction)

    def _add(self, path: Path, text: str) -> None:
        """Note a mistake, once for guests that are counted."""
        if (path, text) not in self._told:
            self._told.add((path, text))
            self.checked.add(path, text)
