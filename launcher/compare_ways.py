"""What `virtbed compare` compares: the ways of a guest's frames, a topology each, and what it measures.

Reference: launcher/wire_ways.py, whose NICs these are. A topology has guests a and b on one host, c across a
wire on another, and d on a third; the NIC at the far end of d's wire is nobody's, the same for every way.
One measurement is made at a time; whoever has no part in it sleeps. Requests come first, so that bridges know
where everybody is when it comes to rates. Not modelled: one kind of NIC at each end.
"""

import os
from collections.abc import Iterator, Mapping
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
_ENDS: Final[dict[Place, tuple[str, str]]] = {"host": ("a", "b"), "guest": ("a", "c"), "wire": ("d", "nic3")}
_GUESTS: Final = {"a": 0, "b": 0, "c": 1, "d": 2}
"""With the number of their host."""
_HOSTS: Final = 4


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
"""The way by which the others are divided, repetition by repetition."""
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


def topology(way: Way, seconds: float, rounds: int = 1) -> dict[str, Any]:
    """Return the topology file of a way; every measurement is made so often, for so many seconds each."""
    guests = {name: _guest(way, host) for name, host in _GUESTS.items()}
    return {
        "name": f"compare-{way.name}-{os.getpid()}",
        "hosts": {f"h{host}": _host(way, host) for host in range(_HOSTS)},
        "guests": guests,
        "workloads": [_flow(step, seconds) for _ in range(rounds) for step in steps()],
    }


def _guest(way: Way, host: int) -> dict[str, Any]:
    nic = {**way.nic, **({"nic": f"nic{host}"} if way.is_vf else {})}
    return {"host": f"h{host}", "interrupts": way.interrupts, "nics": [nic]}


def _host(way: Way, host: int) -> dict[str, Any]:
    """Return a host; the one whose NIC is the end of a wire is the same for every way."""
    name, guests = f"nic{host}", sum(where == host for where in _GUESTS.values())
    nic = {"vfs": guests * way.is_vf, "wire": f"w{host // 2}", "ats": way.ats and bool(guests)}
    made: dict[str, Any] = {"nics": {name: nic}}
    return made if way.is_vf or not guests else made | {"bridge": {"uplink": name}}


def _flow(step: Step, seconds: float) -> dict[str, Any]:
    source, destination = _ENDS[step.place]
    return {
        "kind": step.kind,
        "from": source,
        "to": destination,
        "frame": step.frame_bytes,
        "duration": f"{seconds}s",
    }
