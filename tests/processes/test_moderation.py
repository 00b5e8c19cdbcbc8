"""Interrupts fall where frames come fast: drivers mask while they poll, and want one before they sleep."""

from pathlib import Path

import pytest

from tests.support.launched import Launched

pytestmark = pytest.mark.usefixtures("run_parent")

SLOW, FAST, HELD = 60, 20_000, 400
TOPOLOGY = f"""
name: moderation
poll: 0
hosts: {{h0: {{nics: {{nic0: {{vfs: 4}}}}}}}}
guests:
  src: {{memory: 16MiB, nics: [{{kind: virtio-net}}, {{kind: vf, nic: nic0}}]}}
  e1000-slow: {{memory: 16MiB, nics: [{{kind: e1000}}]}}
  e1000-fast: {{memory: 16MiB, nics: [{{kind: e1000}}]}}
  virtio-slow: {{memory: 16MiB}}
  virtio-fast: {{memory: 16MiB}}
  vf-slow: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0}}]}}
  vf-fast: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0}}]}}
  e1000-held: {{memory: 16MiB, nics: [{{kind: e1000, throttle: 4ms}}]}}
  vf-held: {{memory: 16MiB, nics: [{{kind: vf, nic: nic0, throttle: 4ms}}]}}
workloads:
  - - {{kind: pktgen, from: src.nic0, to: e1000-slow, count: {SLOW}, rate: 200}}
    - {{kind: pktgen, from: src.nic0, to: virtio-slow, count: {SLOW}, rate: 200}}
    - {{kind: pktgen, from: src.nic1, to: vf-slow, count: {SLOW}, rate: 200}}
  - {{kind: pktgen, from: src.nic0, to: e1000-fast, count: {FAST}}}
  - {{kind: pktgen, from: src.nic0, to: virtio-fast, count: {FAST}}}
  - {{kind: pktgen, from: src.nic1, to: vf-fast, count: {FAST}}}
  - - {{kind: pktgen, from: src.nic0, to: e1000-held, count: {HELD}, rate: 1000}}
    - {{kind: pktgen, from: src.nic1, to: vf-held, count: {HELD}, rate: 1000}}
"""


def test_interrupts_a_frame_fall_under_load(tmp_path: Path) -> None:
    launched = Launched(TOPOLOGY, tmp_path)
    code, result = launched.end(), launched.result()
    assert (code, result.died, result.error) == (0, (), None)

    for kind in ("e1000", "virtio", "vf"):
        per_frame = {
            pace: result.counters[f"{kind}-{pace}"].get(f"interrupts.{kind}", 0) / frames
            for pace, frames in (("slow", SLOW), ("fast", FAST))
        }
        assert per_frame["slow"] > 0.2, kind
        assert per_frame["fast"] < per_frame["slow"] / 4, kind
    # an interrupt each 4 ms is one for 4 frames, and a few more for bringing up; else there are twice as many
    for kind in ("e1000", "vf"):
        assert 0 < result.counters[f"{kind}-held"][f"interrupts.{kind}"] < 3 * HELD / 8, kind
