"""The embedded switch in plain Python, slow and close to the datasheet's text: what the native decision is
held against.

Reference: 82576 datasheet §7.1.1 (MAC filters), §7.10.3.3 (pools of a frame), §7.10.3.4 (what leaves by the
wire), §7.10.3.8 (mirror rules), §7.10.3.9 (anti-spoofing).
"""

from dataclasses import dataclass

from testbed.nic.switch_state import Pool, SwitchState

BROADCAST = b"\xff" * 6
POOLS = range(8)


@dataclass(frozen=True)
class Header:
    """What the switch looks at. vlan: None where the frame has no tag."""

    destination: bytes
    source: bytes
    vlan: int | None = None

    @property
    def multicast(self) -> bool:
        return bool(self.destination[0] & 1)


def _in_table(table: bytes, state: SwitchState, mac: bytes) -> bool:
    bit = int.from_bytes(mac, "little") >> state.hash_shift & 0xFFF
    return bool(table[bit // 8] >> bit % 8 & 1)


def _exact(state: SwitchState, header: Header) -> list[int]:
    """Return the pool masks of the address filters that match."""
    return [f.pools for f in state.unicast if f.mac == (header.source if f.source else header.destination)]


def _passes_mac(state: SwitchState, header: Header) -> bool:
    vlan = header.vlan
    if state.filter_vlans and vlan is not None and not state.vlan_table[vlan // 8] >> vlan % 8 & 1:
        return False
    if _exact(state, header):
        return True
    if header.destination == BROADCAST:
        return state.accept_broadcast or state.multicast_promiscuous
    if header.multicast:
        return state.multicast_promiscuous or _in_table(state.multicast_table, state, header.destination)
    return state.unicast_promiscuous or _in_table(state.unicast_table, state, header.destination)


def _wants_address(state: SwitchState, pool: Pool, header: Header) -> bool:
    exact = any(mask >> pool.index & 1 for mask in _exact(state, header))
    if header.destination == BROADCAST:
        return exact or pool.accept_broadcast
    if header.multicast:
        hashed = _in_table(state.multicast_table, state, header.destination)
        return exact or pool.accept_multicast or (pool.accept_multicast_hash and hashed)
    anyone = any(_exact(state, header))
    hashed = _in_table(state.unicast_table, state, header.destination)
    return exact or (not anyone and pool.accept_unicast_hash and hashed)


def _wants_vlan(state: SwitchState, pool: Pool, header: Header) -> bool:
    if not state.filter_vlans:
        return True
    if header.vlan is None:
        return pool.accept_untagged
    return any(v.vlan == header.vlan and v.pools >> pool.index & 1 for v in state.vlans)


def _mirrors(state: SwitchState, header: Header, pools: set[int], source: int | None, wire: bool) -> set[int]:
    copies = set()
    known = header.vlan in [v.vlan for v in state.vlans]  # VMRVLAN names entries of VLVF
    for rule in state.mirrors:
        if (
            any(rule.pools >> pool & 1 for pool in pools)
            or (rule.uplink and source is None)
            or (rule.downlink and wire)
            or (known and header.vlan in rule.vlans)
        ):
            copies.add(rule.destination)
    return copies


def decide(state: SwitchState, header: Header, source: int | None) -> tuple[set[int], bool]:
    """Return the pools that get a frame and whether the wire does; `source` None: it came from the wire."""
    if source is None and not _passes_mac(state, header):
        return set(), False
    if not state.pooled:
        return ({0}, False) if source is None else (set(), True)
    pools = {
        p.index for p in state.pools if _wants_address(state, p, header) and _wants_vlan(state, p, header)
    }
    wire = False
    if source is None:
        if not pools and state.default_pool is not None and not header.multicast:
            pools = {state.default_pool}
    elif not state.loopback:
        pools, wire = set(), True
    else:
        if not state.pools[source].local_loopback:
            pools.discard(source)
        inside = not header.multicast and any(m >> p & 1 for m in _exact(state, header) for p in pools)
        local = any(v.vlan == header.vlan and v.local for v in state.vlans)
        wire = not inside and not local
    if not state.replicate:
        pools = {min(pools)} if pools else pools
    copies = _mirrors(state, header, pools, source, wire) - {source}
    return {p for p in pools | copies if state.pools[p].receive}, wire


def permits(state: SwitchState, header: Header, pool: int) -> bool:
    """Say whether a pool may send a frame with this header."""
    own = any(f.mac == header.source and not f.source and f.pools >> pool & 1 for f in state.unicast)
    member = header.vlan is None or any(v.vlan == header.vlan and v.pools >> pool & 1 for v in state.vlans)
    policy = state.pools[pool]
    return (own or not policy.check_source_mac) and (member or not policy.check_source_vlan)
