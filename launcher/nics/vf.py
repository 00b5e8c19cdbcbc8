"""`kind: vf`: a virtual function of a host's NIC, in the guest's own hands.

Reference: 82576 datasheet (320961) §7.10; testbed/nic. Which of the NIC's functions it is follows from the
order of the file. Not modelled: functions that move between guests.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from launcher.nics.kind import THROTTLE_MAX_NS, VCPUS_MAX, NicRecord, NicSection, Place, mtu_between
from launcher.rules import Boolean, FlowRate, Text, duration_between, whole
from launcher.section import default
from launcher.units import shown
from testbed.address import CACHE_LINE_BYTES, PAGE_SIZE_BYTES, align_up
from testbed.messages.entries import VfEntry, VfSettingsEntry
from testbed.spec.igb import RING_DESCRIPTORS_MULTIPLE
from testbed.spec.igb_pci import FIRST_VF_OFFSET, VF_STRIDE
from testbed.spec.igb_ring import DESC_BYTES, ETHERNET_HEADER_BYTES, FCS_BYTES, VLAN_TAG_BYTES
from testbed.spec.layout import RegisterMap

RING_SIZE_MAX: Final = 4096
"""Descriptors of one ring."""
MTU_MAX: Final = 9216
VLAN_MAX: Final = 4094
FRAME_MIN_BYTES: Final = 60
"""§7.2.1: shorter frames are padded."""
VECTORS: Final = 3
"""Of a virtual function (§7.3.3): sent, received, mailbox."""
_KIB: Final = 1024
VcpuNumber = Annotated[int, whole(0, VCPUS_MAX - 1)]


class VfSection(NicSection):
    """A virtual function of one of the host's NICs: neither its registers nor its frames pass the vmm."""

    kind: Literal["vf"]
    """Which kind of NIC this is."""
    nic: Text
    """The NIC of its host whose virtual function it is."""
    mtu: Annotated[int, mtu_between(MTU_MAX)] = 1500
    """Largest payload of a frame in bytes, Ethernet header apart."""
    ring_size: Annotated[int, whole(8, RING_SIZE_MAX)] = 1024
    """Descriptors in each ring, a multiple of 8."""
    vlan: Annotated[int, whole(0, VLAN_MAX)] = 0
    """Put all its frames into this VLAN, which the guest does not see; 0: none."""
    rate: FlowRate | None = None
    """Bits a second that it may send (100Mbit). Default: no limit."""
    spoof_check: Boolean = True
    """Drop what it sends with another's address or VLAN."""
    trust: Boolean = False
    """Let it change its address and hear every multicast frame."""
    drop: Boolean = False
    """Drop frames for which it has no descriptors at once, instead of holding their senders back a while."""
    promiscuous: Boolean = False
    """Give it a copy of every frame that the NIC's other functions get or send (unsafe: promiscuous)."""
    affinity: Annotated[list[VcpuNumber], Field(min_length=VECTORS, max_length=VECTORS)] = default([0, 0, 0])
    """The vCPU that takes each of its vectors: of sent frames, of received ones, of the mailbox."""
    throttle: Annotated[int, duration_between(0, THROTTLE_MAX_NS)] = default("0")
    """Least time between two interrupts of a vector (EITR)."""

    @property
    def hidden(self) -> str:
        """Nobody but the NIC and the guest sees its frames."""
        return "a vf's frames never pass the vmm, so nothing of it can see them; use virtio-net or e1000"

    @property
    def memory_bytes(self) -> int:
        """Two rings, a buffer for each descriptor."""
        frame = self.mtu + ETHERNET_HEADER_BYTES + VLAN_TAG_BYTES + FCS_BYTES
        slot = align_up(frame, _KIB) + CACHE_LINE_BYTES
        ring = align_up(self.ring_size * DESC_BYTES, PAGE_SIZE_BYTES)
        return 2 * (ring + align_up(self.ring_size * slot, PAGE_SIZE_BYTES))

    def mistakes(self) -> Iterator[tuple[str, str, str]]:
        """Yield what does not go together."""
        if self.ring_size % RING_DESCRIPTORS_MULTIPLE:
            yield "ring_size", "ring_size", f"must be a multiple of 8, not {shown(self.ring_size)}"
        if self.rate and not self.rate.bits_per_second:
            yield "rate", "rate", "must be in bits a second, e.g. 100Mbit: the NIC counts no frames"

    def resolve(self, mac: str) -> "Vf":
        """Return the NIC of the topology; which function it is comes later."""
        rate = self.rate.bits_per_second if self.rate else 0.0
        settings = VfSettings(self.vlan, int(rate), self.spoof_check, self.trust, self.drop, self.promiscuous)
        affinity = tuple(self.affinity)
        return Vf(
            mac=mac,
            mtu=self.mtu,
            nic=self.nic,
            ring_size=self.ring_size,
            settings=settings,
            affinity=affinity,
            throttle_ns=self.throttle,
        )


@dataclass(frozen=True)
class VfSettings:
    """What the physical function's driver is to hold a virtual function to."""

    vlan: int = 0
    rate_bits_per_second: int = 0
    spoof_check: bool = True
    trust: bool = False
    drop: bool = False
    promiscuous: bool = False


@dataclass(frozen=True, kw_only=True)
class Vf(NicRecord):
    """A virtual function in a guest."""

    nic: str
    ring_size: int
    settings: VfSettings
    affinity: tuple[int, ...] = (0,) * VECTORS
    throttle_ns: int = 0
    number: int = 0
    """Which of its NIC's."""
    physical_bdf: int = 0
    """Requester ID of its NIC's physical function."""
    ats: bool = False

    @property
    def padded_bytes(self) -> int:
        """The least Ethernet frame."""
        return FRAME_MIN_BYTES

    @property
    def registers(self) -> tuple[RegisterMap, ...]:
        """No access of its leaves the guest."""
        return ()

    @property
    def function(self) -> str:
        """`NIC.vfN`."""
        return f"{self.nic}.vf{self.number}"

    @property
    def window(self) -> str:
        """Segment of its register window."""
        return f"{self.function}.window"

    def entry(self, place: Place) -> VfEntry:
        """Return what guest and vmm are told of it."""
        return VfEntry(
            name=place.name,
            mac=self.mac,
            mtu=self.mtu,
            function=self.function,
            number=self.number,
            nic=self.nic,
            stream=vf_stream(self.physical_bdf, self.number),
            window=self.window,
            window_gpa=place.bar_gpa,
            msi_gpa=place.msi_gpa,
            intids=tuple(place.vector_intid(vector) for vector in range(VECTORS)),
            affinity=self.affinity,
            throttle_ns=self.throttle_ns,
            ring_size=self.ring_size,
            ats=self.ats,
            guest_stream=place.guest_stream,
        )

    def settings_entry(self) -> VfSettingsEntry:
        """Return what the physical function's driver is told of it."""
        settings = self.settings
        return VfSettingsEntry(
            mac=self.mac,
            vlan=settings.vlan,
            rate_bits_per_second=settings.rate_bits_per_second,
            spoof_check=settings.spoof_check,
            trust=settings.trust,
            drop=settings.drop,
            promiscuous=settings.promiscuous,
        )


def vf_stream(physical_bdf: int, number: int) -> int:
    """Return the requester ID of a virtual function (SR-IOV §3.3.9, §3.3.10)."""
    return physical_bdf + FIRST_VF_OFFSET + number * VF_STRIDE
