"""The stall model: a transaction waits for software, under a tag that only its own stream can use."""

import pytest

from testbed.iommu.features import Features
from testbed.iommu.stalls import Release
from testbed.iommu.transactions import Aborted, Stalled
from testbed.iommu.translate import Granted
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from tests.iommu.machine import GUEST, PAGE, QUEUE_BITS, RAM, Machine, request

HOLE = 0x1000


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.enable()
    machine.stage2(1, machine.stage2_tables().root, (s.STE_S2S, 1), (s.STE_S2R, 0))
    return machine


def _stall(machine: Machine) -> int:
    answer = machine.translate(request(HOLE))
    assert isinstance(answer, Stalled)
    return answer.ticket


def _resume(machine: Machine, tag: int, retry: bool, stream: int = 1) -> None:
    action = int(retry)
    fields = (
        (q.COMMAND_STREAM, stream),
        (q.RESUME_STAG, tag),
        (q.RESUME_ACTION, action),
        (q.RESUME_ABORT, 1),
    )
    machine.issue(q.OP_RESUME, *fields)


def test_stalled_fault_is_recorded_with_its_tag_whatever_r_says(machine: Machine) -> None:
    _stall(machine)
    _stall(machine)

    assert [(record & 0xFF, record >> 95 & 1, record >> 64 & 0xFFFF) for record in machine.events()] == [
        (0x10, 1, 0),
        (0x10, 1, 1),
    ]


def test_retry_presents_the_transaction_again(machine: Machine) -> None:
    ticket = _stall(machine)
    _resume(machine, 0, retry=True)

    assert machine.smmu.stalls.take_released() == (Release(ticket, True),)
    assert machine.smmu.stalls.take_released() == ()


def test_terminate_aborts_it_and_frees_the_tag(machine: Machine) -> None:
    ticket = _stall(machine)
    _resume(machine, 0, retry=False)
    _stall(machine)

    assert machine.smmu.stalls.take_released() == (Release(ticket, False),)
    assert [record >> 64 & 0xFFFF for record in machine.events()] == [0, 0]


@pytest.mark.parametrize(("tag", "stream"), [(1, 1), (0xFFFF, 1), (0, 2)])
def test_resume_of_something_else_has_no_effect(machine: Machine, tag: int, stream: int) -> None:
    _stall(machine)
    _resume(machine, tag, True, stream)

    assert machine.consumed()
    assert len(machine.smmu.stalls) == 1


def test_stall_term_aborts_all_of_one_stream(machine: Machine) -> None:
    machine.memory.write(0x100_0000_0080, machine.memory.read(0x100_0000_0040, 64))
    tickets = [_stall(machine), _stall(machine)]
    machine.translate(request(HOLE, 2))
    machine.issue(q.OP_STALL_TERM, (q.COMMAND_STREAM, 1))

    released = machine.smmu.stalls.take_released()

    assert released == tuple(Release(ticket, False) for ticket in tickets)
    assert len(machine.smmu.stalls) == 1


def test_stall_without_room_for_its_record_is_retried_when_there_is(machine: Machine) -> None:
    for _ in range(1 << QUEUE_BITS):
        machine.translate(request(0, 63))
    ticket = _stall(machine)
    before = machine.smmu.stalls.take_released()
    names = machine.event_names()

    assert before == ()
    assert names == ["C_BAD_STE"] * (1 << QUEUE_BITS)
    assert machine.smmu.stalls.take_released() == (Release(ticket, True),)
    assert machine.read("EVENTQ_PROD") >> 31 == 0, "a stalled transaction's record is not lost"


def test_more_stalls_than_can_be_held_are_terminated_and_recorded_as_such() -> None:
    machine = Machine(Features(stalls_max=2))
    machine.enable()
    machine.stage2(1, machine.stage2_tables().root, (s.STE_S2S, 1))
    _stall(machine)
    _stall(machine)

    assert isinstance(machine.translate(request(HOLE)), Aborted)
    assert [record >> 95 & 1 for record in machine.events()] == [1, 1, 0]


def test_disabling_translation_terminates_everything_that_waits(machine: Machine) -> None:
    ticket = _stall(machine)
    machine.write("CR0", 0b1100)

    assert machine.smmu.stalls.take_released() == (Release(ticket, False),)


def test_stage1_stalls_by_the_context(machine: Machine) -> None:
    machine.stage1(3)
    machine.context(RAM, (s.CD_S, 1))

    answer = machine.translate(request(0x1000, 3))

    assert isinstance(answer, Stalled)
    assert [record >> 103 & 1 for record in machine.events()] == [0]


def test_context_fetch_fault_stalls_by_stage2(machine: Machine) -> None:
    root = machine.stage2_tables().root
    machine.nested(3, 0x5000, root, (s.STE_S2S, 1))

    assert isinstance(machine.translate(request(0, 3)), Stalled)
    assert [(record >> 95 & 1, record >> 104 & 3) for record in machine.events()] == [(1, 0)]


def test_stall_commands_are_illegal_without_the_stall_model() -> None:
    machine = Machine(Features(stall=False))
    machine.enable()
    machine.issue(q.OP_RESUME)

    assert machine.read("CMDQ_CONS") >> 24 == s.CERROR_ILL


def test_mapped_page_does_not_stall(machine: Machine) -> None:
    assert isinstance(machine.translate(request(GUEST + PAGE)), Granted)
