"""Process attributes that only prctl(2) sets: what ends the process, its short name, whose orphans it adopts.

Reference: prctl(2), PR_SET_PDEATHSIG, PR_SET_NAME and PR_SET_CHILD_SUBREAPER. Not modelled: every other
operation.
"""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
NAME_BYTES: Final = 15
"""What the kernel keeps of a name, without its final zero byte."""

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent's thread ends.

    Exit now when that has happened already.
    """
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent_pid:
        os._exit(128 + signal.SIGKILL)


def adopt_orphans(adopt: bool) -> None:
    """Become, or cease to be, the parent of descendants whose own parent ends, so that they can be waited
    for.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))


def set_name(name: str) -> None:
    """Set the name that ps and top show, cut to `NAME_BYTES`."""
    _prctl(_PR_SET_NAME, name.encode()[:NAME_BYTES] + b"\0")
