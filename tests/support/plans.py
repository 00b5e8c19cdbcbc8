"""Plans typed by hand for the launcher's tests: one host, any guests, flows between them."""

from collections.abc import Sequence

from testbed.messages.entries import (
    BridgeEntry,
    FlowEntry,
    GuestEntry,
    Plan,
    ProcessPlan,
    SegmentEntry,
    VmmEntry,
)

PAGE = 4096
MAC = "52:54:00:00:00:01"


def guest_entry(name: str, index: int = 0) -> GuestEntry:
    """Return a guest without NICs."""
    return GuestEntry(
        name=name, host="h0", index=index, memory_bytes=PAGE, ram_gpa=0, stage2_hpa=0, poll_ns=0
    )


def flow(number: int, source: str, destination: str, kind: str = "pktgen", count: int = 1000) -> FlowEntry:
    """Return a flow of 60-byte frames."""
    return FlowEntry(
        id=number,
        name=f"{source}-{destination}",
        kind=kind,  # type: ignore[arg-type]
        source=source,
        destination=destination,
        source_mac=MAC,
        destination_mac=MAC,
        frame_bytes=(60,),
        count=count,
    )


def _segments(name: str) -> tuple[SegmentEntry, ...]:
    ram = SegmentEntry(name=f"{name}.ram", size_bytes=PAGE)
    table = SegmentEntry(name=f"{name}.stage2", size_bytes=PAGE, writable=False)
    return ram, table, SegmentEntry(name=f"{name}.counters", size_bytes=PAGE)


def plan(guests: Sequence[str] = ("a", "b"), *phases: Sequence[FlowEntry], name: str = "small") -> Plan:
    """Return a plan of one vmm `h0` and these guests; the vmm may write every guest's tables."""
    of_guests = [segment for guest in guests for segment in _segments(guest)]
    shared = [
        SegmentEntry(name=s.name, size_bytes=PAGE) for s in of_guests if not s.name.endswith(".counters")
    ]
    own = SegmentEntry(name="h0.counters", size_bytes=PAGE)
    entries = tuple(guest_entry(guest, i) for i, guest in enumerate(guests))
    vmm = VmmEntry(name="h0", host="h0", poll_ns=0, guests=entries, bridge=BridgeEntry(stall_ns=0))
    vmm_process = ProcessPlan(
        name="h0", role="vmm", entry=vmm, segments=(*shared, own), counter_names=("exits", "bells")
    )
    processes = [
        ProcessPlan(
            name=entry.name,
            role="guest",
            entry=entry,
            segments=_segments(entry.name),
            counter_names=("frames", "exits"),
        )
        for entry in entries
    ]
    return Plan(
        topology=name,
        segments=(*of_guests, own),
        processes=(vmm_process, *processes),
        phases=tuple(tuple(phase) for phase in phases),
    )
