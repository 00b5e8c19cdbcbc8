"""The filter tables of the 82576 as the physical function's driver fills them.

Reference: 82576 datasheet (320961, revision 2.63) §7.10.3, §8.10, §8.14. Receive address 0 is the PF's, the
last eight are those of virtual functions, those between are given to whoever asks first: further addresses
of trusted virtual functions, and guests that are reached through the PF. A VLAN has one VLVF entry with its
pools; tagged frames are filtered while there is any. The PF's pool is a bridge's uplink: of what comes from
the wire it takes all that no virtual function is named for (it is the default pool), of what virtual
functions send only what is for the bridge's own NICs, by address, by hash where the entries are used up. The
rest goes to the wire alone.
Not known: addresses that a guest behind the bridge uses beside those of its NICs.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from testbed.spec import igb
from testbed.spec.igb import REGISTERS, field, mask
from testbed.vmm.pf_functions import Vf
from testbed.vmm.pf_registers import PfRegisters

_HALF: Final = REGISTERS["RAL"].count
_ENTRIES: Final = _HALF + REGISTERS["RAL2"].count
_WORD_BITS: Final = 32
_ALL_ONES: Final = 0xFFFF_FFFF
_ALL_POOLS: Final = (1 << igb.POOLS) - 1
_VMOLR_KEPT: Final = mask("VMOLR", "STRCRC")


class Filters:
    """Receive addresses, VLANs, multicast hashes and pool offloads."""

    def __init__(self, registers: PfRegisters, pf_pool: int) -> None:
        self._registers, self._pf_pool = registers, pf_pool
        self._taken: dict[int, int] = {}
        """Receive addresses between the PF's and those of virtual functions: the pool of each."""
        self._vlan_entries: dict[int, int] = {}
        """VLVF entry of each VLAN."""
        self._hashed: set[int] = set()
        """Bits of UTA that are set."""
        self._vlan_pools: dict[int, int] = {}

    def reset(self, mac: bytes) -> None:
        """Fill every table for a device that was just reset, with the PF alone."""
        self._taken.clear()
        self._vlan_entries.clear()
        self._vlan_pools.clear()
        for entry in range(_ENTRIES):
            self._set_address(entry, None, 0)
        self._set_address(0, mac, self._pf_pool)
        self._hashed.clear()
        self._registers.write_all("UTA", 0)
        for name in ("MTA", "VFTA"):
            self._registers.write_all(name, _ALL_ONES)
        for entry in range(igb.VLVF_ENTRIES):
            self._registers.write("VLVF", 0, entry)
        accept = mask("VMOLR", "AUPE", "ROMPE", "ROPE", "BAM", "MPE", "LPE", "STRCRC")
        longest = field("VMOLR", "RLPML").put(REGISTERS["RLPML"].reset)
        self._registers.write("VMOLR", accept | longest, self._pf_pool)

    def set_vf_address(self, vf: int, mac: bytes) -> None:
        """Give a virtual function's pool its address; zeros: none."""
        self._set_address(_ENTRIES - 1 - vf, mac if any(mac) else None, vf)

    def add_address(self, mac: bytes, pool: int) -> bool:
        """Give a pool a further address; False where no entry is left."""
        for entry in range(1, _ENTRIES - igb.VFS_MAX):
            if entry not in self._taken:
                self._taken[entry] = pool
                self._set_address(entry, mac, pool)
                return True
        return False

    def remove_addresses(self, pool: int) -> None:
        """Take a pool's further addresses away."""
        for entry in [entry for entry, owner in self._taken.items() if owner == pool]:
            del self._taken[entry]
            self._set_address(entry, None, 0)

    def set_uplink_addresses(self, macs: Sequence[bytes]) -> int:
        """Name the PF's further addresses; return how many have entries. The others are known by hash (UTA):
        frames for them, and for strangers of the same hash, go to the PF's pool and to the wire.
        """
        self.remove_addresses(self._pf_pool)
        beyond = [mac for mac in macs if not self.add_address(mac, self._pf_pool)]
        hashed = {igb.address_hash(mac) for mac in beyond}
        for word in {entry // _WORD_BITS for entry in hashed ^ self._hashed}:
            bits = (1 << entry % _WORD_BITS for entry in hashed if entry // _WORD_BITS == word)
            self._registers.write("UTA", sum(bits), word)
        self._hashed = hashed
        return len(macs) - len(beyond)

    def set_mirrors(self, pools: Iterable[int]) -> None:
        """Give each of these pools copies of what every other pool gets and of all that goes to the wire."""
        for rule, pool in enumerate(pools):
            control = field("VMRCTL", "MP").put(pool) | mask("VMRCTL", "VPME", "DPME")
            self._registers.write("VMRVM", _ALL_POOLS & ~(1 << pool), rule)
            self._registers.write("VMRCTL", control, rule)

    def _set_address(self, entry: int, mac: bytes | None, pool: int) -> None:
        """RAL before RAH, whose AV makes it valid; an entry is invalid while it changes."""
        low, high = ("RAL", "RAH") if entry < _HALF else ("RAL2", "RAH2")
        index = entry if entry < _HALF else entry - _HALF
        self._registers.write(high, 0, index)
        if mac is None:
            self._registers.write(low, 0, index)
            return
        self._registers.write(low, int.from_bytes(mac[:4], "little"), index)
        pools = field("RAH", "POOLSEL").put(1 << pool)
        self._registers.write(high, int.from_bytes(mac[4:], "little") | pools | mask("RAH", "AV"), index)

    # VLANs

    def has_room(self, vf: int, vlan: int) -> bool:
        """Say whether this VLAN could be a pool's only one: entries that it has to itself become free."""
        free = igb.VLVF_ENTRIES - len(self._vlan_pools)
        return vlan in self._vlan_pools or free > 0 or 1 << vf in self._vlan_pools.values()

    def set_vlans(self, vf: int, vlans: Iterable[int]) -> bool:
        """Make a pool a member of exactly these VLANs; False where the table has no entry for one of them."""
        wanted, bit = set(vlans), 1 << vf
        fitted = True
        for vlan in set(self._vlan_pools) - wanted:
            self._set_pools(vlan, self._vlan_pools[vlan] & ~bit)
        for vlan in wanted:
            fitted &= self._set_pools(vlan, self._vlan_pools.get(vlan, 0) | bit)
        self._registers.change("RCTL", mask("RCTL", "VFE"), mask("RCTL", "VFE") if self._vlan_pools else 0)
        return fitted

    def _set_pools(self, vlan: int, pools: int) -> bool:
        if pools == self._vlan_pools.get(vlan, 0):
            return True
        if not pools:
            self._registers.write("VLVF", 0, self._vlan_entries.pop(vlan))
            del self._vlan_pools[vlan]
            return True
        entry = self._vlan_entries.get(vlan)
        if entry is None:
            free = set(range(igb.VLVF_ENTRIES)) - set(self._vlan_entries.values())
            if not free:
                return False
            entry = self._vlan_entries[vlan] = min(free)
        self._vlan_pools[vlan] = pools
        value = field("VLVF", "VLAN_ID").put(vlan) | field("VLVF", "POOLSEL").put(pools)
        self._registers.write("VLVF", value | mask("VLVF", "VI_EN"), entry)
        return True

    # pools

    def set_pool(self, vf: Vf) -> None:
        """Set what a virtual function's pool accepts."""
        accept = mask("VMOLR", "BAM")
        if not vf.settings.vlan:
            accept |= mask("VMOLR", "AUPE")
        if vf.driver.hashes:
            accept |= mask("VMOLR", "ROMPE")
        if vf.driver.all_multicast:
            accept |= mask("VMOLR", "MPE")
        if vf.settings.vlan:
            accept |= mask("VMOLR", "STRVLAN")
        if vf.driver.frame_max_bytes:
            accept |= mask("VMOLR", "LPE") | field("VMOLR", "RLPML").put(vf.driver.frame_max_bytes)
        self._registers.write("VMOLR", accept | _VMOLR_KEPT, vf.number)
        tag = 0
        if vf.settings.vlan:
            tag = field("VMVIR", "PORT_VLAN").put(vf.settings.vlan)
            tag |= field("VMVIR", "VLANA").put(igb.VLANA_ALWAYS)
        self._registers.write("VMVIR", tag, vf.number)
