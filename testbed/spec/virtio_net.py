"""The virtio network device: feature bits, configuration space, frame header, control queue.

Reference: Virtual I/O Device (VIRTIO) Version 1.2 §5.1. Not declared: the commands of the control queue.
"""

from typing import Final

from testbed.spec.layout import Field, Record

NET_HDR: Final = Record(
    "virtio_net_hdr", 12, "virtio 1.2 §5.1.6",
    Field("flags", 0, 1), Field("gso_type", 1, 1), Field("hdr_len", 2, 2), Field("gso_size", 4, 2),
    Field("csum_start", 6, 2), Field("csum_offset", 8, 2),
    Field("num_buffers", 10, 2, "always present with VERSION_1"),
)  # fmt: skip
NET_CONFIG: Final = Record(
    "virtio_net_config", 17, "virtio 1.2 §5.1.4",
    Field("mac", 0, 1, count=6), Field("status", 6, 2), Field("max_virtqueue_pairs", 8, 2),
    Field("mtu", 10, 2),
    Field("speed", 12, 4, "Mbit/s, 0xffffffff: not known"), Field("duplex", 16, 1),
)  # fmt: skip

CTRL: Final = Record(
    "virtio_net_ctrl", 2, "virtio 1.2 §5.1.6.5", Field("class", 0, 1), Field("command", 1, 1)
)
CTRL_MQ: Final = Record("virtio_net_ctrl_mq", 2, "virtio 1.2 §5.1.6.5.5", Field("virtqueue_pairs", 0, 2))
CTRL_OK: Final = 0
CTRL_ERR: Final = 1
CTRL_CLASS_MQ: Final = 4
CTRL_MQ_VQ_PAIRS_SET: Final = 0
QUEUE_PAIRS_MAX: Final = 0x8000
"""§5.1.6.5.5: VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX."""

HDR_F_NEEDS_CSUM: Final = 1
HDR_F_DATA_VALID: Final = 2
GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_UDP: Final = 3
GSO_TCPV6: Final = 4
GSO_ECN: Final = 0x80

F_CSUM: Final = 0
F_GUEST_CSUM: Final = 1
F_MTU: Final = 3
F_MAC: Final = 5
F_GUEST_TSO4: Final = 7
F_GUEST_TSO6: Final = 8
F_GUEST_ECN: Final = 9
F_GUEST_UFO: Final = 10
F_HOST_TSO4: Final = 11
F_HOST_TSO6: Final = 12
F_HOST_ECN: Final = 13
F_HOST_UFO: Final = 14
F_MRG_RXBUF: Final = 15
F_STATUS: Final = 16
F_CTRL_VQ: Final = 17
F_CTRL_RX: Final = 18
F_CTRL_VLAN: Final = 19
F_GUEST_ANNOUNCE: Final = 21
F_MQ: Final = 22
F_CTRL_MAC_ADDR: Final = 23
F_SPEED_DUPLEX: Final = 63

STATUS_LINK_UP: Final = 1
STATUS_ANNOUNCE: Final = 2
SPEED_UNKNOWN: Final = 0xFFFF_FFFF
DUPLEX_FULL: Final = 1
MTU_MIN: Final = 68
"""§5.1.4.1: the device must not offer an mtu below 68."""
MTU_MAX: Final = 65535
FRAME_BYTES_MAX: Final = 65550
"""§5.1.6.3.1: 14 bytes of Ethernet header and 65536 of payload, the largest with segmentation offload."""
