"""The network driver against our device: what it brings up and counts, and devices that break rules."""

from typing import Any

import pytest

from testbed.errors import DeviceError, MachineError
from testbed.guest.drivers.driver import NetDriver
from testbed.native import FLOOD, Burst, FrameStore
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from tests.inprocess.machine import GuestMachine, HostMachine

FRAMES = [bytes([n]) * 60 for n in range(4)]


def guest(**nic: Any) -> GuestMachine:
    """Return a guest that is up."""
    return HostMachine("a", **nic).guests[0]


def used_ring(machine: GuestMachine, queue: int) -> int:
    """Return where a split queue's used ring is."""
    config = machine.device.device.queue(queue)
    assert config is not None
    return config.device


def arrive(machine: GuestMachine, *frames: bytes) -> int:
    """Have the device deliver frames; return how many had room."""
    store = FrameStore()
    store.load(frames)
    store.send_all_to(FLOOD)
    return machine.device.deliver(store, 0, 1)


def test_driver_reads_what_the_device_is() -> None:
    driver: NetDriver = guest(mtu=9000).driver
    assert (driver.mac, driver.mtu, driver.link_up) == (bytes.fromhex("020000000001"), 9000, True)


@pytest.mark.parametrize(
    ("nic", "bit", "accepted"),
    [
        ({}, spec.F_INDIRECT_DESC, True),
        ({"indirect": False}, spec.F_INDIRECT_DESC, False),
        ({"event_idx": False}, spec.F_EVENT_IDX, False),
        ({"mrg_rxbuf": False}, net.F_MRG_RXBUF, False),
        ({}, spec.F_RING_PACKED, False),
        ({"ring": "packed"}, spec.F_RING_PACKED, True),
        ({"in_order": True}, spec.F_IN_ORDER, True),
        ({"queue_pairs": 2}, net.F_MQ, True),
    ],
)
def test_driver_accepts_what_is_offered(nic: dict[str, Any], bit: int, accepted: bool) -> None:
    assert bool(guest(**nic).driver.features >> bit & 1) is accepted


@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_driver_uses_every_pair_of_queues(pairs: int) -> None:
    machine = guest(queue_pairs=pairs, queue_size=16)
    assert len(machine.driver.queues) == pairs
    assert machine.driver.queues[0] is machine.driver
    assert len(machine.device.room) == pairs


def test_driver_tells_of_a_device_that_refuses_the_pairs_it_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostMachine("a", boot=False, queue_pairs=2, queue_size=16)
    monkeypatch.setattr(host.guests[0].device, "_set_pairs", lambda _count: False)
    with pytest.raises(
        DeviceError, match=r"^virtio-net: the device refuses 2 queue pairs, which it offered$"
    ):
        host.guests[0].boot()


def test_driver_offers_every_receive_buffer_before_it_goes_live() -> None:
    machine = guest(queue_size=4)
    assert arrive(machine, *FRAMES, *FRAMES) == 4
    assert machine.counters["exits.doorbell"] == 0


def test_driver_counts_what_it_sends_and_receives() -> None:
    machine, burst = guest(), Burst()
    assert machine.driver.tx_reserve(burst, 2) == 2
    machine.driver.tx_release(burst, 2)
    machine.driver.tx_send(burst)
    arrive(machine, *FRAMES)
    assert machine.driver.rx_collect(burst) == 4
    assert [burst.frame_bytes(i) for i in range(4)] == FRAMES
    machine.driver.rx_refill(burst)
    assert machine.driver.rx_collect(burst) == 0
    counted = [machine.counters[f"nic0.{name}"] for name in ("tx_frames", "rx_frames", "rx_bytes")]
    assert counted == [2, 4, 240]


def test_driver_kicks_a_device_that_sleeps_and_no_other() -> None:
    machine, burst = guest(event_idx=False), Burst()
    for sleeps in (False, True):
        ring = machine.device.sources[0].tx
        (ring.arm if sleeps else ring.disarm)()
        machine.driver.tx_reserve(burst, 1)
        machine.driver.tx_send(burst)
    assert machine.counters["nic0.tx_kicks"] == 1
    assert machine.counters["exits.doorbell"] == 1


def test_driver_hears_of_its_link() -> None:
    machine = guest()
    machine.device.set_link(False)
    assert machine.driver.handle_interrupt()
    assert not machine.driver.link_up
    assert not machine.driver.handle_interrupt()


def test_driver_hears_that_its_device_needs_a_reset() -> None:
    machine = guest()
    machine.device.device.break_down("loop", "in the test")
    with pytest.raises(
        DeviceError, match=r"^virtio-net: the device asks for a reset \(DEVICE_NEEDS_RESET\)$"
    ):
        machine.driver.handle_interrupt()


def test_driver_interrupt_for_used_buffers_is_only_acknowledged() -> None:
    machine = guest()
    machine.device.device.raise_interrupt(spec.INTERRUPT_USED)
    assert machine.driver.handle_interrupt()
    assert machine.device.device.interrupt_status == 0


def test_driver_buffer_that_was_never_sent_is_not_taken_back() -> None:
    machine, burst = guest(queue_size=2), Burst()
    machine.driver.tx_reserve(burst, 2)
    machine.driver.tx_send(burst)
    used = used_ring(machine, 1)
    machine.vcpu.store(used + 4, 77, 4)
    machine.vcpu.store(used + 2, 1, 2)
    with pytest.raises(DeviceError, match="gave back a transmit buffer that it did not have"):
        machine.driver.tx_reserve(burst, 1)


def test_driver_received_buffer_that_it_never_had_is_told() -> None:
    machine = guest()
    used = used_ring(machine, 0)
    machine.vcpu.store(used + 4, 0xFFFF, 4)
    machine.vcpu.store(used + 2, 1, 2)
    with pytest.raises(DeviceError, match="gave back a receive buffer that it did not have"):
        machine.driver.rx_collect(Burst())


def test_driver_receive_queue_that_broke_behind_good_frames_is_told() -> None:
    machine, burst = guest(), Burst()
    arrive(machine, FRAMES[0])
    used = used_ring(machine, 0)
    machine.vcpu.store(used + 4 + 8, 0xFFFF, 4)
    machine.vcpu.store(used + 2, 2, 2)
    assert machine.driver.rx_collect(burst) == 1
    with pytest.raises(DeviceError, match="gave back a receive buffer that it did not have"):
        machine.driver.rx_refill(burst)


def test_driver_without_enough_ram_says_what_for() -> None:
    host = HostMachine("a", boot=False, queue_size=4096)
    with pytest.raises(MachineError, match=r"^4096 buffers of queue 1: needs \d+ bytes of the guest's RAM"):
        host.guests[0].boot()


def test_driver_boots_again_after_a_reset() -> None:
    machine = guest()
    for _ in range(3):
        machine.boot()
        assert arrive(machine, *FRAMES) == 4
        assert machine.driver.rx_collect(Burst()) == 4
