"""Registers of the SMMU: what it advertises, how it is brought up, what guards what."""

import pytest

import testbed.iommu.smmu as model
from testbed.iommu.features import Features
from testbed.iommu.transactions import Aborted
from testbed.iommu.translate import Granted
from testbed.spec import smmu as s
from testbed.spec import smmu_queues as q
from tests.iommu.machine import COMMANDS, EVENTS, STRTAB, Machine, request


def test_id_registers_say_what_the_table_says() -> None:
    machine = Machine()

    # S2P S1P, TTF=2, COHACC, ATS NS1ATS, ASID16, VMID16, CD2L, TTENDIAN=2, TERM_MODEL, ST_LEVEL=1
    idr0 = 0x3 | 2 << 2 | 1 << 4 | 3 << 10 | 1 << 12 | 1 << 18 | 1 << 19 | 2 << 21 | 1 << 26 | 1 << 27
    assert machine.read("IDR0") == idr0
    assert machine.read("IDR1") == 16 | 16 << 6 | 15 << 16 | 16 << 21
    assert machine.read("IDR3") == 1 << 2 | 1 << 10
    assert machine.read("IDR5") == 5 | 1 << 4 | 64 << 16
    assert machine.read("AIDR") == 1


def test_capability_table_names_every_set_id_field() -> None:
    table = model.__doc__ or ""
    fields = [bits for name, bits in vars(s).items() if name.startswith(("IDR0_", "IDR1_", "IDR3_", "IDR5_"))]
    registers = {"IDR0_": "IDR0", "IDR1_": "IDR1", "IDR3_": "IDR3", "IDR5_": "IDR5"}
    machine = Machine()

    advertised = {
        f"{registers[name[:5]]}.{bits.name}"
        for name, bits in vars(s).items()
        if name[:5] in registers and bits in fields and bits.get(machine.read(registers[name[:5]]))
    }

    assert {field for field in advertised if field not in table} == {"IDR0.COHACC"}


def test_stage1_only_smmu_advertises_and_refuses_accordingly() -> None:
    machine = Machine(Features(stage2=False, ats=False, stall=False, substream_bits=0))
    machine.enable()
    machine.stage2(1, 0)

    assert machine.read("IDR0") & (1 | 1 << 10 | 1 << 18 | 1 << 19) == 0
    assert machine.read("IDR0") >> 24 & 3 == 1
    machine.translate(request(0))
    assert machine.event_names() == ["C_BAD_STE"]
    machine.issue(q.OP_TLBI_S12_VMALL)
    assert machine.read("CMDQ_CONS") >> 24 == s.CERROR_ILL


def test_bring_up_as_recorded_from_linux() -> None:
    machine = Machine()
    machine.write("CR0", 0)
    machine.write("CR1", 0xD75)
    machine.write("CR2", 0x6)
    machine.write("STRTAB_BASE", 1 << 62 | STRTAB)
    machine.write("STRTAB_BASE_CFG", 0x10210)
    machine.write("CMDQ_BASE", 1 << 62 | COMMANDS | 4)
    machine.write("CMDQ_PROD", 0)
    machine.write("CMDQ_CONS", 0)
    machine.write("CR0", 0x8)
    assert machine.read("CR0ACK") == 0x8
    machine.issue(q.OP_CFGI_STE_RANGE, (q.CFGI_RANGE, 31))
    machine.sync()
    machine.issue(q.OP_TLBI_NSNH_ALL)
    machine.sync()
    machine.write("EVENTQ_BASE", 1 << 62 | EVENTS | 4)
    machine.write("EVENTQ_PROD", 0)
    machine.write("EVENTQ_CONS", 0)
    machine.write("CR0", 0xC)
    machine.write("IRQ_CTRL", 0x5)
    assert machine.read("IRQ_CTRLACK") == 0x5
    machine.write("CR0", 0xD)

    assert machine.read("CR0ACK") == 0xD
    assert machine.read("CR2") == 0x6
    assert machine.read("GERROR") == machine.read("GERRORN") == 0


@pytest.mark.parametrize(
    ("register", "control"),
    [
        ("STRTAB_BASE", 1), ("STRTAB_BASE_CFG", 1), ("CMDQ_BASE", 8), ("CMDQ_CONS", 8), ("EVENTQ_BASE", 4),
        ("EVENTQ_PROD", 4),
    ],
)  # fmt: skip
def test_guarded_register_is_read_only_while_enabled(register: str, control: int) -> None:
    machine = Machine()
    machine.write("CR0", control)
    machine.write(register, 0x40)
    while_enabled = machine.read(register)
    machine.write("CR0", 0)
    machine.write(register, 0x40)

    assert (while_enabled, machine.read(register)) == (0, 0x40)


def test_read_only_and_unknown_accesses_are_counted_apart() -> None:
    machine = Machine()
    machine.write("IDR0", 0)
    machine.smmu.write(0x300, 4, 1)
    machine.smmu.read(0x304, 4)

    counts = machine.smmu.registers.counts
    assert (counts.read_only, counts.unknown) == (1, 2)


def test_halves_of_a_64_bit_register_can_be_written_apart() -> None:
    machine = Machine()
    machine.smmu.write(0x80, 4, 0x1234_5678)
    machine.smmu.write(0x84, 4, 0x100)

    assert machine.read("STRTAB_BASE") == 0x100_1234_5640


def test_disabled_smmu_aborts_after_reset_in_silence() -> None:
    machine = Machine()

    assert machine.translate(request(0x1000)) == Aborted(None)
    assert machine.smmu.transactions.faults == {"abort": 1}


def test_gbpa_changes_only_with_update_set() -> None:
    machine = Machine()
    machine.write("GBPA", 0)
    refused = machine.translate(request(0x1000))
    machine.write("GBPA", 1 << 31)
    passed = machine.translate(request(0x1234))

    assert isinstance(refused, Aborted)
    assert isinstance(passed, Granted)
    assert passed.output == 0x1234
    assert machine.read("GBPA") == 0


def test_address_beyond_the_output_size_never_bypasses() -> None:
    machine = Machine()
    machine.write("GBPA", 1 << 31)

    assert machine.translate(request(1 << 48)) == Aborted(None)


def test_reset_forgets_everything() -> None:
    machine = Machine()
    machine.enable()
    machine.bypass(1)
    machine.translate(request(0))
    fresh = Machine().smmu.registers.snapshot()

    machine.smmu.reset()

    assert machine.smmu.registers.snapshot() == fresh
    assert machine.translate(request(0)) == Aborted(None)
    machine.write("STRTAB_BASE", STRTAB)
    assert machine.read("STRTAB_BASE") == STRTAB
