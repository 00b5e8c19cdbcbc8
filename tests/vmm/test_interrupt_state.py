"""What people are shown of a vCPU's interrupts."""

from testbed.messages.control import ListRegister, VcpuInterrupts
from testbed.native import ListRegisters, Pinned, SharedWords, VirtualCpuInterface, VlpiPending
from testbed.spec import gic
from testbed.spec.vcpu_page import VCPU_PAGE
from testbed.vmm.interrupt_state import vcpu_states


def test_idle_vcpus_have_nothing() -> None:
    first, second = vcpu_states("a", "direct", memoryview(bytearray(2 * VCPU_PAGE.size)))

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

    (state,) = vcpu_states("b", "list-registers", memoryview(page))

    assert state.running
    assert state.resident == 2
    assert state.pending == (8192 + 70,)
    assert state.list_registers == (
        ListRegister(intid=40, state="active", priority=0xA0, group=1),
        ListRegister(intid=41, state="pending", priority=0xA0, group=1),
    )
    assert state.active_priorities == (0xA0,)
    assert bytes(page) == before
