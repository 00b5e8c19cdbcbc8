"""Receive queues: buffers, write-back and its order, offload status, RSS, isolation, hostile rings."""

import struct
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from testbed.nic.switch_state import QueueMode, Rss
from testbed.spec import dma_request as dma
from testbed.spec import igb_ring as ring
from tests.nic.test_rss import IPV4, KEY
from tests.nic.test_transmit import ones_sum
from tests.support.nic_bench import STALL_NS, NicBench, frame, mac_of, pool_state, switch_state

STRANGER = bytes.fromhex("02ffffffff01")
BROADCAST = b"\xff" * 6
FAULT_REGISTER, FAULT_DMA = 1, 2


@pytest.fixture
def bench() -> NicBench:
    return NicBench()


def arrive(bench: NicBench, *frames: bytes) -> None:
    for data in frames:
        assert bench.to_nic.put(data, bench.clock())
    bench.run()


def udp_frame(source: str, source_port: int, to: str, to_port: int, payload: bytes = b"data") -> bytes:
    addresses = bytes(map(int, source.split("."))), bytes(map(int, to.split(".")))
    ip = bytearray(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0, *addresses))
    ip[10:12] = (0xFFFF ^ ones_sum(bytes(ip))).to_bytes(2, "big")
    udp = bytearray(struct.pack(">HHHH", source_port, to_port, 8 + len(payload), 0) + payload)
    pseudo = b"".join(addresses) + struct.pack(">HH", 17, len(udp))
    udp[6:8] = (0xFFFF ^ ones_sum(pseudo + bytes(udp))).to_bytes(2, "big")
    return mac_of(1) + STRANGER + b"\x08\x00" + bytes(ip) + bytes(udp) + bytes(14)


def test_frames_arrive_in_order_with_length_and_end(bench: NicBench) -> None:
    rx = bench.rx(1)
    sent = [frame(mac_of(1), STRANGER, n, 60 + 20 * n) for n in range(30)]
    arrive(bench, *sent)
    assert rx.take_all() == sent
    assert bench.engine.take_events() == (0, 2, 0, 0, 0)
    assert bench.engine.receive_head(1) == 30
    bench.memory.assert_intact()


def test_descriptor_is_written_behind_its_data_by_the_function_that_owns_the_queue(bench: NicBench) -> None:
    rx = bench.rx(1)
    arrive(bench, frame(mac_of(1), STRANGER))
    writes = [(s.stream, s.iova) for s in bench.iommu.log if s.kind == dma.KIND_WRITE]
    assert writes == [(0x102, rx.buffers), (0x102, rx.base)]


def test_descriptors_are_written_back_together_but_no_run_is_longer_than_what_is_ordered(
    bench: NicBench,
) -> None:
    rx = bench.rx(1, size=256)
    arrive(bench, *(frame(mac_of(1), STRANGER, n) for n in range(200)))
    lengths = [s.length for s in bench.iommu.log if s.kind == dma.KIND_WRITE and s.iova < rx.buffers]
    assert lengths == [1024, 1024, 1024, 128]


def test_long_frame_takes_several_descriptors_and_only_its_last_has_an_end(bench: NicBench) -> None:
    bench.set_state(switch_state(pools=tuple(pool_state(i, frame_max_bytes=9728) for i in range(8))))
    rx = bench.rx(1, buffer_bytes=1024)
    sent = frame(mac_of(1), STRANGER, 3, 5000)
    arrive(bench, sent)
    rows = [ring.RX_WRITE_BACK.unpack(bench.memory.read(rx.place(i), 16)) for i in range(5)]
    assert [row["length"] for row in rows] == [1024, 1024, 1024, 1024, 904]
    assert [row["status"] & 3 for row in rows] == [1, 1, 1, 1, 3]
    assert rx.take_all() == [sent]


def test_ring_goes_round_many_times(bench: NicBench) -> None:
    rx = bench.rx(1, size=16)
    sent, got = [], []
    for n in range(200):
        sent.append(frame(mac_of(1), STRANGER, n, 60 + n))
        arrive(bench, sent[-1])
        taken = rx.take_all()
        got += taken
        rx.post(len(taken))
    assert got == sent


def test_frame_longer_than_the_pool_takes_is_dropped(bench: NicBench) -> None:
    rx = bench.rx(1)
    arrive(bench, frame(mac_of(1), STRANGER, 1, 1514), frame(mac_of(1), STRANGER, 2, 1515))
    tagged = frame(mac_of(1), STRANGER, 3, 1518, tag=5)
    arrive(bench, tagged)
    assert [len(data) for data in rx.take_all()] == [1514, 1518]
    assert bench.count(1, "dropped_too_long") == 1
    assert bench.statistic("roc") == 1


def test_local_frames_are_marked_as_looped_back(bench: NicBench) -> None:
    tx, rx = bench.tx(0), bench.rx(1)
    tx.data(frame(mac_of(1), mac_of(0)))
    tx.kick()
    bench.run()
    arrive(bench, frame(mac_of(1), STRANGER))
    first, second = rx.take(), rx.take()
    assert first is not None
    assert second is not None
    assert first[1]["status"] & ring.RX_STATUS_LB
    assert not second[1]["status"] & ring.RX_STATUS_LB
    assert bench.pool_statistic(1, "vfgprlbc") == 1
    assert bench.pool_statistic(0, "vfgptlbc") == 1


def test_broadcast_reaches_every_pool_and_the_wire_once(bench: NicBench) -> None:
    tx = bench.tx(0)
    others = [bench.rx(pool) for pool in range(8)]
    data = frame(BROADCAST, mac_of(0), 6)
    tx.data(data)
    tx.kick()
    bench.run()
    assert [rx.take_all() for rx in others] == [[]] + [[data]] * 7
    assert bench.on_wire() == [data]


def test_tag_is_stripped_and_told(bench: NicBench) -> None:
    stripping = tuple(pool_state(i, strip_vlan=i in (1, 2), hide_vlan=i == 2) for i in range(8))
    bench.set_state(switch_state(pools=stripping))
    one, two, three = bench.rx(1), bench.rx(2), bench.rx(3)
    for pool in (1, 2, 3):
        arrive(bench, frame(mac_of(pool), STRANGER, pool, 100, tag=0x6123))
    got = [rx.take() for rx in (one, two, three)]
    plain = [frame(mac_of(pool), STRANGER, pool, 96) for pool in (1, 2)]
    assert [g[0] for g in got if g] == [*plain, frame(mac_of(3), STRANGER, 3, 100, tag=0x6123)]
    assert [g[1]["vlan"] for g in got if g] == [0x6123, 0, 0]
    assert [bool(g[1]["status"] & ring.RX_STATUS_VP) for g in got if g] == [True, False, False]


def test_checksum_status(bench: NicBench) -> None:
    bench.engine.configure_offloads(True, True, True)
    rx = bench.rx(1)
    good = udp_frame("10.0.0.1", 5, "10.0.0.2", 6)
    bad_ip, bad_udp = bytearray(good), bytearray(good)
    bad_ip[24] ^= 1
    bad_udp[44] ^= 1
    arrive(bench, good, bytes(bad_ip), bytes(bad_udp), frame(mac_of(1), STRANGER))
    rows = []
    while (got := rx.take()) is not None:
        rows.append(got[1])
    checked = ring.RX_STATUS_IPCS | ring.RX_STATUS_L4CS | ring.RX_STATUS_UDPCS
    errors = ring.RX_ERROR_IPE | ring.RX_ERROR_L4E
    assert [row["status"] & errors for row in rows] == [0, ring.RX_ERROR_IPE, ring.RX_ERROR_L4E, 0]
    assert [row["status"] & checked for row in rows] == [checked] * 3 + [0]
    types = [row["packet_info"] >> 4 << 4 for row in rows]
    assert types == [ring.RX_TYPE_IPV4 | ring.RX_TYPE_UDP] * 3 + [0]


@pytest.mark.parametrize("row", IPV4)
def test_rss_hash_is_reported_and_chooses_the_queue(
    bench: NicBench, row: tuple[str, int, str, int, int, int]
) -> None:
    source, source_port, to, to_port, _, hash_with_ports = row
    table = bytes(entry % 16 for entry in range(128))
    rss = Rss(KEY, table, True, True, True, False, False, False)
    bench.set_state(switch_state(mode=QueueMode.RSS, rss=rss))
    bench.engine.configure_offloads(False, False, True)
    queues = [bench.rx(queue, size=8, function=0) for queue in range(16)]
    arrive(bench, udp_frame(source, source_port, to, to_port))
    got = [rx.take() for rx in queues]
    chosen = table[hash_with_ports & 127]
    assert [index for index, g in enumerate(got) if g] == [chosen]
    found = got[chosen]
    assert found is not None
    assert found[1]["rss"] == hash_with_ports
    assert found[1]["packet_info"] & 15 == ring.RSS_UDP_IPV4


def test_rss_within_a_pool_uses_its_two_queues(bench: NicBench) -> None:
    rss = Rss(KEY, bytes([0, 1] * 64), True, True, True, False, False, False)
    pools = tuple(pool_state(i, rss=i == 1) for i in range(8))
    bench.set_state(switch_state(mode=QueueMode.POOLS_RSS, rss=rss, pools=pools))
    first, second = bench.rx(1), bench.rx(9)
    arrive(bench, *(udp_frame("10.0.0.1", port, "10.0.0.2", 6) for port in range(40)))
    assert len(first.take_all()) + len(second.take_all()) == 40
    assert bench.engine.receive_head(1) not in (0, 40)
    bench.set_state(replace(bench.state, mode=QueueMode.POOLS))
    before = bench.engine.receive_head(1)
    arrive(bench, udp_frame("10.0.0.1", 1, "10.0.0.2", 6), udp_frame("10.0.0.1", 2, "10.0.0.2", 6))
    assert bench.engine.receive_head(1) == before + 2


def test_legacy_descriptors(bench: NicBench) -> None:
    rx = bench.rx(1, legacy=True)
    data = frame(mac_of(1), STRANGER, 1, 77)
    arrive(bench, data)
    row = ring.RX_LEGACY.unpack(bench.memory.read(rx.base, 16))
    assert (row["address"], row["length"], row["status"] & 3, row["errors"]) == (rx.buffers, 77, 3, 0)
    assert bench.memory.read(rx.buffers, 77) == data


# a receiver that takes nothing


def test_full_ring_holds_its_sender_and_nothing_is_lost(bench: NicBench) -> None:
    tx, rx = bench.tx(0, size=512), bench.rx(1, size=8)
    sent = [frame(mac_of(1), mac_of(0), n) for n in range(100)]
    for data in sent:
        tx.data(data)
    tx.kick()
    got: list[bytes] = []
    for _ in range(40):
        bench.run()
        taken = rx.take_all()
        got += taken
        rx.post(len(taken))
        bench.clock.advance(STALL_NS // 2)
    assert got == sent


def test_full_ring_stalls_for_a_limited_time(bench: NicBench) -> None:
    tx, dead, alive = bench.tx(0, size=512), bench.rx(1, post=0), bench.rx(2)
    tx.data(frame(mac_of(1), mac_of(0), 1))
    tx.data(frame(mac_of(2), mac_of(0), 2))
    tx.kick()
    bench.run()
    assert alive.take_all() == []
    begun_ns = bench.clock()
    bench.wait_in_vain()
    assert bench.clock() == begun_ns + STALL_NS
    assert alive.take_all() == [frame(mac_of(2), mac_of(0), 2)]
    for n in range(5):
        tx.data(frame(mac_of(1), mac_of(0), n))
        tx.data(frame(mac_of(2), mac_of(0), n))
    tx.kick()
    bench.run()
    assert len(alive.take_all()) == 5, "a stalled queue holds nobody back again"
    assert bench.count(1, "dropped_stalled") == 6
    dead.post(40)
    tx.data(frame(mac_of(1), mac_of(0), 9))
    tx.kick()
    bench.run()
    assert dead.take_all() == [frame(mac_of(1), mac_of(0), 9)]


def test_receiver_has_its_turn_first_after_a_pause_of_the_whole_machine(bench: NicBench) -> None:
    tx, rx = bench.tx(0), bench.rx(1, post=0)
    tx.data(frame(mac_of(1), mac_of(0), 1))
    tx.kick()
    bench.run()
    bench.clock.advance(10 * STALL_NS)
    bench.run()
    rx.post(1)
    bench.run()
    bench.clock.advance(STALL_NS)
    bench.run()
    assert (rx.take_all(), bench.count(1, "dropped_stalled")) == ([frame(mac_of(1), mac_of(0), 1)], 0)


def test_queue_that_drops_never_holds_anybody(bench: NicBench) -> None:
    bench.rx(1, post=2)
    other = bench.rx(2)
    bench.engine.set_drop(1, True)
    arrive(bench, *(frame(mac_of(1 + n % 2), STRANGER, n) for n in range(20)))
    assert len(other.take_all()) == 10
    assert bench.count(1, "dropped_no_descriptor") == 8
    assert bench.engine.take_events()[3] == 1 << 1
    assert bench.engine.take_dropped(1) == 8
    assert bench.engine.take_dropped(1) == 0


def test_memory_that_answers_slowly_stops_only_those_who_wait_for_it(bench: NicBench) -> None:
    slow, fast = bench.rx(1), bench.rx(2)
    bench.run()
    bench.iommu.paused.add(2)
    arrive(bench, frame(mac_of(1), STRANGER, 1), frame(mac_of(2), STRANGER, 2))
    assert slow.take_all() == []
    assert len(fast.take_all()) == 1
    bench.iommu.paused.clear()
    bench.run()
    assert len(slow.take_all()) == 1


def test_queue_that_is_off_drops(bench: NicBench) -> None:
    arrive(bench, frame(mac_of(1), STRANGER))
    assert bench.count(1, "dropped_queue_off") == 1


def test_unwanted_frames_are_not_even_counted_as_received(bench: NicBench) -> None:
    bench.rx(1)
    arrive(bench, frame(STRANGER, STRANGER))
    assert bench.statistic("gprc") == 0
    arrive(bench, frame(mac_of(1), STRANGER, 0, 128))
    assert (bench.statistic("gprc"), bench.statistic("gorc"), bench.statistic("prc255")) == (1, 132, 1)


# hostile drivers


@pytest.mark.parametrize("tail", [64, 0xFFFF, 0xFFFFFFFF])
def test_tail_outside_the_ring_stops_the_queue_alone(bench: NicBench, tail: int) -> None:
    bad, good = bench.rx(1), bench.rx(2)
    bad.word.value = tail
    arrive(bench, frame(mac_of(1), STRANGER), frame(mac_of(2), STRANGER))
    assert bench.engine.receive_fault(1) == FAULT_REGISTER
    assert len(good.take_all()) == 1


def test_ring_outside_of_memory_stops_the_queue_alone(bench: NicBench) -> None:
    bad, good = bench.rx(1), bench.rx(2)
    bench.engine.start_receive(1, 2, 0xDEAD_0000, 64, 0, bad.word, 2048)
    arrive(bench, frame(mac_of(1), STRANGER), frame(mac_of(2), STRANGER))
    assert bench.engine.receive_fault(1) == FAULT_DMA
    assert bench.engine.take_events()[4] == 1 << (16 + 1)
    assert len(good.take_all()) == 1


def test_buffers_outside_of_memory_are_refused_by_the_iommu_and_harm_nobody(bench: NicBench) -> None:
    bad, good = bench.rx(1, post=0), bench.rx(2)
    for index in range(20):
        bench.memory.write(bad.place(index), ring.RX_READ.pack(packet=0xDEAD_0000 + index))
    bad.word.value = 20
    arrive(bench, *(frame(mac_of(1 + n % 2), STRANGER, n) for n in range(20)))
    assert len(good.take_all()) == 10
    bench.memory.assert_intact()


@settings(max_examples=50)
@given(
    st.lists(st.binary(min_size=16, max_size=16), max_size=32),
    st.integers(0, 40),
    st.lists(st.integers(18, 3000), max_size=40),
    st.sampled_from([256, 1024, 2048, 16384]),
)
# Buffers for a short frame between two long ones: room again, but none that the driver gave since.
@example(rows=[], tail=14, sizes=[18, 769, 2305, 18, 257, 1537], buffer_bytes=256)
def test_any_ring_harms_nobody_else(
    rows: list[bytes], tail: int, sizes: list[int], buffer_bytes: int
) -> None:
    bench = NicBench(switch_state(pools=tuple(pool_state(i, frame_max_bytes=9728) for i in range(8))))
    bad, good = bench.rx(1, size=32, post=0, buffer_bytes=buffer_bytes), bench.rx(2)
    for index, row in enumerate(rows):
        bench.memory.write(bad.place(index), row)
    bad.word.value = tail
    for size in sizes:
        bench.to_nic.put(frame(mac_of(1), STRANGER, size, size), bench.clock())
    bench.to_nic.put(frame(mac_of(2), STRANGER, 4, 64), bench.clock())
    bench.run()
    bench.wait_in_vain()
    assert good.take_all() == [frame(mac_of(2), STRANGER, 4, 64)]
    bench.memory.assert_intact()


@settings(max_examples=25)
@given(st.data())
def test_traffic_in_all_directions_arrives_once_and_in_order(data: st.DataObject) -> None:
    """Memory that answers when it likes, few buffers, every pool sends to every pool and the wire."""
    bench = NicBench()
    senders = [bench.tx(pool, size=32) for pool in range(3)]
    receivers = [bench.rx(pool, size=16) for pool in range(3)]
    sent: dict[tuple[int, int], list[bytes]] = {(a, b): [] for a in range(4) for b in range(4) if a != b}
    got: dict[tuple[int, int], list[bytes]] = {pair: [] for pair in sent}

    def collect() -> None:
        for index, rx in enumerate(receivers):
            taken = rx.take_all()
            for item in taken:
                got[item[11] if item[6:11] == mac_of(0)[:5] else 3, index].append(item)
            rx.post(len(taken))
        for item in bench.on_wire():
            got[item[11], 3].append(item)

    in_ring = [0, 0, 0]
    for step in range(data.draw(st.integers(1, 60))):
        source, to = data.draw(st.sampled_from(list(sent)))
        size = data.draw(st.integers(60, 1514))
        item = frame(
            STRANGER if to == 3 else mac_of(to), STRANGER if source == 3 else mac_of(source), step, size
        )
        if source == 3:
            if not bench.to_nic.put(item, bench.clock()):
                continue
        else:
            if in_ring[source] == 31:
                bench.run()
                collect()
                in_ring = [0, 0, 0]
            senders[source].data(item)
            senders[source].kick()
            in_ring[source] += 1
        sent[source, to].append(item)
        bench.engine.turn(bench.clock())
        for function in range(1, 4):
            bench.iommu.serve(function, data.draw(st.integers(0, 5)))
        bench.engine.publish_wire()
        if step % 5 == 0:
            collect()
    for _ in range(20):
        bench.run()
        collect()
    assert got == sent
    bench.memory.assert_intact()
