"""Our guest's vhost-user front end against our own back end, as if either were somebody else's.

The guest's device is in the vmm of another topology, behind a socket, as DPDK's or QEMU's would be.
"""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.support.background import Background, until
from tests.support.launched import Launched

BACK_END: Final = """
name: back-end
guests:
  x:
    kind: external
    socket: {socket}
    nics: [{{kind: virtio-net, backend: echo, ring: packed, in_order: true, queue_pairs: 2}}]
"""
FRONT_END: Final = """
name: front-end
guests:
  a: {{nics: [{{kind: virtio-net, vhost-user: {socket}, {nic}}}]}}
workloads:
  - {{kind: pktgen, from: a, count: 20000, frame: imix}}
  - {{kind: rr, from: a, count: 50}}
"""
NICS: Final = (
    "ring: split, event_idx: false, segments: 3",
    "ring: packed, queue_pairs: 2",
    "ring: split, in_order: true",
)
pytestmark = pytest.mark.usefixtures("run_parent")


def test_every_frame_returns_whole_through_every_kind_of_ring(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    with ExitStack() as stack:
        up = Background(BACK_END.format(socket=socket), tmp_path)
        stack.callback(up.down)
        for nic in NICS:
            launched = Launched(FRONT_END.format(socket=socket, nic=nic), tmp_path)
            code, result = launched.end(), launched.result()
            assert (code, result.error, result.died) == (0, None, ()), nic
            assert [flow.received for flow in result.flows] == [20_000, 50]
            assert all(flow.good for flow in result.flows)
        assert up.count("x.nic0.fault.protocol") == 0


def test_a_vmm_that_was_killed_serves_the_next_front_end(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    text = BACK_END.format(socket=socket) + "hosts: {h0: {restart: true}}\n"
    with ExitStack() as stack:
        up = Background(text, tmp_path)
        stack.callback(up.down)
        killed = up.pid_of("vmm-h0")
        os.kill(killed, signal.SIGKILL)
        until(lambda: up.pid_of("vmm-h0") != killed, "another vmm")
        launched = Launched(FRONT_END.format(socket=socket, nic=NICS[0]), tmp_path)
        code, result = launched.end(), launched.result()
        assert (code, [flow.received for flow in result.flows]) == (0, [20_000, 50])


@pytest.mark.parametrize("victim", ["vmm-h0", "launcher"])
def test_no_socket_is_left_of_who_was_killed(tmp_path: Path, victim: str) -> None:
    socket = tmp_path / "s"
    launched = Launched(BACK_END.format(socket=socket), tmp_path)
    launched.until("ready in")
    assert socket.is_socket()
    if victim == "launcher":
        os.kill(launched.pid, signal.SIGTERM)
    else:
        os.kill(launched.pid_of("back-end", victim), signal.SIGKILL)
    launched.end()
    assert not socket.exists()


def test_a_guest_whose_back_end_does_not_come_says_so(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    launched = Launched(FRONT_END.format(socket=tmp_path / "s", nic="ring: split"), tmp_path)
    code, result = launched.end(), launched.result()
    assert code == 3
    assert "start the back end first" in str(result.died)
