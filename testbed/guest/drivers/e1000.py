"""The guest's driver for the 82540EM and its kin: an ordinary 8254x driver.

Reference: 8254x SDM §14 (initialization), §13.4 (registers), §5.3.1 and §5.6 (EEPROM), §3.2 and §3.4
(rings). It knows a register block behind a bus, memory for DMA and an interrupt, and nothing of what is
behind them.

It works like every driver of this part: the handler reads ICR (which clears it), masks everything, and
leaves the rings to polling; when there is nothing left, `before_sleep` unmasks and looks once more. Transmit
descriptors are reclaimed by their DD bit. Not used: offloads, VLAN filters, wake-up, flow control, the delay
timers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from testbed.errors import DeviceError
from testbed.guest.drivers.tail_queue import TailQueue
from testbed.native import E1000RxDriver, E1000TxDriver, Pinned
from testbed.observe.counters import Counters
from testbed.pci.access import RegisterBus
from testbed.spec import e1000_eeprom as eeprom
from testbed.spec import e1000_phy as phy
from testbed.spec.e1000 import (
    IO_REGISTERS,
    ITR_UNIT_NS,
    MDIC_OP_READ,
    MDIC_OP_WRITE,
    PHY_ADDRESS,
    REGISTERS,
    field,
    mask,
)
from testbed.spec.e1000_ring import (
    DESC_BYTES,
    ETHERNET_HEADER_BYTES,
    RINGLEN_MAX_DESC,
    RINGLEN_MIN_DESC,
    VLAN_TAG_BYTES,
)

_TDT: Final = REGISTERS["TDT"].offset
_RDT: Final = REGISTERS["RDT"].offset
_POLLS_MAX: Final = 10_000
"""Reads of a register that a device takes its time over, before the driver gives up."""
_ALL_CAUSES: Final = 0xFFFF_FFFF
_CAUSES: Final = mask("ICR", "TXDW", "LSC", "RXDMT0", "RXO", "RXT0")
_CACHE_LINE_BYTES: Final = 64
_MTU_MAX_SHORT: Final = 1500
"""Without RCTL.LPE frames of 1522 bytes are taken, a tag and the FCS among them."""
_BUFFER_SIZES: Final = ((2048, 0, 0), (4096, 3, 1), (8192, 2, 1), (16384, 1, 1))
"""(bytes, RCTL.BSIZE, RCTL.BSEX), §13.4.22."""
_TIPG_COPPER: Final = 10
_COLLISION_THRESHOLD: Final = 0x0F
_COLLISION_DISTANCE: Final = 0x40


class PortBus(Protocol):
    """The ports of the device's I/O BAR."""

    def write32(self, offset: int, value: int) -> None:
        """Write a port."""
        ...


class DmaPiece(Protocol):
    """Memory that both the driver and the device can reach."""

    @property
    def gpa(self) -> int:
        """Its address as the device uses it."""
        ...

    @property
    def pinned(self) -> Pinned:
        """The same memory as the driver has it."""
        ...


class DmaMemory(Protocol):
    """Where the driver gets memory for rings and buffers."""

    def take(self, size_bytes: int, purpose: str) -> DmaPiece:
        """Return zeroed, page-aligned memory."""
        ...


@dataclass(frozen=True)
class E1000DriverConfig:
    """What whoever loads the driver may choose.

    ring_size: descriptors of each ring, a multiple of 8. frames_per_kick: frames sent before TDT is
    written. throttle_ns: least time between two interrupts.
    """

    ring_size: int = 256
    mtu: int = 1500
    frames_per_kick: int = 256
    throttle_ns: int = 0

    def __post_init__(self) -> None:
        """Refuse a ring that the device cannot have (§13.4.27)."""
        if not RINGLEN_MIN_DESC <= self.ring_size < RINGLEN_MAX_DESC or self.ring_size % RINGLEN_MIN_DESC:
            raise ValueError(f"a ring has a multiple of 8 descriptors below 65536, not {self.ring_size}")


class E1000Driver(TailQueue):
    """One interface; `counter_prefix` is its block of the guest's counters. DeviceError where it does not
    come up. With `ports` it resets the device through the I/O BAR.
    """

    def __init__(
        self,
        bus: RegisterBus,
        memory: DmaMemory,
        counters: Counters,
        counter_prefix: str,
        config: E1000DriverConfig,
        ports: PortBus | None = None,
    ) -> None:
        super().__init__(
            bus, (_TDT, _RDT), counters, counter_prefix, config.frames_per_kick, config.ring_size
        )
        self._bus, self._ports, self._config, self.mtu = bus, ports, config, config.mtu
        self._buffer_bytes, self._bsize, self._bsex = _buffer_size(config.mtu)
        self._reset_device()
        self.mac = self._read_mac()
        self._rx_ring = memory.take(config.ring_size * DESC_BYTES, "e1000 receive ring")
        self._tx_ring = memory.take(config.ring_size * DESC_BYTES, "e1000 transmit ring")
        self._rx, self._tx = self._receive_ring(memory), self._transmit_ring(memory)
        self._masked = True
        self._multicast = 0
        self._start()

    # NetDriver

    @property
    def link_up(self) -> bool:
        """The link as STATUS last said."""
        return self._link_up

    def handle_interrupt(self) -> bool:
        """Read the causes, mask everything, look at the link; the rings are polled. False: not this
        device.
        """
        causes = self._read("ICR")
        if not causes:
            return False
        self._write("IMC", _ALL_CAUSES)
        self._masked = True
        if causes & mask("ICR", "LSC"):
            self._link_up = self._read_link()
        return True

    def set_multicast(self, macs: Sequence[bytes]) -> bool:
        """Take every multicast frame where any group is asked for: the table of hashes is not used."""
        self._multicast = mask("RCTL", "MPE") if macs else 0
        self._write("RCTL", self._read("RCTL") & ~mask("RCTL", "MPE") | self._multicast)
        return True

    def before_sleep(self) -> bool:
        """Unmask interrupts and look at the rings once more; True: there is work, do not sleep.

        Sent frames are work only where somebody waits for their buffers.
        """
        if self._masked:
            self._masked = False
            self._write("IMS", _CAUSES)
        return self._rx.ready or (self._tx.active and self._tx.ready)

    def recover(self) -> None:
        """Reset the device and start again: what was in the rings is lost (a transmit that hangs)."""
        self._reset_device()
        self._rx.clear()
        self._tx.clear()
        self._offered, self._masked = 0, True
        self._start()

    def stop(self) -> None:
        """Turn the device off, in the order that a removal takes."""
        self._write("IMC", _ALL_CAUSES)
        self._write("RCTL", 0)
        self._write("TCTL", 0)
        self._write("CTRL", self._read("CTRL") | mask("CTRL", "RST"))

    # bring-up (§14.3 to §14.5)

    def _reset_device(self) -> None:
        self._write("IMC", _ALL_CAUSES)
        self._write("RCTL", 0)
        self._write("TCTL", mask("TCTL", "PSP"))
        self._write_reset(self._read("CTRL") | mask("CTRL", "RST"))
        self._wait("CTRL", mask("CTRL", "RST"), 0, "finish its reset")
        self._write("IMC", _ALL_CAUSES)
        self._read("ICR")

    def _write_reset(self, value: int) -> None:
        """Write CTRL, where there are ports through them (§13.2.2)."""
        if self._ports is None:
            self._write("CTRL", value)
        else:
            self._ports.write32(IO_REGISTERS["IOADDR"].offset, REGISTERS["CTRL"].offset)
            self._ports.write32(IO_REGISTERS["IODATA"].offset, value)

    def _start(self) -> None:
        self._set_up_link()
        self._set_up_filters()
        self._set_up_transmit()
        self._set_up_receive()
        self._link_up = self._read_link()
        self.before_sleep()

    def _read_mac(self) -> bytes:
        """Read the whole EEPROM, check its sum (§5.6.35), return the address."""
        words = [self._read_word(address) for address in range(eeprom.WORDS)]
        if sum(words) & 0xFFFF != eeprom.CHECKSUM_TOTAL:
            raise DeviceError(f"e1000: the EEPROM's words add up to {sum(words) & 0xFFFF:#x}, not 0xbaba")
        return b"".join(word.to_bytes(2, "little") for word in words[:3])

    def _read_word(self, address: int) -> int:
        self._write("EERD", field("EERD", "ADDR").put(address) | mask("EERD", "START"))
        value = self._wait("EERD", mask("EERD", "DONE"), mask("EERD", "DONE"), "read its EEPROM")
        return field("EERD", "DATA").get(value)

    def _set_up_link(self) -> None:
        """Let the PHY negotiate unless it has, and let the MAC follow it (§14.3)."""
        if not self._phy_read("PSTATUS") & phy.mask("PSTATUS", "AN_COMPLETE"):
            self._phy_write("PCTRL", self._phy_read("PCTRL") | phy.mask("PCTRL", "AN_ENABLE", "RESTART_AN"))
        keep = ~mask("CTRL", "FRCSPD", "FRCDPLX", "ILOS", "PHY_RST", "VME")
        self._write("CTRL", self._read("CTRL") & keep | mask("CTRL", "SLU", "ASDE"))

    def _set_up_filters(self) -> None:
        """Our address in entry 0, nothing else; RAL before RAH, whose AV makes it valid (§13.5.3)."""
        for index in range(REGISTERS["RAL"].count):
            low = int.from_bytes(self.mac[:4], "little") if index == 0 else 0
            high = int.from_bytes(self.mac[4:], "little") | mask("RAH", "AV") if index == 0 else 0
            self._write("RAL", low, index)
            self._write("RAH", high, index)
        for name in ("MTA", "VFTA"):
            for index in range(REGISTERS[name].count):
                self._write(name, 0, index)

    def _set_up_transmit(self) -> None:
        self._place("T", self._tx_ring.gpa)
        self._write("TDH", 0)
        self._write("TDT", 0)
        for name in ("TIDV", "TADV"):
            self._write(name, 0)
        gap = field("TIPG", "IPGT").put(_TIPG_COPPER) | field("TIPG", "IPGR1").put(_TIPG_COPPER)
        self._write("TIPG", gap | field("TIPG", "IPGR2").put(_TIPG_COPPER))
        collisions = field("TCTL", "CT").put(_COLLISION_THRESHOLD) | field("TCTL", "COLD").put(
            _COLLISION_DISTANCE
        )
        self._write("TCTL", collisions | mask("TCTL", "EN", "PSP"))

    def _set_up_receive(self) -> None:
        self._place("R", self._rx_ring.gpa)
        for name in ("RDH", "RDTR", "RADV"):
            self._write(name, 0)
        self._write("ITR", field("ITR", "INTERVAL").put(self._config.throttle_ns // ITR_UNIT_NS))
        self._write("RXCSUM", mask("RXCSUM", "IPOFLD", "TUOFLD"))
        size = field("RCTL", "BSIZE").put(self._bsize) | field("RCTL", "BSEX").put(self._bsex)
        long = mask("RCTL", "LPE") if self.mtu > _MTU_MAX_SHORT else 0
        self._write("RCTL", mask("RCTL", "EN", "BAM", "SECRC") | size | long | self._multicast)
        self._write("RDT", self._rx.tail)

    def _place(self, ring: str, gpa: int) -> None:
        self._write(f"{ring}DBAL", gpa & 0xFFFF_FFFF)
        self._write(f"{ring}DBAH", gpa >> 32)
        self._write(f"{ring}DLEN", self._config.ring_size * DESC_BYTES)

    def _receive_ring(self, memory: DmaMemory) -> E1000RxDriver:
        slot = self._buffer_bytes + _CACHE_LINE_BYTES  # slots that begin in different sets of a cache
        slots = memory.take(self._config.ring_size * slot, "e1000 receive buffers")
        return E1000RxDriver(self._rx_ring.pinned, slots.pinned, slots.gpa, self._config.ring_size, slot)

    def _transmit_ring(self, memory: DmaMemory) -> E1000TxDriver:
        slot = self._buffer_bytes + _CACHE_LINE_BYTES
        slots = memory.take(self._config.ring_size * slot, "e1000 transmit buffers")
        return E1000TxDriver(self._tx_ring.pinned, slots.pinned, slots.gpa, self._config.ring_size, slot)

    # PHY and registers

    def _read_link(self) -> bool:
        return bool(self._read("STATUS") & mask("STATUS", "LU"))

    def _phy_read(self, name: str) -> int:
        return field("MDIC", "DATA").get(self._mdic(MDIC_OP_READ, name, 0))

    def _phy_write(self, name: str, value: int) -> None:
        self._mdic(MDIC_OP_WRITE, name, value)

    def _mdic(self, operation: int, name: str, data: int) -> int:
        command = field("MDIC", "OP").put(operation) | field("MDIC", "PHYADD").put(PHY_ADDRESS)
        self._write("MDIC", command | field("MDIC", "REGADD").put(phy.REGISTERS[name].offset) | data)
        value = self._wait("MDIC", mask("MDIC", "R"), mask("MDIC", "R"), f"access PHY register {name}")
        if value & mask("MDIC", "E"):
            raise DeviceError(f"e1000: the PHY does not answer at register {name}")
        return value

    def _wait(self, name: str, bits: int, wanted: int, purpose: str) -> int:
        """Read a register until its `bits` are as wanted; return it."""
        for _ in range(_POLLS_MAX):
            value = self._read(name)
            if value & bits == wanted:
                return value
        raise DeviceError(f"e1000: the device does not {purpose}: {name} reads {value:#x} for too long")

    def _read(self, name: str) -> int:
        return self._bus.read32(REGISTERS[name].offset)

    def _write(self, name: str, value: int, index: int = 0) -> None:
        self._bus.write32(REGISTERS[name].at(index), value)


def _buffer_size(mtu: int) -> tuple[int, int, int]:
    """Return (bytes, BSIZE, BSEX) of the least buffer that holds a frame; DeviceError beyond the largest."""
    need = mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES
    for size, bsize, bsex in _BUFFER_SIZES:
        if need <= size:
            return size, bsize, bsex
    raise DeviceError(f"e1000: an MTU is at most {_BUFFER_SIZES[-1][0] - need + mtu} bytes, not {mtu}")
