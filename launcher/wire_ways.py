"""The ways from a guest to a wire, as topologies that differ in nothing else, and what a frame costs on each.

A guest on one host sends; another host's NIC is at the far end of the wire. There the frames either end
(`far: wire`: the NIC counts what the wire brings it, and nobody takes it) or go on to a guest of that host by
the same way (`far: guest`). What bringing a topology up costs, measured by itself, is taken off before the
rest is divided by frames. Not modelled: more than one sender.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from launcher.forkclient import ROLES
from launcher.placement import place
from launcher.prepare import plan_fitting
from launcher.result import BenchFailed, Result
from launcher.run import run_plan
from launcher.rundir import Holder
from launcher.topology import parse_topology
from launcher.watcher import Watcher
from testbed.errors import ConfigError
from testbed.messages.entries import Plan

SENDER: Final = "sender"
RECEIVER: Final = "receiver"
FAR_NIC: Final = "nic1"
Far = Literal["wire", "guest"]
_NS_PER_SECOND: Final = 1e9


@dataclass(frozen=True)
class Way:
    """One way: the guest's NIC, and how the host's own NIC reaches memory."""

    name: str
    text: str
    """In a few words."""
    nic: Mapping[str, Any]
    ats: bool = False

    @property
    def is_vf(self) -> bool:
        """The guest has a function of the host's NIC; else its frames take the bridge and its uplink."""
        return bool(self.nic["kind"] == "vf")


_E1000: Final = {"kind": "e1000"}
_VIRTIO: Final = {"kind": "virtio-net", "queue_size": 1024}
WAYS: Final = {
    way.name: way
    for way in (
        Way("e1000", "emulated, TDT written for each frame", _E1000 | {"frames_per_kick": 1}),
        Way("e1000-batch", "emulated, TDT written for 256 frames", _E1000 | {"frames_per_kick": 256}),
        Way("virtio", "paravirtual, bridge and uplink", _VIRTIO),
        Way("virtio-ats", "paravirtual, an uplink with ATS", _VIRTIO, ats=True),
        Way("vf", "virtual function, DMA mediated by the IOMMU", {"kind": "vf"}),
        Way("vf-ats", "virtual function with ATS", {"kind": "vf"}, ats=True),
    )
}
WAYS_DEFAULT: Final = ("e1000", "virtio", "vf", "vf-ats")


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What is sent."""

    far: Far = "wire"
    frame_bytes: int = 60
    seconds: float = 1.0
    kind: Literal["pktgen", "rr"] = "pktgen"
    """rr: latency; to a guest only."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame costs, start-up apart."""

    cpu_ns: dict[str, float]
    """By process; those of less than a nanosecond are left out."""
    exits: float
    doorbells: float
    """Asked for: a vCPU's, a device's, an interrupt controller's."""
    messages: float
    """Sent to sleepers."""
    interrupts: float
    """Taken by guests' vCPUs."""
    vmm_bytes: float
    """Copied by vmms."""
    dma_requests: float
    """Of devices: reads, writes and messages."""
    dma_bytes: float
    """Copied by IOMMUs for devices, or by devices with ATS."""
    translations: float
    """Looked up in an IOTLB, or in a device's own cache of translations."""


class WayRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one way."""

    way: str
    frames_per_second: float
    bits_per_second: float
    latency_us: dict[str, float] | None
    cost: Cost


def find_way(name: str) -> Way:
    """Return a way by its name. Raises ConfigError that lists them."""
    if name not in WAYS:
        raise ConfigError(f"a way must be one of {', '.join(WAYS)}, not {name}")
    return WAYS[name]


def topology(way: Way, traffic: Traffic, *, idle: bool = False) -> dict[str, Any]:
    """Return the topology file of a way; `idle`: without its workload."""
    guests = {SENDER: _guest(way, "h0", "nic0")}
    flow = {
        "kind": traffic.kind,
        "from": SENDER,
        "to": FAR_NIC if traffic.far == "wire" else RECEIVER,
        "frame": traffic.frame_bytes,
        "duration": f"{traffic.seconds}s",
    }
    if traffic.far == "guest":
        guests[RECEIVER] = _guest(way, "h1", FAR_NIC)
    return {
        "name": f"bench-wire-{os.getpid()}",
        "hosts": {
            "h0": _host(way, "nic0", used=True),
            "h1": _host(way, FAR_NIC, used=traffic.far == "guest"),
        },
        "guests": guests,
        "workloads": [] if idle else [flow],
    }


def _host(way: Way, nic: str, *, used: bool) -> dict[str, Any]:
    """Return a host; the one at whose NIC frames end is the same for every way."""
    vfs = 1 if used and way.is_vf else 0
    host = {"nics": {nic: {"vfs": vfs, "wire": "w0", "ats": used and way.ats}}}
    return host | {"bridge": {"uplink": nic}} if used and not way.is_vf else host


def _guest(way: Way, host: str, nic: str) -> dict[str, Any]:
    own = dict(way.nic) | ({"nic": nic} if way.is_vf else {})
    return {"host": host, "nics": [own]}


def plan_way(way: Way, traffic: Traffic, *, idle: bool = False) -> Plan:
    """Return the plan of a way, placed as `virtbed run` places it."""
    text = msgspec.json.encode(topology(way, traffic, idle=idle)).decode()
    return place(plan_fitting(parse_topology(text, "bench wire")), sorted(os.sched_getaffinity(0)))


def idle_run(way: Way, traffic: Traffic, roles: Mapping[str, str] = ROLES) -> Result:
    """Bring a way up and take it down. Raises BenchFailed where that does not end well."""
    return _run(plan_way(way, traffic, idle=True), roles)


def run_way(
    way: Way, traffic: Traffic, idle: Result | None = None, roles: Mapping[str, str] = ROLES
) -> WayRun:
    """Run one way once; `idle`: what to take off its costs.

    Raises ConfigError for traffic that cannot be, BenchFailed where the run does not end well.
    """
    result = _run(plan_way(way, traffic), roles)
    flow = result.flows[0]
    return WayRun(
        way=way.name,
        frames_per_second=flow.frames_per_second,
        bits_per_second=flow.bits_per_second,
        latency_us=flow.latency_us,
        cost=cost_of(result, idle),
    )


def _run(plan: Plan, roles: Mapping[str, str]) -> Result:
    holder = Holder(plan.topology, os.getpid(), "bench", time.time())
    result = run_plan(plan, holder, Watcher(), roles)
    if result.exit_code:
        raise BenchFailed(result)
    return result


def cost_of(result: Result, idle: Result | None = None) -> Cost:
    """Return what a frame of a run's flows cost; `idle`: the same topology without them."""
    frames = max(1, sum(flow.received for flow in result.flows))
    counted = _Counted(result, idle, frames)
    before = {process.name: process.cpu_seconds for process in idle.processes} if idle else {}
    cpu_ns = {
        process.name: _rounded(
            (process.cpu_seconds - before.get(process.name, 0.0)) * _NS_PER_SECOND / frames
        )
        for process in result.processes
    }
    roles = {process.name: process.role for process in result.processes}
    guests, nics = _named(roles, "guest"), _named(roles, "nic")
    vmms, iommus, everybody = _named(roles, "vmm"), _named(roles, "iommu"), tuple(roles)
    return Cost(
        cpu_ns={name: ns for name, ns in cpu_ns.items() if ns >= 1},
        exits=counted.sum(guests, _EXITS),
        doorbells=counted.sum(everybody, ("bell.asked",)),
        messages=counted.sum(everybody, ("bell.sent",)),
        interrupts=counted.sum(guests, _INTERRUPTS),
        vmm_bytes=counted.sum(vmms, ("bytes_copied",)),
        dma_requests=counted.sum(iommus, _DMA_REQUESTS) + counted.sum(nics, ("ats.reads", "ats.writes")),
        dma_bytes=counted.sum(iommus, ("dma.bytes_read", "dma.bytes_written"))
        + counted.sum(nics, ("ats.bytes_read", "ats.bytes_written")),
        translations=counted.sum(iommus, ("iotlb.hits", "iotlb.misses"))
        + counted.sum(nics, ("ats.hits", "ats.misses")),
    )


_EXITS: Final = ("exits.mmio_read", "exits.mmio_write", "exits.hvc", "exits.irq", "exits.sysreg")
_INTERRUPTS: Final = ("interrupts.virtio", "interrupts.e1000", "interrupts.vf")
_DMA_REQUESTS: Final = ("dma.reads", "dma.writes", "dma.messages")


@dataclass(frozen=True)
class _Counted:
    """Counters of a run less those of an idle one, by frame."""

    result: Result
    idle: Result | None
    frames: int

    def sum(self, processes: Iterable[str], names: Sequence[str]) -> float:
        total = sum(self._of(process, name) for process in processes for name in names)
        return _rounded(total / self.frames)

    def _of(self, process: str, name: str) -> int:
        before = self.idle.counters.get(process, {}).get(name, 0) if self.idle else 0
        return max(0, self.result.counters.get(process, {}).get(name, 0) - before)


def _named(roles: Mapping[str, str], role: str) -> tuple[str, ...]:
    return tuple(name for name, its in roles.items() if its == role)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
