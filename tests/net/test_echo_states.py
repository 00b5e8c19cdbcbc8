"""An echo's bookkeeping under any order of events: every frame once and in order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.net.ring_port import QUEUE_SIZE, RingPort
from tests.net.test_reflect import RECEIVE_SIZE, echo, frames_of, run_all


class EchoStates(RuleBasedStateMachine):
    """An echo whose guest sends, drains, breaks and comes back in any order."""

    native = False

    def __init__(self) -> None:
        super().__init__()
        self.port = RingPort(1, RECEIVE_SIZE)
        self.port.native = self.native
        self.echo = echo(self.port)
        self.sent: list[bytes] = []
        self.came: list[bytes] = []
        self.number = 0

    @rule(count=st.integers(1, QUEUE_SIZE))
    def send(self, count: int) -> None:
        if self.port.up:
            self.port.sender.reclaim()
            frames = frames_of(self.port, self.number, count)
            sent = self.port.send(*frames)
            self.number += sent
            self.sent += frames[:sent]

    @rule()
    def run(self) -> None:
        run_all(self.echo)

    @rule()
    def drain(self) -> None:
        if self.port.up:
            self.came += self.port.take()

    @rule()
    def refresh(self) -> None:
        self.echo.refresh()

    @rule()
    def fail_and_return(self) -> None:
        self.port.fail()
        self.echo.refresh()
        self.port.restart()
        self.port.up = self.port.receiving = True
        self.echo.refresh()
        self.sent, self.came = [], []

    @invariant()
    def nothing_is_lost_or_reordered(self) -> None:
        assert self.came == self.sent[: len(self.came)]

    @invariant()
    def exactly_one_ring_is_looked_at(self) -> None:
        assert self.port.queue.active != self.port.receive.active or not list(self.echo.work())

    def teardown(self) -> None:
        for _ in range(2 * QUEUE_SIZE):
            run_all(self.echo)
            self.came += self.port.take()
        assert self.came == self.sent


class NativeEchoStates(EchoStates):
    """The same with rings that are moved natively."""

    native = True


TestNativeEchoStates = NativeEchoStates.TestCase
TestNativeEchoStates.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEchoStates = EchoStates.TestCase
TestEchoStates.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
