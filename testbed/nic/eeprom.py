"""The EEPROM of the 82576, as EERD reads it.

Reference: 82576 datasheet (320961, revision 2.63) §8.4.2, chapter 6. A read is done at once. Words that mean
nothing here are erased. Not modelled: the wires in EECD, Flash, writing.
"""

from typing import Final

from testbed.spec import igb, igb_phy
from testbed.spec.igb import field, mask

_START: Final = mask("EERD", "START")
_DONE: Final = mask("EERD", "DONE")
_ADDR: Final = field("EERD", "ADDR")
_DATA: Final = field("EERD", "DATA")


def image_for(mac: bytes) -> list[int]:
    """Return the words of an EEPROM whose Ethernet address is `mac` (six bytes), checksum included."""
    words = [igb_phy.ERASED] * igb_phy.EEPROM_WORDS
    for i in range(3):
        words[igb_phy.WORD_ADDRESS + i] = int.from_bytes(mac[2 * i : 2 * i + 2], "little")
    words[igb_phy.WORD_SUBSYSTEM_ID] = 0
    words[igb_phy.WORD_SUBSYSTEM_VENDOR_ID] = words[igb_phy.WORD_VENDOR_ID] = igb.VENDOR_ID
    words[igb_phy.WORD_DEVICE_ID] = igb.DEVICE_ID
    words[igb_phy.WORD_CONTROL_2] = igb_phy.CONTROL_2
    words[igb_phy.WORD_CHECKSUM] = 0
    total = sum(words[: igb_phy.WORD_CHECKSUM])
    words[igb_phy.WORD_CHECKSUM] = (igb_phy.CHECKSUM_TOTAL - total) & 0xFFFF
    return words


class Eeprom:
    """The words, and the register that reads them."""

    def __init__(self, mac: bytes) -> None:
        self.words = image_for(mac)
        self._eerd = 0

    def mac(self) -> bytes:
        """Return the Ethernet address."""
        words = self.words[igb_phy.WORD_ADDRESS : igb_phy.WORD_ADDRESS + 3]
        return b"".join(word.to_bytes(2, "little") for word in words)

    def write_eerd(self, value: int) -> None:
        """Start a read; an address behind the end gives an erased word."""
        address = _ADDR.get(value)
        if value & _START:
            word = self.words[address] if address < len(self.words) else igb_phy.ERASED
            self._eerd = _ADDR.put(address, _DATA.put(word, _DONE))
        else:
            self._eerd = _ADDR.put(address)

    def read_eerd(self) -> int:
        """Return address, word and whether the read is done."""
        return self._eerd
