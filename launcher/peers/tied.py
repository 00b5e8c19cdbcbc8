"""Runs a program that the kernel ends when whoever started it ends: `python -m launcher.peers.tied PARENT
PROGRAM ...`.

Reference: prctl(2), PR_SET_PDEATHSIG, which survives execve(2).
"""

import os
import sys
from collections.abc import Sequence

from launcher import prctl


def tied(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` tied to this process."""
    return [sys.executable, "-P", "-m", "launcher.peers.tied", str(os.getpid()), *command]


def main() -> None:
    """Tie this process to its parent and become the program."""
    prctl.die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 what our own command line says


if __name__ == "__main__":
    main()
