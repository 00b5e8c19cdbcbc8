"""Several queue pairs and the control queue: which pairs are used, which commands are refused."""

import pytest

from testbed.native import FLOOD, Burst, FrameStore
from testbed.spec import virtio as spec
from testbed.spec import virtio_net as net
from tests.virtio.net_bench import NetBench, raw_frame

PAIRS = 3
CONTROL = 2 * PAIRS
VQ_PAIRS_SET = bytes([4, 0])
"""§5.1.6.5.5: VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET; typed from the standard."""
OK, ERR = 0, 1


def pairs_set(pairs: int) -> bytes:
    """Return the command that asks for so many pairs."""
    return VQ_PAIRS_SET + pairs.to_bytes(2, "little")


@pytest.fixture
def bench() -> NetBench:
    bench = NetBench(PAIRS)
    bench.up()
    return bench


def test_queues_feature_bits_bring_a_control_queue(bench: NetBench) -> None:
    assert bench.net.features >> net.F_MQ & bench.net.features >> net.F_CTRL_VQ & 1
    assert len(bench.net.queue_sizes) == 2 * PAIRS + 1
    assert bench.net.config_read(8, 2) == PAIRS.to_bytes(2, "little")


def test_queues_first_pair_alone_is_used_until_the_driver_says_so(bench: NetBench) -> None:
    assert (len(bench.net.room), len(bench.net.services)) == (1, 1)


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_queues_command_uses_so_many_pairs(bench: NetBench, pairs: int) -> None:
    assert bench.command(pairs_set(pairs)) == OK
    assert len(bench.net.room) == pairs
    assert bench.net.device.active


@pytest.mark.parametrize(
    "command",
    [
        pairs_set(0),
        pairs_set(PAIRS + 1),
        pairs_set(0x8000),
        pairs_set(2)[:3],
        pairs_set(2) + b"\0",
        b"\x04",
        bytes([4, 1, 2, 0]),  # RSS_CONFIG, which is not offered
        bytes([0, 0, 2, 0]),  # VIRTIO_NET_CTRL_RX_PROMISC
        bytes(4000),
    ],
)
def test_queues_any_other_command_is_refused(bench: NetBench, command: bytes) -> None:
    assert bench.command(command) == ERR
    assert len(bench.net.room) == 1
    assert bench.net.device.active


def test_queues_one_command_is_carried_out_a_turn(bench: NetBench) -> None:
    for pairs in (2, 3):
        bench.offer_command(pairs_set(pairs))
    ((_, serve),) = bench.net.services
    used = []
    for _ in range(3):
        used.append((serve(), len(bench.net.room)))
    assert used == [(True, 2), (True, 3), (False, 3)]


def test_queues_command_without_room_for_its_answer_ends_the_device(bench: NetBench) -> None:
    bench.control.describe(0, bench.memory.base, 4)
    bench.control.offer(0)
    ((_, serve),) = bench.net.services
    assert not serve()
    assert bench.net.device.status & spec.STATUS_DEVICE_NEEDS_RESET
    assert bench.counter("fault_header") == 1
    assert (len(bench.net.services), len(bench.net.room)) == (0, 0)


def test_queues_pair_that_fell_out_of_use_still_gives_its_buffers_back(bench: NetBench) -> None:
    bench.command(pairs_set(3))
    bench.transmit(raw_frame(1), pair=2)
    burst, source = Burst(), bench.net.sources[2]
    assert source.fetch(burst, 256) == 1
    bench.command(pairs_set(1))
    assert source in bench.net.sources
    source.complete(burst)
    assert bench.rings[5].used_idx == 1


def test_queues_pair_that_is_not_ready_is_not_offered() -> None:
    bench = NetBench(PAIRS)
    bench.up(missing=3)
    assert len(bench.net.sources) == 2
    assert bench.command(pairs_set(3)) == ERR


def test_queues_driver_without_mq_has_one_pair() -> None:
    bench = NetBench(PAIRS)
    bench.up(features=1 << spec.F_VERSION_1)
    assert (len(bench.net.sources), len(bench.net.services)) == (1, 0)


def test_queues_flow_arrives_at_one_queue_whatever_else_does(bench: NetBench) -> None:
    bench.command(pairs_set(3))
    for pair in range(PAIRS):
        bench.post(2, pair=pair)
    frames = FrameStore()
    frames.load([raw_frame(7), raw_frame(7)])
    frames.send_all_to(FLOOD)
    assert bench.net.deliver(frames, 0, 1) == 2
    assert sorted(bench.rings[2 * pair].used_idx for pair in range(PAIRS)) == [0, 0, 2]


def test_queues_fault_of_any_receive_queue_ends_the_device(bench: NetBench) -> None:
    bench.command(pairs_set(3))
    for pair in range(PAIRS):
        bench.rings[2 * pair].avail_idx = 0x8000
    frames = FrameStore()
    frames.load([raw_frame(7)])
    frames.send_all_to(FLOOD)
    assert bench.net.deliver(frames, 0, 1) == 1
    assert bench.net.device.status & spec.STATUS_DEVICE_NEEDS_RESET
    assert (bench.counter("fault_avail_jump"), bench.counter("dropped_device_broken")) == (1, 1)
