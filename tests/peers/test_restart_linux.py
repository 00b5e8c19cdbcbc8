"""A vmm that is killed under two Linux guests in QEMU: their pings go on, each answer comes once.

One guest has a packed ring: QEMU gives its first base again, so only the record that the vmm left says where
it stands. The guests listen, and every vmm connects.
"""

import os
import re
import signal
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from launcher.linux_guest import QEMU
from tests.support.background import Background
from tests.support.linux_guests import running_linux
from tests.support.peers import needs

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
pytestmark = [
    pytest.mark.usefixtures("run_parent", "linux_kernel"),
    pytest.mark.timeout(240),
    needs(QEMU, "busybox"),
]


def test_pings_go_on_after_the_vmm_was_killed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        up = Background(TOPOLOGY.format(directory=tmp_path), tmp_path)
        stack.callback(up.down)
        stack.enter_context(running_linux("restart-linux", "split", ADDRESSES["split"], "sleep 1000"))
        pinger = stack.enter_context(running_linux("restart-linux", "packed", ADDRESSES["packed"], PINGER))
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
