"""What every kind of NIC has in common, in the topology file and in a topology.

Guest physical addresses, ports and interrupts of the kinds are all in this file, so that none overlaps
another: virtio-mmio windows as QEMU's `virt` machine has them, BARs of PCI functions from where its PCI
window begins, I/O ports from where PC firmware puts them.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from launcher.interposer_schema import INTERPOSERS_MAX, Interposer
from launcher.rules import Mac, choice, whole
from launcher.section import Section, default
from testbed.address import GUEST_ITS_GPA
from testbed.messages.entries import InterposeEntry, NicEntry
from testbed.spec.flow import ETHERNET
from testbed.spec.gic_registers import FRAME_BYTES
from testbed.spec.layout import RegisterMap
from testbed.spec.lpi import LPI_FIRST

MTU_MIN: Final = 68
"""RFC 791: what every IPv4 link carries."""
Backend = Literal["bridge", "sink", "echo"]
AnyBackend = Literal["bridge", "sink", "echo", "peer"]
"""peer: another process has the back end."""

VIRTIO_MMIO_GPA: Final = 0x0A00_0000
VIRTIO_MMIO_WINDOW_BYTES: Final = 0x200
BAR_GPA: Final = 0x1000_0000
BAR_STRIDE_BYTES: Final = 0x10_0000
IO_PORT: Final = 0xC000
IO_PORT_STRIDE: Final = 0x40
NIC_INTID: Final = 48
"""First of the guest's shared peripheral interrupts for NICs (INTID 32 is the first of all)."""
VECTOR_INTID: Final = 128
"""First of those for message vectors, where they are not LPIs."""
VECTORS_STRIDE: Final = 4
THROTTLE_MAX_NS: Final = 4_000_000
"""Between two interrupts: what both EITR and ITR can say."""
VCPUS_MAX: Final = 8
"""Of a guest."""
SMMU_GPA: Final = 0x0905_0000
"""A guest's SMMU, where QEMU's `virt` machine has it."""
SMMU_EVENT_INTID: Final = 106
SMMU_ERROR_INTID: Final = 109
MSI_GPA: Final = GUEST_ITS_GPA + FRAME_BYTES
"""The translation frame of the ITS, which is where QEMU's `virt` machine has it."""
_DEVICE_SHIFT: Final = 3


@dataclass(frozen=True)
class Place:
    """Where a NIC is: its guest and its number there, which fix its addresses."""

    guest: str
    index: int
    direct: bool = False
    """Its vectors are LPIs of the guest's, which an ITS can inject."""

    @property
    def name(self) -> str:
        """`GUEST.nicN`."""
        return f"{self.guest}.nic{self.index}"

    @property
    def mmio_gpa(self) -> int:
        """Its virtio-mmio window."""
        return VIRTIO_MMIO_GPA + self.index * VIRTIO_MMIO_WINDOW_BYTES

    @property
    def bar_gpa(self) -> int:
        """Its memory BARs."""
        return BAR_GPA + self.index * BAR_STRIDE_BYTES

    @property
    def io_port(self) -> int:
        """Its I/O BAR."""
        return IO_PORT + self.index * IO_PORT_STRIDE

    @property
    def intid(self) -> int:
        """Its interrupt line."""
        return NIC_INTID + self.index

    @property
    def msi_gpa(self) -> int:
        """The page to which it writes its messages, the same for all NICs of a guest."""
        return MSI_GPA

    @property
    def guest_stream(self) -> int:
        """Its requester ID in its guest: device N + 1 of bus 0."""
        return (self.index + 1) << _DEVICE_SHIFT

    def vector_intid(self, vector: int) -> int:
        """Return the interrupt of one of its message vectors."""
        first = LPI_FIRST if self.direct else VECTOR_INTID
        return first + self.index * VECTORS_STRIDE + vector


class NicSection(Section):
    """What every NIC has; `kind` tells them apart."""

    mac: Mac | None = None
    """Its address. Default: a locally administered one, the same for the same file."""
    interpose: Annotated[list[Interposer], Field(max_length=INTERPOSERS_MAX)] = default([])
    """What looks at its frames on their way through the vmm, in order."""

    @property
    @abstractmethod
    def hidden(self) -> str:
        """Why nothing can look at its frames, as the rule of `interpose`; empty where something can."""

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """The guest's RAM that a driver needs at most for its rings and buffers."""

    @abstractmethod
    def resolve(self, mac: str) -> "NicRecord":
        """Return the NIC of the topology; its interposers are resolved later."""

    def mistakes(self) -> Iterator[tuple[str, str, str]]:
        """Yield (key, other key that it depends on, rule) for values that do not go together."""
        return iter(())


class BridgedSection(NicSection):
    """A NIC that the vmm serves."""

    backend: Annotated[Backend, choice("bridge", "sink", "echo")] = "bridge"
    """What is behind it in the vmm: the bridge, a sink that takes all, or an echo that returns all."""

    @property
    def hidden(self) -> str:
        """Only what goes through the bridge can be looked at."""
        if self.backend == "bridge":
            return ""
        article = "an" if self.backend == "echo" else "a"
        return (
            f"needs the bridge behind the NIC: {article} {self.backend} has its own way in the vmm; "
            "leave backend out"
        )


@dataclass(frozen=True, kw_only=True)
class NicRecord:
    """A NIC of a guest, resolved."""

    mac: str
    mtu: int
    backend: AnyBackend = "bridge"
    interpose: tuple[InterposeEntry, ...] = ()

    @property
    def padded_bytes(self) -> int:
        """What it pads shorter frames to; 0 where it does not."""
        return 0

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame it carries, without FCS."""
        return self.mtu + ETHERNET.size

    @property
    @abstractmethod
    def registers(self) -> tuple[RegisterMap, ...]:
        """The register blocks through which a guest leaves for the vmm."""

    @abstractmethod
    def entry(self, place: Place) -> NicEntry:
        """Return what guest and vmm are told of it."""


def mtu_between(maximum: int) -> object:
    """Return the rule of an MTU."""
    return whole(MTU_MIN, maximum)
