"""What an ITS's tables say, for people who look: every event that is mapped, and where it leads.

Reference: ARM IHI 0069 H.b §5.2. Not modelled: more than `ROUTES_MAX` events; tables can be huge, and are
software's to fill.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final

import msgspec

from testbed.errors import ItsFault
from testbed.iommu.its import Its
from testbed.messages.control import EventRoute
from testbed.spec import lpi

NAMELESS: Final[Mapping[int, str]] = MappingProxyType({})
ROUTES_MAX: Final = 4096
EVENTS_MAX: Final = 1024
"""EventIDs of one device that are looked at."""
LOOKUPS_MAX: Final = 16384
"""Entries that are looked at; the ITS has other work."""


def listed_routes(
    its: Its, functions: Mapping[int, str] = NAMELESS, vcpus: Mapping[int, str] = NAMELESS
) -> Iterator[EventRoute]:
    """Yield where mapped events lead, by DeviceID and EventID.

    functions: names by DeviceID; vcpus: names by the address of the virtual pending table.
    """
    looked_up = islice(_routes(its), LOOKUPS_MAX)
    for route in islice((route for route in looked_up if route is not None), ROUTES_MAX):
        vcpu = vcpus.get(_vpt(its, route.target), "") if route.virtual else ""
        yield msgspec.structs.replace(route, function=functions.get(route.device, ""), vcpu=vcpu)


def _routes(its: Its) -> Iterator[EventRoute | None]:
    """Yield each lookup; None: nothing is mapped."""
    for device in its.tables.devices():
        for event in range(_events(its, device)):
            try:
                yield _route(its, device, event)
            except ItsFault as fault:
                yield None
                if fault.reason != "UNMAPPED_INTERRUPT":
                    break  # the device's table is not in memory


def _events(its: Its, device: int) -> int:
    try:
        return min(1 << its.tables.device(device).event_bits, EVENTS_MAX)
    except ItsFault:
        return 0


def _route(its: Its, device: int, event: int) -> EventRoute:
    entry = its.tables.event(device, event)
    return EventRoute(
        device=device,
        event=event,
        virtual=entry.virtual,
        intid=entry.intid,
        target=entry.target,
        processor=_processor(its, entry.virtual, entry.target),
        doorbell=entry.doorbell if entry.virtual and entry.doorbell != lpi.INTID_NONE else None,
    )


def _vpt(its: Its, vpe: int) -> int:
    """Return the address of a vPE's virtual pending table; 0 where it is not mapped."""
    try:
        return its.tables.vpe(vpe).vpt
    except ItsFault:
        return 0


def _processor(its: Its, virtual: bool, target: int) -> int | None:
    try:
        return its.tables.vpe(target).processor if virtual else its.tables.collection(target)
    except ItsFault:
        return None
