"""A guest with an 82540EM and its driver, over a bus of plain function calls: no VMM, no vCPU, no sockets."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from testbed.guest.drivers.e1000 import E1000Driver, E1000DriverConfig
from testbed.native import Burst, Pinned, ReplaySource
from testbed.observe.counters import Counters
from tests.support.e1000_machine import GUARD_BYTES, MAC, RAM_BYTES, RAM_GPA, E1000Machine

NAMES = ("tx_frames", "tx_bytes", "rx_frames", "rx_bytes", "tx_kicks", "rx_kicks")


@dataclass(frozen=True)
class Piece:
    """Memory as the driver is given it."""

    gpa: int
    pinned: Pinned


class Memory:
    """Hands out the machine's RAM from the bottom up."""

    def __init__(self, machine: E1000Machine) -> None:
        self.machine, self.next = machine, RAM_GPA

    def take(self, size_bytes: int, purpose: str) -> Piece:
        """Return the next pages."""
        start, size = self.next, -(-size_bytes // 4096) * 4096
        assert start + size <= RAM_GPA + RAM_BYTES, purpose
        self.next += size
        offset = GUARD_BYTES + start - RAM_GPA
        return Piece(start, Pinned(memoryview(self.machine.store)[offset : offset + size]))


class Bus:
    """The register block, each access counted by register and direction."""

    def __init__(self, machine: E1000Machine) -> None:
        self.machine = machine
        self.seen: Counter[tuple[str, str]] = Counter()

    def read32(self, offset: int) -> int:
        """Read a register."""
        self.seen["R", self.machine.device.registers.name_at(offset)] += 1
        return self.machine.device.read(offset, 4)

    def write32(self, offset: int, value: int) -> None:
        """Write a register."""
        self.seen["W", self.machine.device.registers.name_at(offset)] += 1
        self.machine.device.write(offset, 4, value)


class Guest:
    """A machine and its driver, and the loop of a guest in three motions."""

    def __init__(self, config: E1000DriverConfig | None = None, mac: bytes = MAC) -> None:
        self.machine = E1000Machine(mac=mac)
        self.bus = Bus(self.machine)
        self.counters = Counters([f"nic0.{name}" for name in NAMES])
        self.driver = E1000Driver(
            self.bus, Memory(self.machine), self.counters, "nic0", config or E1000DriverConfig(ring_size=64)
        )
        self.bus.seen.clear()
        self.burst = Burst()

    def send(self, frames: Sequence[bytes]) -> int:
        """Send as many frames as there are buffers for; return how many."""
        count = self.driver.tx_reserve(self.burst, len(frames))
        if count:
            offsets = array("I", [0, *accumulate(len(data) for data in frames)])
            ReplaySource(b"".join(frames), offsets).fill(self.burst)
            self.driver.tx_send(self.burst)
        return count

    def receive(self) -> list[bytes]:
        """Take what arrived and give the buffers back."""
        got: list[bytes] = []
        while count := self.driver.rx_collect(self.burst):
            got += [self.burst.frame_bytes(i) for i in range(count)]
            self.driver.rx_refill(self.burst)
        return got

    def interrupt(self) -> list[bytes]:
        """Serve the line as a kernel does: handler, polling, unmasking, until there is nothing left."""
        got: list[bytes] = []
        while self.machine.line.asserted and self.driver.handle_interrupt():
            got += self.receive()
            while self.driver.before_sleep():
                self.driver.tx_reserve(self.burst, 64)
                got += self.receive()
        return got
