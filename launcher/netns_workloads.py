"""Resolves the network namespaces among a topology file's workloads, and checks that each can be had.

A namespace lasts from the topology's start to its end, wherever it stands among the workloads. Not modelled:
routes, and several addresses of one interface; programs in the namespace can set both.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from launcher.problems import Path, did_you_mean
from launcher.schema import NetnsSection, TopologySection
from launcher.topology_records import Guest, Tap
from launcher.units import shown
from launcher.validation import Checked

MTU_MIN_INET6: Final = 1280
"""RFC 8200 §5."""


def resolve_namespaces(
    checked: Checked, section: TopologySection, guests: Mapping[str, Guest]
) -> dict[str, Guest]:
    """Return the guests with the NICs that network namespaces have; mistakes are noted in `checked`."""
    resolver = _Namespaces(checked, section, dict(guests))
    for path, namespace in _sections(checked, section):
        if checked.intact(path):
            resolver.add(path, namespace)
    return resolver.guests


def _sections(checked: Checked, section: TopologySection) -> Iterator[tuple[Path, NetnsSection]]:
    written = checked.document.data.get("workloads")
    for index, phase in enumerate(section.workloads):
        is_list = isinstance(written, list) and isinstance(written[index], list)
        for i, workload in enumerate(phase):
            if isinstance(workload, NetnsSection):
                yield ("workloads", index, i) if is_list else ("workloads", index), workload


@dataclass
class _Namespaces:
    checked: Checked
    section: TopologySection
    guests: dict[str, Guest]
    _addresses: dict[str, Path] = field(default_factory=dict)
    _taken: dict[tuple[str, int], Path] = field(default_factory=dict)

    def add(self, path: Path, section: NetnsSection) -> None:
        """Give a guest's NIC to a namespace."""
        guest = self._guest(path, section.guest)
        if guest is None or not self._nic_is_good(path, section, guest):
            return
        self._address_is_new(path, section.address)
        tap = Tap(section.nic, section.address, section.offload)
        self.guests[guest.name] = replace(guest, taps=(*guest.taps, tap))

    def _guest(self, path: Path, name: str) -> Guest | None:
        guest = self.guests.get(name)
        written = self.section.guests.get(name)
        if guest is None and written is not None and written.count:
            self._add((*path, "guest"), f"{name} is {written.count} guests: name one of them, e.g. {name}0")
        elif guest is None and not any(gone[:1] == ("guests",) for gone in self.checked.removed):
            hint = did_you_mean(name, self.guests) or f"; the guests are {', '.join(list(self.guests)[:8])}"
            self._add((*path, "guest"), f"there is no guest {shown(name)}{hint}")
        return guest

    def _nic_is_good(self, path: Path, section: NetnsSection, guest: Guest) -> bool:
        first = self._taken.setdefault((guest.name, section.nic), path)
        if first != path:
            line = self.checked.document.line(first)
            self._add(
                (*path, "nic"), f"nic{section.nic} of {guest.name} has a namespace already (line {line})"
            )
        elif guest.external is not None:
            self._add((*path, "guest"), f"{guest.name} is an external guest, with a network stack of its own")
        elif section.nic >= len(guest.nics):
            there = ", ".join(f"nic{i}" for i in range(len(guest.nics))) or "no NIC"
            self._add((*path, "nic"), f"guest {guest.name} has {there}, not nic{section.nic}")
        elif (back_end := guest.nics[section.nic].backend) != "bridge":
            text = f"has a {back_end} behind it: a network stack needs the bridge"
            self._add((*path, "nic"), f"nic{section.nic} of {guest.name} {text}")
        elif ":" in section.address and guest.nics[section.nic].mtu < MTU_MIN_INET6:
            text = f"IPv6 needs an mtu of at least {MTU_MIN_INET6}, not {guest.nics[section.nic].mtu}"
            self._add((*path, "address"), text)
        else:
            return True
        return False

    def _address_is_new(self, path: Path, address: str) -> None:
        first = self._addresses.setdefault(str(ipaddress.ip_interface(address).ip), path)
        if first != path:
            line = self.checked.document.line(first)
            self._add((*path, "address"), f"{address} is also that of the namespace on line {line}")

    def _add(self, path: Path, text: str) -> None:
        self.checked.add(path, text)
