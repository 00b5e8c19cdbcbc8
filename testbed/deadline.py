"""Times, of the monotonic clock in nanoseconds, at which somebody has something to do."""

from collections.abc import Iterable


def earliest(times_ns: Iterable[int | None]) -> int | None:
    """Return the first of deadlines, None where there is none."""
    first = None
    for at_ns in times_ns:
        if at_ns is not None and (first is None or at_ns < first):
            first = at_ns
    return first
