"""Checksum insertion and TCP segmentation, against packets built without a device."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.native import Burst
from testbed.spec import e1000_ring as ring
from testbed.spec.e1000 import mask
from tests.support.e1000_machine import (
    EOP,
    IFCS,
    MAC,
    PEER,
    RS,
    SLOT_BYTES,
    TX_BUFFERS,
    VLE,
    WHOLE,
    E1000Machine,
    frame,
)
from tests.support.packets import ACK, FIN, PSH, TCP, UDP, Packet, checksum, vlan

BOTH = ring.POPTS_IXSM | ring.POPTS_TXSM
TSE = ring.CMD_TSE


@pytest.fixture
def up(machine: E1000Machine) -> E1000Machine:
    machine.start_transmit()
    return machine


def packet(
    payload: bytes = bytes(range(100)),
    version: int = 4,
    protocol: int = TCP,
    flags: int = ACK,
    sequence: int = 1000,
    identification: int = 7,
) -> Packet:
    return Packet(payload, PEER, MAC, version, protocol, sequence, flags, identification)


def context(p: Packet, tucmd: int = 0, paylen: int = 0, mss: int = 0, **over: int) -> bytes:
    """Return the context descriptor that a driver would write for this packet."""
    fields = {
        "ipcss": p.network_start,
        "ipcso": p.network_start + 10,
        "ipcse": p.transport_start - 1,
        "tucss": p.transport_start,
        "tucso": p.transport_start + p.checksum_offset,
        "tucse": 0,
        "hdrlen": p.header_bytes,
        "mss": mss,
    }
    word = paylen | (tucmd | ring.CMD_DEXT | RS) << ring.CMD_SHIFT
    return ring.CONTEXT.pack(**{**fields, **over}, paylen_dtyp_tucmd=word)


def tso_context(p: Packet, mss: int, **over: int) -> bytes:
    tucmd = TSE | (ring.TUCMD_TCP if p.protocol == TCP else 0) | (ring.TUCMD_IP if p.version == 4 else 0)
    return context(p, tucmd, over.pop("paylen", len(p.payload)), mss, **over)


def send_segmented(
    machine: E1000Machine, p: Packet, mss: int, cuts: tuple[int, ...] = (), **over: int
) -> None:
    """Send a packet for segmentation, its bytes divided at `cuts`."""
    machine.put_tx(tso_context(p, mss, **over))
    data = p.for_segmentation()
    popts = BOTH if p.version == 4 else ring.POPTS_TXSM
    edges = [0, *sorted(cuts), len(data)]
    for n in range(len(edges) - 1):
        end = EOP | RS if n == len(edges) - 2 else 0
        machine.put_tx(machine.data(data[edges[n] : edges[n + 1]], IFCS | TSE | end, popts))
    machine.kick()


# checksum insertion


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("length", [0, 1, 7, 100, 1400])
def test_checksums_are_inserted(up: E1000Machine, version: int, protocol: int, length: int) -> None:
    p = packet(bytes(i * 7 & 0xFF for i in range(length)), version, protocol)
    popts = BOTH if version == 4 else ring.POPTS_TXSM
    up.send(context(p), up.data(p.for_checksum_offload(), popts=popts))
    assert up.fetch() == [p.build()]


def test_guest_memory_is_not_changed(up: E1000Machine) -> None:
    p = packet()
    up.put_tx(context(p))
    up.send(up.data(p.for_checksum_offload(), popts=BOTH))
    up.fetch()
    assert up.peek(TX_BUFFERS + SLOT_BYTES, len(p.build())) == p.for_checksum_offload()


def test_context_stays_for_later_packets(up: E1000Machine) -> None:
    first, second = packet(b"one"), packet(b"another", sequence=5)
    up.send(context(first), up.data(first.for_checksum_offload(), popts=BOTH))
    up.send(up.data(second.for_checksum_offload(), popts=BOTH))
    assert up.fetch() == [first.build(), second.build()]


@pytest.mark.parametrize("cuts", [(14,), (34,), (34, 54), (10, 11, 12, 13), (51,), (60,)])
def test_packet_in_several_descriptors(up: E1000Machine, cuts: tuple[int, ...]) -> None:
    p = packet()
    data = p.for_checksum_offload()
    edges = [0, *cuts, len(data)]
    up.put_tx(context(p))
    for n in range(len(edges) - 1):
        last = EOP | RS if n == len(edges) - 2 else 0
        popts = BOTH if n == 0 else 0  # §3.3.7: of the first data descriptor only
        up.put_tx(up.data(data[edges[n] : edges[n + 1]], IFCS | last, popts))
    up.kick()
    assert up.fetch() == [p.build()]


def test_options_of_the_first_descriptor_count(up: E1000Machine) -> None:
    p = packet()
    data = p.for_checksum_offload()
    up.put_tx(context(p))
    up.put_tx(up.data(data[:40], IFCS))
    up.send(up.data(data[40:], WHOLE, BOTH))
    assert up.fetch() == [data]


def test_udp_checksum_of_zero_is_sent_as_ones(up: E1000Machine) -> None:
    blank = packet(b"\0\0", protocol=UDP)
    p = packet(
        blank.build()[blank.transport_start + 6 :][:2], protocol=UDP
    )  # so that the sum becomes all ones
    up.send(context(p), up.data(p.for_checksum_offload(), popts=BOTH))
    (sent,) = up.fetch()
    assert (sent, sent[p.transport_start + 6 :][:2]) == (p.build(), b"\xff\xff")


def test_tag_is_not_part_of_the_checksums(up: E1000Machine) -> None:
    up.wr("VET", 0x8100)
    up.wr("CTRL", up.rd("CTRL") | mask("CTRL", "VME"))
    p = packet()
    up.send(context(p), up.data(p.for_checksum_offload(), WHOLE | VLE, BOTH, special=0x2005))
    assert up.fetch() == [replace(p, tag=vlan(0x2005)).build()]


def test_checksum_beyond_the_packet_is_not_inserted(up: E1000Machine) -> None:
    p = packet(b"")
    data = p.for_checksum_offload()
    up.send(context(p, tucso=len(data) - 1, ipcss=len(data)), up.data(data, popts=BOTH))
    assert up.fetch() == [data]


def test_checksum_may_end_before_the_packet(up: E1000Machine) -> None:
    data = bytearray(frame(100))
    data[50:52] = b"\0\0"
    p = packet()
    up.send(context(p, tucss=20, tucse=59, tucso=50), up.data(bytes(data), popts=ring.POPTS_TXSM))
    data[50:52] = checksum(bytes(data[20:60])).to_bytes(2, "big")
    assert up.fetch() == [bytes(data)]


def test_legacy_checksum(up: E1000Machine) -> None:
    data = bytearray(frame(100))
    data[70:72] = b"\0\0"
    up.send(up.legacy(bytes(data), WHOLE | ring.CMD_IC, css=30, cso=70))
    data[70:72] = checksum(bytes(data[30:])).to_bytes(2, "big")
    assert up.fetch() == [bytes(data)]


@pytest.mark.parametrize(("css", "cso"), [(100, 20), (20, 99), (20, 200)])
def test_legacy_checksum_outside_the_packet_is_ignored(up: E1000Machine, css: int, cso: int) -> None:
    up.send(up.legacy(frame(100), WHOLE | ring.CMD_IC, css=css, cso=cso))
    assert up.fetch() == [frame(100)]


# segmentation


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("length", "mss"), [(3000, 1000), (3001, 1000), (999, 1000), (1000, 1000), (5, 1), (15000, 1448)]
)
def test_segments_are_what_the_stack_would_send(
    up: E1000Machine, version: int, length: int, mss: int
) -> None:
    p = packet(bytes(i * 13 & 0xFF for i in range(length)), version, flags=ACK | PSH | FIN)
    send_segmented(up, p, mss)
    assert up.fetch() == p.segments(mss)
    assert (up.rd("TSCTC"), up.rd("TSCTFC")) == (1, 0)


@pytest.mark.parametrize("cuts", [(54,), (14, 34, 54), (60,), (54, 1000, 1001, 2500), (20, 3000)])
def test_segments_from_several_descriptors(up: E1000Machine, cuts: tuple[int, ...]) -> None:
    p = packet(bytes(i * 3 & 0xFF for i in range(4000)))
    send_segmented(up, p, 700, cuts)
    assert up.fetch() == p.segments(700)


def test_options_in_the_header(up: E1000Machine) -> None:
    p = replace(packet(bytes(2500)), options=bytes.fromhex("0101080a0000000100000002"))
    send_segmented(up, p, 1000)
    assert up.fetch() == p.segments(1000)


def test_sequence_and_identification_wrap(up: E1000Machine) -> None:
    p = packet(bytes(3000), sequence=0xFFFF_FF00, identification=0xFFFF)
    send_segmented(up, p, 1000)
    assert up.fetch() == p.segments(1000)


def test_udp_is_segmented_into_datagrams(up: E1000Machine) -> None:
    p = packet(bytes(2500), protocol=UDP)
    send_segmented(up, p, 1000)
    assert up.fetch() == p.segments(1000)


def test_segments_are_tagged(up: E1000Machine) -> None:
    up.wr("VET", 0x8100)
    up.wr("CTRL", up.rd("CTRL") | mask("CTRL", "VME"))
    p = packet(bytes(2500))
    up.put_tx(tso_context(p, 1000))
    up.send(up.data(p.for_segmentation(), WHOLE | TSE | VLE, BOTH, special=0x0123))
    assert up.fetch() == replace(p, tag=vlan(0x0123)).segments(1000)


def test_more_segments_than_a_burst_holds(up: E1000Machine) -> None:
    p = packet(bytes(i & 0xFF for i in range(9000)))
    send_segmented(up, p, 10)
    burst = Burst()
    first = up.device.transmit.fetch(burst, 256)
    got = [burst.frame_bytes(i) for i in range(first)]
    up.device.transmit.complete(burst)
    assert (first, got + up.fetch()) == (256, p.segments(10))


def test_segmentation_waits_for_the_rest_of_its_data(up: E1000Machine) -> None:
    p = packet(bytes(i & 0xFF for i in range(3000)))
    data = p.for_segmentation()
    up.send(tso_context(p, 1000), up.data(data[:1500], IFCS | TSE, BOTH))
    first = up.fetch()
    idle = up.device.transmit.watched.ready
    up.send(up.data(data[1500:], WHOLE | TSE))
    assert (first + up.fetch(), len(first), idle) == (p.segments(1000), 1, False)


def test_header_may_arrive_later(up: E1000Machine) -> None:
    p = packet(bytes(2000))
    data = p.for_segmentation()
    up.send(tso_context(p, 1000), up.data(data[:34], IFCS | TSE, BOTH))
    nothing = up.fetch()
    up.send(up.data(data[34:], WHOLE | TSE))
    assert (nothing, up.fetch()) == ([], p.segments(1000))


def test_plain_and_segmentation_contexts_are_apart(up: E1000Machine) -> None:
    plain, large = packet(b"plain"), packet(bytes(2000))
    up.put_tx(context(plain))
    send_segmented(up, large, 1000)
    up.send(up.data(plain.for_checksum_offload(), popts=BOTH))
    assert up.fetch() == [*large.segments(1000), plain.build()]


def test_data_that_ends_early_is_a_failure(up: E1000Machine) -> None:
    p = packet(bytes(1500))
    send_segmented(up, p, 1000, paylen=4000)
    up.send(up.legacy(frame()))
    got = up.fetch()
    assert (len(got), got[-1], up.rd("TSCTC"), up.rd("TSCTFC")) == (3, frame(), 0, 1)


def test_data_beyond_the_length_is_a_failure(up: E1000Machine) -> None:
    p = packet(bytes(1500))
    send_segmented(up, p, 1000, paylen=1000)
    up.send(up.legacy(frame()))
    got = up.fetch()
    assert (len(got), got[-1], up.rd("TSCTFC")) == (2, frame(), 1)


@pytest.mark.parametrize("over", [{"mss": 0}, {"paylen": 0}, {"hdrlen": 241}, {"mss": 16280}])
def test_impossible_context_drops_the_packet(up: E1000Machine, over: dict[str, int]) -> None:
    p = packet(bytes(1500))
    up.put_tx(tso_context(p, over.pop("mss", 1000), **over))
    up.put_tx(up.data(p.for_segmentation(), WHOLE | TSE, BOTH))
    up.send(up.legacy(frame()))
    assert (up.fetch(), up.rd("TSCTFC")) == ([frame()], 1)


def test_payload_outside_memory_ends_the_packet(up: E1000Machine) -> None:
    p = packet(bytes(1500))
    word = 1000 | ring.DTYP_DATA << ring.DTYP_SHIFT | (WHOLE | TSE | ring.CMD_DEXT) << ring.CMD_SHIFT
    up.put_tx(tso_context(p, 1000))
    up.put_tx(up.data(p.for_segmentation()[:100], IFCS | TSE, BOTH))
    up.put_tx(ring.DATA.pack(address=0x100, dtalen_dtyp_dcmd=word))
    up.send(up.legacy(frame()))
    assert (up.fetch(), up.counts()["fault.address"], up.rd("TSCTFC")) == ([frame()], 1, 1)


def test_generic_segmentation_repeats_a_constant_header(up: E1000Machine) -> None:
    # §3.3.6.1 note 2: with neither IP nor TCP only UDP's length is written; here it lies beyond the header
    p = packet(b"")
    up.put_tx(context(p, TSE, 250, 100, hdrlen=14, tucss=14, ipcss=14))
    up.send(up.data(frame(264), WHOLE | TSE))
    head, data = frame(264)[:14], frame(264)[14:]
    assert up.fetch() == [head + data[i : i + 100] for i in (0, 100, 200)]


def test_segmentation_as_a_stock_driver_asks_for_it(up: E1000Machine) -> None:
    # as recorded of Linux: delayed interrupts (TIDV 8, TADV 20h), one TDT write for context, header and pages
    for name, value in (("TIDV", 0x8), ("TADV", 0x20), ("IMS", 0x9D)):
        up.wr(name, value)
    p = packet(bytes(i & 0xFF for i in range(14480)), flags=ACK | PSH)
    send_segmented(up, p, 1448, (54, 4096, 8192, 12288))
    sent = up.fetch()
    up.advance(0x20 * 1024)
    assert (sent, up.rd("ICR"), up.line.rises) == (p.segments(1448), mask("ICR", "TXDW", "TXQE"), 1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6000),
    st.integers(20, 2000),
    st.sampled_from([4, 6]),
    st.lists(st.integers(1, 5999), max_size=6),
    st.integers(1, 256),
)
def test_any_division_gives_the_same_segments(
    length: int, mss: int, version: int, cuts: list[int], limit: int
) -> None:
    machine = E1000Machine()
    machine.start_transmit()
    p = packet(bytes(i * 11 & 0xFF for i in range(length)), version, flags=ACK | PSH)
    inside = tuple(sorted({c for c in cuts if c < len(p.for_segmentation())}))
    send_segmented(machine, p, mss, inside)
    assert machine.fetch(limit) == p.segments(mss)
    machine.close()
