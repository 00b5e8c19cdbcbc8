"""Resolves the workloads of interrupts: whose timer, which vCPU of a guest sends to which, whose vector
moves, who storms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from launcher.nics import Vf
from launcher.problems import Path, did_you_mean
from launcher.schema import InterruptsSection, IpiSection, SteerSection, StormSection, TimerSection
from launcher.topology_records import End, Flow, Guest
from launcher.units import DURATION_UNITS, shown
from launcher.validation import Checked

DURATION_DEFAULT_NS: Final = DURATION_UNITS["s"]


@dataclass(frozen=True)
class InterruptFlows:
    """Notes mistakes in `checked`; a flow with one is left out."""

    checked: Checked
    guests: Mapping[str, Guest]

    def resolve(self, path: Path, section: InterruptsSection | StormSection) -> Flow | None:
        """Return the flow of a workload, its name not yet made unique."""
        if isinstance(section, SteerSection):
            self._check_length(path, section)
            return self._steer((*path, "from"), section)
        assert isinstance(section, TimerSection | IpiSection | StormSection)
        source = self._vcpu((*path, "from"), section.source)
        if isinstance(section, InterruptsSection):
            self._check_length(path, section)
        if source is None:
            return None
        guest, number = source
        if isinstance(section, StormSection):
            return _storm(section, guest, number)
        if isinstance(section, TimerSection):
            return _flow(section, guest, (number, number))
        target = self._target(path, section, guest, number)
        return None if target is None else _flow(section, guest, (number, target))

    def _target(self, path: Path, section: IpiSection, guest: Guest, number: int) -> int | None:
        if section.destination is None:
            if guest.vcpus > 1:
                return (number + 1) % guest.vcpus
            if self.checked.intact(("guests", guest.name, "vcpus")):
                self._add(
                    (*path, "from"), f"guest {guest.name} has one vCPU and none to send to: give it vcpus: 2"
                )
            return None
        found = self._vcpu((*path, "to"), section.destination)
        if found is None:
            return None
        if found == (guest, number) or found[0] != guest:
            same = f"another vCPU of guest {guest.name} than the one that sends"
            self._add((*path, "to"), f"must be {same}, not {shown(section.destination)}")
            return None
        return found[1]

    def _steer(self, path: Path, section: SteerSection) -> Flow | None:
        name, dot, nic = section.source.partition(".")
        found = self._vcpu(path, name)
        if found is None:
            return None
        guest, intact = found[0], self.checked.intact(("guests", name))
        functions = {f"nic{n}": n for n, each in enumerate(guest.nics) if isinstance(each, Vf)}
        number = functions.get(nic if dot else "nic0")
        if number is None:
            if intact:
                hint = f": it has {', '.join(functions)}" if functions else ""
                self._add(
                    path, f"must be a virtual function of guest {name}, not {shown(section.source)}{hint}"
                )
            return None
        if guest.vcpus == 1:
            if intact:
                self._add(path, f"guest {name} has one vCPU and none to steer to: give it vcpus: 2")
            return None
        return _steered(section, End(name, number))

    def _vcpu(self, path: Path, text: str) -> tuple[Guest, int] | None:
        """Resolve `GUEST` or `GUEST.vcpuN`."""
        name, dot, vcpu = text.partition(".")
        guest = self.guests.get(name)
        if not self.checked.intact_at(path):
            return None
        if guest is None:
            if self.checked.intact(("guests",)):
                hint = did_you_mean(name, self.guests)
                self._add(path, f"there is no guest {shown(name)}{hint}")
            return None
        if guest.external is not None:
            self._add(path, f"{name} is an external guest, whose vCPUs are not ours to interrupt")
            return None
        names = [f"vcpu{number}" for number in range(guest.vcpus)]
        if not dot or vcpu in names:
            return guest, names.index(vcpu) if dot else 0
        if self.checked.intact(("guests", name, "vcpus")):
            self._add(path, f"guest {name} has {', '.join(names)}, not {shown(vcpu)}")
        return None

    def _check_length(self, path: Path, section: InterruptsSection) -> None:
        if section.duration is not None and section.count is not None:
            self._add((*path, "count"), "give duration or count, not both")

    def _add(self, path: Path, text: str) -> None:
        self.checked.add(path, text)


def _flow(section: TimerSection | IpiSection, guest: Guest, vcpus: tuple[int, int]) -> Flow:
    end = End(guest.name, 0)
    named = [_name(guest, number) for number in vcpus]
    name = f"timer {named[0]}" if section.kind == "timer" else f"ipi {named[0]}->{named[1]}"
    until_ns = section.duration or (0 if section.count else DURATION_DEFAULT_NS)
    return Flow(
        name,
        section.kind,
        end,
        end,
        duration_ns=until_ns,
        count=section.count or 0,
        vcpus=vcpus,
        interval_ns=section.interval,
    )


def _steered(section: SteerSection, end: End) -> Flow:
    return Flow(
        f"steer {end.guest}.nic{end.nic}",
        section.kind,
        end,
        end,
        duration_ns=section.duration or (0 if section.count else DURATION_DEFAULT_NS),
        count=section.count or 0,
        interval_ns=section.interval,
    )


def _storm(section: StormSection, guest: Guest, number: int) -> Flow:
    end = End(guest.name, 0)
    return Flow(
        f"{section.what} storm {_name(guest, number)}",
        section.kind,
        end,
        end,
        duration_ns=section.duration,
        vcpus=(number, number),
        storm=section.what,
    )


def _name(guest: Guest, number: int) -> str:
    return f"{guest.name}.vcpu{number}" if guest.vcpus > 1 else guest.name
