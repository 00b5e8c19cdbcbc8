"""Plays a recorded driver's register accesses to a model and compares every value that it reads.

The format is described at the head of the trace files in tests/e1000/recorded. Where the recording folds a
table's values, they are written in the order of their first appearance and the last one repeats. Around the
accesses the player is the rest of the machine: whatever TDT makes sendable is sent, and a millisecond passes
before each interrupt.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testbed.native import Pinned
from testbed.spec import e1000 as spec
from testbed.spec import e1000_eeprom as eeprom
from testbed.spec import e1000_ring as ring
from testbed.spec.e1000 import REGISTERS, mask
from tests.support.e1000_machine import (
    EOP,
    IDE,
    IFCS,
    MAC,
    RS,
    RX_BUFFERS,
    TX_BUFFERS,
    E1000Machine,
    frame,
)

_RING_BYTES: Final = 0x1000
_RINGS: Final = (0x1793_E000, 0x13DC_8000, 0x13DD_E000, 0x133F_C000)
"""Where the recorded guest had its rings."""
_MILLISECOND_NS: Final = 1_000_000
_SK, _CS, _DI, _DO = (mask("EECD", name) for name in ("SK", "CS", "DI", "DO"))
_REQ, _GNT = mask("EECD", "EE_REQ"), mask("EECD", "EE_GNT")
_LINE: Final = re.compile(
    r"(?P<what>\S+) (?P<name>\S+)(?: (?P<index>\d+))?(?: x(?P<times>\d+))? = (?P<values>.+)"
)


@dataclass(frozen=True)
class Difference:
    """A read that gave another value than in the recording."""

    name: str
    recorded: int
    read: int


@dataclass
class TracePlayer:
    """One device, and the differences seen so far."""

    machine: E1000Machine
    differences: list[Difference] = field(default_factory=list)
    reads: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        """Map the recorded guest's rings and give the receive rings buffers."""
        for base in _RINGS:
            page = bytearray(_RING_BYTES)
            for offset in range(0, _RING_BYTES, ring.DESC_BYTES):
                page[offset : offset + 8] = (RX_BUFFERS + 128 * offset).to_bytes(8, "little")
            self.machine.memory.add(base, Pinned(page))

    def play(self, path: Path) -> None:
        """Play a whole file."""
        for line in path.read_text().splitlines():
            if line and not line.startswith(("#", "phase")):
                self._line(line)
                self._send()

    # one line

    def _line(self, line: str) -> None:
        words = line.split()
        if words[0] == "wait":
            self._pass_time(int(words[1].removesuffix("ms")) * _MILLISECOND_NS)
        elif words[0] == "receive":
            self.machine.deliver(*[frame(60, MAC)] * int(words[1]))
        elif words[0] == "EEPROM":
            for word in words[1:]:
                address, _, value = word.partition("=")
                self._compare(f"EEPROM {address}", int(value, 16), self._microwire(int(address, 16)))
        elif line == "R statistics":
            for name in spec.STATISTICS_NAMES:
                self.machine.rd(name)
        else:
            self._access(line)

    def _access(self, line: str) -> None:
        found = _LINE.fullmatch(line)
        assert found is not None, line
        values = [int(value, 16) for value in found["values"].split(", ")]
        times = int(found["times"] or 1)
        if found["what"] == "IO":
            self.machine.device.io.write(int(found["name"], 0), 4, values[0])
        elif found["what"] == "PHY":
            for _ in range(times):
                self._phy(found["name"], int(found["index"]), values[0])
        elif found["what"] == "R":
            for _ in range(times):
                self._read(found["name"], int(found["index"] or 0), values[0])
        else:
            for name, index, value in self._writes(found["name"], times, values):
                self._write(name, int(found["index"] or index), value)

    def _writes(self, name: str, times: int, values: list[int]) -> Iterator[tuple[str, int, int]]:
        for n in range(times):
            value = values[min(n, len(values) - 1)]
            if name == "RAR":
                place = n + (2 if times == 28 else 0)
                yield ("RAL", "RAH")[place % 2], place // 2, value
            else:
                yield name, n if REGISTERS[name].count > 1 else 0, value

    # the driver's motions

    def _read(self, name: str, index: int, recorded: int) -> None:
        if name == "ICR":
            self._pass_time(_MILLISECOND_NS)
        self._compare(name, recorded, self.machine.rd(name, index))

    def _write(self, name: str, index: int, value: int) -> None:
        if name == "TDT":
            self._describe(value)
        self.machine.wr(name, value, index)

    def _phy(self, way: str, register: int, value: int) -> None:
        op = spec.MDIC_OP_READ if way == "R" else spec.MDIC_OP_WRITE
        command = spec.field("MDIC", "OP").put(op) | spec.field("MDIC", "REGADD").put(register)
        command |= spec.field("MDIC", "PHYADD").put(spec.PHY_ADDRESS)
        self.machine.wr("MDIC", command | (value if way == "W" else 0))
        answer = self.machine.rd("MDIC")
        assert answer & mask("MDIC", "R")
        if way == "R":
            self._compare(f"PHY {register}", value, answer & 0xFFFF)

    def _microwire(self, address: int) -> int:
        """Read an EEPROM word by the wires, as a driver does: request, nine bits out, sixteen in, release."""
        self.machine.wr("EECD", self.machine.rd("EECD") | _REQ)
        assert self.machine.rd("EECD") & _GNT
        base = self.machine.rd("EECD") & ~(_DI | _SK)
        self.machine.wr("EECD", base | _CS)
        out = (0b100 | eeprom.OPCODE_READ) << eeprom.ADDRESS_BITS | address
        for shift in reversed(range(3 + eeprom.ADDRESS_BITS)):
            level = base | _CS | (_DI if out >> shift & 1 else 0)
            for value in (level, level | _SK, level):
                self.machine.wr("EECD", value)
        word = 0
        for _ in range(16):
            self.machine.wr("EECD", base | _CS | _SK)
            word = word << 1 | bool(self.machine.rd("EECD") & _DO)
            self.machine.wr("EECD", base | _CS)
        self.machine.wr("EECD", base & ~_CS)
        self.machine.wr("EECD", self.machine.rd("EECD") & ~_REQ)
        return word

    # the rest of the machine

    def _describe(self, tail: int) -> None:
        """Put a frame into every descriptor up to the new tail, as the recorded driver did."""
        base, size = self.machine.rd("TDBAL"), self.machine.rd("TDLEN") // ring.DESC_BYTES
        at = self.machine.device.transmit.ring.tail
        self.machine.poke(TX_BUFFERS, frame(90, b"\xff" * 6, MAC))
        while size and at != tail:
            desc = ring.LEGACY.pack(address=TX_BUFFERS, length=90, cmd=EOP | IFCS | RS | IDE)
            assert self.machine.memory.write(base + ring.DESC_BYTES * at, desc)
            at = (at + 1) % size

    def _send(self) -> None:
        self.sent += len(self.machine.fetch())

    def _pass_time(self, ns: int) -> None:
        """Let time pass, stopping at every deadline on the way."""
        end = self.machine.clock.now_ns + ns
        while (due := self.machine.device.deadline_ns()) is not None and due <= end:
            self.machine.advance(max(0, due - self.machine.clock.now_ns))
        self.machine.advance(end - self.machine.clock.now_ns)

    def _compare(self, name: str, recorded: int, read: int) -> None:
        self.reads += 1
        if recorded != read:
            self.differences.append(Difference(name, recorded, read))
