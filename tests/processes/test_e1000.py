"""Real guests with emulated 82540EMs: traffic with virtio guests both ways, and what it costs in exits."""

from pathlib import Path

import pytest

from launcher.result import Result
from tests.support.launched import ROOT, Launched

pytestmark = pytest.mark.usefixtures("run_parent")

CAPTURE = ROOT / "configs/captures/lan-mix.pcap"
CAPTURE_FRAMES = 11_058
KINDS = f"""
name: kinds
guests:
  a: {{memory: 16MiB, nics: [{{kind: e1000}}]}}
  b: {{memory: 16MiB}}
workloads:
  - {{kind: replay, from: a, to: b, pcap: {CAPTURE}}}
  - {{kind: replay, from: b, to: a, pcap: {CAPTURE}}}
  - - {{kind: pktgen, from: a, to: b, frame: imix, count: 20000}}
    - {{kind: pktgen, from: b, to: a, count: 20000}}
  - {{kind: rr, from: a, to: b, count: 50}}
  - {{kind: rr, from: b, to: a, count: 50}}
"""
KICKS = """
name: kicks
guests:
  one: {memory: 16MiB, nics: [{kind: e1000, frames_per_kick: 1}]}
  many: {memory: 16MiB, nics: [{kind: e1000, frames_per_kick: 32, reset: memory}]}
  sleepy: {memory: 16MiB, poll: 0, nics: [{kind: e1000, interpose: [{kind: capture, file: sleepy.pcapng}]}]}
workloads:
  - {kind: pktgen, from: one, to: many, count: 3200}
  - {kind: pktgen, from: many, to: one, count: 3200}
  - {kind: rr, from: one, to: sleepy, count: 30}
"""


def run(topology: str, directory: Path) -> Result:
    launched = Launched(topology, directory)
    code, result = launched.end(), launched.result()
    assert (code, result.died, result.reports, result.error) == (0, (), (), None)
    assert all(flow.good for flow in result.flows)
    return result


def test_an_e1000_guest_and_a_virtio_guest_talk_both_ways(tmp_path: Path) -> None:
    result = run(KINDS, tmp_path)
    received = [flow.received for flow in result.flows]
    assert received == [CAPTURE_FRAMES, CAPTURE_FRAMES, 20_000, 20_000, 50, 50]


def test_exits_a_frame_follow_from_frames_a_kick(tmp_path: Path) -> None:
    result = run(KICKS, tmp_path)
    vmm, guests = result.counters["vmm-h0"], result.counters
    kicks = {name: vmm[f"exits.{name}.nic0.TDT.write"] for name in ("one", "many")}

    assert kicks["one"] == guests["one"]["nic0.tx_frames"] + 1  # one more sets the ring up
    assert 3200 / 32 <= kicks["many"] - 1 <= 3200 / 8  # a burst may end in the middle of 32
    assert vmm["many.nic0.frames_in"] == 3200
    assert vmm["exits.one.nic0.RDT.write"] <= 3200 / 16 + 10
    assert (vmm["exits.one.nic0.IODATA.write"], vmm.get("exits.many.nic0.IODATA.write", 0)) == (1, 0)
    assert guests["one"]["exits.hvc"] == 3
    # who always sleeps is woken by the line, reads the causes and masks them
    assert vmm["exits.sleepy.nic0.ICR.read"] > guests["sleepy"]["interrupts.e1000"] > 10
    assert (tmp_path / "sleepy.pcapng").stat().st_size > 60 * 60
