"""A virtual CPU's memory accesses: through stage 2, and where that maps nothing, an exit to the vmm.

Reference: DDI 0487 D17.2.37 (the syndrome of an exit), testbed/spec/vcpu_page.py (the mailbox). A store to an
address that the hypervisor registered as a doorbell rings the bell and goes on. Not modelled: instruction
execution, exclusive accesses.
"""

from collections.abc import Callable
from typing import Protocol

from testbed.errors import MemoryFault
from testbed.memory.guest import GuestMemory
from testbed.messages.doorbell import Ringer
from testbed.native import Pinned, SharedWords
from testbed.observe.counters import Counters
from testbed.spec import page_table
from testbed.spec import vcpu_page as spec

_PAGE = spec.VCPU_PAGE
_REQUEST, _REPLY = _PAGE.offset("exit_request"), _PAGE.offset("exit_reply")
_ESR, _GPA, _DATA = _PAGE.offset("exit_esr"), _PAGE.offset("exit_gpa"), _PAGE.offset("exit_data")
_RESULT = _PAGE.offset("exit_result")
_DOORBELLS = _PAGE.offset("doorbells")


class Wait(Protocol):
    """Blocks until a condition holds, as the process's loop sleeps."""

    def __call__(self, ready: Callable[[], bool]) -> None: ...


class Vcpu:
    """Loads and stores of one virtual CPU."""

    def __init__(
        self, page: Pinned, memory: GuestMemory, bell: Ringer, wait: Wait, counters: Counters
    ) -> None:
        self.memory = memory
        self._words, self._bell, self._wait, self._counters = SharedWords(page), bell, wait, counters
        self._number = self._words.load32(_REPLY)

    def load(self, gpa: int, size_bytes: int = 4) -> int:
        """Return what is at a guest physical address, memory or device."""
        value = self.memory.stage2.load(gpa, size_bytes)
        if value >= 0:
            return value
        return self._exit(_syndrome(value, gpa, size_bytes, write=False), gpa, 0, "exits.mmio_read")

    def store(self, gpa: int, value: int, size_bytes: int = 4) -> None:
        """Store to a guest physical address, memory or device."""
        fault = self.memory.stage2.store(gpa, size_bytes, value)
        if fault >= 0:
            return
        if self._is_doorbell(gpa):
            self._counters.add("exits.doorbell")
            self._bell.ring()
            return
        self._exit(_syndrome(fault, gpa, size_bytes, write=True), gpa, value, "exits.mmio_write")

    def _exit(self, esr: int, gpa: int, data: int, reason: str) -> int:
        """Leave the guest, wait for the vmm, and return the result of a load."""
        self._counters.add(reason)
        words = self._words
        words.store64(_ESR, esr)
        words.store64(_GPA, gpa)
        words.store64(_DATA, data)
        self._number = number = self._number + 1 & 0xFFFF_FFFF
        # release: whoever acquires the request's number sees syndrome, address and data
        words.store32(_REQUEST, number)
        self._bell.ring()
        self._wait(lambda: words.load32(_REPLY) == number)
        return words.load64(_RESULT)

    def _is_doorbell(self, gpa: int) -> bool:
        record = spec.DOORBELL_MATCH
        for index in range(spec.DOORBELL_MATCHES):
            base = _DOORBELLS + index * record.size
            if not self._words.load32(base + record.offset("valid")):
                return False
            if self._words.load64(base + record.offset("gpa")) == gpa:
                return True
        return False


def _syndrome(fault: int, gpa: int, size_bytes: int, write: bool) -> int:
    """Return ESR_EL2 for a stage-2 translation fault; any other fault is the driver's own: MemoryFault."""
    status = page_table.FAULT_DFSC.get(-fault)
    if status & ~3 != spec.DFSC_TRANSLATION_L0:
        raise MemoryFault(gpa, size_bytes, f"faults with status {status:#x}")
    return (
        spec.ESR_EC.put(spec.EC_DATA_ABORT_LOWER)
        | spec.ESR_IL.put(1)
        | spec.ISS_ISV.put(1)
        | spec.ISS_SAS.put(size_bytes.bit_length() - 1)
        | spec.ISS_WNR.put(int(write))
        | spec.ISS_DFSC.put(status)
    )
