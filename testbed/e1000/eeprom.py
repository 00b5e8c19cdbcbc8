"""The EEPROM of the 82540EM: its words, and the two ways to them, EERD and the four wires in EECD.

Reference: 8254x SDM §5.3.1, §5.6, §13.4.3, §13.4.4; the serial protocol is the NM93C46's (Microwire, 64
words of 16 bits): with CS high, bits are taken from DI at each rising edge of SK: a start bit (one), two
bits of opcode, six of address, for a write sixteen of data; a read answers on DO with a zero and then the
word, high bit first, and goes on with the next word while it is clocked. Programming takes no time: DO reads
ready at once. Access is granted as soon as it is requested, because nothing else uses the EEPROM. Not
modelled: Flash.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from testbed.spec import e1000_eeprom as layout
from testbed.spec.e1000 import REGISTERS, mask
from testbed.spec.e1000 import field as bits

_SK: Final = mask("EECD", "SK")
_CS: Final = mask("EECD", "CS")
_DI: Final = mask("EECD", "DI")
_DO: Final = mask("EECD", "DO")
_REQ: Final = mask("EECD", "EE_REQ")
_GNT: Final = mask("EECD", "EE_GNT")
_WIRES: Final = _SK | _CS | _DI | _REQ | mask("EECD", "FWE")
_START: Final = mask("EERD", "START")
_DONE: Final = mask("EERD", "DONE")
_ADDR: Final = bits("EERD", "ADDR")
_DATA: Final = bits("EERD", "DATA")
_INSTRUCTION_BITS: Final = 2 + layout.ADDRESS_BITS
_WORD_BITS: Final = 16
_HIGHEST_BIT: Final = 1 << (_WORD_BITS - 1)


def image_for(mac: bytes) -> list[int]:
    """Return the words of an EEPROM whose Ethernet address is `mac` (six bytes), checksum included
    (§5.6.35)."""
    words = list(layout.IMAGE)
    for i in range(3):
        words[layout.WORD_ADDRESS + i] = int.from_bytes(mac[2 * i : 2 * i + 2], "little")
    words[layout.WORD_CHECKSUM] = 0
    words[layout.WORD_CHECKSUM] = (layout.CHECKSUM_TOTAL - sum(words)) & 0xFFFF
    return words


@dataclass(slots=True)
class _Wires:
    """What EECD's wires did since CS rose."""

    started: bool = False
    taken: int = 0
    """Bits after the start bit."""
    instruction: int = 0
    data: int = 0
    shift: int = 0
    """Word going out on DO, its next bit on top."""
    left: int = 0
    """Bits of it that are left."""


@dataclass(slots=True)
class _Registers:
    eecd: int = REGISTERS["EECD"].reset
    eerd: int = REGISTERS["EERD"].reset
    out: bool = True
    """Level of DO; high while nothing is sent."""
    wires: _Wires = field(default_factory=_Wires)


class Eeprom:
    """The words and the interface registers. The words survive `reset`, as a real EEPROM's do."""

    def __init__(self, words: Sequence[int]) -> None:
        self.words = list(words)
        self.writable = False
        """Set and cleared by the write enable and write disable instructions."""
        self._registers = _Registers()

    def reset(self) -> None:
        """Put the interface back to its initial state; the content stays."""
        self._registers = _Registers()

    def mac(self) -> bytes:
        """Return the Ethernet address in words 0 to 2 (§5.6.1)."""
        return b"".join(self.words[layout.WORD_ADDRESS + i].to_bytes(2, "little") for i in range(3))

    def valid(self) -> bool:
        """Say whether the signature (§5.4) makes the device load the EEPROM."""
        return self.words[layout.WORD_CONTROL_1] & layout.SIGNATURE_MASK == layout.SIGNATURE

    # EERD

    def read_eerd(self) -> int:
        """Return EERD."""
        return self._registers.eerd

    def write_eerd(self, value: int) -> None:
        """Start a read where START is written; it is done at once. §13.4.4: not while EECD has the wires."""
        if not value & _START or self._registers.eecd & _REQ:
            self._registers.eerd = value & _ADDR.mask | self._registers.eerd & (_DONE | _DATA.mask)
            return
        address = _ADDR.get(value)
        word = self.words[address % layout.WORDS]
        self._registers.eerd = _ADDR.put(address) | _DATA.put(word) | _DONE

    # EECD

    def read_eecd(self) -> int:
        """Return EECD: the wires as written, DO as the part drives it, EE_GNT as EE_REQ."""
        state = self._registers
        granted = _GNT if state.eecd & _REQ else 0
        return state.eecd & ~(_DO | _GNT) | granted | (_DO if state.out else 0)

    def write_eecd(self, value: int) -> None:
        """Drive the wires; a rising edge of SK with CS high clocks the part."""
        state = self._registers
        before = state.eecd
        state.eecd = before & ~_WIRES | value & _WIRES
        if not value & _CS or not value & _REQ:
            state.wires, state.out = _Wires(), True
        elif value & _SK and not before & _SK:
            self._clock(state.wires, 1 if value & _DI else 0)

    def _clock(self, wires: _Wires, bit: int) -> None:
        if not wires.started:
            wires.started = bool(bit)
        elif wires.taken < _INSTRUCTION_BITS:
            wires.instruction = wires.instruction << 1 | bit
            wires.taken += 1
            if wires.taken == _INSTRUCTION_BITS:
                self._decoded(wires)
        elif wires.instruction >> layout.ADDRESS_BITS == layout.OPCODE_READ:
            self._shift_out(wires)
        elif wires.taken < _INSTRUCTION_BITS + _WORD_BITS:
            wires.data = wires.data << 1 | bit
            wires.taken += 1
            if wires.taken == _INSTRUCTION_BITS + _WORD_BITS:
                self._store(wires)

    def _decoded(self, wires: _Wires) -> None:
        """Act on an instruction that is complete with its address."""
        opcode, address = divmod(wires.instruction, layout.WORDS)
        if opcode == layout.OPCODE_READ:
            wires.shift, wires.left = self.words[address], _WORD_BITS
            self._registers.out = False
        elif opcode == layout.OPCODE_ERASE:
            self._program(address, 0xFFFF)
        elif opcode == layout.OPCODE_EXTENDED:
            self._extended(address >> (layout.ADDRESS_BITS - 2))

    def _extended(self, code: int) -> None:
        if code == layout.EXTENDED_WRITE_ENABLE:
            self.writable = True
        elif code == layout.EXTENDED_WRITE_DISABLE:
            self.writable = False
        elif code == layout.EXTENDED_ERASE_ALL:
            for address in range(layout.WORDS):
                self._program(address, 0xFFFF)

    def _shift_out(self, wires: _Wires) -> None:
        self._registers.out = bool(wires.shift & _HIGHEST_BIT)
        wires.shift = wires.shift << 1 & 0xFFFF
        wires.left -= 1
        if wires.left == 0:
            address = (wires.instruction + 1) % layout.WORDS
            wires.instruction = layout.OPCODE_READ << layout.ADDRESS_BITS | address
            wires.shift, wires.left = self.words[address], _WORD_BITS

    def _store(self, wires: _Wires) -> None:
        """Act on an instruction that is complete with its data."""
        opcode, address = divmod(wires.instruction, layout.WORDS)
        if opcode == layout.OPCODE_WRITE:
            self._program(address, wires.data)
        elif (
            opcode == layout.OPCODE_EXTENDED
            and address >> (layout.ADDRESS_BITS - 2) == layout.EXTENDED_WRITE_ALL
        ):
            for each in range(layout.WORDS):
                self._program(each, wires.data)

    def _program(self, address: int, value: int) -> None:
        if self.writable:
            self.words[address] = value
        self._registers.out = True
