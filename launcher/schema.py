"""The topology file as models: every key with rule, default and description, for checks and for editors.

Reference: design, the topology file. Only what one value says about itself is checked here; what values
say about each other is checked when the topology is loaded. A kind of a guest's NIC is a file in `nics`. Not
modelled: host NICs other than the 82576.
"""

import copy
from functools import cache
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, Field

from launcher.nics import NicModel
from launcher.nics.kind import VCPUS_MAX
from launcher.rules import (
    Boolean,
    Count,
    Cpus,
    FlowRate,
    Frames,
    GuestIommu,
    InterfaceAddress,
    Interrupts,
    Mac,
    Name,
    OneOf,
    Poll,
    Text,
    Timing,
    choice,
    duration_between,
    ram_size,
    share,
    whole,
)
from launcher.section import Section, default
from launcher.units import DURATION_UNITS, GIB, MIB
from testbed.messages.attack import AttackName

SCHEMA_URL: Final = "https://json-schema.org/draft/2020-12/schema"
NICS_MAX: Final = 16
"""A doorbell address, a window and an interrupt each."""
GUESTS_MAX: Final = 100_000

_DAY_NS: Final = 24 * 60 * DURATION_UNITS["min"]
_MS: Final = DURATION_UNITS["ms"]
DRIVERS: Final = ("virtio-net", "e1000", "vf")
"""The kinds of NIC that a guest may have a driver for."""
UNSAFE_WORDS: Final = ("no-iommu", "shared-mac", "promiscuous")
"""What `unsafe` of a host may say."""
_INTERVAL_MIN_NS: Final = 10 * DURATION_UNITS["us"]
VFS_MAX: Final = 7
"""Of an 82576's eight pools the physical function keeps one."""
HOST_NICS_MAX: Final = 16
VLAN_MAX: Final = 4094
Storm = Literal["sgi", "no-eoi", "registers", "spin", "hypercalls"]
RunTime = Annotated[int, duration_between(_MS, 7 * _DAY_NS)]


def _nothing_is_empty(value: object) -> object:
    return {} if value is None else value


class WireSection(Section):
    """A wire between two NICs."""

    latency: Annotated[int, duration_between(0, 10 * DURATION_UNITS["s"])] = default("0ns")
    """How long a frame is under way."""
    rate: FlowRate | None = None
    """Bits a second in each direction (1Gbit). Default: no limit."""
    loss: Annotated[float, share()] = 0.0
    """Which share of the frames it loses, from 0 to 1."""


class HostNicSection(Section):
    """A physical NIC: an 82576 with virtual functions (SR-IOV), behind the host's IOMMU."""

    vfs: Annotated[int, whole(0, VFS_MAX)] = 4
    """Virtual functions."""
    wire: Name | None = None
    """The wire on which it is; another NIC names the same one."""
    ats: Boolean = False
    """Let it cache translations and move bytes itself, instead of through the IOMMU's process."""
    mac: Mac | None = None
    """The physical function's address. Default: a locally administered one."""
    poll: Poll | None = None
    """How long it polls before it sleeps: a duration, 0 or forever. Default: the host's."""
    cpus: Cpus | None = None
    """CPUs that it may run on. Default: any."""


class IommuSection(Section):
    """The IOMMU of a host that has NICs."""

    bypass: Boolean = False
    """Let every function reach all memory of the host's guests, as without an IOMMU (unsafe: no-iommu)."""
    poll: Poll | None = None
    """How long it polls before it sleeps: a duration, 0 or forever. Default: the host's."""
    cpus: Cpus | None = None
    """CPUs that it may run on. Default: any."""


class BridgeSection(Section):
    """The software bridge of a host's vmm."""

    uplink: Text | None = None
    """The host's NIC through which its frames reach a wire, and virtual functions."""

    stall: Annotated[int, duration_between(_MS, 60 * DURATION_UNITS["min"])] = default("1s")
    """How long a full receiver may hold its senders back before frames for it are dropped."""


Driver = Annotated[Literal["virtio-net", "e1000", "vf"], choice(*DRIVERS)]
UnsafeWord = Annotated[Literal["no-iommu", "shared-mac", "promiscuous"], choice(*UNSAFE_WORDS)]


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


Unsafe = Annotated[list[UnsafeWord], BeforeValidator(_listed)]
"""A word, or a list of words."""
HostNic = Annotated[HostNicSection, BeforeValidator(_nothing_is_empty)]


class HostSection(Section):
    """One host: its hypervisor back end and bridge."""

    poll: Poll | None = None
    """How long the vmm polls before it sleeps: a duration, 0 or forever. Default: the topology's."""
    cpus: Cpus | None = None
    """CPUs that the vmm may run on. Default: any."""
    bridge: BridgeSection = default({})
    """Its software bridge."""
    restart: Boolean = False
    """Start the vmm again when it dies; for hosts whose guests are all external, and connect again."""
    nics: Annotated[dict[Name, HostNic], Field(max_length=HOST_NICS_MAX)] = default({})
    """Its physical NICs by name."""
    iommu: IommuSection = default({})
    """Its IOMMU."""
    unsafe: Unsafe = default([])
    """What of it shall be possible although it harms guests, a word or a list: no-iommu, shared-mac,
    promiscuous.
    """


class GuestSection(Section):
    """One virtual machine, or `count` equal ones."""

    kind: Annotated[Literal["testbed", "external"], choice("testbed", "external")] = "testbed"
    """A guest of the testbed's own, or whatever connects as a vhost-user front end (QEMU, DPDK)."""
    socket: Text | None = None
    """External: its vhost-user socket, relative to the topology file. Default: in the run directory."""
    listens: Boolean = True
    """External: whether the vmm listens at the socket and the front end connects, or the other way round."""
    host: Text | None = None
    """The host it runs on. Default: the only host."""
    count: Annotated[int, whole(1, GUESTS_MAX)] | None = None
    """Make so many equal guests, named NAME0, NAME1, ..."""
    memory: Annotated[int, ram_size(4 * MIB, 64 * GIB)] = default("64MiB")
    """RAM, a multiple of 2MiB."""
    vcpus: Annotated[int, whole(1, VCPUS_MAX)] = 1
    """Virtual CPUs."""
    interrupts: Annotated[Interrupts, choice("list-registers", "direct")] = "list-registers"
    """How those of virtual functions reach it: the vmm fills list registers, or the ITS injects them directly
    (GICv4). Those of virtio-net and e1000, whose source is software, always go by list registers.
    """
    iommu: Annotated[GuestIommu, choice("none", "smmu")] = "none"
    """An SMMU of its own: its system gives each virtual function an I/O address space, whose tables are in
    the guest's RAM, so that a function reaches only what its driver has mapped.
    """
    poll: Poll | None = None
    """How long it polls before it sleeps: a duration, 0 or forever. Default: the topology's."""
    cpus: Cpus | None = None
    """CPUs that it may run on. Default: any."""
    drivers: Annotated[list[Driver], Field(min_length=1)] = default(list(DRIVERS))
    """For which kinds of NIC its system has a driver; one with a NIC of another kind does not come up."""
    nics: Annotated[list[NicModel], Field(max_length=NICS_MAX)] = default([{"kind": "virtio-net"}])
    """Its NICs. Default: one virtio-net."""


class FlowSection(Section):
    """What every workload has."""

    source: Text = Field(alias="from")
    """The sender: a guest, or GUEST.nicN."""
    destination: Text | None = Field(alias="to", default=None)
    """The receiver: a guest, or GUEST.nicN. Left out where the sender has a sink or an echo behind it. Of a
    pktgen also a host's NIC, which counts the frames as they come off its wire and drops them.
    """


class ReplaySection(FlowSection):
    """Send the frames of a capture."""

    kind: Literal["replay"]
    """Which kind of workload this is."""
    pcap: Text
    """A pcap or pcapng file; its path is relative to the topology file."""
    loops: Annotated[int, whole(1, 1_000_000_000)] = 1
    """How many times to send it."""
    timing: Annotated[Timing, choice("full-speed", "captured")] = "full-speed"
    """As fast as the receiver takes it, or at the times of the capture."""


class TimedSection(FlowSection):
    """A workload that makes its own frames, for a time or for a number of them."""

    frame: Frames = default(60)
    """Frame size in bytes without FCS, a list of sizes used in turn, or imix."""
    duration: RunTime | None = None
    """How long to send. Default: 1s, where no count is given."""
    count: Count | None = None
    """How many frames to send, instead of a duration."""


class PktgenSection(TimedSection):
    """Generate frames, each with flow, sequence number and checksum."""

    kind: Literal["pktgen"]
    """Which kind of workload this is."""
    rate: FlowRate | None = None
    """Frames a second (100k, 1.5M) or bits a second (1Gbit). Default: full speed."""
    verify: Boolean = True
    """Check every frame where it arrives."""


class RrSection(TimedSection):
    """Request and response, one at a time: latency."""

    kind: Literal["rr"]
    """Which kind of workload this is."""


class InterruptsSection(Section):
    """What every workload of interrupts has."""

    interval: Annotated[int, duration_between(_INTERVAL_MIN_NS, DURATION_UNITS["min"])] = default("1ms")
    """From one to the next."""
    duration: RunTime | None = None
    """How long. Default: 1s, where no count is given."""
    count: Count | None = None
    """How many, instead of a duration."""


class TimerSection(InterruptsSection):
    """Have a vCPU's virtual timer fire: from its time to the handler's first line."""

    kind: Literal["timer"]
    """Which kind of workload this is."""
    source: Text = Field(alias="from")
    """The vCPU: a guest (its first one), or GUEST.vcpuN."""


class IpiSection(InterruptsSection):
    """Interrupt one vCPU of a guest from another (SGI), one at a time."""

    kind: Literal["ipi"]
    """Which kind of workload this is."""
    source: Text = Field(alias="from")
    """The vCPU that sends: a guest (its first one), or GUEST.vcpuN."""
    destination: Text | None = Field(alias="to", default=None)
    """The vCPU that is interrupted, GUEST.vcpuN of the same guest. Default: the next one."""


class SteerSection(InterruptsSection):
    """Have a virtual function raise a vector by software, and steer it to the guest's next vCPU while it is
    under way: from the raise to the handler's first line.
    """

    kind: Literal["steer"]
    """Which kind of workload this is."""
    source: Text = Field(alias="from")
    """The virtual function: a guest (its first NIC), or GUEST.nicN."""


class StormSection(Section):
    """Have a vCPU abuse its interrupt controller, or be busy with something harmless, for comparison."""

    kind: Literal["storm"]
    """Which kind of workload this is."""
    source: Text = Field(alias="from")
    """The vCPU: a guest (its first one), or GUEST.vcpuN."""
    what: Annotated[Storm, choice(*get_args(Storm))]
    """sgi: SGIs to every vCPU of the guest; no-eoi: and none is ever ended; registers: rubbish in distributor
    and redistributor. Harmless: spin (loads from RAM), hypercalls.
    """
    duration: RunTime = default("1s")
    """How long."""


class NetnsSection(Section):
    """A Linux network namespace for a guest, from the topology's start to its end; needs root."""

    kind: Literal["netns"]
    """Which kind of workload this is."""
    guest: Text
    """The guest whose NIC the namespace's interface (eth0 for NIC 0) stands for."""
    nic: Annotated[int, whole(0, NICS_MAX - 1)] = 0
    """Which of its NICs."""
    address: InterfaceAddress
    """The interface's IPv4 or IPv6 address with prefix length."""
    offload: Boolean = True
    """The stack has TCP in large frames, cut into and joined from those of the NIC; false: frame by frame."""


class AttackSection(Section):
    """A guest whose driver of a virtual function is hostile, beside the other workloads of its phase."""

    kind: Literal["attack"]
    """Which kind of workload this is."""
    source: Text = Field(alias="from")
    """The guest, or GUEST.nicN; the NIC is a virtual function."""
    attack: Annotated[AttackName, choice(*get_args(AttackName))]
    """What its driver does."""
    victim: Text | None = None
    """The guest whose memory (dma-other-guest) or address (spoof-mac) it takes; for no other attack."""
    vlan: Annotated[int, whole(1, VLAN_MAX)] | None = None
    """The others' VLAN that it sends into (spoof-vlan); for no other attack."""
    duration: RunTime = default("1s")
    """How long, hostile and harmless by turns."""
    others_keep: Annotated[float, share()] | None = None
    """Least share of their throughput that the other flows of the phase must keep. Default: none."""


Workload = Annotated[
    ReplaySection
    | PktgenSection
    | RrSection
    | TimerSection
    | IpiSection
    | SteerSection
    | StormSection
    | NetnsSection
    | AttackSection,
    OneOf(
        ReplaySection,
        PktgenSection,
        RrSection,
        TimerSection,
        IpiSection,
        SteerSection,
        StormSection,
        NetnsSection,
        AttackSection,
    ),
]


def _phase(value: object) -> object:
    return value if isinstance(value, list) else [value]


Phase = Annotated[list[Workload], Field(min_length=1), BeforeValidator(_phase)]
"""A workload, or a list of workloads that run at the same time."""
Host = Annotated[HostSection, BeforeValidator(_nothing_is_empty)]
Wire = Annotated[WireSection, BeforeValidator(_nothing_is_empty)]
Guest = Annotated[GuestSection, BeforeValidator(_nothing_is_empty)]


class TopologySection(Section):
    """A virtbed topology: hosts, guests and what they send each other."""

    name: Name
    """The topology's name in every command and result."""
    poll: Poll = default("200us")
    """How long a process polls before it sleeps: a duration, 0 (always sleep) or forever."""
    hosts: Annotated[dict[Name, Host], Field(min_length=1)] | None = None
    """Hosts by name. Default: those that guests name, or one named h0."""
    guests: Annotated[dict[Name, Guest], Field(min_length=1)]
    """Guests by name."""
    wires: dict[Name, Wire] = default({})
    """What the wires are like that NICs of hosts name; one that is not here is perfect."""
    workloads: list[Phase] = default([])
    """What to run, one after another; a list inside the list runs at the same time."""


@cache
def model_schema() -> dict[str, Any]:
    """Return the JSON schema of the models as they check: every phase a list."""
    return TopologySection.model_json_schema()


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of the topology file (draft 2020-12), for editors."""
    schema = copy.deepcopy(model_schema())
    phases = schema["properties"]["workloads"]
    phases["items"] = {"anyOf": [phases["items"]["items"], phases["items"]]}
    schema["patternProperties"] = {"^x-": {"description": "Free for anchors; ignored."}}
    return {"$schema": SCHEMA_URL, "$id": "virtbed-topology", **schema}
