"""A function's way into its host's memory where the other end is in the same process."""

from collections.abc import Callable

from testbed.native import DmaRequester


class ImmediatePort:
    """A port whose requests are served in this process: all that can be done is done on return."""

    def __init__(self, ring: DmaRequester, serve: Callable[[], object]) -> None:
        self.ring, self._serve = ring, serve

    def submit(self) -> None:
        """Publish what was posted and have it served."""
        if self.ring.submit():
            self._serve()
