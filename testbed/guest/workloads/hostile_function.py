"""A virtual function of the 82576 in hands that keep to no rule: its registers and a ring, written raw.

Reference: 82576 datasheet (320961, revision 2.63) §7.2.2 (descriptors), §7.2.3 (write-back), §8.26 (registers
of a virtual function). The guest's ordinary driver has brought the function up before and does so again
behind this; its first transmit queue is used here with a small ring of its own. Not used: the receive queues.
"""

from itertools import cycle
from typing import Final

from testbed.address import PAGE_SIZE_BYTES
from testbed.guest.drivers.igbvf import VfBus
from testbed.pci.access import MsiMessage
from testbed.pci.dma import DmaMemory
from testbed.spec import pci
from testbed.spec.flow import ETHERTYPE_EXPERIMENTAL, FRAME_BYTES_MIN
from testbed.spec.igb import REGISTERS as PF_REGISTERS
from testbed.spec.igb_ring import (
    DESC_BYTES,
    DTYP_DATA,
    DTYP_SHIFT,
    HEAD_WRITE_BACK_ENABLE,
    PAYLEN_SHIFT,
    TX_DATA,
    TX_DD,
    TX_DEXT,
    TX_EOP,
    TX_IFCS,
    TX_RS,
)
from testbed.spec.igb_vf import REGISTERS, mask

RING_SIZE: Final = 64
_RINGS: Final = 4
WHOLE_FRAME: Final = TX_EOP | TX_IFCS | TX_RS
BROADCAST: Final = bytes([0xFF] * 6)
NOBODY: Final = bytes.fromhex("027662fffffe")
"""An address that no topology gives to anyone."""
_ENABLE: Final = mask("TXDCTL", "ENABLE")
_ALL: Final = 0xFFFF_FFFF
_ALL_VECTORS: Final = 0x7
_FRAME_SLOT_BYTES: Final = 64
_VET: Final = PF_REGISTERS["VET"].reset


def data(address: int, length: int, command: int = WHOLE_FRAME, payload: int | None = None) -> bytes:
    """Return an advanced data descriptor."""
    return TX_DATA.pack(
        address=address,
        cmd_type_len=length | DTYP_DATA << DTYP_SHIFT | TX_DEXT | command,
        olinfo_status=(length if payload is None else payload) << PAYLEN_SHIFT,
    )


class HostileFunction:
    """The registers, a ring, a few frames and a page for DMA. Addresses are the device's."""

    def __init__(self, bus: VfBus, memory: DmaMemory) -> None:
        self._bus = bus
        self._rings = cycle([memory.take(PAGE_SIZE_BYTES, "a hostile driver's ring") for _ in range(_RINGS)])
        self._ring = next(self._rings)
        self._frames = memory.take(PAGE_SIZE_BYTES, "a hostile driver's frames")
        self.page = memory.take(PAGE_SIZE_BYTES, "a hostile driver's page")
        self._frames_n = 0
        self._messages: dict[int, list[int]] = {}

    def read(self, name: str, index: int = 0) -> int:
        """Read a register."""
        return self._bus.registers.read32(REGISTERS[name].at(index))

    def write(self, name: str, value: int, index: int = 0) -> None:
        """Write a register, whatever it holds."""
        self._bus.registers.write32(REGISTERS[name].at(index), value)

    # frames

    def add_frame(self, destination: bytes, source: bytes, vlan: int = 0) -> int:
        """Put one of the least length into memory; return its address."""
        tag = _VET.to_bytes(2, "big") + vlan.to_bytes(2, "big") if vlan else b""
        frame = destination + source + tag + ETHERTYPE_EXPERIMENTAL.to_bytes(2, "big")
        at = self._frames_n * _FRAME_SLOT_BYTES
        self._frames_n += 1
        self._frames.pinned.bytes_view()[at : at + FRAME_BYTES_MIN] = frame.ljust(FRAME_BYTES_MIN, b"\0")
        return self._frames.iova + at

    # the transmit queue

    def place(self, base: int | None = None, head: int = 0) -> None:
        """Set the queue up anew, its ring at `base` (None: in memory of its own); 0: DD is written back.

        What the device still writes back into the last ring is not to be found in this one.
        """
        self._ring = next(self._rings)
        at = self._ring.iova if base is None else base
        self.write("TXDCTL", 0)
        self.write("TDBAL", at & _ALL)
        self.write("TDBAH", at >> 32)
        self.write("TDLEN", RING_SIZE * DESC_BYTES)
        self.write("TDWBAL", (head & _ALL) | (HEAD_WRITE_BACK_ENABLE if head else 0))
        self.write("TDWBAH", head >> 32)
        for name in ("TDH", "TDT"):
            self.write(name, 0)
        self.write("TXDCTL", _ENABLE)

    def fill(self, descriptors: list[bytes]) -> None:
        """Write descriptors at the beginning of its own ring."""
        rows = b"".join(descriptors)
        self._ring.pinned.bytes_view()[: len(rows)] = rows

    @property
    def enabled(self) -> bool:
        """The device has not stopped the queue."""
        return bool(self.read("TXDCTL") & _ENABLE)

    def is_done(self, index: int) -> bool:
        """Say whether the device has written a descriptor of its own ring back."""
        at = index * DESC_BYTES
        row = TX_DATA.unpack(self._ring.pinned.bytes_view(), at)
        return bool(row["olinfo_status"] & TX_DD)

    def flush(self) -> None:
        """Wait for every register write that was posted: a read completes behind them."""
        self.read("TXDCTL")

    # messages

    def aim(self, message: MsiMessage, vector: int = 0) -> None:
        """Have a vector write a word to any address."""
        at = vector * pci.MSIX_ENTRY.size
        if vector not in self._messages:
            self._messages[vector] = [
                self._bus.messages.read32(at + pci.MSIX_ENTRY.offset(name)) for name in _ENTRY
            ]
        words = (message.address & _ALL, message.address >> 32, message.data, 0)
        self._write_entry(vector, list(words))

    def fire(self, vector: int = 0) -> None:
        """Send a vector's message."""
        self.write("VTEIMS", 1 << vector)
        self.write("VTEICS", 1 << vector)

    def unthrottle(self) -> None:
        """Let vectors interrupt as often as they can: nothing masks or spaces them."""
        for vector in range(_ALL_VECTORS.bit_length()):
            self.write("VTEITR", 0, vector)
        self.write("VTEIAM", 0)
        self.write("VTEIAC", _ALL_VECTORS)

    def give_back(self) -> None:
        """Put back what the ordinary driver sets up once only, and stop the queue."""
        self.write("TXDCTL", 0)
        self.write("TDWBAL", 0)
        self.write("TDWBAH", 0)
        for vector, words in self._messages.items():
            self._write_entry(vector, words)

    def _write_entry(self, vector: int, words: list[int]) -> None:
        at = vector * pci.MSIX_ENTRY.size
        for name, word in zip(_ENTRY, words, strict=True):
            self._bus.messages.write32(at + pci.MSIX_ENTRY.offset(name), word)


_ENTRY: Final = ("address_low", "address_high", "data", "control")
