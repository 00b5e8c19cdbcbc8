"""A topology after its file was read: defaults filled in, names resolved, counts expanded, all checked.

Frozen records of plain values; sizes in bytes, times in nanoseconds. What a machine can hold is asked
later, of the plan.
"""

from dataclasses import dataclass
from typing import Literal

from launcher.units import FULL_SPEED, Rate
from testbed.messages.entries import InterposeEntry
from testbed.spec.flow import ETHERNET


@dataclass(frozen=True)
class Host:
    """One host: a vmm with its bridge."""

    name: str
    poll_ns: int
    cpus: tuple[int, ...]
    stall_ns: int


@dataclass(frozen=True)
class VirtioNet:
    """A virtio-net NIC of a guest."""

    mac: str
    ring: Literal["split", "packed"]
    backend: Literal["bridge", "sink", "echo"]
    queue_size: int
    queue_pairs: int
    mtu: int
    indirect: bool
    event_idx: bool
    mrg_rxbuf: bool
    in_order: bool
    segments: int
    interpose: tuple[InterposeEntry, ...] = ()

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame it carries, without FCS."""
        return self.mtu + ETHERNET.size


Nic = VirtioNet
"""Every kind of NIC."""


@dataclass(frozen=True)
class Tap:
    """A NIC whose frames are those of a Linux network namespace."""

    nic: int
    address: str


@dataclass(frozen=True)
class Guest:
    """One virtual machine."""

    name: str
    host: str
    memory_bytes: int
    vcpus: int
    interrupts: Literal["list-registers", "direct"]
    poll_ns: int
    cpus: tuple[int, ...]
    nics: tuple[Nic, ...]
    taps: tuple[Tap, ...] = ()


@dataclass(frozen=True)
class End:
    """One end of a flow: a NIC of a guest."""

    guest: str
    nic: int


@dataclass(frozen=True)
class Flow:
    """One flow of a workload; both ends are the same NIC where a sink or an echo is behind it."""

    name: str
    kind: Literal["replay", "pktgen", "rr"]
    source: End
    destination: End
    frame_bytes: tuple[int, ...] = ()
    duration_ns: int = 0
    count: int = 0
    rate: Rate = FULL_SPEED
    verify: bool = True
    capture: str = ""
    loops: int = 1
    captured_times: bool = False


@dataclass(frozen=True)
class Topology:
    """Everything a topology file says, resolved."""

    name: str
    hosts: tuple[Host, ...]
    guests: tuple[Guest, ...]
    phases: tuple[tuple[Flow, ...], ...]
    """Workloads: phases one after another, the flows of a phase at the same time."""
