"""The receive unit of the 82540EM: registers of the ring, and the way frames take into the guest.

Reference: 8254x SDM §3.2, §13.4.22 to §13.4.32, §13.4.47, §9.2.2. What is done per frame (filters, copying
into descriptors, tag stripping, checksum checks, write-back) is native/e1000_receive.c.
A frame for which there are no descriptors waits with its sender, which is this device's receive FIFO; only
when its sender gives up is it missed. Frames shorter than the least Ethernet frame are padded, as their MAC
would. Not modelled: frames with errors of the wire, so RCTL.SBP has nothing to store; flow control; the
FIFO's size.
"""

from collections.abc import Callable
from typing import Final

from testbed.e1000.filters import Filters
from testbed.e1000.interrupt import RXDMT0, RXT0, SRPD, Interrupts
from testbed.memory.register_file import RegisterFile
from testbed.native import E1000_RX_DELIVERED, E1000_RX_SMALL, E1000_RX_THRESHOLD, Burst, E1000Receive
from testbed.spec.e1000 import field, mask
from testbed.spec.e1000_ring import DESC_BYTES

_EN: Final = mask("RCTL", "EN")
_LPE: Final = mask("RCTL", "LPE")
_SECRC: Final = mask("RCTL", "SECRC")
_BSEX: Final = mask("RCTL", "BSEX")
_VME: Final = mask("CTRL", "VME")
_BSIZE: Final = field("RCTL", "BSIZE")
_RDMTS: Final = field("RCTL", "RDMTS")
_PCSS: Final = field("RXCSUM", "PCSS")
_BUFFER_BYTES: Final = (2048, 1024, 512, 256)
_BSEX_FACTOR: Final = 16
_RDMTS_EIGHTH: Final = 2

FaultCode = Callable[[int], None]


def buffer_bytes(rctl: int) -> int:
    """Return the size of a receive buffer (§13.4.22 BSIZE, BSEX; the reserved size 0 with BSEX is 16384)."""
    size = _BUFFER_BYTES[_BSIZE.get(rctl)]
    if not rctl & _BSEX:
        return size
    return min(size, _BUFFER_BYTES[1]) * _BSEX_FACTOR


class ReceiveUnit:
    """Stores bursts. `fault` is called with the code of what stopped the ring, once each time."""

    def __init__(
        self,
        ring: E1000Receive,
        registers: RegisterFile,
        interrupts: Interrupts,
        fault: FaultCode,
        station_changed: Callable[[], None],
    ) -> None:
        self.ring, self._registers, self._interrupts, self._fault = ring, registers, interrupts, fault
        self.filters = Filters(registers, ring, station_changed)
        self._faulted = 0
        self._link_up = False
        registers.on_read("RDH", lambda: self.ring.head)
        registers.on_write("RDH", self._head)
        registers.on_write("RDT", ring.set_tail)
        for name in ("RDBAL", "RDBAH", "RDLEN"):
            registers.on_write(name, self._place)
        registers.on_write("RSRPD", self._configure)
        registers.on_write("RXCSUM", self._configure_checksums)

    @property
    def enabled(self) -> bool:
        """Say whether the receiver is on and has a link."""
        return self._link_up and bool(self._registers["RCTL"] & _EN)

    def reset(self, station: bytes | None) -> None:
        """Forget the ring; addresses become invalid but for the station's, tables stay (§14.7)."""
        self.ring.reset()
        self._faulted = 0
        self.filters.reset(station)
        self._place(0)
        self._configure_checksums(0)
        self.refresh()

    def set_link(self, up: bool) -> None:
        """Stop or go on as the link goes down or comes up."""
        self._link_up = up
        self._configure(0)

    def refresh(self) -> None:
        """Take RCTL and the VLAN mode anew, after RCTL or CTRL was written."""
        self.filters.configure(self._registers["RCTL"])
        self._configure(0)

    def deliver(self, burst: Burst, first: int, number: int) -> int:
        """Store the frames for port `number` from `first` on; return the index of the first that waits."""
        stopped, events = self.ring.deliver(burst, first, number)
        if events:
            self._raise(events)
        elif self.ring.fault != self._faulted:
            self._faulted = self.ring.fault
            if self._faulted:
                self._fault(self._faulted)
        return stopped

    def _raise(self, events: int) -> None:
        if events & E1000_RX_THRESHOLD:
            self._interrupts.cause(RXDMT0)
        if events & E1000_RX_SMALL:
            self._interrupts.cause(SRPD | RXT0)  # §3.2.7.2: RXT0 is noted with it
        elif events & E1000_RX_DELIVERED:
            self._interrupts.received()

    # registers

    def _head(self, value: int) -> None:
        self.ring.head = value & mask("RDH", "RDH")

    def _place(self, _value: int) -> None:
        registers = self._registers
        base = registers["RDBAH"] << 32 | registers["RDBAL"]
        self.ring.set_ring(base, registers["RDLEN"] // DESC_BYTES)

    def _configure(self, _value: int) -> None:
        registers = self._registers
        rctl = registers["RCTL"]
        self.ring.configure(
            self.enabled,
            buffer_bytes(rctl),
            bool(rctl & _LPE),
            bool(rctl & _SECRC),
            bool(registers["CTRL"] & _VME),
            1 + min(_RDMTS.get(rctl), _RDMTS_EIGHTH),
            registers["RSRPD"],
        )

    def _configure_checksums(self, _value: int) -> None:
        rxcsum = self._registers["RXCSUM"]
        self.ring.configure_checksums(
            _PCSS.get(rxcsum),
            bool(rxcsum & mask("RXCSUM", "IPOFLD")),
            bool(rxcsum & mask("RXCSUM", "TUOFLD")),
            bool(rxcsum & mask("RXCSUM", "IPV6OFL")),
        )
