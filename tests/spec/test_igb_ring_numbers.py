"""The 82576's descriptors, typed again from the datasheet's tables (§7.1.4, §7.1.5, §7.2.2)."""

from testbed.spec import igb_ring as ring
from testbed.spec.wire import WIRE, WIRE_FRAME


def test_receive_write_back_words() -> None:
    image = ring.RX_WRITE_BACK.pack(packet_info=0x1111, header_info=0x2222, rss=0x33333333, status=0x44444444,
                                    length=0x5555, vlan=0x6666)  # fmt: skip
    assert image.hex() == "11112222333333334444444455556666"
    assert ring.RX_READ.pack(packet=0x0102030405060708, header=1).hex() == "08070605040302010100000000000000"


def test_receive_status_and_types() -> None:
    assert (ring.RX_STATUS_DD, ring.RX_STATUS_EOP, ring.RX_STATUS_VP) == (0x1, 0x2, 0x8)
    assert (ring.RX_STATUS_UDPCS, ring.RX_STATUS_L4CS, ring.RX_STATUS_IPCS, ring.RX_STATUS_PIF) == (
        0x10, 0x20, 0x40, 0x80,
    )  # fmt: skip
    assert (ring.RX_STATUS_LB, ring.RX_ERROR_L4E, ring.RX_ERROR_IPE) == (0x40000, 0x20000000, 0x40000000)
    assert [ring.RSS_TCP_IPV4, ring.RSS_IPV4, ring.RSS_TCP_IPV6, ring.RSS_IPV6_EX, ring.RSS_IPV6] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert [ring.RSS_TCP_IPV6_EX, ring.RSS_UDP_IPV4, ring.RSS_UDP_IPV6, ring.RSS_UDP_IPV6_EX] == [6, 7, 8, 9]
    assert (ring.RX_TYPE_IPV4, ring.RX_TYPE_IPV6, ring.RX_TYPE_TCP, ring.RX_TYPE_UDP) == (16, 64, 256, 512)


def test_transmit_data_descriptor_bits() -> None:
    assert (ring.TX_EOP, ring.TX_IFCS, ring.TX_RS) == (0x01000000, 0x02000000, 0x08000000)
    assert (ring.TX_DEXT, ring.TX_VLE, ring.TX_TSE) == (0x20000000, 0x40000000, 0x80000000)
    assert ring.TX_DTYP.put(ring.DTYP_DATA) == 0x00300000
    assert ring.TX_DTYP.put(ring.DTYP_CONTEXT) == 0x00200000
    assert (ring.TX_IXSM, ring.TX_TXSM, ring.TX_DD) == (0x100, 0x200, 1)
    assert (ring.TX_PAYLEN.mask, ring.TX_IDX.mask) == (0xFFFFC000, 0x70)
    assert (ring.TX_DATA.offset("cmd_type_len"), ring.TX_DATA.offset("olinfo_status")) == (8, 12)


def test_transmit_context_descriptor_bits() -> None:
    assert (ring.TX_IPLEN.mask, ring.TX_MACLEN.mask, ring.TX_VLAN.mask) == (0x1FF, 0xFE00, 0xFFFF0000)
    assert (ring.TX_L4LEN.mask, ring.TX_MSS.mask) == (0xFF00, 0xFFFF0000)
    assert (ring.TUCMD_IPV4, ring.TX_L4T.put(ring.L4T_TCP), ring.TX_L4T.put(ring.L4T_UDP)) == (
        0x400,
        0x800,
        0,
    )


def test_legacy_descriptors() -> None:
    offsets = [(f.name, f.offset, f.size) for f in ring.TX_LEGACY.fields]
    assert offsets == [
        ("address", 0, 8), ("length", 8, 2), ("cso", 10, 1), ("cmd", 11, 1), ("status", 12, 1),
        ("css", 13, 1), ("vlan", 14, 2),
    ]  # fmt: skip
    assert [f.offset for f in ring.RX_LEGACY.fields] == [0, 8, 10, 12, 13, 14]


def test_wire_records() -> None:
    assert (WIRE.size, WIRE_FRAME.size) == (4096, 16)
    ours = {WIRE.offset(name) // 64 for name in ("produced", "link", "sender_waits")}
    assert WIRE.offset("consumed") // 64 not in ours
