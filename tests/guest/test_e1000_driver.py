"""The e1000 driver against the device model over a bus of plain function calls: no VMM, no vCPU, no
sockets.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import DeviceError
from testbed.guest.drivers.driver import NetDriver
from testbed.guest.drivers.e1000 import E1000Driver, E1000DriverConfig
from testbed.native import Burst
from testbed.spec import e1000_ring as ring
from testbed.spec.e1000 import REGISTERS, mask
from tests.support.e1000_guest import NAMES, Bus, Guest, Memory
from tests.support.e1000_machine import MAC, PEER, PORT, frame


def wire(sender: Guest, receiver: Guest) -> int:
    """Carry what one device has to send to the other; return how many frames."""
    burst, moved = Burst(), 0
    while count := sender.machine.device.transmit.fetch(burst, 256):
        burst.send_all_to(PORT)
        reached = receiver.machine.device.deliver(burst, 0, PORT)
        while reached < count:
            receiver.interrupt()
            reached = receiver.machine.device.deliver(burst, reached, PORT)
        sender.machine.device.transmit.complete(burst)
        moved += count
    return moved


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_it_is_a_net_driver(guest: Guest) -> None:
    driver: NetDriver = guest.driver
    assert (driver.mac, driver.mtu, driver.link_up, len(guest.driver.queues)) == (MAC, 1500, True, 1)


def test_bring_up_sets_the_device_up_as_the_manual_says(guest: Guest) -> None:
    machine = guest.machine
    assert machine.rd("RCTL") & mask("RCTL", "EN", "BAM", "SECRC") == mask("RCTL", "EN", "BAM", "SECRC")
    assert machine.rd("TCTL") & mask("TCTL", "EN", "PSP") == mask("TCTL", "EN", "PSP")
    assert (machine.rd("RDLEN"), machine.rd("TDLEN"), machine.rd("RDT")) == (1024, 1024, 63)
    assert (machine.device.receiving, machine.rd("IMS") & mask("IMS", "RXT0", "LSC")) == (
        True,
        mask("IMS", "RXT0", "LSC"),
    )


def test_bring_up_touches_nothing_unknown_or_read_only(guest: Guest) -> None:
    counts = guest.machine.device.registers.counts
    assert (counts.unknown, counts.read_only, counts.partial) == (0, 0, 0)


def test_frames_go_both_ways_whole_and_in_order(guest: Guest) -> None:
    other = Guest()
    there = [frame(60 + n, MAC, PEER) for n in range(40)]
    back = [frame(1514 - n, MAC, PEER) for n in range(30)]
    assert (guest.send(there), wire(guest, other), other.interrupt()) == (40, 40, there)
    assert (other.send(back), wire(other, guest), guest.interrupt()) == (30, 30, back)


def test_many_frames_wrap_both_rings(guest: Guest) -> None:
    other = Guest()
    sent = [frame(60 + n % 1400, MAC, PEER) for n in range(1000)]
    got: list[bytes] = []
    at = 0
    while at < len(sent):
        at += guest.send(sent[at : at + 50])
        wire(guest, other)
        got += other.interrupt()
    assert got == sent


def test_one_tail_write_for_each_batch() -> None:
    counts = []
    for per_kick in (1, 4, 256):
        guest = Guest(E1000DriverConfig(ring_size=64, frames_per_kick=per_kick))
        guest.send([frame()] * 32)
        counts.append((guest.bus.seen["W", "TDT"], guest.counters["nic0.tx_kicks"]))
    assert counts == [(32, 32), (8, 8), (1, 1)]


def test_full_ring_gives_no_buffers_until_frames_left(guest: Guest) -> None:
    other = Guest()
    first = guest.send([frame()] * 200)
    blocked = guest.send([frame()])
    wire(guest, other)
    assert (first, blocked, guest.driver.tx_watch.ready, guest.send([frame()] * 200)) == (63, 0, True, 63)


def test_released_frames_are_not_sent_and_can_be_reserved_again(guest: Guest) -> None:
    guest.driver.tx_reserve(guest.burst, 10)
    guest.driver.tx_release(guest.burst, 0)
    assert (guest.send([frame()] * 63), len(guest.machine.fetch())) == (63, 63)


def test_receive_buffers_are_given_back_in_batches(guest: Guest) -> None:
    for _ in range(64):
        guest.machine.deliver(frame())
        guest.receive()
    assert guest.bus.seen["W", "RDT"] == 4


@pytest.mark.parametrize("ring_size", [8, 16])
def test_a_small_ring_goes_on_when_all_its_buffers_were_used(ring_size: int) -> None:
    small = Guest(E1000DriverConfig(ring_size=ring_size))
    for _ in range(40):
        small.machine.deliver(frame())
        assert small.receive() == [frame()]


def test_a_device_that_reports_nothing_but_bad_frames_has_its_buffers_back(guest: Guest) -> None:
    bad = ring.RECEIVE.pack(status=ring.RX_STATUS_DD | ring.RX_STATUS_EOP, errors=ring.RX_ERROR_RXE)
    for laps in range(1, 4):
        guest.driver._rx_ring.pinned.bytes_view()[: 64 * len(bad)] = bad * 64
        assert guest.receive() == []
        assert (guest.driver._rx.taken, guest.bus.seen["W", "RDT"]) == (0, laps)
    assert (guest.driver._rx.posted, guest.driver._rx.errors) == (3 * 63, 3 * 63)


def test_interrupts_stay_masked_while_frames_flow(guest: Guest) -> None:
    guest.machine.deliver(frame())
    guest.driver.handle_interrupt()
    for _ in range(20):
        guest.machine.deliver(frame())
        guest.receive()
    assert (guest.machine.line.rises, guest.machine.line.asserted, guest.bus.seen["R", "ICR"]) == (
        1,
        False,
        1,
    )


def test_before_sleep_sees_what_came_meanwhile(guest: Guest) -> None:
    guest.machine.deliver(frame())
    guest.driver.handle_interrupt()
    guest.receive()
    guest.machine.deliver(frame())
    assert (guest.driver.before_sleep(), guest.machine.line.asserted) == (True, True)


def test_before_sleep_sent_frames_are_work_only_for_who_waits_for_their_buffers(guest: Guest) -> None:
    guest.send([frame()] * 3)
    wire(guest, Guest())
    for waits in (True, False):
        guest.driver.tx_watch.active = waits
        assert (guest.driver.tx_watch.ready, guest.driver.before_sleep()) == (True, waits)


def test_interrupt_of_another_device_is_not_ours(guest: Guest) -> None:
    assert not guest.driver.handle_interrupt()


def test_link_changes_are_noticed(guest: Guest) -> None:
    guest.machine.device.set_link(False)
    guest.interrupt()
    down = guest.driver.link_up
    guest.machine.device.set_link(True)
    guest.interrupt()
    assert (down, guest.driver.link_up) == (False, True)


def test_slow_negotiation_brings_the_link_up_later() -> None:
    guest = Guest()
    guest.machine.device.set_link(False)
    guest.driver.recover()
    before = guest.driver.link_up
    guest.machine.device.set_link(True)
    guest.interrupt()
    assert (before, guest.driver.link_up) == (False, True)


def test_recovery_starts_with_empty_rings(guest: Guest) -> None:
    other = Guest()
    guest.send([frame(60, MAC)] * 10)
    guest.machine.deliver(frame())
    guest.driver.recover()
    again = [frame(70 + n, MAC) for n in range(20)]
    sent = guest.send(again)
    assert (guest.receive(), sent, wire(guest, other), other.interrupt()) == ([], 20, 20, again)


def test_stop_turns_the_device_off(guest: Guest) -> None:
    guest.driver.stop()
    assert (guest.machine.device.receiving, guest.machine.rd("TCTL"), guest.machine.rd("IMS")) == (
        False,
        0,
        0,
    )


@pytest.mark.parametrize("mtu", [1500, 2030, 4000, 9000, 16000])
def test_jumbo_frames(mtu: int) -> None:
    config = E1000DriverConfig(ring_size=8, mtu=mtu)
    guest, other = Guest(config), Guest(config)
    data = frame(mtu + 14, MAC, PEER)
    assert (guest.send([data]), wire(guest, other), other.interrupt()) == (1, 1, [data])


def test_an_mtu_beyond_the_largest_buffer_is_refused() -> None:
    with pytest.raises(DeviceError, match="an MTU is at most 16366 bytes, not 16367"):
        Guest(E1000DriverConfig(mtu=16367))


def test_bad_frames_are_skipped_and_their_buffers_kept_going(guest: Guest) -> None:
    ring = guest.machine.rd("RDBAL")
    guest.machine.poke(ring, bytes(8) + b"")  # the device finds no buffer there
    guest.machine.poke(ring, (0x10).to_bytes(8, "little"))
    guest.machine.deliver(frame(60), frame(61))
    assert guest.receive() == [frame(61)]


def test_counters_count_frames_and_bytes(guest: Guest) -> None:
    guest.send([frame(60), frame(100)])
    guest.machine.deliver(frame(200))
    guest.receive()
    assert [guest.counters[f"nic0.{name}"] for name in NAMES[:4]] == [2, 160, 1, 200]


def test_an_eeprom_whose_sum_is_wrong_is_refused(guest: Guest) -> None:
    guest.machine.device.eeprom.words[5] ^= 1
    with pytest.raises(DeviceError, match=r"add up to 0xbab[0-9a-f], not 0xbaba"):
        E1000Driver(guest.bus, Memory(guest.machine), guest.counters, "nic0", E1000DriverConfig())


class DeadBus:
    """A bus where nobody answers."""

    def __init__(self, value: int) -> None:
        self.value = value

    def read32(self, offset: int) -> int:  # noqa: ARG002
        return self.value

    def write32(self, offset: int, value: int) -> None:
        """Nobody takes it."""


@pytest.mark.parametrize(("value", "text"), [(0xFFFFFFFF, "finish its reset"), (0, "read its EEPROM")])
def test_a_device_that_does_not_answer_is_given_up(guest: Guest, value: int, text: str) -> None:
    with pytest.raises(DeviceError, match=text):
        E1000Driver(DeadBus(value), Memory(guest.machine), guest.counters, "nic0", E1000DriverConfig())


def test_a_phy_that_does_not_answer_is_given_up(guest: Guest) -> None:
    class NoPhy(Bus):
        def read32(self, offset: int) -> int:
            value = super().read32(offset)
            return value | mask("MDIC", "E") if offset == REGISTERS["MDIC"].offset else value

    with pytest.raises(DeviceError, match="the PHY does not answer at register PSTATUS"):
        E1000Driver(NoPhy(guest.machine), Memory(guest.machine), guest.counters, "nic0", E1000DriverConfig())


@pytest.mark.parametrize("size", [0, 4, 12, 65536])
def test_a_ring_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="a ring has a multiple of 8 descriptors"):
        Guest(E1000DriverConfig(ring_size=size))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 70), st.booleans(), st.booleans()), max_size=40),
    st.sampled_from([1, 3, 256]),
)
def test_any_interleaving_loses_and_reorders_nothing(
    steps: list[tuple[int, bool, bool]], per_kick: int
) -> None:
    config = E1000DriverConfig(ring_size=32, frames_per_kick=per_kick)
    guest, other = Guest(config), Guest(config)
    sent: list[bytes] = []
    got: list[bytes] = []
    for count, carry, serve in [*steps, (1, True, True)]:
        batch = [frame(60 + (len(sent) + n) % 900, MAC, PEER) for n in range(count)]
        sent += batch[: guest.send(batch)]
        if carry:
            burst = Burst()
            while n := guest.machine.device.transmit.fetch(burst, 256):
                burst.send_all_to(PORT)
                reached = other.machine.device.deliver(burst, 0, PORT)
                while reached < n:
                    got += other.interrupt() + other.receive()
                    reached = other.machine.device.deliver(burst, reached, PORT)
                guest.machine.device.transmit.complete(burst)
        if serve:
            got += other.interrupt()
    got += other.receive()
    assert got == sent


def test_multicast_frames_come_only_when_a_group_is_asked_for(guest: Guest) -> None:
    group = bytes.fromhex("01005e0000fb")
    seen = []
    for groups in ([], [group], []):
        guest.driver.set_multicast(groups)
        guest.machine.deliver(frame(60, group))
        seen.append(len(guest.receive()))
    assert seen == [0, 1, 0]
