"""`kind: virtio-net`: a paravirtual NIC; its back end is in the vmm or in another process.

Reference: virtio 1.2 §5.1; testbed/virtio. Two transports: virtio-mmio towards the vmm, vhost-user
towards a back end in another process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from launcher.nics.kind import BridgedSection, NicRecord, Place, mtu_between
from launcher.rules import Boolean, Text, choice, power_of_two, whole
from testbed.address import CACHE_LINE_BYTES, PAGE_SIZE_BYTES, align_up
from testbed.messages.entries import VirtioNetEntry
from testbed.spec.flow import ETHERNET
from testbed.spec.layout import RegisterMap
from testbed.spec.virtio import MMIO, VIRTQ_DESC, split_bytes
from testbed.spec.virtio_net import NET_HDR

RINGS_AVAILABLE: Final = ("split", "packed")
"""Virtqueue formats that exist."""
MTU_MAX: Final = 65535
QUEUE_SIZE_MIN: Final = 2
QUEUE_SIZE_MAX: Final = 32768
"""virtio 1.2 §2.7."""


class VirtioNetSection(BridgedSection):
    """A virtio-net device."""

    kind: Literal["virtio-net"]
    """Which kind of NIC this is."""
    ring: Annotated[Literal["split", "packed"], choice(*RINGS_AVAILABLE)] = "split"
    """Format of its virtqueues."""
    queue_size: Annotated[int, power_of_two(QUEUE_SIZE_MIN, QUEUE_SIZE_MAX)] = 1024
    """Descriptors in each virtqueue."""
    queue_pairs: Annotated[int, whole(1, 16)] = 1
    """Pairs of receive and transmit queues (MQ); flows are spread over them."""
    mtu: Annotated[int, mtu_between(MTU_MAX)] = 1500
    """Largest payload of a frame in bytes, Ethernet header apart."""
    indirect: Boolean = True
    """Offer INDIRECT_DESC."""
    event_idx: Boolean = True
    """Offer EVENT_IDX."""
    mrg_rxbuf: Boolean = True
    """Offer MRG_RXBUF."""
    in_order: Boolean = False
    """Offer IN_ORDER: buffers come back in the order in which they were made available."""
    segments: Annotated[int, whole(1, 4)] = 1
    """Descriptors in which the driver lays out a frame to send."""
    vhost_user: Text | None = Field(alias="vhost-user", default=None)
    """Socket of a back end in another process (DPDK, another virtbed), relative to the topology file."""

    @property
    def hidden(self) -> str:
        """Where another process has the back end the vmm sees nothing."""
        if self.vhost_user is not None:
            return "needs the bridge behind the NIC: its back end is another process (vhost-user)"
        return super().hidden

    @property
    def memory_bytes(self) -> int:
        """A buffer for each descriptor, and the rings."""
        frame_bytes = NET_HDR.size + ETHERNET.size + self.mtu
        # A driver may leave a cache line between buffers, to spread them over all sets of a cache.
        slot_bytes = align_up(frame_bytes, CACHE_LINE_BYTES) + CACHE_LINE_BYTES
        table_bytes = self.segments * VIRTQ_DESC.size if self.indirect and self.segments > 1 else 0
        parts = (split_bytes(self.queue_size), self.queue_size * slot_bytes, self.queue_size * table_bytes)
        pair_bytes = 2 * sum(align_up(part, PAGE_SIZE_BYTES) for part in parts)
        return self.queue_pairs * pair_bytes + (PAGE_SIZE_BYTES if self.queue_pairs > 1 else 0)

    def mistakes(self) -> Iterator[tuple[str, str, str]]:
        """Yield what does not go together."""
        if self.segments > self.queue_size:
            text = f"must not be more than the queue_size {self.queue_size}, not {self.segments}"
            yield "segments", "queue_size", text
        if self.vhost_user is not None and self.backend != "bridge":
            yield "backend", "vhost-user", "is the vmm's: leave it out where `vhost-user` names another"

    def resolve(self, mac: str) -> "VirtioNet":
        """Return the NIC of the topology."""
        return VirtioNet(
            mac=mac,
            mtu=self.mtu,
            backend=self.backend if self.vhost_user is None else "peer",
            vhost_user=self.vhost_user or "",
            ring=self.ring,
            queue_size=self.queue_size,
            queue_pairs=self.queue_pairs,
            indirect=self.indirect,
            event_idx=self.event_idx,
            mrg_rxbuf=self.mrg_rxbuf,
            in_order=self.in_order,
            segments=self.segments,
        )


@dataclass(frozen=True, kw_only=True)
class VirtioNet(NicRecord):
    """A virtio-net NIC of a guest."""

    ring: Literal["split", "packed"]
    queue_size: int
    queue_pairs: int
    indirect: bool
    event_idx: bool
    mrg_rxbuf: bool
    in_order: bool
    segments: int
    vhost_user: str = ""

    @property
    def registers(self) -> tuple[RegisterMap, ...]:
        """The virtio-mmio registers."""
        return () if self.vhost_user else (MMIO,)

    def entry(self, place: Place) -> VirtioNetEntry:
        """Return what guest and vmm are told of it."""
        return VirtioNetEntry(
            name=place.name,
            mac=self.mac,
            mmio_gpa=place.mmio_gpa,
            intid=place.intid,
            ring=self.ring,
            backend=self.backend,
            vhost_user=self.vhost_user,
            queue_size=self.queue_size,
            queue_pairs=self.queue_pairs,
            mtu=self.mtu,
            indirect=self.indirect,
            event_idx=self.event_idx,
            mrg_rxbuf=self.mrg_rxbuf,
            in_order=self.in_order,
            segments=self.segments,
            interpose=self.interpose,
        )
