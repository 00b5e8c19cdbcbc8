"""The block of counters that each port of the vmm has, in the order in which native code counts.

Reference: our own record. The word index of a `fault_` member is also the code by which native code reports
that fault.
"""

from typing import Final

from testbed.spec.layout import Field, Record

_NAMES: Final = (
    "frames_in", "bytes_in", "frames_out", "bytes_out", "kicks", "calls",
    "frames_rejected", "frames_captured", "captures_missed", "frames_mirrored", "call_errors",
    "dropped_no_receiver", "dropped_link_down", "dropped_stalled", "dropped_too_long", "dropped_too_short",
    "dropped_bad_fcs", "dropped_rx_too_small", "dropped_same_port", "dropped_device_broken",
    "dropped_disabled",
    "dropped_filter", "dropped_rate", "dropped_call", "dropped_mirror",
    "fault_avail_jump", "fault_head_range", "fault_next_range", "fault_loop", "fault_chain_length",
    "fault_address", "fault_length", "fault_zero_length", "fault_nested_indirect", "fault_indirect_next",
    "fault_indirect_length", "fault_indirect_off", "fault_writable", "fault_readable", "fault_order",
    "fault_header", "fault_alignment", "fault_register", "fault_protocol",
)  # fmt: skip

PORTS_MAX: Final = 1024
"""Ports of one bridge."""
PORT_COUNTERS: Final = Record(
    "port_counters",
    8 * len(_NAMES),
    "design: counters",
    *(Field(name, 8 * i, 8) for i, name in enumerate(_NAMES)),
)
"""`*_in`: from the guest; `*_out`: to the guest. `frames_rejected`: for somebody else, says the NIC's receive
filter; they are no loss. `dropped_*` count where the frame came from, but for
`stalled`, `rx_too_small` and `device_broken` (a device at either end broke or was reset meanwhile), which
count where it should have gone, and `link_down`, which counts where the link is. `disabled`: from a ring that
its front end disabled. What interposers drop (`filter`, `rate`, `call`) counts at the NIC that has them,
`mirror` where the copy should have gone.
"""

COUNTER_NAMES: Final = tuple(
    name.replace("dropped_", "dropped.").replace("fault_", "fault.") for name in _NAMES
)


def fault_name(code: int) -> str:
    """Return the name of a fault that native code reported as `code`."""
    return _NAMES[code].removeprefix("fault_")
