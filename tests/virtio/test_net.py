"""The network device: what it offers, when it goes live, what it counts and how its rings break it."""

import pytest

from testbed.errors import GuestError
from testbed.native import FLOOD, Burst, FrameStore
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from testbed.virtio.device import QueueConfig
from testbed.virtio.device_queue import build_device_queue
from testbed.virtio.net_config import NetConfig
from tests.support.strict_memory import StrictMemory
from tests.virtio.net_bench import MAC, RX_QUEUE, SIZE, TX_QUEUE, NetBench, raw_frame

LIVE_AND_BROKEN = 0xF | spec.STATUS_DEVICE_NEEDS_RESET


@pytest.fixture
def bench() -> NetBench:
    return NetBench()


def test_net_offers_only_what_the_topology_allows() -> None:
    always = (spec.F_VERSION_1, net.F_MAC, net.F_STATUS, net.F_MTU, net.F_SPEED_DUPLEX)
    bare = NetConfig("g.nic0", MAC, indirect=False, event_idx=False, mrg_rxbuf=False)
    assert bare.features == sum(1 << bit for bit in always)
    full = NetConfig("g.nic0", MAC, packed=True, in_order=True)
    optional = (
        spec.F_INDIRECT_DESC, spec.F_EVENT_IDX, net.F_MRG_RXBUF, spec.F_RING_PACKED, spec.F_IN_ORDER,
    )  # fmt: skip
    assert full.features == bare.features | sum(1 << bit for bit in optional)


def test_net_configuration_space_is_the_standard_s(bench: NetBench) -> None:
    """§5.1.4: mac, status, max_virtqueue_pairs, mtu, speed, duplex; typed by hand."""
    image = MAC + b"\x01\x00" + b"\x01\x00" + (1500).to_bytes(2, "little") + b"\x10\x27\x00\x00" + b"\x01"
    assert bench.net.config_read(0, len(image)) == image
    assert bench.net.config_read(len(image) - 1, 4) == b"\x01\0\0\0"
    assert bench.net.config_read(200, 2) == b"\0\0"


def test_net_configuration_space_is_read_only(bench: NetBench) -> None:
    bench.net.config_write(0, b"\xff")
    assert bench.net.config_read(0, 6) == MAC
    assert bench.counter("fault_register") == 1


def test_net_link_change_is_told_to_driver_and_bridge(bench: NetBench) -> None:
    bench.up()
    bench.net.set_link(False)
    assert bench.net.config_read(6, 2) == b"\0\0"
    assert not bench.net.receiving
    assert (bench.changes, bench.edge.pulses) == (2, 1)
    bench.net.set_link(False)
    assert bench.changes == 2
    bench.net.set_link(True)
    assert bench.net.receiving


def test_net_before_its_driver_is_up_moves_nothing(bench: NetBench) -> None:
    assert (len(bench.net.sources), len(bench.net.room), bench.net.receiving) == (0, 0, False)
    assert bench.net.deliver(_frames(2), 0, 1) == 2
    assert bench.counter("dropped_device_broken") == 2


def test_net_going_live_and_reset_are_told_once_each(bench: NetBench) -> None:
    bench.up()
    assert (bench.changes, len(bench.net.room)) == (1, 1)
    for _ in range(3):
        bench.net.device.write_status(0)
    assert (bench.changes, len(bench.net.room)) == (2, 0)
    assert len(bench.net.sources) == 0


def test_net_frames_go_out_and_their_buffers_come_back(bench: NetBench) -> None:
    bench.up()
    bench.transmit(raw_frame(1), raw_frame(2))
    burst = Burst()
    assert bench.pair.fetch(burst, 256) == 2
    assert [burst.frame_bytes(i) for i in range(2)] == [raw_frame(1), raw_frame(2)]
    assert bench.tx.used_idx == 0
    bench.pair.complete(burst)
    assert bench.tx.used_idx == 2
    assert (bench.counter("calls"), bench.net.device.interrupt_status) == (1, spec.INTERRUPT_USED)


def test_net_frames_come_in_with_a_call(bench: NetBench) -> None:
    bench.up()
    bench.post(2)
    assert bench.net.deliver(_frames(3), 0, 1) == 2
    assert bench.rx.used_idx == 2
    assert (bench.counter("frames_out"), bench.counter("calls"), bench.edge.pulses) == (2, 1, 1)


def test_net_call_is_not_made_where_the_driver_does_not_want_it(bench: NetBench) -> None:
    bench.up()
    bench.rx.avail_flags = spec.AVAIL_F_NO_INTERRUPT
    bench.post(1)
    bench.net.deliver(_frames(1), 0, 1)
    assert bench.edge.pulses == 0


def test_net_without_a_link_drops_both_ways_and_counts(bench: NetBench) -> None:
    bench.up()
    bench.net.set_link(False)
    bench.post(1)
    bench.transmit(raw_frame(1))
    assert bench.net.deliver(_frames(1), 0, 1) == 1
    assert bench.pair.fetch(Burst(), 256) == 0
    assert bench.counter("dropped_link_down") == 2
    assert (bench.rx.used_idx, bench.tx.used_idx) == (0, 1)


def test_net_fault_of_an_empty_transmit_queue_ends_the_device(bench: NetBench) -> None:
    bench.up()
    bench.tx.avail_idx = SIZE + 1
    assert bench.pair.fetch(Burst(), 256) == 0
    assert bench.net.device.status == LIVE_AND_BROKEN
    assert (bench.counter("fault_avail_jump"), bench.changes) == (1, 2)
    assert (bench.pair.watched, bench.net.receiving) == (None, False)
    assert bench.pair.fetch(Burst(), 256) == 0


def test_net_fault_behind_good_frames_ends_the_device_once_they_are_sent(bench: NetBench) -> None:
    bench.up()
    bench.transmit(raw_frame(1))
    bench.tx.set_head(1, SIZE)  # a head that no table has
    bench.tx.avail_idx = 2
    burst = Burst()
    assert bench.pair.fetch(burst, 256) == 1
    assert bench.net.device.active
    bench.pair.complete(burst)
    assert bench.net.device.status == LIVE_AND_BROKEN
    assert (bench.tx.used_idx, bench.counter("fault_head_range"), bench.changes) == (1, 1, 2)


def test_net_fault_of_the_receive_queue_ends_the_device(bench: NetBench) -> None:
    bench.up()
    bench.post(1)
    bench.rx.describe(0, 1 << 40, 2048, spec.DESC_F_WRITE)
    assert bench.net.deliver(_frames(3), 0, 1) == 3
    assert bench.net.device.status == LIVE_AND_BROKEN
    assert (bench.counter("fault_address"), bench.counter("dropped_device_broken")) == (1, 3)
    bench.net.deliver(_frames(2), 0, 1)
    assert bench.counter("dropped_device_broken") == 5


def test_net_broken_device_comes_back_by_reset(bench: NetBench) -> None:
    bench.up()
    bench.tx.avail_idx = SIZE + 1
    bench.pair.fetch(Burst(), 256)
    bench.tx.avail_idx = 0
    bench.net.device.write_status(0)
    bench.up()
    assert bench.net.device.status == 0xF
    assert bench.net.receiving


@pytest.mark.parametrize("missing", [RX_QUEUE, TX_QUEUE])
def test_net_driver_ok_without_both_queues_needs_a_reset(bench: NetBench, missing: int) -> None:
    bench.up(missing=missing)
    assert bench.net.device.status == LIVE_AND_BROKEN
    assert bench.counter("fault_register") == 1
    assert (len(bench.net.sources), len(bench.net.room), bench.net.receiving) == (0, 0, False)


DESC, DRIVER, DEVICE = 0x4000_0000, 0x4000_1000, 0x4000_2000


@pytest.mark.parametrize(
    ("packed", "config", "reason"),
    [
        (False, QueueConfig(8, DESC, DRIVER, DEVICE, ready=False), "register"),
        (False, QueueConfig(6, DESC, DRIVER, DEVICE, ready=True), "register"),
        (False, QueueConfig(8, DESC + 8, DRIVER, DEVICE, ready=True), "alignment"),
        (False, QueueConfig(8, DESC, DRIVER + 1, DEVICE, ready=True), "alignment"),
        (False, QueueConfig(8, DESC, DRIVER, DEVICE + 2, ready=True), "alignment"),
        (True, QueueConfig(6, DESC, DRIVER + 2, DEVICE, ready=True), "alignment"),
        (False, QueueConfig(8, DESC, DRIVER, 0x4001_0000, ready=True), "address"),
        (False, QueueConfig(8, (1 << 64) - 16, DRIVER, DEVICE, ready=True), "address"),
        (True, QueueConfig(32768, DESC, DRIVER, DEVICE, ready=True), "address"),
    ],
)
def test_device_queue_that_cannot_be_is_a_guest_error(packed: bool, config: QueueConfig, reason: str) -> None:
    bench, memory = NetBench(), StrictMemory(0x1_0000)
    features = 1 << spec.F_RING_PACKED if packed else 0
    with pytest.raises(GuestError) as refused:
        build_device_queue(config, features, memory.regions, bench.counters, 0, merge=False)
    assert refused.value.reason == reason


def _frames(count: int) -> Burst:
    store = FrameStore()
    store.load([raw_frame(n) for n in range(count)])
    store.send_all_to(FLOOD)
    return store
