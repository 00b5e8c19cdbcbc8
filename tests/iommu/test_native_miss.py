"""A miss that is walked natively gives and caches what the Python model says, on any table whatsoever."""

from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.iommu.events import Request
from testbed.iommu.iotlb import FOLDED_LAST, TranslationCache
from testbed.iommu.stream_table import Configuration, Context, StreamEntry
from testbed.iommu.translate import Granted, translate
from testbed.memory.host import HostMemory
from testbed.memory.walk import Permission, Stage
from testbed.native import Pinned
from testbed.spec import dma_request as d
from testbed.spec import smmu as s
from tests.iommu.test_properties import python_walk
from tests.memory.test_native_walk import ADDRESSES, STAGES, garbage_tables

NEEDED = (
    Permission.READ,
    Permission.WRITE,
    Permission.PRIVILEGED_READ,
    Permission.PRIVILEGED_WRITE,
)
INPUTS = st.builds(
    lambda address, top: address | top, ADDRESSES, st.sampled_from((0, 0, 0xFFFF << 48, 1 << 55, 0xAB << 56))
)
"""Of the lower half, of the upper, and of neither but for an ignored top byte."""


def configuration(
    first: tuple[Stage | None, Stage | None] | None, second: Stage | None, ignored: tuple[bool, bool]
) -> Configuration:
    """Return what a stream comes to."""
    config = s.CONFIG_PASSES | s.CONFIG_HAS_STAGE1 * (first is not None)
    entry = StreamEntry(
        config=config | s.CONFIG_HAS_STAGE2 * (second is not None), s1fmt=0, context_pointer=0, cd_bits=0,
        default_substream=0, stall_disabled=False, eats=0, vmid=3, stage2=second, s2_record=True,
        s2_stall=False,
    )  # fmt: skip
    context = None if first is None else Context(*first, ignored, asid=5, record=True, stall=False)
    return Configuration(entry, context)


CONFIGURATIONS = st.one_of(
    st.builds(configuration, st.none(), STAGES, st.just((False, False))),
    st.builds(
        configuration,
        st.tuples(st.none() | STAGES, st.none() | STAGES),
        st.none() | STAGES,
        st.tuples(st.booleans(), st.booleans()),
    ),
)


def _native(cache: TranslationCache, request: Request) -> int | None:
    """Return where a burst of one byte ends, None where Python is to decide."""
    row = d.DMA_REQUEST.pack(
        iova=request.address, length=1, stream=request.stream, substream=d.NO_SUBSTREAM,
        kind=int(request.write), flags=d.FLAG_PRIVILEGED * request.privileged,
    )  # fmt: skip
    pieces = bytearray(d.PIECES_MAX * d.DMA_PIECE.size)
    done, _, _ = cache.translate(Pinned(row, False), 0, 1, Pinned(pieces), 0)
    return d.DMA_PIECE.unpack(pieces)["hpa"] if done else None


@settings(max_examples=300, deadline=None)
@given(garbage_tables(), CONFIGURATIONS, INPUTS, st.booleans(), st.booleans())
def test_native_miss_equals_the_model(
    memory: HostMemory, made: Configuration, address: int, write: bool, privileged: bool
) -> None:
    request = Request(1, address, write, None, privileged)
    native, model = TranslationCache(), TranslationCache()
    native.walk_in(memory)
    for cache in (native, model):
        cache.add(request, made)

    expected = translate(made, request, python_walk(memory), 48)

    reached = _native(native, request)
    if reached is None:  # refused, or an address whose top byte is ignored: Python decides and says why
        assert not isinstance(expected, Granted) or address >> 48 not in (0, 0xFFFF)
        assert len(native.table) == 0
        return
    assert isinstance(expected, Granted)
    assert reached == expected.output
    model.fill(request, made, expected)
    _assert_alike(native, model, made, address)


def _assert_alike(
    native: TranslationCache, model: TranslationCache, made: Configuration, address: int
) -> None:
    """What is cached answers alike, and the same invalidations find it."""
    near = [Request(1, (address ^ bit) % (1 << 64)) for bit in (0, 1 << 12, 1 << 21, 1 << 30)]
    for request in near:
        for needed in NEEDED:
            assert native.lookup(request, made, needed) == model.lookup(request, made, needed)
    for asid, stage1, stage2 in ((5, True, False), (None, False, True), (5, False, False)):
        scopes = (3, asid, False, 0, FOLDED_LAST, stage1, stage2)
        assert native.table.invalidate(*scopes) == model.table.invalidate(*scopes)
    assert len(native.table) == len(model.table)
