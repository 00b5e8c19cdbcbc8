"""The 64-word EEPROM of the 82540EM: what its words mean, this device's image, and Microwire instructions.

Reference: 8254x SDM (317453-006, revision 4.0) chapter 5; the instructions are those of the NM93C46, the
part that EECD.EE_SIZE = 0 stands for. The words that are neither address nor checksum are those of the
adapter that drivers of this part meet in virtual machines; of all words only the address changes anything in
the model.
"""

from typing import Final

WORDS: Final = 64
ADDRESS_BITS: Final = 6
CHECKSUM_TOTAL: Final = 0xBABA
"""§5.6.35: all words, the checksum word too, add up to this in 16 bits."""

WORD_ADDRESS: Final = 0x00
"""§5.6.1: the Ethernet address in three words, its first byte in the low byte of the first word."""
WORD_COMPATIBILITY: Final = 0x03
WORD_PBA_NUMBER: Final = 0x08
WORD_CONTROL_1: Final = 0x0A
WORD_SUBSYSTEM_ID: Final = 0x0B
WORD_SUBSYSTEM_VENDOR_ID: Final = 0x0C
WORD_DEVICE_ID: Final = 0x0D
WORD_VENDOR_ID: Final = 0x0E
WORD_CONTROL_2: Final = 0x0F
WORD_CHECKSUM: Final = 0x3F
SIGNATURE_MASK: Final = 0xC000
SIGNATURE: Final = 0x4000
"""§5.4: word 0Ah of a valid EEPROM has 01b in bits 15 and 14."""

IMAGE: Final = (
    0x0000, 0x0000, 0x0000, 0x0000, 0xFFFF, 0x0000, 0x0000, 0x0000,
    0x3000, 0x1000, 0x6403, 0x100E, 0x8086, 0x100E, 0x8086, 0x3040,
    0x0008, 0x2000, 0x7E14, 0x0048, 0x1000, 0x00D8, 0x0000, 0x2700,
    0x6CC9, 0x3150, 0x0722, 0x040B, 0x0984, 0x0000, 0xC000, 0x0706,
    0x1008, 0x0000, 0x0F04, 0x7FFF, 0x4D01, 0xFFFF, 0xFFFF, 0xFFFF,
    0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF,
    0x0100, 0x4000, 0x121C, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF,
    0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0x0000,
)  # fmt: skip
"""Words 0 to 2 (address) and 3Fh (checksum) are filled in for each device."""

# NM93C46: a start bit, an opcode of two bits, then ADDRESS_BITS of address; opcode 00 has its meaning in the
# two upper address bits.
OPCODE_EXTENDED: Final = 0b00
OPCODE_WRITE: Final = 0b01
OPCODE_READ: Final = 0b10
OPCODE_ERASE: Final = 0b11
EXTENDED_WRITE_DISABLE: Final = 0b00
EXTENDED_WRITE_ALL: Final = 0b01
EXTENDED_ERASE_ALL: Final = 0b10
EXTENDED_WRITE_ENABLE: Final = 0b11
