"""Headers and tag of a generated frame against numbers typed a second time from IEEE 802.3 and the RFCs."""

import pytest

from testbed.spec import flow
from testbed.spec.layout import Record

# (offset, bytes) of IEEE 802.3 §3.1.1, RFC 791 §3.1, RFC 9293 §3.1, RFC 768; the tag is our own and must not
# change unseen.
RECORDS = [
    (flow.ETHERNET, 14, {"destination": (0, 6), "source": (6, 6), "type": (12, 2)}),
    (
        flow.IPV4,
        20,
        {
            "version_ihl": (0, 1), "tos": (1, 1), "total_length": (2, 2), "identification": (4, 2),
            "fragment": (6, 2), "ttl": (8, 1), "protocol": (9, 1), "checksum": (10, 2), "source": (12, 4),
            "destination": (16, 4),
        },
    ),
    (flow.UDP, 8, {"source_port": (0, 2), "destination_port": (2, 2), "length": (4, 2), "checksum": (6, 2)}),
    (
        flow.TCP,
        20,
        {
            "source_port": (0, 2), "destination_port": (2, 2), "sequence": (4, 4), "acknowledgment": (8, 4),
            "data_offset": (12, 1), "flags": (13, 1), "window": (14, 2), "checksum": (16, 2),
            "urgent": (18, 2),
        },
    ),
    (flow.TAG, 18, {"magic": (0, 2), "flow": (2, 4), "sequence": (6, 8), "digest": (14, 4)}),
]  # fmt: skip


@pytest.mark.parametrize(("record", "size", "members"), RECORDS, ids=[row[0].name for row in RECORDS])
def test_record_is_laid_out_as_the_standard_has_it(
    record: Record, size: int, members: dict[str, tuple[int, int]]
) -> None:
    assert record.size == size
    assert {f.name: (f.offset, f.size * f.count) for f in record.fields} == members


def test_ipv6_addresses_are_where_rfc_8200_has_them() -> None:
    places = {f.name: (f.offset, f.size * f.count) for f in flow.IPV6.fields}
    assert flow.IPV6.size == 40
    assert (places["next_header"], places["source"], places["destination"]) == ((6, 1), (8, 16), (24, 16))


def test_numbers_of_protocols_and_ports() -> None:
    assert (flow.ETHERTYPE_IPV4, flow.ETHERTYPE_IPV6) == (0x0800, 0x86DD)
    assert (flow.PROTOCOL_TCP, flow.PROTOCOL_UDP, flow.UDP_PORT_DISCARD) == (6, 17, 9)
    assert flow.IPV4_NO_OPTIONS == 4 << 4 | 20 // 4
    assert (flow.TCP_PSH, flow.TCP_ACK, flow.IP_BYTES_MAX) == (1 << 3, 1 << 4, 2**16 - 1)


def test_smallest_frame_is_ethernet_s_smallest_and_the_largest_a_jumbo_frame() -> None:
    """IEEE 802.3 §4.2.3.3: 64 bytes with FCS. 9014: an MTU of 9000 and the Ethernet header."""
    assert flow.TAG_OFFSET == 14 + 20 + 8
    assert flow.FRAME_BYTES_MIN == 64 - 4
    assert flow.FRAME_BYTES_MAX == 9000 + 14


def test_magics_are_different() -> None:
    assert len({flow.MAGIC_DATA, flow.MAGIC_REQUEST, flow.MAGIC_REPLY}) == 3
