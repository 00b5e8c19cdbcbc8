"""Senders: what is due is sent where there is room, until the count or the time is reached, and told once."""

from pathlib import Path

import dpkt
import pytest

from testbed.errors import ConfigError, DeviceError
from testbed.guest.workloads.sender import Sender
from testbed.messages.control import Sent
from testbed.messages.entries import FlowEntry
from testbed.native import FRAMES_MAX
from tests.guest.rig_driver import DESTINATION_MAC, SOURCE_MAC, RigDriver, flow
from tests.support.recorders import ManualClock

SIZE = 64
MS_NS = 1_000_000


class Bench:
    """A sender on its ring; `device` takes what it sends."""

    def __init__(self, entry: FlowEntry, size: int = SIZE) -> None:
        self.clock, self.device, self.told = ManualClock(), RigDriver(size), list[Sent]()
        self.began_ns = self.clock()
        self.sender = Sender(entry, self.device, self.told.append, self.clock)
        self.sender.start()

    def step(self, after_ns: int = 0) -> int:
        """Let some time pass, take a step, and return how many frames came of it."""
        self.clock.advance(after_ns)
        moved = self.sender.step()
        frames = len(self.device.take_sent())
        assert moved or not frames
        return frames


def test_sender_ends_with_its_count() -> None:
    bench = Bench(flow(count=100), size=64)
    assert [bench.step(), bench.step()] == [64, 36]
    assert bench.sender.finished
    assert bench.told == [Sent(flow_id=7, sent=100, seconds=0.0)]


def test_sender_gives_a_burst_a_step_at_most() -> None:
    bench = Bench(flow(count=1_000), size=512)
    assert bench.step() == FRAMES_MAX


def test_sender_ends_with_its_time() -> None:
    bench = Bench(flow(count=0, duration_ns=10 * MS_NS))
    assert bench.step(9 * MS_NS) == SIZE
    assert bench.step(1 * MS_NS) == 0
    assert bench.told == [Sent(flow_id=7, sent=SIZE, seconds=0.01)]


def test_sender_without_room_waits_for_it_and_for_nothing_else() -> None:
    bench = Bench(flow(count=0, duration_ns=10 * MS_NS))
    bench.sender.step()
    assert not bench.sender.step()
    assert bench.sender.starved
    assert bench.sender.wake_ns() == bench.began_ns + 10 * MS_NS
    bench.device.take_sent()
    assert bench.step() == SIZE
    assert not bench.sender.starved


def test_sender_waits_for_more_room_than_a_few_frames() -> None:
    bench = Bench(flow(count=1_000))
    bench.step()
    bench.sender.step()
    bench.device.take_sent(at_most=10)
    assert not bench.sender.step()
    assert bench.sender.starved
    bench.device.take_sent(at_most=30)
    assert bench.sender.step()
    assert bench.sender.sent == SIZE + SIZE + 40


def test_sender_without_room_and_without_an_end_has_no_deadline() -> None:
    bench = Bench(flow(count=1_000))
    bench.sender.step()
    bench.sender.step()
    assert bench.sender.wake_ns() is None


def test_sender_at_a_rate_wakes_for_its_next_frame() -> None:
    bench = Bench(flow(count=0, duration_ns=10 * MS_NS, frames_per_second=1000.0))
    assert bench.step() == 1
    assert bench.sender.wake_ns() == bench.began_ns + MS_NS
    assert bench.step(MS_NS - 1) == 0
    assert not bench.sender.starved
    assert bench.step(1) == 1
    assert bench.step(3 * MS_NS) == 3


def test_sender_whose_frame_falls_due_after_its_look_wakes_at_once() -> None:
    bench = Bench(flow(count=0, duration_ns=1_000 * MS_NS, frames_per_second=1000.0))
    bench.step()
    assert bench.step(MS_NS - 1) == 0
    bench.clock.advance(1)  # between the step and the sleep
    assert bench.sender.wake_ns() == bench.clock()


def test_sender_at_a_rate_wakes_for_its_end() -> None:
    bench = Bench(flow(count=0, duration_ns=MS_NS // 2, frames_per_second=1000.0))
    bench.step()
    assert bench.sender.wake_ns() == bench.began_ns + MS_NS // 2


def test_sender_uses_its_frame_sizes_in_turn() -> None:
    device = RigDriver()
    sender = Sender(flow(count=4, frame_bytes=(60, 100, 1514)), device, lambda _sent: None)
    sender.step()
    assert [len(frame) for frame in device.take_sent()] == [60, 100, 1514, 60]


def test_sender_replays_a_capture_as_often_as_it_shall(tmp_path: Path) -> None:
    path = tmp_path / "small.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for second in range(3):
            writer.writepkt(b"\2" * 12 + b"\x08\x00" + bytes([second]), float(second))
    bench = Bench(flow(kind="replay", capture=str(path), loops=2, count=0))
    sent = [bench.sender.step(), bench.device.take_sent()]
    ends = DESTINATION_MAC + SOURCE_MAC + b"\x08\x00"
    assert sent == [True, [ends + bytes([second % 3]) for second in range(6)]]
    assert bench.told[0].sent == 6
    timed = Bench(flow(kind="replay", capture=str(path), loops=2, count=0, captured_times=True))
    assert [timed.step(second) for second in (0, 10**9, 10**9, 10**9)] == [1, 1, 1, 1]


def test_sender_refuses_a_frame_that_its_nic_cannot_carry() -> None:
    device = RigDriver(mtu=1500)
    Sender(flow(frame_bytes=(1514,)), device, lambda _sent: None)
    with pytest.raises(ConfigError) as refused:
        Sender(flow(frame_bytes=(60, 1515)), device, lambda _sent: None)
    text = "flow a->b: a frame is at most 1514 bytes long on this NIC, not 1515; raise its mtu"
    assert str(refused.value) == text


def test_sender_tells_of_a_device_that_breaks_midway() -> None:
    bench = Bench(flow(count=1_000))
    bench.step()
    bench.device.broken = True
    with pytest.raises(DeviceError):
        bench.step()
    assert bench.told == []
