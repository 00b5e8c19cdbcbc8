"""A vmm that is killed and started again under front ends that stay: traffic goes on, no frame comes twice.

That no frame comes twice whatever the moment of the death is tested step by step in
tests/virtio/test_vhost_user.py; here it is that processes, sockets and memory come together again.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from launcher.peers import testpmd
from launcher.peers.dpdk import NO_HUGE_OPTIONS
from tests.support.background import Background, until
from tests.support.peers import needs

RESUMED_SECONDS: Final = 2.0
QUEUE_SIZE: Final = 1024
TOPOLOGY: Final = """
name: restart-{ring}
hosts: {{h0: {{restart: true}}}}
guests:
  sender: &dpdk
    kind: external
    socket: {directory}/sender
    listens: false
    nics: [{{kind: virtio-net, ring: {ring}}}]
  receiver: {{<<: *dpdk, socket: {directory}/receiver}}
"""
pytestmark = [pytest.mark.usefixtures("run_parent"), needs(testpmd.PROGRAM)]


@contextmanager
def dpdk(directory: Path, name: str, ring: str, mode: str) -> Iterator[testpmd.Testpmd]:
    """Run a testpmd that listens at the socket of its name for a back end that comes and goes."""
    formats = f"server=1,packed_vq={int(ring == 'packed')},in_order=0"
    device = f"net_virtio_user0,path={directory / name},queue_size={QUEUE_SIZE},{formats}"
    own = directory / f"{name}.d"
    own.mkdir()
    eal = (*NO_HUGE_OPTIONS, "--lcores=0@(0,1),1@(0,1)")
    peer = testpmd.Testpmd(name, own, eal, [device], [f"--forward-mode={mode}"])
    try:
        yield peer
    finally:
        peer.close()


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_traffic_goes_on_after_the_vmm_was_killed(tmp_path: Path, ring: str) -> None:
    with ExitStack() as stack:
        receiver = stack.enter_context(dpdk(tmp_path, "receiver", ring, "rxonly"))
        sender = stack.enter_context(dpdk(tmp_path, "sender", ring, "txonly"))
        up = Background(TOPOLOGY.format(directory=tmp_path, ring=ring), tmp_path)
        stack.callback(up.down)
        for peer in (receiver, sender):
            peer.ready()
            peer.start()
        slowest = 0.0
        for _ in range(3):
            until(_arrives(up), "frames at the receiver")
            os.kill(up.pid_of("vmm-h0"), signal.SIGKILL)
            killed = time.monotonic()
            until(_arrives(up), "frames after the vmm was killed")
            slowest = max(slowest, time.monotonic() - killed)
        sender.stop()
        sent = sender.stats().sent
        given = up.settled("receiver.nic0.frames_out")
        until(lambda: receiver.stats().received >= given, "every frame that was given")
        received = receiver.stats().received
    assert 0 < received <= sent
    assert slowest < RESUMED_SECONDS


def _arrives(up: Background) -> "Arrives":
    return Arrives(up)


class Arrives:
    """Whether a few laps of the rings have reached the receiver since it was asked first."""

    def __init__(self, up: Background) -> None:
        self._up, self._before = up, up.count("receiver.nic0.frames_out")

    def __call__(self) -> bool:
        return self._up.count("receiver.nic0.frames_out") > self._before + 5 * QUEUE_SIZE
