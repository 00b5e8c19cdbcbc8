"""The loop of every data-plane process: work, yield, and sleep only when everything will wake it.

Reference: design, "Doorbells and interrupts" and "The data plane: bursts". Whoever finds nothing to do yields
the processor at once; after `poll_ns` without work it arms every bell and ring, looks once more, and blocks
on its sockets. Nothing in here knows what the work is. Not modelled: priorities; each action has one step a
turn.

No wake-up is lost: before it sleeps, the loop takes its control messages and goes round again where there was
one, arms everything and looks once more (`Watch.arm`), and only then asks for the deadline. A ring after that
look sends a message to a socket that is being polled; so does a control message. A file is polled itself.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from testbed.errors import MachineError, StopRequested
from testbed.messages.control import PeerDied, Stop, ToProcess
from testbed.messages.descriptors import Descriptors
from testbed.messages.doorbell import Inbox
from testbed.messages.entries import POLL_FOREVER
from testbed.native import Sleeper, Watch, Watched, trace
from testbed.observe.counters import Counters
from testbed.spec import trace as events

Action = Callable[[], bool]
"""A step of work; True: something moved."""
_BUSY_TURNS_PER_LOOK: Final = 64
_IDLE_TURNS_PER_LOOK: Final = 16
_QUICK_NS: Final = 5_000
"""What comes so soon is not kept waiting by asking for deadlines."""
_PAUSE_NS: Final = 50_000
_LOOK_NS: Final = 200_000
"""Whoever polls looks so often at what is no work."""
_BUSY_LOOK_NS: Final = 5_000_000
"""Whoever works looks at least so often, for turns that are native may be long."""
_SEEN_NS: Final = 10_000_000
"""What a process that sleeps and wakes has done is to be seen from outside after so long."""
_LONG_NS: Final = 2_000_000
"""Who has slept so long and is woken by its deadline alone does not poll again for what did not come."""
_FOREVER: Final = -1


class Control(Protocol):
    """Where a loop's orders come from."""

    def listen(self, sleeper: Sleeper) -> None:
        """Have whoever sleeps there wake while there is one."""
        ...

    def receive(self) -> ToProcess | None:
        """Return the next message, None where there is none."""
        ...


class Loop:
    """Runs actions: those whose watched item is ready, and those that asked to run at every turn."""

    def __init__(
        self,
        inbox: Inbox,
        control: Control,
        poll_ns: int,
        counters: Counters,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.watch: Watch[Action] = Watch()
        self.runnable: dict[Action, None] = {}
        self.deadline: Callable[[], int | None] = lambda: None
        """When to run again although nothing happened (CLOCK_MONOTONIC nanoseconds)."""
        self.on_control: Callable[[ToProcess], None] = lambda _message: None
        self.on_tick: Callable[[], None] = lambda: None
        """Called now and then, at least whenever the loop looks at its sockets."""
        self.before_sleep: Callable[[], bool] = lambda: False
        """Asks for whatever wakes this process besides bells and rings; True: there is work already."""
        self.stopping = False
        self.gone: set[str] = set()
        """Processes whose end was told: also in the middle of an action, which need not wait for them."""
        self.descriptors = Descriptors()
        """What wakes the loop beside doorbells and control messages; looked at whenever its sockets are."""
        self.peers = Descriptors()
        """The same, but never looked at within an action: what peers say changes what actions work on."""
        self._inbox, self._control, self._poll_ns, self._counters = inbox, control, poll_ns, counters
        self._clock = clock
        self._sleeper, self._napper = Sleeper(), Sleeper()
        for sleeper in (self._sleeper, self._napper):
            self._inbox_bit = sleeper.add_socket(inbox.messages)
            control.listen(sleeper)
            self._descriptors_bit = sleeper.add_file(self.descriptors.fileno())
        self._peers_bit = self._sleeper.add_file(self.peers.fileno())
        self._files: dict[int, Watched] = {}
        self._held: deque[ToProcess] = deque()
        """Control messages that came while an action was waiting for something."""
        self._undrained = False
        """Messages that woke us may still be in the inbox."""
        self._idle_since_ns = 0
        self._turns = 0
        self._looked_ns = -_SEEN_NS
        self._worked = True
        """Something was done since the last look."""

    def watch_file(self, descriptor: int, item: Watched, action: Action) -> None:
        """Run an action when `item` is ready; whoever sleeps wakes when its descriptor can be read.

        While `item` is not active nothing looks at either. Raises MachineError where there are too many.
        """
        most = self._sleeper.room
        if descriptor not in self._files and len(self._files) == most:
            raise MachineError(f"a process sleeps on at most {most} files: spread them over several guests")
        self._files[descriptor] = item
        self.watch.add(item, action)

    def run(self) -> None:
        """Work until Stop arrives; raises StopRequested where it arrived in the middle of an action."""
        while not self.stopping:
            if self.turn():
                self._idle_since_ns = 0
                self._turns += 1
                if self._turns % _BUSY_TURNS_PER_LOOK == 0 or self._unheard():
                    self.look()
            else:
                self._rest()

    def turn(self) -> bool:
        """Run what is ready once, every action one step; say whether anything moved."""
        moved = False
        for action in self.watch.ready():
            self._worked = True
            moved |= action()
        # behind what arrived: who waits for an answer finds it in the same turn
        for action in tuple(self.runnable):
            if action():
                self._worked = moved = True
                self._go_last(action)
        return moved

    def _go_last(self, action: Action) -> None:
        """Let the others go first next time: two senders share a queue's buffers fairly."""
        if len(self.runnable) > 1 and action in self.runnable:
            del self.runnable[action]
            self.runnable[action] = None

    def _unheard(self) -> bool:
        return self._clock() - self._looked_ns >= _BUSY_LOOK_NS

    def look(self) -> bool:
        """Take control messages and what descriptors have, never blocking, then tick; True: there was any."""
        taken = bool(self.descriptors) and self.descriptors.serve()
        taken |= bool(self.peers) and self.peers.serve()
        while not self.stopping and (message := self._next_message()) is not None:
            taken = True
            if isinstance(message, Stop):
                self.stopping = True
            else:
                self.on_control(message)
        if not self.stopping:
            self.on_tick()
        self._worked, self._looked_ns = False, self._clock()
        return taken

    def wait_for(self, ready: Callable[[], bool], deadline_ns: int | None = None) -> None:
        """Block the caller until `ready`, polling and sleeping as the loop itself does (a vCPU in an exit),
        or until the deadline.

        Raises StopRequested when Stop arrives first: whoever should have answered may be gone. Other control
        messages are kept for the loop.
        """
        begun_ns = self._clock()
        while not ready():
            if self._polls(begun_ns, self._clock()):
                os.sched_yield()
                self._turns += 1
                if self._turns % _IDLE_TURNS_PER_LOOK == 0:
                    self._hold_messages()
            else:
                self._nap(ready, deadline_ns)
            if deadline_ns is not None and self._clock() >= deadline_ns:
                return

    def wait_seconds(self, seconds: float) -> None:
        """Block the caller for so long, as `wait_for` does."""
        self.wait_for(lambda: False, self._clock() + int(seconds * 1e9))

    def _nap(self, ready: Callable[[], bool], deadline_ns: int | None) -> None:
        """Sleep in the middle of an action: only bells are armed, for rings are not looked at here."""
        self._drain()
        self.watch.arm_bells()
        if not ready():
            self._serve(self._block(self._napper, deadline_ns))
        self.watch.disarm_bells()
        self._hold_messages()

    def _hold_messages(self) -> None:
        """Keep what arrives in the middle of an action for `look`; Stop ends the action."""
        while (message := self._receive()) is not None:
            if isinstance(message, Stop):
                self.stopping = True
                raise StopRequested
            self._held.append(message)

    def _next_message(self) -> ToProcess | None:
        return self._held.popleft() if self._held else self._receive()

    def _receive(self) -> ToProcess | None:
        message = self._control.receive()
        if isinstance(message, PeerDied):
            self.gone.add(message.name)
        return message

    def _polls(self, since_ns: int, now_ns: int) -> bool:
        return self._poll_ns == POLL_FOREVER or now_ns - since_ns < self._poll_ns

    def _rest(self) -> None:
        """Nothing to do: yield, and after the poll time sleep."""
        now_ns = self._clock()
        if not self._idle_since_ns:
            self._idle_since_ns = now_ns
        self._turns += 1
        if self._polls(self._idle_since_ns, now_ns):
            if not self.watch.pause(_QUICK_NS):
                self._pause(now_ns)
            return
        self._counters.add("polls")
        self._idle_since_ns = 0
        self._drain()
        looks = self._held or (self._worked and now_ns - self._looked_ns >= _SEEN_NS)
        # a message is new work, which only another turn finds
        if not ((looks and self.look()) or self.before_sleep() or self._held) and self.watch.arm():
            self._sleep()

    def _pause(self, now_ns: int) -> None:
        """Look where it is time to, then watch the rings: until something is due, and not for long."""
        due_ns = self.deadline()
        left_ns = _PAUSE_NS if due_ns is None else due_ns - now_ns
        # what is due and stays so is no reason to look at every turn
        every_ns = _LOOK_NS if left_ns > 0 else _QUICK_NS
        if now_ns - self._looked_ns >= every_ns and self.look():
            self._idle_since_ns = 0
        self.watch.pause(min(_PAUSE_NS, left_ns))

    def _sleep(self) -> None:
        self._counters.add("sleeps")
        files = [descriptor for descriptor, item in self._files.items() if item.active] if self._files else ()
        begun_ns = self._clock()
        found = self._block(self._sleeper, self._wake_ns(), files)
        woken = self._serve(found)
        self.watch.disarm()
        if woken or self.look() or found:
            return
        now_ns = self._clock()
        if now_ns - begun_ns >= _LONG_NS:
            self._idle_since_ns = now_ns - self._poll_ns

    def _wake_ns(self) -> int | None:
        """Return when to look although nothing happens: what was done is to be seen from outside."""
        due_ns = self.deadline()
        if not self._worked:
            return due_ns
        look_ns = self._looked_ns + _SEEN_NS
        return look_ns if due_ns is None else min(due_ns, look_ns)

    def _block(self, sleeper: Sleeper, deadline_ns: int | None, files: Sequence[int] = ()) -> int:
        """Block until a message, until a file can be read, or until the deadline; return what it was."""
        timeout_ns = _FOREVER if deadline_ns is None else max(0, deadline_ns - self._clock())
        if trace:
            trace(events.SLEEP)
        found = sleeper.sleep(timeout_ns, files)
        woken = bool(found & self._inbox_bit)
        if trace:
            trace(events.WAKE, events.WOKEN_BY_BELL if woken else events.WOKEN_BY_OTHER)
        self._undrained |= woken
        return found

    def _serve(self, found: int) -> bool:
        """Run what descriptors have; True: they or a doorbell woke us, so there is work rather than news."""
        woken = bool(found & self._inbox_bit)
        if found & self._descriptors_bit:
            woken |= self.descriptors.serve()
        if found & self._peers_bit:
            woken |= self.peers.serve()
        if woken:
            self._counters.add("bell.wakeups")
        return woken

    def _drain(self) -> None:
        """Take the messages that woke us, behind the work: while no bell is armed no more of them come."""
        if self._undrained:
            self._inbox.drain()
            self._undrained = False
