"""A second process beside a test, forked so that it shares the test's memory; it lives no longer than the
test's body.
"""

import contextlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

PATIENCE_SECONDS: Final = 30.0
"""A message that has not come after so long never comes: the bound of a test that fails, not a measure of one
that passes.
"""


class LostWakeUpError(AssertionError):
    """Somebody sleeps although there is work."""


class Messages:
    """Wake-ups from one process to the other; the pipe stands for the testbed's sockets."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.received = 0

    def send(self) -> None:
        """Send one message."""
        os.write(self._write, b"!")

    def sleep(self) -> None:
        """Wait for one message; raises LostWakeUpError where none comes."""
        if not select.select([self._read], [], [], PATIENCE_SECONDS)[0]:
            raise LostWakeUpError(f"no message within {PATIENCE_SECONDS} s")
        os.read(self._read, 1)
        self.received += 1

    def waiting(self) -> int:
        """Take what nobody has slept for; return how many messages."""
        count = 0
        while select.select([self._read], [], [], 0)[0]:
            os.read(self._read, 1)
            count += 1
        return count

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read)
        os.close(self._write)


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Run `work` in a second process while the body runs; fails where it raised."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    try:
        yield
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the process beside the test failed"
