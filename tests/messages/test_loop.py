"""The loop: every action a step a turn, sleep only when all will wake it, and no wake-up lost in between."""

import socket
import time
from collections.abc import Callable, Sequence

import pytest

from testbed.errors import MachineError, StopRequested
from testbed.messages.control import Cancel, Collect, PeerDied, Ready, Stop, ToProcess
from testbed.messages.descriptors import Descriptors
from testbed.messages.doorbell import Doorbell
from testbed.messages.entries import POLL_FOREVER
from testbed.messages.loop import Action, Loop
from testbed.native import Bell, Pinned, SharedWords, Sleeper, Tap, Watch, WordChanges
from testbed.observe.counters import Counters
from testbed.spec.vcpu_page import BELL
from tests.messages.conftest import Wire
from tests.support.recorders import ManualClock

WORD = BELL.size
COUNTERS = ("polls", "sleeps", "bell.wakeups")
MS_NS = 1_000_000


class TickingClock(ManualClock):
    """A clock that goes on by `step_ns` whenever someone looks."""

    def __init__(self, step_ns: int) -> None:
        super().__init__()
        self._step_ns = step_ns

    def __call__(self) -> int:
        self.now_ns += self._step_ns
        return self.now_ns


class RecordingSleeper(Sleeper):
    """Writes down for how long the loop would sleep, and has it stop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.asked_ns: list[int] = []

    def sleep(self, timeout_ns: int, files: Sequence[int] = ()) -> int:  # noqa: ARG002 - the sleeper's
        self.asked_ns.append(timeout_ns)
        self._loop.stopping = True
        return 0


class PausingWatch(Watch[Action]):
    """Writes down for how long the loop would pause; the second time it has it stop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.asked_ns: list[int] = []

    def pause(self, budget_ns: int) -> bool:
        self.asked_ns.append(budget_ns)
        self._loop.stopping = len(self.asked_ns) == 2
        return False


class Bench:
    """A loop that watches one word of a page; another process may count it up and ring."""

    def __init__(self, wire: Wire, poll_ns: int = 0, clock: Callable[[], int] | None = None) -> None:
        self.wire, self.counters = wire, Counters(COUNTERS)
        self.clock = clock or ManualClock()
        self.loop = Loop(wire.inbox, wire.control, poll_ns, self.counters, self.clock)
        page = Pinned(bytearray(2 * BELL.size))
        self._words = SharedWords(page)
        self.word, self.bell = WordChanges(page, WORD), Bell(page)
        self.doorbell = Doorbell(self.bell, wire.context, wire.endpoint)
        wire.at_close.append(self.doorbell.close)
        self.loop.watch.add(self.word, self._stop)
        self.loop.watch.add_bell(self.bell)
        self.taken: list[ToProcess] = []
        self.loop.on_control = self.taken.append
        wire.control.send(Ready(at_ns=0))
        wire.hear()

    def _stop(self) -> bool:
        self.word.take()
        self.loop.stopping = True
        return True

    def publish(self) -> None:
        """Do what another process does: count the word up, then ring."""
        self._words.store32(WORD, self._words.load32(WORD) + 1)
        self.doorbell.ring()

    def counted(self) -> tuple[int, int]:
        """Return (sleeps, wake-ups by a doorbell)."""
        return self.counters["sleeps"], self.counters["bell.wakeups"]


@pytest.fixture
def bench(wire: Wire) -> Bench:
    return Bench(wire)


def once(action: Callable[[], None]) -> Callable[[], None]:
    """Return a callback that acts the first time only."""
    left = [action]
    return lambda: left.pop()() if left else None


def test_loop_turn_runs_each_action_once(bench: Bench) -> None:
    ran: list[str] = []

    def first() -> bool:
        ran.append("first")
        return False

    def second() -> bool:
        ran.append("second")
        return False

    bench.loop.runnable.update({first: None, second: None})
    assert not bench.loop.turn()
    bench.publish()
    assert bench.loop.turn()
    assert ran == ["first", "second"] * 2


def test_loop_action_may_take_itself_out(bench: Bench) -> None:
    def step() -> bool:
        del bench.loop.runnable[step]
        return True

    bench.loop.runnable[step] = None
    assert bench.loop.turn()
    assert not bench.loop.turn()


def test_loop_actions_that_moved_something_go_last_next_time(bench: Bench) -> None:
    ran: list[str] = []

    def action(name: str) -> Callable[[], bool]:
        def run() -> bool:
            ran.append(name)
            return name != "idle"

        return run

    bench.loop.runnable.update(dict.fromkeys([action("one"), action("idle"), action("two")]))
    for _ in range(2):
        bench.loop.turn()
    assert ran == ["one", "idle", "two", "idle", "one", "two"]


@pytest.mark.parametrize(
    ("in_ns", "pauses_ns"),
    [(None, [5_000, 50_000]), (60_000, [5_000, 50_000]), (10, [5_000, 10]), (-5, [5_000, -5])],
)
def test_loop_pauses_shortly_then_until_something_is_due(
    wire: Wire, in_ns: int | None, pauses_ns: list[int]
) -> None:
    bench = Bench(wire, POLL_FOREVER)
    bench.loop.watch = pausing = PausingWatch(bench.loop)
    bench.loop.deadline = lambda: None if in_ns is None else bench.clock() + in_ns
    bench.loop.run()
    assert pausing.asked_ns == pauses_ns


def test_loop_runs_until_it_is_told_to_stop(bench: Bench) -> None:
    bench.wire.say(Stop())
    bench.loop.run()
    assert bench.loop.stopping
    assert bench.counted() == (0, 0)


def test_loop_look_takes_messages_and_then_ticks(bench: Bench) -> None:
    seen_at_tick = []
    bench.loop.on_tick = lambda: seen_at_tick.append(len(bench.taken))
    bench.wire.say(Cancel(flow_id=1))
    assert bench.loop.look()
    assert not bench.loop.look()
    assert (bench.taken, seen_at_tick) == ([Cancel(flow_id=1)], [1, 1])


def test_loop_told_to_stop_does_nothing_more(bench: Bench) -> None:
    bench.loop.on_tick = lambda: pytest.fail("ticked behind Stop")
    bench.wire.say(Stop())
    assert bench.loop.look()


def test_loop_busy_still_hears_the_launcher(bench: Bench) -> None:
    bench.loop.runnable[lambda: True] = None
    bench.wire.say(Stop())
    bench.loop.run()
    assert bench.counters["polls"] == 0


def test_loop_whose_turns_are_long_hears_the_launcher_after_some_of_them(wire: Wire) -> None:
    clock, turns = ManualClock(), []

    def long_turn() -> bool:
        clock.now_ns += MS_NS
        turns.append(clock.now_ns)
        return True

    bench = Bench(wire, clock=clock)
    bench.loop.look()
    bench.loop.runnable[long_turn] = None
    bench.wire.say(Stop())
    bench.loop.run()
    assert 1 < len(turns) < 10


def test_loop_message_in_its_last_look_is_acted_on_before_it_sleeps(bench: Bench) -> None:
    def start(_message: ToProcess) -> None:
        bench.loop.runnable[bench._stop] = None

    bench.loop.on_control = start
    bench.wire.say(Cancel(flow_id=1))
    bench.loop.run()
    assert bench.counted() == (0, 0)


def test_loop_work_that_comes_before_it_arms_keeps_it_awake(bench: Bench) -> None:
    bench.loop.on_tick = once(bench.publish)  # the last thing before arming
    bench.loop.run()
    assert bench.counted() == (0, 0)
    assert bench.bell.sent == 0


def test_loop_work_that_comes_after_it_armed_wakes_it(bench: Bench) -> None:
    def late() -> int | None:
        publish()
        return None

    publish = once(bench.publish)
    bench.loop.deadline = late  # the last thing before blocking
    bench.loop.run()
    assert bench.counted() == (1, 1)
    assert (bench.bell.rung, bench.bell.sent, bench.bell.armed) == (1, 1, False)


def test_loop_message_that_comes_while_it_sleeps_wakes_it(bench: Bench) -> None:
    def late() -> int | None:
        bench.wire.say(Stop())
        return None

    bench.loop.deadline = late
    bench.loop.run()
    assert bench.counted() == (1, 0)


def test_loop_woken_ticks_and_goes_on_at_its_deadline(bench: Bench) -> None:
    def tick() -> None:
        if bench.counters["sleeps"]:
            bench.loop.stopping = True

    bench.loop.on_tick = tick
    bench.loop.deadline = lambda: bench.clock() - 1
    bench.loop.run()
    assert bench.counted() == (1, 0)


@pytest.mark.parametrize(("in_ns", "timeout_ns"), [(-5, 0), (0, 0), (1, 1), (60_000 * MS_NS, 60_000 * MS_NS)])
def test_loop_sleeps_until_its_deadline_to_the_nanosecond(bench: Bench, in_ns: int, timeout_ns: int) -> None:
    bench.loop._sleeper = sleeping = RecordingSleeper(bench.loop)
    bench.loop.look()
    bench.loop.deadline = lambda: bench.clock() + in_ns
    bench.loop.run()
    assert sleeping.asked_ns == [timeout_ns]


def test_loop_that_has_worked_is_seen_from_outside_before_long(bench: Bench) -> None:
    bench.loop._sleeper = sleeping = RecordingSleeper(bench.loop)
    ticks: list[int] = []
    bench.loop.on_tick = lambda: ticks.append(bench.clock())
    bench.loop.look()
    bench.loop.runnable[lambda: once_true.pop() if once_true else False] = None
    once_true = [True]
    bench.loop.run()
    assert sleeping.asked_ns == [10 * MS_NS]
    assert len(ticks) == 1


def test_loop_that_has_slept_that_long_ticks_and_then_sleeps_for_good(wire: Wire) -> None:
    bench = Bench(wire, clock=time.monotonic_ns)
    bench.loop.look()
    bench.loop.runnable[lambda: once_true.pop() if once_true else False] = None
    once_true = [True]

    def tick() -> None:
        bench.loop._sleeper = sleeping

    sleeping = RecordingSleeper(bench.loop)
    bench.loop.on_tick = tick
    bench.loop.run()
    assert sleeping.asked_ns == [-1]
    assert bench.counted() == (2, 0)


def test_loop_polls_for_its_time_before_it_sleeps(wire: Wire) -> None:
    bench = Bench(wire, poll_ns=100, clock=TickingClock(10))
    turns: list[int] = []

    def idle() -> bool:
        turns.append(len(turns))
        return False

    bench.loop._sleeper = RecordingSleeper(bench.loop)
    bench.loop.runnable[idle] = None
    bench.loop.run()
    assert 2 < len(turns) <= 10
    assert bench.counters["polls"] == 1


class NappingSleeper(RecordingSleeper):
    """Sleeps to the end, twice."""

    def __init__(self, loop: Loop, clock: ManualClock, found: int = 0) -> None:
        super().__init__(loop)
        self._clock, self._found = clock, found

    def sleep(self, timeout_ns: int, files: Sequence[int] = ()) -> int:
        super().sleep(timeout_ns, files)
        self._clock.now_ns += timeout_ns
        self._loop.stopping = len(self.asked_ns) == 2
        return self._found


@pytest.mark.parametrize(("slept_ms", "found", "polls"), [(5, 0, False), (1, 0, True), (5, 1 << 20, True)])
def test_loop_woken_late_by_its_deadline_alone_sleeps_on_without_polling(
    wire: Wire, slept_ms: int, found: int, polls: bool
) -> None:
    bench = Bench(wire, poll_ns=MS_NS, clock=(clock := TickingClock(MS_NS // 20)))
    bench.loop._sleeper = NappingSleeper(bench.loop, clock, found)
    bench.loop.deadline = lambda: clock.now_ns + slept_ms * MS_NS
    slept_at_turn: list[int] = []

    def idle() -> bool:
        slept_at_turn.append(bench.counters["sleeps"])
        return False

    bench.loop.runnable[idle] = None
    bench.loop.run()
    assert (slept_at_turn.count(1) > 1) == polls


def test_loop_that_polls_forever_never_sleeps(wire: Wire) -> None:
    bench, ticks = Bench(wire, POLL_FOREVER, TickingClock(1 << 40)), list[int]()

    def tick() -> None:
        ticks.append(len(ticks))
        bench.loop.stopping = len(ticks) == 50

    bench.loop.on_tick = tick
    bench.loop.run()
    assert (bench.counted(), bench.counters["polls"]) == ((0, 0), 0)


def test_loop_wait_for_what_is_there_returns_at_once(bench: Bench) -> None:
    bench.loop.wait_for(lambda: True)
    assert bench.counted() == (0, 0)


def test_loop_wait_for_sleeps_until_a_doorbell(bench: Bench) -> None:
    looks = []

    def ready() -> bool:
        looks.append(bench.bell.armed)
        if len(looks) == 2:  # armed, and about to block
            bench.doorbell.ring()
        return len(looks) == 3

    bench.loop.wait_for(ready)
    assert looks == [False, True, False]
    assert bench.counters["bell.wakeups"] == 1


def test_loop_wait_for_what_comes_as_it_arms_does_not_sleep(bench: Bench) -> None:
    looks: list[int] = []

    def ready() -> bool:
        looks.append(len(looks))
        return len(looks) >= 2

    bench.loop.wait_for(ready)
    assert (bench.counters["bell.wakeups"], bench.bell.armed) == (0, False)


@pytest.mark.parametrize("poll_ns", [0, POLL_FOREVER])
def test_loop_wait_for_what_never_comes_ends_with_stop(wire: Wire, poll_ns: int) -> None:
    bench = Bench(wire, poll_ns)
    wire.say(Stop())
    with pytest.raises(StopRequested):
        bench.loop.wait_for(lambda: False)
    assert bench.loop.stopping


@pytest.mark.parametrize("poll_ns", [0, POLL_FOREVER])
def test_loop_wait_for_keeps_other_messages_in_order(wire: Wire, poll_ns: int) -> None:
    bench, first, second = Bench(wire, poll_ns), Cancel(flow_id=1), Collect(flow_id=2, sent=3)

    def ready() -> bool:
        if bench.loop._held:
            wire.say(second)
            return True
        return False

    wire.say(first)
    bench.loop.wait_for(ready)
    assert bench.taken == []
    bench.loop.look()
    assert bench.taken == [first, second]


def test_loop_wait_for_leaves_peers_for_the_next_look(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    served: list[bytes] = []
    bench.loop.peers.add(ours.fileno(), lambda: served.append(ours.recv(16)))
    theirs.send(b"stop the ring")
    looks = []

    def ready() -> bool:
        looks.append(bench.bell.armed)
        if looks[-1]:
            bench.doorbell.ring()
        return len(looks) == 3

    with ours, theirs:
        bench.loop.wait_for(ready)
        assert served == []
        bench.loop.look()
        bench.loop.peers.discard(ours.fileno())
    assert served == [b"stop the ring"]


def test_loop_wait_of_some_seconds_ends_in_time_or_with_stop(wire: Wire) -> None:
    clock = TickingClock(MS_NS)
    bench = Bench(wire, POLL_FOREVER, clock)
    begun_ns = clock.now_ns
    bench.loop.wait_seconds(0.5)
    assert 500 * MS_NS <= clock.now_ns - begun_ns < 510 * MS_NS
    wire.say(Stop())
    with pytest.raises(StopRequested):
        bench.loop.wait_seconds(3600)


def test_loop_refuses_more_files_than_it_can_sleep_on(bench: Bench) -> None:
    page = Pinned(bytearray(8))
    most = bench.loop._sleeper.room
    for descriptor in range(1000, 1000 + most):
        bench.loop.watch_file(descriptor, WordChanges(page, 0), lambda: False)
    with pytest.raises(MachineError, match=f"at most {most} files"):
        bench.loop.watch_file(2000, WordChanges(page, 0), lambda: False)


def test_loop_message_that_came_during_a_wait_keeps_it_awake(bench: Bench) -> None:
    def tick() -> None:
        bench.wire.say(Cancel(flow_id=1))
        bench.loop.wait_for(lambda: bool(bench.loop._held))

    bench.loop.on_tick = once(tick)
    bench.loop.on_control = lambda _message: bench.loop.runnable.update({bench._stop: None})
    bench.loop.run()
    assert bench.counted() == (0, 0)


@pytest.mark.parametrize("which", ["descriptors", "peers"])
def test_loop_sleeps_until_a_descriptor_has_something(bench: Bench, which: str) -> None:
    ours, theirs = socket.socketpair()
    descriptors: Descriptors = getattr(bench.loop, which)
    descriptors.add(ours.fileno(), lambda: bench.loop.runnable.update({bench._stop: None}))

    def late() -> int | None:
        theirs.send(b"news")
        return None

    bench.loop.deadline = late
    with ours, theirs:
        bench.loop.run()
        descriptors.discard(ours.fileno())
    assert bench.counted() == (1, 1)


def test_loop_sleeps_until_a_file_can_be_read_unless_nobody_wants_it(bench: Bench) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wanted, unwanted = Tap(ours.fileno()), Tap(theirs.fileno())
    unwanted.active = False
    ours.send(b"nobody wants it")

    def late() -> int | None:
        theirs.send(b"frame")
        return None

    def stop() -> bool:
        bench.loop.stopping = True
        return True

    bench.loop.deadline = late  # the last thing before blocking
    bench.loop.watch_file(theirs.fileno(), unwanted, lambda: pytest.fail("it is not active"))
    bench.loop.watch_file(ours.fileno(), wanted, stop)
    with ours, theirs:
        bench.loop.run()
    assert bench.counted() == (1, 0)


@pytest.mark.parametrize("poll_ns", [0, POLL_FOREVER])
def test_loop_wait_for_a_process_ends_with_the_news_of_its_death(wire: Wire, poll_ns: int) -> None:
    bench = Bench(wire, poll_ns)
    wire.say(PeerDied(name="nic0"))

    bench.loop.wait_for(lambda: "nic0" in bench.loop.gone)

    assert bench.taken == []
    bench.loop.look()
    assert bench.taken == [PeerDied(name="nic0")]
