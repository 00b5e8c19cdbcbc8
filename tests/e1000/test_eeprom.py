"""The EEPROM: EERD, and the Microwire part behind EECD, bit by bit."""

import pytest

from testbed.e1000.eeprom import Eeprom, image_for
from testbed.spec import e1000_eeprom as layout
from testbed.spec.e1000 import field, mask
from tests.support.e1000_machine import MAC

SK, CS, DI, DO = (mask("EECD", name) for name in ("SK", "CS", "DI", "DO"))
REQ, GNT = mask("EECD", "EE_REQ"), mask("EECD", "EE_GNT")


class Wires:
    """What a driver does with EECD: it owns the wires and moves them one write at a time."""

    def __init__(self, eeprom: Eeprom) -> None:
        self.eeprom = eeprom
        eeprom.write_eecd(REQ)

    def begin(self) -> None:
        self.eeprom.write_eecd(REQ | CS)

    def end(self) -> None:
        self.eeprom.write_eecd(REQ)

    def clock_in(self, bit: int) -> None:
        level = REQ | CS | (DI if bit else 0)
        for value in (level, level | SK, level):
            self.eeprom.write_eecd(value)

    def clock_out(self) -> int:
        self.eeprom.write_eecd(REQ | CS | SK)
        bit = bool(self.eeprom.read_eecd() & DO)
        self.eeprom.write_eecd(REQ | CS)
        return int(bit)

    def bits(self, value: int, count: int) -> None:
        for shift in reversed(range(count)):
            self.clock_in(value >> shift & 1)

    def instruction(self, opcode: int, address: int) -> None:
        self.begin()
        self.bits(0b100 | opcode, 3)
        self.bits(address, layout.ADDRESS_BITS)

    def word_out(self) -> int:
        return int("".join(str(self.clock_out()) for _ in range(16)), 2)

    def read(self, address: int) -> int:
        self.instruction(layout.OPCODE_READ, address)
        word = self.word_out()
        self.end()
        return word

    def write(self, address: int, word: int) -> None:
        self.instruction(layout.OPCODE_WRITE, address)
        self.bits(word, 16)
        self.end()

    def extended(self, code: int) -> None:
        self.instruction(layout.OPCODE_EXTENDED, code << (layout.ADDRESS_BITS - 2))
        self.end()


@pytest.fixture
def eeprom() -> Eeprom:
    return Eeprom(image_for(MAC))


@pytest.fixture
def wires(eeprom: Eeprom) -> Wires:
    return Wires(eeprom)


def eerd(eeprom: Eeprom, address: int) -> int:
    eeprom.write_eerd(field("EERD", "ADDR").put(address) | mask("EERD", "START"))
    return eeprom.read_eerd()


def test_image_adds_up_and_holds_the_address(eeprom: Eeprom) -> None:
    assert (sum(eeprom.words) & 0xFFFF, eeprom.mac(), eeprom.valid()) == (0xBABA, MAC, True)


def test_eerd_reads_a_word_at_once(eeprom: Eeprom) -> None:
    value = eerd(eeprom, 0x0D)
    assert (value & mask("EERD", "DONE"), value >> 16, value >> 8 & 0xFF) == (
        mask("EERD", "DONE"),
        0x100E,
        0x0D,
    )


def test_eerd_without_start_reads_nothing(eeprom: Eeprom) -> None:
    eeprom.write_eerd(field("EERD", "ADDR").put(3))
    assert eeprom.read_eerd() & mask("EERD", "DONE") == 0


def test_eerd_does_not_read_while_eecd_has_the_wires(eeprom: Eeprom, wires: Wires) -> None:
    assert eerd(eeprom, 0) & mask("EERD", "DONE") == 0


def test_grant_follows_the_request(eeprom: Eeprom) -> None:
    eeprom.write_eecd(REQ)
    granted = eeprom.read_eecd() & GNT
    eeprom.write_eecd(0)
    assert (granted, eeprom.read_eecd() & GNT) == (GNT, 0)


def test_microwire_reads_every_word(eeprom: Eeprom, wires: Wires) -> None:
    assert [wires.read(address) for address in range(64)] == eeprom.words


def test_microwire_read_goes_on_with_the_next_word(eeprom: Eeprom, wires: Wires) -> None:
    wires.instruction(layout.OPCODE_READ, 0x0A)
    assert [wires.word_out(), wires.word_out()] == eeprom.words[0x0A:0x0C]


def test_microwire_answers_a_read_with_a_zero_first(eeprom: Eeprom, wires: Wires) -> None:
    wires.instruction(layout.OPCODE_READ, 4)
    assert eeprom.read_eecd() & DO == 0


def test_zeros_before_the_start_bit_are_ignored(eeprom: Eeprom, wires: Wires) -> None:
    wires.begin()
    wires.bits(0, 5)
    wires.bits(0b100 | layout.OPCODE_READ, 3)
    wires.bits(0x0E, layout.ADDRESS_BITS)
    assert wires.word_out() == 0x8086


def test_write_needs_write_enable(eeprom: Eeprom, wires: Wires) -> None:
    wires.write(0x20, 0x1234)
    assert eeprom.words[0x20] == 0x1008


def test_write_after_write_enable(eeprom: Eeprom, wires: Wires) -> None:
    wires.extended(layout.EXTENDED_WRITE_ENABLE)
    wires.write(0x20, 0x1234)
    assert (wires.read(0x20), eeprom.read_eecd() & DO) == (0x1234, DO)


def test_write_disable_ends_it(eeprom: Eeprom, wires: Wires) -> None:
    wires.extended(layout.EXTENDED_WRITE_ENABLE)
    wires.extended(layout.EXTENDED_WRITE_DISABLE)
    wires.write(0x20, 0x1234)
    assert eeprom.words[0x20] == 0x1008


def test_erase_and_erase_all(eeprom: Eeprom, wires: Wires) -> None:
    wires.extended(layout.EXTENDED_WRITE_ENABLE)
    wires.instruction(layout.OPCODE_ERASE, 3)
    wires.end()
    one = eeprom.words[3]
    wires.extended(layout.EXTENDED_ERASE_ALL)
    assert (one, set(eeprom.words)) == (0xFFFF, {0xFFFF})


def test_write_all(eeprom: Eeprom, wires: Wires) -> None:
    wires.extended(layout.EXTENDED_WRITE_ENABLE)
    wires.instruction(layout.OPCODE_EXTENDED, layout.EXTENDED_WRITE_ALL << (layout.ADDRESS_BITS - 2))
    wires.bits(0xBEEF, 16)
    assert set(eeprom.words) == {0xBEEF}


def test_deselecting_forgets_a_half_instruction(eeprom: Eeprom, wires: Wires) -> None:
    wires.begin()
    wires.bits(0b110, 3)
    wires.end()
    assert wires.read(0x0E) == 0x8086


def test_reset_keeps_the_words(eeprom: Eeprom, wires: Wires) -> None:
    wires.extended(layout.EXTENDED_WRITE_ENABLE)
    wires.write(0x20, 0x1234)
    eeprom.reset()
    assert (eeprom.words[0x20], eeprom.read_eecd() & REQ) == (0x1234, 0)
