"""Receivers: every frame is checked against its flow, requests are answered, buffers go back."""

from pathlib import Path

import dpkt

from testbed.guest.workloads.frames import headers
from testbed.guest.workloads.lane import WAITING_MAX
from testbed.guest.workloads.receiver import Receiver
from testbed.guest.workloads.sender import Sender
from testbed.messages.control import Received
from testbed.messages.entries import FlowEntry
from testbed.native import Burst, FlowSource
from testbed.observe.counters import Counters
from testbed.spec.flow import MAGIC_DATA, MAGIC_REQUEST, TAG, TAG_OFFSET
from tests.guest.rig_driver import RigDriver, flow
from tests.support.recorders import ManualClock


def frames_of(entry: FlowEntry, count: int, magic: int = MAGIC_DATA) -> list[bytes]:
    """Return the first frames of a generated flow."""
    far, burst = RigDriver(size=64), Burst()
    source = FlowSource(entry.id, magic, entry.frame_bytes, [headers(entry, s) for s in entry.frame_bytes])
    far.tx_reserve(burst, count)
    source.fill(burst)
    far.tx_send(burst)
    return far.take_sent()


class Bench:
    """A receiver on its ring."""

    def __init__(self, size: int = 64) -> None:
        self.clock, self.device = ManualClock(), RigDriver(size)
        self.counters = Counters(("nic0.foreign_frames",))
        self.receiver = Receiver(self.device, self.counters, "nic0.foreign_frames", self.clock)

    def arrive(self, *frames: bytes, after_ns: int = 0) -> None:
        self.clock.advance(after_ns)
        assert self.device.put(*frames) == len(frames)
        assert self.receiver.step()

    def result(self) -> Received:
        return self.receiver.result(7)


def sequence(frame: bytes) -> int:
    """Return which frame of its flow this is."""
    at = TAG_OFFSET + TAG.offset("sequence")
    return int.from_bytes(frame[at : at + 8], "little")


def received(count: int, seconds: float = 0.0, **faults: int) -> Received:
    """Return the account of sound 60-byte frames."""
    none = {"reordered": 0, "corrupted": 0, "duplicated": 0}
    return Received(flow_id=7, received=count, bytes=60 * count, seconds=seconds, **{**none, **faults})


def test_receiver_with_nothing_there_does_nothing() -> None:
    assert not Bench().receiver.step()


def test_receiver_accounts_a_flow_and_its_time() -> None:
    bench, frames = Bench(), frames_of(flow(), 10)
    bench.receiver.expect(flow())
    bench.arrive(*frames[:4])
    bench.arrive(*frames[4:], after_ns=2_000_000)
    assert bench.result() == received(10, seconds=0.002)


def test_receiver_tells_what_is_wrong_with_frames() -> None:
    bench, frames = Bench(), frames_of(flow(), 6)
    bench.receiver.expect(flow())
    spoiled = frames[5][:-1] + bytes([frames[5][-1] ^ 1])
    bench.arrive(frames[0], frames[2], frames[1], frames[2], spoiled)
    assert bench.result() == received(3, reordered=1, duplicated=1, corrupted=1)


def test_receiver_without_verification_takes_what_carries_the_tag() -> None:
    bench, frames = Bench(), frames_of(flow(), 1)
    bench.receiver.expect(flow(verify=False))
    bench.arrive(frames[0][:-1] + bytes([frames[0][-1] ^ 1]))
    assert bench.result() == received(1)


def test_receiver_counts_what_belongs_to_no_flow() -> None:
    bench = Bench()
    bench.receiver.expect(flow())
    bench.arrive(b"\xff" * 60, *frames_of(flow(id=8), 2))
    assert bench.counters["nic0.foreign_frames"] == 3
    assert bench.result() == received(0)


def test_receiver_gives_its_buffers_back() -> None:
    bench, frames = Bench(size=4), frames_of(flow(), 40)
    bench.receiver.expect(flow())
    for begin in range(0, 40, 4):
        bench.arrive(*frames[begin : begin + 4])
    assert bench.result() == received(40)


def test_receiver_answers_requests() -> None:
    bench, requests = Bench(), frames_of(flow(), 3, MAGIC_REQUEST)
    bench.receiver.expect(flow(kind="rr"))
    bench.arrive(*requests)
    answers = bench.device.take_sent()
    assert [(answer[:6], answer[6:12]) for answer in answers] == [(r[6:12], r[:6]) for r in requests]
    assert bench.result() == received(3)


def test_receiver_answers_that_find_no_buffer_wait_for_one_and_keep_their_order() -> None:
    bench, told = Bench(size=4), list[bool]()
    bench.receiver.lane.on_owing = lambda queue: told.append(bench.receiver.lane.owes(queue))
    bench.receiver.expect(flow(kind="rr", count=6))
    requests, own = frames_of(flow(), 6, MAGIC_REQUEST), Burst()
    bench.device.tx_fill(FlowSource(1, MAGIC_DATA, (60,), [headers(flow(), 60)]), own, 3)
    bench.arrive(*requests[:3])
    bench.arrive(*requests[3:])  # frames are taken all the same
    assert not bench.receiver.lane.answer_waiting(bench.device)
    assert told == [True, True]

    answers = bench.device.take_sent()[3:]
    while bench.receiver.lane.answer_waiting(bench.device):
        answers += bench.device.take_sent()
    assert [sequence(answer) for answer in answers] == [0, 1, 2, 3, 4, 5]
    assert told == [True, True, False]
    assert bench.result() == received(6)


def test_receiver_owes_no_more_answers_than_may_wait() -> None:
    bench, answered = Bench(), 0
    bench.device.tx_reserve(held := Burst(), 64)
    bench.device.tx_send(held)
    for number in range(WAITING_MAX // 64 + 1):
        entry = flow(kind="rr", id=number)
        bench.receiver.expect(entry)
        bench.arrive(*frames_of(entry, 64, MAGIC_REQUEST))
    bench.device.take_sent()
    while bench.receiver.lane.answer_waiting(bench.device):
        answered += len(bench.device.take_sent())
    assert answered == WAITING_MAX


def test_receiver_recognizes_a_replay(tmp_path: Path) -> None:
    path = tmp_path / "small.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for second in range(5):
            writer.writepkt(b"\2" * 12 + b"\x08\x06" + bytes([second]).ljust(46, b"\0"), float(second))
    entry = flow(kind="replay", capture=str(path), loops=2, count=0)
    bench, far = Bench(), RigDriver()
    bench.receiver.expect(entry)
    Sender(entry, far, lambda _sent: None).step()
    bench.arrive(*far.take_sent())
    assert bench.result() == received(10)


def test_receiver_that_expects_a_flow_again_begins_anew() -> None:
    bench, frames = Bench(), frames_of(flow(), 2)
    bench.receiver.expect(flow())
    bench.arrive(*frames)
    bench.receiver.expect(flow())
    bench.arrive(frames[0])
    assert bench.result() == received(1)


def test_receiver_that_forgot_a_flow_finds_its_frames_foreign() -> None:
    bench = Bench()
    bench.receiver.expect(flow())
    bench.receiver.forget(7)
    bench.receiver.forget(7)
    bench.arrive(*frames_of(flow(), 2))
    assert bench.counters["nic0.foreign_frames"] == 2
