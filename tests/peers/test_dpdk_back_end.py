"""Our guest's vhost-user front end against DPDK's vhost library: every frame that it sends returns, and once.

testpmd (io, with retries) sends back what it gets; the guest checks every frame that returns.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from launcher.peers import testpmd
from launcher.peers.dpdk import NO_HUGE_OPTIONS
from tests.support.launched import Launched
from tests.support.peers import needs

FRAMES: Final = 10_000_000
RETRIES: Final = 10_000_000
"""Ten seconds: a guest that has to wait for a processor must not cost a frame."""
TOPOLOGY: Final = """
name: dpdk-vhost-{name}
poll: 20ms
guests:
  a:
    memory: 64MiB
    cpus: [0]
    nics: [{{kind: virtio-net, vhost-user: {socket}, queue_size: 4096, ring: {ring}, in_order: {in_order},
             mrg_rxbuf: {merge}, queue_pairs: {pairs}}}]
workloads: {workloads}
"""
VARIANTS: Final[dict[str, dict[str, object]]] = {
    "split": {},
    "packed": {"ring": "packed"},
    "in-order": {"in_order": "true"},
    "no-mrg_rxbuf": {"merge": "false"},
    "two-queues": {"pairs": 2},
}
pytestmark = [pytest.mark.usefixtures("run_parent"), needs(testpmd.PROGRAM)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_frame_of_ten_million_returns(tmp_path: Path, variant: str) -> None:
    said: dict[str, object] = {
        "name": variant,
        "socket": tmp_path / "s",
        "ring": "split",
        "in_order": "false",
        "merge": "true",
        "pairs": 1,
        **VARIANTS[variant],
    }
    pairs = 2 if variant == "two-queues" else 1
    flow = f"{{kind: pktgen, from: a, count: {FRAMES // pairs}, verify: false}}"
    device = f"net_vhost0,iface={said['socket']},queues={pairs}"
    options = [f"--rxq={pairs}", f"--txq={pairs}", "--burst=128", "--forward-mode=io"]
    with ExitStack() as stack:
        eal = (*NO_HUGE_OPTIONS, "--lcores=0@(0,1),1@(1)")
        peer = testpmd.Testpmd("vhost", tmp_path, eal, [device], options)
        stack.callback(peer.close)
        peer.ready()
        peer.forward("io retry")
        peer.keep_trying(RETRIES)
        peer.start()
        launched = Launched(TOPOLOGY.format(**said, workloads=f"[[{', '.join([flow] * pairs)}]]"), tmp_path)
        code = launched.end()
        result, stats = launched.result(), peer.stats()
    assert (code, result.error, result.died) == (0, None, ())
    assert [(flow.sent, flow.received) for flow in result.flows] == [(FRAMES // pairs,) * 2] * pairs
    assert (stats.received, stats.sent) == (FRAMES, FRAMES)
