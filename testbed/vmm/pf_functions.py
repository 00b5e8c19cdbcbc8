"""What the physical function's driver knows of each virtual function: the operator's wishes, its driver's.

Reference: the settings are those of `ip link set DEV vf N` (ip-link(8)).
"""

from dataclasses import dataclass, field
from typing import Final

from testbed.errors import ConfigError
from testbed.spec import igb

VLAN_MAX: Final = 4094
_MULTICAST: Final = 1


@dataclass(slots=True)
class VfSettings:
    """What the operator wants.

    mac: six bytes, zeros: the virtual function chooses. vlan: 0: none. rate_bits_per_second: 0: no limit.
    drop: a frame for which it has no descriptors is dropped, and holds no sender back.
    """

    mac: bytes = bytes(6)
    vlan: int = 0
    rate_bits_per_second: int = 0
    spoof_check: bool = True
    trust: bool = False
    drop: bool = False
    promiscuous: bool = False
    link: bool = True

    def check(self) -> None:
        """Refuse what a virtual function cannot have; ConfigError."""
        if len(self.mac) != 6 or self.mac[0] & _MULTICAST:
            raise ConfigError(
                f"a VF's MAC address is six bytes and no group address, not {self.mac.hex(':')}"
            )
        if not 0 <= self.vlan <= VLAN_MAX:
            raise ConfigError(f"a VF's VLAN is 1 to {VLAN_MAX}, or 0 for none, not {self.vlan}")
        if not 0 <= self.rate_bits_per_second <= igb.LINK_BITS_PER_SECOND:
            raise ConfigError(
                f"a VF's rate is at most {igb.LINK_BITS_PER_SECOND} bit/s, or 0 for no limit, "
                f"not {self.rate_bits_per_second}"
            )


@dataclass(slots=True)
class VfDriverState:
    """What the virtual function's driver asked for since its last reset."""

    clear_to_send: bool = False
    """It has been reset and may ask for more."""
    mac: bytes = bytes(6)
    vlans: set[int] = field(default_factory=set)
    hashes: tuple[int, ...] = ()
    all_multicast: bool = False
    frame_max_bytes: int = 0
    """Longest frame, header and FCS counted; 0: the usual 1518."""


@dataclass(slots=True)
class VfCounts:
    """What a virtual function did, for the operator."""

    messages: int = 0
    refused: int = 0
    """Messages answered with NACK."""
    throttled: int = 0
    """Times that its mailbox was not listened to for a while."""
    resets: int = 0
    spoof_events: int = 0


@dataclass(slots=True)
class Vf:
    """One virtual function."""

    number: int
    settings: VfSettings
    driver: VfDriverState = field(default_factory=VfDriverState)
    counts: VfCounts = field(default_factory=VfCounts)

    @property
    def mac(self) -> bytes:
        """The address that it has: the operator's, else its own driver's."""
        return self.settings.mac if any(self.settings.mac) else self.driver.mac

    @property
    def running(self) -> bool:
        """Its pool receives and sends."""
        return self.driver.clear_to_send and self.settings.link
