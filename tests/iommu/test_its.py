"""The ITS from outside: registers, physical interrupts, who may signal what."""

import pytest

import testbed.iommu.its as model
from testbed.iommu.its_features import ItsFeatures
from testbed.spec import its as s
from testbed.spec import its_commands as c
from tests.iommu.its_machine import (
    COLLECTIONS,
    DEVICES,
    LEVEL2,
    LPI,
    QUEUE,
    VPES,
    ItsMachine,
)

DEVICE, OTHER = 0x180, 0x182


def mapped() -> ItsMachine:
    """Return a machine with one event of a device mapped to an enabled LPI of processor 0."""
    machine = ItsMachine().enable()
    machine.mapd(DEVICE)
    machine.mapc(0)
    machine.configure(LPI + 5, True)
    machine.mapti(DEVICE, 1, LPI + 5)
    assert machine.errors() == {}
    return machine


def test_identification_says_what_the_table_says() -> None:
    machine = ItsMachine()

    # physical, virtual, 16-byte ITT entries, 16 bits each of EventID, DeviceID and ICID, CIL, VMOVP
    expected = 3 | 15 << 4 | 15 << 8 | 15 << 13 | 15 << 32 | 1 << 36 | 1 << 37
    assert machine.read("TYPER") == expected
    assert machine.read("PIDR2") >> 4 & 0xF == 4
    assert machine.read("CTLR") == 1 << 31
    table = model.__doc__ or ""
    fields = [bits for name, bits in vars(s).items() if name.startswith("TYPER_")]
    assert {bits.name for bits in fields if bits.get(expected) and f"TYPER.{bits.name}" not in table} == set()


def test_gicv3_has_no_virtual_side() -> None:
    machine = ItsMachine(ItsFeatures(processors=2, virtual=False)).enable()

    machine.vmapp(1)

    assert machine.read("TYPER") >> 1 & 1 == 0
    assert machine.read("BASER", 2) == 0
    assert machine.errors() == {"VMAPP_COMMAND_UNKNOWN": 1}


def test_bring_up_as_recorded_from_linux() -> None:
    machine = ItsMachine()
    for n in range(8):
        machine.write("BASER", 0, n)
    assert machine.read("BASER", 0) == 1 << 56 | 7 << 48
    assert machine.read("BASER", 1) == 4 << 56 | 7 << 48
    assert machine.read("BASER", 2) == 2 << 56 | 15 << 48
    assert [machine.read("BASER", n) for n in range(3, 8)] == [0] * 5
    machine.write("BASER", 0x7800000000000400, 0)
    assert machine.read("BASER", 0) == 0x7800000000000400 | 1 << 56 | 7 << 48
    machine.write("CBASER", 0xB800000000000400 | QUEUE)
    assert machine.read("CBASER") == 0xB800000000000400 | QUEUE
    machine.write("CWRITER", 0)
    machine.write("CTLR", 0x80000003)
    assert machine.read("CTLR") == 3
    assert machine.read("CREADR") == 0


def test_registers_of_tables_and_queue_are_read_only_while_enabled() -> None:
    machine = ItsMachine().enable()
    before = [machine.read("CBASER"), machine.read("BASER", 0)]

    machine.write("CBASER", 0)
    machine.write("BASER", 0, 0)

    assert [machine.read("CBASER"), machine.read("BASER", 0)] == before
    machine.write("CTLR", 0)
    assert machine.read("CTLR") == 1 << 31
    machine.write("BASER", 0, 0)
    assert not machine.read("BASER", 0) >> 63


def test_narrow_write_of_cwriter_runs_the_queue() -> None:
    machine = ItsMachine().enable()
    machine.memory.write(QUEUE, (c.OP_SYNC).to_bytes(32, "little"))

    machine.its.write(s.ITS["CWRITER"].offset, 4, 0x20)

    assert machine.read("CREADR") == 0x20
    assert machine.its.commands.executed == {"SYNC": 1}


def test_event_becomes_its_lpi() -> None:
    machine = mapped()

    for _ in range(3):
        assert machine.its.signal(DEVICE, 1)
        assert machine.raised() == [LPI + 5]
    assert machine.its.cache.counts[:2] == (2, 1)


def test_processor_sleeping_is_woken_once() -> None:
    machine = mapped()
    machine.its.signal(DEVICE, 1)
    assert machine.processor_wakes == [0, 0]
    machine.raised()
    machine.arm(0)

    machine.its.signal(DEVICE, 1)
    machine.its.signal(DEVICE, 1)

    assert machine.processor_wakes == [1, 0]


@pytest.mark.parametrize(
    ("device", "event", "reason"),
    [
        (OTHER, 1, "UNMAPPED_DEVICE"),
        (DEVICE, 2, "UNMAPPED_INTERRUPT"),
        (DEVICE, 32, "ID_OOR"),
        (DEVICE, 0xFFFF_FFFF, "ID_OOR"),
        (0x1_0000, 1, "DEVICE_OOR"),
    ],
)
def test_device_reaches_only_its_own_events(device: int, event: int, reason: str) -> None:
    machine = mapped()

    assert not machine.its.signal(device, event)

    assert machine.raised() == []
    assert machine.its.dropped == {reason: 1}
    assert machine.reports == [f"EVENT_{reason}"]


def test_store_by_a_processor_signals_nothing() -> None:
    machine = mapped()

    machine.write("TRANSLATER", 1)

    assert machine.raised() == []
    assert machine.read("TRANSLATER") == 0


def test_disabled_its_drops_events_also_cached_ones() -> None:
    machine = mapped()
    machine.its.signal(DEVICE, 1)
    machine.raised()
    machine.write("CTLR", 0)

    assert not machine.its.signal(DEVICE, 1)

    assert machine.its.dropped == {"DISABLED": 1}
    machine.write("CTLR", 1)
    assert machine.its.signal(DEVICE, 1)


def test_reset_is_the_state_after_power_on() -> None:
    machine = mapped()
    machine.its.signal(DEVICE, 1)

    machine.its.reset()

    assert machine.its.registers.snapshot() == ItsMachine().its.registers.snapshot()
    assert len(machine.its.cache) == 0


def test_disabled_lpi_waits_until_it_is_enabled() -> None:
    machine = mapped()
    machine.mapti(DEVICE, 2, LPI + 6)

    machine.its.signal(DEVICE, 2)
    assert machine.raised() == []
    machine.configure(LPI + 6, True)
    machine.its.signal(DEVICE, 2)
    assert machine.raised() == []
    machine.event(c.OP_INV, DEVICE, 2)

    assert machine.raised() == [LPI + 6]


def test_lpi_that_is_disabled_before_it_is_taken_waits() -> None:
    machine = mapped()
    machine.its.signal(DEVICE, 1)
    machine.configure(LPI + 5, False)
    machine.event(c.OP_INV, DEVICE, 1)

    assert machine.raised() == []
    machine.configure(LPI + 5, True)
    machine.issue(c.OP_INVALL, (c.COMMAND_ICID, 0))
    assert machine.raised() == [LPI + 5]


@pytest.mark.parametrize("enabled", [True, False])
def test_movi_takes_a_pending_interrupt_along(enabled: bool) -> None:
    machine = mapped()
    machine.mapc(1, processor=1)
    machine.configure(LPI + 5, enabled)
    machine.event(c.OP_INV, DEVICE, 1)
    machine.its.signal(DEVICE, 1)

    machine.event(c.OP_MOVI, DEVICE, 1, (c.COMMAND_ICID, 1))
    machine.configure(LPI + 5, True)
    machine.event(c.OP_INV, DEVICE, 1)

    assert (machine.raised(0), machine.raised(1)) == ([], [LPI + 5])
    machine.its.signal(DEVICE, 1)
    assert (machine.raised(0), machine.raised(1)) == ([], [LPI + 5])


def test_movall_moves_what_is_pending_and_nothing_else() -> None:
    machine = mapped()
    machine.mapti(DEVICE, 2, LPI + 6)
    machine.its.signal(DEVICE, 1)
    machine.its.signal(DEVICE, 2)

    machine.issue(c.OP_MOVALL, (c.COMMAND_RDBASE, 0), (c.MOVALL_TO, 1))
    machine.configure(LPI + 6, True)
    machine.redistributors[1].invalidate(LPI + 6)

    assert (machine.raised(0), machine.raised(1)) == ([], [LPI + 5, LPI + 6])
    machine.its.signal(DEVICE, 1)
    assert machine.raised(0) == [LPI + 5]


def test_mapi_int_clear_and_discard() -> None:
    machine = mapped()
    machine.configure(LPI, True)
    machine.mapd(OTHER, event_bits=14)
    machine.event(c.OP_MAPI, OTHER, 7, (c.COMMAND_ICID, 0))
    assert machine.errors() == {"MAPI_PHYSICALID_OOR": 1}
    machine.event(c.OP_INT, DEVICE, 1)
    machine.event(c.OP_CLEAR, DEVICE, 1)
    assert machine.raised() == []
    machine.event(c.OP_INT, DEVICE, 1)
    machine.event(c.OP_DISCARD, DEVICE, 1)
    assert machine.raised() == []

    assert not machine.its.signal(DEVICE, 1)

    assert machine.its.dropped == {"UNMAPPED_INTERRUPT": 1}


def test_unmapped_device_is_silent_at_once() -> None:
    machine = mapped()
    machine.its.signal(DEVICE, 1)
    machine.raised()
    machine.mapd(DEVICE, valid=False)

    assert not machine.its.signal(DEVICE, 1)

    machine.mapc(0, valid=False)
    assert machine.its.dropped == {"UNMAPPED_DEVICE": 1}


def test_collection_may_be_mapped_after_its_events_and_moved() -> None:
    machine = mapped()
    machine.mapti(DEVICE, 3, LPI + 5, icid=7)
    assert not machine.its.signal(DEVICE, 3)
    machine.mapc(7, processor=1)
    machine.its.signal(DEVICE, 3)
    machine.its.signal(DEVICE, 3)
    assert (machine.raised(0), machine.raised(1)) == ([], [LPI + 5])

    machine.mapc(7, processor=0)
    machine.its.signal(DEVICE, 3)

    assert (machine.raised(0), machine.raised(1)) == ([LPI + 5], [])


@pytest.mark.parametrize("page_size", [0, 1, 2, 3])
def test_indirect_device_table(page_size: int) -> None:
    page_bytes = (4096, 16384, 65536, 65536)[page_size]
    machine = ItsMachine()
    machine.write("BASER", 1 << 63 | 1 << 62 | page_size << 8 | DEVICES, 0)
    machine.write("BASER", 1 << 63 | 2 << 8 | COLLECTIONS, 1)
    machine.write("BASER", 1 << 63 | 2 << 8 | VPES, 2)
    machine.write("CBASER", 1 << 63 | QUEUE)
    machine.write("CTLR", 1)
    device = page_bytes // 8 + 3  # the second page of level 2
    machine.mapd(device)
    assert machine.errors() == {"MAPD_DEVICE_OOR": 1}
    machine.memory.store(DEVICES + 8, 8, 1 << 63 | LEVEL2)

    machine.mapd(device)
    machine.mapc(0)
    machine.configure(LPI, True)
    machine.mapti(device, 0, LPI)
    machine.its.signal(device, 0)

    assert machine.raised() == [LPI]
    assert machine.memory.load(LEVEL2 + 3 * 8, 8) & 1


def test_high_address_bits_of_a_64k_table() -> None:
    machine = ItsMachine()
    machine.write("BASER", 1 << 63 | 2 << 8 | DEVICES | 0x3000, 0)
    machine.write("CBASER", 1 << 63 | QUEUE)
    machine.write("CTLR", 1)

    machine.mapd(DEVICE)

    # address bits 49 and 48 lead to where nothing is
    assert machine.errors() == {"MAPD_TABLE_FAULT": 1}
