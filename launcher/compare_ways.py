"""What `virtbed compare` compares: the ways of a guest's frames, a topology each, and what it measures.

Reference: launcher/wire_ways.py, whose NICs these are. A topology has hosts for each place: guests a and b on
one, c and d on two with a wire between them, e on one whose wire ends at a NIC that is nobody's and the same
for every way. One measurement is made at a time; whoever has no part in it sleeps. Requests come first, so
that bridges know where everybody is when it comes to rates.

Where processes run is fixed, in the order in which a frame passes them: the first of them share the first
processor, the last the last. Where the scheduler chooses, the same work comes out at half the speed or twice
as fast from one moment to the next. They poll for longer than they are kept waiting: one that falls asleep in
the middle of a flow costs a round trip tenfold, and whether one does is chance. Not modelled: one kind of NIC
at each end; what wake-ups cost (`virtbed bench rr`).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from launcher.wire_ways import WAYS as WIRE_WAYS

Method = Literal["emulated", "paravirtual", "passthrough"]
METHODS: Final[tuple[Method, ...]] = ("emulated", "paravirtual", "passthrough")
"""The lecture's three, the slowest first."""
Place = Literal["host", "guest", "wire"]
PLACES: Final[dict[Place, str]] = {
    "host": "guest to guest on one host",
    "guest": "guest to guest on two hosts, across a wire",
    "wire": "guest to the wire",
}
FRAMES: Final = (60, 1514)
"""Bytes without FCS: the least and the most that Ethernet carries."""
ENDS: Final[dict[Place, tuple[str, str]]] = {"host": ("a", "b"), "guest": ("c", "d"), "wire": ("e", "nic4")}
"""Sender and receiver, or the NIC at which frames end."""
_GUESTS: Final = {"a": 0, "b": 0, "c": 1, "d": 2, "e": 3}
"""With the number of their host."""
_WIRES: Final = {1: "w0", 2: "w0", 3: "w1", 4: "w1"}
"""By the number of the host at whose NIC they end."""
_BEHIND: Final = ("iommu-h4", "vmm-h4")
"""They only wait, at the far end of a wire."""
POLL_MS: Final = 2
WARM_UP_SECONDS: Final = 0.02
"""Long enough for the slowest way to go round its rings."""


@dataclass(frozen=True)
class Way:
    """One way of a guest's frames."""

    name: str
    text: str
    method: Method
    nic: Mapping[str, Any]
    ats: bool = False
    interrupts: Literal["list-registers", "direct"] = "list-registers"

    @property
    def is_vf(self) -> bool:
        """The guest has a function of the host's NIC."""
        return bool(self.nic["kind"] == "vf")


def _nic(name: str, **changes: object) -> Mapping[str, Any]:
    return {**WIRE_WAYS[name].nic, **changes}


WAYS: Final = {
    way.name: way
    for way in (
        Way("e1000", "e1000, TDT written for each frame", "emulated", _nic("e1000")),
        Way("e1000-batch", "e1000, TDT written for 256 frames", "emulated", _nic("e1000-batch")),
        Way("virtio-split", "virtio-net, split ring", "paravirtual", _nic("virtio")),
        Way("virtio-packed", "virtio-net, packed ring", "paravirtual", _nic("virtio", ring="packed")),
        Way("vf", "VF, DMA mediated by the IOMMU", "passthrough", _nic("vf")),
        Way(
            "vf-direct",
            "VF, mediated, interrupts direct",
            "passthrough",
            _nic("vf"),
            interrupts="direct",
        ),
        Way("vf-ats", "VF with ATS", "passthrough", _nic("vf-ats"), ats=True),
        Way(
            "vf-ats-direct",
            "VF with ATS, interrupts direct",
            "passthrough",
            _nic("vf-ats"),
            ats=True,
            interrupts="direct",
        ),
    )
}
REFERENCE: Final = "virtio-split"
"""The way by which the others are divided, round by round."""
STOCK: Final[dict[Method, str]] = {"emulated": "e1000", "paravirtual": REFERENCE, "passthrough": "vf-ats"}
"""Which way stands for its method where the methods are put in order."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measurement: a phase of a topology."""

    place: Place
    kind: Literal["pktgen", "rr"]
    frame_bytes: int


def steps() -> Iterator[Step]:
    """Yield the measurements of a topology, in the order of its phases."""
    for place in PLACES:
        if place != "wire":
            yield Step(place=place, kind="rr", frame_bytes=FRAMES[0])
        for frame_bytes in FRAMES:
            yield Step(place=place, kind="pktgen", frame_bytes=frame_bytes)


def processes(way: Way, place: Place) -> tuple[str, ...]:
    """Return the processes at a place, in the order in which frames pass those that have a part in them."""
    if place == "host":
        return ("a", "b", "iommu-h0", "nic0", "vmm-h0") if way.is_vf else ("a", "b", "vmm-h0")
    if place == "guest":
        return ("c", "vmm-h1", "iommu-h1", "nic1", "nic2", "iommu-h2", "vmm-h2", "d")
    return "e", "vmm-h3", "iommu-h3", "nic3", "nic4", "iommu-h4", "vmm-h4"


def _processors(way: Way, cpus: Sequence[int]) -> dict[str, list[int]]:
    """Return on which processor each process runs: neighbours share one where there are too few."""
    found: dict[str, list[int]] = {}
    for place in PLACES:
        path = processes(way, place)
        working = sum(name not in _BEHIND for name in path)
        for i, name in enumerate(path):
            found[name] = [cpus[min(i, working - 1) * min(len(cpus), working) // working]]
    return found


def warm_ups() -> Iterator[dict[str, Any]]:
    """Yield flows after which everything that is measured has been done, and every buffer been used.

    Answers go by buffers of their own, of which a measurement uses a few: a page that is touched for the
    first time costs more than a round trip. So frames go the other way once as well.
    """
    for step in steps():
        yield _flow(step, WARM_UP_SECONDS)
        if step.place != "wire" and step.kind == "pktgen":
            flow = _flow(step, WARM_UP_SECONDS)
            yield flow | {"from": flow["to"], "to": flow["from"]}


def topology(way: Way, seconds: float, passes: int, cpus: Sequence[int]) -> dict[str, Any]:
    """Return the topology file of a way: warm-ups, and then as often as there are `passes` every measurement.

    `cpus`: the processors that may be used.
    """
    at = _processors(way, cpus)
    return {
        "name": f"compare-{way.name}-{os.getpid()}",
        "poll": f"{POLL_MS}ms",
        "hosts": {f"h{host}": _host(way, host, at) for host in (0, *_WIRES)},
        "guests": {name: _guest(way, host) | {"cpus": at[name]} for name, host in _GUESTS.items()},
        "workloads": [*warm_ups(), *[_flow(step, seconds) for step in steps()] * passes],
    }


def _guest(way: Way, host: int) -> dict[str, Any]:
    nic = {**way.nic, **({"nic": f"nic{host}"} if way.is_vf else {})}
    return {"host": f"h{host}", "interrupts": way.interrupts, "memory": "16MiB", "nics": [nic]}


def _host(way: Way, host: int, at: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return a host; the one whose NIC is the end of a wire is the same for every way.

    A NIC that no frame passes is left out.
    """
    name, guests = f"nic{host}", sum(where == host for where in _GUESTS.values())
    made: dict[str, Any] = {"cpus": at[f"vmm-h{host}"]}
    if not way.is_vf and host not in _WIRES:
        return made
    nic = {"vfs": guests * way.is_vf, "ats": way.ats and bool(guests), "cpus": at[name]}
    if host in _WIRES:
        nic["wire"] = _WIRES[host]
    made |= {"nics": {name: nic}, "iommu": {"cpus": at[f"iommu-h{host}"]}}
    return made if way.is_vf or not guests else made | {"bridge": {"uplink": name}}


def _flow(step: Step, seconds: float) -> dict[str, Any]:
    source, destination = ENDS[step.place]
    return {
        "kind": step.kind,
        "from": source,
        "to": destination,
        "frame": step.frame_bytes,
        "duration": f"{seconds}s",
    }
