"""What the topology says about one virtio-net device, and what of it the driver reads.

Reference: virtio 1.2 §5.1.3 (feature bits), §5.1.4 (configuration space).
"""

from dataclasses import dataclass
from typing import Final

from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net

_SPEED_MBIT: Final = 10_000
_PAIR: Final = 2


@dataclass(frozen=True)
class NetConfig:
    """One device; `queue_pairs` above 1 brings a control queue."""

    name: str
    mac: bytes
    queue_size: int = 256
    queue_pairs: int = 1
    mtu: int = 1500
    indirect: bool = True
    event_idx: bool = True
    mrg_rxbuf: bool = True
    packed: bool = False
    in_order: bool = False

    @property
    def features(self) -> int:
        """Feature bits to offer."""
        bits = [spec.F_VERSION_1, net.F_MAC, net.F_STATUS, net.F_MTU, net.F_SPEED_DUPLEX]
        optional = (
            (self.indirect, spec.F_INDIRECT_DESC),
            (self.event_idx, spec.F_EVENT_IDX),
            (self.mrg_rxbuf, net.F_MRG_RXBUF),
            (self.packed, spec.F_RING_PACKED),
            (self.in_order, spec.F_IN_ORDER),
            (self.queue_pairs > 1, net.F_CTRL_VQ),
            (self.queue_pairs > 1, net.F_MQ),
        )
        return sum(1 << bit for bit in bits + [bit for wanted, bit in optional if wanted])

    @property
    def queues(self) -> int:
        """Virtqueues of the device (§5.1.2)."""
        return _PAIR * self.queue_pairs + (self.queue_pairs > 1)

    def control_queue(self, features: int) -> int | None:
        """Return the index of the control queue under the features that were accepted, None without one."""
        if not features >> net.F_CTRL_VQ & 1:
            return None
        return _PAIR * self.queue_pairs if features >> net.F_MQ & 1 else _PAIR

    def space(self, link_up: bool) -> bytes:
        """Return the bytes of virtio_net_config."""
        image = bytearray(
            net.NET_CONFIG.pack(
                status=net.STATUS_LINK_UP * link_up,
                max_virtqueue_pairs=self.queue_pairs,
                mtu=self.mtu,
                speed=_SPEED_MBIT,
                duplex=net.DUPLEX_FULL,
            )
        )
        image[: len(self.mac)] = self.mac
        return bytes(image)
