"""What a NIC counts for each of its pools: a block of consecutive words of its process's counter page.

Reference: our own record. What the datasheet has registers for is counted in spec/igb_statistics.py as well.
"""

from typing import Final

from testbed.spec.layout import Field, Record

_NAMES: Final = (
    "tx_frames", "tx_bytes", "rx_frames", "rx_bytes", "tx_wire_frames", "rx_wire_frames",
    "tx_packets_cut",
    "dropped_spoof", "dropped_no_receiver", "dropped_link_down",
    "dropped_too_short", "dropped_too_long", "dropped_no_descriptor", "dropped_stalled", "dropped_queue_off",
    "fault_register", "fault_dma", "fault_descriptor",
)  # fmt: skip
NIC_POOL: Final = Record(
    "nic_pool_counters", 8 * len(_NAMES), "design: counters",
    *(Field(name, 8 * i, 8) for i, name in enumerate(_NAMES)),
)  # fmt: skip
"""`tx`: what the pool sent. `dropped_spoof`, `no_receiver`, `link_down` count at the sender's pool, the rest
of `dropped_*` where the frame should have gone. `fault_*`: what stopped a queue of the pool.
"""

COUNTER_NAMES: Final = tuple(
    name.replace("dropped_", "dropped.").replace("fault_", "fault.") for name in _NAMES
)


def pool_counter_names(pools: int) -> tuple[str, ...]:
    """Return the names of the blocks of so many pools."""
    return tuple(f"pool{pool}.{name}" for pool in range(pools) for name in COUNTER_NAMES)
