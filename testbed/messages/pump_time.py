"""How long a process works natively before Python has its turn.

What goes round between processes that share a processor is back only when each of them had it. Whoever stops
looking sooner takes a turn of Python for every piece, which keeps the others waiting, so that they stop, too:
a round trip then takes three times as long, and goes on doing so. Not modelled: other numbers for machines
whose processors are slower.
"""

from typing import Final

PUMP_NS: Final = 400_000
"""How long work goes on before others get their turn."""
PUMP_IDLE_NS: Final = 200_000
"""How long one looks on when nothing moves: what goes round in a few processes is back by then."""
_POLL_SHARE: Final = 2
"""Of the time after which a process is to sleep, the part spent so is a half at most."""


def pump_idle_ns(poll_ns: int) -> int:
    """Return how long a process that polls for `poll_ns` (negative: for ever) looks on natively."""
    return PUMP_IDLE_NS if poll_ns < 0 else min(PUMP_IDLE_NS, poll_ns // _POLL_SHARE)


def pump_ns(due_ns: int | None, now_ns: int) -> int:
    """Return how long to work natively when something is due at `due_ns`."""
    return PUMP_NS if due_ns is None else max(0, min(PUMP_NS, due_ns - now_ns))
