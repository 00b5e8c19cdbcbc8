"""What may go wrong on a host: guests that break rules, take no frames, reset or lose their link midway."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.errors import DeviceError
from testbed.guest.drivers.virtio_mmio import VirtioMmioPort
from testbed.messages.control import Received
from testbed.spec import vcpu_page
from testbed.spec import virtio as spec
from tests.inprocess.machine import MMIO_GPA, STALL_NS, GuestMachine, HostMachine

RINGS: Final = ["split", "packed"]
TX_QUEUE: Final = 1
WORD: Final = st.integers(0, (1 << 64) - 1)


def sound(received: Received, frames: int) -> bool:
    """Every frame arrived once, whole and in order."""
    faults = received.reordered + received.corrupted + received.duplicated
    return received.received == frames and not faults


def ring_base(guest: GuestMachine, queue: int) -> int:
    """Return where a queue of the guest's device begins."""
    config = guest.device.device.queue(queue)
    assert config is not None
    return config.desc


def scribble(guest: GuestMachine, gpa: int, words: list[int]) -> None:
    """Overwrite the guest's memory by 64-bit words."""
    for index, word in enumerate(words):
        guest.vcpu.store(gpa + 8 * index, word, 8)


def break_transmit_ring(guest: GuestMachine) -> None:
    """Move every buffer that is available to where no guest has RAM."""
    base = ring_base(guest, TX_QUEUE)
    for entry in range(guest.nic.queue_size):
        guest.vcpu.store(base + 16 * entry + spec.VIRTQ_DESC.offset("addr"), 1 << 45, 8)


def interrupt(guest: GuestMachine) -> bool:
    """Have the driver handle its interrupt."""
    return guest.driver.handle_interrupt()


@pytest.mark.parametrize("ring", RINGS)
def test_link_that_goes_down_midway_drops_counts_and_comes_back(ring: str) -> None:
    host = HostMachine("a", "b", ring=ring, queue_size=16)
    a, b = host.guests
    flow = host.flow("a", "b", count=200)
    host.start(flow)
    for _ in range(4):
        a.turn()
        host.turn()
        b.turn()
    b.device.set_link(False)
    interrupt(b)
    assert not b.driver.link_up
    sent, received = host.finish(flow)
    assert sent.sent == 200
    dropped = a.dropped("no_receiver") + b.dropped("link_down")
    assert received.received + dropped == 200
    b.device.set_link(True)
    interrupt(b)
    assert sound(host.run(host.flow("a", "b", 2))[1], 100)


def test_link_of_the_sender_that_goes_down_loses_no_buffer() -> None:
    host = HostMachine("a", "b", queue_size=16)
    a, _ = host.guests
    for number in range(1, 6):
        a.device.set_link(False)
        host.run(host.flow("a", "b", 2 * number))
        a.device.set_link(True)
        assert sound(host.run(host.flow("a", "b", 2 * number + 1))[1], 100)
    assert a.dropped("link_down") == 500


@pytest.mark.parametrize("ring", RINGS)
def test_sender_that_is_rebooted_midway_sends_again_and_disturbs_nobody(ring: str) -> None:
    host = HostMachine("a", "b", "c", ring=ring, queue_size=16)
    a, b, c = host.guests
    host.start(host.flow("a", "b", 1), others := host.flow("c", "b", 2, count=400))
    for _ in range(3):  # b takes nothing: a has a burst in flight
        a.turn()
        c.turn()
        host.turn()
    a.boot()
    assert sound(host.finish(others)[1], 400)
    assert sound(host.run(host.flow("a", "b", 3))[1], 100)
    assert a.device.device.status == 0xF
    assert b.dropped("device_broken") > 0


@pytest.mark.parametrize("ring", RINGS)
def test_receiver_that_is_rebooted_midway_receives_again(ring: str) -> None:
    host = HostMachine("a", "b", "c", ring=ring, queue_size=16)
    a, b, c = host.guests
    flow = host.flow("a", "b", 1, count=100)
    host.start(flow, others := host.flow("a", "c", 2, count=100))
    for _ in range(3):
        a.turn()
        host.turn()
        c.turn()
    b.boot()
    host.settle()
    assert sound(host.finish(others)[1], 100)
    assert sound(host.run(host.flow("a", "b", 3))[1], 100)


@pytest.mark.parametrize("ring", RINGS)
def test_hostile_ring_ends_its_own_device_and_nothing_else(ring: str) -> None:
    host = HostMachine("a", "b", "c", ring=ring, indirect=False)
    a, _, c = host.guests
    flow = host.flow("b", "c", 1, count=1_000)
    host.start(flow, host.flow("a", "c", 2, count=1_000))
    a.turn()
    break_transmit_ring(a)
    assert sound(host.finish(flow)[1], 1_000)
    assert a.faults("address") == 1
    assert ("a.nic0", "address") in host.reports.seen
    assert a.device.device.status & spec.STATUS_DEVICE_NEEDS_RESET
    with pytest.raises(DeviceError, match=r"asks for a reset \(DEVICE_NEEDS_RESET\)$"):
        interrupt(a)
    a.boot()
    assert sound(host.run(host.flow("a", "c", 3))[1], 100)
    assert c.device.device.status == 0xF


@pytest.mark.parametrize("ring", RINGS)
def test_receiver_that_never_drains_stops_nobody_for_long(ring: str) -> None:
    host = HostMachine("a", "b", "c", ring=ring, queue_size=16)
    a, b, c = host.guests
    host.start(flow := host.flow("a", "b", 1, count=100), toward_c := host.flow("a", "c", 2, count=100))
    host.settle(a, c)
    assert len(a.runnable) == 2  # the flow to b is stuck, and the other behind it
    host.clock.advance(STALL_NS)
    host.datapath.tick()
    host.settle(a, c)
    assert a.runnable == {}
    assert sound(host.finish(toward_c)[1], 100)
    _, received = host.finish(flow)
    assert b.dropped("stalled") == 100 - received.received
    assert sound(host.run(host.flow("a", "b", 3))[1], 100)  # b drains now, and is waited for again


def test_receiver_that_never_drains_costs_a_broadcast_one_wait() -> None:
    host = HostMachine("a", "b", "c", queue_size=8)
    a, b, c = host.guests
    flow = host.flow("a", "c", destination_mac="ff:ff:ff:ff:ff:ff", count=200)
    host.start(flow)
    host.settle(a, c)
    host.clock.advance(STALL_NS)
    host.datapath.tick()
    host.settle(a, c)
    assert c.receiver.sinks[1].received == 200
    assert b.dropped("stalled") == 200 - 8


def test_guest_that_floods_exits_takes_one_a_turn() -> None:
    def turns(flooding: bool) -> int:
        host = HostMachine("a", "b", "c")
        flow = host.flow("b", "c", count=2_000)
        host.start(flow)
        taken = 0
        while host.guest("c").receiver.sinks[1].received < 2_000:
            if flooding:
                _leave_without_waiting(host.guest("a"), taken + 1)
            for guest in host.guests[1:]:
                guest.turn()
            host.turn()
            taken += 1
        return taken

    assert turns(flooding=True) == turns(flooding=False)


def _leave_without_waiting(guest: GuestMachine, number: int) -> None:
    page = guest.vcpu_segment.view
    offset = vcpu_page.VCPU_PAGE.offset("exit_request")
    page[offset : offset + 4] = (0x8000_0000 + number).to_bytes(4, "little")


@pytest.mark.parametrize(
    "member",
    ["exit_reply", "to_vcpu_armed", "doorbells", "run_state", "force_exit", "ich_lr", "ich_hcr", "ich_vmcr"],
)
def test_guest_that_writes_what_is_the_vmm_s_harms_only_itself(member: str) -> None:
    host = HostMachine("a", "b", "c")
    page, offset = host.guest("a").vcpu_segment.view, vcpu_page.VCPU_PAGE.offset(member)
    flow = host.flow("b", "c", count=500)
    host.start(flow)
    for step in range(20):
        page[offset : offset + 4] = (0xFFFF_FFFF - step).to_bytes(4, "little")
        _leave_without_waiting(host.guest("a"), step)
        host.turn()
    assert sound(host.finish(flow)[1], 500)


def test_driver_without_version_1_is_refused() -> None:
    host = HostMachine("a", boot=False)
    guest = host.guests[0]
    guest.power_on()
    port = VirtioMmioPort(guest.vcpu, MMIO_GPA)
    port.start(spec.DEVICE_ID_NET)
    with pytest.raises(DeviceError, match=r"^the device refuses features 0x20000000 of 0x"):
        port.negotiate(1 << spec.F_EVENT_IDX)
    assert guest.device.device.status & spec.STATUS_FAILED
    guest.boot()
    assert guest.device.device.status == 0xF


def test_driver_that_asks_for_another_device_finds_none() -> None:
    host = HostMachine("a", boot=False)
    guest = host.guests[0]
    guest.power_on()
    with pytest.raises(DeviceError, match=r"^no virtio device at 0xa000000"):
        VirtioMmioPort(guest.vcpu, MMIO_GPA).start(2)
    with pytest.raises(DeviceError, match=r"^no virtio device at 0xb000000"):
        VirtioMmioPort(guest.vcpu, 0x0B00_0000).start(spec.DEVICE_ID_NET)


ACCESSES: Final = st.lists(
    st.tuples(
        st.integers(0, spec.MMIO.size - 1),
        st.sampled_from([4, 4, 1, 2, 8]),
        st.one_of(st.none(), st.sampled_from([0, 1, 3, 0xB, 0xF, 0x4000_0000]), WORD),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=40)
@given(ACCESSES)
def test_any_register_accesses_leave_the_other_guests_alone(
    accesses: list[tuple[int, int, int | None]],
) -> None:
    host = HostMachine("a", "b", "c", queue_size=8)
    a = host.guest("a")
    flow = host.flow("b", "c", count=50)
    host.start(flow)
    for offset, size_bytes, value in accesses:
        if value is None:
            assert a.vcpu.load(MMIO_GPA + offset, size_bytes) < 1 << 8 * size_bytes
        else:
            a.vcpu.store(MMIO_GPA + offset, value & (1 << 8 * size_bytes) - 1, size_bytes)
        host.turn()
    assert sound(host.finish(flow)[1], 50)
    a.boot()
    assert sound(host.run(host.flow("a", "b", 2, count=20))[1], 20)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(RINGS),
    st.integers(0, 1),
    st.integers(0, 40),
    st.lists(st.one_of(WORD, st.sampled_from([0, 1 << 63, 0x4000_0000, 0x0001_0000_0800])), max_size=24),
)
def test_any_words_in_a_ring_leave_the_other_guests_alone(
    ring: str, queue: int, first: int, words: list[int]
) -> None:
    host = HostMachine("a", "b", "c", ring=ring, queue_size=8)
    a = host.guest("a")
    host.start(flow := host.flow("b", "c", count=50), host.flow("b", "a", 2, count=50))
    scribble(a, ring_base(a, queue) + 8 * first, words)
    for _ in range(4):
        host.turn()
    host.clock.advance(STALL_NS)
    host.datapath.tick()
    host.settle(*host.guests[1:])
    host.clock.advance(STALL_NS)
    host.datapath.tick()
    host.settle(*host.guests[1:])
    assert host.guest("c").receiver.sinks[flow.id].received == 50
    a.boot()
    assert sound(host.run(host.flow("a", "c", 3, count=20))[1], 20)
