"""The interrupts of vCPUs as their pages and their interrupt controller have them, for people who look;
looking changes nothing.

Reference: ARM IHI 0069 H.b §12.4 (ICH_LR<n>_EL2, ICH_AP1R), testbed/spec/vcpu_page.py. A running vCPU goes on
meanwhile, so what is told was true of each word, not of all at one time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from testbed.messages.control import ListRegister, VcpuInterrupts
from testbed.native import ListRegisters, Pinned, SharedWords, VlpiPending
from testbed.spec import gic, vcpu_page
from testbed.spec.vcpu_page import VCPU_PAGE
from testbed.vmm.vgic_bank import Bank, bits
from testbed.vmm.vgic_cpu import VgicCpu

_STATES: Final = {
    gic.STATE_PENDING: "pending",
    gic.STATE_ACTIVE: "active",
    gic.STATE_PENDING_ACTIVE: "pending and active",
}


def vcpu_states(guest: str, way: str, pages: memoryview, cpus: Sequence[VgicCpu]) -> Iterator[VcpuInterrupts]:
    """Yield the state of each vCPU of a guest, of whose pages these are."""
    for cpu in cpus:
        page = Pinned(pages[cpu.number * VCPU_PAGE.size : (cpu.number + 1) * VCPU_PAGE.size])
        yield _state(guest, way, page, cpu)


def _state(guest: str, way: str, page: Pinned, cpu: VgicCpu) -> VcpuInterrupts:
    words = SharedWords(page)
    resident = words.load32(VCPU_PAGE.offset("resident"))
    banks = cpu.held()
    return VcpuInterrupts(
        guest=guest,
        vcpu=cpu.number,
        way=way,
        running=words.load32(VCPU_PAGE.offset("run_state")) == vcpu_page.RUN_IN,
        resident=resident - 1 if resident else None,
        pending=tuple(VlpiPending(page).pending()),
        list_registers=tuple(_list_registers(page)),
        active_priorities=tuple(_active(words)),
        waiting=tuple(_intids((bank, pending & bank.enabled) for bank, pending, _ in banks)),
        disabled=tuple(_intids((bank, pending & ~bank.enabled) for bank, pending, _ in banks)),
        active=tuple(_intids((bank, active) for bank, _, active in banks)),
    )


def _intids(sets: Iterable[tuple[Bank, int]]) -> Iterator[int]:
    for bank, members in sets:
        yield from (bank.first + number for number in bits(members))


def _list_registers(page: Pinned) -> Iterator[ListRegister]:
    for image in ListRegisters(page).load()[: gic.LIST_REGISTERS]:
        state = gic.LR_STATE.get(image)
        if state != gic.STATE_INVALID:
            yield ListRegister(
                intid=gic.LR_VINTID.get(image),
                state=_STATES[state],
                priority=gic.LR_PRIORITY.get(image),
                group=gic.LR_GROUP.get(image),
            )


def _active(words: SharedWords) -> Iterator[int]:
    """Yield the priorities that are active, highest first (ICH_AP0R0 and ICH_AP1R0: a bit a priority)."""
    image = words.load32(VCPU_PAGE.offset("ich_ap0r")) | words.load32(VCPU_PAGE.offset("ich_ap1r"))
    step = 8 - gic.PRIORITY_BITS
    yield from (bit << step for bit in range(32) if image >> bit & 1)
