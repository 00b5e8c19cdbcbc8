"""What each invalidation removes from the caches, and what it leaves: who forgets one must notice."""

from dataclasses import dataclass

import pytest

from testbed.iommu.translate import Granted
from testbed.memory.guest import GuestMemory
from testbed.memory.host import FrameAllocator
from testbed.memory.tables import Attributes, TableBuilder
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from testbed.spec.layout import Bits
from tests.iommu.machine import ASID, GUEST, PAGE, RAM, VMID, Machine, request

IOVA = 0x7000_0000_0000
BLOCK = 1 << 21
OTHER_VMID, OTHER_ASID = 8, 43
STAGE2_ONLY, NESTED, GLOBAL = 1, 2, 3
"""Streams: stage 2 alone; nested with a mapping of one ASID; nested with a global mapping of another ASID."""


@dataclass
class Bench:
    """Three streams of one VM whose translations are cached and whose tables then vanish."""

    machine: Machine
    stage2: TableBuilder

    def cached(self) -> set[int]:
        """Return the streams whose translation is still served from the cache."""
        addresses = {STAGE2_ONLY: GUEST + 0x5000, NESTED: IOVA, GLOBAL: IOVA}
        return {
            stream
            for stream, address in addresses.items()
            if isinstance(self.machine.translate(request(address, stream)), Granted)
        }

    def command(self, opcode: int, *fields: tuple[Bits, int]) -> set[int]:
        """Issue a command with a CMD_SYNC behind it; return the streams that are still cached."""
        self.machine.issue(opcode, *fields)
        self.machine.sync()
        return self.cached()


@pytest.fixture
def bench() -> Bench:
    machine = Machine()
    machine.enable()
    stage2 = machine.stage2_tables()
    guest = GuestMemory(machine.memory, stage2.root)
    machine.stage2(STAGE2_ONLY, stage2.root)
    for stream, asid, is_global, offset in ((NESTED, ASID, False, 0), (GLOBAL, OTHER_ASID, True, 0x8_0000)):
        stage1 = TableBuilder(guest, FrameAllocator(guest, GUEST + 0x10_0000 + offset, 16 * PAGE), 1)
        stage1.map(IOVA, GUEST + BLOCK, BLOCK, Attributes(is_global=is_global))
        machine.nested(stream, GUEST + 0x1000 * stream, stage2.root)
        machine.context(stage1.root, at=RAM + 0x1000 * stream, asid=asid)
    bench = Bench(machine, stage2)
    assert bench.cached() == {STAGE2_ONLY, NESTED, GLOBAL}
    machine.memory.write(stage2.root, bytes(PAGE))
    assert bench.cached() == {STAGE2_ONLY, NESTED, GLOBAL}
    return bench


VM = (q.TLBI_VMID, VMID)
VM_ASID = (VM, (q.TLBI_ASID, ASID))
HERE = (q.TLBI_ADDRESS, IOVA >> 12)


@pytest.mark.parametrize(
    ("opcode", "fields", "left"),
    [
        (q.OP_TLBI_NH_ALL, (VM,), {STAGE2_ONLY}),
        (q.OP_TLBI_NH_ASID, VM_ASID, {STAGE2_ONLY, GLOBAL}),
        (q.OP_TLBI_NH_VA, (*VM_ASID, HERE), {STAGE2_ONLY}),
        (q.OP_TLBI_NH_VAA, (VM, HERE), {STAGE2_ONLY}),
        (q.OP_TLBI_S12_VMALL, (VM,), set()),
        (q.OP_TLBI_S2_IPA, (VM, (q.TLBI_IPA, (GUEST + 0x5000) >> 12)), {NESTED, GLOBAL}),
        (q.OP_TLBI_NSNH_ALL, (), set()),
        (q.OP_CFGI_STE, ((q.COMMAND_STREAM, NESTED),), {STAGE2_ONLY, GLOBAL}),
        (q.OP_CFGI_STE_RANGE, ((q.COMMAND_STREAM, NESTED),), {STAGE2_ONLY}),
        (q.OP_CFGI_STE_RANGE, ((q.COMMAND_STREAM, 99), (q.CFGI_RANGE, 31)), set()),
        (q.OP_CFGI_CD, ((q.COMMAND_STREAM, GLOBAL),), {STAGE2_ONLY, NESTED}),
        (q.OP_CFGI_CD_ALL, ((q.COMMAND_STREAM, GLOBAL),), {STAGE2_ONLY, NESTED}),
    ],
)
def test_scope_of_each_command(
    bench: Bench, opcode: int, fields: tuple[tuple[Bits, int], ...], left: set[int]
) -> None:
    assert bench.command(opcode, *fields) == left


EVERYTHING = {STAGE2_ONLY, NESTED, GLOBAL}


@pytest.mark.parametrize(
    ("opcode", "fields"),
    [
        (q.OP_TLBI_NH_ALL, ((q.TLBI_VMID, OTHER_VMID),)),
        (q.OP_TLBI_NH_ASID, (VM, (q.TLBI_ASID, OTHER_ASID))),
        (q.OP_TLBI_NH_ASID, ((q.TLBI_VMID, OTHER_VMID), (q.TLBI_ASID, ASID))),
        (q.OP_TLBI_NH_VAA, (VM, (q.TLBI_ADDRESS, (IOVA + BLOCK) >> 12))),
        (q.OP_TLBI_NH_VAA, (VM, (q.TLBI_ADDRESS, (IOVA - PAGE) >> 12))),
        (q.OP_TLBI_S12_VMALL, ((q.TLBI_VMID, OTHER_VMID),)),
        (q.OP_TLBI_S2_IPA, (VM, (q.TLBI_IPA, IOVA >> 12))),
        (q.OP_TLBI_S2_IPA, (VM, (q.TLBI_IPA, (1 << 40) - 1))),
        (q.OP_CFGI_STE, ((q.COMMAND_STREAM, 9),)),
        (q.OP_CFGI_CD, ((q.COMMAND_STREAM, NESTED), (q.COMMAND_SUBSTREAM, 1))),
        (q.OP_PREFETCH_CONFIG, ((q.COMMAND_STREAM, NESTED),)),
        (q.OP_PREFETCH_ADDR, ((q.COMMAND_STREAM, NESTED),)),
    ],
)
def test_command_for_someone_else_removes_nothing(
    bench: Bench, opcode: int, fields: tuple[tuple[Bits, int], ...]
) -> None:
    assert bench.command(opcode, *fields) == EVERYTHING


def test_any_address_of_a_stage1_leaf_names_the_whole_leaf() -> None:
    machine = Machine()
    machine.enable()
    stage2 = TableBuilder(machine.memory, machine.frames, 2)
    stage2.map(GUEST, RAM + PAGE, 2 * BLOCK)
    guest = GuestMemory(machine.memory, stage2.root)
    stage1 = TableBuilder(guest, FrameAllocator(guest, GUEST + 0x10_0000, 16 * PAGE), 1)
    stage1.map(IOVA, GUEST + BLOCK, BLOCK)
    machine.nested(NESTED, GUEST, stage2.root)
    machine.context(stage1.root, at=RAM + PAGE)
    first = machine.translate(request(IOVA + 0x3000, NESTED))
    stage1.unmap(IOVA, BLOCK)

    machine.issue(q.OP_TLBI_NH_VA, *VM_ASID, (q.TLBI_ADDRESS, (IOVA + 0x1F_F000) >> 12))

    assert isinstance(first, Granted)
    assert first.block_bytes == PAGE
    assert not isinstance(machine.translate(request(IOVA + 0x3000, NESTED)), Granted)


@pytest.mark.parametrize(
    ("number", "scale", "address", "removed"),
    [
        (0, 9, IOVA, True),
        (31, 4, IOVA - 512 * PAGE, False),
        (0, 10, IOVA - 512 * PAGE, True),
        (3, 0, IOVA, True),
    ],
)
def test_range_invalidation(bench: Bench, number: int, scale: int, address: int, removed: bool) -> None:
    fields = (VM, (q.TLBI_ADDRESS, address >> 12), (q.TLBI_NUM, number), (q.TLBI_SCALE, scale))

    left = bench.command(q.OP_TLBI_NH_VAA, *fields, (q.TLBI_TG, 1), (q.TLBI_TTL, 0))

    assert (NESTED not in left) == removed


def test_range_of_the_lower_half_never_reaches_the_upper() -> None:
    cache = Machine().smmu.cache
    context = cache.table.add_context(1, None, VMID, ASID)
    assert context is not None
    cache.table.fill(context, 0xFFFF_0000_0000_0000, RAM, PAGE, 15, False, PAGE)
    machine = Machine(cache=cache)
    machine.enable()

    machine.issue(
        q.OP_TLBI_NH_VAA,
        VM,
        (q.TLBI_ADDRESS, 0xFFFF_FFFF_F),
        (q.TLBI_NUM, 31),
        (q.TLBI_SCALE, 31),
        (q.TLBI_TG, 1),
    )

    assert cache.table.lookup(context, 0xFFFF_0000_0000_0000, 1) == RAM


def test_changed_context_is_used_after_its_invalidation() -> None:
    machine = Machine()
    machine.enable()
    stage2 = machine.stage2_tables()
    guest = GuestMemory(machine.memory, stage2.root)
    machine.nested(NESTED, GUEST, stage2.root)
    for offset in (0x10_0000, 0x18_0000):
        stage1 = TableBuilder(guest, FrameAllocator(guest, GUEST + offset, 16 * PAGE), 1)
        stage1.map(IOVA, GUEST + offset, PAGE)
        machine.context(stage1.root, at=RAM)
        machine.issue(q.OP_CFGI_CD, (q.COMMAND_STREAM, NESTED))
        machine.sync()

        answer = machine.translate(request(IOVA, NESTED))

        assert isinstance(answer, Granted)
        assert answer.output == RAM + offset


def test_cache_that_is_full_of_configurations_starts_again() -> None:
    machine = Machine()
    machine.enable()
    machine.stage1(1, more_substreams := RAM, (s.STE_S1CDMAX, 11))
    machine.memory.write(more_substreams, bytes(64 << 11))
    for substream in range(1 << 11):
        machine.context(RAM + 0x20_0000, (s.CD_EPD0, 1), at=RAM + substream * 64)
        machine.translate(request(0, 1, substream=substream))

    machine.bypass(2)
    assert isinstance(machine.translate(request(0, 2)), Granted)
