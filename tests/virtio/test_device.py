"""The transport-free device: status machine, feature negotiation, queue set-up, causes of interrupts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import GuestError
from testbed.spec import virtio as spec
from tests.virtio.bench import (
    ACKNOWLEDGE,
    DRIVER_OK,
    EVENT_IDX,
    FAILED,
    FEATURES_OK,
    FOUND,
    LIVE,
    NEEDS_RESET,
    QUEUE_SIZE,
    READY,
    VERSION_1,
    Bench,
)  # fmt: skip


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_device_honest_driver_goes_live_with_what_it_accepted(bench: Bench) -> None:
    bench.go(ACKNOWLEDGE, FOUND)
    bench.accept(VERSION_1 | EVENT_IDX)
    assert (bench.go(READY), bench.device.active) == (READY, False)
    assert (bench.go(LIVE), bench.device.active) == (LIVE, True)
    assert [features for features, _ in bench.backend.activations] == [VERSION_1 | EVENT_IDX]
    assert bench.faults.reasons == []


def test_device_status_zero_forgets_everything(bench: Bench) -> None:
    device = bench.live()
    device.raise_interrupt(spec.INTERRUPT_USED)
    assert bench.go(0) == 0
    assert (device.active, device.interrupt_status, bench.backend.resets) == (False, 0, 1)
    assert bench.go(ACKNOWLEDGE, FOUND, READY) == FOUND  # its features are forgotten, too
    assert bench.faults.reasons == ["register"]


def test_device_status_bits_are_only_ever_set(bench: Bench) -> None:
    device = bench.live()
    assert bench.go(ACKNOWLEDGE) == LIVE
    assert device.active
    assert bench.faults.reasons == ["register"]


def test_device_driver_cannot_set_needs_reset_nor_reserved_bits(bench: Bench) -> None:
    assert bench.go(ACKNOWLEDGE | NEEDS_RESET | 0x30) == ACKNOWLEDGE


def test_device_driver_that_gives_up_is_seen_to(bench: Bench) -> None:
    assert bench.go(ACKNOWLEDGE, FOUND | FAILED) == FOUND | FAILED
    assert bench.backend.activations == []


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (VERSION_1 | 1 << spec.F_RING_PACKED, "was not offered"),
        (EVENT_IDX, "without VERSION_1"),
        (0, "nothing at all"),
    ],
)
def test_device_refuses_features(bench: Bench, features: int, why: str) -> None:
    bench.go(ACKNOWLEDGE, FOUND)
    bench.accept(features)
    assert bench.go(READY) == FOUND, why
    assert bench.go(LIVE) == FOUND
    assert bench.backend.activations == []
    assert bench.faults.reasons == ["register"] * 3  # the features twice, then DRIVER_OK without them


def test_device_refuses_features_beyond_every_word(bench: Bench) -> None:
    bench.go(ACKNOWLEDGE, FOUND)
    bench.accept(VERSION_1)
    bench.device.set_driver_features(2, 1)
    assert bench.go(READY) == FOUND


def test_device_zeros_beyond_every_word_are_no_feature(bench: Bench) -> None:
    bench.go(ACKNOWLEDGE, FOUND)
    bench.accept(VERSION_1)
    bench.device.set_driver_features(0xFFFF_FFFF, 0)
    assert bench.go(READY) == READY


def test_device_features_can_be_tried_again_until_they_are_accepted(bench: Bench) -> None:
    bench.go(ACKNOWLEDGE, FOUND)
    bench.accept(0)
    assert bench.go(READY) == FOUND
    bench.accept(VERSION_1)
    assert bench.go(READY) == READY


def test_device_features_are_fixed_once_accepted(bench: Bench) -> None:
    bench.live()
    bench.device.set_driver_features(0, 0)
    assert bench.faults.reasons == ["register"]


def test_device_driver_ok_without_features_ok_is_refused(bench: Bench) -> None:
    bench.accept(VERSION_1)
    assert bench.go(FOUND | DRIVER_OK) == FOUND
    assert not bench.device.active


def test_device_everything_in_one_write_is_taken_in_the_standard_s_order(bench: Bench) -> None:
    bench.accept(VERSION_1)
    assert bench.go(LIVE) == LIVE
    assert bench.device.active


def test_device_driver_ok_twice_activates_once(bench: Bench) -> None:
    bench.live()
    bench.go(LIVE)
    assert len(bench.backend.activations) == 1


def test_device_whose_queues_cannot_be_used_needs_a_reset(bench: Bench) -> None:
    bench.backend.refusal = GuestError("alignment", "a queue at 0x1")
    bench.accept(VERSION_1)
    assert bench.go(LIVE) == LIVE | NEEDS_RESET
    assert not bench.device.active
    assert bench.device.interrupt_status == spec.INTERRUPT_CONFIG
    assert (bench.edge.pulses, bench.faults.reasons) == (1, ["alignment"])


def test_device_that_breaks_twice_interrupts_once_and_counts_both(bench: Bench) -> None:
    device = bench.live()
    device.break_down("loop", "a chain that ends nowhere")
    device.break_down("loop", "again")
    assert device.status == LIVE | NEEDS_RESET
    assert not device.active
    assert (bench.edge.pulses, bench.faults.reasons) == (1, ["loop", "loop"])
    assert bench.go(0) == 0


def test_device_that_breaks_before_driver_ok_does_not_interrupt(bench: Bench) -> None:
    bench.device.break_down("loop", "early")
    assert (bench.device.status, bench.edge.pulses) == (NEEDS_RESET, 0)


def test_device_queue_is_ready_with_a_size_that_it_may_have(bench: Bench) -> None:
    queue = bench.device.queue(1)
    assert queue is not None
    queue.size = QUEUE_SIZE
    states = []
    for ready in (True, False):
        bench.device.set_queue_ready(1, ready)
        states.append(queue.ready)
    assert states == [True, False]
    assert bench.faults.reasons == []


@pytest.mark.parametrize("size", [0, QUEUE_SIZE + 1, 0xFFFF_FFFF])
def test_device_queue_of_an_impossible_size_is_not_ready(bench: Bench, size: int) -> None:
    queue = bench.device.queue(0)
    assert queue is not None
    queue.size = size
    bench.device.set_queue_ready(0, True)
    assert not queue.ready
    assert bench.faults.reasons == ["register"]


def test_device_queue_that_does_not_exist_is_none(bench: Bench) -> None:
    assert bench.device.queue(2) is None
    bench.device.set_queue_ready(2, True)
    assert bench.faults.reasons == ["register"]


def test_device_queue_of_a_live_device_is_fixed(bench: Bench) -> None:
    device = bench.live()
    device.set_queue_ready(0, False)
    assert bench.faults.reasons == ["register"]


def test_device_causes_stay_until_they_are_acknowledged(bench: Bench) -> None:
    device = bench.live()
    device.raise_interrupt(spec.INTERRUPT_USED)
    device.raise_interrupt(spec.INTERRUPT_CONFIG)
    device.acknowledge(spec.INTERRUPT_USED)
    assert device.interrupt_status == spec.INTERRUPT_CONFIG
    device.acknowledge(0xFFFF_FFFF)
    assert (device.interrupt_status, bench.edge.pulses) == (0, 2)


def test_device_configuration_change_is_told_to_a_live_driver_only(bench: Bench) -> None:
    bench.device.config_changed()
    assert bench.edge.pulses == 0
    bench.live().config_changed()
    assert (bench.edge.pulses, bench.device.config_generation) == (1, 2)


@given(st.lists(st.integers(0, 0xFF), max_size=12), st.integers(0, (1 << 64) - 1))
def test_device_any_status_writes_keep_the_machine_s_rules(writes: list[int], features: int) -> None:
    bench = Bench()
    bench.accept(features)
    for value in writes:
        before = bench.device.status
        bench.device.write_status(value)
        now = bench.device.status
        assert now == 0 if value == 0 else now & before == before
        assert now & ~(before | value) == 0
        assert not now & DRIVER_OK or now & FEATURES_OK
        assert bench.device.active == bool(now & DRIVER_OK)
