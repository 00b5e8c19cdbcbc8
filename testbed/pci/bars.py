"""Base address registers: what a driver reads while it sizes them, and which BAR an address falls into.

Reference: PCI Express Base Specification §7.5.1.2.1; §9.3.3.14 for those of virtual functions, where a
register holds the address of VF 0's and the others' follow. Not modelled: I/O BARs, expansion ROM.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from testbed.errors import ConfigError
from testbed.spec import pci

_BAR_BITS: Final = 32
_WORD: Final = (1 << _BAR_BITS) - 1


@dataclass(frozen=True, slots=True)
class Bar:
    """One memory BAR.

    index: its (first) register. size_bytes: a power of two of at least 16, of one function.
    wide: 64-bit, takes two registers. count: functions whose BARs lie behind one another.
    """

    index: int
    size_bytes: int
    wide: bool = False
    prefetchable: bool = False
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse what no register can express."""
        if self.size_bytes < pci.BAR_FLAGS_MASK + 1 or self.size_bytes & (self.size_bytes - 1):
            raise ConfigError(f"BAR {self.index}: size must be a power of two >= 16, not {self.size_bytes}")
        if self.index + self.wide >= pci.BARS:
            raise ConfigError(f"BAR {self.index}: there are {pci.BARS} registers, a 64-bit BAR takes two")

    @property
    def flags(self) -> int:
        """The low bits, which cannot be written."""
        return (pci.BAR_64_BIT if self.wide else 0) | (pci.BAR_PREFETCHABLE if self.prefetchable else 0)


class Place(NamedTuple):
    """Where an address falls: BAR, offset in it, and which of its functions."""

    bar: int
    offset: int
    function: int = 0


class Bars:
    """The BARs of one header, or of one SR-IOV capability."""

    def __init__(self, *bars: Bar) -> None:
        self.bars = bars
        self._values = {bar.index: bar.flags for bar in bars}
        self._high = {bar.index + 1: bar for bar in bars if bar.wide}
        self._low = {bar.index: bar for bar in bars}
        if len(self._low) != len(bars) or self._low.keys() & self._high.keys():
            raise ConfigError("BARs share a register: a 64-bit BAR takes two")

    def read(self, index: int) -> int:
        """Return a BAR register; one that is not implemented is zero."""
        return self._values.get(index, 0)

    def write(self, index: int, value: int) -> None:
        """Write a BAR register: the bits below the size, and the flags, stay."""
        if index in self._low:
            bar = self._low[index]
            self._values[index] = value & _WORD & -bar.size_bytes | bar.flags
        elif index in self._high:
            size = self._high[index].size_bytes
            self._values[index] = value & _WORD & (-size >> _BAR_BITS)

    def base(self, index: int) -> int:
        """Return the address in the BAR whose first register is `index`."""
        low = self._values[index] & ~pci.BAR_FLAGS_MASK
        return low | (self._values.get(index + 1, 0) << _BAR_BITS if self._low[index].wide else 0)

    def find(self, address: int, length_bytes: int, functions: int | None = None) -> Place | None:
        """Return where an access falls that does not leave one function's BAR, else None.

        functions: how many functions there are now; None: as many as the BARs are made for.
        """
        for bar in self.bars:
            number, offset = divmod(address - self.base(bar.index), bar.size_bytes)
            if 0 <= number < (bar.count if functions is None else functions):
                fits = offset + length_bytes <= bar.size_bytes
                return Place(bar.index, offset, number) if fits else None
        return None

    def reset(self) -> None:
        """Forget every address."""
        self._values = {bar.index: bar.flags for bar in self.bars}
