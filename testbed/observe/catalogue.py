"""What each kind of process counts: the names of its counters, in the order of their words.

A port's or a NIC's counters are one block of consecutive words, so that native code is given the index of
the first and counts by offset; the block of the vmm's ports is the record in `testbed.spec.port_counters`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from testbed.spec.igb import POOLS, VFS_MAX
from testbed.spec.layout import Access, Reg, RegisterMap
from testbed.spec.nic_counters import pool_counter_names
from testbed.spec.port_counters import COUNTER_NAMES
from testbed.spec.smmu_queues import EVENT_NAMES

_BELL: Final = (
    "bell.asked",
    "bell.sent",
    "bell.wakeups",
    "interrupts.virtio",
    "interrupts.e1000",
    "interrupts.vf",
    "interrupts.smmu",
    "interrupts.timer",
    "interrupts.ipi",
    "sleeps",
    "polls",
)
EXIT_REASONS: Final = (
    "mmio_read",
    "mmio_write",
    "port_in",
    "port_out",
    "hvc",
    "irq",
    "sysreg",
    "bad_syndrome",
)
"""Why a vCPU leaves its guest; each exit counts once."""
_EXITS: Final = tuple(f"exits.{reason}" for reason in EXIT_REASONS)

GUEST_COUNTERS: Final = (*_EXITS, "exits.doorbell", "exits.maintenance", *_BELL)
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
TAP_COUNTERS: Final = ("read", "written", "cut", "joined", "dropped.too_long", "dropped.refused")
"""What a guest counts for each TAP device: the NIC's frames from its network stack and to it, and frames of
the stack's that were several of them.
"""
VMM_COUNTERS: Final = (
    *_EXITS,
    "exits.unknown_address",
    "exits.paced",
    "hypercalls.unknown",
    "interrupts.forced_exits",
    "exits.gic.read",
    "exits.gic.write",
    "vgic.odd_access",
    "vgic.bad_list_register",
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

WINDOW_COUNTERS: Final = ("throttled", "coalesced", "access_ns")
"""What a NIC counts for the registers of each virtual function: times that its driver's accesses had taken
too long and waited, doorbells that were rung again before anybody looked, and how long accesses have taken.
"""
FUNCTION_COUNTERS: Final = ("messages", "refused", "throttled", "resets", "spoof_events")
"""What a vmm counts for each virtual function of its NICs: messages in its mailbox, those answered with NACK,
times that it was not listened to for a while, resets, and events of spoofing.
"""

NIC_PROCESS_COUNTERS: Final = (
    "bell.asked",
    "bell.sent",
    "bell.wakeups",
    "sleeps",
    "polls",
    "messages",
    "messages.merged",
    "register_writes",
    "wire.frames_out",
    "wire.bytes_out",
    "wire.frames_in",
    "wire.bytes_in",
    "wire.unclaimed",
    "wire.lost",
    "wire.link_changes",
    "wire.broken",
    "windows.refused",
    "windows.overruns",
    "ats.requests",
    "ats.forwarded",
    "ats.invalidations",
    "ats.reads",
    "ats.writes",
    "ats.bytes_read",
    "ats.bytes_written",
    "ats.hits",
    "ats.misses",
    "ats.denied",
)
"""What every NIC counts, its pools apart; `messages` are MSIs, `merged` those equal to one that still waited
for room in its ring; unclaimed is what a wire brought that nobody there takes.
"""

DMA_COUNTERS: Final = (
    "reads",
    "writes",
    "messages",
    "translation_requests",
    "invalidations_completed",
    "bytes_read",
    "bytes_written",
    "refused",
    "malformed",
    "foreign_stream",
    "paused",
    "broken",
    "decided_ns",
)
"""What an IOMMU counts for each function of a NIC; `decided_ns`: the time that decisions have taken."""

IOMMU_COUNTERS: Final = (
    "bell.asked",
    "bell.sent",
    "bell.wakeups",
    "sleeps",
    "polls",
    *(f"dma.{name}" for name in DMA_COUNTERS),
    "iotlb.hits",
    "iotlb.misses",
    "its.hits",
    "its.misses",
    "its.delivered",
    "its.wakes",
    "its.absent",
    "its.dropped",
    "its.commands",
    "its.command_errors",
    *(f"fault.{name}" for name in EVENT_NAMES.values()),
    "fault.abort",
)
"""What every IOMMU counts, the functions of its NICs apart; `fault.abort` left no record."""
_LOOP: Final = ("bell.sent", "bell.wakeups", "sleeps", "polls")
IRQ_SOURCE_COUNTERS: Final = (
    *("signalled", "interrupts", "measured_ns", "p50_ns", "p99_ns", "vmm_p50_ns", "lost", "done"),
    *_LOOP,
)
"""What the device of `virtbed bench irq` counts and measures: `interrupts` are those that count."""
IRQ_HYPERVISOR_COUNTERS: Final = (
    *("interrupts.forced_exits", "vgic.bad_list_register", "lpis.taken", "exits.answered"),
    *_LOOP,
)
IRQ_SOFT_COUNTERS: Final = tuple(
    dict.fromkeys((*IRQ_HYPERVISOR_COUNTERS, *IRQ_SOURCE_COUNTERS, "interrupts.virtio", "interrupts.e1000"))
)
"""What a hypervisor counts and measures that has the device in it."""
IRQ_VCPU_COUNTERS: Final = ("exits", "taken", *_LOOP)


def iommu_counter_names(functions: Iterable[str]) -> tuple[str, ...]:
    """Return the counters of an IOMMU: its own, then a block for each function (`NIC.pf`, `NIC.vfN`)."""
    blocks = (f"{function}.{name}" for function in functions for name in DMA_COUNTERS)
    return (*IOMMU_COUNTERS, *blocks)


def nic_counter_names() -> tuple[str, ...]:
    """Return the counters of a NIC: its own, a block `poolN.*` for each pool, and one `vfN.*` for the
    registers of each virtual function.
    """
    windows = (f"vf{vf}.{name}" for vf in range(VFS_MAX) for name in WINDOW_COUNTERS)
    return (*NIC_PROCESS_COUNTERS, *pool_counter_names(POOLS), *windows)


SMMU_COUNTERS: Final = (
    "smmu.errors",
    *(f"smmu.{name}" for name in EVENT_NAMES.values()),
)
"""What a guest with an SMMU of its own counts: the records of its event queue by name."""


def smmu_counters(guest: str) -> str:
    """Return under which name a guest's exits to its SMMU are counted by register."""
    return f"{guest}.smmu"


def guest_counter_names(
    nic_count: int, taps: Iterable[int] = (), has_smmu: bool = False, vcpus: int = 1
) -> tuple[str, ...]:
    """Return the counters of a guest with so many NICs: its own, then a block `nicN.*` for each NIC.

    Behind them is a block `tapN.*` for each NIC in `taps`, and where it has one that of its SMMU.
    Those are what vCPU 0 counts; every other one counts the same (its own and its queues') in a block
    `vcpuN.*`, for a word has one writer.
    """
    nics = tuple(f"nic{index}.{name}" for index in range(nic_count) for name in NIC_COUNTERS)
    tap_blocks = (f"tap{index}.{name}" for index in taps for name in TAP_COUNTERS)
    others = (f"{vcpu_counters(n)}{name}" for n in range(1, vcpus) for name in (*GUEST_COUNTERS, *nics))
    return (*GUEST_COUNTERS, *nics, *tap_blocks, *(SMMU_COUNTERS if has_smmu else ()), *others)


def vcpu_counters(number: int) -> str:
    """Return with what the names of a guest's counters begin that a vCPU but the first counts."""
    return f"vcpu{number}."


def exit_counter(nic: str, reg: Reg | None, *, write: bool) -> str:
    """Return the counter of the exits for accesses to a register of a NIC (None: to none of them).

    What a register is not for, a store to one that is read only, counts as an access to none.
    """
    refusing = _READ_ONLY if write else _WRITE_ONLY
    name = "other" if reg is None or reg.access in refusing else reg.name
    return f"exits.{nic}.{name}.{'write' if write else 'read'}"


_READ_ONLY: Final = frozenset({Access.RO, Access.RSV})
_WRITE_ONLY: Final = frozenset({Access.WO, Access.RSV})


def exit_counter_names(nic: str, maps: Iterable[RegisterMap]) -> tuple[str, ...]:
    """Return the counters of the exits of a NIC by register, each direction that a register has."""
    registers: list[Reg | None] = [reg for each in maps for reg in each.registers]
    names = (exit_counter(nic, reg, write=write) for reg in (*registers, None) for write in (False, True))
    return tuple(dict.fromkeys(names))


def vmm_counter_names(
    ports: Iterable[str],
    registers: Mapping[str, Sequence[RegisterMap]] | None = None,
    functions: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the counters of a vmm with these ports (`GUEST.nicN`): its own, a block for each port, then the
    exits by register of those NICs that have `registers`, then a block for each virtual function (`NIC.vfN`).
    """
    blocks = (f"{port}.{name}" for port in ports for name in PORT_COUNTERS)
    exits = (name for nic, maps in (registers or {}).items() for name in exit_counter_names(nic, maps))
    of_functions = (f"{function}.{name}" for function in functions for name in FUNCTION_COUNTERS)
    return (*VMM_COUNTERS, *blocks, *exits, *of_functions)
