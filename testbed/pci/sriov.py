"""The SR-IOV capability of a physical function: how many virtual functions there are, and where.

Reference: PCI Express Base Specification 5.0 §9.3.3. NumVFs can be written while VF Enable is clear, and not
beyond TotalVFs. `changed(vfs)` is called when the number of virtual functions that exist changes; each of
them has requester ID: that of the PF + First VF Offset + n * VF Stride (§9.3.3.9). Not modelled: VF
migration, function dependency, system page sizes beyond storing one that is supported.
"""

from collections.abc import Callable
from typing import Final

from testbed.address import Bdf
from testbed.pci.bars import Bars, Place
from testbed.pci.config_space import ConfigSpace
from testbed.spec import pci

_VF_ENABLE: Final = pci.SRIOV.mask("SRIOV_CONTROL", "VF_ENABLE")
_VF_MSE: Final = pci.SRIOV.mask("SRIOV_CONTROL", "VF_MSE")


class Sriov:
    """The capability in `space`, which must have it.

    vf_bars: the BARs of all virtual functions.
    """

    def __init__(self, space: ConfigSpace, vf_bars: Bars, changed: Callable[[int], None]) -> None:
        self._space, self.vf_bars, self._changed = space, vf_bars, changed
        self._wanted = self._there = 0
        registers = space.registers
        registers.on_write("SRIOV_CONTROL", self._control)
        registers.on_write("NUM_VFS", self._num_vfs)
        registers.on_write("SYSTEM_PAGE_SIZE", self._page_size)
        registers.on_read_each("VF_BAR", vf_bars.read)
        registers.on_write_each("VF_BAR", vf_bars.write)

    @property
    def vfs(self) -> int:
        """How many virtual functions exist."""
        return self._there

    @property
    def memory_enabled(self) -> bool:
        """The virtual functions answer in their BARs (VF MSE, §9.3.3.3.4)."""
        return bool(self._there and self._space.registers["SRIOV_CONTROL"] & _VF_MSE)

    def requester_id(self, vf: int) -> Bdf:
        """Return the requester ID that a virtual function has."""
        registers = self._space.registers
        return Bdf(self._space.bdf + registers["FIRST_VF_OFFSET"] + vf * registers["VF_STRIDE"])

    def find(self, address: int, length_bytes: int) -> Place | None:
        """Return which virtual function's BAR an access falls into, None where none answers."""
        return self.vf_bars.find(address, length_bytes, self._there) if self.memory_enabled else None

    def reset(self) -> None:
        """The physical function was reset: the virtual functions cease to exist (§6.6.2)."""
        self._wanted = 0
        self.vf_bars.reset()
        self._set(0)

    def _num_vfs(self, value: int) -> None:
        registers = self._space.registers
        if not registers["SRIOV_CONTROL"] & _VF_ENABLE and value <= registers["TOTAL_VFS"]:
            self._wanted = value
        registers["NUM_VFS"] = self._wanted

    def _control(self, _value: int) -> None:
        enabled = self._space.registers["SRIOV_CONTROL"] & _VF_ENABLE
        self._set(self._wanted if enabled else 0)

    def _page_size(self, value: int) -> None:
        registers = self._space.registers
        supported = value & registers["SUPPORTED_PAGE_SIZES"]
        one = supported == value and value and not value & (value - 1)
        registers["SYSTEM_PAGE_SIZE"] = value if one else pci.SRIOV["SYSTEM_PAGE_SIZE"].reset

    def _set(self, vfs: int) -> None:
        if vfs != self._there:
            self._there = vfs
            self._changed(vfs)
