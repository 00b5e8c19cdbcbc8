"""A machine with one 82540EM and nothing else, driven register by register: strict memory, a hand-set clock.

The guest's memory lies between two guard zones that the device has no address for; `close` checks that
nobody wrote there. Rings and buffers have fixed places, and every frame goes through real descriptors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.e1000.device import E1000, E1000Config
from testbed.interrupts.signal import RecordingLine
from testbed.native import Burst, FrameStore, Pinned, Regions
from testbed.spec import e1000_ring as ring
from testbed.spec.e1000 import REGISTERS, mask
from testbed.spec.port_counters import COUNTER_NAMES, PORT_COUNTERS

RAM_GPA: Final = 0x4000_0000
RAM_BYTES: Final = 0x40_0000
GUARD_BYTES: Final = 0x1_0000
GUARD: Final = bytes([0xA5]) * GUARD_BYTES
MAC: Final = bytes.fromhex("525400990001")
PEER: Final = bytes.fromhex("525400990002")
TX_RING: Final = RAM_GPA
RX_RING: Final = RAM_GPA + 0x2_0000
TX_BUFFERS: Final = RAM_GPA + 0x10_0000
RX_BUFFERS: Final = RAM_GPA + 0x20_0000
SLOT_BYTES: Final = 0x4000
PORT: Final = 0

EOP, IFCS, RS, IDE, VLE = ring.CMD_EOP, ring.CMD_IFCS, ring.CMD_RS, ring.CMD_IDE, ring.CMD_VLE
WHOLE: Final = EOP | IFCS | RS


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


@dataclass(frozen=True)
class Received:
    """A receive descriptor that was written back, and the bytes in its buffer."""

    data: bytes
    status: int
    errors: int
    special: int
    checksum: int


class E1000Machine:
    """The device, its guest memory, and a driver's motions one at a time."""

    def __init__(self, autoneg_ns: int = 0, mac: bytes = MAC) -> None:
        self.store = bytearray(GUARD + bytes(RAM_BYTES) + GUARD)
        self.memory = Regions()
        self.memory.add(RAM_GPA, Pinned(self.store), GUARD_BYTES, RAM_BYTES)
        self.clock, self.line = HandClock(), RecordingLine()
        self.counters = Pinned(bytearray(PORT_COUNTERS.size))
        self.reports: list[tuple[str, str]] = []
        self.changes = 0
        self.on_changed: Callable[[], None] = lambda: None
        config = E1000Config("n0", mac, autoneg_ns)
        report = self._report
        self.device = E1000(
            config, self.memory, self.line, self.counters, 0, self._changed, report, self.clock
        )
        self.tx_size = self.rx_size = self.tx_tail = self.rx_tail = self.rx_next = 0

    def close(self) -> None:
        """Check that nothing was written outside the guest's memory."""
        assert self.store[:GUARD_BYTES] == GUARD
        assert self.store[GUARD_BYTES + RAM_BYTES :] == GUARD

    def _report(self, reason: str, detail: str) -> None:
        self.reports.append((reason, detail))

    def _changed(self) -> None:
        self.changes += 1
        self.on_changed()

    # registers and memory

    def rd(self, name: str, index: int = 0) -> int:
        """Read a register."""
        return self.device.read(REGISTERS[name].at(index), 4)

    def wr(self, name: str, value: int, index: int = 0) -> None:
        """Write a register."""
        self.device.write(REGISTERS[name].at(index), 4, value)

    def poke(self, gpa: int, data: bytes) -> None:
        """Write guest memory."""
        start = gpa - RAM_GPA + GUARD_BYTES
        self.store[start : start + len(data)] = data

    def peek(self, gpa: int, length: int) -> bytes:
        """Read guest memory."""
        start = gpa - RAM_GPA + GUARD_BYTES
        return bytes(self.store[start : start + length])

    def counts(self) -> dict[str, int]:
        """Return the port counters that are not zero."""
        words = self.counters.words(0, PORT_COUNTERS.size)
        return {name: int(word) for name, word in zip(COUNTER_NAMES, words, strict=True) if word}

    def advance(self, ns: int) -> None:
        """Let time pass and give the device its timer."""
        self.clock.now_ns += ns
        self.device.on_timer(self.clock.now_ns)

    # transmit

    def start_transmit(self, size: int = 64, tctl: int = mask("TCTL", "EN")) -> None:
        """Set the transmit ring up and turn it on."""
        self.tx_size, self.tx_tail = size, 0
        for name, value in (("TDBAL", TX_RING), ("TDBAH", 0), ("TDLEN", 16 * size), ("TDH", 0), ("TDT", 0)):
            self.wr(name, value)
        self.wr("TCTL", tctl)

    def put_tx(self, descriptor: bytes) -> int:
        """Put a descriptor into the transmit ring; return its index. TDT is not written."""
        index = self.tx_tail
        self.poke(TX_RING + 16 * index, descriptor)
        self.tx_tail = (index + 1) % self.tx_size
        return index

    def kick(self) -> None:
        """Write TDT."""
        self.wr("TDT", self.tx_tail)

    def legacy(self, data: bytes, cmd: int = WHOLE, **fields: int) -> bytes:
        """Return a legacy descriptor; its data goes to the buffer of the place where it will be put."""
        gpa = TX_BUFFERS + SLOT_BYTES * (self.tx_tail % 32)
        self.poke(gpa, data)
        return ring.LEGACY.pack(address=gpa, length=len(data), cmd=cmd, **fields)

    def data(self, data: bytes, dcmd: int = WHOLE, popts: int = 0, special: int = 0) -> bytes:
        """Return a TCP/IP data descriptor for these bytes."""
        gpa = TX_BUFFERS + SLOT_BYTES * (self.tx_tail % 32)
        self.poke(gpa, data)
        word = len(data) | ring.DTYP_DATA << ring.DTYP_SHIFT | (dcmd | ring.CMD_DEXT) << ring.CMD_SHIFT
        return ring.DATA.pack(address=gpa, dtalen_dtyp_dcmd=word, popts=popts, special=special)

    def send(self, *descriptors: bytes) -> None:
        """Put descriptors into the ring and write TDT."""
        for descriptor in descriptors:
            self.put_tx(descriptor)
        self.kick()

    def fetch(self, limit: int = 256) -> list[bytes]:
        """Take what the device sends and complete it, until there is no more."""
        frames: list[bytes] = []
        burst = Burst()
        while self.device.transmit.fetch(burst, limit):
            frames += [burst.frame_bytes(i) for i in range(len(burst))]
            self.device.transmit.complete(burst)
        return frames

    def tx_status(self, index: int) -> int:
        """Return the status byte of a transmit descriptor."""
        return ring.LEGACY.unpack(self.peek(TX_RING + 16 * index, 16))["status"]

    # receive

    def start_receive(self, size: int = 64, rctl: int = 0, post: int | None = None) -> None:
        """Set the receive ring up, with a buffer in every descriptor, and turn it on (SECRC unless `rctl` is
        given).
        """
        self.rx_size, self.rx_next = size, 0
        for index in range(size):
            self.poke(RX_RING + 16 * index, ring.RECEIVE.pack(address=self.rx_buffer(index)))
        for name, value in (("RDBAL", RX_RING), ("RDBAH", 0), ("RDLEN", 16 * size), ("RDH", 0)):
            self.wr(name, value)
        self.wr("RCTL", rctl or mask("RCTL", "EN", "BAM", "SECRC", "UPE"))
        self.rx_tail = size - 1 if post is None else post
        self.wr("RDT", self.rx_tail)

    def rx_buffer(self, index: int) -> int:
        """Return the address of a receive buffer."""
        return RX_BUFFERS + SLOT_BYTES * (index % 64) if self.rx_size <= 64 else RX_BUFFERS + 2048 * index

    def deliver(self, *frames: bytes) -> int:
        """Give the device frames from the wire; return how many it took."""
        store = FrameStore()
        store.load(frames)
        store.send_all_to(PORT)
        return self.device.deliver(store, 0, PORT)

    def take(self) -> list[Received]:
        """Return the receive descriptors written back since the last time, in order."""
        done: list[Received] = []
        for _ in range(self.rx_size):
            words = ring.RECEIVE.unpack(self.peek(RX_RING + 16 * self.rx_next, 16))
            if not words["status"] & ring.RX_STATUS_DD:
                break
            data = self.peek(words["address"], words["length"])
            done.append(Received(data, words["status"], words["errors"], words["special"], words["checksum"]))
            self.poke(RX_RING + 16 * self.rx_next, ring.RECEIVE.pack(address=words["address"]))
            self.rx_next = (self.rx_next + 1) % self.rx_size
        return done

    def refill(self, count: int) -> None:
        """Give `count` descriptors back."""
        self.rx_tail = (self.rx_tail + count) % self.rx_size
        self.wr("RDT", self.rx_tail)


def frame(length: int = 60, destination: bytes = MAC, source: bytes = PEER, kind: int = 0x88B5) -> bytes:
    """Return an Ethernet frame of `length` bytes without FCS, its payload counting up."""
    head = destination + source + kind.to_bytes(2, "big")
    return (head + bytes(i & 0xFF for i in range(max(0, length - len(head)))))[:length]


def join(parts: Sequence[Received]) -> bytes:
    """Return the bytes of a frame that lies in several descriptors."""
    return b"".join(part.data for part in parts)
