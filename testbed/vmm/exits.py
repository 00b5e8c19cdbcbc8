"""Exits of a vCPU: the syndrome is decoded, the device answers, the vCPU goes on.

Reference: ESR_EL2 for a Data Abort, for HVC and for MSR from a lower Exception level, DDI 0487 D17.2.37; the
exit qualification of an I/O instruction, Intel SDM volume 3 table 28-5; the mailbox is in
testbed/spec/vcpu_page.py. Before a vCPU goes on, its list registers are filled. Every value in the page is
the guest's to write, so each is checked. What no device answers reads as zero and is counted. One exit of a
vCPU is answered a turn, and those that take a decision in Python only while their guest has time left for
them (exit_pace.py), so a guest that floods them delays nobody. Accesses to NICs' registers, once known, are a
driver's way to move frames and wait for nothing. Not modelled: exits for any other reason, sign extension,
string I/O.
"""

from functools import partial
from typing import Final, Protocol

from testbed.messages.doorbell import Ringer
from testbed.native import ExitRequests, Pinned
from testbed.observe.counters import WORD_BYTES, Counters
from testbed.spec import gic
from testbed.spec import vcpu_page as spec
from testbed.vmm.bus import Bus, Window
from testbed.vmm.exit_pace import OFTEN_NS, SELDOM_NS, ExitPace
from testbed.vmm.hypercalls import Hypercalls

_SGI1R: Final = spec.system_register_iss(gic.ICC_SGI1R_EL1)
_DIR: Final = spec.system_register_iss(gic.ICC_DIR_EL1)
_KNOWN_MAX: Final = 4096
"""Accesses whose device is remembered: a guest chooses which it makes."""


class Report(Protocol):
    """Tells, once for each kind, what a guest did wrong."""

    def __call__(self, device: str, reason: str, detail: str) -> None: ...


class _Space:
    """Accesses to one address space: who answers, and what is counted by register."""

    def __init__(self, bus: Bus, counters: Counters, report: Report) -> None:
        self._bus, self._counters, self._report = bus, counters, report

    def read(self, address: int, size_bytes: int) -> int:
        """Return what a load or a port input gives."""
        found = self._found("load", address, size_bytes, write=False)
        if found is None:
            return 0
        return found.device.read(address - found.base, size_bytes) & (1 << 8 * size_bytes) - 1

    def write(self, address: int, size_bytes: int, value: int) -> None:
        """Do a store or a port output."""
        found = self._found("store", address, size_bytes, write=True)
        if found is not None:
            found.device.write(address - found.base, size_bytes, value & (1 << 8 * size_bytes) - 1)

    def _found(self, what: str, address: int, size_bytes: int, *, write: bool) -> Window | None:
        window = self._bus.find(address, size_bytes)
        if window is None:
            self._counters.add("exits.unknown_address")
            self._report("vcpu", "unknown_address", f"{what} of {size_bytes} bytes at {address:#x}")
        elif window.registers is not None:
            self._counters.words[window.registers.index(address - window.base, write=write)] += 1
        return window


class VcpuInterrupts(Protocol):
    """The interrupt controller's side of one vCPU."""

    def enter(self) -> None:
        """The vCPU goes on next: fill its list registers."""
        ...

    def send_sgi(self, value: int) -> None:
        """Do what a write of ICC_SGI1R_EL1 asks for."""
        ...

    def deactivate(self, intid: int) -> None:
        """Do what a write of ICC_DIR_EL1 asks for."""
        ...


class ExitHandler:
    """Answers the exits of one vCPU. `ports` has what answers port I/O; `pace` is the whole guest's."""

    def __init__(
        self,
        page: Pinned,
        bus: Bus,
        ports: Bus,
        interrupts: VcpuInterrupts,
        bell: Ringer,
        counters: Counters,
        report: Report,
        pace: ExitPace,
    ) -> None:
        self.requests = ExitRequests(page, interrupts.enter)
        self._interrupts, self._pace = interrupts, pace
        self._bus, self._bell, self._counters, self._report = bus, bell, counters, report
        self._memory, self._ports = _Space(bus, counters, report), _Space(ports, counters, report)
        self._hypercalls = Hypercalls(counters)
        self._counter_page = Pinned(counters.buffer)
        self._known = 0

    def handle(self) -> bool:
        """Answer the exit that is asked for; True: there was one that need not wait."""
        served = self.requests.serve()
        if not served:
            return False
        if served < 0:
            return self._decide()
        self._bell.ring()
        return True

    def _decide(self) -> bool:
        """Answer an exit that takes Python to decide, at the guest's cost."""
        if not self._pace.begin(self.requests):
            self._counters.add("exits.paced")
            return False
        asked = self.requests.take()
        least_ns = None if asked is None else self._answer(*asked)
        self._bell.ring()
        if least_ns is not None:
            self._pace.end(least_ns)
        return True

    def _answer(self, reason: int, syndrome: int, address: int, data: int) -> int | None:
        """Answer an exit; return what it is charged at least, in nanoseconds; None: nothing."""
        if reason == spec.EXIT_EXCEPTION and syndrome & spec.ESR_MMIO_MASK == spec.ESR_MMIO:
            known = self._known
            self.requests.answer(self._mmio(syndrome, address, data))
            return SELDOM_NS if self._known == known else None
        self._answer_other(reason, syndrome, data)
        return OFTEN_NS if _is_of_interrupts(reason, syndrome) else SELDOM_NS

    def _mmio(self, syndrome: int, address: int, data: int) -> int:
        """Do an access that is not known yet; it is from then on, if it is to a register that counts."""
        size_log2, write = spec.ISS_SAS.get(syndrome), bool(spec.ISS_WNR.get(syndrome))
        size_bytes = 1 << size_log2
        self._counters.add("exits.mmio_write" if write else "exits.mmio_read")
        window = self._bus.find(address, size_bytes)
        if window is not None and self._is_plain(window):
            self._know(window, address, size_log2, write)
        if write:
            self._memory.write(address, size_bytes, data)
            return 0
        return self._memory.read(address, size_bytes)

    def _is_plain(self, window: Window) -> bool:
        """Say whether accesses are to be remembered, and to be answered from then on at nobody's charge."""
        return window.registers is not None and not window.is_paced and self._known < _KNOWN_MAX

    def _know(self, window: Window, address: int, size_log2: int, write: bool) -> None:
        self._known += 1
        assert window.registers is not None
        offset, size_bytes = address - window.base, 1 << size_log2
        register = window.registers.index(offset, write=write) * WORD_BYTES
        if write:
            store = partial(window.device.write, offset, size_bytes)
            reason = self._counters.offset("exits.mmio_write")
            self.requests.know(address, size_log2, True, store, self._counter_page, reason, register)
        else:
            load = partial(window.device.read, offset, size_bytes)
            reason = self._counters.offset("exits.mmio_read")
            self.requests.know(address, size_log2, False, load, self._counter_page, reason, register)

    def _answer_other(self, reason: int, syndrome: int, data: int) -> None:
        if reason == spec.EXIT_EXCEPTION and spec.ESR_EC.get(syndrome) == spec.EC_HVC64:
            self._counters.add("exits.hvc")
            self.requests.answer_with(*self._hypercalls.call(*self.requests.registers()))
        elif reason == spec.EXIT_IRQ:
            self._counters.add("exits.irq")
            self.requests.answer(0)
        elif reason == spec.EXIT_IO_INSTRUCTION and _is_port_io(syndrome):
            self.requests.answer(self._port_io(syndrome, data))
        elif reason == spec.EXIT_EXCEPTION and self._write_system_register(syndrome, data):
            self._counters.add("exits.sysreg")
            self.requests.answer(0)
        else:
            self._counters.add("exits.bad_syndrome")
            self._report("vcpu", "bad_syndrome", f"exit for reason {reason} with syndrome {syndrome:#x}")
            self.requests.answer(0)

    def _write_system_register(self, syndrome: int, value: int) -> bool:
        """Do what a trapped MSR asks for; False: it is none of a register that traps."""
        if spec.ESR_EC.get(syndrome) != spec.EC_SYSTEM_REGISTER:
            return False
        register = syndrome & (spec.ISS_SYS_MASK | spec.ISS_SYS_READ.mask)
        if register == _SGI1R:
            self._interrupts.send_sgi(value)
        elif register == _DIR:
            self._interrupts.deactivate(gic.LR_VINTID.get(value))
        else:
            return False
        return True

    def _port_io(self, qualification: int, data: int) -> int:
        port, size_bytes = spec.IO_PORT.get(qualification), spec.IO_SIZE.get(qualification) + 1
        if spec.IO_IN.get(qualification):
            self._counters.add("exits.port_in")
            return self._ports.read(port, size_bytes)
        self._counters.add("exits.port_out")
        self._ports.write(port, size_bytes, data)
        return 0


def _is_of_interrupts(reason: int, syndrome: int) -> bool:
    """Say whether vCPUs that interrupt each other, or are interrupted, leave for this at every interrupt."""
    is_system_register = spec.ESR_EC.get(syndrome) == spec.EC_SYSTEM_REGISTER
    return reason == spec.EXIT_IRQ or (reason == spec.EXIT_EXCEPTION and is_system_register)


def _is_port_io(qualification: int) -> bool:
    """Say whether an exit qualification is one of a single access."""
    strings = spec.IO_STRING.mask | spec.IO_REP.mask
    return not qualification & strings and spec.IO_SIZE.get(qualification) + 1 in spec.IO_SIZES_BYTES
