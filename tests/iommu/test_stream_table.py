"""From StreamID and SubstreamID to a configuration, and every way in which that is refused."""

import pytest

from testbed.iommu.transactions import Aborted
from testbed.iommu.translate import Granted
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from testbed.spec.layout import Bits
from tests.iommu.machine import CDS, GUEST, HOST, RAM, STRTAB, Machine, request

CD_IPA = GUEST + 0x10_0000
CD_HPA = RAM + 0x10_0000


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.enable()
    return machine


def _passes(machine: Machine, stream: int = 1, substream: int | None = None, address: int = GUEST) -> bool:
    return isinstance(machine.translate(request(address, stream, substream=substream)), Granted)


def test_linear_table_is_indexed_by_stream(machine: Machine) -> None:
    machine.bypass(5)

    assert _passes(machine, 5)


@pytest.mark.parametrize("stream", [64, 0xFFFF, 0xFFFF_FFFF])
def test_stream_outside_the_table_is_bad(machine: Machine, stream: int) -> None:
    assert not _passes(machine, stream)
    assert machine.event_names() == ["C_BAD_STREAMID"]


def test_bad_stream_is_recorded_only_with_recinvsid(machine: Machine) -> None:
    machine.write("CR2", 0)
    machine.translate(request(0, 64))

    assert machine.events() == []
    assert machine.smmu.transactions.faults == {"C_BAD_STREAMID": 1}


def _two_level(span: int, l2_pointer: int) -> Machine:
    machine = Machine()
    machine.memory.store(STRTAB + 2 * 8, 8, l2_pointer | span)
    machine.enable(log2size=10, split=6, two_level=True)
    return machine


def test_two_level_table_splits_the_stream() -> None:
    machine = _two_level(7, HOST + 0x2000)
    machine.structure(HOST + 0x2000 + 3 * 64, (s.STE_V, 1), (s.STE_CONFIG, s.CONFIG_BYPASS))

    assert _passes(machine, 2 * 64 + 3)


@pytest.mark.parametrize(("span", "index"), [(0, 0), (12, 0), (31, 0), (8, 0), (3, 4), (1, 1)])
def test_two_level_table_refuses_spans_and_indexes_outside(span: int, index: int) -> None:
    machine = _two_level(span, HOST + 0x2000)

    assert not _passes(machine, 2 * 64 + index)
    assert machine.event_names() == ["C_BAD_STREAMID"]


def test_entry_that_cannot_be_fetched_carries_its_address() -> None:
    machine = _two_level(7, HOST + 0x80_0000_0000)
    machine.translate(request(0, 2 * 64 + 1))

    [record] = machine.events()
    assert record & 0xFF == 0x03
    assert record >> 195 << 3 == HOST + 0x80_0000_0040


def test_table_that_is_not_in_memory_is_a_fetch_fault() -> None:
    machine = Machine()
    machine.enable(control=0b1100)
    machine.write("STRTAB_BASE", 0)
    machine.write("CR0", 0b1101)

    assert not _passes(machine)
    assert machine.event_names() == ["F_STE_FETCH"]


def test_invalid_entry_is_recorded(machine: Machine) -> None:
    assert not _passes(machine)
    assert machine.event_names() == ["C_BAD_STE"]


@pytest.mark.parametrize("config", [0, 1, 2, 3])
def test_abort_stream_is_silent(machine: Machine, config: int) -> None:
    machine.structure(STRTAB + 64, (s.STE_V, 1), (s.STE_CONFIG, config))

    assert machine.translate(request(0)) == Aborted(None)
    assert machine.events() == []


ILLEGAL_STAGE2 = [
    ("S2AA64", s.STE_S2AA64, 0),
    ("S2TG 64 KiB", s.STE_S2TG, 1),
    ("S2TG reserved", s.STE_S2TG, 3),
    ("S2T0SZ too small", s.STE_S2T0SZ, 15),
    ("S2T0SZ too great", s.STE_S2T0SZ, 40),
    ("S2SL0 reserved", s.STE_S2SL0, 3),
    ("S2SL0 inconsistent", s.STE_S2SL0, 0),
    ("S2ENDI", s.STE_S2ENDI, 1),
    ("S2HA", s.STE_S2HA, 1),
    ("S2HD", s.STE_S2HD, 1),
    ("S2TTB outside S2PS", s.STE_S2PS, 0),
    ("EATS split", s.STE_EATS, 2),
]


@pytest.mark.parametrize(("_what", "field", "value"), ILLEGAL_STAGE2)
def test_illegal_stage2_entry(machine: Machine, _what: str, field: Bits, value: int) -> None:
    machine.stage2(1, machine.stage2_tables().root)
    image = int.from_bytes(machine.memory.read(STRTAB + 64, 64), "little")
    machine.memory.write(STRTAB + 64, field.put(value, image).to_bytes(64, "little"))

    assert not _passes(machine)
    assert machine.event_names() == ["C_BAD_STE"]


def test_full_ats_cannot_go_with_stage2_stalls(machine: Machine) -> None:
    machine.stage2(1, machine.stage2_tables().root, (s.STE_EATS, 1), (s.STE_S2S, 1))

    assert not _passes(machine)
    assert machine.event_names() == ["C_BAD_STE"]


@pytest.mark.parametrize("field", [(s.STE_S1CDMAX, 17), (s.STE_S1CONTEXTPTR, 1 << 43)])
def test_illegal_stage1_entry(machine: Machine, field: tuple[Bits, int]) -> None:
    machine.stage1(1, CDS)
    image = int.from_bytes(machine.memory.read(STRTAB + 64, 64), "little")
    machine.memory.write(STRTAB + 64, field[0].put(field[1], image).to_bytes(64, "little"))

    assert not _passes(machine)
    assert machine.event_names() == ["C_BAD_STE"]


ILLEGAL_CD = [
    ("V", s.CD_V, 0),
    ("AA64", s.CD_AA64, 0),
    ("A with TERM_MODEL", s.CD_A, 0),
    ("HA", s.CD_HA, 1),
    ("HD", s.CD_HD, 1),
    ("ENDI", s.CD_ENDI, 1),
    ("T0SZ too small", s.CD_T0SZ, 15),
    ("T0SZ too great", s.CD_T0SZ, 40),
    ("TG0", s.CD_TG0, 1),
    ("EPD1 0 with TG1 0", s.CD_EPD1, 0),
    ("TTB0 outside IPS", s.CD_IPS, 0),
]


@pytest.mark.parametrize(("_what", "field", "value"), ILLEGAL_CD)
def test_illegal_context(machine: Machine, _what: str, field: Bits, value: int) -> None:
    machine.stage1(1)
    machine.context(HOST)
    image = int.from_bytes(machine.memory.read(CDS, 64), "little")
    machine.memory.write(CDS, field.put(value, image).to_bytes(64, "little"))

    assert not _passes(machine)
    assert machine.event_names() == ["C_BAD_CD"]


def test_stalling_context_is_illegal_where_the_stream_disables_stalls(machine: Machine) -> None:
    machine.stage1(1, CDS, (s.STE_S1STALLD, 1))
    machine.context(HOST, (s.CD_S, 1))

    assert not _passes(machine)
    assert machine.event_names() == ["C_BAD_CD"]


def test_context_that_cannot_be_fetched(machine: Machine) -> None:
    machine.stage1(1, 0x5000_0000)
    machine.translate(request(0))

    [record] = machine.events()
    assert record & 0xFF == 0x09
    assert record >> 195 << 3 == 0x5000_0000


def test_substream_needs_stage1(machine: Machine) -> None:
    machine.bypass(1)

    assert not _passes(machine, substream=3)
    [record] = machine.events()
    assert (record & 0xFF, record >> 12 & 0xFFFFF) == (0x08, 3)


@pytest.mark.parametrize(
    ("dss", "substream", "name"),
    [
        (0, None, "F_STREAM_DISABLED"),
        (3, None, "F_STREAM_DISABLED"),
        (2, 0, "F_STREAM_DISABLED"),
        (0, 8, "C_BAD_SUBSTREAMID"),
        (0, 5, "C_BAD_CD"),
        (2, None, "C_BAD_CD"),
    ],
)
def test_substream_rules(machine: Machine, dss: int, substream: int | None, name: str) -> None:
    machine.stage1(1, CDS, (s.STE_S1CDMAX, 3), (s.STE_S1DSS, dss))

    assert not _passes(machine, substream=substream)
    assert machine.event_names() == [name]


def test_default_substream_may_bypass_stage1(machine: Machine) -> None:
    machine.stage1(1, CDS, (s.STE_S1CDMAX, 3), (s.STE_S1DSS, s.S1DSS_BYPASS))

    answer = machine.translate(request(0x1234_5678))
    assert isinstance(answer, Granted)
    assert answer.output == 0x1234_5678


def test_substream_without_substreams_enabled_is_bad(machine: Machine) -> None:
    machine.stage1(1)
    machine.context(HOST)

    assert not _passes(machine, substream=0)
    assert machine.event_names() == ["C_BAD_SUBSTREAMID"]


@pytest.mark.parametrize(("fmt", "leaf_bits"), [(1, 6), (2, 10)])
def test_two_level_contexts(machine: Machine, fmt: int, leaf_bits: int) -> None:
    builder = machine.stage2_tables()
    leaf = RAM + 0x10_0000
    machine.stage1(1, CDS, (s.STE_S1CDMAX, 12), (s.STE_S1FMT, fmt))
    machine.memory.store(CDS + 8, 8, leaf | 1)
    machine.context(builder.root, at=leaf + 3 * 64)
    good = (1 << leaf_bits) + 3

    # Stage-1 walks of stage-2 shaped tables: S2AP 11 reads as AP 11, read-only for everyone
    assert _passes(machine, substream=good)
    assert not _passes(machine, substream=3)
    assert machine.event_names() == ["C_BAD_SUBSTREAMID"]


def test_level1_context_outside_the_address_size_is_a_bad_substream(machine: Machine) -> None:
    machine.stage1(1, CDS, (s.STE_S1CDMAX, 12), (s.STE_S1FMT, 1), (s.STE_S1DSS, 2))
    machine.memory.store(CDS, 8, 1 << 55 | 1)
    machine.translate(request(0))

    [record] = machine.events()
    assert (record & 0xFF, record >> 11 & 1, record >> 12 & 0xFFFFF) == (0x08, 0, 0)


def test_nested_context_is_fetched_through_stage2(machine: Machine) -> None:
    builder = machine.stage2_tables()
    machine.nested(1, CD_IPA, builder.root)
    machine.structure(CD_HPA, (s.CD_V, 0))

    assert not _passes(machine)
    assert machine.event_names() == ["C_BAD_CD"]


def test_nested_context_that_stage2_does_not_map_is_a_fault_of_class_cd(machine: Machine) -> None:
    machine.nested(1, 0x9000_0040, machine.stage2_tables().root)
    machine.translate(request(0x77_7000))

    [record] = machine.events()
    assert record & 0xFF == 0x10
    assert (record >> 103 & 1, record >> 104 & 3) == (1, 0b00)
    assert record >> 204 << 12 == 0x9000_0000
    assert record >> 128 & (1 << 64) - 1 == 0x77_7000


def test_configuration_is_cached_until_it_is_invalidated(machine: Machine) -> None:
    machine.bypass(1)
    assert _passes(machine)
    machine.structure(STRTAB + 64, (s.STE_V, 0))

    assert _passes(machine)
    machine.issue(q.OP_CFGI_STE, (q.COMMAND_STREAM, 1))
    assert not _passes(machine)
