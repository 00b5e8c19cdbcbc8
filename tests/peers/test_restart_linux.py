"""A vmm that is killed under two Linux guests in QEMU: their pings go on, each answer comes once.

One guest has a packed ring: QEMU gives its first base again, so only the record that the vmm left says where
it stands. The guests listen, and every vmm connects.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from launcher.linux_guest import QEMU, check_installed
from testbed.errors import MachineError
from tests.support.background import Background
from tests.support.launched import ROOT
from tests.support.peers import CI, needs

RESUMED_SECONDS: Final = 2.0
INTERVAL_SECONDS: Final = 0.02
PINGS: Final = 500
KILLED_AT: Final = (100, 250)
ADDRESSES: Final = {"packed": "10.0.0.1", "split": "10.0.0.2"}
TOPOLOGY: Final = """
name: restart-linux
hosts: {{h0: {{restart: true}}}}
guests:
  split: &guest {{kind: external, listens: false, socket: {directory}/s}}
  packed: {{<<: *guest, socket: {directory}/p, nics: [{{kind: virtio-net, ring: packed}}]}}
"""
PINGER: Final = f"""
until ping -c 1 -W 1 {ADDRESSES["split"]} >/dev/null; do :; done
ping -c {PINGS} -i {INTERVAL_SECONDS} {ADDRESSES["split"]}
"""
pytestmark = [pytest.mark.usefixtures("run_parent"), pytest.mark.timeout(240), needs(QEMU, "busybox")]


@pytest.fixture(autouse=True)
def _kernel() -> None:
    try:
        check_installed()
    except MachineError as error:
        if CI:
            pytest.fail(str(error))
        pytest.skip(str(error))


@contextmanager
def linux(name: str, script: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a Linux guest until the end of the block."""
    where = ("restart-linux", name, "--address", f"{ADDRESSES[name]}/24")
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "guest", "linux", *where, "--", "sh", "-c", script],
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


def test_pings_go_on_after_the_vmm_was_killed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        up = Background(TOPOLOGY.format(directory=tmp_path), tmp_path)
        stack.callback(up.down)
        stack.enter_context(linux("split", "sleep 1000"))
        pinger = stack.enter_context(linux("packed", PINGER))
        assert pinger.stdout is not None
        lines, answered = [], []
        waiting = list(KILLED_AT)
        for line in pinger.stdout:
            lines.append(line)
            if found := re.search(r"seq=(\d+) ", line):
                answered.append(int(found[1]))
                if waiting and answered[-1] >= waiting[0]:
                    os.kill(up.pid_of("vmm-h0"), signal.SIGKILL)
                    del waiting[0]
    assert not waiting, lines
    assert len(answered) == len(set(answered)), "an answer came twice"
    assert "DUP" not in "".join(lines)
    assert answered[-1] == PINGS - 1
    gaps = [after - before - 1 for before, after in pairwise(answered)]
    assert max(gaps) * INTERVAL_SECONDS < RESUMED_SECONDS
