"""MSI-X of one function: table, pending bits, masking by vector and by function.

Reference: PCI Express Base Specification §6.1.4 and §7.7.2. A vector that is signalled while it is masked
becomes pending and is sent once when it is unmasked. Sending is a write of 32 bits by the function, handed
to `send(address, data)`: what that passes on its way (bus master enable, IOMMU, ITS) is not ours. Accesses to
table and PBA may have any size and place that an access can have; what the table does not hold reads as zero.
Not modelled: steering tags, 64-bit accesses being one (they are two of 32 bits, as §7.7.2 permits).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from testbed.spec import pci
from testbed.spec.pci import MSIX, MSIX_ENTRY

_ENABLE: Final = MSIX.mask("MSIX_CONTROL", "ENABLE")
_FUNCTION_MASK: Final = MSIX.mask("MSIX_CONTROL", "FUNCTION_MASK")
_CONTROL: Final = MSIX_ENTRY.offset("control")
_WORD_BYTES: Final = 4


@dataclass(slots=True)
class _State:
    table: bytearray
    pending: int = 0
    enabled: bool = False
    function_masked: bool = False


class Msix:
    """The vectors of one function.

    Parameters
    ----------
    vectors: how many.
    pba_offset: where in the BAR the pending bits begin; the table begins at 0.
    send: writes a message; called with its address and data.
    """

    def __init__(self, vectors: int, pba_offset: int, send: Callable[[int, int], None]) -> None:
        self.vectors, self._pba_offset, self._send = vectors, pba_offset, send
        self.sent = 0
        """Messages written so far; a reset does not clear it."""
        self._state = self._fresh()

    def reset(self) -> None:
        """Mask every vector, forget what is pending."""
        self._state = self._fresh()

    def _fresh(self) -> _State:
        """§7.7.2.8: vectors are masked after a reset."""
        return _State(bytearray(MSIX_ENTRY.pack(control=pci.MSIX_MASKED) * self.vectors))

    # the function's side

    def signal(self, vector: int) -> None:
        """Send a vector's message, now or when it is unmasked; a vector that does not exist is nothing."""
        if vector >= self.vectors or not self._state.enabled:
            return
        if self._masked(vector):
            self._state.pending |= 1 << vector
        else:
            self._write_message(vector)

    def clear_pending(self, vectors: int) -> None:
        """Forget that these vectors (bit mask) are pending: their causes are gone."""
        self._state.pending &= ~vectors

    # the capability

    def control_written(self, value: int) -> None:
        """Take a value of the message control register."""
        self._state.enabled = bool(value & _ENABLE)
        self._state.function_masked = bool(value & _FUNCTION_MASK)
        self._send_unmasked()

    # the BAR

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a load from the BAR gives."""
        return sum(self._byte(offset + n) << 8 * n for n in range(size_bytes))

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a store to the BAR: whole words of the table; pending bits are read only."""
        if offset % _WORD_BYTES or size_bytes % _WORD_BYTES:
            return
        image = value.to_bytes(size_bytes, "little")
        for at in range(0, size_bytes, _WORD_BYTES):
            if offset + at + _WORD_BYTES <= len(self._state.table):
                self._write_word(offset + at, image[at : at + _WORD_BYTES])

    def _write_word(self, offset: int, word: bytes) -> None:
        entry_offset = offset % MSIX_ENTRY.size
        value = int.from_bytes(word, "little")
        if entry_offset == _CONTROL:
            value &= pci.MSIX_MASKED
        elif entry_offset == MSIX_ENTRY.offset("address_low"):
            value &= pci.MSIX_ADDRESS_LOW_MASK
        self._state.table[offset : offset + _WORD_BYTES] = value.to_bytes(_WORD_BYTES, "little")
        if entry_offset == _CONTROL:
            self._send_unmasked()

    def _byte(self, offset: int) -> int:
        if offset < len(self._state.table):
            return self._state.table[offset]
        bit = 8 * (offset - self._pba_offset)
        return self._state.pending >> bit & 0xFF if 0 <= bit < self.vectors else 0

    # messages

    def _masked(self, vector: int) -> bool:
        control = self._state.table[vector * MSIX_ENTRY.size + _CONTROL]
        return self._state.function_masked or bool(control & pci.MSIX_MASKED)

    def _send_unmasked(self) -> None:
        state = self._state
        if not state.enabled or not state.pending:
            return
        for vector in range(self.vectors):
            if state.pending >> vector & 1 and not self._masked(vector):
                state.pending &= ~(1 << vector)
                self._write_message(vector)

    def _write_message(self, vector: int) -> None:
        entry = MSIX_ENTRY.unpack(self._state.table, vector * MSIX_ENTRY.size)
        self.sent += 1
        self._send(entry["address_high"] << 32 | entry["address_low"], entry["data"])
