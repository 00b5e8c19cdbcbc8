"""The loop of every data-plane process: work, yield, and sleep only when everything has been asked to wake it.

Reference: design, "Doorbells and interrupts" and "The data plane: bursts". Whoever finds nothing to do yields the processor at once; after `poll_ns`
without work it arms every bell and ring, looks once more, and blocks on its sockets. Nothing in here knows what the work is.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import zmq

from testbed.messages.channel import ControlChannel
from testbed.messages.control import Stop, ToProcess
from testbed.messages.doorbell import Inbox
from testbed.messages.entries import POLL_FOREVER
from testbed.native import Watch
from testbed.observe.counters import Counters

Action = Callable[[], bool]
"""A step of work; True: something moved."""
_BUSY_TURNS_PER_LOOK: Final = 64
_IDLE_TURNS_PER_LOOK: Final = 16
_NS_PER_MS: Final = 1_000_000


class StopRequested(Exception):
    """Stop arrived while an action waited: the action is abandoned, the process leaves in order."""


class Loop:
    """Runs actions: those whose watched item is ready, and those that asked to run at every turn."""

    def __init__(self, inbox: Inbox, control: ControlChannel, poll_ns: int, counters: Counters) -> None:
        self.watch: Watch[Action] = Watch()
        self.runnable: dict[Action, None] = {}
        self.deadline: Callable[[], int | None] = lambda: None
        """When to run again although nothing happened (CLOCK_MONOTONIC nanoseconds)."""
        self.on_control: Callable[[ToProcess], None] = lambda message: None
        self.on_tick: Callable[[], None] = lambda: None
        """Called now and then, at least whenever the loop looks at its sockets."""
        self.stopping = False
        self._inbox, self._control, self._poll_ns, self._counters = inbox, control, poll_ns, counters
        self._poller = zmq.Poller()
        self._poller.register(inbox.socket, zmq.POLLIN)
        self._poller.register(control.socket, zmq.POLLIN)
        self._held: deque[ToProcess] = deque()
        self._idle_since_ns = 0
        self._turns = 0

    def run(self) -> None:
        """Work until Stop arrives; raises StopRequested where it arrived in the middle of an action."""
        while not self.stopping:
            if self.turn():
                self._idle_since_ns = 0
                self._turns += 1
                if self._turns % _BUSY_TURNS_PER_LOOK == 0:
                    self.look()
            else:
                self._rest()

    def turn(self) -> bool:
        """Run what is ready once; say whether anything moved."""
        moved = False
        for action in tuple(self.runnable):
            moved |= action()
        for action in self.watch.ready():
            moved |= action()
        return moved

    def look(self) -> None:
        """Take messages without blocking."""
        self.on_tick()
        while not self.stopping and (message := self._next_message()) is not None:
            self._idle_since_ns = 0
            if isinstance(message, Stop):
                self.stopping = True
            else:
                self.on_control(message)

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Block the caller until `ready`, polling and sleeping as the loop itself does (a vCPU in an exit).

        Raises StopRequested when Stop arrives first: whoever should have answered may be gone.
        """
        begun_ns = time.monotonic_ns()
        while not ready():
            if self._polls(begun_ns):
                os.sched_yield()
                self._turns += 1
                if self._turns % _IDLE_TURNS_PER_LOOK == 0:
                    self._hold_messages()
            else:
                self._nap(ready)

    def _nap(self, ready: Callable[[], bool]) -> None:
        """Sleep in the middle of an action: only bells are armed, for rings are not looked at here."""
        self.watch.arm_bells()
        if not ready():
            self._block(None)
        self.watch.disarm_bells()
        self._hold_messages()

    def _hold_messages(self) -> None:
        """Keep what arrives in the middle of an action for `look`; Stop ends the action."""
        while (message := self._control.receive()) is not None:
            if isinstance(message, Stop):
                self.stopping = True
                raise StopRequested
            self._held.append(message)

    def _next_message(self) -> ToProcess | None:
        return self._held.popleft() if self._held else self._control.receive()

    def _polls(self, since_ns: int) -> bool:
        return self._poll_ns == POLL_FOREVER or time.monotonic_ns() - since_ns < self._poll_ns

    def _rest(self) -> None:
        """Nothing to do: yield, and after the poll time sleep."""
        if not self._idle_since_ns:
            self._idle_since_ns = time.monotonic_ns()
        self._turns += 1
        if self._polls(self._idle_since_ns):
            if self._turns % _IDLE_TURNS_PER_LOOK == 0:
                self.look()
            os.sched_yield()
            return
        self._counters.add("polls")
        self.look()
        if not self.stopping and self.watch.arm():
            self._counters.add("sleeps")
            woken = self._block(self.deadline())
            self.watch.disarm()
            if not woken:
                self.look()
        self._idle_since_ns = 0

    def _block(self, deadline_ns: int | None) -> bool:
        """Block until a message or the deadline; True: a doorbell woke us, so there is work rather than news."""
        timeout_ms = None
        if deadline_ns is not None:
            timeout_ms = max(0, -(-(deadline_ns - time.monotonic_ns()) // _NS_PER_MS))
        self._poller.poll(timeout_ms)
        woken = self._inbox.drain() > 0
        if woken:
            self._counters.add("bell.wakeups")
        return woken
