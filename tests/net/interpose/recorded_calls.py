"""Functions for the tests of `call`."""

from testbed.native import Burst

seen: list[tuple[int, str]] = []
NOT_A_FUNCTION = 3


def drop_first(burst: Burst, direction: str) -> None:
    """Note the burst and drop its first frame."""
    seen.append((len(burst.present()), direction))
    burst.remove(burst.present()[0])


def drop_first_and_fail(burst: Burst, direction: str) -> None:
    """Drop a frame, then fail."""
    burst.remove(0)
    raise RuntimeError(f"no more {direction}")


def leave(burst: Burst, direction: str) -> None:
    """Try to end the process."""
    raise SystemExit(4)
