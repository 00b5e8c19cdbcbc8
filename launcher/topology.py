"""From a topology file to a frozen `Topology`: reads it, checks each value, then what values say together.

Every mistake is told in one go, a line each, in the order of the file.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Final

from launcher.attacks import resolve_attacks
from launcher.external import (
    check_external,
    check_restarts,
    is_external,
    resolve_back_ends,
    resolve_external,
)
from launcher.flows import resolve_phases
from launcher.interposers import resolve_interposers
from launcher.netns_workloads import resolve_namespaces
from launcher.nics import AnyNicSection, Nic, VfSection
from launcher.problems import Path, did_you_mean
from launcher.rules import parse_name
from launcher.schema import (
    GUESTS_MAX,
    BridgeSection,
    GuestSection,
    HostSection,
    IommuSection,
    TopologySection,
)
from launcher.topology_records import End, Flow, Guest, Host, Service, Topology
from launcher.units import KIB, MIB, format_size, shown
from launcher.unsafe import SHARED_MAC_HINT, check_unsafe, may_share_macs
from launcher.validation import Checked, check_values
from launcher.wiring import Network, host_nic, resolve_functions, resolve_wires
from launcher.yaml_source import Document, parse_document, read_document
from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.errors import ConfigError
from testbed.spec.flow import IDS_MAX as FLOW_IDS_MAX
from testbed.spec.gic_registers import PENDBASER_ADDRESS
from testbed.spec.lpi import ID_BITS_MIN, config_bytes, pending_bytes
from testbed.spec.port_counters import PORTS_MAX

__all__ = ["End", "Flow", "Guest", "Host", "Nic", "Topology", "load_topology", "parse_topology"]

HOST_DEFAULT: Final = "h0"
RESERVED_NAMES: Final = {"launcher": "the launcher itself", "forkserver": "the fork server"}
NAME_LENGTH_MAX: Final = 32
SMMU_BYTES: Final = 64 * KIB
"""RAM for the queues and the stream table of a guest's SMMU."""
SPACE_BYTES: Final = MIB + 32 * KIB
"""For the stage-1 tables and context descriptors of one function."""
_MAC_PREFIX: Final = 0x02_76_62 << 24
"""Locally administered."""
_HOST_NIC_MAC_PREFIX: Final = 0x02_76_6E << 24


def load_topology(path: FilePath) -> Topology:
    """Load a topology file.

    Raises ConfigError whose `problems` holds a line for every mistake: `FILE:LINE: path.to.key: rule`.
    """
    return _resolve(read_document(path), path.parent)


def parse_topology(text: str, file: str = "topology.yaml", directory: FilePath = FilePath()) -> Topology:
    """Load a topology from text, captures from `directory`. Raises ConfigError as `load_topology` does."""
    return _resolve(parse_document(text, file), directory)


def iommu_name(host: str) -> str:
    """Return the name of a host's IOMMU process."""
    return f"iommu-{host}"


def _own(poll_ns: int | None, default_ns: int) -> int:
    return default_ns if poll_ns is None else poll_ns


def vmm_name(host: str) -> str:
    """Return the name of a host's vmm process."""
    return f"vmm-{host}"


def _resolve(document: Document, directory: FilePath) -> Topology:
    checked = check_values(document)
    topology = None
    if checked.section is not None:
        topology = _Resolver(checked, checked.section, directory).topology(directory)
    if checked.problems or topology is None:
        raise ConfigError(*(problem.told(document.file) for problem in sorted(checked.problems)))
    return topology


@dataclass
class _Resolver:
    """Resolves one checked file, noting mistakes as it goes."""

    checked: Checked
    section: TopologySection
    directory: FilePath
    hosts: dict[str, Host] = field(default_factory=dict)
    guests: dict[str, Guest] = field(default_factory=dict)
    _names: dict[str, tuple[str, Path]] = field(default_factory=dict)
    _macs: dict[str, Path] = field(default_factory=dict)
    _nics: int = 0
    _host_nics: int = 0

    def topology(self, directory: FilePath) -> Topology:
        for name, path, section in self._host_sections():
            self._claim(name, "host", path)
            self._claim(vmm_name(name), f"the vmm of host {name}", path)
            self.hosts[name] = self._host(name, section)
            for nic in section.nics:
                self._claim(nic, f"a NIC of host {name}", ("hosts", name, "nics", nic))
        self.hosts, wires = resolve_wires(self.checked, self.section, self.hosts)
        self._note_macs()
        if self._count_is_sane():
            for name, guest in self.section.guests.items():
                self._expand(name, guest)
        self._check_ports()
        check_unsafe(self.checked, self.section)
        check_restarts(self.checked, self.hosts.values(), self.guests)
        self.guests = resolve_functions(self.checked, self.section, self.hosts, self.guests)
        self.guests = resolve_back_ends(self.guests, directory)
        self.guests = resolve_interposers(self.checked, self.section, self.guests, directory)
        self.guests = resolve_namespaces(self.checked, self.section, self.guests)
        network = Network(self.hosts.values(), wires)
        phases = resolve_phases(self.checked, self.section, self.guests, network, directory)
        self._check_flows(sum(len(phase) for phase in phases))
        attacks = resolve_attacks(self.checked, self.section, self.guests)
        guests, hosts = tuple(self.guests.values()), tuple(self.hosts.values())
        return Topology(self.section.name, hosts, guests, phases, wires, attacks)

    def _host_sections(self) -> Iterator[tuple[str, Path, HostSection]]:
        """Hosts of the file, else those that guests name, else one."""
        if self.section.hosts is not None:
            for name, section in self.section.hosts.items():
                yield name, ("hosts", name), section
            return
        named: dict[str, Path] = {}
        for guest, guest_section in self.section.guests.items():
            if guest_section.host is not None:
                named.setdefault(guest_section.host, ("guests", guest, "host"))
        for name, path in named.items():
            try:
                yield parse_name(name), path, HostSection()
            except ConfigError as error:
                self._add(path, error.problems[0])
        if not named:
            yield HOST_DEFAULT, (), HostSection()

    def _host(self, name: str, section: HostSection) -> Host:
        bridge: BridgeSection = section.bridge
        poll_ns = self._poll(section.poll)
        host = Host(name, poll_ns, section.cpus or (), bridge.stall, section.restart)
        if not section.nics:
            return host
        iommu: IommuSection = section.iommu
        self._claim(iommu_name(name), f"the IOMMU of host {name}", ("hosts", name))
        nics = [
            host_nic(nic, i, written, written.mac or self._nic_mac(), _own(written.poll, poll_ns))
            for i, (nic, written) in enumerate(section.nics.items())
        ]
        service = Service(_own(iommu.poll, poll_ns), iommu.cpus or (), iommu.bypass)
        return replace(host, nics=tuple(nics), iommu=service, shares_macs="shared-mac" in section.unsafe)

    def _nic_mac(self) -> str:
        """Return the next address for a physical function, of a range of its own."""
        self._host_nics += 1
        return (_HOST_NIC_MAC_PREFIX | self._host_nics).to_bytes(6, "big").hex(":")

    def _poll(self, own: int | None) -> int:
        return self.section.poll if own is None else own

    def _claim(self, name: str, what: str, path: Path) -> None:
        """Note whose name it is; a name that is taken is a mistake."""
        if name in RESERVED_NAMES:
            self._add(path, f"the name {name} is that of {RESERVED_NAMES[name]}: choose another")
        elif name in self._names:
            owner, owner_path = self._names[name]
            line = f" (line {self.checked.document.line(owner_path)})" if owner_path else ", the default host"
            self._add(path, f"{what} cannot have the name {name}: it is that of {owner}{line}")
        else:
            self._names[name] = (f"{what} {name}" if " " not in what else what, path)

    def _check_ports(self) -> None:
        """Refuse a host whose bridge would need more ports than one has."""
        ports = Counter(guest.host for guest in self.guests.values() for _ in guest.nics)
        for host, count in ports.items():
            if count > PORTS_MAX:
                text = f"the NICs of host {host} must be at most {PORTS_MAX}, the ports of one bridge"
                self._add(("guests",), f"{text}: spread the guests over hosts, not {count} on one")

    def _check_flows(self, count: int) -> None:
        if count >= FLOW_IDS_MAX:
            self._add(("workloads",), f"must be at most {FLOW_IDS_MAX - 1} flows in all, not {count}")

    def _count_is_sane(self) -> bool:
        total = sum(guest.count or 1 for guest in self.section.guests.values())
        if total > GUESTS_MAX:
            self._add(("guests",), f"must be at most {GUESTS_MAX} guests in all, not {total}")
        return total <= GUESTS_MAX

    def _expand(self, name: str, section: GuestSection) -> None:
        path: Path = ("guests", name)
        host = self._home(path, section)
        self._check_nics(path, section)
        check_external(self.checked, path, section)
        names = [name] if section.count is None else [f"{name}{i}" for i in range(section.count)]
        if len(names[-1]) > NAME_LENGTH_MAX:
            limit = f"guest {shown(names[-1])} would have a name of {len(names[-1])} characters"
            self._add((*path, "count"), f"{limit}, more than {NAME_LENGTH_MAX}: choose a shorter one")
        for member in names:
            self._claim(member, "guest", path)
            self.guests[member] = self._guest(member, path, host, section)

    def _home(self, path: Path, section: GuestSection) -> str:
        """Return the host of a guest; empty where a mistake leaves it unknown."""
        known = self.hosts
        if section.host is None:
            if len(known) > 1 and self.checked.intact((*path, "host")) and self._hosts_intact():
                self._add(path, f"host is required where there are several: one of {', '.join(known)}")
            return next(iter(known)) if len(known) == 1 else ""
        if section.host in known:
            return section.host
        if self.section.hosts is not None and self._hosts_intact():
            hint = did_you_mean(section.host, known) or f"; the hosts are {', '.join(known)}"
            self._add((*path, "host"), f"there is no host {shown(section.host)}{hint}")
        return ""

    def _hosts_intact(self) -> bool:
        return not any(gone[:1] == ("hosts",) and len(gone) <= 2 for gone in self.checked.removed)

    def _guest(self, name: str, path: Path, host: str, section: GuestSection) -> Guest:
        return Guest(
            name=name,
            host=host,
            memory_bytes=section.memory,
            vcpus=section.vcpus,
            interrupts=section.interrupts,
            poll_ns=self._poll(section.poll),
            cpus=section.cpus or (),
            nics=tuple(self._nic(nic) for nic in section.nics),
            drivers=tuple(section.drivers),
            has_smmu=section.iommu == "smmu",
            external=resolve_external(self.checked, path, section, self.directory),
        )

    def _nic(self, section: AnyNicSection) -> Nic:
        mac = section.mac or self._next_mac()
        self._nics += 1
        return section.resolve(mac)

    def _next_mac(self) -> str:
        """The next address that the file does not give to anyone; it depends on the NIC's position only."""
        while True:
            mac = (_MAC_PREFIX | self._nics).to_bytes(6, "big").hex(":")
            if mac not in self._macs:
                return mac
            self._nics += 1

    def _note_macs(self) -> None:
        for path, section, nic in _nic_sections(self.section.guests):
            if nic.mac is None:
                continue
            if may_share_macs(self.section, section, nic):
                self._macs.setdefault(nic.mac, (*path, "mac"))
                continue
            path = (*path, "mac")
            if (section.count or 1) > 1:
                text = f"one address cannot be that of {section.count} guests: leave mac out, not {nic.mac}"
                text += SHARED_MAC_HINT
                self._add(path, text)
            elif nic.mac in self._macs:
                first = self.checked.document.line(self._macs[nic.mac])
                text = f"must be unique, but {nic.mac} is also given on line {first}"
                self._add(path, text + (SHARED_MAC_HINT if isinstance(nic, VfSection) else ""))
            else:
                self._macs[nic.mac] = path

    def _check_nics(self, guest_path: Path, section: GuestSection) -> None:
        for i, nic in enumerate(section.nics):
            path = (*guest_path, "nics", i)
            for key, other, text in nic.mistakes():
                if self.checked.intact((*path, other)):
                    self._add((*path, key), text)
        needed = sum(nic.memory_bytes for nic in section.nics) + self._smmu_bytes(guest_path, section)
        needed += _lpi_bytes(section)
        if needed > section.memory and not is_external(section) and self.checked.intact(guest_path):
            text = f"must be at least {format_size(needed)} for the queues and buffers of its NICs, "
            self._add((*guest_path, "memory"), f"{text}not {format_size(section.memory)}")

    def _smmu_bytes(self, path: Path, section: GuestSection) -> int:
        """Return the RAM that a guest's SMMU needs at most; one that no function is behind is a mistake."""
        if section.iommu == "none":
            return 0
        functions = sum(isinstance(nic, VfSection) for nic in section.nics)
        if not functions and self.checked.intact((*path, "nics")):
            text = "smmu needs a NIC of `kind: vf`: what the vmm serves uses guest physical addresses"
            self._add((*path, "iommu"), text)
        return SMMU_BYTES + functions * SPACE_BYTES

    def _add(self, path: Path, text: str) -> None:
        self.checked.add(path, text)


def _lpi_bytes(section: GuestSection) -> int:
    """Return the RAM for a guest's LPI tables: their configuration, and those pending, which are aligned."""
    if section.interrupts != "direct" or not any(isinstance(nic, VfSection) for nic in section.nics):
        return 0
    pending = align_up(pending_bytes(ID_BITS_MIN), PAGE_SIZE_BYTES) + (1 << PENDBASER_ADDRESS.lsb)
    return align_up(config_bytes(ID_BITS_MIN), PAGE_SIZE_BYTES) + pending


def _nic_sections(
    guests: Mapping[str, GuestSection],
) -> Iterator[tuple[Path, GuestSection, AnyNicSection]]:
    for name, section in guests.items():
        for i, nic in enumerate(section.nics):
            yield ("guests", name, "nics", i), section, nic
