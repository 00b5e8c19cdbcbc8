"""Reads the filter, pool, rate and mirror registers of the 82576 into the values that its data side works by.

Reference: 82576 datasheet (320961, revision 2.63) §7.10.3, §8.10, §8.14. `Filters` remembers which registers
were written and makes a new `SwitchState` when one is asked for after that. Not modelled: queue filters by
five-tuple, SYN and EtherType; VT_CTL.IGMAC and FLP; storm control.
"""

from collections.abc import Callable
from typing import Final

from testbed.memory.register_file import RegisterFile
from testbed.nic.switch_state import (
    FRAME_MAX_BYTES,
    Mirror,
    Pool,
    QueueMode,
    Rss,
    SwitchState,
    UnicastFilter,
    VlanFilter,
    VlanInsertion,
)
from testbed.spec import igb
from testbed.spec.igb import REGISTERS, field, mask

READ_HERE: Final = (
    "RCTL", "TCTL", "MRQC", "RETA", "RSSRK", "MTA", "UTA", "VFTA", "RAL", "RAH", "RAL2", "RAH2", "RLPML",
    "VET", "VT_CTL", "VFRE", "VFTE", "QDE", "DTXSWC", "VMVIR", "VMOLR", "RPLOLR", "VLVF", "VMRCTL", "VMRVLAN",
    "VMRVM", "DVMOLR",
)  # fmt: skip
"""Registers that a `SwitchState` is made of, but for those whose handler is elsewhere (link, rates)."""
_ENTRY_PAIRS: Final = (("RAL", "RAH", 16), ("RAL2", "RAH2", 8))
_RATE_ON: Final = mask("RTTBCNRC", "RS_ENA")


class Filters:
    """The current `SwitchState`; `changed` is called once when the one that was last read is out of date."""

    def __init__(self, registers: RegisterFile, changed: Callable[[], None]) -> None:
        self._registers, self._changed = registers, changed
        self._state: SwitchState | None = None
        self._link_up = False
        self._rates: list[int | None] = [None] * igb.QUEUES
        for name in READ_HERE:
            if REGISTERS[name].count == 1:
                registers.on_write(name, self._written)
            else:
                registers.on_write_each(name, self._member_written)
        registers.on_write("RTTBCNRC", self._rate)

    @property
    def state(self) -> SwitchState:
        """What the registers say now."""
        if self._state is None:
            self._state = read_state(self._registers, self._link_up, tuple(self._rates))
        return self._state

    def set_link(self, up: bool) -> None:
        """The link to the wire came or went."""
        if up != self._link_up:
            self._link_up = up
            self.outdated()

    def reset(self) -> None:
        """The registers were reset."""
        self._rates = [None] * igb.QUEUES
        self.outdated()

    def outdated(self) -> None:
        """Something that a state is made of changed."""
        if self._state is not None:
            self._state = None
            self._changed()

    def _written(self, _value: int) -> None:
        self.outdated()

    def _member_written(self, _index: int, _value: int) -> None:
        self.outdated()

    def _rate(self, value: int) -> None:
        queue = field("RTTDQSEL", "QUEUE").get(self._registers["RTTDQSEL"])
        self._rates[queue] = rate_bits_per_second(value)
        self.outdated()


def rate_bits_per_second(rttbcnrc: int) -> int | None:
    """Return the limit that a value of RTTBCNRC sets; None: no limit."""
    divisor = field("RTTBCNRC", "RF_INT").get(rttbcnrc) << igb.RATE_FRACTION_BITS
    divisor |= field("RTTBCNRC", "RF_DEC").get(rttbcnrc)
    if not rttbcnrc & _RATE_ON or not divisor:
        return None
    return (igb.LINK_BITS_PER_SECOND << igb.RATE_FRACTION_BITS) // divisor


def read_state(registers: RegisterFile, link_up: bool, rates: tuple[int | None, ...]) -> SwitchState:
    """Return what the registers say."""
    rctl, tctl, vt_ctl, mrqc = (registers[name] for name in ("RCTL", "TCTL", "VT_CTL", "MRQC"))
    vlans = _vlans(registers)
    return SwitchState(
        link_up=link_up,
        receive=bool(rctl & mask("RCTL", "EN")),
        transmit=bool(tctl & mask("TCTL", "EN")),
        mode=_mode(mrqc),
        default_queue=field("MRQC", "DEF_Q").get(mrqc),
        pools=tuple(_pool(registers, index) for index in range(igb.POOLS)),
        unicast=_unicast(registers),
        multicast_table=_words(registers, "MTA"),
        unicast_table=_words(registers, "UTA"),
        hash_shift=igb.MULTICAST_SHIFTS[field("RCTL", "MO").get(rctl)],
        unicast_promiscuous=bool(rctl & mask("RCTL", "UPE")),
        multicast_promiscuous=bool(rctl & mask("RCTL", "MPE")),
        accept_broadcast=bool(rctl & mask("RCTL", "BAM")),
        filter_vlans=bool(rctl & mask("RCTL", "VFE")),
        vlan_table=_words(registers, "VFTA"),
        vlans=vlans,
        default_pool=None
        if vt_ctl & mask("VT_CTL", "DIS_DEF_POOL")
        else field("VT_CTL", "DEF_PL").get(vt_ctl),
        replicate=bool(vt_ctl & mask("VT_CTL", "RPL_EN")),
        replicated_strip_vlan=bool(registers["RPLOLR"] & mask("RPLOLR", "STRVLAN")),
        loopback=bool(registers["DTXSWC"] & mask("DTXSWC", "LOOPBACK_EN")),
        mirrors=_mirrors(registers, vlans),
        rss=_rss(registers, mrqc),
        drop_queues=registers["QDE"],
        frame_max_bytes=registers["RLPML"] if rctl & mask("RCTL", "LPE") else FRAME_MAX_BYTES,
        pad_short=bool(tctl & mask("TCTL", "PSP")),
        vlan_ether_type=field("VET", "VET").get(registers["VET"]),
        rates_bits_per_second=rates,
    )


def _mode(mrqc: int) -> QueueMode:
    """Reserved values of MRQ_ENABLE do what none does."""
    known = {mode.value: mode for mode in QueueMode}
    return known.get(field("MRQC", "MRQ_ENABLE").get(mrqc), QueueMode.SINGLE)


def _pool(registers: RegisterFile, index: int) -> Pool:
    vmolr, vmvir, dtxswc = registers.get("VMOLR", index), registers.get("VMVIR", index), registers["DTXSWC"]

    def on(name: str) -> bool:
        return bool(vmolr & mask("VMOLR", name))

    def mine(name: str) -> bool:
        return bool(field("DTXSWC", name).get(dtxswc) >> index & 1)

    long = field("VMOLR", "RLPML").get(vmolr)
    return Pool(
        index=index,
        queues=(igb.vf_queue(index, 0), igb.vf_queue(index, 1)),
        receive=bool(registers["VFRE"] >> index & 1),
        transmit=bool(registers["VFTE"] >> index & 1),
        frame_max_bytes=long if on("LPE") else FRAME_MAX_BYTES,
        accept_untagged=on("AUPE"),
        accept_broadcast=on("BAM"),
        accept_multicast=on("MPE"),
        accept_multicast_hash=on("ROMPE"),
        accept_unicast_hash=on("ROPE"),
        strip_vlan=on("STRVLAN"),
        hide_vlan=bool(registers.get("DVMOLR", index) & mask("DVMOLR", "HIDEVLAN")),
        rss=on("RSSE"),
        check_source_mac=mine("MACAS"),
        check_source_vlan=mine("VLANAS"),
        local_loopback=mine("LLE"),
        insertion=_insertion(field("VMVIR", "VLANA").get(vmvir)),
        port_vlan=field("VMVIR", "PORT_VLAN").get(vmvir),
    )


def _insertion(vlana: int) -> VlanInsertion:
    """The reserved value does what 0 does."""
    known = {kind.value: kind for kind in VlanInsertion}
    return known.get(vlana, VlanInsertion.BY_DESCRIPTOR)


def _unicast(registers: RegisterFile) -> tuple[UnicastFilter, ...]:
    found = []
    for low_name, high_name, count in _ENTRY_PAIRS:
        for index in range(count):
            low, high = registers.get(low_name, index), registers.get(high_name, index)
            if high & mask("RAH", "AV"):
                mac = low.to_bytes(4, "little") + field("RAH", "RAH").get(high).to_bytes(2, "little")
                source = field("RAH", "ASEL").get(high) == 1
                found.append(UnicastFilter(mac, field("RAH", "POOLSEL").get(high), source))
    return tuple(found)


def _vlans(registers: RegisterFile) -> tuple[VlanFilter, ...]:
    found = []
    for entry in range(igb.VLVF_ENTRIES):
        value = registers.get("VLVF", entry)
        if value & mask("VLVF", "VI_EN"):
            vlan, pools = field("VLVF", "VLAN_ID").get(value), field("VLVF", "POOLSEL").get(value)
            found.append(VlanFilter(vlan, pools, bool(value & mask("VLVF", "LVLAN")), entry))
    return tuple(found)


def _mirrors(registers: RegisterFile, vlans: tuple[VlanFilter, ...]) -> tuple[Mirror, ...]:
    found = []
    for rule in range(igb.MIRRORS):
        control, entries = registers.get("VMRCTL", rule), registers.get("VMRVLAN", rule)
        if control & mask("VMRCTL", "VPME", "UPME", "DPME", "VLME"):
            pools = registers.get("VMRVM", rule) if control & mask("VMRCTL", "VPME") else 0
            by_vlan = bool(control & mask("VMRCTL", "VLME"))
            found.append(
                Mirror(
                    destination=field("VMRCTL", "MP").get(control),
                    pools=pools,
                    uplink=bool(control & mask("VMRCTL", "UPME")),
                    downlink=bool(control & mask("VMRCTL", "DPME")),
                    vlans=tuple(v.vlan for v in vlans if by_vlan and entries >> v.entry & 1),
                )
            )
    return tuple(found)


def _rss(registers: RegisterFile, mrqc: int) -> Rss:
    def on(name: str) -> bool:
        return bool(mrqc & mask("MRQC", name))

    return Rss(
        key=_words(registers, "RSSRK"),
        table=_words(registers, "RETA"),
        ipv4=on("IPV4"),
        tcp_ipv4=on("TCP_IPV4"),
        udp_ipv4=on("UDP_IPV4"),
        ipv6=on("IPV6"),
        tcp_ipv6=on("TCP_IPV6"),
        udp_ipv6=on("UDP_IPV6"),
    )


def _words(registers: RegisterFile, name: str) -> bytes:
    count = REGISTERS[name].count
    return b"".join(registers.get(name, index).to_bytes(4, "little") for index in range(count))
