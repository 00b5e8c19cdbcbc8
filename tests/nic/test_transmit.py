"""Transmit queues: descriptors to frames, write-back, offloads, tags, rate, and what stops a queue."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.nic.switch_state import VlanInsertion
from testbed.spec import dma_request as dma
from testbed.spec import igb_ring as ring
from tests.support.nic_bench import NicBench, TxRing, frame, mac_of, pool_state, switch_state

OUT = bytes.fromhex("02ffffffff01")
FAULT_REGISTER, FAULT_DMA, FAULT_DESCRIPTOR = 1, 2, 3
IPV4, TCP = ring.TUCMD_IPV4, ring.TX_L4T.put(ring.L4T_TCP)


@pytest.fixture
def bench() -> NicBench:
    return NicBench()


def pools(**changes: object) -> tuple[object, ...]:
    return tuple(pool_state(i, **changes) for i in range(8))


def ones_sum(data: bytes) -> int:
    """Return the one's complement sum of 16-bit words, RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def tcp_frame(payload: bytes, flags: int = 0x19, ip_checksum: int = 0) -> bytes:
    """Return an IPv4 TCP frame as drivers hand it over: the pseudo header's sum in the checksum field."""
    source, to = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 7, 0, 64, 6, ip_checksum, source, to)
    pseudo = ones_sum(source + to + struct.pack(">HH", 6, 0))
    tcp = struct.pack(">HHIIBBHHH", 1000, 2000, 5000, 0, 0x50, flags, 8192, pseudo, 0)
    return OUT + mac_of(0) + b"\x08\x00" + ip + tcp + payload


def check_tcp(data: bytes) -> tuple[int, int, int, bytes]:
    """Check both checksums of an IPv4 TCP frame; return identification, sequence number, flags, payload."""
    ip, tcp = data[14:34], data[34 : 14 + int.from_bytes(data[16:18], "big")]
    assert ones_sum(ip) == 0xFFFF
    assert ones_sum(ip[12:20] + struct.pack(">HH", 6, len(tcp)) + tcp) == 0xFFFF
    return int.from_bytes(ip[4:6], "big"), int.from_bytes(tcp[4:8], "big"), tcp[13], tcp[20:]


def test_frames_go_out_in_order_and_every_descriptor_with_rs_is_done(bench: NicBench) -> None:
    tx = bench.tx(0)
    sent = [frame(OUT, mac_of(0), n, 60 + n) for n in range(40)]
    done = [tx.data(data) for data in sent]
    tx.kick()
    bench.run()
    assert bench.on_wire() == sent
    assert all(tx.done(index) for index in done)
    assert bench.engine.take_events() == (1, 0, 0, 0, 0)
    assert bench.engine.transmit_head(0) == 40
    bench.memory.assert_intact()


def test_descriptor_without_rs_is_not_touched(bench: NicBench) -> None:
    tx = bench.tx(0)
    quiet = tx.data(frame(OUT, mac_of(0)), flags=ring.TX_EOP | ring.TX_IFCS)
    loud = tx.data(frame(OUT, mac_of(0)))
    tx.kick()
    bench.run()
    assert not tx.done(quiet)
    assert tx.done(loud)


def test_ring_goes_round_many_times(bench: NicBench) -> None:
    tx = bench.tx(0, size=16)
    sent, got = [], []
    for n in range(100):
        sent.append(frame(OUT, mac_of(0), n))
        tx.data(sent[-1])
        if n % 7 == 6:
            tx.kick()
            bench.run()
            got += bench.on_wire()
    tx.kick()
    bench.run()
    assert got + bench.on_wire() == sent


def test_head_write_back(bench: NicBench) -> None:
    where = bench.take(64)
    tx = bench.tx(0, head_address=where)
    index = tx.data(frame(OUT, mac_of(0)))
    tx.data(frame(OUT, mac_of(0)))
    tx.kick()
    bench.run()
    assert bench.memory.load(where, 4) == 2
    assert not tx.done(index)


def test_write_back_comes_behind_the_reads_and_before_later_requests(bench: NicBench) -> None:
    tx = bench.tx(0)
    tx.data(frame(OUT, mac_of(0)))
    tx.kick()
    bench.run()
    kinds = [served.kind for served in bench.iommu.log]
    assert kinds == [dma.KIND_READ, dma.KIND_READ, dma.KIND_WRITE]
    assert {served.stream for served in bench.iommu.log} == {0x101}


def test_packet_of_several_descriptors_waits_for_its_end(bench: NicBench) -> None:
    tx = bench.tx(0)
    whole = frame(OUT, mac_of(0), 5, 900)
    tx.data(whole[:100], flags=ring.TX_IFCS)
    tx.data(whole[100:101], flags=0)
    tx.kick()
    bench.run()
    assert bench.on_wire() == []
    tx.data(whole[101:])
    tx.kick()
    bench.run()
    assert bench.on_wire() == [whole]


def test_short_frames_are_padded_only_where_tctl_says_so(bench: NicBench) -> None:
    tx = bench.tx(0)
    short = frame(OUT, mac_of(0), 1, 30)
    tx.data(short)
    tx.kick()
    bench.run()
    assert bench.on_wire() == [short + bytes(30)]
    bench.set_state(replace(bench.state, pad_short=False))
    tx.data(short)
    tx.kick()
    bench.run()
    assert bench.on_wire() == [short]


def test_legacy_descriptor_with_checksum(bench: NicBench) -> None:
    tx = bench.tx(0)
    data = bytearray(frame(OUT, mac_of(0), 3, 64))
    data[50:52] = bytes(2)
    address = tx.buffers
    bench.memory.write(address, bytes(data))
    flags = (ring.TX_EOP | ring.TX_IFCS | ring.TX_RS | ring.TX_IC) >> 24
    index = tx.put(ring.TX_LEGACY.pack(address=address, length=64, cmd=flags, css=20, cso=50))
    tx.kick()
    bench.run()
    [got] = bench.on_wire()
    assert ones_sum(got[20:]) == 0xFFFF
    assert got[:50] == data[:50]
    assert tx.done(index)


def test_checksum_offload_by_the_chosen_context(bench: NicBench) -> None:
    tx = bench.tx(0)
    tx.context(14, 20, tucmd=IPV4 | TCP, idx=0)
    tx.context(18, 20, tucmd=IPV4 | TCP, idx=1)
    data = bytearray(tcp_frame(b"payload!" * 5))
    pseudo = ones_sum(bytes(data[26:34]) + struct.pack(">HH", 6, 20 + 40))
    data[50:52] = pseudo.to_bytes(2, "big")
    tx.data(bytes(data), olinfo=ring.TX_IXSM | ring.TX_TXSM | ring.TX_IDX.put(0))
    tx.kick()
    bench.run()
    [got] = bench.on_wire()
    assert check_tcp(got) == (7, 5000, 0x19, b"payload!" * 5)


@pytest.mark.parametrize(("mac", "ip"), [(127, 511), (14, 500), (100, 20)])
def test_checksum_outside_of_the_frame_is_not_inserted(bench: NicBench, mac: int, ip: int) -> None:
    tx = bench.tx(0)
    tx.context(mac, ip, tucmd=IPV4 | TCP)
    data = frame(OUT, mac_of(0), 9, 100)
    tx.data(data, olinfo=ring.TX_IXSM | ring.TX_TXSM)
    tx.kick()
    bench.run()
    assert bench.on_wire() == [data]


@settings(max_examples=30)
@given(st.integers(1, 20_000), st.integers(100, 1460), st.integers(200, 2048))
def test_segmentation_cuts_and_sums_what_can_be_put_together_again(size: int, mss: int, piece: int) -> None:
    bench = NicBench()
    tx = bench.tx(0, size=128)
    payload = bytes(n * 7 % 256 for n in range(size))
    whole = tcp_frame(payload)
    tx.context(14, 20, 20, mss, IPV4 | TCP)
    parts = [whole[at : at + piece] for at in range(0, len(whole), piece)]
    for part in parts[:-1]:
        tx.data(part, total=size, flags=ring.TX_TSE, olinfo=ring.TX_IXSM | ring.TX_TXSM)
    flags = ring.TX_TSE | ring.TX_EOP | ring.TX_RS
    last = tx.data(parts[-1], total=size, flags=flags, olinfo=ring.TX_IXSM | ring.TX_TXSM)
    # only the first descriptor of a packet says what is to be done with it
    tx.kick()
    bench.run()
    got = [check_tcp(data) for data in bench.on_wire()]
    assert b"".join(row[3] for row in got)[:size] == payload
    assert [row[0] for row in got] == list(range(7, 7 + len(got)))
    assert [row[1] for row in got] == [5000 + mss * n for n in range(len(got))]
    assert all(row[2] == 0x10 for row in got[:-1])
    assert got[-1][2] == 0x19
    assert len(got) == -(-size // mss)
    assert tx.done(last)
    assert bench.statistic("tsctc") == 1


def test_segmentation_that_makes_no_sense_sends_nothing_and_goes_on(bench: NicBench) -> None:
    tx = bench.tx(0)
    for mac, ip, l4, mss in ((14, 20, 20, 0), (0, 0, 0, 100), (127, 511, 255, 100), (14, 20, 20, 9700)):
        tx.context(mac, ip, l4, mss, IPV4 | TCP)
        tx.data(tcp_frame(bytes(200)), flags=ring.TX_TSE | ring.TX_EOP | ring.TX_RS)
    good = frame(OUT, mac_of(0), 1)
    done = tx.data(good)
    tx.kick()
    bench.run()
    assert bench.on_wire() == [good]
    assert tx.done(done)
    assert bench.count(0, "dropped_too_long") == 4


def test_tag_by_descriptor_and_by_pool(bench: NicBench) -> None:
    tx = bench.tx(0)
    data = frame(OUT, mac_of(0), 4)
    tagged = data[:12] + b"\x81\x00" + (0x2064).to_bytes(2, "big") + data[12:]
    tx.context(14, 20, vlan=0x2064)
    vle = ring.TX_EOP | ring.TX_RS | ring.TX_VLE
    tx.data(data, flags=vle)
    tx.kick()
    bench.run()
    assert bench.on_wire() == [tagged]

    bench.set_state(switch_state(pools=pools(insertion=VlanInsertion.NEVER)))
    tx.data(data, flags=vle)
    tx.kick()
    bench.run()
    assert bench.on_wire() == [data]

    bench.set_state(switch_state(pools=pools(insertion=VlanInsertion.ALWAYS, port_vlan=0x2064)))
    tx.data(data)
    tx.kick()
    bench.run()
    assert bench.on_wire() == [tagged]


def test_spoofed_frames_are_dropped_and_told(bench: NicBench) -> None:
    bench.set_state(switch_state(pools=pools(check_source_mac=True)))
    tx = bench.tx(3)
    good = frame(OUT, mac_of(3), 1)
    tx.data(frame(OUT, mac_of(4), 1))
    done = tx.data(good)
    tx.kick()
    bench.run()
    assert bench.on_wire() == [good]
    assert tx.done(done)
    assert bench.engine.take_events()[2] == 1 << 3
    assert bench.engine.take_spoofed(3) == 1
    assert bench.count(3, "dropped_spoof") == 1


def test_rate_limit_lets_through_what_it_says(bench: NicBench) -> None:
    bench.set_state(switch_state(rates_bits_per_second=(8_000_000,) + (None,) * 15))
    tx, free = bench.tx(0), bench.tx(1)
    for n in range(20):
        tx.data(frame(OUT, mac_of(0), n, 1000))
        free.data(frame(OUT, mac_of(1), n, 1000))
    bench.clock.advance(1_000_000_000)
    tx.kick()
    free.kick()
    bench.run()
    got = bench.on_wire()
    assert len([f for f in got if f[6:12] == mac_of(1)]) == 20
    limited = len([f for f in got if f[6:12] == mac_of(0)])
    assert limited == 11, "ten milliseconds' worth of burst, and one that overdraws"
    assert bench.engine.due_ns is not None
    bench.clock.advance(4_000_000)
    bench.run()
    assert len(bench.on_wire()) == 4


def test_full_wire_holds_the_queue_and_loses_nothing(bench: NicBench) -> None:
    tx = bench.tx(0, size=512)
    sent = [frame(OUT, mac_of(0), n, 1514) for n in range(400)]
    for data in sent:
        tx.data(data)
    tx.kick()
    got = []
    for _ in range(40):
        bench.run()
        got += bench.on_wire()
    assert got == sent
    assert bench.count(0, "tx_wire_frames") == 400


def test_link_down_drops_what_is_for_the_wire_only(bench: NicBench) -> None:
    bench.set_state(replace(bench.state, link_up=False))
    tx, rx = bench.tx(0), bench.rx(1)
    tx.data(frame(OUT, mac_of(0)))
    tx.data(frame(mac_of(1), mac_of(0), 5))
    tx.kick()
    bench.run()
    assert bench.on_wire() == []
    assert len(rx.take_all()) == 1
    assert bench.count(0, "dropped_link_down") == 1


def test_pool_that_may_not_transmit_is_not_fetched_from(bench: NicBench) -> None:
    bench.set_state(switch_state(pools=pools(transmit=False)))
    tx = bench.tx(0)
    tx.data(frame(OUT, mac_of(0)))
    tx.kick()
    bench.run()
    assert bench.iommu.log == []


@pytest.mark.parametrize("tail", [64, 0xFFFF, 0xFFFFFFFF])
def test_tail_outside_the_ring_stops_the_queue_alone(bench: NicBench, tail: int) -> None:
    bad, good = bench.tx(0), bench.tx(1)
    bad.word.value = tail
    good.data(frame(OUT, mac_of(1)))
    good.kick()
    bench.run()
    assert bench.engine.transmit_fault(0) == FAULT_REGISTER
    assert bench.engine.take_events()[4] == 1
    assert bench.count(0, "fault_register") == 1
    assert len(bench.on_wire()) == 1


def test_ring_outside_of_memory_stops_the_queue_alone(bench: NicBench) -> None:
    bad, good = bench.tx(0), bench.tx(1)
    bench.engine.start_transmit(0, 1, 0xDEAD_0000, 64, 0, bad.word)
    bad.word.value = 5
    good.data(frame(OUT, mac_of(1)))
    good.kick()
    bench.run()
    assert bench.engine.transmit_fault(0) == FAULT_DMA
    assert len(bench.on_wire()) == 1
    bench.run()
    assert bench.count(0, "fault_dma") == 1


def test_buffer_outside_of_memory_sends_nothing_of_its_burst(bench: NicBench) -> None:
    bad, good = bench.tx(0), bench.tx(1)
    bad.put(TxRing.descriptor(0xDEAD_0000, 60, ring.TX_EOP | ring.TX_RS, 0))
    bad.kick()
    good.data(frame(OUT, mac_of(1)))
    good.kick()
    bench.run()
    assert bench.engine.transmit_fault(0) == FAULT_DMA
    assert [data[6:12] for data in bench.on_wire()] == [mac_of(1)]


def test_packet_without_end_stops_the_queue(bench: NicBench) -> None:
    tx = bench.tx(0, size=512, buffer_bytes=64)
    for _ in range(300):
        tx.data(b"x", flags=0)
    tx.kick()
    bench.run()
    assert bench.engine.transmit_fault(0) == FAULT_DESCRIPTOR
    assert bench.on_wire() == []


def test_reset_forgets_and_starts_again(bench: NicBench) -> None:
    tx = bench.tx(0)
    for n in range(10):
        tx.data(frame(OUT, mac_of(0), n))
    tx.kick()
    bench.engine.turn(bench.clock())
    bench.engine.stop_transmit(0)
    bench.run()
    assert bench.on_wire() == []
    again = bench.tx(0)
    data = frame(OUT, mac_of(0), 77)
    again.data(data)
    again.kick()
    bench.run()
    assert bench.on_wire() == [data]


def test_queue_that_changes_its_owner_asks_as_the_new_one(bench: NicBench) -> None:
    tx = bench.tx(0)
    tx.data(frame(OUT, mac_of(0)))
    tx.kick()
    bench.engine.turn(bench.clock())
    again = bench.tx(0, function=0)
    again.data(frame(OUT, mac_of(0), 2))
    again.kick()
    bench.run()
    assert len(bench.on_wire()) == 1
    assert {s.stream for s in bench.iommu.log if s.iova == again.base} == {0x100}


KINDS = (0x2930_0000, 0x2830_0000, 0xA930_0000, 0x2020_0000, 0x0900_0000, 0xE930_0000)
"""Command bytes and types that mean something."""


@settings(max_examples=60)
@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.booleans()), min_size=1), st.data())
def test_any_descriptors_harm_nobody_else(rows: list[tuple[bytes, bool]], data: st.DataObject) -> None:
    bench = NicBench()
    bad, good = bench.tx(0, size=32), bench.tx(1)
    for descriptor, near in rows:
        if near:
            address = bad.buffers + data.draw(st.integers(0, 4096))
            kind = data.draw(st.sampled_from(KINDS)) | data.draw(st.integers(0, 4000))
            olinfo = data.draw(st.integers(0, 0xFFFF_FFFF))
            descriptor = ring.TX_DATA.pack(address=address, cmd_type_len=kind, olinfo_status=olinfo)
        bad.put(descriptor)
        bad.kick()
        if data.draw(st.booleans()):
            bench.run()
            bench.on_wire()
    sent = frame(OUT, mac_of(1), 99)
    good.data(sent)
    good.kick()
    bench.run()
    assert sent in bench.on_wire()
    bench.memory.assert_intact()
