"""What each kind of process counts: the names of its counters, in the order of their words.

A port's or a NIC's counters are one block of consecutive words, so that native code is given the index of
the first and counts by offset; the block of the vmm's ports is the record in `testbed.spec.port_counters`.
"""

from collections.abc import Iterable
from typing import Final

from testbed.spec.port_counters import COUNTER_NAMES

_BELL: Final = ("bell.asked", "bell.sent", "bell.wakeups", "interrupts.virtio", "sleeps", "polls")

GUEST_COUNTERS: Final = ("exits.mmio_read", "exits.mmio_write", "exits.doorbell", *_BELL)
"""What every guest counts, its NICs apart."""
NIC_COUNTERS: Final = (
    "tx_frames",
    "tx_bytes",
    "rx_frames",
    "rx_bytes",
    "tx_kicks",
    "rx_kicks",
    "foreign_frames",
)
"""What a guest's driver counts for each NIC; foreign frames belong to no flow."""
TAP_COUNTERS: Final = ("read", "written", "dropped.too_long", "dropped.refused")
"""What a guest counts for each TAP device: frames from its network stack and to it."""
VMM_COUNTERS: Final = (
    "exits.mmio_read",
    "exits.mmio_write",
    "exits.unknown_address",
    "exits.bad_syndrome",
    *_BELL,
    "bytes_copied",
    "frames_copied",
)
"""What every vmm counts, its ports apart; a doorbell is no exit, so only the guest that rings counts it."""

PORT_COUNTERS: Final = COUNTER_NAMES
"""What the vmm counts for each port of a guest."""
PORT_FRAME_COUNTERS: Final = tuple(name for name in COUNTER_NAMES if "." not in name)
PORT_DROP_REASONS: Final = tuple(
    name.removeprefix("dropped.") for name in COUNTER_NAMES if name.startswith("dropped.")
)
PORT_FAULT_REASONS: Final = tuple(
    name.removeprefix("fault.") for name in COUNTER_NAMES if name.startswith("fault.")
)


def guest_counter_names(nic_count: int, taps: Iterable[int] = ()) -> tuple[str, ...]:
    """Return the counters of a guest with so many NICs: its own, then a block `nicN.*` for each NIC.

    Behind them is a block `tapN.*` for each NIC in `taps`.
    """
    blocks = (f"nic{index}.{name}" for index in range(nic_count) for name in NIC_COUNTERS)
    tap_blocks = (f"tap{index}.{name}" for index in taps for name in TAP_COUNTERS)
    return (*GUEST_COUNTERS, *blocks, *tap_blocks)


def vmm_counter_names(ports: Iterable[str]) -> tuple[str, ...]:
    """Return the counters of a vmm with these ports (`GUEST.nicN`): its own, then a block for each port."""
    blocks = (f"{port}.{name}" for port in ports for name in PORT_COUNTERS)
    return (*VMM_COUNTERS, *blocks)
