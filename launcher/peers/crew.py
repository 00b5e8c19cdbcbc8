"""Processes that run together for a measurement: started, watched while their count is read, ended.

A wait ends at once when one of them does. Not modelled: processes that are replaced.
"""

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from launcher.forkclient import environment
from testbed.errors import MachineError

FIRST_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.001
_COUNT_LOOK_SECONDS: Final = 0.5
"""A count of 32 bits goes round in more than that."""
_NS_PER_SECOND: Final = 1e9


class Crew:
    """The processes of one measurement; make it with `crew`."""

    def __init__(self, name: str, processes: Sequence[subprocess.Popen[bytes]], stack: ExitStack) -> None:
        self._name, self._ends = name, select.poll()
        for process in processes:
            descriptor = os.pidfd_open(process.pid)
            stack.callback(os.close, descriptor)
            self._ends.register(descriptor, select.POLLIN)

    def pause(self, seconds: float) -> None:
        """Let them work for a time. Raises MachineError as soon as one of them ends."""
        if self._ends.poll(seconds * 1000):
            raise MachineError(f"a process of {self._name} ended while it was measured")

    def until_first(self, count: Callable[[], int], what: str) -> None:
        """Wait until a count is not 0. Raises MachineError where it stays so, or one of them ends."""
        deadline = time.monotonic() + FIRST_SECONDS
        while not count():
            if time.monotonic() > deadline:
                raise MachineError(f"no {what} passed {self._name} within {FIRST_SECONDS:g} s")
            self.pause(_LOOK_SECONDS)

    def rate(self, count: Callable[[], int], seconds: float, modulus: int) -> float:
        """Return by how much a count grows a second; it begins anew at `modulus`."""
        begun_ns, before, total = time.monotonic_ns(), count(), 0
        end_ns = now_ns = begun_ns
        end_ns += int(seconds * _NS_PER_SECOND)
        while (left_ns := end_ns - now_ns) > 0:
            self.pause(min(left_ns / _NS_PER_SECOND, _COUNT_LOOK_SECONDS))
            now, now_ns = count(), time.monotonic_ns()
            total, before = total + (now - before) % modulus, now
        return total * _NS_PER_SECOND / (now_ns - begun_ns)


@contextmanager
def crew(
    name: str, commands: Sequence[Sequence[str]], descriptor: int, stop: Callable[[], None]
) -> Iterator[Crew]:
    """Start the commands, each with `descriptor`; `stop` has them end, and all are waited for."""
    started: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        try:
            for command in commands:
                # a Ctrl-C is ours: `stop` ends them, and where we die first so do they
                started.append(
                    subprocess.Popen(command, pass_fds=(descriptor,), env=environment(), process_group=0)
                )
            yield Crew(name, started, stack)
        finally:
            stop()
            for process in started:
                process.wait()
