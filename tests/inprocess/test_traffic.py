"""Traffic between guests of one host, driver to driver through real rings: nothing is lost or changed."""

from pathlib import Path
from typing import Any, Final

import pytest

from testbed.messages.control import Received
from tests.inprocess.machine import HostMachine

CAPTURE: Final = Path(__file__).parents[2] / "configs" / "captures" / "lan-mix.pcap"
CAPTURE_FRAMES: Final = 11_058
SIZES: Final = (60, 1514, 61, 590)
RINGS: Final[dict[str, dict[str, Any]]] = {
    "split": {},
    "split-flags": {"event_idx": False},
    "split-indirect": {"segments": 3},
    "split-chains": {"segments": 3, "indirect": False},
    "split-no-merge": {"mrg_rxbuf": False},
    "split-in-order": {"in_order": True, "segments": 2},
    "packed": {"ring": "packed"},
    "packed-flags": {"ring": "packed", "event_idx": False},
    "packed-indirect": {"ring": "packed", "segments": 4},
    "packed-chains": {"ring": "packed", "segments": 4, "indirect": False},
    "packed-in-order": {"ring": "packed", "in_order": True},
    "packed-in-order-chains": {"ring": "packed", "in_order": True, "segments": 3, "indirect": False},
    "two-entries": {"queue_size": 2},
    "split-pairs": {"queue_pairs": 3},
    "packed-pairs": {"queue_pairs": 4, "ring": "packed", "segments": 3},
}


def sound(received: Received, frames: int) -> bool:
    """Every frame arrived once, whole and in order."""
    faults = received.reordered + received.corrupted + received.duplicated
    return received.received == frames and not faults


@pytest.mark.parametrize("ring", RINGS)
def test_traffic_generated_frames_arrive(ring: str) -> None:
    host = HostMachine("a", "b", **RINGS[ring])
    sent, received = host.run(host.flow("a", "b", count=700, frame_bytes=SIZES))
    assert sent.sent == 700
    assert sound(received, 700)
    assert received.bytes == 700 * sum(SIZES) // len(SIZES)


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_traffic_requests_are_answered(ring: str) -> None:
    host = HostMachine("a", "b", **RINGS[ring])
    sent, received = host.run(host.flow("a", "b", kind="rr", count=50))
    assert (sent.sent, sent.answered) == (50, 50)
    assert sound(received, 50)
    assert sent.latency_ns == {"p50": 0, "p99": 0, "p999": 0}  # the clock stands still


def test_traffic_capture_is_replayed_frame_by_frame() -> None:
    host = HostMachine("a", "b")
    sent, received = host.run(host.flow("a", "b", kind="replay", capture=str(CAPTURE), loops=2, count=0))
    assert sent.sent == 2 * CAPTURE_FRAMES
    assert sound(received, 2 * CAPTURE_FRAMES)


def test_traffic_of_every_guest_to_every_other_at_once() -> None:
    names = ("a", "b", "c", "d")
    host = HostMachine(*names, queue_size=16)
    pairs = [(s, d) for s in names for d in names if s != d]
    flows = [host.flow(s, d, number) for number, (s, d) in enumerate(pairs, start=1)]
    host.start(*flows)
    assert all(sound(host.finish(flow)[1], 100) for flow in flows)


def test_traffic_both_kinds_of_ring_on_one_bridge() -> None:
    host = HostMachine("a", "b", "c", nics={"b": {"ring": "packed"}})
    assert host.guest("a").driver.features != host.guest("b").driver.features
    flows = [host.flow("a", "b", 1), host.flow("b", "c", 2), host.flow("c", "a", 3)]
    host.start(*flows)
    assert all(sound(host.finish(flow)[1], 100) for flow in flows)


def test_traffic_by_duration_ends_when_the_time_is_over() -> None:
    host = HostMachine("a", "b", queue_size=16)
    flow = host.flow("a", "b", count=0, duration_ns=1_000)
    host.start(flow)
    a, b = host.guests
    for _ in range(5):
        a.turn()
        host.turn()
        b.turn()
        host.clock.advance(250)
    sent, received = host.finish(flow)
    assert sent.sent > 0
    assert sound(received, sent.sent)


def test_traffic_broadcast_reaches_every_guest_of_a_large_host() -> None:
    names = [f"g{number}" for number in range(70)]
    host = HostMachine(*names, queue_size=8)
    flow = host.flow("g0", "g1", destination_mac="ff:ff:ff:ff:ff:ff", count=20)
    _, received = host.run(flow)
    assert sound(received, 20)
    foreign = [guest.counters["nic0.foreign_frames"] for guest in host.guests]
    assert foreign == [0, 0] + [20] * 68


def test_traffic_wakes_nobody_who_is_awake() -> None:
    host = HostMachine("a", "b")
    host.run(host.flow("a", "b", count=5_000))
    # a ring whose event index nobody has written yet asks for its first entry
    assert host.guest("a").counters["exits.doorbell"] <= 1
    assert host.counters["b.nic0.calls"] <= 1
