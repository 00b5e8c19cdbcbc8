"""A real Linux in QEMU that a test starts on a running topology."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.launched import ROOT


@contextmanager
def running_linux(topology: str, guest: str, address: str, script: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a Linux guest until the end of the block, or until its script ends."""
    where = ("linux", topology, guest, "--address", f"{address}/24")
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "guest", *where, "--", "sh", "-c", script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # QEMU is tied to it
