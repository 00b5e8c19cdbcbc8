"""A topology after its file was read: defaults filled in, names resolved, counts expanded, all checked.

Frozen records of plain values; sizes in bytes, times in nanoseconds. What a machine can hold is asked
later, of the plan.
"""

from dataclasses import dataclass
from typing import Literal

from launcher.nics import Nic
from launcher.units import FULL_SPEED, Rate
from testbed.messages.attack import AttackName


@dataclass(frozen=True)
class HostNic:
    """A physical NIC of a host."""

    name: str
    bdf: int
    """Requester ID of its physical function."""
    mac: str
    vfs: int
    ats: bool
    poll_ns: int
    cpus: tuple[int, ...]


@dataclass(frozen=True)
class Wire:
    """What joins two NICs, named in `ends`."""

    name: str
    ends: tuple[str, str]
    latency_ns: int = 0
    bits_per_second: int = 0
    """0: no limit."""
    loss: float = 0.0


@dataclass(frozen=True)
class Service:
    """How a process of a host runs."""

    poll_ns: int
    cpus: tuple[int, ...] = ()
    bypass: bool = False
    """Of an IOMMU: it stops nothing."""


@dataclass(frozen=True)
class Host:
    """One host: a vmm with its bridge, and where it has NICs, these and an IOMMU."""

    name: str
    poll_ns: int
    cpus: tuple[int, ...]
    stall_ns: int
    restart: bool = False
    """A vmm that dies is started again."""
    nics: tuple[HostNic, ...] = ()
    iommu: Service | None = None
    uplink: str = ""
    """The NIC through which the bridge reaches a wire; empty: none."""
    shares_macs: bool = False
    """Functions of its NICs may have the same address: of these one gets what is for it."""


@dataclass(frozen=True)
class Tap:
    """A NIC whose frames are those of a Linux network namespace."""

    nic: int
    address: str
    offload: bool = True


@dataclass(frozen=True)
class External:
    """How a guest that is not ours is reached: a vhost-user socket."""

    socket: str
    """Empty: in the run directory."""
    listens: bool


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
    has_smmu: bool = False
    """Its functions are behind an SMMU of its own."""
    drivers: tuple[str, ...] = ()
    """The kinds of NIC that it has a driver for."""
    taps: tuple[Tap, ...] = ()
    external: External | None = None
    """Where it is not ours: it has no process, and of its NICs only what is offered is known."""


@dataclass(frozen=True)
class End:
    """One end of a flow: a NIC of a guest."""

    guest: str
    nic: int


@dataclass(frozen=True)
class Flow:
    """One flow of a workload; both ends are the same NIC where a sink or an echo is behind it."""

    name: str
    kind: Literal["replay", "pktgen", "rr", "timer", "ipi", "steer", "storm"]
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
    way: tuple[str, ...] = ()
    """The NICs of hosts that its frames pass."""
    ends_at: str = ""
    """The NIC of a host that counts its frames as they come off the wire, instead of `destination`."""
    vcpus: tuple[int, int] = (0, 0)
    """Of interrupts: whose timer, or who sends to whom, within the guest that both ends name."""
    interval_ns: int = 0
    storm: str = ""
    """What a storm does."""

    @property
    def is_interrupts(self) -> bool:
        """It has no frames and no NICs."""
        return self.kind in ("timer", "ipi", "steer", "storm")


@dataclass(frozen=True)
class Attack:
    """A hostile driver of a virtual function, for a while."""

    name: str
    phase: int
    """From 1."""
    attack: AttackName
    source: End
    duration_ns: int
    victim: str = ""
    vlan: int = 0
    others_keep: float = 0.0


@dataclass(frozen=True)
class Topology:
    """Everything a topology file says, resolved."""

    name: str
    hosts: tuple[Host, ...]
    guests: tuple[Guest, ...]
    phases: tuple[tuple[Flow, ...], ...]
    """Workloads: phases one after another, the flows of a phase at the same time."""
    wires: tuple[Wire, ...] = ()
    attacks: tuple[Attack, ...] = ()
    """Beside the flows of their phases."""
