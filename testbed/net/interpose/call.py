"""Has a Python function look at every burst: for experiments, and slow.

The function gets the burst and the direction ("tx": from the guest, "rx": to it). It may look at the frames
(`burst.present()`, `burst.frame_bytes(i)`) and drop some (`burst.remove(i)`); the burst is valid during the
call only. This is the only interposer that runs Python for each frame.
"""

import importlib
import sys
from collections.abc import Callable

from testbed.errors import ConfigError
from testbed.native import Burst
from testbed.net.interpose.chain import Direction
from testbed.net.interpose.counts import PortCounts

Function = Callable[[Burst, Direction], object]
Report = Callable[[str, str], None]
"""Tells of (reason, detail); told once for each kind."""


def load_function(path: str, directory: str = "") -> Function:
    """Return the function that `package.module:function` names; modules are also looked for in `directory`.

    Raises ConfigError where there is none, or where its module cannot be imported.
    """
    module_name, _, name = path.partition(":")
    if directory and directory not in sys.path:
        sys.path.append(directory)
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        raise ConfigError(f"call: {path} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(function):
        raise ConfigError(f"call: {path} must be a function, not {type(function).__name__}")
    loaded: Function = function
    return loaded


class Call:
    """Calls a function with every burst; whatever it raises is counted and never goes further."""

    def __init__(self, path: str, function: Function, counts: PortCounts, report: Report) -> None:
        self._path, self._function, self._counts, self._report = path, function, counts, report

    def apply(self, burst: Burst, direction: Direction) -> None:
        """Call the function; what it removed is dropped even where it raises."""
        before = burst.removed
        try:
            self._function(burst, direction)
        except (Exception, SystemExit) as error:
            self._counts.add("call_errors", 1)
            self._report("call_error", f"{self._path} raised {type(error).__name__}: {error}")
        self._counts.add("dropped_call", burst.removed - before)
