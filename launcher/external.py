"""Guests that are not ours (`kind: external`): what a topology file may say of one, and what it means.

An external guest is a vhost-user front end in a process that somebody else starts. It has one NIC, of which
the file says what is offered. Not modelled: several NICs of one external guest, which need a socket each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Final

from launcher.nics import Nic, VirtioNet
from launcher.nics.kind import Place
from launcher.nics.virtio_net import VirtioNetSection
from launcher.problems import Path
from launcher.schema import GuestSection
from launcher.topology_records import External, Guest, Host, Topology
from launcher.units import shown
from launcher.validation import Checked
from testbed.messages.entries import ExternalEntry, Plan, SegmentEntry, VmmEntry
from testbed.messages.peer_socket import PATH_BYTES_MAX, remove_stale
from testbed.spec.vhost_user import RING_JOURNAL

_OURS: Final = ("memory", "vcpus", "interrupts", "iommu", "poll", "cpus")
"""What only a guest of our own has."""
_THEIRS: Final = ("socket", "listens")


def is_external(section: GuestSection) -> bool:
    """Say whether a guest is not ours."""
    return section.kind == "external"


def check_external(checked: Checked, path: Path, section: GuestSection) -> None:
    """Note what a guest of this kind cannot have."""
    external = is_external(section)
    for key in _OURS if external else _THEIRS:
        if key in section.model_fields_set and checked.intact((*path, key)):
            who = (
                "an external guest is a process of somebody else"
                if external
                else "only `kind: external` has it"
            )
            checked.add((*path, key), f"cannot be given: {who}")
    if not external:
        return
    if len(section.nics) != 1 and checked.intact((*path, "nics")):
        checked.add((*path, "nics"), f"must be one NIC, which the socket is for, not {len(section.nics)}")
    for i, nic in enumerate(section.nics):
        if not isinstance(nic, VirtioNetSection):
            checked.add((*path, "nics", i), f"must be a virtio-net, as vhost-user has it, not {nic.kind}")
    if section.socket is None and not section.listens:
        checked.add((*path, "listens"), "false needs `socket`: where the front end listens")
    if section.socket is not None and section.count is not None:
        checked.add((*path, "socket"), f"one socket cannot be that of {section.count} guests: leave it out")


def check_restarts(checked: Checked, hosts: Iterable[Host], guests: Mapping[str, Guest]) -> None:
    """Note hosts whose vmm cannot be started again: a guest of ours does not outlive it."""
    for host in hosts:
        ours = [guest.name for guest in guests.values() if guest.host == host.name and not guest.external]
        if host.restart and ours:
            text = f"needs external guests only: {ours[0]} of host {host.name} does not outlive its vmm"
            checked.add(("hosts", host.name, "restart"), text)


def resolve_external(
    checked: Checked, path: Path, section: GuestSection, directory: FilePath
) -> External | None:
    """Return how an external guest is reached; None for one of our own."""
    if not is_external(section):
        return None
    if section.socket is None:
        return External("", section.listens)
    socket = str((directory / section.socket).absolute())
    if len(socket.encode()) > PATH_BYTES_MAX:
        text = f"must be a path of at most {PATH_BYTES_MAX} bytes, not {shown(socket)}"
        checked.add((*path, "socket"), text)
    return External(socket, section.listens)


def resolve_back_ends(guests: Mapping[str, Guest], directory: FilePath) -> dict[str, Guest]:
    """Return the guests with the sockets of their NICs' back ends made absolute."""
    return {name: replace(guest, nics=_absolute(guest.nics, directory)) for name, guest in guests.items()}


def _absolute(nics: tuple[Nic, ...], directory: FilePath) -> tuple[Nic, ...]:
    return tuple(
        replace(nic, vhost_user=str((directory / nic.vhost_user).absolute()))
        if isinstance(nic, VirtioNet) and nic.vhost_user
        else nic
        for nic in nics
    )


def external_entries(topology: Topology, host: str) -> tuple[ExternalEntry, ...]:
    """Return what the vmm of a host is told of the guests that are not ours."""
    entries = []
    for guest in topology.guests:
        if guest.external is None or guest.host != host:
            continue
        nic = guest.nics[0]
        assert isinstance(nic, VirtioNet)
        entries.append(
            ExternalEntry(
                name=guest.name,
                socket=guest.external.socket,
                listens=guest.external.listens,
                nic=nic.entry(Place(guest.name, 0)),
            )
        )
    return tuple(entries)


def remove_sockets(plan: Plan) -> None:
    """Remove the socket files that vmms left which were killed; those in the run directory go with it."""
    for process in plan.processes:
        for external in process.entry.externals if isinstance(process.entry, VmmEntry) else ():
            if external.listens and external.socket:
                remove_stale(external.socket)


def journals(entries: Iterable[ExternalEntry]) -> tuple[SegmentEntry, ...]:
    """Return the segments in which a vmm records rings for whoever comes after it, one a guest."""
    return tuple(
        SegmentEntry(name=entry.journal, size_bytes=2 * entry.nic.queue_pairs * RING_JOURNAL.size)
        for entry in entries
    )
