"""ATS: translation requests, invalidations with acknowledgement, transactions that claim to be translated."""

from collections.abc import Callable

import pytest

from testbed.iommu.ats import INVALIDATE_TIMEOUT_NS, AtsCompletion, AtsEntry, AtsInvalidation, AtsStatus
from testbed.iommu.events import Request
from testbed.iommu.features import Features
from testbed.iommu.transactions import Aborted
from testbed.iommu.translate import Granted
from testbed.memory.guest import GuestMemory
from testbed.memory.host import FrameAllocator
from testbed.memory.tables import Attributes, TableBuilder
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from tests.iommu.machine import GUEST, PAGE, RAM, RAM_BYTES, Machine, request

BLOCK = 1 << 21
NO_ACCESS = AtsCompletion(AtsStatus.SUCCESS, (AtsEntry(0, PAGE, False, False),))
UNSUPPORTED = AtsCompletion(AtsStatus.UNSUPPORTED_REQUEST)
COMPLETER_ABORT = AtsCompletion(AtsStatus.COMPLETER_ABORT)


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.enable()
    builder = TableBuilder(machine.memory, machine.frames, 2)
    builder.map(GUEST, RAM, BLOCK)
    builder.map(GUEST + BLOCK, RAM + BLOCK + PAGE, 2 * PAGE)
    builder.map(GUEST + BLOCK + 2 * PAGE, RAM, PAGE, Attributes(write=False))
    machine.stage2(1, builder.root, (s.STE_EATS, s.EATS_FULL))
    return machine


def _ask(
    machine: Machine, address: int, units: int = 1, write: bool = True, stream: int = 1
) -> AtsCompletion:
    return machine.smmu.transactions.ats_request(Request(stream, address, write), units)


def test_request_is_answered_with_the_whole_block(machine: Machine) -> None:
    assert _ask(machine, GUEST + 0x3008) == AtsCompletion(
        AtsStatus.SUCCESS, (AtsEntry(RAM, BLOCK, True, True),)
    )


def test_write_is_granted_only_where_asked_for_and_permitted(machine: Machine) -> None:
    [read_only_wish] = _ask(machine, GUEST, write=False).entries
    [read_only_page] = _ask(machine, GUEST + BLOCK + 2 * PAGE).entries

    assert (read_only_wish.read, read_only_wish.write) == (True, False)
    assert read_only_page == AtsEntry(RAM, PAGE, True, False)


def test_several_units_end_with_the_first_page_without_access(machine: Machine) -> None:
    entries = _ask(machine, GUEST + BLOCK, units=9).entries

    assert [(entry.output, entry.read) for entry in entries] == [
        (RAM + BLOCK + PAGE, True),
        (RAM + BLOCK + 2 * PAGE, True),
        (RAM, True),
        (0, False),
    ]


def test_number_of_entries_is_bounded(machine: Machine) -> None:
    builder = TableBuilder(machine.memory, machine.frames, 2)
    builder.map(GUEST, RAM + PAGE, RAM_BYTES - PAGE)
    machine.stage2(2, builder.root, (s.STE_EATS, s.EATS_FULL))

    assert len(_ask(machine, GUEST, units=1 << 20, stream=2).entries) == 32


def test_fault_of_a_page_is_no_access_and_no_event(machine: Machine) -> None:
    assert _ask(machine, 0x1000) == NO_ACCESS
    assert _ask(machine, 1 << 50) == NO_ACCESS
    assert machine.events() == []


def test_stalls_do_not_touch_ats(machine: Machine) -> None:
    machine.stage1(2, 0x100_0000_8000, (s.STE_EATS, s.EATS_FULL))
    machine.context(RAM, (s.CD_S, 1))

    assert _ask(machine, 0x1000, stream=2) == NO_ACCESS
    assert len(machine.smmu.stalls) == 0


@pytest.mark.parametrize(
    ("prepare", "answer", "names"),
    [
        (lambda m: m.write("CR0", 0b1100), UNSUPPORTED, ["F_BAD_ATS_TREQ"]),
        (lambda m: m.bypass(1), UNSUPPORTED, ["F_BAD_ATS_TREQ"]),
        (lambda m: m.stage2(1, m.stage2_tables().root), UNSUPPORTED, ["F_BAD_ATS_TREQ"]),
        (lambda m: m.structure(0x100_0000_0040, (s.STE_V, 1)), UNSUPPORTED, []),
        (lambda m: m.structure(0x100_0000_0040), COMPLETER_ABORT, []),
        (lambda m: m.stage2(1, 0x9_0000_0000, (s.STE_EATS, 1)), COMPLETER_ABORT, []),
        (lambda m: m.stage1(1, 0x5000, (s.STE_EATS, 1)), COMPLETER_ABORT, []),
    ],
)
def test_other_answers(
    machine: Machine, prepare: Callable[[Machine], None], answer: AtsCompletion, names: list[str]
) -> None:
    prepare(machine)

    assert _ask(machine, GUEST) == answer
    assert machine.event_names() == names


@pytest.mark.parametrize(
    ("control", "names"), [(0b1010, ["C_BAD_STREAMID", "C_BAD_STE"]), (0b1000, ["C_BAD_STE"])]
)
def test_configuration_errors_are_recorded_with_rec_cfg_ats(
    machine: Machine, control: int, names: list[str]
) -> None:
    machine.write("CR2", control)
    _ask(machine, GUEST, stream=99)
    _ask(machine, GUEST, stream=5)

    assert machine.event_names() == names


def test_nested_request_is_translated_by_both_stages(machine: Machine) -> None:
    stage2 = machine.stage2_tables()
    guest = GuestMemory(machine.memory, stage2.root)
    stage1 = TableBuilder(guest, FrameAllocator(guest, GUEST + 0x10_0000, 16 * PAGE), 1)
    stage1.map(0x7000_0000_0000, GUEST + 0x5000, PAGE)
    machine.nested(2, GUEST, stage2.root, (s.STE_EATS, s.EATS_FULL))
    machine.context(stage1.root, at=RAM)

    assert _ask(machine, 0x7000_0000_0000, stream=2).entries == (AtsEntry(RAM + 0x5000, PAGE, True, True),)


def _invalidate(machine: Machine, address: int = GUEST, size: int = 0) -> None:
    machine.issue(q.OP_ATC_INV, (q.COMMAND_STREAM, 1), (q.ATC_ADDRESS, address >> 12), (q.ATC_SIZE, size))


def test_sync_waits_until_the_device_has_acknowledged(machine: Machine) -> None:
    _invalidate(machine)
    machine.issue(q.OP_SYNC, (q.SYNC_CS, q.SYNC_IRQ))
    waiting = machine.consumed()
    [asked] = machine.devices.asked
    machine.smmu.acknowledge(asked.tag)

    assert not waiting
    assert machine.consumed()
    assert machine.sync_wire.pulses == 1


def test_sync_waits_for_every_invalidation_before_it(machine: Machine) -> None:
    _invalidate(machine)
    _invalidate(machine, GUEST + PAGE)
    machine.issue(q.OP_SYNC)
    first, second = machine.devices.asked
    machine.smmu.acknowledge(second.tag)
    between = machine.consumed()
    machine.smmu.acknowledge(first.tag)

    assert not between
    assert machine.consumed()


def test_invalidation_says_what_the_command_says(machine: Machine) -> None:
    fields = (
        (q.COMMAND_STREAM, 1), (q.COMMAND_SSV, 1), (q.COMMAND_SUBSTREAM, 5), (q.ATC_GLOBAL, 1),
        (q.ATC_ADDRESS, 0x1235), (q.ATC_SIZE, 2),
    )  # fmt: skip
    machine.issue(q.OP_ATC_INV, *fields)
    machine.issue(
        q.OP_ATC_INV, (q.COMMAND_STREAM, 1), (q.ATC_GLOBAL, 1), (q.ATC_ADDRESS, 5), (q.ATC_SIZE, 52)
    )

    assert machine.devices.asked == [
        AtsInvalidation(1, 1, 5, 0x123_4000, 4 * PAGE, True),
        AtsInvalidation(2, 1, None, 0, 1 << 64, False),
    ]


def test_device_that_is_not_there_holds_nobody_up(machine: Machine) -> None:
    machine.devices.present = False
    _invalidate(machine)

    machine.sync()


def test_device_that_never_answers_makes_the_next_sync_fail(machine: Machine) -> None:
    _invalidate(machine)
    machine.issue(q.OP_SYNC)
    machine.now_ns = INVALIDATE_TIMEOUT_NS
    machine.smmu.poll()

    assert machine.read("CMDQ_CONS") == s.CERROR_ATC_INV_SYNC << 24 | 1
    assert machine.read("GERROR") == 1
    machine.write("GERRORN", 1)
    assert machine.consumed()


def test_device_that_dies_holds_nobody_up(machine: Machine) -> None:
    _invalidate(machine)
    machine.issue(q.OP_SYNC)
    machine.smmu.forget_device(1)

    assert machine.consumed()


@pytest.mark.parametrize("tag", [0, 2, 10**9, -1])
def test_acknowledgement_of_something_else_is_ignored(machine: Machine, tag: int) -> None:
    _invalidate(machine)
    machine.issue(q.OP_SYNC)
    machine.smmu.acknowledge(tag)

    assert not machine.consumed()


def test_invalidation_is_ignored_while_disabled_and_illegal_without_ats(machine: Machine) -> None:
    machine.write("CR0", 0b1100)
    _invalidate(machine)
    without = Machine(Features(ats=False))
    without.enable()
    _invalidate(without)

    assert machine.consumed()
    assert machine.devices.asked == []
    assert without.read("CMDQ_CONS") >> 24 == s.CERROR_ILL


def _translated(machine: Machine, address: int = RAM, stream: int = 1) -> Granted | Aborted:
    return machine.smmu.transactions.translated(request(address, stream))


def test_translated_transaction_passes_unchecked_without_atschk(machine: Machine) -> None:
    assert isinstance(_translated(machine, stream=99), Granted)
    assert isinstance(_translated(machine, 1 << 48), Aborted)


def test_translated_transaction_is_forbidden_while_disabled(machine: Machine) -> None:
    machine.write("CR0", 0b1100)
    _translated(machine)

    assert machine.event_names() == ["F_TRANSL_FORBIDDEN"]


@pytest.mark.parametrize(
    ("prepare", "passes", "names"),
    [
        (lambda _: None, True, []),
        (lambda m: m.bypass(1), False, ["F_TRANSL_FORBIDDEN"]),
        (lambda m: m.stage2(1, m.stage2_tables().root), False, ["F_TRANSL_FORBIDDEN"]),
        (lambda m: m.structure(0x100_0000_0040, (s.STE_V, 1)), False, []),
        (lambda m: m.structure(0x100_0000_0040), False, []),
    ],
)
def test_atschk_checks_translated_transactions(
    machine: Machine, prepare: Callable[[Machine], None], passes: bool, names: list[str]
) -> None:
    machine.write("CR0", 0b11101)
    prepare(machine)

    assert isinstance(_translated(machine), Granted) == passes
    assert machine.event_names() == names
