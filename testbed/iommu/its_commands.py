"""What each command of an ITS does: one table from opcode to handler.

Reference: ARM IHI 0069 H.b §5.3. A handler raises ItsFault where the command is in error; no mapping has
changed then. Everything is done when the handler returns, so SYNC and VSYNC only check their target. Mapping
an event that is mapped already replaces it (the standard leaves that open). Not modelled: GICv4.1 (INVDB,
VSGI).
"""

from collections.abc import Callable

from testbed.errors import ItsFault
from testbed.iommu.its_redistributor import Redistributor
from testbed.iommu.its_tables import Device, Event, ItsTables, Vpe
from testbed.iommu.its_vpes import Vpes
from testbed.native import ItsCache, VpePort
from testbed.spec import its as s
from testbed.spec import its_commands as c
from testbed.spec import lpi

Handler = Callable[[int], None]


class ItsCommands:
    """Executes commands on tables, cache and pending interrupts."""

    def __init__(
        self,
        tables: ItsTables,
        cache: ItsCache,
        redistributors: list[Redistributor],
        vpes: Vpes,
        signal: Callable[[int, int], None],
    ) -> None:
        self._tables, self._cache, self._vpes, self._signal = tables, cache, vpes, signal
        self._redistributors = redistributors
        self._handlers: dict[int, Handler] = {
            c.OP_MAPD: self._mapd, c.OP_MAPC: self._mapc, c.OP_MAPTI: self._mapti, c.OP_MAPI: self._mapi,
            c.OP_MOVI: self._movi, c.OP_MOVALL: self._movall, c.OP_INT: self._int, c.OP_CLEAR: self._clear,
            c.OP_DISCARD: self._discard, c.OP_INV: self._inv, c.OP_INVALL: self._invall,
            c.OP_SYNC: self._sync,
        }  # fmt: skip
        if tables.features.virtual:
            self._handlers |= {
                c.OP_VMAPP: self._vmapp, c.OP_VMAPTI: self._vmapti, c.OP_VMAPI: self._vmapi,
                c.OP_VMOVI: self._vmovi, c.OP_VMOVP: self._vmovp, c.OP_VINVALL: self._vinvall,
                c.OP_VSYNC: self._vsync,
            }  # fmt: skip

    def execute(self, command: int) -> None:
        """Execute one command, given as its 256-bit image; ItsFault."""
        opcode = c.COMMAND_OPCODE.get(command)
        handler = self._handlers.get(opcode)
        if handler is None:
            raise ItsFault("COMMAND_UNKNOWN", f"there is no command {opcode:#x}")
        handler(command)

    # devices, collections and physical interrupts

    def _mapd(self, command: int) -> None:
        device = c.COMMAND_DEVICE.get(command)
        bits = c.MAPD_SIZE.get(command) + 1
        entry = None
        if c.COMMAND_V.get(command):
            if bits > self._tables.features.event_bits:
                raise ItsFault("ITTSIZE_OOR", f"an EventID of {bits} bits is too wide")
            entry = Device(c.MAPD_ITT.get(command) << s.ITT_ALIGN_BITS, bits)
        self._tables.map_device(device, entry)
        self._cache.drop_device(device)

    def _mapc(self, command: int) -> None:
        icid = c.COMMAND_ICID.get(command)
        valid = c.COMMAND_V.get(command)
        self._tables.map_collection(icid, self._processor(command) if valid else None)
        self._cache.drop_collection(icid)

    def _mapti(self, command: int) -> None:
        self._map_physical(command, c.MAPTI_PINTID.get(command))

    def _mapi(self, command: int) -> None:
        self._map_physical(command, c.COMMAND_EVENT.get(command))

    def _map_physical(self, command: int, pintid: int) -> None:
        icid = c.COMMAND_ICID.get(command)
        self._tables.collection_address(icid)
        self._map(command, Event(False, _physical(pintid), icid))

    def _map(self, command: int, entry: Event | None) -> None:
        device, event = _source(command)
        self._tables.map_event(device, event, entry)
        self._cache.drop_event(device, event)

    def _movi(self, command: int) -> None:
        entry = self._mapped(command, virtual=False)
        icid = c.COMMAND_ICID.get(command)
        old, new = self._tables.collection(entry.target), self._tables.collection(icid)
        self._map(command, Event(False, entry.intid, icid))
        if old != new and self._redistributors[old].take(entry.intid):
            self._redistributors[new].set_pending(entry.intid)

    def _movall(self, command: int) -> None:
        processors = c.COMMAND_RDBASE.get(command), c.MOVALL_TO.get(command)
        if max(processors) >= len(self._redistributors):
            raise ItsFault("PROCNUM_OOR", f"there is no processor {max(processors)}")
        source, target = processors
        if source != target:
            self._redistributors[source].move_all(self._redistributors[target])

    def _int(self, command: int) -> None:
        self._signal(*_source(command))

    def _clear(self, command: int) -> None:
        self._take(self._tables.event(*_source(command)))

    def _discard(self, command: int) -> None:
        entry = self._tables.event(*_source(command))
        self._map(command, None)
        self._take(entry)

    def _take(self, entry: Event) -> bool:
        """Make an event's interrupt not pending; one whose target is unmapped is nowhere pending."""
        try:
            if entry.virtual:
                return self._vpes.port(entry.target).take(self._vpes.number(entry.target, entry.intid))
            return self._redistributors[self._tables.collection(entry.target)].take(_physical(entry.intid))
        except ItsFault as fault:
            if fault.reason not in ("UNMAPPED_COLLECTION", "VCPU_INVALID"):
                raise
            return False

    def _inv(self, command: int) -> None:
        entry = self._tables.event(*_source(command))
        if entry.virtual:
            self._vpes.config_changed(entry.target)
        else:
            redistributor = self._redistributors[self._tables.collection(entry.target)]
            # whatever else is mapped to the same LPI, or to the same processor, is looked up anew, too
            self._cache.drop_physical()
            redistributor.invalidate(_physical(entry.intid))

    def _invall(self, command: int) -> None:
        icid = c.COMMAND_ICID.get(command)
        redistributor = self._redistributors[self._tables.collection(icid)]
        self._cache.drop_physical()
        redistributor.invalidate_all()

    def _sync(self, command: int) -> None:
        self._processor(command)

    # vPEs and virtual interrupts

    def _vmapp(self, command: int) -> None:
        vpe = c.COMMAND_VPE.get(command)
        entry = None
        if c.COMMAND_V.get(command):
            address = c.VMAPP_VPT.get(command) << s.VPT_ALIGN_BITS
            entry = Vpe(self._processor(command), address, c.VMAPP_VPT_SIZE.get(command) + 1)
        self._tables.map_vpe(vpe, entry)
        self._cache.drop_vpe(vpe)
        self._vpes.drop(vpe)

    def _vmapti(self, command: int) -> None:
        self._map_virtual(command, c.VMAPTI_VINTID.get(command))

    def _vmapi(self, command: int) -> None:
        self._map_virtual(command, c.COMMAND_EVENT.get(command))

    def _map_virtual(self, command: int, vintid: int) -> None:
        vpe = c.COMMAND_VPE.get(command)
        self._tables.vpe_address(vpe)
        if not lpi.LPI_FIRST <= vintid < lpi.LPI_FIRST + lpi.VLPIS:
            raise ItsFault("VIRTUALID_OOR", f"there is no virtual LPI {vintid}")
        self._map(command, Event(True, vintid, vpe, _doorbell(command)))

    def _vmovi(self, command: int) -> None:
        entry = self._mapped(command, virtual=True)
        vpe = c.COMMAND_VPE.get(command)
        old = self._valid(entry.target, "ITEVCPU_INVALID")
        self._valid(vpe, "CMDVCPU_INVALID")
        self._vpes.number(vpe, entry.intid)
        number = self._vpes.number(entry.target, entry.intid)
        doorbell = _doorbell(command) if c.VMOVI_D.get(command) else entry.doorbell
        self._map(command, Event(True, entry.intid, vpe, doorbell))
        if old.take(number):
            self._vpes.post(vpe, entry.intid, doorbell)

    def _vmovp(self, command: int) -> None:
        vpe = c.COMMAND_VPE.get(command)
        self._vpes.move(vpe, self._processor(command))
        self._cache.drop_vpe(vpe)  # its doorbells ring at another processor now

    def _vinvall(self, command: int) -> None:
        self._vpes.config_changed(c.COMMAND_VPE.get(command))

    def _vsync(self, command: int) -> None:
        self._vpes.port(c.COMMAND_VPE.get(command))

    # what commands have in common

    def _valid(self, vpe: int, reason: str) -> VpePort:
        try:
            return self._vpes.port(vpe)
        except ItsFault as fault:
            if fault.reason == "VCPU_INVALID":
                raise ItsFault(reason, fault.detail) from fault
            raise

    def _mapped(self, command: int, virtual: bool) -> Event:
        """Return an event that must be mapped, and to an interrupt of the kind that the command moves."""
        entry = self._tables.event(*_source(command))
        if entry.virtual != virtual:
            reason = "ID_IS_PHYSICAL" if virtual else "UNMAPPED_INTERRUPT"
            raise ItsFault(reason, "the event is mapped to an interrupt of the other kind")
        return entry

    def _processor(self, command: int) -> int:
        processor = c.COMMAND_RDBASE.get(command)
        if processor >= len(self._redistributors):
            raise ItsFault("PROCNUM_OOR", f"there is no processor {processor}")
        return processor


def _source(command: int) -> tuple[int, int]:
    """Return DeviceID and EventID."""
    return c.COMMAND_DEVICE.get(command), c.COMMAND_EVENT.get(command)


def _physical(intid: int) -> int:
    if not lpi.LPI_FIRST <= intid < lpi.LPI_FIRST + lpi.HOST_LPIS:
        raise ItsFault("PHYSICALID_OOR", f"there is no LPI {intid}")
    return intid


def _doorbell(command: int) -> int:
    doorbell = c.VMAPTI_DOORBELL.get(command)
    return doorbell if doorbell == lpi.INTID_NONE else _physical(doorbell)
