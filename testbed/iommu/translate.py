"""Translates one transaction by its configuration. Pure: no cache, no queue.

Reference: ARM IHI 0070 G.b §3.3.3, §3.4 (address sizes), §5.4.1.1 (EPDx). Not modelled: instruction
fetches, attributes, hardware update of table flags.
"""

from dataclasses import dataclass

from testbed.address import PAGE_SIZE_BYTES
from testbed.iommu.events import Event, Refusal, Request
from testbed.iommu.stream_table import Configuration, Context, Walk, refusal_of
from testbed.memory.host import HostMemory
from testbed.memory.walk import (
    ALL_PERMISSIONS,
    Fault,
    FaultKind,
    Permission,
    Stage,
    Translation,
    fault_from_word,
)
from testbed.native import walk_nested
from testbed.spec import smmu_queues as q

ADDRESS_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Granted:
    """A transaction that may pass."""

    output: int
    """Host physical address."""
    permissions: Permission
    """All that the translation grants, not only what was needed."""
    block_bytes: int
    """The translation holds for the naturally aligned block of this size around the address."""
    is_global: bool = True
    stage1_bytes: int = 0
    """Size of stage 1's leaf, 0 where stage 1 does not translate."""


def native_walk(memory: HostMemory) -> Walk:
    """Return the native walk over a host's memory."""

    def walk(first: Stage | None, second: Stage | None, address: int, needed: int) -> Translation | Fault:
        fault, output, permissions, block, is_global, stage1_bytes, ipa, fetch = walk_nested(
            memory.host_map, first, second, address, int(needed)
        )
        if fault:
            return fault_from_word(fault, ipa, fetch)
        return Translation(output, Permission(permissions), block, is_global, stage1_bytes)

    return walk


def needed_permission(request: Request) -> Permission:
    """Return what a transaction needs."""
    if request.privileged:
        return Permission.PRIVILEGED_WRITE if request.write else Permission.PRIVILEGED_READ
    return Permission.WRITE if request.write else Permission.READ


def canonical(address: int, context: Context | None) -> int:
    """Return the address, its top byte replaced by bit 55 where the configuration ignores it (§3.4.1)."""
    if context is None:
        return address
    upper = address >> 55 & 1
    if not context.top_byte_ignored[upper]:
        return address
    low = address & (1 << 55) - 1
    return ADDRESS_MASK ^ (1 << 55) - 1 | low if upper else low


def translate(
    configuration: Configuration,
    request: Request,
    walk: Walk,
    address_bits: int,
    needed: Permission | None = None,
) -> Granted | Refusal:
    """Translate a transaction; `needed` replaces what it needs itself."""
    if configuration.aborts:
        return Refusal(None)
    needed = needed_permission(request) if needed is None else needed
    context, second = configuration.context, configuration.entry.stage2
    if context is None:
        if request.address >> address_bits:
            return Refusal(Event(q.F_ADDR_SIZE, request), translation_related=True)
        if second is None:
            return _identity(request)
        return _answer(walk(None, second, request.address, needed), configuration, request)
    chosen = _stage1_of(context, canonical(request.address, context))
    if chosen is None:
        return refusal_of(Fault(FaultKind.TRANSLATION, 1, 0), configuration.entry, context, request)
    first, address = chosen
    return _answer(walk(first, second, address, needed), configuration, request)


def _identity(request: Request) -> Granted:
    return Granted(request.address, ALL_PERMISSIONS, PAGE_SIZE_BYTES)


def _stage1_of(context: Context, address: int) -> tuple[Stage, int] | None:
    """Return the half of the address space and the address in it, None where there is no such translation."""
    if not address >> 55 & 1:
        if context.lower is None or address >> context.lower.input_bits:
            return None
        return context.lower, address
    if context.upper is None or (address ^ ADDRESS_MASK) >> context.upper.input_bits:
        return None
    return context.upper, address & (1 << context.upper.input_bits) - 1


def _answer(answer: Translation | Fault, configuration: Configuration, request: Request) -> Granted | Refusal:
    if isinstance(answer, Fault):
        return refusal_of(answer, configuration.entry, configuration.context, request)
    stage1_bytes = answer.stage1_bytes or (answer.block_bytes if configuration.context else 0)
    return Granted(answer.output, answer.permissions, answer.block_bytes, answer.is_global, stage1_bytes)
