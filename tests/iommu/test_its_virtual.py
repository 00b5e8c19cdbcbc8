"""GICv4: virtual LPIs straight into the vCPU's page, doorbells for vPEs that are not resident, moves."""

import pytest

from testbed.spec import its_commands as c
from tests.iommu.its_machine import LPI, NO_DOORBELL, VLPI, ItsMachine

DEVICE = 0x180
DOORBELL = LPI + 40


def direct(doorbell: int = DOORBELL) -> ItsMachine:
    """Return a machine whose device has events 0 and 1 mapped to virtual LPIs of vPE 0, which is resident."""
    machine = ItsMachine().enable()
    for intid in range(DOORBELL, DOORBELL + 8):
        machine.configure(intid, True)
    machine.mapd(DEVICE)
    machine.vmapp(0)
    machine.vmapp(1, processor=1)
    machine.vmapti(DEVICE, 0, 0, VLPI, doorbell)
    machine.vmapti(DEVICE, 1, 0, VLPI + 65, doorbell)
    machine.vcpus[0].port.enter(0)
    assert machine.errors() == {}
    return machine


def test_resident_vpe_gets_its_interrupt_without_anyone() -> None:
    machine = direct()

    for _ in range(3):
        assert machine.its.signal(DEVICE, 0)
        assert machine.its.signal(DEVICE, 1)
        assert machine.vcpus[0].take() == [VLPI, VLPI + 65]
    assert machine.vcpus[0].woken == 0
    assert machine.processor_wakes == [0, 0]
    assert machine.raised() == []
    assert machine.its.cache.counts == (4, 2, 4, 0, 0)


def test_sleeping_vcpu_gets_one_message() -> None:
    machine = direct()
    for round_number in range(1, 4):
        machine.vcpus[0].arm()
        machine.its.signal(DEVICE, 0)
        machine.its.signal(DEVICE, 0)
        machine.its.signal(DEVICE, 1)
        assert machine.vcpus[0].woken == round_number
        assert machine.vcpus[0].take() == [VLPI, VLPI + 65]


def test_absent_vpe_gets_it_pending_and_the_host_a_doorbell() -> None:
    machine = direct()
    vcpu = machine.vcpus[0]
    assert not vcpu.port.leave()

    for _ in range(2):  # by the tables, then from the cache
        machine.its.signal(DEVICE, 0)
        assert machine.raised() == [DOORBELL]
    assert vcpu.take() == []
    assert machine.memory.load(vcpu.vpt + 1024, 8) == 1

    vcpu.port.enter(0)
    assert vcpu.take() == [VLPI]
    assert machine.memory.load(vcpu.vpt + 1024, 8) == 0


def test_no_doorbell_where_none_is_mapped() -> None:
    machine = direct(NO_DOORBELL)
    machine.vcpus[0].port.leave()

    machine.its.signal(DEVICE, 0)

    assert machine.raised() == []
    assert machine.vcpus[0].port.is_pending(0)


def test_leave_tells_of_what_is_pending_and_keeps_it() -> None:
    machine = direct()
    machine.its.signal(DEVICE, 1)

    assert machine.vcpus[0].port.leave()
    assert machine.vcpus[0].take() == []
    assert machine.vcpus[0].port.leave()
    machine.vcpus[0].arm()

    assert machine.vcpus[0].port.enter(0)
    assert machine.vcpus[0].take() == [VLPI + 65]


def test_vpe_on_another_processor_is_absent_until_it_is_moved() -> None:
    machine = direct()
    vcpu = machine.vcpus[0]
    vcpu.port.leave()
    vcpu.port.enter(1)
    vcpu.arm()
    machine.its.signal(DEVICE, 0)
    assert machine.raised(0) == [DOORBELL]
    assert vcpu.take() == []

    machine.vmovp(0, 1)

    assert vcpu.woken == 1
    assert vcpu.take() == [VLPI]
    machine.its.signal(DEVICE, 0)
    assert vcpu.take() == [VLPI]
    vcpu.port.leave()
    machine.its.signal(DEVICE, 0)
    assert (machine.raised(0), machine.raised(1)) == ([], [DOORBELL])


@pytest.mark.parametrize("resident", [True, False])
def test_vmovi_takes_a_pending_interrupt_along(resident: bool) -> None:
    machine = direct()
    machine.its.signal(DEVICE, 0)
    if resident:
        machine.vcpus[1].port.enter(1)

    machine.vmovi(DEVICE, 0, 1, DOORBELL + 1)
    machine.its.signal(DEVICE, 1)

    assert machine.vcpus[0].take() == [VLPI + 65]
    assert machine.raised(1) == ([] if resident else [DOORBELL + 1])
    machine.vcpus[1].port.enter(1)
    assert machine.vcpus[1].take() == [VLPI]
    machine.its.signal(DEVICE, 0)
    assert (machine.vcpus[0].take(), machine.vcpus[1].take()) == ([], [VLPI])


def test_vmovi_without_d_keeps_the_doorbell() -> None:
    machine = direct()

    machine.vmovi(DEVICE, 0, 1)
    machine.its.signal(DEVICE, 0)

    assert machine.raised(1) == [DOORBELL]


def test_clear_and_discard_of_virtual_interrupts() -> None:
    machine = direct()
    machine.its.signal(DEVICE, 0)
    machine.event(c.OP_CLEAR, DEVICE, 0)
    assert machine.vcpus[0].take() == []
    machine.its.signal(DEVICE, 0)
    machine.vcpus[0].port.leave()
    machine.event(c.OP_DISCARD, DEVICE, 0)

    assert not machine.its.signal(DEVICE, 0)

    assert not machine.vcpus[0].port.is_pending(0)


def test_int_and_vmapi() -> None:
    machine = direct()
    machine.mapd(DEVICE + 2, event_bits=14)
    machine.event(c.OP_VMAPI, DEVICE + 2, 9000, (c.COMMAND_VPE, 0), (c.VMAPTI_DOORBELL, NO_DOORBELL))
    assert machine.errors() == {}

    machine.event(c.OP_INT, DEVICE, 1)

    assert machine.vcpus[0].take() == [VLPI + 65]


@pytest.mark.parametrize("opcode", [c.OP_INV, c.OP_VINVALL])
def test_invalidation_tells_the_vcpu(opcode: int) -> None:
    machine = direct()
    vcpu = machine.vcpus[0]
    vcpu.arm()

    machine.event(opcode, DEVICE, 0) if opcode == c.OP_INV else machine.issue(opcode, (c.COMMAND_VPE, 0))

    assert vcpu.woken == 1
    assert machine.errors() == {}


def test_unmapped_vpe_drops_events_and_a_new_one_gets_them() -> None:
    machine = direct()
    machine.its.signal(DEVICE, 0)
    machine.vmapp(0, valid=False)

    assert not machine.its.signal(DEVICE, 0)
    machine.vmapp(0, vcpu=3)
    machine.vcpus[3].port.enter(0)
    machine.its.signal(DEVICE, 0)

    assert machine.its.dropped == {"VCPU_INVALID": 1}
    assert machine.vcpus[3].take() == [VLPI]


def test_vpe_without_a_vcpu_is_never_resident() -> None:
    machine = direct()
    at = machine.vcpus[7].vpt + 0x1_0000
    machine.issue(
        c.OP_VMAPP, (c.COMMAND_VPE, 9), (c.VMAPP_VPT, at >> 16), (c.VMAPP_VPT_SIZE, 13), (c.COMMAND_V, 1)
    )
    machine.vmapti(DEVICE, 2, 9, VLPI + 3, DOORBELL)

    machine.its.signal(DEVICE, 2)

    assert machine.memory.load(at + 1024, 8) == 8
    assert machine.raised() == [DOORBELL]


def test_virtual_lpi_beyond_the_vpes_table_is_dropped() -> None:
    machine = direct()
    fields = (c.VMAPP_VPT, machine.vcpus[2].vpt >> 16), (c.VMAPP_VPT_SIZE, 12), (c.COMMAND_V, 1)
    machine.issue(c.OP_VMAPP, (c.COMMAND_VPE, 2), *fields)
    machine.vmapti(DEVICE, 2, 2, VLPI)

    assert not machine.its.signal(DEVICE, 2)

    assert machine.its.dropped == {"VIRTUALID_OOR": 1}
