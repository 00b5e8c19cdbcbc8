"""Waiting for what nobody announces: a lock that is let go, a socket that somebody listens at.

Everything else has a doorbell, a message or a descriptor to wait for.
"""

import time
from collections.abc import Callable
from typing import Final, TypeVar

LOOK_SECONDS: Final = 0.01
T = TypeVar("T")


def awaited(
    look: Callable[[], T | None], seconds: float, pause: Callable[[float], object] = time.sleep
) -> T | None:
    """Look again and again until there is something other than None or False; None: not within that time.

    `pause` lets seconds pass in between; what it raises ends the waiting.
    """
    deadline = time.monotonic() + seconds
    while (found := look()) is None or found is False:
        if time.monotonic() > deadline:
            return None
        pause(LOOK_SECONDS)
    return found
