"""What a redistributor makes of the pending table that software gives it (IHI 0069 §6.1.2, §12.11)."""

import pytest

from testbed.spec import gic_registers as reg
from tests.support.vgic_rig import CONFIG_TABLE, VgicRig

ENABLED = 0xA1
PTZ = 1 << 62
WAITING = (8192, 8192 + 5, 8192 + 1023)


def enable(rig: VgicRig, pendbaser: int) -> None:
    """Turn LPIs on; all are enabled, and three bits of the pending table are set."""
    rig.table[:1024] = bytes([ENABLED]) * 1024
    for intid in WAITING:
        rig.table[1024 + (intid - 8192) // 8] |= 1 << intid % 8
    redistributor = rig.redistributors[0]
    redistributor.write(reg.GICR_RD["PROPBASER"].offset, 8, CONFIG_TABLE | 13)
    redistributor.write(reg.GICR_RD["PENDBASER"].offset, 8, CONFIG_TABLE | pendbaser)
    redistributor.write(reg.GICR_RD["CTLR"].offset, 4, 1)
    rig.settle()


def taken(rig: VgicRig) -> list[int]:
    """Take and end interrupts until there are none."""
    found = []
    cpu = rig.vcpus[0].cpu
    while (intid := cpu.acknowledge()) != 1023:
        found.append(intid)
        cpu.end(intid)
        rig.settle()
    return found


def test_what_waits_in_the_table_is_pending_from_the_enable_on() -> None:
    rig = VgicRig()
    enable(rig, 0)

    assert taken(rig) == list(WAITING)


def test_table_that_is_zero_by_its_register_is_not_read() -> None:
    rig = VgicRig()
    enable(rig, PTZ)

    assert taken(rig) == []
    assert rig.redistributors[0].read(reg.GICR_RD["PENDBASER"].offset, 8) == CONFIG_TABLE


def test_table_is_read_once_for_each_enable() -> None:
    rig = VgicRig()
    enable(rig, 0)
    taken(rig)
    rig.redistributors[0].write(reg.GICR_RD["CTLR"].offset, 4, 1)
    rig.settle()
    assert taken(rig) == []
    rig.redistributors[0].write(reg.GICR_RD["CTLR"].offset, 4, 0)
    enable(rig, 0)
    assert taken(rig) == list(WAITING)


@pytest.mark.parametrize("pendbaser", [1 << 40, 0x7FFF_0000])
def test_table_that_is_no_memory_has_nothing_pending(pendbaser: int) -> None:
    rig = VgicRig()
    enable(rig, pendbaser)

    assert taken(rig) == []
