"""What a plan says of an attack: a guest whose driver of a virtual function is hostile for a while.

Reference: plain data, as `testbed.messages.entries` has it.
"""

from typing import Literal

import msgspec

AttackName = Literal[
    "dma-other-guest",
    "dma-vmm",
    "dma-unmapped",
    "dma-read-only",
    "dma-msi-window",
    "stale-translation",
    "spoof-mac",
    "spoof-vlan",
    "flood-mailbox",
    "flood-doorbell",
    "flood-interrupt",
    "malformed-descriptors",
    "ring-loop",
]
"""What a hostile driver of a virtual function does."""

Behaviour = Literal["quiet", "harmless", "hostile"]
"""Of an attacker in one turn: it sleeps, does what others do as well, or attacks."""


class AttackEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attack: a guest whose driver of a virtual function is hostile for a while."""

    id: int
    """Unique among the attacks of the topology, from 1."""
    name: str
    phase: int
    """In which phase of the workloads, from 1."""
    attack: AttackName
    source: str
    """The guest."""
    source_nic: int
    function: str
    """`NIC.vfN`."""
    nic: str
    """The NIC's process."""
    pool: int
    """Of the function, as the NIC counts it."""
    iommu: str
    vmm: str
    guard: str = ""
    """Process that watches the memory which is attacked; empty: nobody has to."""
    guard_hpa: int = 0
    """What makes a host physical address of one that the guard tells."""
    victim: str = ""
    """Guest that is attacked, where it is one."""
    victim_mac: str = ""
    vlan: int = 0
    """The other's VLAN that is sent into."""
    duration_ns: int
    others_keep: float = 0.0
    """Least share of their throughput that the other flows of the phase must keep."""
