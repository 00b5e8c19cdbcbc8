"""What a topology file may do only when it says so: `unsafe` of a host.

What the words allow is there to show why I/O is virtualized as it is: `no-iommu` (its functions reach all
memory of the host's guests), `shared-mac` (functions with one address), `promiscuous` (a function that gets
the frames of others). Not modelled: words for single guests.
"""

from collections.abc import Iterator
from typing import Final

from launcher.nics import AnyNicSection, VfSection
from launcher.problems import Path
from launcher.schema import GuestSection, HostSection, TopologySection
from launcher.validation import Checked

SHARED_MAC_HINT: Final = "; to see what functions with one address do, say `unsafe: shared-mac` of their host"


def check_unsafe(checked: Checked, section: TopologySection) -> None:
    """Note, in `checked`, whatever is unsafe and not said to be."""
    for path, text in _mistakes(section):
        if checked.intact(("hosts",)):
            checked.add(path, text)


def may_share_macs(section: TopologySection, guest: GuestSection, nic: AnyNicSection) -> bool:
    """Whether others may have the address that the file gives a NIC."""
    return isinstance(nic, VfSection) and _says(_host_of(section, guest), "shared-mac")


def _mistakes(section: TopologySection) -> Iterator[tuple[Path, str]]:
    for name, host in (section.hosts or {}).items():
        yield from _iommu_mistakes(("hosts", name), host)
    for name, guest in section.guests.items():
        home = _host_of(section, guest)
        if guest.iommu == "smmu" and home is not None and home.iommu.bypass:
            text = "smmu translates nothing where the host's IOMMU is bypassed: leave one of them out"
            yield ("guests", name, "iommu"), text
        for i, nic in enumerate(guest.nics):
            spies = isinstance(nic, VfSection) and nic.promiscuous
            if spies and not _says(home, "promiscuous"):
                text = "gives a guest others' frames: say `unsafe: promiscuous` of its host, or leave it out"
                yield ("guests", name, "nics", i, "promiscuous"), text


def _iommu_mistakes(path: Path, host: HostSection) -> Iterator[tuple[Path, str]]:
    if not host.iommu.bypass:
        return
    if not _says(host, "no-iommu"):
        text = (
            "lets a guest's function reach the memory of other guests: say `unsafe: no-iommu` of the host, "
        )
        yield (*path, "iommu", "bypass"), f"{text}or leave it out"
    for name, nic in host.nics.items():
        if nic.ats:
            text = (
                "needs an IOMMU to ask for translations, and this host's is bypassed: leave one of them out"
            )
            yield (*path, "nics", name, "ats"), text


def _host_of(section: TopologySection, guest: GuestSection) -> HostSection | None:
    hosts = section.hosts or {}
    if guest.host is None:
        return next(iter(hosts.values())) if len(hosts) == 1 else None
    return hosts.get(guest.host)


def _says(host: HostSection | None, word: str) -> bool:
    return host is not None and word in host.unsafe
