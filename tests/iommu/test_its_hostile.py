"""Commands in error, queues and tables that lead nowhere: counted, reported, contained."""

import random

import pytest

from testbed.iommu.its_features import ItsFeatures
from testbed.spec import its as s
from testbed.spec import its_commands as c
from testbed.spec.layout import Bits
from tests.iommu.its_machine import (
    DEVICES,
    HOST,
    LPI,
    MEMORY_BYTES,
    NO_DOORBELL,
    QUEUE,
    VLPI,
    VPTS,
    ItsMachine,
)

DEVICE = 0x180
DEV, EV = (c.COMMAND_DEVICE, DEVICE), (c.COMMAND_EVENT, 1)
Field = tuple[Bits, int]

ERRORS: list[tuple[str, int, tuple[Field, ...]]] = [
    ("MAPD_DEVICE_OOR", 0x010801, ((c.COMMAND_DEVICE, 0x1_0000), (c.COMMAND_V, 1))),
    ("MAPD_ITTSIZE_OOR", 0x010802, (DEV, (c.MAPD_SIZE, 16), (c.COMMAND_V, 1))),
    ("MAPC_PROCNUM_OOR", 0x010902, ((c.COMMAND_RDBASE, 2), (c.COMMAND_V, 1))),
    ("MAPC_COLLECTION_OOR", 0x010903, ((c.COMMAND_ICID, 0xFFFF), (c.COMMAND_V, 1))),
    ("MAPTI_UNMAPPED_DEVICE", 0x010A04, ((c.COMMAND_DEVICE, 5), EV, (c.MAPTI_PINTID, LPI))),
    ("MAPTI_ID_OOR", 0x010A05, (DEV, (c.COMMAND_EVENT, 32), (c.MAPTI_PINTID, LPI))),
    ("MAPTI_PHYSICALID_OOR", 0x010A06, (DEV, EV, (c.MAPTI_PINTID, LPI - 1))),
    ("MAPTI_PHYSICALID_OOR", 0x010A06, (DEV, EV, (c.MAPTI_PINTID, LPI + 2048))),
    ("MAPTI_COLLECTION_OOR", 0x010A03, (DEV, EV, (c.MAPTI_PINTID, LPI), (c.COMMAND_ICID, 0xFFFF))),
    ("MOVI_UNMAPPED_INTERRUPT", 0x010107, (DEV, (c.COMMAND_EVENT, 9))),
    ("MOVI_UNMAPPED_INTERRUPT", 0x010107, (DEV, (c.COMMAND_EVENT, 2))),
    ("MOVI_UNMAPPED_COLLECTION", 0x010109, (DEV, EV, (c.COMMAND_ICID, 5))),
    ("INT_UNMAPPED_INTERRUPT", 0x010307, (DEV, (c.COMMAND_EVENT, 9))),
    ("CLEAR_UNMAPPED_INTERRUPT", 0x010507, (DEV, (c.COMMAND_EVENT, 9))),
    ("DISCARD_UNMAPPED_INTERRUPT", 0x010F07, (DEV, (c.COMMAND_EVENT, 9))),
    ("INV_UNMAPPED_INTERRUPT", 0x010C07, (DEV, (c.COMMAND_EVENT, 9))),
    ("INVALL_UNMAPPED_COLLECTION", 0x010D09, ((c.COMMAND_ICID, 5),)),
    ("MOVALL_PROCNUM_OOR", 0x010E01, ((c.MOVALL_TO, 2),)),
    ("SYNC_PROCNUM_OOR", 0x010502, ((c.COMMAND_RDBASE, 1 << 35),)),
    ("VMAPP_VCPU_OOR", 0x012911, ((c.COMMAND_VPE, 0xFFFF), (c.COMMAND_V, 1))),
    ("VMAPP_PROCNUM_OOR", 0x012902, ((c.COMMAND_RDBASE, 2), (c.COMMAND_V, 1))),
    ("VMAPTI_VIRTUALID_OOR", 0x012A13, (DEV, EV, (c.VMAPTI_VINTID, VLPI + 1024))),
    ("VMAPTI_PHYSICALID_OOR", 0x012A06, (DEV, EV, (c.VMAPTI_VINTID, VLPI), (c.VMAPTI_DOORBELL, 1022))),
    ("VMAPTI_VCPU_OOR", 0x012A11, (DEV, EV, (c.VMAPTI_VINTID, VLPI), (c.COMMAND_VPE, 0xFFFF))),
    ("VMAPI_VIRTUALID_OOR", 0x012B13, (DEV, EV)),
    ("VMOVI_ID_IS_PHYSICAL", 0x012115, (DEV, EV)),
    ("VMOVI_CMDVCPU_INVALID", 0x012117, (DEV, (c.COMMAND_EVENT, 2), (c.COMMAND_VPE, 7))),
    ("VMOVI_ITEVCPU_INVALID", 0x012116, (DEV, (c.COMMAND_EVENT, 3), (c.COMMAND_VPE, 0))),
    ("VMOVP_VCPU_INVALID", 0x012214, ((c.COMMAND_VPE, 7),)),
    ("VMOVP_PROCNUM_OOR", 0x012202, ((c.COMMAND_VPE, 0), (c.COMMAND_RDBASE, 2))),
    ("VSYNC_VCPU_INVALID", 0x012514, ((c.COMMAND_VPE, 7),)),
    ("VSYNC_VCPU_OOR", 0x012511, ((c.COMMAND_VPE, 0xFFFF),)),
    ("VINVALL_VCPU_INVALID", 0x012D14, ((c.COMMAND_VPE, 7),)),
]
OPCODES = {name: opcode for opcode, name in c.COMMAND_NAMES.items()}


def mapped(features: ItsFeatures | None = None) -> ItsMachine:
    """Return a machine with event 1 physical, event 2 virtual, event 3 virtual of a vPE that is not there."""
    machine = ItsMachine(features).enable()
    machine.mapd(DEVICE)
    machine.mapc(0)
    machine.vmapp(0)
    machine.mapti(DEVICE, 1, LPI)
    machine.vmapti(DEVICE, 2, 0, VLPI)
    machine.vmapti(DEVICE, 3, 6, VLPI)
    assert machine.errors() == {}
    return machine


def snapshot(machine: ItsMachine) -> bytes:
    """Return everything but the queue."""
    return machine.memory.read(DEVICES, HOST + MEMORY_BYTES - DEVICES)


@pytest.mark.parametrize(("name", "code", "fields"), ERRORS)
def test_command_in_error_is_reported_skipped_and_changes_nothing(
    name: str, code: int, fields: tuple[Field, ...]
) -> None:
    machine = mapped()
    before = snapshot(machine)

    machine.issue(OPCODES[name.split("_")[0]], *fields)

    assert machine.errors() == {name: 1}
    assert machine.its.commands.last_error == code
    assert machine.reports == [name]
    assert machine.read("CREADR") == machine.read("CWRITER")
    assert snapshot(machine) == before


def test_stalled_queue_goes_on_after_retry() -> None:
    machine = mapped(ItsFeatures(processors=2, on_error="stall"))
    at = machine.read("CWRITER")
    machine.mapti(5, 0, LPI + 1)
    machine.mapd(6)
    assert machine.read("CREADR") == at | 1
    assert machine.errors() == {"MAPTI_UNMAPPED_DEVICE": 1}
    machine.write("CWRITER", machine.read("CWRITER"))
    assert machine.read("CREADR") == at | 1

    fixed = c.COMMAND_DEVICE.put(DEVICE, c.COMMAND_EVENT.put(4, c.MAPTI_PINTID.put(LPI + 1, c.OP_MAPTI)))
    machine.memory.write(QUEUE + at, fixed.to_bytes(32, "little"))
    machine.write("CWRITER", machine.read("CWRITER") | 1)

    assert machine.read("CREADR") == machine.read("CWRITER") == at + 64
    assert machine.errors() == {"MAPTI_UNMAPPED_DEVICE": 1}


def test_unknown_commands_are_skipped() -> None:
    machine = mapped()
    known = set(c.COMMAND_NAMES)

    for opcode in set(range(256)) - known:
        machine.put(opcode)

    assert machine.errors() == {"COMMAND_UNKNOWN": 256 - len(known)}


def test_queue_outside_memory_stalls() -> None:
    machine = ItsMachine()
    machine.write("CBASER", 1 << 63 | HOST + MEMORY_BYTES)
    machine.write("CTLR", 1)

    machine.write("CWRITER", 0x20)

    assert machine.read("CREADR") == 1
    assert machine.errors() == {"QUEUE_FAULT": 1}


def test_writer_behind_the_queues_end_executes_nothing() -> None:
    machine = mapped()
    at = machine.read("CREADR")

    machine.write("CWRITER", 0x1000)

    assert machine.read("CREADR") == at
    assert machine.reports == ["CWRITER_OOR"]


def test_queue_wraps() -> None:
    machine = mapped()

    for _ in range(300):
        machine.issue(c.OP_SYNC)

    assert machine.its.commands.executed["SYNC"] == 300
    assert machine.read("CREADR") == machine.read("CWRITER")


def test_one_write_executes_a_bounded_number_of_commands() -> None:
    machine = ItsMachine()
    pages = 4
    machine.write("CBASER", 1 << 63 | QUEUE | pages - 1)
    machine.write("CTLR", 1)
    for n in range(pages * 128):
        machine.memory.write(QUEUE + 32 * n, (c.OP_SYNC).to_bytes(32, "little"))

    machine.write("CWRITER", (pages * 128 - 1) * 32)

    assert machine.its.commands.executed["SYNC"] == 256
    assert not machine.its.poll()
    assert machine.its.commands.executed["SYNC"] == 511


@pytest.mark.parametrize("index", [0, 1, 2])
def test_tables_outside_memory(index: int) -> None:
    machine = ItsMachine().enable()
    machine.write("CTLR", 0)
    machine.write("BASER", 1 << 63 | 1 << 47, index)
    machine.write("CTLR", 1)

    machine.mapd(DEVICE)
    machine.mapc(0)
    machine.vmapp(0)

    assert set(machine.errors().values()) == {1}
    assert len(machine.errors()) == 1


def test_invalid_tables_have_no_entries() -> None:
    machine = ItsMachine()
    machine.write("CBASER", 1 << 63 | QUEUE)
    machine.write("CTLR", 1)

    machine.mapd(DEVICE)
    machine.mapc(0)
    machine.vmapp(0)

    assert machine.errors() == {"MAPD_DEVICE_OOR": 1, "MAPC_COLLECTION_OOR": 1, "VMAPP_VCPU_OOR": 1}


def test_itt_and_vpt_outside_memory() -> None:
    machine = mapped()
    machine.issue(c.OP_MAPD, (c.COMMAND_DEVICE, 7), (c.MAPD_ITT, 1 << 43), (c.COMMAND_V, 1))
    machine.mapti(7, 0, LPI)
    assert not machine.its.signal(7, 0)
    fields = (c.VMAPP_VPT, 1 << 35), (c.VMAPP_VPT_SIZE, 13), (c.COMMAND_V, 1)
    machine.issue(c.OP_VMAPP, (c.COMMAND_VPE, 6), *fields)
    assert not machine.its.signal(DEVICE, 3)

    assert machine.errors() == {"MAPTI_TABLE_FAULT": 1}
    assert machine.its.dropped == {"TABLE_FAULT": 2}


def test_tables_full_of_rubbish_are_contained() -> None:
    machine = mapped()
    dice = random.Random(6)
    for _ in range(150):
        machine.memory.write(DEVICES, dice.randbytes(VPTS - DEVICES))
        machine.its.cache.drop_all()
        machine.its.vpes.drop_all()
        for _ in range(8):
            machine.its.signal(dice.choice((DEVICE, dice.getrandbits(16))), dice.getrandbits(5))
        machine.put(dice.choice(list(c.COMMAND_NAMES)) | dice.getrandbits(248) << 8)

    assert machine.read("CREADR") == machine.read("CWRITER")
    assert sum(machine.its.dropped.values()) > 0


def test_registers_take_any_access() -> None:
    machine = mapped()
    dice = random.Random(7)
    for _ in range(3000):
        size = dice.choice((1, 2, 4, 8))
        offset = dice.choice((dice.randrange(s.ITS_BYTES), dice.randrange(0, 0x140, 4)))
        machine.its.read(offset, size)
        machine.its.write(offset, size, dice.getrandbits(8 * size))
    machine.its.reset()
    assert machine.read("CTLR") == 1 << 31


def test_guests_rubbish_in_its_page_harms_only_its_own_interrupts() -> None:
    machine = mapped()
    machine.vmapp(1)
    machine.vmapti(DEVICE, 4, 1, VLPI + 1, NO_DOORBELL)
    machine.vcpus[1].port.enter(0)
    dice = random.Random(8)
    page = machine.vcpus[0].page.bytes_view()
    for _ in range(50):
        page[:] = dice.randbytes(len(page))
        machine.its.signal(DEVICE, 2)
        machine.its.signal(DEVICE, 4)
        machine.event(c.OP_CLEAR, DEVICE, 2)
        assert machine.vcpus[1].take() == [VLPI + 1]
    assert machine.vcpus[1].woken == 0
