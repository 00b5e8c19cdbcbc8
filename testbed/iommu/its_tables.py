"""The tables that an ITS keeps in software's memory: devices, collections, vPEs, and a device's events.

Reference: ARM IHI 0069 H.b §5.2 (tables), §5.2.2 (flat and indirect), §12.19.1 (GITS_BASER). A table is
looked up each time: memory is what counts, and software that writes into it finds its values checked like
those of a command. Every lookup raises ItsFault with the standard's reason, also where the table's own
address leads nowhere (`TABLE_FAULT`, ours). Not modelled: tables without memory (HCC is 0).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from testbed.errors import ItsFault, MemoryFault
from testbed.iommu.its_features import ItsFeatures
from testbed.spec import its as s


class ItsMemory(Protocol):
    """What holds tables and queue, by physical address."""

    def read(self, address: int, length_bytes: int) -> bytes:
        """Return bytes; MemoryFault where there is no memory."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write bytes; MemoryFault where there is no memory that may be written."""
        ...

    def view(self, address: int, length_bytes: int) -> memoryview:
        """Return a range as one piece of memory that others share; MemoryFault."""
        ...


@dataclass(frozen=True, slots=True)
class Device:
    """A device table entry: where its events are translated."""

    itt: int
    event_bits: int


@dataclass(frozen=True, slots=True)
class Vpe:
    """A vPE table entry."""

    processor: int
    vpt: int
    id_bits: int

    def pack(self) -> int:
        """Return the entry's image."""
        fields = s.VTE_V.put(1) | s.VTE_VPT_SIZE.put(self.id_bits - 1) | s.VTE_RDBASE.put(self.processor)
        return fields | s.VTE_VPT.put(self.vpt >> s.VPT_ALIGN_BITS)


@dataclass(frozen=True, slots=True)
class Event:
    """An interrupt translation entry: to an LPI of a collection, or to a virtual LPI of a vPE."""

    virtual: bool
    intid: int
    target: int
    """ICID or vPEID."""
    doorbell: int = 0

    def pack(self) -> int:
        """Return the entry's image."""
        fields = s.ITE_V.put(1) | s.ITE_VIRTUAL.put(self.virtual) | s.ITE_INTID.put(self.intid)
        return fields | s.ITE_TARGET.put(self.target) | s.ITE_DOORBELL.put(self.doorbell)


class ItsTables:
    """Lookup and change of every table. `register` gives the value of GITS_BASER for a table's type."""

    def __init__(self, memory: ItsMemory, features: ItsFeatures, register: Callable[[int], int]) -> None:
        self._memory, self._register = memory, register
        self.features = features

    # devices and their events

    def device(self, device: int) -> Device:
        """Return a device's entry; DEVICE_OOR, UNMAPPED_DEVICE."""
        entry = self._load(self._device_address(device), s.DTE_BYTES)
        if not s.DTE_V.get(entry):
            raise ItsFault("UNMAPPED_DEVICE", f"DeviceID {device:#x} is not mapped")
        bits = min(s.DTE_SIZE.get(entry) + 1, self.features.event_bits)
        return Device(s.DTE_ITT.get(entry) << s.ITT_ALIGN_BITS, bits)

    def map_device(self, device: int, entry: Device | None) -> None:
        """Write a device's entry, None: invalid; DEVICE_OOR."""
        image = 0
        if entry is not None:
            image = s.DTE_V.put(1) | s.DTE_SIZE.put(entry.event_bits - 1)
            image |= s.DTE_ITT.put(entry.itt >> s.ITT_ALIGN_BITS)
        self._store(self._device_address(device), image, s.DTE_BYTES)

    def event(self, device: int, event: int) -> Event:
        """Return an event's entry; DEVICE_OOR, UNMAPPED_DEVICE, ID_OOR, UNMAPPED_INTERRUPT."""
        entry = self._load(self._event_address(device, event), s.ITE_BYTES)
        if not s.ITE_V.get(entry):
            raise ItsFault("UNMAPPED_INTERRUPT", f"EventID {event:#x} of DeviceID {device:#x} is not mapped")
        return Event(
            bool(s.ITE_VIRTUAL.get(entry)) and self.features.virtual,
            s.ITE_INTID.get(entry),
            s.ITE_TARGET.get(entry),
            s.ITE_DOORBELL.get(entry),
        )

    def map_event(self, device: int, event: int, entry: Event | None) -> None:
        """Write an event's entry, None: invalid; DEVICE_OOR, UNMAPPED_DEVICE, ID_OOR."""
        image = 0 if entry is None else entry.pack()
        self._store(self._event_address(device, event), image, s.ITE_BYTES)

    def devices(self) -> Iterator[int]:
        """Yield every mapped DeviceID, ascending; what the table's address leads to may end it early."""
        per_page = s.PAGE_SIZES_BYTES[s.BASER_PAGE_SIZE.get(self._register(s.TYPE_DEVICES))] // s.DTE_BYTES
        for first in range(0, 1 << self.features.device_bits, per_page):
            try:
                image = self._memory.read(self._device_address(first), per_page * s.DTE_BYTES)
            except (ItsFault, MemoryFault):
                continue
            for at in range(0, len(image), s.DTE_BYTES):
                if s.DTE_V.get(image[at]):
                    yield first + at // s.DTE_BYTES

    # collections and vPEs

    def collection(self, icid: int) -> int:
        """Return the processor of a collection; COLLECTION_OOR, UNMAPPED_COLLECTION."""
        entry = self._load(self.collection_address(icid), s.CTE_BYTES)
        processor = s.CTE_RDBASE.get(entry)
        if not s.CTE_V.get(entry) or processor >= self.features.processors:
            raise ItsFault(
                "UNMAPPED_COLLECTION", f"ICID {icid:#x} is not mapped to a processor that is there"
            )
        return processor

    def map_collection(self, icid: int, processor: int | None) -> None:
        """Write a collection's entry, None: invalid; COLLECTION_OOR."""
        image = 0 if processor is None else s.CTE_V.put(1) | s.CTE_RDBASE.put(processor)
        self._store(self.collection_address(icid), image, s.CTE_BYTES)

    def collection_address(self, icid: int) -> int:
        """Return where a collection's entry lies; COLLECTION_OOR."""
        bits = self.features.collection_bits
        return self._entry(s.TYPE_COLLECTIONS, icid, bits, s.CTE_BYTES, "COLLECTION_OOR")

    def vpe(self, vpe: int) -> Vpe:
        """Return a vPE's entry; VCPU_OOR, VCPU_INVALID."""
        entry = self._load(self.vpe_address(vpe), s.VTE_BYTES)
        processor = s.VTE_RDBASE.get(entry)
        if not s.VTE_V.get(entry) or processor >= self.features.processors:
            raise ItsFault("VCPU_INVALID", f"vPEID {vpe:#x} is not mapped to a processor that is there")
        address = s.VTE_VPT.get(entry) << s.VPT_ALIGN_BITS
        return Vpe(processor, address, s.VTE_VPT_SIZE.get(entry) + 1)

    def map_vpe(self, vpe: int, entry: Vpe | None) -> None:
        """Write a vPE's entry, None: invalid; VCPU_OOR."""
        self._store(self.vpe_address(vpe), 0 if entry is None else entry.pack(), s.VTE_BYTES)

    def vpe_address(self, vpe: int) -> int:
        """Return where a vPE's entry lies; VCPU_OOR."""
        return self._entry(s.TYPE_VPES, vpe, s.VPE_BITS, s.VTE_BYTES, "VCPU_OOR")

    # where entries are

    def _device_address(self, device: int) -> int:
        bits = self.features.device_bits
        return self._entry(s.TYPE_DEVICES, device, bits, s.DTE_BYTES, "DEVICE_OOR")

    def _event_address(self, device: int, event: int) -> int:
        entry = self.device(device)
        if event >> entry.event_bits:
            raise ItsFault(
                "ID_OOR", f"DeviceID {device:#x} has {entry.event_bits} bits of EventID, not {event:#x}"
            )
        return entry.itt + event * s.ITE_BYTES

    def _entry(self, kind: int, number: int, bits: int, entry_bytes: int, reason: str) -> int:
        """Return the address of a table's entry; a number that the table has no room for is out of range."""
        register = self._register(kind)
        page_bytes = s.PAGE_SIZES_BYTES[s.BASER_PAGE_SIZE.get(register)]
        table_bytes = page_bytes * (s.BASER_SIZE.get(register) + 1)
        if not number >> bits and s.VALID.get(register):
            base = table_address(register, page_bytes)
            if not s.BASER_INDIRECT.get(register):
                if (number + 1) * entry_bytes <= table_bytes:
                    return base + number * entry_bytes
            else:
                page, index = divmod(number, page_bytes // entry_bytes)
                level1 = s.LEVEL1_ENTRY_BYTES
                entry = self._load(base + page * level1, level1) if (page + 1) * level1 <= table_bytes else 0
                if s.LEVEL1_VALID.get(entry):
                    address = s.LEVEL1_ADDRESS.get(entry) << s.LEVEL1_ADDRESS.lsb
                    return (address & -page_bytes) + index * entry_bytes
        raise ItsFault(reason, f"number {number:#x} has no place in its table")

    def _load(self, address: int, length_bytes: int) -> int:
        try:
            return int.from_bytes(self._memory.read(address, length_bytes), "little")
        except MemoryFault as fault:
            raise ItsFault("TABLE_FAULT", fault.detail) from fault

    def _store(self, address: int, image: int, length_bytes: int) -> None:
        try:
            self._memory.write(address, image.to_bytes(length_bytes, "little"))
        except MemoryFault as fault:
            raise ItsFault("TABLE_FAULT", fault.detail) from fault


def table_address(register: int, page_bytes: int) -> int:
    """Return the address in a GITS_BASER; with 64 KiB pages its low bits are the address's high ones."""
    field = s.BASER_ADDRESS.get(register) << s.BASER_ADDRESS.lsb
    if page_bytes != s.PAGE_SIZES_BYTES[2]:
        return field & -page_bytes
    return field & -page_bytes | s.BASER_HIGH_ADDRESS.get(register) << s.BASER_HIGH_SHIFT
