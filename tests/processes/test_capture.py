"""Captures of real runs: in the topology file, and on a topology that runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dpkt
import pytest

from launcher.capture_session import Capture
from launcher.live_capture import Asked
from testbed.errors import ConfigError
from tests.support.launched import ROOT, Launched

pytestmark = pytest.mark.usefixtures("run_parent")

FRAMES = 3000
INTERPOSED = f"""
name: interposed
guests:
  a:
    memory: 16MiB
    nics: [{{kind: virtio-net, interpose: [{{kind: capture, file: a.pcapng}}, {{kind: mirror, to: c}}]}}]
  b:
    memory: 16MiB
    nics: [{{kind: virtio-net, interpose: [{{kind: capture, file: b.pcapng, direction: rx}}]}}]
  c: {{memory: 16MiB, nics: [{{kind: virtio-net, queue_size: 4096}}]}}
workloads:
  - {{kind: pktgen, from: a, to: b, frame: [60, 300], count: {FRAMES}, rate: 20k}}
"""
LASTING = """
name: lasting
guests:
  a: {memory: 16MiB}
  b: {memory: 16MiB}
  c: {memory: 16MiB, nics: [{kind: virtio-net, backend: sink}]}
workloads:
  - {kind: rr, from: a, to: b, count: 1}
  - {kind: pktgen, from: a, to: b, duration: 60s, rate: 2000}
"""


def read_back(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [bytes(content) for _, content in dpkt.pcapng.Reader(file)]


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "launcher", "capture", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_capture_of_the_topology_file_has_exactly_the_frames(tmp_path: Path) -> None:
    launched = Launched(INTERPOSED, tmp_path)
    code = launched.end()
    result = launched.result()
    sent, arrived = read_back(tmp_path / "a.pcapng"), read_back(tmp_path / "b.pcapng")

    assert (code, result.flows[0].received) == (0, FRAMES)
    assert [len(frame) for frame in sent] == [60, 300] * (FRAMES // 2)
    assert sent == arrived
    assert len(set(sent)) == FRAMES
    counters = result.counters["vmm-h0"]
    assert [counters[f"{name}.frames_captured"] for name in ("a.nic0", "b.nic0")] == [FRAMES, FRAMES]
    assert counters["c.nic0.frames_out"] + counters.get("c.nic0.dropped.mirror", 0) == FRAMES


def test_live_captures_take_count_filter_and_ctrl_c_and_the_topology_goes_on(tmp_path: Path) -> None:
    launched = Launched(LASTING, tmp_path)
    launched.until("phase 2 of 2")
    counted = command("lasting", "a", "-w", str(tmp_path / "a.pcapng"), "--count", "50")
    lines = command("lasting", "b.nic0", "--filter", "udp and len = 60", "-c", "20")
    endless = command("lasting", "b", "--write", str(tmp_path / "b.pcapng"))
    assert endless.stderr is not None
    assert "capturing b.nic0 to" in endless.stderr.readline()
    outputs = [process.communicate(timeout=60) for process in (counted, lines)]
    endless.send_signal(signal.SIGINT)
    _, last = endless.communicate(timeout=60)

    assert [process.returncode for process in (counted, lines, endless)] == [0, 0, 0]
    assert "50 frames captured" in outputs[0][1]
    assert len(read_back(tmp_path / "a.pcapng")) == 50
    shown = outputs[1][0].splitlines()
    assert len(shown) == 20
    assert all(" rx    60 " in line and "IPv4 UDP" in line for line in shown)
    assert f"{len(read_back(tmp_path / 'b.pcapng')):,} frames captured" in last
    assert {process.state for process in launched.status("lasting").processes} == {"ready"}
    os.kill(launched.pid, signal.SIGTERM)
    assert launched.end() == 128 + signal.SIGTERM


def test_live_capture_is_refused_with_the_reason_and_one_whose_asker_dies_ends(tmp_path: Path) -> None:
    launched = Launched(LASTING, tmp_path)
    launched.until("phase 2 of 2")
    path = str(tmp_path / "a.pcapng")
    for nic, expression, told in (
        ("c", "", "cannot be captured: it has a back end of its own"),
        ("a.nic7", "", "guest a has a.nic0"),
        ("x", "", "has no guest x"),
        ("a", "frob", "position 1"),
    ):
        with pytest.raises(ConfigError, match=told):
            Asked("lasting", Capture(nic=nic, file=path, expression=expression))
    with Asked("lasting", Capture(nic="a", file=path)):
        pass
    with Asked("lasting", Capture(nic="a", file=path, count=5)) as again:
        assert again.result().frames == 5
    with Asked("lasting", Capture(nic="a", file=path)) as held:
        os.kill(launched.pid, signal.SIGTERM)
        result = held.result()

    assert launched.end() == 128 + signal.SIGTERM
    assert (result.error, len(read_back(Path(path)))) == ("", result.frames)
    gone = command("lasting", "a")
    assert "no topology" in gone.communicate(timeout=60)[1]
    assert gone.returncode == 2
