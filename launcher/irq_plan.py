"""The plan of the processes between which `virtbed bench irq` measures interrupts.

A device with one function, the host's IOMMU (SMMU and ITS), a hypervisor and a vCPU, on one host. What each
may map is what the design allows it: the device no memory but its own, the vCPU no tables.
"""

import os
from typing import Final, Literal

import msgspec

from testbed.address import PAGE_SIZE_BYTES
from testbed.messages.entries import (
    POLL_FOREVER,
    DmaEntry,
    DmaFunctionEntry,
    IommuEntry,
    IrqBenchEntry,
    Plan,
    ProcessEntry,
    ProcessPlan,
    SegmentEntry,
    VpeEntry,
)
from testbed.observe.catalogue import (
    IRQ_HYPERVISOR_COUNTERS,
    IRQ_SOFT_COUNTERS,
    IRQ_SOURCE_COUNTERS,
    IRQ_VCPU_COUNTERS,
    iommu_counter_names,
)
from testbed.observe.counters import segment_bytes
from testbed.spec import dma_area, iommu_window, its

Way = Literal["list-registers", "direct"]
DeviceKind = Literal["vf", "virtio", "e1000"]
ROLES: Final = {
    "iommu": "testbed.iommu.process:main",
    "vmm": "testbed.irqbench.process:main",
    "guest": "testbed.irqbench.process:main",
}
IOMMU: Final = "iommu-h0"
HYPERVISOR: Final = "vmm-h0"
VCPU: Final = "vcpu"
DEVICE: Final = "nic0"
_TABLES_HPA: Final = 0x100_0000_0000
_TABLES_BYTES: Final = 4 << 20
_VPT_HPA: Final = 0x110_0000_0000
_VPT_BYTES: Final = 1 << its.VPT_ALIGN_BITS
_ITS_HPA: Final = 0x2_0000_0000
_STREAM: Final = 0x180
_SLOTS: Final = 64
_SRAM_BYTES: Final = 64 << 10


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure, and how processes wait."""

    duration_ns: int
    gap_ns: int
    poll_ns: int
    """Of IOMMU and hypervisor; device and vCPU never sleep."""


def irq_plan(way: Way, timing: Timing, kind: DeviceKind = "vf") -> Plan:
    """Return the plan."""
    counters = {
        IOMMU: iommu_counter_names([f"{DEVICE}.vf0"]),
        HYPERVISOR: IRQ_HYPERVISOR_COUNTERS if kind == "vf" else IRQ_SOFT_COUNTERS,
        VCPU: IRQ_VCPU_COUNTERS,
        DEVICE: IRQ_SOURCE_COUNTERS,
    }
    segments = {segment.name: segment for segment in _segments(counters)}

    def process(
        name: str, role: Literal["iommu", "vmm", "guest"], entry: ProcessEntry, *uses: str
    ) -> ProcessPlan:
        used = tuple(segments[use] for use in (*uses, f"{name}.counters"))
        return ProcessPlan(name=name, role=role, entry=entry, segments=used, counter_names=counters[name])

    window, lpis, dma = f"{IOMMU}.window", f"{IOMMU}.lpis", (f"{DEVICE}.dma", f"{DEVICE}.sram")
    tables = ("h0.tables", "vpt")
    return Plan(
        topology=f"bench-irq-{os.getpid()}",
        segments=tuple(segments.values()),
        processes=(
            process(IOMMU, "iommu", _iommu(timing), *tables, window, lpis, "vcpu", *dma),
            process(
                HYPERVISOR,
                "vmm",
                _entry(HYPERVISOR, way, timing, kind),
                *tables,
                window,
                lpis,
                "vcpu",
                "stamps",
            ),
            process(VCPU, "guest", _entry(VCPU, way, timing, kind), "vcpu", "lpi-table", "stamps"),
            process(DEVICE, "guest", _entry(DEVICE, way, timing, kind), *dma, "stamps"),
        ),
        phases=(),
    )


def _segments(counters: dict[str, tuple[str, ...]]) -> list[SegmentEntry]:
    pages = ("vcpu", "lpi-table", "stamps", f"{IOMMU}.lpis")
    return [
        SegmentEntry(name="h0.tables", size_bytes=_TABLES_BYTES, hpa=_TABLES_HPA),
        SegmentEntry(name="vpt", size_bytes=_VPT_BYTES, hpa=_VPT_HPA),
        SegmentEntry(name=f"{IOMMU}.window", size_bytes=iommu_window.WINDOW_BYTES),
        SegmentEntry(name=f"{DEVICE}.dma", size_bytes=dma_area.area_bytes(1, _SLOTS)),
        SegmentEntry(name=f"{DEVICE}.sram", size_bytes=_SRAM_BYTES),
        *(SegmentEntry(name=name, size_bytes=PAGE_SIZE_BYTES) for name in pages),
        *(
            SegmentEntry(name=f"{name}.counters", size_bytes=segment_bytes(names))
            for name, names in counters.items()
        ),
    ]


def _iommu(timing: Timing) -> IommuEntry:
    function = DmaFunctionEntry(name=f"{DEVICE}.vf0", stream=_STREAM)
    return IommuEntry(
        name=IOMMU,
        host="h0",
        poll_ns=timing.poll_ns,
        nics=(DmaEntry(nic=DEVICE, functions=(function,), slots=_SLOTS),),
        vmm=HYPERVISOR,
        its_hpa=_ITS_HPA,
        vpes=(VpeEntry(guest=VCPU, page="vcpu", vpt_hpa=_VPT_HPA),),
    )


def _entry(
    name: Literal["vmm-h0", "vcpu", "nic0"], way: Way, timing: Timing, kind: DeviceKind
) -> IrqBenchEntry:
    return IrqBenchEntry(
        name=name,
        poll_ns=timing.poll_ns if name == HYPERVISOR else POLL_FOREVER,
        way=way,
        kind=kind,
        its_hpa=_ITS_HPA,
        stream=_STREAM,
        slots=_SLOTS,
        duration_ns=timing.duration_ns,
        gap_ns=timing.gap_ns,
    )
