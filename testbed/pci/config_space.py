"""The configuration space of one function: header, BARs, capability chain, and what its bits do.

Reference: PCI Express Base Specification 5.0, chapter 7 and §9.3 (SR-IOV). A function is described by a
`FunctionLayout`: which capabilities it has, where, and its initial values; this file links them into the two
chains and does what they have in common. Accesses of 1, 2 and 4 bytes; what is not implemented reads as zero
and ignores writes. Not modelled: D-states beyond storing them, error reporting (no error ever happens),
link control, ASPM.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from testbed.address import Bdf
from testbed.memory.register_file import RegisterFile
from testbed.pci.bars import Bars
from testbed.pci.msix import Msix
from testbed.spec import pci
from testbed.spec.layout import Access, Reg, RegisterMap

_BUS_MASTER: Final = pci.HEADER.mask("COMMAND", "BUS_MASTER")
_MEMORY: Final = pci.HEADER.mask("COMMAND", "MEMORY")
_FLR: Final = pci.EXPRESS.mask("DEVICE_CONTROL", "FLR")
_TABLE_SIZE: Final = pci.MSIX.mask("MSIX_CONTROL", "TABLE_SIZE")
_NEXT_SUFFIX: Final = "_NEXT"
_HEADER_SUFFIX: Final = "_HEADER"


@dataclass(frozen=True)
class FunctionLayout:
    """What one kind of function has.

    capabilities: (offset, capability) in the order of the chain; those from 100h on are the extended chain.
    values: initial values that differ from the declaration's, by register.
    read_only: bits of COMMAND that cannot be written.
    """

    name: str
    capabilities: tuple[tuple[int, RegisterMap], ...]
    values: Mapping[str, int]
    read_only: int = 0

    def registers(self) -> RegisterMap:
        """Return every register at its place, with its initial value."""
        rows = list(self._placed(0, pci.HEADER, 0))
        for n, (offset, capability) in enumerate(self.capabilities):
            following = [at for at, _ in self.capabilities[n + 1 :]]
            same_chain = [
                at for at in following if (at < pci.EXTENDED_BEGIN) == (offset < pci.EXTENDED_BEGIN)
            ]
            rows += self._placed(offset, capability, same_chain[0] if same_chain else 0)
        return RegisterMap(f"{self.name} configuration", pci.CONFIGURATION_BYTES, *rows)

    def _placed(self, base: int, block: RegisterMap, following: int) -> list[Reg]:
        rows = []
        for reg in block.registers:
            reset = self.values.get(reg.name, reg.reset)
            if reg.name == "CAPABILITIES":
                reset = self.capabilities[0][0]
            elif reg.name.endswith(_NEXT_SUFFIX):
                reset = following
            elif reg.name.endswith(_HEADER_SUFFIX):
                reset |= following << pci.NEXT_SHIFT
            rows.append(replace(reg, offset=base + reg.offset, reset=reset))
        return rows


class ConfigSpace:
    """One function's configuration space.

    Parameters
    ----------
    layout: what it has.
    bdf: its requester ID.
    bars: its own BARs (of a virtual function: none, §9.3.4.1.11).
    msix: its vectors.
    flr: does a function level reset; what is reset here has been reset before it is called.
    """

    def __init__(
        self, layout: FunctionLayout, bdf: Bdf, bars: Bars, msix: Msix, flr: Callable[[], None]
    ) -> None:
        self.bdf, self.bars, self.msix, self._flr = bdf, bars, msix, flr
        rows = layout.registers()
        writable = [reg.name for reg in rows.registers if reg.access in (Access.RW, Access.W1C)]
        self.registers = registers = RegisterFile(rows, narrow_writes=writable)
        registers.protect("COMMAND", layout.read_only)
        registers.on_read_each("BAR", bars.read)
        registers.on_write_each("BAR", bars.write)
        registers.protect("MSIX_CONTROL", _TABLE_SIZE)
        registers.on_write("MSIX_CONTROL", msix.control_written)
        registers.protect("DEVICE_CONTROL", _FLR)
        registers.on_write("DEVICE_CONTROL", self._device_control)

    def read(self, offset: int, size_bytes: int) -> int:
        """Return what a configuration read gives."""
        return self.registers.read(offset, size_bytes)

    def write(self, offset: int, size_bytes: int, value: int) -> None:
        """Do a configuration write."""
        self.registers.write(offset, size_bytes, value)

    @property
    def bus_master(self) -> bool:
        """The function may send requests, messages among them (§7.5.1.1.3)."""
        return bool(self.registers["COMMAND"] & _BUS_MASTER)

    @property
    def memory_enabled(self) -> bool:
        """The function answers in its memory BARs."""
        return bool(self.registers["COMMAND"] & _MEMORY)

    def reset(self) -> None:
        """Do what a function level reset does to the configuration space (§6.6.2)."""
        self.registers.reset()
        self.bars.reset()
        self.msix.reset()

    def _device_control(self, value: int) -> None:
        """§7.5.3.4: FLR reads as zero and starts a reset."""
        if value & _FLR:
            self.reset()
            self._flr()
