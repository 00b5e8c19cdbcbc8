"""The native walk says what the Python walk says, on any table whatsoever."""

from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.memory import walk
from testbed.memory.host import HostMemory
from testbed.memory.walk import Fault, Permission, Stage, Translation
from testbed.native import walk_nested
from tests.memory.walk_tables import HPA, PAGE, host_memory

PAGES = 8
TABLE_INDICES = (0, 1, 2, 511)
ATTRIBUTES = st.sampled_from((0, 1 << 10, 0b01 << 6 | 1 << 10, 0b11 << 6 | 1 << 10, 0b11 << 6 | 0b11 << 10))


def _pages(bases: tuple[int, ...]) -> st.SearchStrategy[int]:
    inside = st.sampled_from([base + i * PAGE for base in bases for i in range(PAGES)])
    return inside | st.sampled_from((0, HPA - PAGE, HPA + PAGES * PAGE, (1 << 48) - PAGE, 1 << 44))


def _descriptors(bases: tuple[int, ...]) -> st.SearchStrategy[int]:
    likely = st.builds(
        lambda page, low, attributes, high: page | low | attributes | high << 59,
        _pages(bases), st.sampled_from((0b11, 0b11, 0b11, 0b01, 0b00)), ATTRIBUTES,
        st.sampled_from((0, 0, 4, 8, 12, 31)),
    )  # fmt: skip
    return likely | st.integers(0, (1 << 64) - 1)


ADDRESSES = st.builds(
    lambda *index: (((index[0] << 9 | index[1]) << 9 | index[2]) << 9 | index[3]) << 12 | index[4],
    *[st.sampled_from(TABLE_INDICES)] * 4, st.integers(0, 4095),
)  # fmt: skip
STAGES = st.builds(
    lambda root, shape, bits, *flags: Stage(root, shape[0], shape[1], bits, flags[0], flags[1]),
    _pages((HPA, 0x4000_0000)),
    st.sampled_from(((48, 0), (48, 0), (39, 1), (42, 1), (30, 2), (25, 2))),
    st.sampled_from((48, 48, 40, 36)), st.booleans(), st.booleans(),
)  # fmt: skip
NEEDED = st.integers(0, 15).map(Permission)


@st.composite
def garbage_tables(draw: st.DrawFn) -> HostMemory:
    """Host memory whose pages hold descriptors of every sort: valid, wild, cyclic, by host and by guest
    address.
    """
    memory = host_memory(PAGES * PAGE)
    descriptors = _descriptors((HPA, HPA, 0x4000_0000))
    for page in range(PAGES):
        for index in TABLE_INDICES:
            memory.store(HPA + page * PAGE + index * 8, 8, draw(descriptors))
    return memory


def _native(
    memory: HostMemory, first: Stage | None, second: Stage | None, address: int, needed: Permission
) -> Translation | Fault:
    fault, output, permissions, block, is_global, stage1_bytes, ipa, fetch = walk_nested(
        memory.host_map, first, second, address, needed
    )
    if fault:
        return walk.fault_from_word(fault, ipa, fetch)
    return Translation(output, Permission(permissions), block, is_global, stage1_bytes)


@settings(max_examples=300, deadline=None)
@given(garbage_tables(), STAGES, STAGES, ADDRESSES, NEEDED)
def test_native_walk_equals_the_python_walk_on_garbage(
    memory: HostMemory, first: Stage, second: Stage, address: int, needed: Permission
) -> None:
    assert _native(memory, None, second, address, needed) == walk.stage2(memory, second, address, needed)
    assert _native(memory, first, None, address, needed) == walk.stage1(memory, first, address, needed)
    assert _native(memory, first, second, address, needed) == walk.nested(
        memory, first, second, address, needed
    )
