"""The physical side of a topology file: NICs of hosts, wires between them, uplinks of bridges, and which
virtual function each guest has; and whether frames can get from one NIC of a guest to another.

Not modelled: wires with more than two ends, several wires of one NIC.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from launcher.nics import Nic, Vf
from launcher.problems import Path, did_you_mean
from launcher.schema import HostNicSection, HostSection, TopologySection, WireSection
from launcher.topology_records import Guest, Host, HostNic, Wire
from launcher.units import shown
from launcher.validation import Checked
from testbed.address import Bdf

_BUS_SHIFT = 8


def host_nic(name: str, index: int, section: HostNicSection, mac: str, poll_ns: int) -> HostNic:
    """Return the NIC number `index` of a host, each on a bus of its own; its wire is resolved later."""
    bdf = Bdf((index + 1) << _BUS_SHIFT)
    return HostNic(name, bdf, mac, section.vfs, section.ats, poll_ns, section.cpus or ())


def resolve_wires(
    checked: Checked, section: TopologySection, hosts: Mapping[str, Host]
) -> tuple[dict[str, Host], tuple[Wire, ...]]:
    """Return the hosts with their uplinks, and the wires; mistakes are noted in `checked`."""
    ends: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    resolved = dict(hosts)
    for name, host in (section.hosts or {}).items():
        for nic, written in host.nics.items():
            if written.wire is not None:
                ends[written.wire].append((("hosts", name, "nics", nic, "wire"), nic))
        if name in hosts:
            resolved[name] = _uplink(checked, name, host, hosts[name])
    for wire in section.wires:
        if wire not in ends and checked.intact(("hosts",)):
            checked.add(("wires", wire), "joins no NICs: name it as `wire` of two, or leave it out")
    wires = (_wire(checked, name, section.wires.get(name), joined) for name, joined in ends.items())
    return resolved, tuple(wire for wire in wires if wire is not None)


def _wire(
    checked: Checked, name: str, section: WireSection | None, ends: list[tuple[Path, str]]
) -> Wire | None:
    if len(ends) != 2:
        path, nic = ends[-1]
        if checked.intact(("hosts",)):
            others = ", ".join(other for _, other in ends if other != nic)
            has = f"{others} and {nic}" if others else f"only {nic}"
            checked.add(path, f"wire {name} must join exactly two NICs, not {has}")
        return None
    section = section or WireSection()
    rate = int(section.rate.bits_per_second) if section.rate else 0
    return Wire(name, (ends[0][1], ends[1][1]), section.latency, rate, section.loss)


def _uplink(checked: Checked, name: str, section: HostSection, host: Host) -> Host:
    uplink = section.bridge.uplink
    path = ("hosts", name, "bridge", "uplink")
    if uplink is None or not checked.intact_at(path):
        return host
    if uplink not in section.nics:
        known = ", ".join(section.nics) or "none"
        hint = did_you_mean(uplink, section.nics) or f"; its NICs are {known}"
        checked.add(path, f"host {name} has no NIC {shown(uplink)}{hint}")
        return host
    return replace(host, uplink=uplink)


def resolve_functions(
    checked: Checked, section: TopologySection, hosts: Mapping[str, Host], guests: Mapping[str, Guest]
) -> dict[str, Guest]:
    """Return the guests with a function for each `vf` NIC; mistakes are noted in `checked`."""
    resolver = _Functions(checked, hosts)
    resolved = dict(guests)
    for name, guest in section.guests.items():
        members = [name] if guest.count is None else [f"{name}{i}" for i in range(guest.count)]
        for member in members:
            if member in guests and any(isinstance(nic, Vf) for nic in guests[member].nics):
                resolved[member] = resolver.guest(("guests", name), guests[member])
    return resolved


@dataclass
class _Functions:
    checked: Checked
    hosts: Mapping[str, Host]
    _taken: dict[str, int] = field(default_factory=dict)
    _told: set[Path] = field(default_factory=set)

    def guest(self, path: Path, guest: Guest) -> Guest:
        """Give each of a guest's `vf` NICs the next function."""
        nics = (
            self._nic((*path, "nics", i, "nic"), guest, nic) if isinstance(nic, Vf) else nic
            for i, nic in enumerate(guest.nics)
        )
        return replace(guest, nics=tuple(nics))

    def _nic(self, path: Path, guest: Guest, vf: Vf) -> Nic:
        beyond = max(vf.affinity, default=0) >= guest.vcpus
        if beyond and self.checked.intact(("guests", guest.name, "vcpus")):
            text = (
                f"guest {guest.name} has {guest.vcpus} vCPUs, numbered from 0, not {shown(list(vf.affinity))}"
            )
            self.checked.add((*path[:-1], "affinity"), text)
        host = self.hosts.get(guest.host)
        if host is None or not self.checked.intact(path):
            return vf
        nic = next((nic for nic in host.nics if nic.name == vf.nic), None)
        if nic is None:
            known = [nic.name for nic in host.nics]
            has = f"; its NICs are {', '.join(known)}" if known else ": give it one, `nics: {nic0: {vfs: 4}}`"
            hint = did_you_mean(vf.nic, known) or has
            self._add(path, f"host {host.name} has no NIC {shown(vf.nic)}{hint}")
            return vf
        number = self._taken.get(nic.name, 0)
        self._taken[nic.name] = number + 1
        if number >= nic.vfs:
            self._add(
                path, f"{nic.name} has {nic.vfs} virtual functions, and guests want more: raise its vfs"
            )
        return replace(vf, number=number, physical_bdf=nic.bdf, ats=nic.ats)

    def _add(self, path: Path, text: str) -> None:
        """Note a mistake, once for guests that are counted."""
        if path not in self._told:
            self._told.add(path)
            self.checked.add(path, text)


class Network:
    """What is joined with what: bridges, NICs, wires."""

    def __init__(self, hosts: Iterable[Host], wires: Iterable[Wire]) -> None:
        self._next: dict[str, set[str]] = defaultdict(set)
        self.nics: dict[str, str] = {}
        """Hosts of the NICs, by name."""
        self._hosts = {host.name: host for host in hosts}
        for host in self._hosts.values():
            self.nics.update((nic.name, host.name) for nic in host.nics)
            if host.uplink:
                self._join(_bridge(host.name), host.uplink)
        for wire in wires:
            self._join(*wire.ends)

    def _join(self, one: str, other: str) -> None:
        self._next[one].add(other)
        self._next[other].add(one)

    def way(self, source: tuple[Guest, Nic], destination: tuple[Guest, Nic]) -> tuple[str, ...] | None:
        """Return the NICs that frames take from one to the other, or None where there is no way."""
        return self._way(_node(*source), _node(*destination))

    def way_to_nic(self, guest: Guest, nic: Nic, end: str) -> tuple[str, ...] | None:
        """Return the NICs that frames take to a NIC to which a wire brings them, or None."""
        way = self._way(_node(guest, nic), end)
        return way if way is not None and len(way) > 1 and self.nics[way[-2]] != self.nics[end] else None

    def _way(self, start: str, end: str) -> tuple[str, ...] | None:
        ways: dict[str, tuple[str, ...]] = {start: (start,)}
        waiting = [start]
        for node in waiting:
            for other in sorted(self._next[node]):
                if other not in ways:
                    ways[other] = (*ways[node], other)
                    waiting.append(other)
        way = ways.get(end)
        return None if way is None else tuple(node for node in way if not node.startswith(_BRIDGE))

    def missing(self, source: tuple[Guest, Nic], destination: tuple[Guest, Nic]) -> str:
        """Say what keeps two NICs apart, and what would join them."""
        (one, _), (other, _) = source, destination
        names = [_shown_node(*end) for end in (source, destination)]
        where = f"{one.name} is on {names[0]} and {other.name} on {names[1]}"
        if one.host != other.host:
            return f"{where}, and no wire joins them: give both hosts a NIC with the same `wire`"
        return f"{where}, and nothing joins these: make the NIC the bridge's uplink"


_BRIDGE = "bridge of "


def _bridge(host: str) -> str:
    return f"{_BRIDGE}{host}"


def _node(guest: Guest, nic: Nic) -> str:
    return nic.nic if isinstance(nic, Vf) else _bridge(guest.host)


def _shown_node(guest: Guest, nic: Nic) -> str:
    return f"{nic.nic} of host {guest.host}" if isinstance(nic, Vf) else f"host {guest.host}"
