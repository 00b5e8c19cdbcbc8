"""The shared pages through which one process reaches the registers of a PCI device that is another process.

Reference: our own records for what a PCIe link carries between a root complex and an endpoint: posted writes
in order, one read at a time, its completion behind every write before it (PCI Express Base Specification
§2.4). A window belongs to one requester: the guest that has a function, or the hypervisor for all of them.
"""

from typing import Final

from testbed.spec.layout import Bits, Field, Record

BAR_WRITE: Final = Record(
    "bar_write", 16, "our own record: a posted write",
    Field("offset", 0, 4, "bytes from the beginning of the space"), Field("target", 4, 4),
    Field("value", 8, 8),
)  # fmt: skip
POSTED_MAX: Final = 512
"""Posted writes under way; a power of two."""

TARGET_FUNCTION: Final = Bits("function", 0, 16, "0: the PF, n: VF n-1; ignored where the window is of one")
TARGET_SPACE: Final = Bits("space", 16, 8, "number of the BAR, or SPACE_CONFIGURATION")
TARGET_SIZE: Final = Bits("size", 24, 8, "bytes: 1, 2, 4 or 8")
SPACE_CONFIGURATION: Final = 16
FUNCTION_SHIFT: Final = TARGET_FUNCTION.lsb
SPACE_SHIFT: Final = TARGET_SPACE.lsb
SIZE_SHIFT: Final = TARGET_SIZE.lsb

_HEADER_BYTES: Final = 4096
BAR_WINDOW: Final = Record(
    "bar_window", _HEADER_BYTES + POSTED_MAX * BAR_WRITE.size, "design: passthrough",
    Field("to_device_rung", 0, 8), Field("to_device_armed", 8, 4), Field("to_device_sent", 16, 8),
    Field("to_driver_rung", 64, 8), Field("to_driver_armed", 72, 4), Field("to_driver_sent", 80, 8),
    Field("produced", 128, 4, "posted writes so far, modulo 2 to the power of 32; the requester's"),
    Field("read_number", 192, 4, "number of the read that waits; the requester's"),
    Field("read_offset", 196, 4), Field("read_target", 200, 4),
    Field("consumed", 256, 4, "posted writes taken so far; the completer's"),
    Field("reply_number", 320, 4, "number of the last read answered; the completer's"),
    Field("reply_value", 328, 8),
    Field("posted", _HEADER_BYTES, 8, "bar_write records", count=2 * POSTED_MAX),
)  # fmt: skip
BELL_TO_DEVICE: Final = BAR_WINDOW.offset("to_device_rung")
BELL_TO_DRIVER: Final = BAR_WINDOW.offset("to_driver_rung")
ALL_ONES: Final = (1 << 64) - 1
"""What a read gives that nobody completes."""
COMPLETION_TIMEOUT_NS: Final = 1_000_000_000
"""PCI Express §2.8: 50 us to 64 s. A device that is a process may not run for a while."""
