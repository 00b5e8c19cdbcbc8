"""DPDK's virtio-user as the front end of our vhost-user back end: every frame is counted, on both sides.

One testpmd sends to an echo and takes what returns (flowgen); when enough has gone it only takes (rxonly), so
that nothing is on its way when the counters are compared.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from launcher.peers import testpmd
from launcher.peers.dpdk import NO_HUGE_OPTIONS
from tests.support.background import Background, until
from tests.support.peers import needs

FRAMES: Final = 10_000_000
QUEUE_SIZE: Final = 4096
"""Long, so that processes that take turns on few processors have much to do each turn."""
TOPOLOGY: Final = """
name: {name}
poll: 20ms
hosts: {{h0: {{cpus: [0]}}}}
guests:
  dpdk:
    kind: external
    socket: {socket}
    listens: {listens}
    nics: [{{kind: virtio-net, backend: echo, ring: {ring}, in_order: {in_order}, mrg_rxbuf: {merge},
             queue_pairs: {pairs}}}]
"""
VARIANTS: Final[dict[str, dict[str, object]]] = {
    "split": {},
    "packed": {"ring": "packed"},
    "in-order": {"in_order": "true"},
    "no-mrg_rxbuf": {"merge": "false"},
    "two-queues": {"pairs": 2},
    "server": {"listens": "false"},
}
pytestmark = [pytest.mark.usefixtures("run_parent"), needs(testpmd.PROGRAM)]


@contextmanager
def virtio_user(directory: Path, said: dict[str, object], mode: str) -> Iterator[testpmd.Testpmd]:
    """Run a testpmd whose only port is a virtio-user device at the socket, and forward frames with it."""
    numbers = f"queues={said['pairs']},queue_size={QUEUE_SIZE},server={int(said['listens'] == 'false')}"
    formats = f"packed_vq={int(said['ring'] == 'packed')},in_order={int(said['in_order'] == 'true')}"
    merge = f"mrg_rxbuf={int(said['merge'] == 'true')}"
    device = f"net_virtio_user0,path={said['socket']},{numbers},{formats},{merge}"
    options = [f"--rxq={said['pairs']}", f"--txq={said['pairs']}", "--burst=128", f"--forward-mode={mode}"]
    eal = (*NO_HUGE_OPTIONS, "--lcores=0@(0,1),1@(1)")
    peer = testpmd.Testpmd("front", directory, eal, [device], options)
    try:
        peer.ready()
        yield peer
    finally:
        peer.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_frame_of_ten_million_goes_both_ways(tmp_path: Path, variant: str) -> None:
    said: dict[str, object] = {
        "name": f"dpdk-{variant}",
        "socket": tmp_path / "s",
        "ring": "split",
        "in_order": "false",
        "merge": "true",
        "pairs": 1,
        "listens": "true",
        **VARIANTS[variant],
    }
    with ExitStack() as stack:
        up = Background(TOPOLOGY.format(**said), tmp_path)
        stack.callback(up.down)
        front = stack.enter_context(virtio_user(tmp_path, said, "flowgen"))
        front.start()
        until(lambda: up.count("dpdk.nic0.frames_out") >= FRAMES, "ten million frames")
        front.stop()
        front.forward("rxonly")
        front.start()
        given = up.settled("dpdk.nic0.frames_out")
        until(lambda: front.stats().received >= given, "every frame that was given")
        taken, stats = up.count("dpdk.nic0.frames_in"), front.stats()
        assert (stats.sent, stats.received) == (taken, given)
        assert taken == given >= FRAMES
        faults = {name: up.count(f"dpdk.nic0.{name}") for name in ("fault.protocol", "fault.address")}
        assert set(faults.values()) == {0}
