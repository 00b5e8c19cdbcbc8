"""The receive filters of the 82540EM: from registers to the tables that native code looks frames up in.

Reference: 8254x SDM §3.2.1 (kinds of filter), §13.5 (tables), §13.4.22 (RCTL), §9.3 (VLAN), §13.4.8 to
§13.4.10 (MAC control frames). Who decides on each frame is native/e1000_filter.h. The tables survive a
device reset, but for RAH.AV (§14.7). Not modelled: pausing the transmitter, wake-up filters.
"""

from collections.abc import Callable
from typing import Final

from testbed.memory.register_file import RegisterFile
from testbed.native import E1000Receive
from testbed.spec import e1000
from testbed.spec.e1000 import field, mask

_AV: Final = mask("RAH", "AV")
_AS: Final = field("RAH", "AS")
_MO: Final = field("RCTL", "MO")
AS_DESTINATION: Final = 0
AS_SOURCE: Final = 1
_RCTL: Final = {bits.name: bits.mask for bits in e1000.REGISTERS["RCTL"].bits}


class Filters:
    """Keeps the native tables equal to the registers; `station_changed` is called when entry 0 was
    written.
    """

    def __init__(
        self, registers: RegisterFile, receive: E1000Receive, station_changed: Callable[[], None]
    ) -> None:
        self._registers, self._receive, self._station_changed = registers, receive, station_changed
        registers.on_write_each("RAL", lambda index, _value: self._address(index))
        registers.on_write_each("RAH", self._address_high)
        registers.on_write_each("MTA", receive.set_multicast)
        registers.on_write_each("VFTA", receive.set_vlans)
        for name in ("VET", "FCT", "FCAL", "FCAH"):
            registers.on_write(name, lambda _value: self.configure_types())

    def reset(self, station: bytes | None) -> None:
        """Invalidate every address (§14.7), then load the station's from the EEPROM where there is one."""
        registers = self._registers
        for index in range(e1000.REGISTERS["RAH"].count):
            registers.put("RAH", index, registers.get("RAH", index) & ~_AV)
        if station is not None:
            registers.put("RAL", 0, int.from_bytes(station[:4], "little"))
            registers.put("RAH", 0, int.from_bytes(station[4:], "little") | _AV)
        for index in range(e1000.REGISTERS["RAH"].count):
            self._address(index)
        self.configure_types()
        self.configure(0)

    def clear(self) -> None:
        """Empty the hash tables, as power-on leaves them here."""
        for word in range(e1000.REGISTERS["MTA"].count):
            self._receive.set_multicast(word, 0)
            self._receive.set_vlans(word, 0)

    def station(self) -> bytes | None:
        """Return the address in RAL/RAH 0 while it is valid."""
        return self._bytes(0) if self._registers.get("RAH", 0) & _AV else None

    def configure(self, rctl: int) -> None:
        """Take the filter bits of RCTL."""

        def bit(name: str) -> bool:
            return bool(rctl & _RCTL[name])

        self._receive.configure_filter(
            bit("UPE"), bit("MPE"), bit("BAM"), _MO.get(rctl), bit("VFE"), bit("CFIEN"), bit("CFI"),
            bit("DPF"), bit("PMCF"),
        )  # fmt: skip

    def configure_types(self) -> None:
        """Take VET and the MAC control type and address."""
        registers = self._registers
        address = registers["FCAL"].to_bytes(4, "little") + (registers["FCAH"] & 0xFFFF).to_bytes(2, "little")
        self._receive.configure_types(registers["VET"], registers["FCT"], address)

    def _bytes(self, index: int) -> bytes:
        low, high = self._registers.get("RAL", index), self._registers.get("RAH", index)
        return low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")

    def _address_high(self, index: int, _value: int) -> None:
        """§13.5.3: an address is written low to high, so it is complete now."""
        self._address(index)
        if index == 0:
            self._station_changed()

    def _address(self, index: int) -> None:
        high = self._registers.get("RAH", index)
        select = _AS.get(high)
        valid = bool(high & _AV) and select in (AS_DESTINATION, AS_SOURCE)
        self._receive.set_address(index, self._bytes(index), valid, select == AS_SOURCE)
