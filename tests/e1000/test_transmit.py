"""The transmit unit: legacy and data descriptors, write-back, ring positions, padding, tags, FCS."""

import zlib

import pytest

from testbed.native import Burst
from testbed.spec import e1000_ring as ring
from testbed.spec.e1000 import mask
from tests.support.e1000_machine import (
    EOP,
    IFCS,
    PEER,
    RAM_BYTES,
    RAM_GPA,
    RS,
    TX_BUFFERS,
    TX_RING,
    VLE,
    E1000Machine,
    frame,
)

OUTSIDE = 0x1000


@pytest.fixture
def up(machine: E1000Machine) -> E1000Machine:
    machine.start_transmit()
    return machine


def test_one_descriptor_is_one_frame(up: E1000Machine) -> None:
    up.send(up.legacy(frame(100)))
    assert up.fetch() == [frame(100)]


def test_frame_stays_in_guest_memory_without_a_copy(up: E1000Machine) -> None:
    up.send(up.legacy(frame(100)))
    burst = Burst()
    up.device.transmit.fetch(burst, 1)
    up.poke(TX_BUFFERS, b"\xee")
    assert burst.frame_bytes(0)[:1] == b"\xee"


def test_several_descriptors_make_one_frame(up: E1000Machine) -> None:
    data = frame(300)
    parts = (data[:14], data[14:14], data[14:100], data[100:])
    for part, cmd in zip(parts, (0, 0, 0, EOP | IFCS), strict=True):
        up.put_tx(up.legacy(part, cmd))
    up.kick()
    assert up.fetch() == [data]


def test_data_descriptors_make_a_frame(up: E1000Machine) -> None:
    up.put_tx(up.data(frame(300)[:20], IFCS))
    up.put_tx(up.data(frame(300)[20:]))
    up.kick()
    assert up.fetch() == [frame(300)]


def test_done_is_written_back_where_it_is_asked_for(up: E1000Machine) -> None:
    for cmd in (EOP | IFCS | RS, EOP | IFCS, EOP | IFCS | RS):
        up.put_tx(up.legacy(frame(), cmd))
    up.kick()
    up.fetch()
    assert [up.tx_status(i) for i in range(3)] == [1, 0, 1]


def test_only_the_status_byte_is_written_back(up: E1000Machine) -> None:
    descriptor = up.legacy(frame(), special=0x1234, css=5, cso=9)
    up.send(descriptor)
    up.fetch()
    assert up.peek(TX_RING, 16) == descriptor[:12] + b"\x01" + descriptor[13:]


def test_nothing_is_done_before_the_burst_is_completed(up: E1000Machine) -> None:
    up.send(up.legacy(frame()))
    burst = Burst()
    up.device.transmit.fetch(burst, 8)
    before = (up.tx_status(0), up.rd("TDH"), up.rd("ICR"))
    up.device.transmit.complete(burst)
    assert (before, up.tx_status(0), up.rd("TDH")) == ((0, 0, 0), 1, 1)


def test_ring_wraps(up: E1000Machine) -> None:
    sent = [frame(60 + i) for i in range(200)]
    got = []
    for data in sent:
        up.send(up.legacy(data))
        got += up.fetch()
    assert (got, up.rd("TDH")) == (sent, 200 % 64)


def test_limit_bounds_a_burst(up: E1000Machine) -> None:
    for _ in range(10):
        up.put_tx(up.legacy(frame()))
    up.kick()
    burst = Burst()
    assert [up.device.transmit.fetch(burst, 4), len(burst)] == [4, 4]


def test_packet_without_its_end_waits(up: E1000Machine) -> None:
    up.send(up.legacy(frame()[:20], 0))
    waiting = (up.fetch(), up.device.transmit.watched.ready, up.rd("TDH"))
    up.send(up.legacy(frame()[20:]))
    assert (waiting, up.fetch()) == (([], False, 0), [frame()])


def test_null_and_empty_descriptors_are_done_without_a_frame(up: E1000Machine) -> None:
    up.put_tx(ring.LEGACY.pack(address=0, length=60, cmd=EOP | IFCS | RS))
    up.put_tx(up.legacy(b"", EOP | IFCS | RS))
    up.kick()
    assert (up.fetch(), up.tx_status(0), up.tx_status(1), up.rd("TDH")) == ([], 1, 1, 2)


def test_short_frames_are_padded_where_tctl_says_so(machine: E1000Machine) -> None:
    machine.start_transmit(tctl=mask("TCTL", "EN", "PSP"))
    machine.send(machine.legacy(frame(42)))
    assert machine.fetch() == [frame(42) + bytes(18)]


def test_short_frames_stay_short_without_padding(up: E1000Machine) -> None:
    up.send(up.legacy(frame(42)))
    assert up.fetch() == [frame(42)]


def test_disabled_transmitter_sends_nothing_until_enabled(machine: E1000Machine) -> None:
    machine.start_transmit(tctl=0)
    machine.send(machine.legacy(frame()))
    stopped = (machine.fetch(), machine.device.transmit.watched.ready)
    machine.wr("TCTL", mask("TCTL", "EN"))
    assert (stopped, machine.fetch()) == (([], False), [frame()])


def test_frames_stay_in_the_ring_while_the_link_is_down(up: E1000Machine) -> None:
    up.device.set_link(False)
    up.send(up.legacy(frame()))
    down = up.fetch()
    up.device.set_link(True)
    assert (down, up.fetch()) == ([], [frame()])


def test_frame_without_ifcs_brings_its_own_fcs(up: E1000Machine) -> None:
    data = frame(80)
    up.send(up.legacy(data + zlib.crc32(data).to_bytes(4, "little"), EOP | RS))
    assert up.fetch() == [data]


def test_frame_with_a_wrong_fcs_does_not_arrive(up: E1000Machine) -> None:
    up.send(up.legacy(frame(80), EOP | RS))
    assert (up.fetch(), up.tx_status(0), up.counts()["dropped.bad_fcs"]) == ([], 1, 1)


def test_fcs_may_lie_in_a_descriptor_of_its_own(up: E1000Machine) -> None:
    data = frame(80)
    up.put_tx(up.legacy(data, 0))
    up.put_tx(up.legacy(zlib.crc32(data).to_bytes(4, "little"), EOP | RS))
    up.kick()
    assert up.fetch() == [data]


def test_tag_is_inserted_in_vlan_mode(up: E1000Machine) -> None:
    up.wr("VET", 0x8100)
    up.wr("CTRL", up.rd("CTRL") | mask("CTRL", "VME"))
    data = frame(100)
    up.send(up.legacy(data, EOP | IFCS | RS | VLE, special=0x6064))
    assert up.fetch() == [data[:12] + bytes.fromhex("81006064") + data[12:]]


def test_tag_is_not_inserted_without_vlan_mode(up: E1000Machine) -> None:
    up.send(up.legacy(frame(100), EOP | IFCS | RS | VLE, special=0x6064))
    assert up.fetch() == [frame(100)]


def test_tag_comes_from_the_last_descriptor(up: E1000Machine) -> None:
    up.wr("VET", 0x9100)
    up.wr("CTRL", up.rd("CTRL") | mask("CTRL", "VME"))
    data = frame(100)
    up.put_tx(up.legacy(data[:10], 0, special=1))
    up.put_tx(up.legacy(data[10:], EOP | IFCS | VLE, special=2))
    up.kick()
    assert up.fetch() == [data[:12] + bytes.fromhex("91000002") + data[12:]]


def test_buffer_outside_memory_drops_the_packet_and_goes_on(up: E1000Machine) -> None:
    up.put_tx(ring.LEGACY.pack(address=OUTSIDE, length=60, cmd=EOP | IFCS | RS))
    up.put_tx(up.legacy(frame()))
    up.kick()
    assert (up.fetch(), up.counts()["fault.address"], up.tx_status(0)) == ([frame()], 1, 1)


def test_buffer_that_leaves_memory_drops_the_packet(up: E1000Machine) -> None:
    up.send(ring.LEGACY.pack(address=RAM_GPA + RAM_BYTES - 30, length=60, cmd=EOP | IFCS | RS))
    assert (up.fetch(), up.counts()["fault.address"]) == ([], 1)


def test_packet_that_is_too_long_is_dropped(up: E1000Machine) -> None:
    up.put_tx(up.legacy(bytes(16000), 0))
    up.put_tx(up.legacy(bytes(300), EOP | IFCS | RS))
    up.put_tx(up.legacy(frame()))
    up.kick()
    assert (up.fetch(), up.counts()["dropped.too_long"], up.tx_status(1)) == ([frame()], 1, 1)


def test_packet_of_too_many_descriptors_is_dropped(machine: E1000Machine) -> None:
    machine.start_transmit(4096)
    for _ in range(1500):
        machine.put_tx(machine.legacy(b"x", 0))
    machine.put_tx(machine.legacy(b"x", EOP | IFCS))
    machine.put_tx(machine.legacy(frame(), EOP | IFCS))
    machine.kick()
    assert (machine.fetch(), machine.counts()["fault.chain_length"]) == ([frame()], 1)


def test_tail_outside_the_ring_stops_it_until_it_is_mended(up: E1000Machine) -> None:
    up.send(up.legacy(frame()))
    up.wr("TDT", 64)
    stopped = up.fetch()
    up.wr("TDT", 1)
    assert (stopped, up.fetch(), up.reports[0][0]) == ([], [frame()], "register")


def test_head_outside_the_ring_stops_it(up: E1000Machine) -> None:
    up.wr("TDH", 1000)
    up.send(up.legacy(frame()))
    assert (up.fetch(), up.counts()["fault.register"]) == ([], 1)


@pytest.mark.parametrize("base", [OUTSIDE, RAM_GPA + RAM_BYTES - 16, 2**40])
def test_ring_outside_memory_is_reported_once(up: E1000Machine, base: int) -> None:
    up.wr("TDBAL", base & 0xFFFF_FFFF)
    up.wr("TDBAH", base >> 32)
    up.wr("TDT", 5)
    up.fetch()
    up.fetch()
    assert ([reason for reason, _ in up.reports], up.counts()["fault.address"]) == (["address"], 1)


def test_ring_of_no_length_sends_nothing(up: E1000Machine) -> None:
    up.wr("TDLEN", 0)
    up.wr("TDT", 5)
    assert up.fetch() == []


def test_shrinking_the_ring_under_a_burst_harms_nobody(up: E1000Machine) -> None:
    for _ in range(40):
        up.put_tx(up.legacy(frame()))
    up.kick()
    burst = Burst()
    up.device.transmit.fetch(burst, 256)
    up.wr("TDLEN", 128)
    up.device.transmit.complete(burst)
    up.start_transmit()
    up.send(up.legacy(frame()))
    assert up.fetch() == [frame()]


def test_reset_with_a_burst_in_flight_writes_nothing_back(up: E1000Machine) -> None:
    up.send(up.legacy(frame()))
    burst = Burst()
    up.device.transmit.fetch(burst, 1)
    up.wr("CTRL", mask("CTRL", "RST"))
    up.device.transmit.complete(burst)
    assert (up.tx_status(0), up.rd("TDH"), up.rd("ICR")) == (0, 0, 0)


@pytest.mark.parametrize("cut", ["link", "TCTL", "TDT"])
def test_frames_in_flight_are_done_once_whatever_is_turned_off(up: E1000Machine, cut: str) -> None:
    up.send(up.legacy(frame()))
    burst = Burst()
    up.device.transmit.fetch(burst, 1)
    if cut == "link":
        up.device.set_link(False)
    else:
        up.wr(cut, 0 if cut == "TCTL" else 0x8000)
    up.device.transmit.complete(burst)
    up.device.set_link(True)
    up.wr("TCTL", mask("TCTL", "EN"))
    up.wr("TDT", 1)
    assert (up.tx_status(0), up.fetch(), up.rd("TDH")) == (1, [], 1)


def test_writing_the_head_forgets_a_half_packet(up: E1000Machine) -> None:
    for _ in range(5):
        up.put_tx(ring.LEGACY.pack(address=OUTSIDE, length=60))
    up.kick()
    up.fetch()
    up.wr("TDH", 5)
    up.send(up.legacy(frame()))
    assert up.fetch() == [frame()]


def test_low_bits_of_base_and_length_are_ignored(up: E1000Machine) -> None:
    up.wr("TDBAL", TX_RING | 0xF)
    up.wr("TDLEN", 1024 | 0x7F)
    assert (up.rd("TDBAL"), up.rd("TDLEN")) == (TX_RING, 1024)


def test_kicks_are_counted(up: E1000Machine) -> None:
    for _ in range(3):
        up.send(up.legacy(frame(60, PEER)))
    assert up.counts()["kicks"] == 4  # one of them from setting the ring up
