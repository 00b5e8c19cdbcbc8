"""What GICv3/v4 says of mapped events and pending interrupts, as plainly as it can be written: sets and
dictionaries, no tables, no cache, no shared memory. It shares nothing with the ITS but numbers.
"""

from dataclasses import dataclass, field

LPI, NO_DOORBELL = 8192, 1023


class Refused(Exception):
    """A command in error, or an event that leads nowhere."""


@dataclass
class Mapping:
    """Where an event goes."""

    virtual: bool
    intid: int
    target: int
    doorbell: int = NO_DOORBELL


@dataclass
class Processor:
    """A redistributor: which LPIs it believes enabled, which wait, which software has not taken."""

    believed: dict[int, bool] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    raised: set[int] = field(default_factory=set)


@dataclass
class VcpuState:
    """Where a vCPU is resident, and what is pending in its page or in its table."""

    processor: int | None = None
    page: set[int] = field(default_factory=set)
    table: set[int] = field(default_factory=set)


class Oracle:
    """Devices 0 to 2 with 4 EventIDs each once mapped, collections, vPE n on vCPU n."""

    def __init__(self, processors: int, vcpus: int) -> None:
        self.enabled: dict[int, bool] = {}
        self.devices: dict[int, dict[int, Mapping]] = {}
        self.collections: dict[int, int] = {}
        self.vpes: dict[int, int] = {}
        self.processors = [Processor() for _ in range(processors)]
        self.vcpus = [VcpuState() for _ in range(vcpus)]

    # pending interrupts

    def make_pending(self, processor: int, intid: int) -> None:
        where = self.processors[processor]
        if where.believed.setdefault(intid, self.enabled.get(intid, False)):
            where.raised.add(intid)
        else:
            where.waiting.add(intid)

    def take_lpi(self, processor: int, intid: int) -> bool:
        where = self.processors[processor]
        pending = intid in where.raised | where.waiting
        where.raised.discard(intid)
        where.waiting.discard(intid)
        return pending

    def believe_anew(self, processor: int, intids: set[int]) -> None:
        for intid in intids:
            self.processors[processor].believed.pop(intid, None)
            if self.take_lpi(processor, intid):
                self.make_pending(processor, intid)

    def post(self, vpe: int, mapping: Mapping) -> None:
        vcpu, processor = self.vcpus[vpe], self.vpes[vpe]
        if vcpu.processor == processor:
            vcpu.page.add(mapping.intid)
        else:
            vcpu.table.add(mapping.intid)
            if mapping.doorbell != NO_DOORBELL:
                self.make_pending(processor, mapping.doorbell)

    def take_virtual(self, vpe: int, intid: int) -> bool:
        vcpu = self.vcpus[vpe]
        pending = intid in vcpu.page | vcpu.table
        vcpu.page.discard(intid)
        vcpu.table.discard(intid)
        return pending

    # events

    def find(self, device: int, event: int) -> Mapping:
        events = self.devices.get(device)
        if events is None:
            raise Refused("UNMAPPED_DEVICE")
        if event not in range(4):
            raise Refused("ID_OOR")
        if event not in events:
            raise Refused("UNMAPPED_INTERRUPT")
        return events[event]

    def signal(self, device: int, event: int) -> None:
        mapping = self.find(device, event)
        if mapping.virtual:
            self.vpe(mapping.target, "VCPU_INVALID")
            self.post(mapping.target, mapping)
        else:
            self.make_pending(self.collection(mapping.target), mapping.intid)

    def collection(self, icid: int) -> int:
        if icid not in self.collections:
            raise Refused("UNMAPPED_COLLECTION")
        return self.collections[icid]

    def vpe(self, vpe: int, reason: str) -> int:
        if vpe not in self.vpes:
            raise Refused(reason)
        return self.vpes[vpe]

    # commands

    def map_event(self, device: int, event: int, mapping: Mapping) -> None:
        if device not in self.devices:
            raise Refused("UNMAPPED_DEVICE")
        if event not in range(4):
            raise Refused("ID_OOR")
        self.devices[device][event] = mapping

    def movi(self, device: int, event: int, icid: int) -> None:
        mapping = self.find(device, event)
        if mapping.virtual:
            raise Refused("UNMAPPED_INTERRUPT")
        old, new = self.collection(mapping.target), self.collection(icid)
        mapping.target = icid
        if old != new and self.take_lpi(old, mapping.intid):
            self.make_pending(new, mapping.intid)

    def vmovi(self, device: int, event: int, vpe: int, doorbell: int | None) -> None:
        mapping = self.find(device, event)
        if not mapping.virtual:
            raise Refused("ID_IS_PHYSICAL")
        self.vpe(mapping.target, "ITEVCPU_INVALID")
        self.vpe(vpe, "CMDVCPU_INVALID")
        old, mapping.target = mapping.target, vpe
        mapping.doorbell = mapping.doorbell if doorbell is None else doorbell
        if self.take_virtual(old, mapping.intid):
            self.post(vpe, mapping)

    def vmovp(self, vpe: int, processor: int) -> None:
        self.vpe(vpe, "VCPU_INVALID")
        self.vpes[vpe] = processor
        vcpu = self.vcpus[vpe]
        if vcpu.processor == processor:
            vcpu.page, vcpu.table = vcpu.page | vcpu.table, set()

    def clear(self, device: int, event: int) -> None:
        mapping = self.find(device, event)
        if mapping.virtual and mapping.target in self.vpes:
            self.take_virtual(mapping.target, mapping.intid)
        if not mapping.virtual and mapping.target in self.collections:
            self.take_lpi(self.collections[mapping.target], mapping.intid)

    def discard(self, device: int, event: int) -> None:
        self.clear(device, event)
        del self.devices[device][event]

    def inv(self, device: int, event: int) -> None:
        mapping = self.find(device, event)
        if mapping.virtual:
            self.vpe(mapping.target, "VCPU_INVALID")
        else:
            self.believe_anew(self.collection(mapping.target), {mapping.intid})

    def invall(self, icid: int) -> None:
        where = self.processors[self.collection(icid)]
        self.believe_anew(self.collection(icid), set(where.believed) | where.waiting)

    def movall(self, source: int, target: int) -> None:
        if source != target:
            where = self.processors[source]
            for intid in sorted(where.raised | where.waiting):
                self.take_lpi(source, intid)
                self.make_pending(target, intid)

    # schedulers and takers

    def enter(self, vcpu: int, processor: int) -> None:
        state = self.vcpus[vcpu]
        state.processor = processor
        state.page, state.table = state.page | state.table, set()

    def leave(self, vcpu: int) -> bool:
        state = self.vcpus[vcpu]
        state.processor = None
        state.page, state.table = set(), state.page | state.table
        return bool(state.table)
