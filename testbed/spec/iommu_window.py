"""How a hypervisor reaches its host's SMMU and ITS, which are another process: a window of register accesses
(`testbed.spec.bar_window`) and, behind it, the wires on which they interrupt it.

Reference: our own records for what a system's interconnect carries; the wires are those of ARM IHI 0070 G.b
§3.18 (event queue, global error, completion of CMD_SYNC). A wire is a word that counts its edges.
"""

from typing import Final

from testbed.address import PAGE_SIZE_BYTES, align_up
from testbed.spec.bar_window import BAR_WINDOW
from testbed.spec.layout import Field, Record

SPACE_SMMU: Final = 0
SPACE_ITS: Final = 1
SPACE_GICR: Final = 2
"""The redistributor of the hypervisor's processor: its LPIs."""

IOMMU_WIRES: Final = Record(
    "iommu_wires", 64, "our own record",
    Field("event_queue", 0, 4), Field("global_error", 4, 4), Field("command_sync", 8, 4),
)  # fmt: skip
WIRES_OFFSET: Final = align_up(BAR_WINDOW.size, PAGE_SIZE_BYTES)
WINDOW_BYTES: Final = WIRES_OFFSET + PAGE_SIZE_BYTES
