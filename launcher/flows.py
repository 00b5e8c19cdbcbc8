"""Resolves the workloads of a topology file into flows between NICs, and checks that they can run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Final

from launcher.capture import Capture, inspect_capture
from launcher.interrupt_flows import InterruptFlows
from launcher.nics import Nic
from launcher.problems import Path, did_you_mean
from launcher.schema import (
    AttackSection,
    FlowSection,
    InterruptsSection,
    NetnsSection,
    PktgenSection,
    ReplaySection,
    RrSection,
    StormSection,
    TopologySection,
    Workload,
)
from launcher.topology_records import End, Flow, Guest
from launcher.units import DURATION_UNITS, FULL_SPEED, shown
from launcher.validation import Checked
from launcher.wiring import Network
from testbed.errors import ConfigError

DURATION_DEFAULT_NS: Final = DURATION_UNITS["s"]
_NOT_OURS: Final = (
    "an external guest, whose frames nobody here can make or check: run programs in it, towards guests with "
    "a netns workload, other external guests or a sink or an echo behind its own NIC"
)
AnyFlow = ReplaySection | PktgenSection | RrSection


def resolve_phases(
    checked: Checked,
    section: TopologySection,
    guests: Mapping[str, Guest],
    network: Network,
    directory: FilePath,
) -> tuple[tuple[Flow, ...], ...]:
    """Return the flows by phase; mistakes are noted in `checked`, and a flow with one is left out.

    A namespace is no phase: it lasts as long as the topology.
    """
    resolver = _Flows(checked, section, guests, network, directory)
    phases = ((resolver.phase(i, phase), phase) for i, phase in enumerate(section.workloads))
    return tuple(flows for flows, phase in phases if flows or is_phase(phase))


def is_phase(sections: Sequence[Workload]) -> bool:
    """Say whether something of a workload ends, so that the next one comes behind it."""
    return not all(isinstance(section, NetnsSection) for section in sections)


@dataclass
class _Flows:
    checked: Checked
    section: TopologySection
    guests: Mapping[str, Guest]
    network: Network
    directory: FilePath
    _names: dict[str, int] = field(default_factory=dict)
    _captures: dict[FilePath, Capture | str] = field(default_factory=dict)

    def phase(self, index: int, sections: Sequence[Workload]) -> tuple[Flow, ...]:
        flows: list[Flow] = []
        replays: dict[tuple[End, End], Path] = {}
        sunk: dict[End, tuple[Path, Flow]] = {}
        taken: dict[str, Path] = {}
        written = self.checked.document.data["workloads"]
        is_list = isinstance(written, list) and isinstance(written[index], list)
        for i, section in enumerate(sections):
            path: Path = ("workloads", index, i) if is_list else ("workloads", index)
            if isinstance(section, NetnsSection | AttackSection):
                continue
            if isinstance(section, InterruptsSection | StormSection):
                flows += self._interrupts(path, section)
                continue
            flow = self._flow(path, section) if self.checked.intact_at(path) else None
            if flow is None:
                continue
            flows.append(flow)
            if flow.kind == "replay":
                self._told_apart(path, flow, replays)
            if self._back_end(flow.source) == "sink":
                self._counted_apart(path, flow, sunk)
            if flow.ends_at:
                self._taken_apart(path, flow, taken)
        return tuple(flows)

    def _interrupts(self, path: Path, section: InterruptsSection | StormSection) -> Iterator[Flow]:
        resolver = InterruptFlows(self.checked, self.guests)
        flow = resolver.resolve(path, section) if self.checked.intact_at(path) else None
        if flow is not None:
            yield replace(flow, name=self._unique(flow.name))

    def _told_apart(self, path: Path, flow: Flow, replays: dict[tuple[End, End], Path]) -> None:
        first = replays.setdefault((flow.source, flow.destination), path)
        if first != path:
            line = self.checked.document.line(first)
            text = f"cannot run at the same time as the replay on line {line}, which has the same NICs: "
            self._add(path, text + "their frames could not be told apart")

    def _taken_apart(self, path: Path, flow: Flow, taken: dict[str, Path]) -> None:
        first = taken.setdefault(flow.ends_at, path)
        if first != path:
            line = self.checked.document.line(first)
            text = f"cannot run at the same time as the flow on line {line}: {flow.ends_at} counts frames, "
            self._add(path, f"{text}and cannot tell whose they are")

    def _counted_apart(self, path: Path, flow: Flow, sunk: dict[End, tuple[Path, Flow]]) -> None:
        first, other = sunk.setdefault(flow.source, (path, flow))
        if first != path and "replay" in (flow.kind, other.kind):
            line, name = self.checked.document.line(first), self._end_name(flow.source)
            text = f"cannot run at the same time as the flow on line {line}: the sink behind {name} counts "
            self._add(path, text + "every frame for a replay")

    def _flow(self, path: Path, section: AnyFlow) -> Flow | None:
        source = self._end((*path, "from"), section.source, "send from")
        if isinstance(section, PktgenSection) and section.destination in self.network.nics:
            return None if source is None else self._to_wire(path, section, source, section.destination)
        destination = self._destination((*path, "to"), section.destination, source)
        if isinstance(section, ReplaySection):
            capture = self._capture((*path, "pcap"), section)
        else:
            self._check_length(path, section)
        if source is None or destination is None or not self._joined(path, section, source, destination):
            return None
        ends = (source, destination)
        if isinstance(section, ReplaySection):
            self._fits((*path, "pcap"), capture.longest_bytes if capture else 0, ends)
        else:
            self._fits((*path, "frame"), max(section.frame), ends)
        way = self.network.way(self._nic_of(source), self._nic_of(destination)) or ()
        return replace(self._record(section, source, destination), way=way)

    def _to_wire(self, path: Path, section: PktgenSection, source: End, nic: str) -> Flow | None:
        """Resolve a flow that ends where a NIC takes its frames off a wire."""
        self._check_length(path, section)
        if not self._bridged((*path, "from"), source):
            return None
        guest, own = self._nic_of(source)
        way = self.network.way_to_nic(guest, own, nic)
        if way is None:
            if self._wiring_intact():
                name = self._end_name(source)
                text = f"no frame of {name} comes to {nic} by a wire: name a NIC at the far end of one"
                self._add((*path, "to"), text)
            return None
        self._fits((*path, "frame"), max(section.frame), (source, source))
        return replace(self._record(section, source, source, nic), way=way, ends_at=nic, verify=False)

    def _end(self, path: Path, text: str, purpose: str) -> End | None:
        """Resolve `GUEST` or `GUEST.nicN`."""
        name, dot, nic = text.partition(".")
        guest = self.guests.get(name)
        if not self.checked.intact_at(path):
            return None
        if guest is None:
            self._no_guest(path, name)
            return None
        if not guest.nics:
            self._add(path, f"guest {name} has no NIC to {purpose}")
            return None
        if guest.external is not None:
            self._add(path, f"{name} is {_NOT_OURS}")
            return None
        names = [f"nic{i}" for i in range(len(guest.nics))]
        if not dot or nic in names:
            return self._without_stack(path, End(name, names.index(nic) if dot else 0))
        if self._nics_intact(name):
            hint = did_you_mean(nic, names) if len(names) > 1 else ""
            self._add(path, f"guest {name} has {', '.join(names)}{hint}, not {shown(nic)}")
        return None

    def _without_stack(self, path: Path, end: End) -> End | None:
        """A flow's frames would be answered by the network stack that has the NIC."""
        if any(tap.nic == end.nic for tap in self.guests[end.guest].taps):
            name = self._end_name(end)
            text = f"{name} is the interface of a network namespace, no end of a flow: run a program "
            self._add(path, f"{text}with virtbed exec, or give the guest another NIC")
            return None
        return end

    def _destination(self, path: Path, text: str | None, source: End | None) -> End | None:
        """Resolve `to`; where it is left out, the sender itself, if a sink or an echo is behind it."""
        if text is not None:
            return self._end(path, text, "send to")
        if source is None or not self.checked.intact_at(path):
            return None
        if self._back_end(source) != "bridge":
            return source
        if self._nics_intact(source.guest):
            name = self._end_name(source)
            self._add(path, f"is required, e.g. `to: b`: {name} has the bridge behind it, no sink or echo")
        return None

    def _back_end(self, end: End) -> str:
        return self.guests[end.guest].nics[end.nic].backend

    def _reflected(self, path: Path, section: FlowSection, source: End) -> bool:
        """Whether what is behind the sender suits the flow."""
        suits = not (isinstance(section, RrSection) and self._back_end(source) == "sink")
        if not suits and self._nics_intact(source.guest):
            name = self._end_name(source)
            self._add((*path, "kind"), f"rr needs answers, and {name} has a sink behind it: give it an echo")
        return suits

    def _bridged(self, path: Path, end: End) -> bool:
        """Whether a NIC named in a flow between two NICs is on the bridge."""
        back_end = self._back_end(end)
        if back_end != "bridge" and self._nics_intact(end.guest):
            name, what = self._end_name(end), f"{'an' if back_end == 'echo' else 'a'} {back_end}"
            why = "leave `to` out" if path[-1] == "from" else "no frame of another NIC reaches it"
            self._add(path, f"{name} has {what} behind it, not the bridge: {why}")
        return back_end == "bridge"

    def _no_guest(self, path: Path, name: str) -> None:
        group = self.section.guests.get(name)
        gone = {step[1] for step in self.checked.removed if len(step) == 2 and step[0] == "guests"}
        if group is not None and group.count:
            text = f"{name} is {group.count} guests: name one of {name}0 to {name}{group.count - 1}"
            self._add(path, text)
        elif name not in gone and not any(step[-1] == "count" for step in self.checked.removed):
            hint = did_you_mean(name, self.guests) or "; " + _listed(list(self.guests))
            self._add(path, f"there is no guest {shown(name)}{hint}")

    def _joined(self, path: Path, section: FlowSection, source: End, destination: End) -> bool:
        """Whether frames can get from one end to the other."""
        if section.destination is None:
            return self._reflected(path, section, source)
        if not (self._bridged((*path, "from"), source) and self._bridged((*path, "to"), destination)):
            return False
        if source == destination:
            self._add((*path, "to"), f"must be another NIC than `from`, not {shown(section.destination)}")
            return False
        ends = self._nic_of(source), self._nic_of(destination)
        joined = self.network.way(*ends) is not None
        if not joined and all(guest.host for guest, _ in ends) and self._wiring_intact():
            self._add((*path, "to"), self.network.missing(*ends))
        return joined

    def _nic_of(self, end: End) -> tuple[Guest, Nic]:
        guest = self.guests[end.guest]
        return guest, guest.nics[end.nic]

    def _wiring_intact(self) -> bool:
        return self.checked.intact(("hosts",)) and self.checked.intact(("wires",))

    def _fits(self, path: Path, frame_bytes: int, ends: tuple[End, End]) -> None:
        for end in ends:
            limit = self.guests[end.guest].nics[end.nic].frame_bytes_max
            if frame_bytes > limit and self.checked.intact_at(path) and self._nics_intact(end.guest):
                mtu = self.guests[end.guest].nics[end.nic].mtu
                text = f"a frame of {frame_bytes} bytes does not fit nic{end.nic} of guest {end.guest}: "
                self._add(path, f"{text}its mtu {mtu} allows at most {limit}")
                return

    def _nics_intact(self, guest: str) -> bool:
        """Whether nothing about the NICs of a guest (or of the group it was counted from) was taken out."""
        names = {guest, guest.rstrip("0123456789")}
        return all(self.checked.intact(("guests", name, "nics")) for name in names)

    def _check_length(self, path: Path, section: PktgenSection | RrSection) -> None:
        if section.duration is not None and section.count is not None:
            self._add((*path, "count"), "give duration or count, not both")

    def _capture(self, path: Path, section: ReplaySection) -> Capture | None:
        file = (self.directory / section.pcap).absolute()
        if file not in self._captures:
            try:
                self._captures[file] = inspect_capture(file)
            except ConfigError as error:
                self._captures[file] = error.problems[0]
        capture = self._captures[file]
        if isinstance(capture, Capture):
            return capture
        if self.checked.intact_at(path):
            self._add(path, f"{shown(section.pcap)}: {capture}")
        return None

    def _record(self, section: AnyFlow, source: End, destination: End, to: str = "") -> Flow:
        if not to:
            to = self._back_end(source) if source == destination else self._end_name(destination)
        name = self._unique(f"{section.kind} {self._end_name(source)}->{to}")
        if isinstance(section, ReplaySection):
            return Flow(
                name,
                section.kind,
                source,
                destination,
                capture=str((self.directory / section.pcap).absolute()),
                loops=section.loops,
                captured_times=section.timing == "captured",
            )
        until_ns = section.duration or (0 if section.count else DURATION_DEFAULT_NS)
        flow = Flow(name, section.kind, source, destination, section.frame, until_ns, section.count or 0)
        if isinstance(section, RrSection):
            return flow
        return _generated(flow, section)

    def _end_name(self, end: End) -> str:
        return f"{end.guest}.nic{end.nic}" if len(self.guests[end.guest].nics) > 1 else end.guest

    def _unique(self, name: str) -> str:
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name} #{self._names[name]}"

    def _add(self, path: Path, text: str) -> None:
        self.checked.add(path, text)


def _generated(flow: Flow, section: PktgenSection) -> Flow:
    return replace(flow, rate=section.rate or FULL_SPEED, verify=section.verify)


def _listed(names: list[str], most: int = 8) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return f"the guests are {', '.join(names[:most])}{more}"
