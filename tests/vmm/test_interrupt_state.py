"""What people are shown of a vCPU's interrupts."""

from testbed.messages.control import ListRegister, VcpuInterrupts
from testbed.native import ListRegisters, Pinned, SharedWords, VirtualCpuInterface, VlpiPending
from testbed.spec import gic
from testbed.spec.vcpu_page import VCPU_PAGE
from testbed.vmm.interrupt_state import vcpu_states
from tests.support.vgic_rig import VgicRig


def test_idle_vcpus_have_nothing() -> None:
    pages, vgic = memoryview(bytearray(2 * VCPU_PAGE.size)), VgicRig(2, ready=False).vgic
    first, second = vcpu_states("a", "direct", pages, vgic.cpus)

    assert first == VcpuInterrupts(guest="a", vcpu=0, way="direct", running=False, resident=None)
    assert second.vcpu == 1


def test_everything_that_a_page_has_is_told_and_stays() -> None:
    page = bytearray(VCPU_PAGE.size)
    pinned = Pinned(page)
    words = SharedWords(pinned)
    pending = gic.LR_STATE.put(gic.STATE_PENDING) | gic.LR_PRIORITY.put(0xA0) | gic.LR_GROUP.put(1) | 40
    ListRegisters(pinned).store([pending, pending + 1], 1)
    interface = VirtualCpuInterface(pinned)
    interface.change_vmcr(gic.VMCR_VPMR.mask | gic.VMCR_VENG1.mask, gic.VMCR_VPMR.mask | gic.VMCR_VENG1.mask)
    assert interface.enter()
    assert interface.acknowledge() == 40
    VlpiPending(pinned).set(8192 + 70)
    words.store32(VCPU_PAGE.offset("resident"), 3)
    before = bytes(page)

    (state,) = vcpu_states("b", "list-registers", memoryview(page), VgicRig().vgic.cpus)

    assert state.running
    assert state.resident == 2
    assert state.pending == (8192 + 70,)
    assert state.list_registers == (
        ListRegister(intid=40, state="active", priority=0xA0, group=1),
        ListRegister(intid=41, state="pending", priority=0xA0, group=1),
    )
    assert state.active_priorities == (0xA0,)
    assert bytes(page) == before


def test_what_the_controller_keeps_is_told_too() -> None:
    rig = VgicRig(2)
    vgic, spis = rig.vgic, rig.vgic.spis
    spis.edge = spis.enabled = 0xFF
    spis.group1 = 0xFFFF
    vgic.route(7, 1)
    for intid in range(32, 42):
        vgic.set_level(intid, True)
        vgic.pulse(intid)
    rig.settle()
    first, second = vcpu_states("a", "direct", memoryview(bytearray(2 * VCPU_PAGE.size)), vgic.cpus)

    assert (first.waiting, first.disabled) == ((36, 37, 38), (40, 41))
    assert (second.waiting, second.disabled, second.active) == ((), (), ())
    taken = [rig.acknowledge() for _ in range(4)]
    assert taken[0] == 32
