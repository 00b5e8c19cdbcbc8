"""Builds the device's side of a virtqueue from what a driver wrote about it, in either format.

Reference: virtio 1.2 §2.7 (split), §2.8 (packed), §4.2.2.2 (what a driver must hold to). What a driver got
wrong is a GuestError with the name of its counter. Not modelled: queues that leave one region of RAM.
"""

from typing import Final

from testbed.errors import GuestError
from testbed.native import PackedDevice, Pinned, Regions, SplitDevice
from testbed.spec import virtio as spec
from testbed.virtio.device import QueueConfig

_ALIGNMENTS: Final = {
    True: (spec.DESC_ALIGN, spec.PACKED_EVENT_ALIGN, spec.PACKED_EVENT_ALIGN),
    False: (spec.DESC_ALIGN, spec.AVAIL_ALIGN, spec.USED_ALIGN),
}
"""Of the three parts, by whether the ring is packed."""


def build_device_queue(
    config: QueueConfig, features: int, memory: Regions, counters: Pinned, offset: int, merge: bool
) -> SplitDevice | PackedDevice:
    """Return the queue, silent (no kicks wanted); GuestError where it cannot be."""
    packed = bool(features >> spec.F_RING_PACKED & 1)
    _check(config, packed)
    kind = PackedDevice if packed else SplitDevice
    try:
        queue = kind(
            memory, config.size, config.desc, config.driver, config.device, counters, offset,
            event_idx=bool(features >> spec.F_EVENT_IDX & 1),
            indirect=bool(features >> spec.F_INDIRECT_DESC & 1),
            merge=merge,
            in_order=bool(features >> spec.F_IN_ORDER & 1),
        )  # fmt: skip
    except ValueError as error:
        raise GuestError("address", str(error)) from error
    queue.disarm()
    return queue


def _check(config: QueueConfig, packed: bool) -> None:
    if not config.ready:
        raise GuestError("register", "DRIVER_OK with a queue that is not ready")
    if not packed and config.size & (config.size - 1):
        raise GuestError("register", f"a split queue's size is a power of two, not {config.size}")
    parts = (config.desc, config.driver, config.device)
    if any(part % alignment for part, alignment in zip(parts, _ALIGNMENTS[packed], strict=True)):
        raise GuestError("alignment", "a queue at " + ", ".join(f"{part:#x}" for part in parts))
