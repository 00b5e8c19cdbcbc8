"""Sets up the driver's side of a virtqueue: rings and buffers in guest RAM, in the format negotiated.

Reference: virtio 1.2 §2.7, §2.8, §4.2.3.2; §2.7.5.4 and §2.8.7 (indirect descriptors), §2.7.9 (IN_ORDER:
descriptors are used round and round, so a frame takes a number of them that divides the queue). Not modelled:
queues that change after DRIVER_OK.
"""

from collections.abc import Callable
from dataclasses import dataclass

from testbed.guest.drivers.virtio_port import VirtioPort
from testbed.guest.ram import RamAllocator
from testbed.native import PackedDriver, SplitDriver
from testbed.spec import virtio as spec

DriverQueue = SplitDriver | PackedDriver


@dataclass(frozen=True)
class QueueShape:
    """What the driver wants of a queue; `parts` is how many descriptors lay out a frame."""

    index: int
    size: int
    slot_bytes: int
    device_writes: bool
    parts: int = 1
    merge: bool = False


def build_driver_queue(port: VirtioPort, ram: RamAllocator, features: int, shape: QueueShape) -> DriverQueue:
    """Allocate, lay out and announce one queue; MachineError where the guest's RAM does not hold it."""

    def has(bit: int) -> bool:
        return bool(features >> bit & 1)

    size = min(shape.size, port.queue_size_max(shape.index))
    packed, in_order = has(spec.F_RING_PACKED), has(spec.F_IN_ORDER)
    if not packed:
        size = 1 << size.bit_length() - 1
    parts = _parts(shape.parts, size, in_order)
    indirect = has(spec.F_INDIRECT_DESC) and parts > 1
    slots = size if indirect else size // parts
    bytes_of, parts_of = _LAYOUTS[packed]
    rings = ram.take(bytes_of(size), f"queue {shape.index} of {size} entries")
    buffers = ram.take(slots * shape.slot_bytes, f"{slots} buffers of queue {shape.index}")
    tables = ram.take(slots * parts * spec.VIRTQ_DESC.size, "indirect tables") if indirect else None
    addresses = parts_of(rings.gpa, size)
    queue = (PackedDriver if packed else SplitDriver)(
        rings.pinned, rings.gpa, size, *addresses, buffers.pinned, buffers.gpa, shape.slot_bytes,
        shape.device_writes, parts, tables.pinned if tables else None, tables.gpa if tables else 0,
        event_idx=has(spec.F_EVENT_IDX), merge=shape.merge, in_order=in_order,
    )  # fmt: skip
    port.set_queue(shape.index, size, *addresses)
    return queue


_LAYOUTS: dict[bool, tuple[Callable[[int], int], Callable[[int, int], tuple[int, int, int]]]] = {
    False: (spec.split_bytes, spec.split_parts),
    True: (spec.packed_bytes, spec.packed_parts),
}


def _parts(wanted: int, size: int, in_order: bool) -> int:
    parts = min(wanted, size)
    while in_order and size % parts:
        parts -= 1
    return parts
