"""How much of the vmm's time a guest's exits may take: what is over waits, and with it only who asked.

An exit that takes a decision (a register of the interrupt controller, an SGI, a hypercall, a port, an address
where nothing is) costs the vmm several times what it costs the guest that asks, and while both are busy
others wait for processors. So each guest, all its vCPUs together, has a bucket of time for answers. Who has
spent it is answered when there is a `QUANTUM_NS` again, so the vmm is woken seldom and the vCPU sleeps
meanwhile. What a driver does to move frames is not charged: accesses to registers of NICs, but for what the
registers are not.

Measured on two cores: a guest with eight vCPUs and two NICs comes up with 90 charged exits, 5 ms; two vCPUs
that do nothing but send each other SGIs, each woken by a message, take 13 % of the time. A request and its
answer between two others take 15 us beside a guest that sleeps, 90 to 120 us beside one that floods exits
unpaced, and 16 to 25 us beside the same one paced. Not modelled: shares by weight.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from testbed.budget import TokenBucket

BURST_NS: Final = 5_000_000
"""Time for answers that a guest may take at once."""
SHARE_OF: Final = 6
"""A guest that never rests is answered for one part in so many of the time: more than honest ones need."""
QUANTUM_NS: Final = 500_000
SELDOM_NS: Final = 60_000
"""What an exit is charged at least that no driver makes often: the answer is the least part of what a flood
takes from others, who wait for the guest and the vmm to have their turns.
"""
OFTEN_NS: Final = 20_000
"""The same of one that vCPUs make at every interrupt: eight thousand a second are none too many."""
ANSWER_NS_MAX: Final = 500_000
"""No answer takes longer; where it seems to, the vmm itself had to wait for a processor."""


class Asking(Protocol):
    """Who asks for answers."""

    active: bool
    """It is looked at."""


class ExitPace:
    """The time of one guest. `on_spent` is told when somebody begins to wait; `resume` ends it."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._bucket = TokenBucket(BURST_NS, SHARE_OF)
        self._waiting: list[Asking] = []
        self._begun_ns = 0
        self.on_spent: Callable[[ExitPace], None] = lambda _pace: None

    def begin(self, who: Asking) -> bool:
        """Begin to answer; False: there is no time left: who asks is not looked at until there is."""
        self._begun_ns = now_ns = self._clock()
        if not self._waiting and self._bucket.available(now_ns) > 0:
            return True
        who.active = False
        self._waiting.append(who)
        if len(self._waiting) == 1:
            self.on_spent(self)
        return False

    def end(self, least_ns: int = 0) -> None:
        """Charge what the answer took, and at least so much."""
        now_ns = self._clock()
        self._bucket.spend(max(least_ns, min(now_ns - self._begun_ns, ANSWER_NS_MAX)), now_ns)

    def deadline_ns(self) -> int | None:
        """Return when to `resume`, None where nobody waits."""
        return (self._bucket.due_ns(QUANTUM_NS) or 0) if self._waiting else None

    def resume(self, now_ns: int) -> bool:
        """Have everybody looked at again where there is time for it; say whether nobody waits now."""
        if self._bucket.available(now_ns) >= QUANTUM_NS:
            for who in self._waiting:
                who.active = True
            self._waiting.clear()
        return not self._waiting
