"""What each process is told when it starts: its own entry of the plan and nothing else.

Reference: plain data (msgspec structs), written by the planner, read by the composition roots. Sizes are
bytes, times nanoseconds, addresses integers of the kind their name says. `poll_ns` is how long a consumer
polls before it sleeps; `POLL_FOREVER` never sleeps.
"""

from typing import Final, Literal

import msgspec

from testbed.messages.attack import AttackEntry

POLL_FOREVER: Final = -1
Direction = Literal["tx", "rx", "both"]
"""Frames from the guest, to the guest, or both."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root of every record of the plan."""


class SegmentEntry(Entry, frozen=True, kw_only=True):
    """A POSIX shared memory segment as one process sees it; its descriptor arrives under `name`."""

    name: str
    size_bytes: int
    hpa: int = 0
    """Host physical base, 0 where the segment is not host memory."""
    writable: bool = True


class CaptureEntry(Entry, tag="capture", frozen=True, kw_only=True):
    """Write frames to a pcapng file."""

    file: str
    direction: Direction = "both"


class FilterEntry(Entry, tag="filter", frozen=True, kw_only=True):
    """Drop frames that match a pcap-filter expression, or those that do not."""

    expression: str
    drops: Literal["matching", "others"]
    direction: Direction = "both"


class RateEntry(Entry, tag="rate", frozen=True, kw_only=True):
    """Limit frames or bits a second, each direction by itself."""

    per_second: float
    depth: float
    """What a full bucket holds."""
    unit: Literal["frames", "bits"]
    excess: Literal["drop", "hold"] = "drop"
    direction: Direction = "both"


class MirrorEntry(Entry, tag="mirror", frozen=True, kw_only=True):
    """Copy frames to another NIC of the same host."""

    to: str
    """`guest.nicN`."""
    direction: Direction = "both"


class CallEntry(Entry, tag="call", frozen=True, kw_only=True):
    """Have a Python function see every burst."""

    function: str
    """`package.module:function`."""
    directory: str
    """Where modules are looked for besides the usual places."""
    direction: Direction = "both"


InterposeEntry = CaptureEntry | FilterEntry | RateEntry | MirrorEntry | CallEntry
"""Every kind of interposer on a NIC's way through the vmm."""


class AnyNicEntry(Entry, frozen=True, kw_only=True):
    """What every NIC of a guest has."""

    name: str
    """`guest.nicN`."""
    mac: str
    mtu: int = 1500

    @property
    def hidden(self) -> str:
        """Why the vmm cannot look at its frames; empty where it can."""
        raise NotImplementedError

    @property
    def summary(self) -> str:
        """Its kind in a word or two."""
        raise NotImplementedError

    @property
    def interposable(self) -> bool:
        """Whether the vmm's bridge carries its frames, so that it can look at them."""
        return not self.hidden


class ServedNicEntry(AnyNicEntry, frozen=True, kw_only=True):
    """What every NIC has whose device is in the vmm."""

    intid: int
    """Shared peripheral interrupt of the guest's GIC."""
    backend: Literal["bridge", "sink", "echo", "peer"] = "bridge"
    """What its frames meet in the vmm; peer: they do not come there, another process has the device."""
    interpose: tuple[InterposeEntry, ...] = ()
    """What looks at its frames on their way, in order."""

    @property
    def hidden(self) -> str:
        """Only what goes through the bridge can be looked at."""
        return "" if self.backend == "bridge" else f"it has a back end of its own ({self.backend}), no bridge"


class VirtioNetEntry(ServedNicEntry, tag="virtio-net", frozen=True, kw_only=True):
    """A virtio-net device behind a virtio-mmio register block (virtio 1.2 §4.2), or another process's."""

    mmio_gpa: int
    vhost_user: str = ""
    """Path of the socket of its back end, where that is another process."""
    ring: Literal["split", "packed"] = "split"
    queue_size: int = 256
    queue_pairs: int = 1
    indirect: bool = True
    event_idx: bool = True
    mrg_rxbuf: bool = True
    in_order: bool = False
    segments: int = 1
    """Descriptors in which the driver lays out a frame to send."""

    @property
    def summary(self) -> str:
        """Its ring format."""
        return f"virtio-net {self.ring}"


class E1000Entry(ServedNicEntry, tag="e1000", frozen=True, kw_only=True):
    """An emulated 82540EM: its memory BAR and its I/O BAR (8254x SDM §13.1, §13.2.2)."""

    bar_gpa: int
    io_port: int
    ring_size: int = 256
    frames_per_kick: int = 256
    """Frames that the driver sends before it writes TDT."""
    throttle_ns: int = 0
    """Least time between two interrupts."""
    reset: Literal["io", "memory"] = "io"
    """Through which BAR the driver resets it."""

    @property
    def summary(self) -> str:
        """Its kind."""
        return "e1000"


class VfEntry(AnyNicEntry, tag="vf", frozen=True, kw_only=True):
    """A virtual function of an 82576, in the guest's hands: its registers are mapped at stage 2, and the vmm
    carries none of its frames.
    """

    function: str
    """`NIC.vfN`, as its DMA is counted."""
    number: int
    """N: which of the NIC's virtual functions."""
    nic: str
    """Name of the NIC's process."""
    stream: int
    """Its requester ID."""
    window: str
    """Segment of its register window (`testbed.spec.bar_window`), with a host physical base."""
    window_gpa: int
    msi_gpa: int
    """The page of the guest's address space to which it writes its MSIs."""
    intids: tuple[int, ...]
    """Interrupt of each vector: event N leads to number N. LPIs, where they are injected directly."""
    affinity: tuple[int, ...] = ()
    """The vCPU that takes each; empty: the first takes all."""
    throttle_ns: int = 0
    """Least time between two interrupts of a vector."""
    ring_size: int = 1024
    ats: bool = False
    ram_offset: int = 0
    """From a guest physical address of RAM to what the function is to use for it. Behind an IOMMU: nothing;
    past it the guest is told where in the machine its RAM is, as Xen tells paravirtual guests.
    """
    msi_address: int = 0
    """Past the IOMMU: where its MSIs are written; 0: at `msi_gpa`."""
    guest_stream: int = 0
    """Its requester ID as its guest knows it: what the guest's SMMU indexes its stream table with, and the
    guest's ITS its device table.
    """

    @property
    def hidden(self) -> str:
        """Its frames do not pass the vmm."""
        return "it is a function of a NIC in the guest's own hands"

    @property
    def summary(self) -> str:
        """Its kind and which it is."""
        return f"vf {self.function}"


ServedEntry = VirtioNetEntry | E1000Entry
"""Every kind of NIC whose device is in the vmm."""
NicEntry = ServedEntry | VfEntry
"""Every kind of NIC a guest can have."""


class TapEntry(Entry, frozen=True, kw_only=True):
    """A NIC whose frames a Linux network stack sends and gets, through a TAP device in a namespace."""

    nic: int
    interface: str
    """The device's name in the namespace."""
    address: str
    """Of the interface, with prefix length: `10.0.0.1/24`."""
    descriptor: str
    """Under this name the device arrives among the process's descriptors."""
    offload: bool = True
    """TCP comes and goes in large frames, which are cut into and joined from those of the NIC."""


class GuestSmmuEntry(Entry, frozen=True, kw_only=True):
    """A guest's own SMMUv3, without stage 2: every function of its NICs is behind it."""

    gpa: int
    """Its registers (IHI 0070 §6.1)."""
    event_intid: int
    """Shared peripheral interrupt of its event queue."""
    error_intid: int
    """Of its global errors."""


class GuestEntry(Entry, tag="guest", frozen=True, kw_only=True):
    """One virtual machine. Segments: `NAME.ram`, `NAME.stage2`, `NAME.vcpu`, `NAME.counters`."""

    name: str
    host: str
    index: int
    memory_bytes: int
    ram_gpa: int
    stage2_hpa: int
    """Where its stage-2 tables begin (their root is the first page)."""
    vcpus: int = 1
    interrupts: Literal["list-registers", "direct"] = "list-registers"
    """direct: those of functions in its own hands; with any, the vmm has `NAME.vpt` (`VpeEntry.vpt_hpa`)."""
    poll_ns: int
    cpus: tuple[int, ...] = ()
    drivers: tuple[str, ...] = ("virtio-net", "e1000", "vf")
    """Tags of the NIC entries that its system has a driver for."""
    nics: tuple[NicEntry, ...] = ()
    taps: tuple[TapEntry, ...] = ()
    iommu: str = ""
    """Name of the process through which functions in its hands reach its memory; empty: it has none."""
    smmu: GuestSmmuEntry | None = None
    """None: it has none, and its functions use guest physical addresses."""


class ExternalEntry(Entry, frozen=True, kw_only=True):
    """A guest that is not ours: a vhost-user front end, in whatever process it lives."""

    name: str
    socket: str
    """Path of its socket; empty: `NAME.sock` in the run directory."""
    listens: bool = True
    """The vmm listens and the front end connects; else the other way round."""
    nic: VirtioNetEntry
    """What is offered to it."""

    @property
    def journal(self) -> str:
        """The segment in which its rings are recorded for the next vmm, where there will be one."""
        return f"{self.name}.journal"


class BridgeEntry(Entry, frozen=True, kw_only=True):
    """The vmm's software bridge."""

    stall_ns: int
    """How long a full receiver may hold its senders back before frames for it are dropped as `stalled`."""
    table_size: int = 4096


class VfSettingsEntry(Entry, frozen=True, kw_only=True):
    """What the operator wants of a virtual function (as `ip link set DEV vf N` has it)."""

    mac: str = ""
    """Empty: the function chooses."""
    vlan: int = 0
    rate_bits_per_second: int = 0
    spoof_check: bool = True
    trust: bool = False
    drop: bool = False
    """What finds no descriptor is dropped at once."""
    promiscuous: bool = False
    link: bool = True


class PhysicalNicEntry(Entry, frozen=True, kw_only=True):
    """An 82576 as its host's vmm has it. Segments: `window`, `memory`."""

    name: str
    """Of the NIC's process."""
    stream: int
    """Requester ID of its physical function."""
    window: str
    """Segment: all its functions, with configuration space."""
    memory: str
    """Segment for the physical function's rings and buffers, with a host physical base."""
    vfs: tuple[VfSettingsEntry, ...] = ()
    ats: bool = False
    """Its functions may ask for translations."""
    uplink: bool = False
    """The bridge's frames leave and come by it."""
    replicate: bool = True
    """A frame for several functions goes to each; false: to one of them."""


class VmmEntry(Entry, tag="vmm", frozen=True, kw_only=True):
    """The hypervisor back end of one host. Its segments: those of its guests and its own counters."""

    name: str
    host: str
    poll_ns: int
    cpus: tuple[int, ...] = ()
    guests: tuple[GuestEntry, ...] = ()
    externals: tuple[ExternalEntry, ...] = ()
    restarts: bool = False
    """It is started again when it dies."""
    bridge: BridgeEntry
    iommu: str = ""
    """Process of the host's SMMU and ITS; empty: it has none.

    Segments: `IOMMU.window`, `IOMMU.lpis`, `IOMMU.tables` (with a host physical base).
    """
    its_hpa: int = 0
    """As in `IommuEntry`."""
    iommu_bypass: bool = False
    """Functions of guests use host physical addresses, and nothing stops them."""
    physical: tuple[PhysicalNicEntry, ...] = ()


class DmaFunctionEntry(Entry, frozen=True, kw_only=True):
    """One function of a NIC, as it makes requests."""

    name: str
    """`NIC.pf` or `NIC.vfN`."""
    stream: int
    """Its requester ID."""


class DmaEntry(Entry, frozen=True, kw_only=True):
    """A NIC's way into its host's memory. Segments: `NIC.dma` (`testbed.spec.dma_area`), `NIC.sram`."""

    nic: str
    """Name of the NIC's process."""
    functions: tuple[DmaFunctionEntry, ...]
    """The PF first, then the VFs."""
    slots: int
    """Of each function's ring, a power of two."""
    ats: bool = False
    """The NIC caches translations and moves bytes itself."""


class VpeEntry(Entry, frozen=True, kw_only=True):
    """A vCPU into which the ITS may deliver without its hypervisor. Segment: `page`."""

    guest: str
    """Name of its process."""
    vcpu: int = 0
    page: str
    """Segment of its guest's pages (`testbed.spec.vcpu_page`), of which its own is number `vcpu`."""
    vpt_hpa: int
    """Its virtual pending table (IHI 0069 §6.1.2), 64 KiB aligned; its hypervisor maps it by VMAPP."""


class IommuEntry(Entry, tag="iommu", frozen=True, kw_only=True):
    """SMMU and ITS of one host.

    Segments: `NAME.window` (`testbed.spec.iommu_window`), `NAME.counters`, those of `nics`, and, each with a
    host physical base, all memory that devices may be let into and that holds tables and queues.
    """

    name: str
    host: str
    poll_ns: int
    cpus: tuple[int, ...] = ()
    nics: tuple[DmaEntry, ...] = ()
    vmm: str
    """Name of the process whose driver programs it."""
    its_hpa: int = 0
    """Base of the ITS's two frames (IHI 0069 §12.18), where no memory is; 0: there is no ITS.

    Segment: `NAME.lpis` (`testbed.spec.lpi`).
    """
    vpes: tuple[VpeEntry, ...] = ()


class WindowEntry(Entry, frozen=True, kw_only=True):
    """A window to a NIC's registers (`testbed.spec.bar_window`), a segment."""

    segment: str
    process: str
    """Who looks through it."""
    function: int | None = None
    """The one function (0: the PF, n: VF n-1) whose BARs it shows; None: all, with configuration space."""


class WireEntry(Entry, frozen=True, kw_only=True):
    """A NIC's end of its wire, and what the wire does to the frames that leave by it."""

    peer: str
    """Name of the process at the other end."""
    outgoing: str
    """Segment (`testbed.spec.wire`)."""
    incoming: str
    latency_ns: int = 0
    bits_per_second: int = 0
    """0: no limit."""
    loss: float = 0.0
    """Share of the frames."""
    seed: int = 0


class NicProcessEntry(Entry, tag="nic", frozen=True, kw_only=True):
    """An 82576. Segments: those of `dma`, `windows` and `wire`, `NAME.counters`; with `dma.ats` also the
    memory that its functions may be let into, each segment with its host physical base.
    """

    name: str
    host: str
    poll_ns: int
    cpus: tuple[int, ...] = ()
    mac: str
    bdf: int
    """Requester ID of the physical function."""
    iommu: str
    """Name of the process that serves `dma`."""
    dma: DmaEntry
    windows: tuple[WindowEntry, ...] = ()
    wire: WireEntry | None = None
    stall_ns: int = 100_000_000
    """How long a receive queue without descriptors holds its senders back."""


class IrqBenchEntry(Entry, tag="irq-bench", frozen=True, kw_only=True):
    """One process of the measurement of interrupts: hypervisor, vCPU or device, by `name`.

    Segments: `h0.tables`, `vpt`, `vcpu`, `lpi-table`, `stamps`, `nic0.dma`, `nic0.sram` and those of the
    IOMMU, each with whom they concern.
    """

    name: Literal["vmm-h0", "vcpu", "nic0"]
    host: str = "h0"
    poll_ns: int
    cpus: tuple[int, ...] = ()
    way: Literal["list-registers", "direct"]
    kind: Literal["vf", "virtio", "e1000"] = "vf"
    """Whose interrupts: a device function's; or those of a device that is software in the hypervisor."""
    its_hpa: int
    stream: int
    slots: int
    duration_ns: int
    gap_ns: int
    """Between an interrupt's handler and the next interrupt."""


ProcessEntry = GuestEntry | VmmEntry | IommuEntry | NicProcessEntry | IrqBenchEntry


class ProcessPlan(Entry, frozen=True, kw_only=True):
    """One process: what it is told and which segments it may map."""

    name: str
    role: Literal["vmm", "guest", "iommu", "nic"]
    entry: ProcessEntry
    segments: tuple[SegmentEntry, ...]
    counter_names: tuple[str, ...]
    """What the 64-bit words of `NAME.counters` count, in order."""
    files: tuple[str, ...] = ()
    """Names of the descriptors that arrive besides those of the segments, behind them."""


class FlowEntry(Entry, frozen=True, kw_only=True):
    """One flow of a workload: frames from one guest's NIC to another's, or interrupts within a guest."""

    id: int
    """Unique in the topology, from 1; carried by every generated frame."""
    name: str
    kind: Literal["replay", "pktgen", "rr", "timer", "ipi", "steer", "storm"]
    source: str
    destination: str
    """Who answers for what arrives: a guest; the vmm where the source's NIC has a sink behind it; a NIC."""
    source_nic: int = 0
    destination_nic: int = 0
    source_mac: str = ""
    destination_mac: str = ""
    source_vcpu: int = 0
    destination_vcpu: int = 0
    interval_ns: int = 0
    """Of interrupts: from one to the next."""
    storm: str = ""
    """What a storm does without rest."""
    frame_bytes: tuple[int, ...] = ()
    """Sizes without FCS, used in turn; empty for replay and for interrupts."""
    duration_ns: int = 0
    """0: until `count` frames are sent."""
    count: int = 0
    """0: until `duration_ns` is over."""
    frames_per_second: float = 0.0
    """0: as fast as the receiver takes them."""
    verify: bool = True
    capture: str = ""
    """Path of the pcap or pcapng file to replay."""
    loops: int = 1
    captured_times: bool = False
    padded_bytes: int = 0
    """What a NIC on the way pads shorter frames to, with zeros."""
    through: tuple[str, ...] = ()
    """Processes besides both ends and their vmms without which its frames do not arrive."""
    ends_on_wire: bool = False
    """The destination is a NIC, which counts the frames that a wire brings it and nobody there takes."""

    @property
    def is_interrupts(self) -> bool:
        """It has no frames and no NICs."""
        return self.kind in ("timer", "ipi", "steer", "storm")

    @property
    def comes_back(self) -> bool:
        """The frames return to the NIC that sent them (an echo is behind it)."""
        return (self.source, self.source_nic) == (self.destination, self.destination_nic)

    @property
    def is_sunk(self) -> bool:
        """The frames end in the vmm (a sink is behind the NIC that sends them)."""
        return self.source_mac == self.destination_mac and not self.comes_back


class Plan(Entry, frozen=True, kw_only=True):
    """A whole topology, ready to start: plain data, the same for the same file."""

    schema: int = 1
    topology: str
    segments: tuple[SegmentEntry, ...]
    """Every segment to create (name, size, host physical base)."""
    processes: tuple[ProcessPlan, ...]
    """In start order."""
    phases: tuple[tuple[FlowEntry, ...], ...]
    """Workloads: phases one after another, the flows of a phase at the same time."""
    attacks: tuple[AttackEntry, ...] = ()
    """Beside the flows of their phases."""
