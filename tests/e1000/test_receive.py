"""The receive unit: descriptors, buffer sizes, stripping, checksums, back-pressure, what a driver may do
wrong.
"""

import zlib
from dataclasses import replace

import pytest

from testbed.native import FrameStore
from testbed.spec import e1000_ring as ring
from testbed.spec.e1000 import mask
from tests.support.e1000_machine import (
    MAC,
    PEER,
    PORT,
    RAM_BYTES,
    RAM_GPA,
    RX_RING,
    E1000Machine,
    Received,
    frame,
    join,
)
from tests.support.packets import TCP, UDP, Packet, ones_complement, vlan

DD, EOP, IXSM, VP = ring.RX_STATUS_DD, ring.RX_STATUS_EOP, ring.RX_STATUS_IXSM, ring.RX_STATUS_VP
IPCS, TCPCS = ring.RX_STATUS_IPCS, ring.RX_STATUS_TCPCS
IPE, TCPE = ring.RX_ERROR_IPE, ring.RX_ERROR_TCPE
OPEN = ("EN", "UPE", "BAM")


def one(machine: E1000Machine, data: bytes) -> Received:
    assert machine.deliver(data) == 1
    (taken,) = machine.take()
    return taken


def test_a_frame_is_stored_with_its_length(machine: E1000Machine) -> None:
    machine.start_receive()
    taken = one(machine, frame(100))
    assert (taken.data, taken.status, taken.errors, taken.special) == (frame(100), DD | EOP | IXSM, 0, 0)


def test_head_advances_and_wraps(machine: E1000Machine) -> None:
    machine.start_receive(8)
    got = []
    for n in range(20):
        got.append(one(machine, frame(60 + n)).data)
        machine.refill(1)
    assert (got, machine.rd("RDH")) == ([frame(60 + n) for n in range(20)], 4)


def test_short_frame_is_padded(machine: E1000Machine) -> None:
    machine.start_receive()
    assert one(machine, frame(42)).data == frame(42) + bytes(18)


def test_fcs_is_stored_unless_stripped(machine: E1000Machine) -> None:
    machine.start_receive(rctl=mask("RCTL", *OPEN))
    assert one(machine, frame(101)).data == frame(101) + zlib.crc32(frame(101)).to_bytes(4, "little")


def test_fcs_of_a_padded_frame_covers_the_padding(machine: E1000Machine) -> None:
    machine.start_receive(rctl=mask("RCTL", *OPEN))
    padded = frame(40) + bytes(20)
    assert one(machine, frame(40)).data == padded + zlib.crc32(padded).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("bits", "size"),
    [(0, 2048), (1 << 16, 1024), (2 << 16, 512), (3 << 16, 256),
     (1 << 16 | 1 << 25, 16384), (2 << 16 | 1 << 25, 8192), (3 << 16 | 1 << 25, 4096)],
)  # fmt: skip
def test_buffer_sizes(machine: E1000Machine, bits: int, size: int) -> None:
    machine.start_receive(rctl=mask("RCTL", *OPEN, "LPE", "SECRC") | bits)
    data = frame(min(9000, size + 10))
    machine.deliver(data)
    parts = machine.take()
    assert ([len(part.data) for part in parts], join(parts)) == ([size, 10] if size < 9000 else [9000], data)


def test_only_the_last_descriptor_has_status_and_errors(machine: E1000Machine) -> None:
    machine.start_receive(rctl=mask("RCTL", *OPEN, "SECRC") | 3 << 16)
    machine.deliver(frame(600))
    assert [part.status for part in machine.take()] == [DD, DD, DD | EOP | IXSM]


def test_fcs_may_need_a_descriptor_of_its_own(machine: E1000Machine) -> None:
    machine.start_receive(rctl=mask("RCTL", *OPEN) | 3 << 16)
    machine.deliver(frame(254))
    assert [len(part.data) for part in machine.take()] == [256, 2]


def test_long_frames_need_lpe(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.deliver(frame(1518), frame(1519))
    short = len(machine.take())
    machine.start_receive(rctl=mask("RCTL", *OPEN, "SECRC", "LPE") | 1 << 16 | 1 << 25)
    machine.deliver(frame(16380), frame(16381))
    assert (short, len(machine.take())) == (1, 1)


def test_null_descriptors_are_passed(machine: E1000Machine) -> None:
    machine.start_receive(8)
    machine.poke(RX_RING, ring.RECEIVE.pack(address=0, length=0x55, errors=0x66))
    machine.deliver(frame())
    first = ring.RECEIVE.unpack(machine.peek(RX_RING, 16))
    second = ring.RECEIVE.unpack(machine.peek(RX_RING + 16, 16))
    assert (first["status"], first["length"], first["errors"]) == (DD, 0x55, 0x66)
    assert (second["length"], machine.rd("RDH")) == (60, 2)


def test_null_descriptor_inside_a_frame_is_passed(machine: E1000Machine) -> None:
    machine.start_receive(8, rctl=mask("RCTL", *OPEN, "SECRC") | 3 << 16)
    machine.poke(RX_RING + 16, ring.RECEIVE.pack(address=0))
    machine.deliver(frame(300))
    parts = [ring.RECEIVE.unpack(machine.peek(RX_RING + 16 * i, 16)) for i in range(3)]
    assert [(p["status"] & (DD | EOP), p["length"]) for p in parts] == [(DD, 256), (DD, 0), (DD | EOP, 44)]


def test_only_null_descriptors_is_no_room(machine: E1000Machine) -> None:
    machine.start_receive(8)
    for index in range(8):
        machine.poke(RX_RING + 16 * index, ring.RECEIVE.pack(address=0))
    assert (machine.deliver(frame()), machine.device.receive.ring.ready) == (0, False)


def test_full_ring_holds_frames_back_and_room_is_told(machine: E1000Machine) -> None:
    machine.start_receive(8)
    frames = [frame(60 + n) for n in range(10)]
    stored = machine.deliver(*frames)
    full = machine.device.room[0].ready
    first = [taken.data for taken in machine.take()]
    machine.refill(3)
    again = machine.device.room[0].ready
    machine.deliver(*frames[stored:])
    got = first + [taken.data for taken in machine.take()]
    assert (stored, full, again, got) == (7, False, True, frames)


def test_frame_of_several_buffers_waits_for_all_of_them(machine: E1000Machine) -> None:
    machine.start_receive(8, rctl=mask("RCTL", *OPEN, "SECRC") | 3 << 16, post=2)
    waits = machine.deliver(frame(700))
    machine.refill(1)
    assert (waits, machine.deliver(frame(700)), join(machine.take())) == (0, 1, frame(700))


def test_frame_that_no_ring_of_this_size_can_hold_is_dropped(machine: E1000Machine) -> None:
    machine.start_receive(8, rctl=mask("RCTL", *OPEN, "SECRC", "LPE") | 3 << 16)
    assert (machine.deliver(frame(4000), frame()), machine.counts()["dropped.rx_too_small"]) == (2, 1)


def test_frames_for_other_ports_are_left_alone(machine: E1000Machine) -> None:
    machine.start_receive()
    store = FrameStore()
    store.load([frame(60), frame(61)])
    store.send_all_to(3)
    assert (machine.device.deliver(store, 0, PORT), machine.take()) == (2, [])


def test_flooded_frames_are_taken(machine: E1000Machine) -> None:
    machine.start_receive()
    store = FrameStore()
    store.load([frame(60), frame(61)])
    assert (machine.device.deliver(store, 1, PORT), [t.data for t in machine.take()]) == (2, [frame(61)])


def test_frames_before_first_are_not_stored_again(machine: E1000Machine) -> None:
    machine.start_receive()
    store = FrameStore()
    store.load([frame(60), frame(61), frame(62)])
    store.send_all_to(PORT)
    machine.device.deliver(store, 2, PORT)
    assert [t.data for t in machine.take()] == [frame(62)]


def test_disabled_receiver_takes_nothing(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.wr("RCTL", 0)
    assert (machine.device.receiving, machine.deliver(frame()), machine.counts()["dropped.link_down"]) == (
        False,
        1,
        1,
    )


def test_buffer_outside_memory_is_marked_and_counted(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.poke(RX_RING, ring.RECEIVE.pack(address=0x1000))
    machine.deliver(frame(), frame(70))
    bad = ring.RECEIVE.unpack(machine.peek(RX_RING, 16))
    good = ring.RECEIVE.unpack(machine.peek(RX_RING + 16, 16))
    assert (bad["status"] & (DD | EOP), bad["errors"], good["length"], good["errors"]) == (
        DD | EOP, ring.RX_ERROR_RXE, 70, 0,
    )  # fmt: skip
    assert machine.counts()["fault.address"] == 1


def test_buffer_at_the_end_of_memory_is_used_as_far_as_it_goes(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.poke(RX_RING, ring.RECEIVE.pack(address=RAM_GPA + RAM_BYTES - 60))
    machine.deliver(frame(60))
    assert machine.peek(RAM_GPA + RAM_BYTES - 60, 60) == frame(60)


@pytest.mark.parametrize(("register", "value"), [("RDT", 64), ("RDH", 64), ("RDT", 0xFFFF)])
def test_position_outside_the_ring_stops_it(machine: E1000Machine, register: str, value: int) -> None:
    machine.start_receive()
    machine.wr(register, value)
    assert (machine.deliver(frame()), machine.take(), machine.reports[0][0]) == (1, [], "register")


@pytest.mark.parametrize("base", [0x1000, RAM_GPA + RAM_BYTES - 64, 2**45])
def test_ring_outside_memory_is_reported_once(machine: E1000Machine, base: int) -> None:
    machine.start_receive()
    machine.wr("RDBAL", base & 0xFFFF_FFFF)
    machine.wr("RDBAH", base >> 32)
    machine.deliver(frame())
    machine.deliver(frame())
    assert ([reason for reason, _ in machine.reports], machine.counts()["fault.address"]) == (["address"], 1)


def test_ring_of_no_length_takes_nothing(machine: E1000Machine) -> None:
    machine.start_receive()
    machine.wr("RDLEN", 0)
    assert (machine.deliver(frame()), machine.take()) == (1, [])


# tags


def vlan_mode(machine: E1000Machine, *, strip: bool) -> None:
    machine.wr("VET", 0x8100)
    machine.wr("CTRL", machine.rd("CTRL") & ~mask("CTRL", "VME") | (mask("CTRL", "VME") if strip else 0))
    machine.start_receive()


def test_tag_is_stripped_in_vlan_mode(machine: E1000Machine) -> None:
    vlan_mode(machine, strip=True)
    data = frame(100)
    taken = one(machine, data[:12] + vlan(0x6064) + data[12:])
    assert (taken.data, taken.special, taken.status & VP) == (data, 0x6064, VP)


def test_tag_stays_without_vlan_mode(machine: E1000Machine) -> None:
    vlan_mode(machine, strip=False)
    data = frame(100)[:12] + vlan(0x6064) + frame(100)[12:]
    taken = one(machine, data)
    assert (taken.data, taken.special, taken.status & VP) == (data, 0, 0)


def test_stripped_frame_may_be_shorter_than_the_least(machine: E1000Machine) -> None:
    vlan_mode(machine, strip=True)
    data = frame(56)
    assert one(machine, data[:12] + vlan(5) + data[12:]).data == data


# checksums


def check_on(machine: E1000Machine, *bits: str) -> None:
    machine.wr("RXCSUM", mask("RXCSUM", *bits))
    machine.start_receive()


def packet(version: int = 4, protocol: int = TCP, payload: bytes = bytes(range(99))) -> Packet:
    return Packet(payload, MAC, PEER, version, protocol)


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_good_checksums_are_confirmed(machine: E1000Machine, protocol: int) -> None:
    check_on(machine, "IPOFLD", "TUOFLD")
    taken = one(machine, packet(protocol=protocol).build())
    assert (taken.status & (IXSM | IPCS | TCPCS), taken.errors) == (IPCS | TCPCS, 0)


@pytest.mark.parametrize(("at", "errors"), [(26, IPE | TCPE), (60, TCPE), (24, IPE)])
def test_bad_checksums_are_marked(machine: E1000Machine, at: int, errors: int) -> None:
    check_on(machine, "IPOFLD", "TUOFLD")
    data = bytearray(packet().build())
    data[at] ^= 0xFF
    assert one(machine, bytes(data)).errors == errors


def test_each_check_can_be_off(machine: E1000Machine) -> None:
    check_on(machine, "TUOFLD")
    tcp = one(machine, packet().build()).status & (IXSM | IPCS | TCPCS)
    check_on(machine, "IPOFLD")
    ip = one(machine, packet().build()).status & (IXSM | IPCS | TCPCS)
    check_on(machine)
    assert (tcp, ip, one(machine, packet().build()).status & (IXSM | IPCS | TCPCS)) == (TCPCS, IPCS, IXSM)


def test_ipv6_needs_its_own_bit(machine: E1000Machine) -> None:
    check_on(machine, "IPOFLD", "TUOFLD")
    off = one(machine, packet(6).build()).status & (IXSM | IPCS | TCPCS)
    check_on(machine, "IPOFLD", "TUOFLD", "IPV6OFL")
    assert (off, one(machine, packet(6).build()).status & (IXSM | IPCS | TCPCS)) == (IXSM, TCPCS)


def test_ipv6_extension_headers_are_passed(machine: E1000Machine) -> None:
    check_on(machine, "TUOFLD", "IPV6OFL")
    data = bytearray(packet(6).build())
    data[20] = 0  # next header: hop-by-hop options
    data[18:20] = (int.from_bytes(data[18:20], "big") + 8).to_bytes(2, "big")
    taken = one(machine, bytes(data[:54]) + bytes([6, 0, 1, 4, 0, 0, 0, 0]) + bytes(data[54:]))
    assert (taken.status & TCPCS, taken.errors) == (TCPCS, 0)


def test_fragment_has_an_ip_checksum_only(machine: E1000Machine) -> None:
    check_on(machine, "IPOFLD", "TUOFLD")
    data = bytearray(packet().build())
    data[20] |= 0x20  # more fragments
    taken = one(machine, bytes(data))
    assert (taken.status & (IPCS | TCPCS), taken.errors) == (IPCS, IPE)  # the header changed, its sum did not


def test_tagged_packet_is_checked(machine: E1000Machine) -> None:
    check_on(machine, "IPOFLD", "TUOFLD")
    taken = one(machine, replace(packet(), tag=vlan(7)).build())
    assert (taken.status & (IPCS | TCPCS), taken.errors) == (IPCS | TCPCS, 0)


def test_udp_without_checksum_is_not_checked(machine: E1000Machine) -> None:
    check_on(machine, "TUOFLD")
    data = bytearray(packet(protocol=UDP).build())
    data[40:42] = b"\0\0"
    taken = one(machine, bytes(data))
    assert (taken.status & TCPCS, taken.errors) == (0, 0)


@pytest.mark.parametrize("kind", [b"\x08\x06", b"\x00\x2e"])
def test_other_packets_are_not_judged(machine: E1000Machine, kind: bytes) -> None:
    check_on(machine, "IPOFLD", "TUOFLD")
    data = frame(100)[:12] + kind + frame(100)[14:]
    assert one(machine, data).status & (IXSM | IPCS | TCPCS) == IXSM


def test_packet_with_an_impossible_length_is_not_judged(machine: E1000Machine) -> None:
    check_on(machine, "IPOFLD", "TUOFLD")
    data = bytearray(packet().build())
    data[16:18] = b"\xff\xff"
    assert one(machine, bytes(data)).status & IXSM


@pytest.mark.parametrize("start", [0, 7, 14, 99, 100, 255])
def test_packet_checksum_begins_at_pcss(machine: E1000Machine, start: int) -> None:
    machine.wr("RXCSUM", start)
    machine.start_receive()
    assert one(machine, frame(100)).checksum == ones_complement(frame(100)[start:])


def test_packet_checksum_covers_the_fcs_that_is_stored(machine: E1000Machine) -> None:
    machine.wr("RXCSUM", 15)
    machine.start_receive(rctl=mask("RCTL", *OPEN))
    taken = one(machine, frame(100))
    assert taken.checksum == ones_complement(taken.data[15:])


@pytest.mark.parametrize("start", [0, 14])
def test_packet_checksum_is_of_the_stripped_frame(machine: E1000Machine, start: int) -> None:
    machine.wr("RXCSUM", start)
    vlan_mode(machine, strip=True)
    data = frame(100)
    taken = one(machine, data[:12] + vlan(9) + data[12:])
    assert taken.checksum == ones_complement(data[start:])


# loopback


def loop_back(machine: E1000Machine) -> None:
    machine.start_transmit()
    machine.start_receive(rctl=mask("RCTL", "EN", "SECRC", "LBM"))
    machine.wr("MDIC", 1 << 26 | 1 << 21 | 0x4140)


def test_loopback_returns_frames_to_the_sender_only(machine: E1000Machine) -> None:
    loop_back(machine)
    machine.send(machine.legacy(frame(100)), machine.legacy(frame(101)))
    assert (machine.fetch(), [t.data for t in machine.take()]) == ([], [frame(100), frame(101)])
    assert (machine.rd("TDH"), machine.device.receiving) == (2, False)


def test_loopback_obeys_the_filters(machine: E1000Machine) -> None:
    loop_back(machine)
    machine.send(machine.legacy(frame(100, PEER)))
    machine.fetch()
    assert machine.take() == []


def test_loopback_needs_mac_and_phy(machine: E1000Machine) -> None:
    machine.start_transmit()
    machine.start_receive(rctl=mask("RCTL", "EN", "SECRC", "LBM"))
    machine.send(machine.legacy(frame(100)))
    assert machine.fetch() == [frame(100)]


def test_loopback_without_descriptors_misses_frames(machine: E1000Machine) -> None:
    loop_back(machine)
    machine.wr("RDT", 0)
    machine.send(machine.legacy(frame(100)))
    machine.fetch()
    assert (machine.rd("MPC"), machine.take()) == (1, [])
