"""Building tables: what was mapped is what a walk finds, and nothing else."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from testbed.errors import MemoryFault
from testbed.memory import walk
from testbed.memory.host import FrameAllocator, HostMemory
from testbed.memory.tables import Attributes, TableBuilder, table_frames
from testbed.memory.walk import Permission, Stage, Translation
from testbed.native import Stage2
from tests.memory.walk_tables import HPA, PAGE, host_memory

BLOCK = 1 << 21
BASE = 0x4000_0000
RAM = HPA + (1 << 30)


class Recorder:
    """Keeps what a builder asked to be invalidated."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, address: int, length_bytes: int) -> None:
        self.calls.append((address, length_bytes))


@pytest.fixture
def memory() -> HostMemory:
    return host_memory(64 * PAGE)


def _builder(memory: HostMemory, recorder: Recorder | None = None, frames: int = 64) -> TableBuilder:
    return TableBuilder(memory, FrameAllocator(memory, HPA, frames * PAGE), 2, recorder or Recorder())


def _walk(memory: HostMemory, builder: TableBuilder, address: int) -> Translation | walk.Fault:
    return walk.stage2(memory, Stage(builder.root), address)


def test_map_uses_blocks_where_both_addresses_are_aligned(memory: HostMemory) -> None:
    builder = _builder(memory)

    builder.map(BASE, RAM, 2 * BLOCK + PAGE)

    everything = Permission.READ | Permission.WRITE | Permission.PRIVILEGED_READ | Permission.PRIVILEGED_WRITE
    assert _walk(memory, builder, BASE + BLOCK + 5) == Translation(RAM + BLOCK + 5, everything, BLOCK)
    assert _walk(memory, builder, BASE + 2 * BLOCK + 5) == Translation(RAM + 2 * BLOCK + 5, everything, PAGE)


def test_map_uses_pages_where_the_output_is_not_aligned(memory: HostMemory) -> None:
    builder = _builder(memory)

    builder.map(BASE, RAM + PAGE, BLOCK)

    answer = _walk(memory, builder, BASE + 3 * PAGE)
    assert isinstance(answer, Translation)
    assert (answer.output, answer.block_bytes) == (RAM + 4 * PAGE, PAGE)


def test_stage1_leaf_is_what_a_walk_reads(memory: HostMemory) -> None:
    builder = TableBuilder(memory, FrameAllocator(memory, HPA, 64 * PAGE), 1)

    builder.map(BASE, RAM, PAGE, Attributes(write=False, unprivileged=False))

    assert walk.stage1(memory, Stage(builder.root), BASE) == Translation(
        RAM, Permission.PRIVILEGED_READ, PAGE, False
    )


@pytest.mark.parametrize("start", [BASE, BASE + PAGE, BASE + BLOCK - PAGE])
def test_map_refuses_an_overlap_and_changes_nothing(memory: HostMemory, start: int) -> None:
    builder = _builder(memory)
    builder.map(BASE, RAM, BLOCK)
    before = memory.read(HPA, 64 * PAGE)

    with pytest.raises(MemoryFault, match="already mapped at 0x40000000"):
        builder.map(start, RAM, 2 * PAGE)

    assert memory.read(HPA, 64 * PAGE) == before


@pytest.mark.parametrize(
    ("address", "length"),
    [(BASE + 1, PAGE), (BASE, PAGE - 1), (BASE, 0), (-PAGE, PAGE), ((1 << 48) - PAGE, 2 * PAGE)],
)
def test_range_must_be_whole_pages_of_the_address_space(
    memory: HostMemory, address: int, length: int
) -> None:
    builder = _builder(memory)

    with pytest.raises(MemoryFault):
        builder.map(address, RAM, length)
    with pytest.raises(MemoryFault):
        builder.unmap(address, length)


def test_unmap_inside_a_block_splits_it_break_before_make(memory: HostMemory) -> None:
    recorder = Recorder()
    builder = _builder(memory, recorder)
    builder.map(BASE, RAM, BLOCK)

    builder.unmap(BASE + 4 * PAGE, PAGE)

    assert recorder.calls == [(BASE, BLOCK), (BASE + 4 * PAGE, PAGE)]
    assert isinstance(_walk(memory, builder, BASE + 4 * PAGE), walk.Fault)
    assert builder.lookup(BASE + 5 * PAGE + 1) == RAM + 5 * PAGE + 1


def test_unmap_of_everything_gives_all_tables_back_but_the_root(memory: HostMemory) -> None:
    frames = FrameAllocator(memory, HPA, 64 * PAGE)
    builder = TableBuilder(memory, frames)
    builder.map(BASE - PAGE, RAM - PAGE, BLOCK)

    builder.unmap(BASE - PAGE, BLOCK)

    assert frames.used == 1
    assert not any(memory.read(builder.root, PAGE))


def test_protect_is_break_before_make(memory: HostMemory) -> None:
    recorder = Recorder()
    builder = _builder(memory, recorder)
    builder.map(BASE, RAM, 2 * BLOCK)

    builder.protect(BASE + BLOCK, BLOCK, Attributes(write=False))

    stage2 = Stage2(memory.host_map, builder.root)
    assert recorder.calls == [(BASE + BLOCK, BLOCK)]
    assert stage2.translate(BASE + BLOCK, False) == RAM + BLOCK
    assert stage2.translate(BASE + BLOCK, True) < 0
    assert stage2.translate(BASE, True) == RAM


def test_frames_that_run_out_are_a_fault(memory: HostMemory) -> None:
    builder = _builder(memory, frames=2)

    with pytest.raises(MemoryFault, match="no frame left"):
        builder.map(BASE, RAM, PAGE)


@pytest.mark.parametrize(
    "ranges",
    [
        [(BASE, RAM, 64 * BLOCK)],
        [(BASE, RAM + PAGE, 3 * BLOCK)],
        [(BASE + PAGE, RAM + PAGE, 2 * BLOCK)],
        [(BASE, RAM, BLOCK), (0x0A00_0000, RAM, PAGE), (1 << 39, RAM, PAGE)],
        [((1 << 30) - PAGE, RAM - PAGE, 2 * PAGE)],
    ],
)
def test_table_frames_is_enough(memory: HostMemory, ranges: list[tuple[int, int, int]]) -> None:
    frames = FrameAllocator(memory, HPA, table_frames(*ranges) * PAGE)
    builder = TableBuilder(memory, frames)

    for address, output, length in ranges:
        builder.map(address, output, length)

    assert frames.used <= table_frames(*ranges) <= frames.used + 4


PAGES = st.integers(0, 1535)
LENGTHS = st.sampled_from((1, 2, 7, 512, 513, 1024))
SHIFTS = st.sampled_from((0, 0, PAGE, -PAGE))


class Mappings(RuleBasedStateMachine):
    """Random maps, unmaps and permission changes against a dict of pages."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = host_memory(64 * PAGE)
        self.frames = FrameAllocator(self.memory, HPA, 64 * PAGE)
        self.builder = TableBuilder(self.memory, self.frames)
        self.stage2 = Stage2(self.memory.host_map, self.builder.root)
        self.oracle: dict[int, tuple[int, bool]] = {}

    @rule(first=PAGES, length=LENGTHS, shift=SHIFTS, write=st.booleans())
    def map(self, first: int, length: int, shift: int, write: bool) -> None:
        output = RAM + first * PAGE + shift
        pages = range(first, first + length)
        if any(page in self.oracle for page in pages):
            with pytest.raises(MemoryFault):
                self.builder.map(BASE + first * PAGE, output, length * PAGE)
            return
        self.builder.map(BASE + first * PAGE, output, length * PAGE, Attributes(write=write))
        self.oracle.update((page, (output + i * PAGE, write)) for i, page in enumerate(pages))

    @rule(first=PAGES, length=LENGTHS)
    def unmap(self, first: int, length: int) -> None:
        self.builder.unmap(BASE + first * PAGE, length * PAGE)
        for page in range(first, first + length):
            self.oracle.pop(page, None)

    @precondition(lambda self: self.oracle)
    @rule(first=PAGES, length=LENGTHS, write=st.booleans())
    def protect(self, first: int, length: int, write: bool) -> None:
        self.builder.protect(BASE + first * PAGE, length * PAGE, Attributes(write=write))
        for page in range(first, first + length):
            if page in self.oracle:
                self.oracle[page] = (self.oracle[page][0], write)

    @invariant()
    def walk_finds_exactly_what_was_mapped(self) -> None:
        for page, found in self._found():
            assert found == self.oracle.get(page), page

    def _found(self) -> Iterator[tuple[int, tuple[int, bool] | None]]:
        for page in range(2560):
            fault, output, permissions, _ = self.stage2.walk(BASE + page * PAGE)
            yield page, None if fault else (output, bool(permissions & Permission.WRITE))

    def teardown(self) -> None:
        self.builder.unmap(BASE, 2560 * PAGE)
        assert self.frames.used == 1


TestMappings = Mappings.TestCase
TestMappings.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
