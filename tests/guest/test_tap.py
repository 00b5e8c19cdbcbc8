"""A NIC whose guest is a network stack: bursts both ways, back-pressure, a device that somebody deletes."""

import socket
from collections.abc import Iterator

import pytest

from testbed.guest.tap import TapJoint
from testbed.native import Tap
from testbed.observe.catalogue import TAP_COUNTERS
from testbed.observe.counters import Counters
from testbed.spec.virtio_net import NET_HDR
from tests.guest.rig_driver import RigDriver

COUNTERS = tuple(f"tap0.{name}" for name in TAP_COUNTERS)
BUFFERS = 16
NONE = bytes(NET_HDR.size)
"""In front of every frame."""


class Bench:
    """A joint between a ring and one end of a socket pair; `stack` is the other end."""

    def __init__(self) -> None:
        self.ours, self.stack = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.stack.setblocking(False)
        self.ours.setblocking(False)
        self.driver, self.tap = RigDriver(size=BUFFERS), Tap(self.ours.fileno())
        self.counters, self.gone = Counters(COUNTERS), list[str]()
        self.joint = TapJoint(self.driver, self.tap, self.counters, "tap0", self.gone.append)

    def stack_sends(self, count: int) -> list[bytes]:
        frames = [bytes([i % 256]) * 60 for i in range(count)]
        for frame in frames:
            self.stack.send(NONE + frame)
        return frames

    def stack_has(self) -> list[bytes]:
        frames = []
        while self.stack in _readable(self.stack):
            frames.append(self.stack.recv(2048).removeprefix(NONE))
        return frames


def _readable(end: socket.socket) -> list[socket.socket]:
    try:
        return [end] if end.recv(1, socket.MSG_PEEK) else []
    except BlockingIOError:
        return []


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.ours.close()
    bench.stack.close()


def test_what_the_stack_sends_leaves_by_the_nic_and_unused_buffers_are_kept(bench: Bench) -> None:
    frames = bench.stack_sends(3)
    assert bench.joint.send()
    assert bench.driver.take_sent() == frames
    assert not bench.joint.send()
    assert [bench.stack_sends(BUFFERS), bench.joint.send()][1]
    assert len(bench.driver.take_sent()) == BUFFERS


def test_what_arrives_goes_to_the_stack_and_buffers_go_back(bench: Bench) -> None:
    for _ in range(3):
        assert bench.driver.put(*[b"r" * 60] * BUFFERS) == BUFFERS
        assert bench.joint.receive(bench.driver)
        assert bench.stack_has() == [b"r" * 60] * BUFFERS
    assert not bench.joint.receive(bench.driver)


def test_a_full_nic_leaves_the_stack_waiting_and_looks_at_the_ring_instead(bench: Bench) -> None:
    frames = bench.stack_sends(2 * BUFFERS)
    assert bench.joint.send()
    assert not bench.joint.send()
    assert (bench.tap.active, bench.driver.tx_watch.active) == (False, True)
    assert bench.driver.take_sent() == frames[:BUFFERS]
    assert bench.joint.room()
    assert (bench.tap.active, bench.driver.tx_watch.active) == (True, False)
    assert bench.driver.take_sent() == frames[BUFFERS:]


def test_room_for_nobody_is_no_work(bench: Bench) -> None:
    assert not bench.joint.room()
    assert (bench.tap.active, bench.driver.tx_watch.active) == (True, False)


def test_everything_is_counted(bench: Bench) -> None:
    bench.stack_sends(2)
    bench.stack.send(NONE + b"l" * 4000)
    bench.joint.send()
    bench.driver.put(b"r" * 60)
    bench.joint.receive(bench.driver)
    bench.joint.count()
    assert [bench.counters[name] for name in COUNTERS] == [2, 1, 0, 0, 1, 0]


def test_a_device_that_was_deleted_is_told_once_and_what_arrives_is_dropped(bench: Bench) -> None:
    bench.ours.close()
    assert not bench.joint.send()
    assert (bench.gone, bench.tap.active) == (["Bad file descriptor"], False)
    for _ in range(3):  # buffers still go back
        assert bench.driver.put(*[b"r" * 60] * BUFFERS) == BUFFERS
        assert bench.joint.receive(bench.driver)
    assert not bench.joint.room()
    assert (len(bench.gone), bench.tap.active) == (1, False)
