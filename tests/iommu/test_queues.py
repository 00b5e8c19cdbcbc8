"""The command and event queues: errors, wrapping, overflow, and drivers that write nonsense into the index
registers.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.iommu.queues import Ring
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from tests.iommu.machine import COMMANDS, QUEUE_BITS, Machine, request


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.enable()
    return machine


def _fault(machine: Machine, times: int = 1) -> None:
    for _ in range(times):
        machine.translate(request(0x5000, stream=63))


def test_commands_wrap_around(machine: Machine) -> None:
    for _ in range(5 << QUEUE_BITS):
        machine.sync()

    assert machine.read("CMDQ_CONS") == (5 << QUEUE_BITS) % (2 << QUEUE_BITS)


@pytest.mark.parametrize(
    "opcode",
    [0x00, 0x07, 0x08, 0x14, 0x18, 0x1A, 0x20, 0x21, 0x22, 0x23, 0x29, 0x41, 0x42, 0x47, 0x50, 0x60, 0x70,
     0x80, 0xFF],
)  # fmt: skip
def test_reserved_or_unsupported_opcode_stops_the_queue(machine: Machine, opcode: int) -> None:
    machine.issue(opcode)
    machine.issue(q.OP_SYNC)

    assert machine.read("CMDQ_CONS") == s.CERROR_ILL << 24
    assert machine.read("GERROR") & 1 == 1
    assert machine.error_wire.pulses == 1


@pytest.mark.parametrize(
    ("opcode", "bits"),
    [
        (q.OP_CFGI_STE, [(q.COMMAND_SSEC, 1)]),
        (q.OP_RESUME, [(q.COMMAND_SSEC, 1)]),
        (q.OP_SYNC, [(q.SYNC_CS, 3)]),
        (q.OP_TLBI_NH_VA, [(q.TLBI_TG, 1)]),
        (q.OP_TLBI_NH_VAA, [(q.TLBI_TG, 2)]),
        (q.OP_TLBI_S2_IPA, [(q.TLBI_TG, 1)]),
    ],
)
def test_illegal_parameters_stop_the_queue(
    machine: Machine, opcode: int, bits: list[tuple[object, int]]
) -> None:
    machine.issue(opcode, *bits)  # type: ignore[arg-type]

    assert machine.read("CMDQ_CONS") >> 24 == s.CERROR_ILL


def test_queue_goes_on_after_the_error_is_mended_and_acknowledged(machine: Machine) -> None:
    machine.issue(0)
    machine.memory.write(COMMANDS, q.COMMAND_OPCODE.put(q.OP_SYNC).to_bytes(16, "little"))
    machine.write("CMDQ_PROD", 1)
    stopped = machine.consumed()
    machine.write("GERRORN", machine.read("GERROR"))

    assert not stopped
    assert machine.consumed()


def test_queue_that_is_not_in_memory_is_an_abort(machine: Machine) -> None:
    machine.write("CR0", 0b0101)
    machine.write("CMDQ_BASE", 0)
    machine.write("CR0", 0b1101)
    machine.write("CMDQ_PROD", 1)

    assert machine.read("CMDQ_CONS") == s.CERROR_ABT << 24


def test_disabled_queue_consumes_nothing() -> None:
    machine = Machine()
    machine.enable(control=0b0101)
    machine.issue(q.OP_SYNC)

    assert not machine.consumed()
    machine.write("CR0", 0b1101)
    assert machine.consumed()


def test_sync_raises_its_interrupt_only_when_asked(machine: Machine) -> None:
    machine.issue(q.OP_SYNC)
    machine.issue(q.OP_SYNC, (q.SYNC_CS, q.SYNC_SEV))
    machine.issue(q.OP_SYNC, (q.SYNC_CS, q.SYNC_IRQ))

    assert machine.sync_wire.pulses == 1


QUEUE_REGISTERS = (
    "CMDQ_PROD", "CMDQ_CONS", "CMDQ_BASE", "EVENTQ_CONS", "EVENTQ_PROD", "EVENTQ_BASE", "CR0", "GERRORN",
)  # fmt: skip
WRITES = st.lists(st.tuples(st.sampled_from(QUEUE_REGISTERS), st.integers(0, (1 << 64) - 1)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(WRITES)
def test_nonsense_in_queue_registers_is_contained(writes: list[tuple[str, int]]) -> None:
    machine = Machine()
    machine.enable()
    for name, value in writes:
        machine.write(name, value % (1 << 8 * s.SMMU[name].size))
        _fault(machine)
        for _ in range(4):
            machine.smmu.poll()

    machine.write("CR0", 0)
    machine.write("GERRORN", machine.read("GERROR"))
    for name in ("CMDQ_PROD", "CMDQ_CONS", "EVENTQ_PROD", "EVENTQ_CONS"):
        machine.write(name, 0)
    machine.enable()
    _fault(machine)
    machine.sync()
    assert machine.event_names() == ["C_BAD_STE"]


def test_one_register_write_executes_a_bounded_number_of_commands() -> None:
    machine = Machine()
    machine.write("CMDQ_BASE", 0x100_4000_0000 | 16)
    sync = q.COMMAND_OPCODE.put(q.OP_SYNC).to_bytes(16, "little")
    machine.memory.write(0x100_4000_0000, sync * 1000)
    machine.write("CR0", 8)
    machine.write("CMDQ_PROD", 1000)
    first = machine.read("CMDQ_CONS")
    while machine.smmu.poll():
        pass

    assert first == 256
    assert machine.read("CMDQ_CONS") == 1000


def test_events_wrap_around_and_interrupt_when_the_queue_was_empty(machine: Machine) -> None:
    for _ in range(3 << QUEUE_BITS):
        _fault(machine, 2)
        assert machine.event_names() == ["C_BAD_STE", "C_BAD_STE"]

    assert machine.event_wire.pulses == 3 << QUEUE_BITS


def test_full_queue_loses_records_and_says_so_once(machine: Machine) -> None:
    _fault(machine, (1 << QUEUE_BITS) + 3)
    producer = machine.read("EVENTQ_PROD")

    assert producer == 1 << 31 | 1 << QUEUE_BITS
    assert len(machine.events()) == 1 << QUEUE_BITS


def test_acknowledged_overflow_can_be_reported_again(machine: Machine) -> None:
    _fault(machine, (1 << QUEUE_BITS) + 1)
    machine.events()
    acknowledged = machine.read("EVENTQ_PROD") ^ machine.read("EVENTQ_CONS")
    _fault(machine, (1 << QUEUE_BITS) + 1)

    assert acknowledged >> 31 == 0
    assert (machine.read("EVENTQ_PROD") ^ machine.read("EVENTQ_CONS")) >> 31 == 1
    assert machine.read("EVENTQ_PROD") >> 31 == 0


def test_records_are_written_again_before_an_overflow_is_acknowledged(machine: Machine) -> None:
    _fault(machine, (1 << QUEUE_BITS) + 1)
    machine.write("EVENTQ_CONS", 1 << QUEUE_BITS)
    _fault(machine)

    assert machine.read("EVENTQ_PROD") & 0xF_FFFF == (1 << QUEUE_BITS) + 1


def test_disabled_queue_loses_records_without_overflow() -> None:
    machine = Machine()
    machine.enable(control=0b1001)
    _fault(machine, 40)

    assert machine.read("EVENTQ_PROD") == 0
    assert machine.smmu.transactions.faults == {"C_BAD_STE": 40}


def test_event_queue_that_is_not_in_memory_is_a_global_error() -> None:
    machine = Machine()
    machine.enable(control=0b1001)
    machine.write("EVENTQ_BASE", 4)
    machine.write("CR0", 0b1101)
    _fault(machine, 2)

    assert machine.read("GERROR") == 0b100
    assert machine.error_wire.pulses == 1
    assert machine.read("EVENTQ_PROD") == 0


@pytest.mark.parametrize(
    ("register", "entry_bytes", "base", "log2size"),
    [
        (0x1_0000_0FE0 | 4, 16, 0x1_0000_0F00, 4),
        (0x1_0000_0FE0, 16, 0x1_0000_0FE0, 0),
        (0x1_0000_0FE0 | 31, 32, 0x1_0000_0000 & -(32 << 16), 16),
        (1 << 62 | 0x4000 | 7, 32, 0x4000, 7),
    ],
)
def test_queue_base_is_aligned_to_the_queue(
    register: int, entry_bytes: int, base: int, log2size: int
) -> None:
    assert Ring.of(register, 16, entry_bytes) == Ring(base, log2size, entry_bytes)
