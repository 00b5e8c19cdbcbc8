"""What the control side of the NIC has decided and its data side works by: plain values, replaced as a whole.

Reference: Intel, 82576EB Gigabit Ethernet Controller Datasheet (320961, revision 2.63), §7.10.3 (packet
switching) and §8.10, §8.14 (the registers, named at each value). A `SwitchState` never changes: after a
register write that matters the control side makes another, so whoever compiled one into a table of its own
compares by identity and compiles again. The data side reads nothing else about filters, pools, rates, mirror
rules, RSS and the link; the registers of the queues themselves it binds in the register file.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from testbed.spec import igb


class QueueMode(Enum):
    """MRQC.MRQ_ENABLE: how a received frame gets its queue."""

    SINGLE = igb.MRQ_NONE
    """MRQC.DEF_Q takes everything."""
    RSS = igb.MRQ_RSS
    """By hash over all queues (§7.1.1.7); no pools."""
    POOLS = igb.MRQ_VMDQ
    """The first queue of each pool that the switch chose (§7.10.3)."""
    POOLS_RSS = igb.MRQ_VMDQ_RSS
    """The queue of each such pool by hash, where its VMOLR.RSSE is set; else its first."""


class VlanInsertion(Enum):
    """VMVIR.VLANA: whose VLAN tag a sent frame gets (§7.10.3.5)."""

    BY_DESCRIPTOR = igb.VLANA_BY_DESCRIPTOR
    ALWAYS = igb.VLANA_ALWAYS
    """The pool's port VLAN, whatever the descriptor asks for."""
    NEVER = igb.VLANA_NEVER


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool: a virtual function, or where there is no virtual function of that number, the PF's.

    index: pool number. queues: of the device, first one first.
    """

    index: int
    queues: tuple[int, int]
    receive: bool
    """VFRE: frames may go to it."""
    transmit: bool
    """VFTE: its queues may be fetched from."""
    frame_max_bytes: int
    """Longest accepted frame with FCS, a VLAN tag not counted: VMOLR.RLPML under LPE, else 1518 (§8.14)."""
    accept_untagged: bool
    """VMOLR.AUPE."""
    accept_broadcast: bool
    """VMOLR.BAM."""
    accept_multicast: bool
    """VMOLR.MPE: every multicast frame."""
    accept_multicast_hash: bool
    """VMOLR.ROMPE: those whose hash is in `SwitchState.multicast_table`."""
    accept_unicast_hash: bool
    """VMOLR.ROPE: unicast frames whose hash is in `SwitchState.unicast_table`."""
    strip_vlan: bool
    """VMOLR.STRVLAN."""
    hide_vlan: bool
    """DVMOLR.HIDEVLAN: a stripped tag is not even reported."""
    rss: bool
    """VMOLR.RSSE."""
    check_source_mac: bool
    """DTXSWC.MACAS: a frame from here whose source address is not the pool's is dropped (§7.10.3.9)."""
    check_source_vlan: bool
    """DTXSWC.VLANAS: the same for its VLAN."""
    local_loopback: bool
    """DTXSWC.LLE: what it sends may come back to it."""
    insertion: VlanInsertion
    port_vlan: int
    """The 16 bits of the tag that `insertion` may insert."""


@dataclass(frozen=True, slots=True)
class UnicastFilter:
    """A valid pair of RAL and RAH. mac: six bytes. pools: bit mask."""

    mac: bytes
    pools: int
    source: bool = False
    """RAH.ASEL: it is compared with the source address."""


@dataclass(frozen=True, slots=True)
class VlanFilter:
    """A valid VLVF. pools: bit mask. local: VLVF.LVLAN, frames of this VLAN do not leave by the wire."""

    vlan: int
    pools: int
    local: bool
    entry: int
    """Which VLVF, for VMRVLAN."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror rule with any condition on (VMRCTL, VMRVLAN, VMRVM; §7.10.3.7).

    destination: pool that gets the copies.
    """

    destination: int
    pools: int
    """Pools whose received frames are mirrored: VMRVM under VPME, else 0."""
    uplink: bool
    """What came from the wire (UPME)."""
    downlink: bool
    """What goes to the wire (DPME)."""
    vlans: tuple[int, ...]
    """Frames of these VLANs (VLME)."""


@dataclass(frozen=True, slots=True)
class Rss:
    """Receive side scaling. key: 40 bytes. table: RETA's 128 entries. The rest: which hashes (MRQC)."""

    key: bytes
    table: bytes
    """Each entry: queue of the first half in bits 3:0 (RSS), or of the pool in bit 0 (pools with RSS)."""
    ipv4: bool
    tcp_ipv4: bool
    udp_ipv4: bool
    ipv6: bool
    tcp_ipv6: bool
    udp_ipv6: bool


@dataclass(frozen=True, slots=True)
class SwitchState:
    """Everything the data side decides by."""

    link_up: bool
    """The wire: frames may be sent to it and received from it. Pools reach each other without it."""
    receive: bool
    """RCTL.EN."""
    transmit: bool
    """TCTL.EN."""
    mode: QueueMode
    default_queue: int
    """MRQC.DEF_Q."""
    pools: tuple[Pool, ...]
    unicast: tuple[UnicastFilter, ...]
    multicast_table: bytes
    """MTA, bit n in byte n // 8."""
    unicast_table: bytes
    """UTA, the same."""
    hash_shift: int
    """Where the 12 bits of a hash begin in a destination address, its last byte highest (RCTL.MO)."""
    unicast_promiscuous: bool
    """RCTL.UPE."""
    multicast_promiscuous: bool
    """RCTL.MPE."""
    accept_broadcast: bool
    """RCTL.BAM."""
    filter_vlans: bool
    """RCTL.VFE: tagged frames from the wire must be in `vlan_table`."""
    vlan_table: bytes
    """VFTA, bit per VLAN ID."""
    vlans: tuple[VlanFilter, ...]
    default_pool: int | None
    """VT_CTL.DEF_PL: gets unicast frames that no pool wants; None under DIS_DEF_POOL."""
    replicate: bool
    """VT_CTL.RPL_EN: broadcast and multicast go to every pool that accepts them; else to one."""
    replicated_strip_vlan: bool
    """RPLOLR.STRVLAN, for frames that went to more than one pool."""
    loopback: bool
    """DTXSWC.LOOPBACK_EN: the switch looks at sent frames at all; else all of them go to the wire."""
    mirrors: tuple[Mirror, ...]
    rss: Rss
    drop_queues: int
    """QDE, bit per queue: without a free descriptor a frame for it is dropped instead of waiting."""
    frame_max_bytes: int
    """Longest frame from the wire with FCS, while the device has no pools (RCTL.LPE, RLPML)."""
    pad_short: bool
    """TCTL.PSP."""
    vlan_ether_type: int
    """VET."""
    rates_bits_per_second: tuple[int | None, ...]
    """Most that each transmit queue may send (RTTBCNRC); None: no limit."""

    @property
    def pooled(self) -> bool:
        """The device is divided into pools."""
        return self.mode in (QueueMode.POOLS, QueueMode.POOLS_RSS)


class DataSide(Protocol):
    """What the control side tells the data side."""

    def reset_queues(self, queues: int) -> None:
        """Receive and transmit queues (bit mask) were reset: their registers have initial values, what is
        under way there is to be forgotten."""
        ...


FRAME_MAX_BYTES: Final = 1518
"""§8.10: longest frame with FCS and without a VLAN tag, while long packets are off."""
