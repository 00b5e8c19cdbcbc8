"""A trace ring, and every event that can stand in it.

One ring a process, in shared memory: a page that says whether events are wanted, then records. Reference:
design, section 12 (the life of one packet as one timeline across all processes). Every event is declared here
once: its name, a sentence, and its arguments with the kind of number each is, so that whoever reads a ring
needs nothing else. A cause is recorded before it takes effect and an effect after it was seen, so that no
clock shows an effect before its cause. The formats are our own.
"""

from collections.abc import Iterator
from typing import Final, Literal, get_args

from testbed.spec.layout import Field, LayoutError, Record

RECORD: Final = Record(
    "trace_record", 64, "our own: one cache line",
    Field("sequence", 0, 8, "number of the record, from 1; BUSY while it is written"),
    Field("at_ns", 8, 8, "CLOCK_MONOTONIC"),
    Field("event", 16, 2), Field("lane", 18, 2, "vCPU, or another thread's number"),
    Field("length", 20, 4, "bytes that it is about"),
    Field("frame", 24, 8, "which frame (`FRAME_FLOW_LSB`), plus 1; 0: none, or not known"),
    Field("arguments", 32, 8, "as the event declares them", count=4),
)  # fmt: skip
HEADER: Final = Record(
    "trace_header", 128, "our own",
    Field("enabled", 0, 4, "written by the launcher: events are wanted"),
    Field("head", 64, 8, "records begun"),
    Field("lost", 72, 8, "records that found their place still being written"),
)  # fmt: skip
RECORDS_OFFSET: Final = 4096
"""Of the first record: the launcher may write the page before it and no other."""
RECORDS: Final = 4096
"""Of a process's ring, a power of two."""
RING_BYTES: Final = RECORDS_OFFSET + RECORDS * RECORD.size
BUSY: Final = 1 << 63
ARGUMENTS: Final = 4
FRAME_FLOW_LSB: Final = 48
"""A frame's number is its flow's from here on, and below its place in the flow, from 0."""

Kind = Literal[
    "gpa", "hpa", "hva", "iova", "ipa", "number", "hex", "intid", "stream", "pools",
    "lr", "port", "access", "request", "yes", "process", "woken_by", "register", "reason",
]  # fmt: skip
"""What an argument is. access: 0 a load, 1 a store; reason: `vcpu_page.EXIT_*`; request:
`dma_request.KIND_*`; process: CRC-32 of its name; pools: a bit each, and the wire behind them; port: of a
bridge, modulo 2^64; lr: an image of ICH_LR<n>_EL2.
"""
Group = Literal["driver", "doorbell", "loop", "exit", "device", "address", "dma", "wire", "interrupt"]
WOKEN_BY_BELL: Final = 0
WOKEN_BY_OTHER: Final = 1
"""A deadline, a control message or a file."""


class Event(int):
    """One event: its number, and what it means.

    `text` has arguments in braces, besides `{length}` and `{frame}` of the record; `fields` has name and kind
    of each argument, in the order in which they are recorded.
    """

    group: Group
    name: str
    text: str
    fields: tuple[tuple[str, Kind], ...]

    def __new__(cls, number: int, group: Group, name: str, text: str, **fields: Kind) -> "Event":
        """Declare an event. LayoutError where it has more arguments than a record, or an unknown kind."""
        if len(fields) > ARGUMENTS:
            raise LayoutError(f"event {name} has {len(fields)} arguments, a record {ARGUMENTS}")
        if unknown := set(fields.values()) - set(get_args(Kind)):
            raise LayoutError(f"event {name}: no argument is a {', '.join(sorted(unknown))}")
        event = super().__new__(cls, number)
        event.group, event.name, event.text, event.fields = group, name, text, tuple(fields.items())
        return event


# fmt: off
# a guest's workload and driver
FRAME_MADE: Final = Event(1, "driver", "frame_made",
    "the workload writes the frame into buffer {index}, at {hva}", index="number", hva="hva")
DESCRIPTOR_POSTED: Final = Event(2, "driver", "descriptor_posted",
    "the driver writes descriptor {index}: {length} bytes at {gpa}", index="number", gpa="gpa")
DMA_DESCRIPTOR_POSTED: Final = Event(3, "driver", "dma_descriptor_posted",
    "the driver writes descriptor {index}: {length} bytes at {iova}", index="number", iova="iova")
RING_PUBLISHED: Final = Event(4, "driver", "ring_published",
    "the driver makes the available ring visible up to {index}", index="number")
FRAME_TAKEN: Final = Event(6, "driver", "frame_taken",
    "the driver finds the frame in buffer {index}, at {hva}", index="number", hva="hva")
FRAME_CHECKED: Final = Event(7, "driver", "frame_checked",
    "the workload checks the frame: flow, sequence number, digest", index="number", hva="hva")
REGISTER_POSTED: Final = Event(8, "driver", "register_posted",
    "stores {value} to {register} of the device: mapped at stage 2, no exit",
    function="number", register="register", value="hex", space="number")
# doorbells, and the loops that sleep behind them
BELL_RUNG: Final = Event(16, "doorbell", "bell_rung",
    "rings the doorbell of {process}", process="process")
BELL_SENT: Final = Event(17, "doorbell", "bell_sent",
    "it sleeps: sends {process} one wake-up message", process="process")
SLEEP: Final = Event(18, "loop", "sleep", "finds nothing to do and sleeps")
WAKE: Final = Event(19, "loop", "wake", "wakes up ({woken_by})", woken_by="woken_by")
# exits of a vCPU, at both ends of the mailbox
EXIT: Final = Event(32, "exit", "exit",
    "stage 2 maps nothing at {gpa}: the vCPU exits, {access} of {value}, ESR_EL2 {esr}",
    access="access", gpa="gpa", value="hex", esr="hex")
EXIT_OTHER: Final = Event(33, "exit", "exit_other",
    "the vCPU exits for {reason}, syndrome {esr}", reason="reason", esr="hex", value="hex")
EXIT_DECODED: Final = Event(34, "exit", "exit_decoded",
    "decodes the exit of {guest}: {access} of {value} at {gpa}",
    guest="process", access="access", gpa="gpa", value="hex")
EXIT_TAKEN: Final = Event(35, "exit", "exit_taken",
    "takes the exit of {guest} for {reason}, syndrome {esr}",
    guest="process", reason="reason", esr="hex", value="hex")
EXIT_ANSWERED: Final = Event(36, "exit", "exit_answered",
    "answers the exit of {guest} with {result}: the vCPU may enter", guest="process", result="hex")
ENTRY: Final = Event(37, "exit", "entry", "the vCPU is in the guest again, with {result}", result="hex")
DOORBELL_STORE: Final = Event(38, "exit", "doorbell_store",
    "stores to {gpa}, a doorbell: the hypervisor is told, the vCPU does not wait", gpa="gpa")
# devices in the vmm
DESCRIPTOR_READ: Final = Event(48, "device", "descriptor_read",
    "the device reads descriptor {index}: {length} bytes at {gpa} = {hpa} = {hva}",
    index="number", gpa="gpa", hpa="hpa", hva="hva")
BRIDGE_DECIDED: Final = Event(49, "device", "bridge_decided",
    "the bridge: from port {source} to port {target}", source="port", target="port")
FRAME_COPIED: Final = Event(50, "device", "frame_copied",
    "copies the frame, {length} bytes, from {source} to {target}", source="hva", target="hva")
USED_PUBLISHED: Final = Event(51, "device", "used_published",
    "the device makes the used ring visible up to {index}", index="number")
WRITTEN_BACK: Final = Event(53, "device", "written_back",
    "the device writes descriptor {index} back: done (DD)", index="number", hva="hva")
# a NIC's register window, engine and wire
REGISTER_TAKEN: Final = Event(64, "device", "register_taken",
    "the NIC takes the write of {value} to {register} of function {function}",
    function="number", register="register", value="hex", space="number")
DMA_POSTED: Final = Event(65, "dma", "dma_posted",
    "function {stream} asks for a {request} at {iova}, {length} bytes", stream="stream", request="request",
    iova="iova", buffer="hex")
DMA_COMPLETED: Final = Event(66, "dma", "dma_completed",
    "function {stream} sees its requests done up to {index}", stream="stream", index="number")
NIC_DECIDED: Final = Event(67, "device", "nic_decided",
    "the embedded switch: from {source} to {target}", source="pools", target="pools")
NIC_QUEUED: Final = Event(68, "device", "nic_queued",
    "the NIC puts the frame into receive queue {queue} of pool {pool}", pool="number", queue="number")
WIRE_OUT: Final = Event(69, "wire", "wire_out", "the frame goes onto the wire")
WIRE_IN: Final = Event(70, "wire", "wire_in", "the frame comes off the wire")
# what the IOMMU does with a request; a NIC that caches translations, too
DMA_TAKEN: Final = Event(80, "dma", "dma_taken",
    "takes the {request} of stream {stream} at {iova}", stream="stream", request="request", iova="iova")
IOTLB_HIT: Final = Event(81, "address", "iotlb_hit",
    "the translation cache has {iova}: it is {hpa}", stream="stream", iova="iova", hpa="hpa")
IOTLB_MISS: Final = Event(82, "address", "iotlb_miss",
    "the translation cache does not have {iova}", stream="stream", iova="iova")
STAGE1: Final = Event(83, "address", "stage1",
    "walks stage 1: {iova} is {ipa}", iova="iova", ipa="ipa")
STAGE2: Final = Event(84, "address", "stage2",
    "walks stage 2: {ipa} is {hpa}", ipa="ipa", hpa="hpa")
DMA_MOVED: Final = Event(85, "dma", "dma_moved",
    "copies {length} bytes for the {request} between device memory and {hpa} = {hva}",
    request="request", hpa="hpa", hva="hva", device="hva")
DMA_REFUSED: Final = Event(86, "dma", "dma_refused",
    "refuses the {request} of stream {stream} at {iova}", stream="stream", request="request", iova="iova")
ATS_ANSWERED: Final = Event(87, "dma", "ats_answered",
    "answers the translation request of stream {stream}: {iova} is {hpa}",
    stream="stream", iova="iova", hpa="hpa", size="hex")
# interrupts
CAUSE_SET: Final = Event(96, "interrupt", "cause_set",
    "the device sets interrupt causes {causes}", causes="hex")
LINE_SET: Final = Event(97, "interrupt", "line_set",
    "the device's line to {intid} of {guest} is asserted: {asserted}",
    intid="intid", asserted="yes", guest="process")
EDGE: Final = Event(98, "interrupt", "edge",
    "the device gives {intid} of {guest} an edge", intid="intid", guest="process")
MSI_RAISED: Final = Event(99, "interrupt", "msi_raised",
    "function {function} of the NIC raises an interrupt: a message, {data} to {iova}",
    function="number", iova="iova", data="hex")
MSI_WRITTEN: Final = Event(100, "interrupt", "msi_written",
    "the message of device {stream} is a write to GITS_TRANSLATER at {hpa}: event {data}",
    stream="stream", data="number", hpa="hpa")
ITS_PHYSICAL: Final = Event(101, "interrupt", "its_physical",
    "the ITS: event {data} of device {stream} is physical {intid}, for the hypervisor",
    stream="stream", data="number", intid="intid")
ITS_VIRTUAL: Final = Event(102, "interrupt", "its_virtual",
    "the ITS: event {data} of device {stream} is virtual {intid} of vPE {vpe}: into the guest",
    stream="stream", data="number", intid="intid", vpe="number")
LPI_TAKEN: Final = Event(103, "interrupt", "lpi_taken",
    "the hypervisor takes physical {intid}", intid="intid")
EXIT_FORCED: Final = Event(104, "interrupt", "exit_forced",
    "the vCPU {guest} runs: has it exit", guest="process")
VCPU_CLAIMED: Final = Event(105, "interrupt", "vcpu_claimed",
    "the vCPU {guest} waits for an interrupt: takes its list registers, no exit", guest="process")
LIST_REGISTER: Final = Event(106, "interrupt", "list_register",
    "fills list register {index} of {guest}: {lr}", guest="process", index="number", lr="lr")
MUST_EXIT: Final = Event(107, "interrupt", "must_exit",
    "the vCPU finds that the hypervisor wants it out")
ACKNOWLEDGED: Final = Event(108, "interrupt", "acknowledged",
    "the vCPU acknowledges {intid} (ICV_IAR1_EL1)", intid="intid")
HANDLER: Final = Event(109, "interrupt", "handler", "the guest's handler of {intid} begins", intid="intid")
ENDED: Final = Event(110, "interrupt", "ended", "the guest ends {intid} (ICV_EOIR1_EL1)", intid="intid")
VPE_POSTED: Final = Event(111, "interrupt", "vpe_posted",
    "sets virtual {intid} pending; the vPE is resident: {resident}",
    intid="intid", resident="yes")
SGI_WRITTEN: Final = Event(112, "interrupt", "sgi_written",
    "the vCPU writes ICC_SGI1R_EL1: {intid} to the vCPUs in {targets}", intid="intid", targets="hex")
SGI_PENDING: Final = Event(113, "interrupt", "sgi_pending",
    "{source} sends {intid}: sets it pending at {guest}", intid="intid", guest="process", source="process")
TIMER_DUE: Final = Event(114, "interrupt", "timer_due",
    "the processor's timer interrupt comes: CNTV_CVAL_EL0 is {at}", at="number")
TIMER_ASSERTED: Final = Event(115, "interrupt", "timer_asserted",
    "finds CNTV_CVAL_EL0 {at} of {guest} passed: {intid} is pending",
    intid="intid", guest="process", at="number")
TIMER_DEADLINE: Final = Event(116, "interrupt", "timer_deadline",
    "the time comes for which the virtual timer was set: {at}", at="number")
"""In no ring: nobody does anything then. Whoever follows a timer's interrupt puts it in front."""
# fmt: on


def _numbered() -> Iterator[tuple[int, Event]]:
    seen: set[str] = set()
    numbers: set[int] = set()
    for event in [value for value in globals().values() if isinstance(value, Event)]:
        if event.name in seen or int(event) in numbers:
            raise LayoutError(f"event {event.name} ({int(event)}) is declared twice")
        seen.add(event.name)
        numbers.add(int(event))
        yield int(event), event


BY_NUMBER: Final[dict[int, Event]] = dict(_numbered())
"""Every event that is declared."""
