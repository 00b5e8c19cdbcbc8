"""Numbers of trace events as people say them: whose register, which process, which kind of address.

Everything is resolved by the plan and by the declarations in `testbed.spec`; what neither knows stays a
number. Not modelled: names of what was reconfigured while a topology ran.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from testbed.address import GUEST_GICD_GPA, GUEST_GICR_GPA
from testbed.messages.doorbell import vcpu_inbox
from testbed.messages.entries import (
    DmaFunctionEntry,
    E1000Entry,
    GuestEntry,
    IommuEntry,
    NicEntry,
    NicProcessEntry,
    Plan,
    ProcessEntry,
    VfEntry,
    VirtioNetEntry,
    VmmEntry,
)
from testbed.observe.trace import Record, process_number
from testbed.spec import dma_request, e1000, gic, gic_registers, igb, igb_vf, lpi, vcpu_page, virtio
from testbed.spec import trace as events
from testbed.spec.layout import RegisterMap
from testbed.spec.trace import Kind

_ADDRESSES: Final = {"gpa": "GPA", "hpa": "HPA", "hva": "HVA", "iova": "IOVA", "ipa": "GPA"}
_REQUESTS: Final = {
    dma_request.KIND_READ: "DMA read",
    dma_request.KIND_WRITE: "DMA write",
    dma_request.KIND_MSI: "message (MSI)",
    dma_request.KIND_TRANSLATE: "translation request (ATS)",
    dma_request.KIND_INVALIDATED: "invalidate completion (ATS)",
}
_STATES: Final = ("invalid", "pending", "active", "pending and active")
_WIRE: Final = 1 << igb.POOLS
_PPI_FIRST: Final = 16


class Names:
    """The names of one topology."""

    def __init__(self, plan: Plan) -> None:
        self._entries: dict[str, ProcessEntry] = {p.name: p.entry for p in plan.processes}
        self._processes = {process_number(name): name for name in _listeners(plan)}

    def text(self, record: Record) -> str:
        """Return the sentence of an event with its arguments."""
        kinds = dict(record.event.fields)
        shown = {name: self.argument(record, kinds[name], value) for name, value in record.arguments.items()}
        frame = "" if record.frame is None else f"frame {record.frame[1]} of flow {record.frame[0]}"
        return record.event.text.format(**shown, length=record.length, frame=frame)

    def host(self, process: str) -> str:
        """Return the host of a process."""
        return self._entries[process].host

    def listener(self, number: int) -> str:
        """Return the process (or vCPU) that events name by this number."""
        return self._processes.get(number, f"{number:#x}")

    def addresses(self, record: Record) -> dict[str, str]:
        """Return the addresses that an event has, by name."""
        return {
            name: f"{record.arguments[name]:#x}" for name, kind in record.event.fields if kind in _ADDRESSES
        }

    def argument(self, record: Record, kind: Kind, value: int) -> str:
        """Return an argument as it is said."""
        match kind:
            case "gpa":
                return self._gpa(record, value)
            case "hpa" | "hva" | "iova" | "ipa":
                return f"{_ADDRESSES[kind]} {value:#x}"
            case "process":
                return self.listener(value)
            case "stream":
                return self._stream(record.process, value)
            case "port":
                return self._port(record.process, value)
            case "register":
                return self._register(record, value)
            case _:
                return _plain(kind, value)

    def _gpa(self, record: Record, gpa: int) -> str:
        guest = self.listener(record.arguments["guest"]) if "guest" in record.arguments else record.process
        entry = self._entries.get(guest.partition(".")[0])
        name = _register_of(entry, gpa) if isinstance(entry, GuestEntry) else ""
        return f"GPA {gpa:#x} ({name})" if name else f"GPA {gpa:#x}"

    def _stream(self, process: str, stream: int) -> str:
        for function in _functions(self._entries.get(process)):
            if function.stream == stream:
                return function.name
        return f"{stream:#x}"

    def _port(self, process: str, port: int) -> str:
        entry = self._entries.get(process)
        names = _ports(entry) if isinstance(entry, VmmEntry) else []
        if port < len(names):
            return names[port]
        return "everybody (flood)" if port == (1 << 64) - 1 else "nobody (drop)" if port >> 63 else f"{port}"

    def _register(self, record: Record, offset: int) -> str:
        entry = self._entries.get(record.process)
        is_pf = isinstance(entry, NicProcessEntry) and not record.arguments["function"]
        found = (igb.REGISTERS if is_pf or isinstance(entry, VmmEntry) else igb_vf.REGISTERS).find(offset)
        return found[0].name if found else f"register {offset:#x}"


def _listeners(plan: Plan) -> Iterator[str]:
    for process in plan.processes:
        entry = process.entry
        vcpus = entry.vcpus if isinstance(entry, GuestEntry) else 1
        yield from (vcpu_inbox(process.name, number) for number in range(vcpus))


def _functions(entry: ProcessEntry | None) -> tuple[DmaFunctionEntry, ...]:
    if isinstance(entry, IommuEntry):
        return tuple(function for nic in entry.nics for function in nic.functions)
    return entry.dma.functions if isinstance(entry, NicProcessEntry) else ()


def _ports(entry: VmmEntry) -> list[str]:
    """Return who is at each port of a bridge: the vmm attaches them in this order."""
    served = [
        nic.name
        for guest in entry.guests
        for nic in guest.nics
        if not isinstance(nic, VfEntry) and nic.backend == "bridge"
    ]
    external = [each.nic.name for each in entry.externals if each.nic.backend == "bridge"]
    return [*served, *external, *(nic.name for nic in entry.physical if nic.uplink)]


def _register_of(guest: GuestEntry, gpa: int) -> str:
    for nic in guest.nics:
        base, registers = _window(nic)
        if registers is not None and base <= gpa < base + registers.size:
            return f"{nic.name} {_name(registers, gpa - base)}"
    if GUEST_GICD_GPA <= gpa < GUEST_GICD_GPA + gic_registers.GICD_BYTES:
        return f"GICD_{_name(gic_registers.GICD, gpa - GUEST_GICD_GPA)}"
    redistributors = guest.vcpus * gic_registers.GICR_V3_STRIDE_BYTES
    return "GICR" if GUEST_GICR_GPA <= gpa < GUEST_GICR_GPA + redistributors else ""


def _window(nic: NicEntry) -> tuple[int, RegisterMap | None]:
    match nic:
        case VirtioNetEntry():
            return nic.mmio_gpa, virtio.MMIO
        case E1000Entry():
            return nic.bar_gpa, e1000.REGISTERS
        case _:
            return 0, None


def _name(registers: RegisterMap, offset: int) -> str:
    found = registers.holding(offset)
    return found[0].name if found else f"{offset:#x}"


def _intid(value: int) -> str:
    if value >= lpi.LPI_FIRST:
        return f"LPI {value}"
    if value < _PPI_FIRST:
        return f"SGI {value}"
    return f"PPI {value}" if value < gic.SPI_FIRST else f"SPI {value}"


def _pools(value: int) -> str:
    pools = [f"pool {pool}" for pool in range(igb.POOLS) if value >> pool & 1]
    return " and ".join([*pools, *(["the wire"] if value & _WIRE else [])]) or "nobody"


def _list_register(image: int) -> str:
    state = _STATES[gic.LR_STATE.get(image)]
    intid, priority = gic.LR_VINTID.get(image), gic.LR_PRIORITY.get(image)
    hardware = ", HW" if gic.LR_HW.get(image) else ""
    return f"ICH_LR = {image:#x} ({_intid(intid)} {state}, priority {priority:#x}{hardware})"


_WORDS: Final[Mapping[tuple[Kind, int], str]] = {
    ("access", 0): "load",
    ("access", 1): "store",
    ("reason", vcpu_page.EXIT_EXCEPTION): "an exception",
    ("reason", vcpu_page.EXIT_IRQ): "an interrupt",
    ("reason", vcpu_page.EXIT_IO_INSTRUCTION): "an I/O instruction",
    ("yes", 0): "no",
    ("yes", 1): "yes",
    ("woken_by", events.WOKEN_BY_BELL): "by a doorbell's message",
    ("woken_by", events.WOKEN_BY_OTHER): "a time has come, or the launcher asks",
}


def _plain(kind: Kind, value: int) -> str:
    match kind:
        case "intid":
            return _intid(value)
        case "pools":
            return _pools(value)
        case "lr":
            return _list_register(value)
        case "request":
            return _REQUESTS.get(value, f"request {value}")
        case "hex":
            return f"{value:#x}"
        case _:
            return _WORDS.get((kind, value), str(value))
