"""Guests with emulated 82540EMs on one host, in one interpreter: traffic, exits, resets, a hostile one."""

import random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.native import ExitMailbox
from testbed.spec.e1000 import BAR_BYTES, IO_BAR_BYTES, REGISTERS
from tests.inprocess.machine import BAR_GPA, IO_PORT, GuestMachine, HostMachine

WRITES: Final = 1 << 16
RING_REGISTERS: Final = ("TDBAL", "TDBAH", "TDLEN", "TDH", "TDT", "RDBAL", "RDLEN", "RDT")


def pair(sender: str, receiver: str, kick: int = 32) -> HostMachine:
    """Return guests a and b with NICs of these kinds."""
    kinds = {"e1000": {"kind": "e1000", "frames_per_kick": kick}, "virtio-net": {}}
    return HostMachine("a", "b", nics={"a": kinds[sender], "b": kinds[receiver]})


def exits(host: HostMachine, guest: str, register: str, way: str = "write") -> int:
    return host.counters[f"exits.{guest}.nic0.{register}.{way}"]


@pytest.mark.parametrize("kinds", [("e1000", "virtio-net"), ("virtio-net", "e1000"), ("e1000", "e1000")])
@pytest.mark.parametrize("kick", [1, 32])
def test_every_frame_arrives_between_kinds(kinds: tuple[str, str], kick: int) -> None:
    host = pair(*kinds, kick)
    sent, received = host.run(host.flow("a", "b", count=3000, frame_bytes=(60, 1514, 590)))
    assert (sent.sent, received.received, received.reordered, received.corrupted) == (3000, 3000, 0, 0)
    assert received.duplicated == 0


def test_both_ways_at_the_same_time() -> None:
    host = pair("e1000", "virtio-net")
    there, back = host.flow("a", "b", 1, count=2000), host.flow("b", "a", 2, count=2000)
    host.start(there, back)
    assert [host.finish(flow)[1].received for flow in (there, back)] == [2000, 2000]


@pytest.mark.parametrize("kick", [1, 4, 32])
def test_a_write_of_tdt_for_so_many_frames(kick: int) -> None:
    host = pair("e1000", "virtio-net", kick)
    before = exits(host, "a", "TDT"), host.counters["exits.mmio_write"]
    host.run(host.flow("a", "b", count=1024))
    kicks = exits(host, "a", "TDT") - before[0]
    assert 1024 / kick <= kicks <= 1024 / kick + 8  # a burst may end in the middle of so many
    assert host.guests[0].counters["nic0.tx_kicks"] == kicks
    others = host.counters["exits.mmio_write"] - before[1] - kicks
    assert others <= 16, "what a sender does besides is a little at the end"


def test_received_frames_cost_an_exit_for_sixteen_buffers_and_interrupts_are_few() -> None:
    host = pair("virtio-net", "e1000")
    before, calls = exits(host, "b", "RDT"), host.counters["b.nic0.calls"]
    host.run(host.flow("a", "b", count=1600))
    assert exits(host, "b", "RDT") - before <= 100
    assert host.counters["b.nic0.calls"] - calls <= 20


def test_exits_by_register_add_up_to_the_exits_by_reason() -> None:
    host = pair("e1000", "e1000")
    host.run(host.flow("a", "b"))
    counted = host.counters.snapshot()
    by_register = {n: c for n, c in counted.items() if n.startswith("exits.") and n.count(".") > 1 and c}
    ports = {n: c for n, c in by_register.items() if ".IO" in n}
    writes = sum(c for n, c in by_register.items() if n.endswith(".write") and n not in ports)
    reads = sum(c for n, c in by_register.items() if n.endswith(".read") and n not in ports)
    assert (reads, writes) == (counted["exits.mmio_read"], counted["exits.mmio_write"])
    assert sum(ports.values()) == counted["exits.port_out"] == 4  # IOADDR and IODATA, for each guest


def test_the_driver_resets_the_device_through_its_ports_only_where_it_is_told_so() -> None:
    host = HostMachine("a", kind="e1000", reset="memory")
    assert (host.counters["exits.port_out"], exits(host, "a", "CTRL")) == (0, 2)


def test_a_guest_that_has_nothing_to_do_rests_and_a_frame_wakes_it() -> None:
    host = pair("virtio-net", "e1000")
    host.settle()
    bell = host.guests[1].vm.bells[0]
    asked, interrupts = bell.asked, host.counters["interrupts.e1000"]
    host.start(host.flow("a", "b", count=1))
    host.settle(host.guests[0])
    assert (bell.asked - asked, host.counters["interrupts.e1000"] - interrupts) == (1, 1)
    host.settle()
    assert host.guests[1].counters["nic0.rx_frames"] == 1


def test_link_that_goes_and_comes_is_told_and_noticed() -> None:
    host = pair("e1000", "e1000")
    b = host.guests[1]
    seen = []
    for up in (False, True):
        b.e1000.set_link(up)
        host.settle()
        seen.append(b.nic_driver.link_up)
    assert seen == [False, True]


def test_reset_in_mid_traffic_loses_only_what_was_in_the_rings() -> None:
    host = HostMachine("a", "b", "c", nics={"a": {"kind": "e1000"}, "b": {"kind": "e1000"}})
    struck, other = host.flow("a", "b", 1, count=5000), host.flow("c", "b", 2, count=5000)
    host.start(struck, other)
    for _ in range(3):
        host.guests[0].turn()
        host.turn()
        host.guests[0].e1000_driver.recover()
        host.turn()
        host.guests[1].turn()
    (sent, received), (_, whole) = host.finish(struck), host.finish(other)
    assert sent.sent == 5000
    assert 5000 - 3 * 256 <= received.received <= 5000
    assert (received.reordered, received.corrupted, received.duplicated) == (0, 0, 0)
    assert (whole.received, whole.reordered, whole.corrupted) == (5000, 0, 0)


def test_receiver_that_resets_in_mid_traffic_goes_on() -> None:
    host = pair("virtio-net", "e1000")
    flow = host.flow("a", "b", count=5000)
    host.start(flow)
    for _ in range(3):
        host.guests[0].turn()
        host.turn()
        host.guests[1].e1000_driver.recover()
    received = host.finish(flow)[1]
    assert 5000 - 3 * 512 <= received.received <= 5000
    assert (received.reordered, received.corrupted, received.duplicated) == (0, 0, 0)


def leave(guest: GuestMachine, reason: int, syndrome: int, gpa: int, value: int) -> None:
    """Leave for the vmm with any request, as a guest can that writes its page itself."""
    box = ExitMailbox(guest.page)
    box.leave(reason, syndrome, gpa, value)
    assert guest.answer()
    assert box.answered()


def scribble(guest: GuestMachine, chosen: random.Random, number: int) -> None:
    """Make accesses of every size and alignment to its BARs, loads among them."""
    known = [reg.at(i) for reg in REGISTERS.registers for i in range(min(reg.count, 4))]
    for _ in range(number):
        size = chosen.randrange(4)
        near = chosen.choice(known) + chosen.choice((0, 0, 0, 1, 2, 3, -3))
        offset = near if chosen.random() < 0.8 else chosen.randrange(-16, BAR_BYTES + 16)
        value = chosen.choice((chosen.getrandbits(64), 1 << chosen.randrange(32), guest.entry.ram_gpa))
        if chosen.random() < 0.1:
            port = IO_PORT + chosen.randrange(-4, IO_BAR_BYTES + 4)
            leave(guest, 30, chosen.choice((0, 1, 3)) | chosen.randrange(2) << 3 | port << 16, 0, value)
        else:
            access = chosen.choice((0, 1, 1, 1)) << 6 | size << 22
            leave(guest, 0, 0x24 << 26 | 1 << 24 | access, BAR_GPA + offset, value)


def test_a_guest_that_writes_anything_anywhere_harms_nobody_else() -> None:
    """2^16 accesses while two others talk; then the hostile guest's own driver comes up again."""
    host = HostMachine("a", "b", "evil", nics={"b": {"kind": "e1000"}, "evil": {"kind": "e1000"}})
    evil, chosen, rounds = host.guests[2], random.Random(4), 256
    flows = [host.flow("a", "b", 1, count=20_000), host.flow("b", "a", 2, count=20_000)]
    host.start(*flows)
    for _ in range(rounds):
        scribble(evil, chosen, WRITES // rounds)
        evil.ram.view[: 1 << 16] = chosen.randbytes(1 << 16)  # whatever its rings point at
        host.turn()
        for guest in host.guests[:2]:
            guest.turn()
    for flow in flows:
        sent, received = host.finish(flow)
        assert (sent.sent, received.received, received.reordered, received.corrupted) == (
            20_000,
            20_000,
            0,
            0,
        )
    counted = host.counters.snapshot()
    reasons = ("mmio_read", "mmio_write", "port_in", "port_out")
    assert sum(counted[f"exits.{reason}"] for reason in reasons) >= WRITES
    assert counted["exits.paced"] > 0
    evil.boot()
    assert host.run(host.flow("evil", "a", 3))[1].received == 100


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_descriptor_ring_of_a_live_guest_is_contained(data: st.DataObject) -> None:
    """Rings anywhere, of any size, with any head and tail, over memory that may not be there."""
    host = pair("virtio-net", "e1000")
    b = host.guests[1]
    flow = host.flow("a", "b", count=200)
    host.start(flow)
    for name in data.draw(
        st.permutations(("TDBAL", "TDBAH", "TDLEN", "TDH", "TDT", "RDBAL", "RDLEN", "RDT"))
    ):
        value = data.draw(st.integers(0, 0xFFFF_FFFF), name)
        b.vcpu.store(BAR_GPA + REGISTERS[name].offset, value)
        host.turn()
    host.settle(host.guests[0])
    b.boot()
    assert host.run(host.flow("b", "a", 2))[1].received == 100
