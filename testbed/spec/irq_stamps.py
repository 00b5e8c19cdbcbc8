"""When an interrupt was signalled and when its handler began, shared by those who measure it.

Reference: our own record. Times are CLOCK_MONOTONIC nanoseconds. One interrupt is under way at a time: the
source counts `signalled` up, the handler's first act is its stamp, then it sets `handled` to the same count.
"""

from typing import Final

from testbed.spec.layout import Field, Record

IRQ_STAMPS: Final = Record(
    "irq_stamps", 4096, "our own record",
    Field("signalled", 0, 4), Field("signalled_ns", 8, 8),
    Field("handled", 64, 4), Field("handled_ns", 72, 8),
    Field("vmm_ns", 128, 8, "when the hypervisor took it, if it did"),
    Field("mapped", 192, 4, "the hypervisor has mapped everything"),
)  # fmt: skip
