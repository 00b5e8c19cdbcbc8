"""The I/O BAR of the 82540EM: two registers through which every internal register can be reached.

Reference: 8254x SDM §13.2.2. IOADDR holds an address, IODATA stands for the register there; drivers reset the
device through it. Writes of fewer than four bytes are ignored. Not modelled: Flash behind 80000h and up.
"""

from typing import Final

from testbed.memory.register_file import RegisterFile
from testbed.spec.e1000 import BAR_BYTES, IO_REGISTERS

_WORD_BYTES: Final = 4


class IoWindow:
    """The register block at the I/O BAR, in front of the memory BAR's `registers`."""

    def __init__(self, registers: RegisterFile) -> None:
        self._registers = registers
        self.window = RegisterFile(IO_REGISTERS)
        self.window.on_read("IODATA", self._read)
        self.window.on_write("IODATA", self._write)

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a port input of 1, 2 or 4 bytes gives."""
        return self.window.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a port output."""
        self.window.write(offset, size_bytes, value)

    def reset(self) -> None:
        """Put IOADDR back to zero (a PCI reset; CTRL.RST leaves it alone, §13.2.2.1)."""
        self.window.reset()

    def _read(self) -> int:
        address = self.window["IOADDR"]
        return self._registers.read(address & -_WORD_BYTES, _WORD_BYTES) if address < BAR_BYTES else 0

    def _write(self, value: int) -> None:
        address = self.window["IOADDR"]
        if address < BAR_BYTES:
            self._registers.write(address & -_WORD_BYTES, _WORD_BYTES, value)
