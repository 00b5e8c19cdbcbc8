"""A virtual CPU's memory accesses: through stage 2, and where that maps nothing, an exit to the vmm.

Reference: DDI 0487 D17.2.37 (the syndrome of an exit), testbed/spec/vcpu_page.py (the mailbox). A store to an
address that the hypervisor registered as a doorbell rings the bell and goes on. Port I/O (which Arm lacks),
HVC, system registers that trap, and the hypervisor's interrupts leave the same way. Not modelled: instruction
execution, exclusive accesses.
"""

from collections.abc import Callable
from functools import cache
from typing import Final, Protocol

from testbed.errors import MemoryFault
from testbed.memory.guest import GuestMemory
from testbed.messages.doorbell import Ringer
from testbed.native import ExitMailbox, Pinned
from testbed.observe.counters import Counters
from testbed.spec import page_table
from testbed.spec import vcpu_page as spec
from testbed.spec.gic import SystemRegister

_MSR: Final = spec.ESR_EC.put(spec.EC_SYSTEM_REGISTER) | spec.ESR_IL.put(1)
_HVC: Final = spec.ESR_EC.put(spec.EC_HVC64) | spec.ESR_IL.put(1)


class Wait(Protocol):
    """Blocks until a condition holds, as the process's loop sleeps."""

    def __call__(self, ready: Callable[[], bool]) -> None: ...


class Vcpu:
    """Loads and stores of one virtual CPU."""

    def __init__(
        self,
        page: Pinned,
        memory: GuestMemory,
        bell: Ringer,
        wait: Wait,
        counters: Counters,
        spin_ns: int = 0,
    ) -> None:
        """`spin_ns`: how long an exit looks for its answer before it waits as the loop does."""
        self.memory = memory
        self._mailbox, self._bell, self._wait, self._counters = ExitMailbox(page), bell, wait, counters
        self._spin_ns = spin_ns

    def load(self, gpa: int, size_bytes: int = 4) -> int:
        """Return what is at a guest physical address, memory or device."""
        value = self.memory.stage2.load(gpa, size_bytes)
        if value >= 0:
            return value
        return self._exit(_syndrome_of(value, gpa, size_bytes, write=False), gpa, 0, "exits.mmio_read")

    def store(self, gpa: int, value: int, size_bytes: int = 4) -> None:
        """Store to a guest physical address, memory or device."""
        fault = self.memory.stage2.store(gpa, size_bytes, value)
        if fault >= 0:
            return
        if self._mailbox.is_doorbell(gpa):
            self._counters.add("exits.doorbell")
            self._bell.ring()
            return
        self._exit(_syndrome_of(fault, gpa, size_bytes, write=True), gpa, value, "exits.mmio_write")

    def port_in(self, port: int, size_bytes: int = 4) -> int:
        """Return what a port gives."""
        return self._port_io(port, size_bytes, 0, spec.IO_IN.put(1), "exits.port_in")

    def port_out(self, port: int, value: int, size_bytes: int = 4) -> None:
        """Write to a port."""
        self._port_io(port, size_bytes, value, 0, "exits.port_out")

    def hvc(self, x0: int, x1: int = 0, x2: int = 0, x3: int = 0) -> tuple[int, int, int, int]:
        """Call the hypervisor; return X0 to X3."""
        self._counters.add("exits.hvc")
        self._mailbox.leave_with(spec.EXIT_EXCEPTION, _HVC, x0, x1, x2, x3)
        self._await_answer()
        return self._mailbox.results

    def write_system_register(self, register: SystemRegister, value: int) -> None:
        """Write a system register that traps."""
        self._exit(_MSR | spec.system_register_iss(register), 0, value, "exits.sysreg")

    def take_physical_interrupt(self) -> None:
        """Leave the guest for an interrupt that is the hypervisor's, and come back."""
        self._counters.add("exits.irq")
        self._mailbox.leave(spec.EXIT_IRQ, 0, 0, 0)
        self._await_answer()

    def _port_io(self, port: int, size_bytes: int, value: int, direction: int, counter: str) -> int:
        self._counters.add(counter)
        syndrome = direction | spec.IO_SIZE.put(size_bytes - 1) | spec.IO_PORT.put(port)
        self._mailbox.leave(spec.EXIT_IO_INSTRUCTION, syndrome, 0, value)
        self._await_answer()
        return self._mailbox.result

    def _exit(self, esr: int, gpa: int, data: int, reason: str) -> int:
        """Leave the guest, wait for the vmm, and return the result of a load."""
        self._counters.add(reason)
        self._mailbox.leave(spec.EXIT_EXCEPTION, esr, gpa, data)
        self._await_answer()
        return self._mailbox.result

    def _await_answer(self) -> None:
        self._bell.ring()
        if not self._mailbox.answered(self._spin_ns):
            self._wait(lambda: self._mailbox.answered(self._spin_ns))


def _syndrome_of(fault: int, gpa: int, size_bytes: int, write: bool) -> int:
    """Return ESR_EL2 for a stage-2 translation fault; any other fault is the driver's own: MemoryFault."""
    syndrome = _syndrome(fault, size_bytes, write)
    if not syndrome:
        status = page_table.FAULT_DFSC.get(-fault)
        raise MemoryFault(gpa, size_bytes, f"faults with status {status:#x}")
    return syndrome


@cache
def _syndrome(fault: int, size_bytes: int, write: bool) -> int:
    """Return ESR_EL2; 0 where the fault is not a translation fault."""
    status = page_table.FAULT_DFSC.get(-fault)
    if status & ~3 != spec.DFSC_TRANSLATION_L0:
        return 0
    return (
        spec.ESR_EC.put(spec.EC_DATA_ABORT_LOWER)
        | spec.ESR_IL.put(1)
        | spec.ISS_ISV.put(1)
        | spec.ISS_SAS.put(size_bytes.bit_length() - 1)
        | spec.ISS_WNR.put(int(write))
        | spec.ISS_DFSC.put(status)
    )
