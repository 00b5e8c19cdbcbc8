"""Exits of a vCPU: the syndrome is decoded, the device answers, the vCPU goes on.

Reference: ESR_EL2 for a Data Abort and for HVC from a lower Exception level, DDI 0487 D17.2.37; the exit
qualification of an I/O instruction, Intel SDM volume 3 table 28-5; the mailbox is in
testbed/spec/vcpu_page.py. Every value in the page is the guest's to write, so each is checked. What no
device answers reads as zero and is counted. One exit of a vCPU is answered a turn, so a guest that floods
them delays nobody. Not modelled: exits for any other reason, sign extension, string I/O.
"""

from collections.abc import Callable
from typing import Final, Protocol

from testbed.messages.doorbell import Ringer
from testbed.native import ExitRequests, Pinned
from testbed.observe.counters import Counters
from testbed.spec import vcpu_page as spec
from testbed.vmm.bus import Bus
from testbed.vmm.hypercalls import Hypercalls

_MMIO_MASK: Final = spec.ESR_EC.mask | spec.ISS_ISV.mask
_MMIO: Final = spec.ESR_EC.put(spec.EC_DATA_ABORT_LOWER) | spec.ISS_ISV.put(1)
_HVC: Final = spec.EC_HVC64
_SAS_LSB: Final = spec.ISS_SAS.lsb
_WNR: Final = spec.ISS_WNR.mask
_SIZES_BYTES: Final = (1, 2, 4, 8)
_KNOWN_MAX: Final = 4096
"""Accesses whose device is remembered: a guest chooses which it makes."""


class Report(Protocol):
    """Tells, once for each kind, what a guest did wrong."""

    def __call__(self, device: str, reason: str, detail: str) -> None: ...


class _Space:
    """Accesses to one address space: who answers, and what is counted by register."""

    def __init__(self, bus: Bus, counters: Counters, report: Report) -> None:
        self._bus, self._counters, self._report = bus, counters, report
        self._words = counters.words
        self._readers: dict[int, tuple[Callable[[int, int], int], int, int]] = {}
        self._writers: dict[int, tuple[Callable[[int, int, int], None], int, int]] = {}

    def read(self, address: int, size_bytes: int) -> int:
        """Return what a load or a port input gives."""
        known = self._readers.get(address << 4 | size_bytes)
        if known is None:
            return self._read_any(address, size_bytes)
        read, offset, index = known
        self._words[index] += 1
        return read(offset, size_bytes) & (1 << 8 * size_bytes) - 1

    def write(self, address: int, size_bytes: int, value: int) -> None:
        """Do a store or a port output."""
        known = self._writers.get(address << 4 | size_bytes)
        if known is None:
            self._write_any(address, size_bytes, value)
            return
        write, offset, index = known
        self._words[index] += 1
        write(offset, size_bytes, value & (1 << 8 * size_bytes) - 1)

    def _read_any(self, address: int, size_bytes: int) -> int:
        window = self._bus.find(address, size_bytes)
        if window is None:
            self._nobody("load", address, size_bytes)
            return 0
        offset = address - window.base
        if window.registers is not None:
            index = window.registers.index(offset, write=False)
            self._words[index] += 1
            if len(self._readers) < _KNOWN_MAX:
                self._readers[address << 4 | size_bytes] = window.device.read, offset, index
        return window.device.read(offset, size_bytes) & (1 << 8 * size_bytes) - 1

    def _write_any(self, address: int, size_bytes: int, value: int) -> None:
        window = self._bus.find(address, size_bytes)
        if window is None:
            self._nobody("store", address, size_bytes)
            return
        offset = address - window.base
        if window.registers is not None:
            index = window.registers.index(offset, write=True)
            self._words[index] += 1
            if len(self._writers) < _KNOWN_MAX:
                self._writers[address << 4 | size_bytes] = window.device.write, offset, index
        window.device.write(offset, size_bytes, value & (1 << 8 * size_bytes) - 1)

    def _nobody(self, what: str, address: int, size_bytes: int) -> None:
        self._counters.add("exits.unknown_address")
        self._report("vcpu", "unknown_address", f"{what} of {size_bytes} bytes at {address:#x}")


class ExitHandler:
    """Answers the exits of one vCPU. `ports` has what answers port I/O."""

    def __init__(
        self, page: Pinned, bus: Bus, ports: Bus, bell: Ringer, counters: Counters, report: Report
    ) -> None:
        self.requests = ExitRequests(page)
        self._memory, self._ports = _Space(bus, counters, report), _Space(ports, counters, report)
        self._hypercalls = Hypercalls(counters)
        self._bell, self._counters, self._report = bell, counters, report
        self._words = counters.words
        self._reads = counters.index["exits.mmio_read"]
        self._writes = counters.index["exits.mmio_write"]

    def handle(self) -> bool:
        """Answer the exit that is asked for; True: there was one."""
        asked = self.requests.take()
        if asked is None:
            return False
        reason, syndrome, address, data = asked
        if reason == spec.EXIT_EXCEPTION and syndrome & _MMIO_MASK == _MMIO:
            size_bytes = _SIZES_BYTES[syndrome >> _SAS_LSB & 3]
            if syndrome & _WNR:
                self._words[self._writes] += 1
                self._memory.write(address, size_bytes, data)
                self.requests.answer(0)
            else:
                self._words[self._reads] += 1
                self.requests.answer(self._memory.read(address, size_bytes))
        else:
            self._answer_other(reason, syndrome, data)
        self._bell.ring()
        return True

    def _answer_other(self, reason: int, syndrome: int, data: int) -> None:
        if reason == spec.EXIT_EXCEPTION and spec.ESR_EC.get(syndrome) == _HVC:
            self._counters.add("exits.hvc")
            self.requests.answer_with(*self._hypercalls.call(*self.requests.registers()))
        elif reason == spec.EXIT_IO_INSTRUCTION and _is_port_io(syndrome):
            self.requests.answer(self._port_io(syndrome, data))
        else:
            self._counters.add("exits.bad_syndrome")
            self._report("vcpu", "bad_syndrome", f"exit for reason {reason} with syndrome {syndrome:#x}")
            self.requests.answer(0)

    def _port_io(self, qualification: int, data: int) -> int:
        port, size_bytes = spec.IO_PORT.get(qualification), spec.IO_SIZE.get(qualification) + 1
        if spec.IO_IN.get(qualification):
            self._counters.add("exits.port_in")
            return self._ports.read(port, size_bytes)
        self._counters.add("exits.port_out")
        self._ports.write(port, size_bytes, data)
        return 0


def _is_port_io(qualification: int) -> bool:
    """Say whether an exit qualification is one of a single access."""
    strings = spec.IO_STRING.mask | spec.IO_REP.mask
    return not qualification & strings and spec.IO_SIZE.get(qualification) + 1 in spec.IO_SIZES_BYTES
