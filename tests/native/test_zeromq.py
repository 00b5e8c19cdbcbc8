"""Native sleep and messages over pyzmq's sockets: nothing lost, nothing blocks, no use after the end."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import zmq

from testbed.messages.zeromq import message_socket
from testbed.native import Bell, BellRinger, Pinned, SharedWords, Sleeper, Watch, WordChanges
from testbed.spec.vcpu_page import BELL

ENDPOINT = "inproc://bell"
FOREVER = -1
SECOND_NS = 1_000_000_000
PUBLISHED, TAKEN = BELL.size, BELL.size + 4


class Pair:
    """A PUSH and a PULL socket, and native access to both."""

    def __init__(self, queued_max: int = 64) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.pull, self.push = self.context.socket(zmq.PULL), self.context.socket(zmq.PUSH)
        self.pull.set(zmq.RCVHWM, 1)
        self.push.set(zmq.SNDHWM, queued_max)
        self.pull.bind(ENDPOINT)
        self.push.connect(ENDPOINT)
        self.taker, self.sender = message_socket(self.pull), message_socket(self.push)

    def close(self) -> None:
        for native, socket in ((self.taker, self.pull), (self.sender, self.push)):
            native.close()
            socket.close(linger=0)
        self.context.term()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def test_message_is_there_until_it_is_drained(pair: Pair) -> None:
    before = pair.taker.readable
    assert pair.sender.notify()
    assert (before, pair.taker.readable) == (False, True)
    assert (pair.taker.drain(8), pair.taker.drain(8), pair.taker.readable) == (1, 0, False)


def test_drain_takes_no_more_than_it_is_told(pair: Pair) -> None:
    sent = sum(pair.sender.notify() for _ in range(5))
    assert (sent, pair.taker.drain(2), pair.taker.drain(8)) == (5, 2, 3)


def test_message_with_content_is_drained_too(pair: Pair) -> None:
    pair.push.send(b"x" * 1000)
    assert (pair.taker.drain(8), pair.taker.readable) == (1, False)


def test_message_to_a_full_queue_is_refused_at_once(pair: Pair) -> None:
    sent = 0
    while pair.sender.notify():
        sent += 1
    assert sent == 65  # what may wait at each end of an inproc connection


def test_queue_that_was_emptied_is_not_taken_for_a_full_one(pair: Pair) -> None:
    refused = 0
    for _ in range(500):  # much faster than a send looks for what was taken
        refused += not pair.sender.notify()
        pair.taker.drain(8)
    assert refused == 0


def test_closed_socket_is_used_no_more(pair: Pair) -> None:
    sleeper = Sleeper()
    sleeper.add_socket(pair.taker)
    pair.taker.close()
    uses: tuple[Callable[[], object], ...] = (
        pair.taker.notify,
        partial(pair.taker.drain, 1),
        partial(sleeper.sleep, 0),
    )
    for use in uses:
        with pytest.raises(ValueError, match="closed"):
            use()


def test_error_of_the_library_is_told(pair: Pair) -> None:
    with pytest.raises(OSError, match="ZeroMQ"):
        pair.sender.drain(1)  # nothing can be received from it


def test_sleep_ends_at_once_for_what_is_there_already(pair: Pair) -> None:
    sleeper = Sleeper()
    bit = sleeper.add_socket(pair.taker)
    pair.sender.notify()
    assert sleeper.sleep(FOREVER) == bit


def test_sleep_that_nothing_ends_ends_with_its_time(pair: Pair) -> None:
    sleeper = Sleeper()
    sleeper.add_socket(pair.taker)
    begun_ns = time.monotonic_ns()
    assert sleeper.sleep(2_000_000) == 0
    assert time.monotonic_ns() - begun_ns >= 2_000_000


def test_sleep_tells_sockets_from_files(pair: Pair) -> None:
    sleeper, (first, second, third) = Sleeper(), [os.eventfd(0) for _ in range(3)]
    bits = sleeper.add_socket(pair.taker), sleeper.add_file(first), sleeper.add_file(second)
    found = []
    for descriptor in (first, third):
        os.eventfd_write(descriptor, 1)
        found.append(sleeper.sleep(FOREVER, [third]))
        os.eventfd_read(descriptor)
    for descriptor in (first, second, third):
        os.close(descriptor)
    assert (bits, found) == ((1, 2, 4), [2, 8])


def test_sleeper_holds_so_many_and_no_more(pair: Pair) -> None:
    sleeper = Sleeper()
    for _ in range(4):
        sleeper.add_socket(pair.taker)
    with pytest.raises(ValueError, match="at most 4 sockets"):
        sleeper.add_socket(pair.taker)
    assert [sleeper.add_file(0) for _ in range(59)] == [1 << at for at in range(4, 63)]
    with pytest.raises(ValueError, match="at most 63"):
        sleeper.sleep(0, [0])


def test_sleep_runs_what_a_signal_asks_for(pair: Pair) -> None:
    sleeper, heard = Sleeper(), list[int]()
    sleeper.add_socket(pair.taker)
    old = signal.signal(signal.SIGALRM, lambda number, _frame: heard.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    try:
        found = sleeper.sleep(60 * SECOND_NS)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert (found, heard) == (0, [signal.SIGALRM])


def _ringing(ringer: BellRinger, words: SharedWords, rounds: int) -> None:
    """Publish, then ring, `rounds` times; wait for each to be taken."""
    for turn in range(1, rounds + 1):
        words.store32(PUBLISHED, turn)
        ringer.ring()
        while words.load32(TAKEN) != turn:
            os.sched_yield()


def test_no_ring_is_lost_between_two_threads(pair: Pair) -> None:
    page, rounds = Pinned(bytearray(2 * BELL.size)), 2000
    words, bell, word = SharedWords(page), Bell(page), WordChanges(page, PUBLISHED)
    ringer, sleeper, watch = BellRinger(bell, pair.sender), Sleeper(), Watch[None]()
    sleeper.add_socket(pair.taker)
    watch.add(word, None)
    watch.add_bell(bell)
    producer = threading.Thread(target=_ringing, args=(ringer, words, rounds), daemon=True)
    producer.start()
    while word.take() < rounds:
        words.store32(TAKEN, word.take())
        if watch.arm():
            assert sleeper.sleep(20 * SECOND_NS)
            pair.taker.drain(8)
            watch.disarm()
    words.store32(TAKEN, rounds)
    producer.join()
    assert ringer.asked == bell.rung == rounds
    assert 0 < ringer.sent == bell.sent <= rounds
