"""Exits of a vCPU: the syndrome is decoded, the device answers, the vCPU goes on.

Reference: ESR_EL2 for a Data Abort from a lower Exception level, DDI 0487 D17.2.37; the mailbox is in
testbed/spec/vcpu_page.py. Every value in the page is the guest's to write, so each is checked. What no
device answers reads as zero and is counted. One exit of a vCPU is answered a turn, so a guest that floods
them delays nobody. Not modelled: exits for any other reason, sign extension.
"""

from typing import Protocol

from testbed.messages.doorbell import Ringer
from testbed.native import Pinned, SharedWords, WordChanges
from testbed.observe.counters import Counters
from testbed.spec import vcpu_page as spec
from testbed.vmm.bus import Bus

_REQUEST = spec.VCPU_PAGE.offset("exit_request")
_ESR = spec.VCPU_PAGE.offset("exit_esr")
_GPA = spec.VCPU_PAGE.offset("exit_gpa")
_DATA = spec.VCPU_PAGE.offset("exit_data")
_REPLY = spec.VCPU_PAGE.offset("exit_reply")
_RESULT = spec.VCPU_PAGE.offset("exit_result")


class Report(Protocol):
    """Tells, once for each kind, what a guest did wrong."""

    def __call__(self, device: str, reason: str, detail: str) -> None: ...


class ExitHandler:
    """Answers the exits of one vCPU."""

    def __init__(self, page: Pinned, bus: Bus, bell: Ringer, counters: Counters, report: Report) -> None:
        self.requests = WordChanges(page, _REQUEST)
        self._words = SharedWords(page)
        self._bus, self._bell, self._counters, self._report = bus, bell, counters, report

    def handle(self) -> bool:
        """Answer the exit that is asked for; True: there was one."""
        # acquire: pairs with the vCPU's release of the number, so syndrome, address and data are those of it
        number = self.requests.take()
        words = self._words
        if words.load32(_REPLY) == number:
            return False
        result = self._answer(words.load64(_ESR), words.load64(_GPA), words.load64(_DATA))
        words.store64(_RESULT, result)
        # release: the vCPU that acquires the reply's number sees the result
        words.store32(_REPLY, number)
        self._bell.ring()
        return True

    def _answer(self, esr: int, gpa: int, data: int) -> int:
        if spec.ESR_EC.get(esr) != spec.EC_DATA_ABORT_LOWER or not spec.ISS_ISV.get(esr):
            self._counters.add("exits.bad_syndrome")
            self._report("vcpu", "bad_syndrome", f"exit with syndrome {esr:#x}")
            return 0
        size_bytes = 1 << spec.ISS_SAS.get(esr)
        write = bool(spec.ISS_WNR.get(esr))
        self._counters.add("exits.mmio_write" if write else "exits.mmio_read")
        found = self._bus.find(gpa, size_bytes)
        if found is None:
            self._counters.add("exits.unknown_address")
            self._report(
                "vcpu", "unknown_address", f"{'store' if write else 'load'} of {size_bytes} bytes at {gpa:#x}"
            )
            return 0
        device, offset = found
        mask = (1 << 8 * size_bytes) - 1
        if write:
            device.write(offset, size_bytes, data & mask)
            return 0
        return device.read(offset, size_bytes) & mask
