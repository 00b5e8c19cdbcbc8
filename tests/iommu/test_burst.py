"""Bursts of DMA requests: native hits, misses and refusals one by one, all or nothing for each request."""

import pytest

from testbed.iommu.transactions import Aborted, BurstResult
from testbed.memory.tables import Attributes, TableBuilder
from testbed.spec import dma_request as d
from testbed.spec import smmu_queues as q
from tests.iommu.machine import GUEST, PAGE, RAM, Machine

BLOCK = 1 << 21
Row = tuple[int, int, int, int]
"""(address, length, stream, kind)"""


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.enable()
    builder = TableBuilder(machine.memory, machine.frames, 2)
    builder.map(GUEST, RAM, BLOCK)
    builder.map(GUEST + BLOCK, RAM + BLOCK, PAGE)
    builder.map(GUEST + BLOCK + PAGE, RAM + 3 * BLOCK, PAGE)
    builder.map(GUEST + BLOCK + 2 * PAGE, RAM, PAGE, Attributes(write=False))
    machine.stage2(1, builder.root)
    return machine


def _burst(machine: Machine, *rows: Row, room: int = 64) -> tuple[BurstResult, list[tuple[int, int, int]]]:
    requests = b"".join(
        d.DMA_REQUEST.pack(iova=at, length=length, stream=stream, substream=d.NO_SUBSTREAM, kind=kind)
        for at, length, stream, kind in rows
    )
    pieces = bytearray(room * d.DMA_PIECE.size)
    result = machine.smmu.transactions.burst(memoryview(requests), len(rows), memoryview(pieces))
    rows_out = [d.DMA_PIECE.unpack(pieces, i * d.DMA_PIECE.size) for i in range(result.pieces)]
    return result, [(row["hpa"], row["length"], row["request"]) for row in rows_out]


def test_misses_and_hits_give_the_same_pieces(machine: Machine) -> None:
    rows = [(GUEST + 64 * i, 60, 1, i & 1) for i in range(16)]
    cold = _burst(machine, *rows)
    warm = _burst(machine, *rows)

    assert cold == warm
    assert cold == (BurstResult(16, 16, ()), [(RAM + 64 * i, 60, i) for i in range(16)])
    assert machine.smmu.cache.table.hits >= 31


def test_request_across_leaves_comes_to_one_piece_a_leaf(machine: Machine) -> None:
    row = (GUEST + BLOCK - 8, 8 + PAGE + 100, 1, 0)
    _burst(machine, row)

    _, pieces = _burst(machine, row)

    assert pieces == [(RAM + BLOCK - 8, 8, 0), (RAM + BLOCK, PAGE, 0), (RAM + 3 * BLOCK, 100, 0)]


def test_refused_request_moves_no_byte_and_the_others_go_on(machine: Machine) -> None:
    rows = [(GUEST, 100, 1, 0), (GUEST + BLOCK + PAGE + 4000, 200, 1, d.KIND_WRITE), (GUEST + 8, 100, 1, 0)]
    for _ in range(2):
        result, pieces = _burst(machine, *rows)

        assert [(index, type(answer)) for index, answer in result.refused] == [(1, Aborted)]
        assert pieces == [(RAM, 100, 0), (RAM + 8, 100, 2)]
        assert machine.event_names() == ["F_PERMISSION"]


def test_streams_do_not_share_translations(machine: Machine) -> None:
    _burst(machine, (GUEST, 100, 1, 0))

    result, pieces = _burst(machine, (GUEST, 100, 2, 0), (GUEST, 100, 1, 0))

    assert [index for index, _ in result.refused] == [0]
    assert pieces == [(RAM, 100, 1)]


def test_burst_stops_where_the_pieces_have_no_room(machine: Machine) -> None:
    rows = [(GUEST + PAGE * i, 60, 1, 0) for i in range(40)]
    cold, _ = _burst(machine, *rows, room=d.PIECES_MAX)
    warm, pieces = _burst(machine, *rows, room=d.PIECES_MAX)

    assert cold == warm == BurstResult(d.PIECES_MAX, d.PIECES_MAX, ())
    assert len(pieces) == d.PIECES_MAX


@pytest.mark.parametrize("length", [d.LENGTH_MAX + 1, 0xFFFF_FFFF])
def test_malformed_length_is_an_unsupported_transaction(machine: Machine, length: int) -> None:
    _burst(machine, (GUEST, 100, 1, 0))

    result, pieces = _burst(machine, (GUEST, length, 1, 0))

    assert (len(result.refused), pieces) == (1, [])
    assert machine.event_names() == ["F_UUT"]


def test_longest_request_and_empty_request_pass(machine: Machine) -> None:
    result, pieces = _burst(machine, (GUEST + 8, d.LENGTH_MAX, 1, 0), (GUEST, 0, 1, 0))

    assert result == BurstResult(2, len(pieces), ())
    assert sum(length for _, length, _ in pieces) == d.LENGTH_MAX


@pytest.mark.parametrize("address", [(1 << 64) - 8, (1 << 48) - 8, (1 << 55) - 8, 0xFFFF_FFFF_FFFF_F000])
def test_address_that_overflows_is_refused(machine: Machine, address: int) -> None:
    result, pieces = _burst(machine, (address, 4096, 1, 0))

    assert (len(result.refused), pieces) == (1, [])


def test_bypass_stream_passes_its_addresses_on(machine: Machine) -> None:
    machine.bypass(3)
    rows = [(RAM + 4000, 200, 3, 0), (RAM, 5, 3, 1)]
    _burst(machine, *rows)

    _, pieces = _burst(machine, *rows)

    assert pieces == [(RAM + 4000, 200, 0), (RAM, 5, 1)]


def test_bypass_and_abort_while_disabled(machine: Machine) -> None:
    machine.write("CR0", 0b1100)
    refused, _ = _burst(machine, (RAM, 100, 1, 0))
    machine.write("GBPA", 1 << 31)
    passed, pieces = _burst(machine, (RAM, 100, 1, 0))

    assert len(refused.refused) == 1
    assert (passed.refused, pieces) == ((), [(RAM, 100, 0)])


def test_stale_translation_is_not_used_after_its_invalidation(machine: Machine) -> None:
    _burst(machine, (GUEST + BLOCK, 100, 1, 0))
    machine.stage2(1, machine.stage2_tables().root)
    machine.issue(q.OP_CFGI_STE, (q.COMMAND_STREAM, 1))
    machine.sync()

    _, pieces = _burst(machine, (GUEST + BLOCK + PAGE, 100, 1, 0))

    assert pieces == [(RAM + BLOCK + PAGE, 100, 0)]


def test_miss_is_walked_where_the_burst_is_and_counted_once(machine: Machine) -> None:
    _burst(machine, (GUEST, 100, 1, 0))  # the configuration is cached with the first
    table = machine.smmu.cache.table
    before = table.hits, table.misses

    result, pieces = _burst(machine, (GUEST + BLOCK, 100, 1, 0), (GUEST + BLOCK + 8, 100, 1, 0))

    assert (result.refused, pieces) == ((), [(RAM + BLOCK, 100, 0), (RAM + BLOCK + 8, 100, 1)])
    assert (table.hits - before[0], table.misses - before[1]) == (1, 1)
