"""Given correct invalidations the caches never show; nothing in memory or in a queue breaks the model."""

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from testbed.errors import MemoryFault
from testbed.iommu.events import Refusal, Request
from testbed.iommu.features import Features
from testbed.iommu.iotlb import TranslationCache
from testbed.iommu.stream_table import Lookup, StreamTable, Walk
from testbed.iommu.transactions import Aborted, Stalled
from testbed.iommu.translate import Granted, translate
from testbed.memory import walk
from testbed.memory.guest import GuestMemory
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.tables import Attributes, TableBuilder
from testbed.memory.walk import Fault, Permission, Stage, Translation
from testbed.spec import dma_request as d
from testbed.spec import smmu_queues as q
from testbed.spec.layout import Bits
from tests.iommu.machine import (
    ASID,
    CDS,
    COMMANDS,
    GUEST,
    HOST,
    PAGE,
    QUEUE_BITS,
    RAM,
    STRTAB,
    TABLES,
    VMID,
    Machine,
)  # fmt: skip

BLOCK = 1 << 21
IOVA = 0x7000_0000_0000
NESTED, STAGE2_ONLY = 1, 2


def python_walk(memory: HostMemory) -> Walk:
    """Return the oracle: the slow and obvious walks."""

    def walks(first: Stage | None, second: Stage | None, address: int, needed: int) -> Translation | Fault:
        if first is None:
            assert second is not None
            return walk.stage2(memory, second, address, Permission(needed))
        if second is None:
            return walk.stage1(memory, first, address, Permission(needed))
        return walk.nested(memory, first, second, address, Permission(needed))

    return walks


def uncached(machine: Machine, request: Request) -> Granted | Refusal:
    """Return what a transaction comes to without any cache."""
    lookup = Lookup(machine.memory, python_walk(machine.memory), Features())
    table = StreamTable(STRTAB, 6, 6, False)
    entry = lookup.entry(table, request)
    found = entry if isinstance(entry, Refusal) else lookup.configuration(entry, request)
    return found if isinstance(found, Refusal) else translate(found, request, lookup.walk, 48)


FEW = st.integers(0, 3)
"""Few places, so that changes and accesses meet."""
SMALL_PAGES = st.integers(0, 3)
BLOCK_PAGES = BLOCK // PAGE


def _range(length: int) -> tuple[tuple[Bits, int], ...]:
    """Return the fields of a range invalidation of so many bytes; one page alone needs none."""
    pages = length // PAGE
    if pages == 1:
        return ()
    scale = max((pages - 1).bit_length() - 5, 0)
    return (q.TLBI_TG, 1), (q.TLBI_NUM, -(-pages >> scale) - 1), (q.TLBI_SCALE, scale)


class CachesNeverShow(RuleBasedStateMachine):
    """Two streams of one guest; who changes a table invalidates as the standard says, and nothing more."""

    @initialize(entries=st.sampled_from((4, 16, 256)), walks_natively=st.booleans())
    def start(self, entries: int, walks_natively: bool) -> None:
        cache = TranslationCache(entries, 2)
        self.machine = machine = Machine(cache=cache, walks_natively=walks_natively)
        machine.enable()
        self.stage2 = TableBuilder(machine.memory, machine.frames, 2, self._stage2_changed)
        self.stage2.map(GUEST, RAM, 2 * BLOCK)
        self.guest = GuestMemory(machine.memory, self.stage2.root)
        frames = FrameAllocator(self.guest, GUEST + 0x10_0000, 32 * PAGE)
        self.stage1 = TableBuilder(self.guest, frames, 1, self._stage1_changed)
        machine.nested(NESTED, GUEST, self.stage2.root)
        machine.context(self.stage1.root, at=RAM)
        machine.stage2(STAGE2_ONLY, self.stage2.root)

    def _stage1_changed(self, address: int, length: int) -> None:
        fields = ((q.TLBI_VMID, VMID), (q.TLBI_ASID, ASID), (q.TLBI_ADDRESS, address >> 12))
        self.machine.issue(q.OP_TLBI_NH_VA, *fields, *_range(length))
        self.machine.sync()

    def _stage2_changed(self, address: int, length: int) -> None:
        fields = ((q.TLBI_VMID, VMID), (q.TLBI_IPA, address >> 12))
        self.machine.issue(q.OP_TLBI_S2_IPA, *fields, *_range(length))
        self.machine.issue(q.OP_TLBI_NH_ALL, (q.TLBI_VMID, VMID))
        self.machine.sync()

    @rule(page=SMALL_PAGES, to=FEW, write=st.booleans())
    def map_stage1_page(self, page: int, to: int, write: bool) -> None:
        self._map_stage1(page, BLOCK_PAGES + to, 1, write)

    @rule(write=st.booleans())
    def map_stage1_block(self, write: bool) -> None:
        self._map_stage1(BLOCK_PAGES, BLOCK_PAGES, BLOCK_PAGES, write)

    def _map_stage1(self, page: int, to: int, count: int, write: bool) -> None:
        with suppress(MemoryFault):  # mapped already
            self.stage1.map(IOVA + page * PAGE, GUEST + to * PAGE, count * PAGE, Attributes(write=write))

    @rule(page=SMALL_PAGES, block=st.booleans())
    def unmap_stage1(self, page: int, block: bool) -> None:
        self.stage1.unmap(IOVA + (page + BLOCK_PAGES * block) * PAGE, PAGE)

    @rule()
    def unmap_stage1_block(self) -> None:
        self.stage1.unmap(IOVA + BLOCK, BLOCK)

    @rule(page=SMALL_PAGES, write=st.booleans())
    def protect_stage1(self, page: int, write: bool) -> None:
        self.stage1.protect(IOVA + page * PAGE, PAGE, Attributes(write=write))

    @rule(page=FEW, write=st.booleans())
    def protect_stage2(self, page: int, write: bool) -> None:
        self.stage2.protect(GUEST + BLOCK + page * PAGE, PAGE, Attributes(write=write))

    @rule(page=FEW)
    def unmap_stage2(self, page: int) -> None:
        self.stage2.unmap(GUEST + BLOCK + page * PAGE, PAGE)

    @rule(page=FEW, to=FEW)
    def remap_stage2(self, page: int, to: int) -> None:
        self.stage2.unmap(GUEST + BLOCK + page * PAGE, PAGE)
        self.stage2.map(GUEST + BLOCK + page * PAGE, RAM + BLOCK + to * PAGE, PAGE)

    @invariant()
    def accesses_agree(self) -> None:
        for page in (*range(4), *range(BLOCK_PAGES, BLOCK_PAGES + 4), BLOCK_PAGES + 511):
            for stream in (NESTED, STAGE2_ONLY):
                for write in (False, True):
                    self._compare(stream, page * PAGE + 8, write)

    def _compare(self, stream: int, offset: int, write: bool) -> None:
        request = Request(stream, (IOVA if stream == NESTED else GUEST) + offset, write)
        expected = uncached(self.machine, request)
        answer = self.machine.translate(request)
        if isinstance(expected, Granted):
            assert isinstance(answer, Granted)
            assert answer.output == expected.output
        else:
            assert answer == Aborted(expected.event)
        self._compare_burst(request, expected)

    def _compare_burst(self, request: Request, expected: Granted | Refusal) -> None:
        row = d.DMA_REQUEST.pack(
            iova=request.address,
            length=8,
            stream=request.stream,
            substream=d.NO_SUBSTREAM,
            kind=int(request.write),
        )
        pieces = bytearray(d.PIECES_MAX * d.DMA_PIECE.size)
        result = self.machine.smmu.transactions.burst(memoryview(row), 1, memoryview(pieces))
        assert result.pieces == isinstance(expected, Granted)
        if isinstance(expected, Granted):
            assert d.DMA_PIECE.unpack(pieces)["hpa"] == expected.output


TestCachesNeverShow = CachesNeverShow.TestCase
TestCachesNeverShow.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)

WORDS = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.sampled_from((HOST, STRTAB, CDS, TABLES, RAM, GUEST)).flatmap(
        lambda base: st.integers(0, 0xFFF).map(lambda low: base | low)
    ),
    st.sampled_from((0, 1, 3, 0b1011, 0b1101, 0b1111, 1 << 31, (1 << 64) - 1)),
)
STRUCTURES = st.lists(WORDS, min_size=8, max_size=8)
ADDRESSES = st.one_of(
    st.integers(0, (1 << 64) - 1), st.sampled_from((0, GUEST, IOVA, RAM, 1 << 48, (1 << 64) - 8))
)
REQUESTS = st.builds(
    Request, st.sampled_from((0, 1, 2, 63, 64, 0xFFFF_FFFF)), ADDRESSES, st.booleans(),
    st.none() | st.integers(0, (1 << 20) - 1), st.booleans(),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from((STRTAB, STRTAB + 64, STRTAB + 128, CDS, CDS + 64, TABLES)), STRUCTURES)
    ),
    st.integers(0, (1 << 18) - 1),
    st.lists(REQUESTS, min_size=1, max_size=4),
)
def test_hostile_structures_are_contained(
    structures: list[tuple[int, list[int]]], table_config: int, requests: list[Request]
) -> None:
    machine = Machine()
    machine.write("STRTAB_BASE_CFG", table_config)
    machine.enable(control=0b1100)
    machine.write("STRTAB_BASE_CFG", table_config)
    machine.write("CR0", 0b1101)
    for at, words in structures:
        machine.memory.write(at, b"".join(word.to_bytes(8, "little") for word in words))
    for request in requests:
        assert isinstance(machine.translate(request), Granted | Aborted | Stalled)
        machine.smmu.transactions.ats_request(request, units=3)
        machine.smmu.transactions.translated(request)
    machine.events()
    machine.sync()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), WORDS, WORDS), max_size=1 << QUEUE_BITS))
def test_hostile_commands_are_contained(commands: list[tuple[int, int, int]]) -> None:
    machine = Machine()
    machine.enable()
    machine.bypass(1)
    for opcode, low, high in commands:
        word = low & ~0xFF | opcode
        machine.memory.write(
            COMMANDS + machine.read("CMDQ_PROD") % (1 << QUEUE_BITS) * 16,
            word.to_bytes(8, "little") + high.to_bytes(8, "little"),
        )
        machine.write("CMDQ_PROD", (machine.read("CMDQ_PROD") + 1) % (2 << QUEUE_BITS))
        for asked in machine.devices.asked:
            machine.smmu.acknowledge(asked.tag)
        machine.write("CR0", 0b0101)
        machine.write("CMDQ_CONS", machine.read("CMDQ_PROD"))
        machine.write("GERRORN", machine.read("GERROR"))
        machine.write("CR0", 0b1101)

    machine.sync()
    assert isinstance(machine.translate(Request(1, 0)), Granted)


ROWS = st.lists(
    st.tuples(
        ADDRESSES, st.integers(0, 70000) | st.integers(0, 0xFFFF_FFFF), st.integers(0, 3), st.integers(0, 3)
    ),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_hostile_bursts_are_contained(rows: list[tuple[int, int, int, int]]) -> None:
    machine = Machine()
    machine.enable()
    machine.stage2(1, machine.stage2_tables().root)
    machine.bypass(2)
    requests = b"".join(
        d.DMA_REQUEST.pack(iova=at, length=length, stream=stream, substream=d.NO_SUBSTREAM, kind=kind)
        for at, length, stream, kind in rows
    )
    pieces = bytearray(64 * d.DMA_PIECE.size)
    for _ in range(2):
        done, result = 0, None
        while done < len(rows):
            rest = memoryview(requests)[done * d.DMA_REQUEST.size :]
            result = machine.smmu.transactions.burst(rest, len(rows) - done, memoryview(pieces))
            assert result.done > 0
            done += result.done
        refused = [] if result is None else [index for index, _ in result.refused]
        held = [] if result is None else range(result.pieces)
        assert all(d.DMA_PIECE.unpack(pieces, i * d.DMA_PIECE.size)["request"] not in refused for i in held)
