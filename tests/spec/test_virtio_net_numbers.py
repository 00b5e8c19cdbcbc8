"""The network device's declarations against numbers typed a second time from virtio 1.2 §5.1."""

import pytest

from testbed.spec import virtio_net as net
from testbed.spec.layout import Record

# Members of the C structs, name:offset:bytes, an array as name:offset:bytes*count.
RECORDS = [
    # §5.1.6
    (
        net.NET_HDR, 12,
        "flags:0:1 gso_type:1:1 hdr_len:2:2 gso_size:4:2 csum_start:6:2 csum_offset:8:2 num_buffers:10:2",
    ),
    # §5.1.4, up to duplex
    (net.NET_CONFIG, 17, "mac:0:1*6 status:6:2 max_virtqueue_pairs:8:2 mtu:10:2 speed:12:4 duplex:16:1"),
    # §5.1.6.5, §5.1.6.5.5
    (net.CTRL, 2, "class:0:1 command:1:1"),
    (net.CTRL_MQ, 2, "virtqueue_pairs:0:2"),
]  # fmt: skip

CONSTANTS = {
    # §5.1.3
    "F_CSUM": 0, "F_GUEST_CSUM": 1, "F_MTU": 3, "F_MAC": 5, "F_GUEST_TSO4": 7, "F_GUEST_TSO6": 8,
    "F_GUEST_ECN": 9, "F_GUEST_UFO": 10, "F_HOST_TSO4": 11, "F_HOST_TSO6": 12, "F_HOST_ECN": 13,
    "F_HOST_UFO": 14, "F_MRG_RXBUF": 15, "F_STATUS": 16, "F_CTRL_VQ": 17, "F_CTRL_RX": 18, "F_CTRL_VLAN": 19,
    "F_GUEST_ANNOUNCE": 21, "F_MQ": 22, "F_CTRL_MAC_ADDR": 23, "F_SPEED_DUPLEX": 63,
    # §5.1.4
    "STATUS_LINK_UP": 1, "STATUS_ANNOUNCE": 2, "SPEED_UNKNOWN": 0xFFFFFFFF, "DUPLEX_FULL": 1, "MTU_MIN": 68,
    "MTU_MAX": 65535,
    # §5.1.6
    "HDR_F_NEEDS_CSUM": 1, "HDR_F_DATA_VALID": 2, "GSO_NONE": 0, "GSO_TCPV4": 1, "GSO_UDP": 3, "GSO_TCPV6": 4,
    "GSO_ECN": 0x80,
    # §5.1.6.3.1: buffers of 65562 bytes, 12 of them header
    "FRAME_BYTES_MAX": 65562 - 12,
    # §5.1.6.5, §5.1.6.5.5
    "CTRL_OK": 0, "CTRL_ERR": 1, "CTRL_CLASS_MQ": 4, "CTRL_MQ_VQ_PAIRS_SET": 0, "QUEUE_PAIRS_MAX": 0x8000,
}  # fmt: skip


@pytest.mark.parametrize(("record", "size", "members"), RECORDS, ids=[row[0].name for row in RECORDS])
def test_record_is_laid_out_as_the_standard_has_it(record: Record, size: int, members: str) -> None:
    declared = " ".join(
        f"{f.name}:{f.offset}:{f.size}" + (f"*{f.count}" if f.count > 1 else "") for f in record.fields
    )
    assert (record.size, declared) == (size, members)


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items(), ids=CONSTANTS)
def test_constant_is_the_standard_s(name: str, value: int) -> None:
    assert getattr(net, name) == value


def test_every_feature_bit_was_typed_twice() -> None:
    assert {name for name in vars(net) if name.startswith("F_")} == {
        n for n in CONSTANTS if n.startswith("F_")
    }
