"""A role for the fork server's own tests: what the process does is its name."""

import os
import signal
import sys
import time
from pathlib import Path

from testbed.messages.entries import ProcessPlan


def _wait() -> None:
    while True:
        signal.pause()


def _spin() -> None:
    while time.process_time() < 0.05:
        pass


def _show_name() -> None:
    print(Path("/proc/self/comm").read_text())


def _list_opened() -> None:
    """Print what is open, in order of descriptor; the directory that is being read apart."""
    links = sorted(Path("/proc/self/fd").iterdir(), key=lambda link: int(link.name))
    print(*(_target(link) for link in links if link.is_symlink()))


def _target(link: Path) -> str:
    return str(link.readlink()).removesuffix(" (deleted)")


def main(plan: ProcessPlan, descriptors: dict[str, int], run_dir: str) -> None:
    """Do what the name says."""
    match plan.name:
        case "exits":
            sys.exit(5)
        case "raises":
            raise RuntimeError("upside down")
        case "spins":
            _spin()
        case "waits":
            _wait()
        case "says-its-long-name":
            _show_name()
        case "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "opens":
            _list_opened()
        case "lists":
            for name, descriptor in descriptors.items():
                print(name, _target(Path(f"/proc/self/fd/{descriptor}")))
