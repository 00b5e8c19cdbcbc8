"""The virtual timer of a vCPU: PPI 27, mapped to the physical interrupt of the same number.

Reference: DDI 0487 D13.2 (the generic timer: condition met, ISTATUS, IMASK); ARM IHI 0069 §6.3 (hardware
interrupts in list registers). The guest writes CNTV_CVAL and CNTV_CTL without an exit. When the condition is
met its processor takes a physical interrupt, which is an exit; while the line is asserted the physical
interrupt is kept active, so that it does not fire again, until the guest ends the virtual one. The counter
is CLOCK_MONOTONIC in nanoseconds. Not modelled: an offset, the physical timer's own registers.
"""

from collections.abc import Callable
from typing import Final, Protocol

from testbed.native import SharedWords, trace
from testbed.spec import gic
from testbed.spec import trace as events
from testbed.spec.vcpu_page import VCPU_PAGE
from testbed.vmm.vgic_bank import Bank

_BIT: Final = 1 << gic.PPI_VIRTUAL_TIMER
_CTL: Final = VCPU_PAGE.offset("cntv_ctl")
_CVAL: Final = VCPU_PAGE.offset("cntv_cval")
_PHYSICAL: Final = VCPU_PAGE.offset("physical_active")
_ENABLE: Final = gic.CNTV_ENABLE.mask
_RUNS: Final = _ENABLE | gic.CNTV_IMASK.mask


class TimedCpu(Protocol):
    """The vCPU whose timer it is."""

    private: Bank
    who: int
    """Which it is, for whoever traces."""


class VirtualTimer:
    """The hypervisor's side of one vCPU's timer."""

    def __init__(self, words: SharedWords, cpu: TimedCpu, clock: Callable[[], int]) -> None:
        self._words, self._cpu, self._clock = words, cpu, clock

    def sample(self) -> int:
        """Look at the timer's line; return the set of interrupts that are mapped to hardware."""
        words, private = self._words, self._cpu.private
        enabled = words.load32(_CTL) & _RUNS == _ENABLE
        if enabled and (at_ns := words.load64(_CVAL)) <= self._clock():
            if trace and not words.load64(_PHYSICAL) & _BIT:  # the last one has been ended
                trace(events.TIMER_ASSERTED, gic.PPI_VIRTUAL_TIMER, self._cpu.who, at_ns)
            words.set_bits64(_PHYSICAL, _BIT)
            private.line |= _BIT
        elif private.line & _BIT:
            private.line &= ~_BIT
            words.clear_bits64(_PHYSICAL, _BIT)
        return _BIT
