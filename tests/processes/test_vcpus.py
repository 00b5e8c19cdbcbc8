"""Guests with several vCPUs: each is a thread that serves its queue pairs and is woken by interrupts."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.launched import ROOT, Launched

pytestmark = pytest.mark.usefixtures("run_parent")

CAPTURE = ROOT / "configs/captures/lan-mix.pcap"
CAPTURE_FRAMES = 11_058
PAIR = """
name: {name}
poll: {poll}
guests:
  a: {{memory: 16MiB, vcpus: 2, nics: [{{kind: virtio-net, queue_pairs: 2}}]}}
  b: {{memory: 16MiB, vcpus: 4, nics: [{{kind: virtio-net, ring: packed, queue_pairs: 4}}]}}
workloads:
"""
EVERY_KIND = f"""
  - {{kind: replay, from: a, to: b, pcap: {CAPTURE}}}
  - [{{kind: pktgen, from: a, to: b, count: 20000}}, {{kind: pktgen, from: a, to: b, count: 20000}},
     {{kind: pktgen, from: b, to: a, count: 20000}}, {{kind: pktgen, from: b, to: a, count: 20000}}]
  - {{kind: rr, from: a, to: b, count: 30}}
  - {{kind: rr, from: a, to: b, count: 30}}
  - {{kind: rr, from: b, to: a, count: 30}}
  - {{kind: rr, from: b, to: a, count: 30}}
"""
ENDLESS = """
  - [{kind: pktgen, from: a, to: b, duration: 60s}, {kind: pktgen, from: b, to: a, duration: 60s},
     {kind: rr, from: a, to: b, duration: 60s}]
"""


@pytest.mark.parametrize("poll", ["200us", "0"])
def test_vcpus_serve_their_queues_and_wake_each_other(tmp_path: Path, poll: str) -> None:
    launched = Launched(PAIR.format(name="vcpus", poll=poll) + EVERY_KIND, tmp_path)
    code = launched.end()
    result = launched.result()

    assert (code, result.died, result.reports, result.error) == (0, (), (), None)
    assert [flow.received for flow in result.flows] == [CAPTURE_FRAMES, *[20_000] * 4, *[30] * 4]
    # a request that waited for its deadline instead of an interrupt took half a second
    assert all(flow.latency_us["p999"] < 400_000 for flow in result.flows if flow.latency_us)
    received = result.counters["b"]
    served = [vcpu for vcpu in ("", "vcpu1.", "vcpu2.", "vcpu3.") if received.get(f"{vcpu}nic0.rx_frames")]
    assert len(served) == 4
    assert sum(received.get(f"vcpu{n}.interrupts.ipi", 0) for n in (1, 2, 3)) > 0


@pytest.mark.parametrize("victim", ["", "a", "vmm-h0"])
def test_vcpus_threads_end_with_their_guest(tmp_path: Path, victim: str) -> None:
    launched = Launched(PAIR.format(name="vcpus-end", poll="0") + ENDLESS, tmp_path)
    launched.until("phase 1 of 1")
    if victim:
        os.kill(launched.pid_of("vcpus-end", victim), signal.SIGKILL)
    else:
        os.kill(launched.pid, signal.SIGINT)
    code = launched.end()
    result = launched.result()

    assert code == (3 if victim else 130)
    assert [(died.name, died.signal) for died in result.died] == ([(victim, "SIGKILL")] if victim else [])


INTERRUPTS = """
name: vcpu-interrupts
poll: {poll}
guests: {{a: {{memory: 16MiB, vcpus: 2, interrupts: {way}, nics: []}}}}
workloads:
  - {{kind: timer, from: a, count: 50}}
  - [{{kind: timer, from: a.vcpu1, count: 50}}, {{kind: ipi, from: a, interval: 100us, count: 200}}]
  - {{kind: ipi, from: a.vcpu1, to: a.vcpu0, interval: 100us, count: 200}}
"""


@pytest.mark.parametrize(("way", "poll"), [("list-registers", "0"), ("direct", "200us")])
def test_vcpus_timers_and_sgis_are_all_taken(tmp_path: Path, way: str, poll: str) -> None:
    launched = Launched(INTERRUPTS.format(way=way, poll=poll), tmp_path)
    code = launched.end()
    result = launched.result()

    assert (code, result.died, result.reports, result.error) == (0, (), (), None)
    assert [(flow.sent, flow.received) for flow in result.flows] == [
        (50, 50),
        (50, 50),
        (200, 200),
        (200, 200),
    ]
    counted = result.counters["a"]
    assert (counted["interrupts.timer"], counted["vcpu1.interrupts.timer"]) == (50, 50)
    assert (counted["interrupts.ipi"], counted["vcpu1.interrupts.ipi"]) == (200, 200)
    # neither way injects them without an exit: a write of ICC_SGI1R traps, a timer is a physical interrupt
    assert counted["exits.sysreg"] == counted["vcpu1.exits.sysreg"] == 200
    assert counted["exits.irq"] > 0
    assert counted["vcpu1.exits.irq"] > 0
