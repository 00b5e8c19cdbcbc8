"""A vCPU whose one handler stamps the time it began.

Reference: testbed/native/cpu_interface.h (the virtual CPU interface), testbed/spec/vcpu_page.py (exits). It
is `in the guest` while it polls: a forced exit is a real one, a message to the hypervisor and its answer. Not
modelled: a guest's software beyond the handler.
"""

import time
from collections.abc import Callable

from testbed.guest.vcpu import Wait
from testbed.messages.doorbell import Ringer
from testbed.native import ExitMailbox, Pinned, SharedWords, VirtualCpuInterface
from testbed.observe.counters import Counters
from testbed.spec import gic, lpi, vcpu_page
from testbed.spec.irq_stamps import IRQ_STAMPS

PRIORITY_MASK = 0xF0
_LOAD = vcpu_page.ESR_MMIO | vcpu_page.ISS_SAS.put(2)
"""The syndrome of a load of 4 bytes."""
_AT = IRQ_STAMPS.offset
_SIGNALLED, _HANDLED, _HANDLED_NS = _AT("signalled"), _AT("handled"), _AT("handled_ns")


class StampingVcpu:
    """Takes every interrupt that its interface signals."""

    def __init__(
        self,
        page: Pinned,
        lpi_table: Pinned,
        stamps: Pinned,
        bell: Ringer,
        wait: Wait,
        counters: Counters,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        cause_gpa: int = 0,
    ) -> None:
        """`cause_gpa`: the register whose load, which traps, has the device lower its line; 0: none."""
        self.interface = VirtualCpuInterface(page)
        self.interface.use_lpi_table(lpi_table, 0, lpi.VLPIS)
        enabled = gic.VMCR_VPMR.put(PRIORITY_MASK) | gic.VMCR_VENG1.mask
        self.interface.change_vmcr(gic.VMCR_VPMR.mask | gic.VMCR_VENG1.mask, enabled)
        self._cause_gpa = cause_gpa
        self._mailbox, self._stamps = ExitMailbox(page), SharedWords(stamps)
        self._bell, self._wait, self._counters, self._clock_ns = bell, wait, counters, clock_ns

    def take(self) -> bool:
        """Leave where the hypervisor wants that, and handle what is signalled."""
        interface = self.interface
        if not interface.enter():
            return False  # the hypervisor is at the list registers
        if interface.must_exit:
            self._exit()
        moved = False
        while (intid := interface.acknowledge()) != gic.SPURIOUS:
            now_ns = self._clock_ns()  # the handler's first line
            self._stamps.store64(_HANDLED_NS, now_ns)
            self._stamps.store32(_HANDLED, self._stamps.load32(_SIGNALLED))
            if self._cause_gpa:
                self._leave(vcpu_page.EXIT_EXCEPTION, _LOAD, self._cause_gpa)
            interface.end(intid)
            self._counters.add("taken")
            moved = True
            if interface.maintenance:
                self._exit()
        return moved

    def _exit(self) -> None:
        self._leave(vcpu_page.EXIT_IRQ, 0, 0)

    def _leave(self, reason: int, syndrome: int, gpa: int) -> None:
        """Leave for the hypervisor, and come back."""
        self._counters.add("exits")
        self._mailbox.leave(reason, syndrome, gpa, 0)
        self._bell.ring()
        self._wait(self._mailbox.answered)
