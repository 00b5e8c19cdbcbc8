"""Walks of VMSAv8-64 translation tables: stage 1, stage 2 and both nested. Pure functions, slow and
obvious.

Reference: DDI 0487 D8.2 (process), D8.3 (descriptors), D8.4 (permissions), D8.7 (faults and their order: at
each level translation, then address size, then, at a leaf, access flag and permission). The native walk
(testbed/native/page_walk.c) does the same fast and is held against this one. Not modelled: 16 and 64 KiB
granules, execute permission, hardware update of access flag and dirty state, memory attributes (so no S2
PTW rule), the contiguous bit as a hint.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, IntFlag
from typing import NamedTuple

from testbed.errors import MemoryFault
from testbed.memory.access import MemoryAccess
from testbed.spec import page_table as pt


class Permission(IntFlag):
    """What a translation grants, or an access needs."""

    NONE = 0
    READ = pt.PERMISSION_READ
    WRITE = pt.PERMISSION_WRITE
    PRIVILEGED_READ = pt.PERMISSION_PRIVILEGED_READ
    PRIVILEGED_WRITE = pt.PERMISSION_PRIVILEGED_WRITE


READ_ANY = Permission.READ | Permission.PRIVILEGED_READ
WRITE_ANY = Permission.WRITE | Permission.PRIVILEGED_WRITE
UNPRIVILEGED = Permission.READ | Permission.WRITE
ALL_PERMISSIONS = READ_ANY | WRITE_ANY


class FaultKind(Enum):
    """Why a walk ended; the value is the fault status code at level 0."""

    ADDRESS_SIZE = pt.DFSC_ADDRESS_SIZE_L0
    TRANSLATION = pt.DFSC_TRANSLATION_L0
    ACCESS_FLAG = pt.DFSC_ACCESS_FLAG_L0
    PERMISSION = pt.DFSC_PERMISSION_L0
    WALK_ABORT = pt.DFSC_EXTERNAL_WALK_L0


class Stage(NamedTuple):
    """One stage's tables: where they begin and how much address they resolve.

    `input_bits` is 64 - TnSZ; `start_level` the level of the root, whose index takes all bits above that
    level's own shift (stage 2 may so concatenate up to 16 tables); `output_bits` the physical address size.
    """

    root: int
    input_bits: int = pt.INPUT_BITS_MAX
    start_level: int = 0
    output_bits: int = pt.INPUT_BITS_MAX
    access_flag_faults: bool = True
    """A leaf whose AF is clear is an access flag fault (nothing sets AF for the owner of the table)."""
    hierarchical: bool = True
    """Stage 1: APTable of table descriptors takes permissions away."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A walk that came to a leaf."""

    output: int
    permissions: Permission
    block_bytes: int
    """Size of the smallest leaf on the way: the input range for which this translation holds."""
    is_global: bool = True
    """Stage 1's nG is clear: every ASID shares it."""
    stage1_bytes: int = 0
    """Where both stages translate: size of stage 1's own leaf, which is what an invalidation by input
    address means.
    """


@dataclass(frozen=True, slots=True)
class Fault:
    """A walk that was refused."""

    kind: FaultKind
    stage: int
    level: int
    ipa: int = 0
    """Stage-2 faults: the address that stage 2 refused."""
    on_stage1_walk: bool = False
    """Stage-2 faults: met while the address of a stage-1 descriptor was translated."""
    fetch: int = 0
    """`WALK_ABORT`: physical address of the descriptor that could not be read."""

    @property
    def word(self) -> int:
        """The same fault as a native walk returns it (negative)."""
        word = pt.FAULT.mask | pt.FAULT_DFSC.put(self.kind.value + self.level)
        return -(word | pt.FAULT_STAGE2.put(self.stage - 1) | pt.FAULT_S1PTW.put(self.on_stage1_walk))


def fault_from_word(word: int, ipa: int = 0, fetch: int = 0) -> Fault:
    """Return the fault that a native walk's negative word stands for."""
    dfsc = pt.FAULT_DFSC.get(-word)
    stage = 1 + pt.FAULT_STAGE2.get(-word)
    on_walk = bool(pt.FAULT_S1PTW.get(-word))
    return Fault(FaultKind(dfsc & ~3), stage, dfsc & 3, ipa if stage == 2 else 0, on_walk, fetch)


class _Stop(Exception):
    """Carries the fault that ends a walk."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


_Fetch = Callable[[int, int], int]
"""(table entry's address, level) -> descriptor."""


def start_level(input_bits: int) -> int:
    """Return the level at which a stage-1 walk of so many bits begins (D8.2.8)."""
    return pt.LAST_LEVEL - (input_bits - pt.GRANULE_SHIFT - 1) // pt.INDEX_BITS


def aligned_root(stage: Stage) -> int:
    """Return the root without the address bits that its size leaves no room for (D8.2.5)."""
    table_bytes = pt.DESCRIPTOR_BYTES << (stage.input_bits - pt.LEVEL_SHIFTS[stage.start_level])
    return stage.root & -max(table_bytes, pt.ROOT_ALIGN_BYTES_MIN)


def stage1(
    memory: MemoryAccess, stage: Stage, address: int, needed: Permission = Permission.NONE
) -> Translation | Fault:
    """Translate by stage 1 alone; `memory` is by the stage's output address."""
    return _answer(lambda: _walk(stage, 1, _fetch_from(memory, 1), address, needed))


def stage2(
    memory: MemoryAccess, stage: Stage, ipa: int, needed: Permission = Permission.NONE
) -> Translation | Fault:
    """Translate by stage 2 alone; `memory` is by host physical address."""
    return _answer(lambda: _stage2(memory, stage, ipa, needed))


def nested(
    memory: MemoryAccess, first: Stage, second: Stage, address: int, needed: Permission = Permission.NONE
) -> Translation | Fault:
    """Translate by stage 1, whose tables are themselves at intermediate physical addresses, then by stage
    2.
    """
    return _answer(lambda: _nested(memory, first, second, address, needed))


def _answer(walk: Callable[[], Translation]) -> Translation | Fault:
    try:
        return walk()
    except _Stop as stop:
        return stop.fault


def _stage2(
    memory: MemoryAccess, stage: Stage, ipa: int, needed: Permission, on_walk: bool = False
) -> Translation:
    try:
        return _walk(stage, 2, _fetch_from(memory, 2), ipa, needed)
    except _Stop as stop:
        raise _Stop(replace(stop.fault, ipa=ipa, on_stage1_walk=on_walk)) from None


def _nested(
    memory: MemoryAccess, first: Stage, second: Stage, address: int, needed: Permission
) -> Translation:
    fetch_by_hpa = _fetch_from(memory, 1)

    def fetch_by_ipa(ipa: int, level: int) -> int:
        return fetch_by_hpa(_stage2(memory, second, ipa, Permission.READ, on_walk=True).output, level)

    inner = _walk(first, 1, fetch_by_ipa, address, needed)
    outer = _stage2(memory, second, inner.output, needed)
    return Translation(
        output=outer.output,
        permissions=inner.permissions & outer.permissions,
        block_bytes=min(inner.block_bytes, outer.block_bytes),
        is_global=inner.is_global,
        stage1_bytes=inner.block_bytes,
    )


def _fetch_from(memory: MemoryAccess, number: int) -> _Fetch:
    def fetch(address: int, level: int) -> int:
        try:
            return memory.load(address, pt.DESCRIPTOR_BYTES)
        except MemoryFault:
            raise _Stop(Fault(FaultKind.WALK_ABORT, number, level, fetch=address)) from None

    return fetch


def _walk(stage: Stage, number: int, fetch: _Fetch, address: int, needed: Permission) -> Translation:
    """Follow the levels of one stage to a leaf; at most four, so a table that points to itself ends like
    any other.
    """
    base = aligned_root(stage)
    if address >> stage.input_bits:
        raise _Stop(Fault(FaultKind.TRANSLATION, number, 0))
    if base >> stage.output_bits:
        raise _Stop(Fault(FaultKind.ADDRESS_SIZE, number, 0))
    inherited = ALL_PERMISSIONS
    index = address >> pt.LEVEL_SHIFTS[stage.start_level]
    for level in range(stage.start_level, pt.LAST_LEVEL + 1):
        descriptor = fetch(base + index * pt.DESCRIPTOR_BYTES, level)
        if not _is_table(descriptor, level, number):
            return _leaf(stage, number, level, descriptor, address, inherited, needed)
        base = descriptor & pt.NEXT_LEVEL_TABLE.mask
        if base >> stage.output_bits:
            raise _Stop(Fault(FaultKind.ADDRESS_SIZE, number, level))
        if number == 1 and stage.hierarchical:
            inherited &= _below_table(descriptor)
        index = (address >> pt.LEVEL_SHIFTS[level + 1]) % pt.ENTRIES
    raise AssertionError("level 3 has no table descriptors")


def _is_table(descriptor: int, level: int, number: int) -> bool:
    """Tell a table from a leaf; a translation fault where the descriptor is neither (D8.3.1)."""
    bit1 = bool(pt.TABLE_OR_PAGE.get(descriptor))
    leaf_level = level >= pt.BLOCK_LEVEL_FIRST
    if (
        not pt.VALID.get(descriptor)
        or (bit1, leaf_level) == (False, False)
        or (level == pt.LAST_LEVEL and not bit1)
    ):
        raise _Stop(Fault(FaultKind.TRANSLATION, number, level))
    return bit1 and level < pt.LAST_LEVEL


def _leaf(
    stage: Stage,
    number: int,
    level: int,
    descriptor: int,
    address: int,
    inherited: Permission,
    needed: Permission,
) -> Translation:
    block_bytes = 1 << pt.LEVEL_SHIFTS[level]
    output = (descriptor & pt.OUTPUT_ADDRESS.mask) & -block_bytes
    if output >> stage.output_bits:
        raise _Stop(Fault(FaultKind.ADDRESS_SIZE, number, level))
    if stage.access_flag_faults and not pt.AF.get(descriptor):
        raise _Stop(Fault(FaultKind.ACCESS_FLAG, number, level))
    permissions = inherited & (_s1_permissions(descriptor) if number == 1 else _s2_permissions(descriptor))
    if needed & ~permissions:
        raise _Stop(Fault(FaultKind.PERMISSION, number, level))
    is_global = number == 2 or not pt.NG.get(descriptor)
    return Translation(output + address % block_bytes, permissions, block_bytes, is_global)


def _below_table(descriptor: int) -> Permission:
    """Return what a stage-1 table descriptor leaves to everything below it (D8.4.3)."""
    limits = pt.AP_TABLE.get(descriptor)
    left = ALL_PERMISSIONS
    if limits & 1:
        left &= ~UNPRIVILEGED
    if limits & 2:
        left &= ~WRITE_ANY
    return left


def _s1_permissions(descriptor: int) -> Permission:
    """Return what AP[2:1] grants (D8.4.1)."""
    ap = pt.AP.get(descriptor)
    granted = ALL_PERMISSIONS if ap & 1 else ALL_PERMISSIONS & ~UNPRIVILEGED
    return granted & ~WRITE_ANY if ap & 2 else granted


def _s2_permissions(descriptor: int) -> Permission:
    """Return what S2AP grants (D8.4.2)."""
    s2ap = pt.S2AP.get(descriptor)
    granted = READ_ANY if s2ap & 1 else Permission.NONE
    return granted | WRITE_ANY if s2ap & 2 else granted
