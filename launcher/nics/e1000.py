"""`kind: e1000`: an 82540EM that the vmm emulates.

Reference: 8254x SDM; testbed/e1000. Not modelled: other members of the family.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from launcher.nics.kind import THROTTLE_MAX_NS, BridgedSection, NicRecord, Place, mtu_between
from launcher.rules import choice, duration_between, whole
from launcher.section import default
from launcher.units import shown
from testbed.address import CACHE_LINE_BYTES, PAGE_SIZE_BYTES, align_up
from testbed.messages.entries import E1000Entry
from testbed.spec.e1000 import IO_REGISTERS, REGISTERS
from testbed.spec.e1000_ring import (
    DESC_BYTES,
    ETHERNET_HEADER_BYTES,
    FRAME_MIN_BYTES,
    RINGLEN_MIN_DESC,
    TRANSMIT_MAX_BYTES,
    VLAN_TAG_BYTES,
)
from testbed.spec.layout import RegisterMap

RING_SIZE_MAX: Final = 4096
"""Descriptors of one ring."""
MTU_MAX: Final = TRANSMIT_MAX_BYTES - ETHERNET_HEADER_BYTES - VLAN_TAG_BYTES
BUFFER_BYTES: Final = (2048, 4096, 8192, 16384)
"""What a receive buffer may have (§13.4.22), small ones apart."""


class E1000Section(BridgedSection):
    """An Intel 82540EM, emulated: every register access is an exit."""

    kind: Literal["e1000"]
    """Which kind of NIC this is."""
    mtu: Annotated[int, mtu_between(MTU_MAX)] = 1500
    """Largest payload of a frame in bytes, Ethernet header apart."""
    ring_size: Annotated[int, whole(RINGLEN_MIN_DESC, RING_SIZE_MAX)] = 256
    """Descriptors in each ring, a multiple of 8."""
    frames_per_kick: Annotated[int, whole(1, RING_SIZE_MAX)] = 256
    """Frames that its driver sends before it writes TDT, at most."""
    throttle: Annotated[int, duration_between(0, THROTTLE_MAX_NS)] = default("0")
    """Least time between two of its interrupts (ITR)."""
    reset: Annotated[Literal["io", "memory"], choice("io", "memory")] = "io"
    """Through which BAR its driver resets it: the I/O BAR, as Linux does, or the memory BAR."""

    @property
    def memory_bytes(self) -> int:
        """Two rings, a buffer for each descriptor."""
        least = self.mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES
        size = next(size for size in BUFFER_BYTES if least <= size)
        slots_bytes = align_up(self.ring_size * (size + CACHE_LINE_BYTES), PAGE_SIZE_BYTES)
        return 2 * (align_up(self.ring_size * DESC_BYTES, PAGE_SIZE_BYTES) + slots_bytes)

    def mistakes(self) -> Iterator[tuple[str, str, str]]:
        """Yield what does not go together."""
        if self.ring_size % RINGLEN_MIN_DESC:
            yield "ring_size", "ring_size", f"must be a multiple of 8, not {shown(self.ring_size)}"

    def resolve(self, mac: str) -> "E1000":
        """Return the NIC of the topology."""
        return E1000(
            mac=mac,
            mtu=self.mtu,
            backend=self.backend,
            ring_size=self.ring_size,
            frames_per_kick=self.frames_per_kick,
            throttle_ns=self.throttle,
            reset=self.reset,
        )


@dataclass(frozen=True, kw_only=True)
class E1000(NicRecord):
    """An emulated 82540EM of a guest."""

    ring_size: int
    frames_per_kick: int
    throttle_ns: int = 0
    reset: Literal["io", "memory"]

    @property
    def padded_bytes(self) -> int:
        """The least Ethernet frame (§13.4.33 PSP)."""
        return FRAME_MIN_BYTES

    @property
    def registers(self) -> tuple[RegisterMap, ...]:
        """The memory BAR's registers and the I/O BAR's."""
        return (REGISTERS, IO_REGISTERS)

    def entry(self, place: Place) -> E1000Entry:
        """Return what guest and vmm are told of it."""
        return E1000Entry(
            name=place.name,
            mac=self.mac,
            bar_gpa=place.bar_gpa,
            io_port=place.io_port,
            intid=place.intid,
            backend=self.backend,
            mtu=self.mtu,
            ring_size=self.ring_size,
            frames_per_kick=self.frames_per_kick,
            throttle_ns=self.throttle_ns,
            reset=self.reset,
            interpose=self.interpose,
        )
