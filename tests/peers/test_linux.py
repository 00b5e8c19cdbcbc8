"""Real Linux guests in QEMU on a topology: they reach each other and the namespace of a testbed guest.

QEMU emulates (no KVM), so what takes time is its processor; both guests boot at the same time.
"""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from launcher.linux_guest import QEMU
from tests.support.launched import ROOT, Launched
from tests.support.linux_guests import running_linux
from tests.support.peers import needs, needs_namespaces

pytestmark = [
    pytest.mark.usefixtures("run_parent", "linux_kernel"),
    pytest.mark.timeout(240),
    needs_namespaces,
    needs(QEMU, "busybox", "curl"),
]
ADDRESSES: Final = {"a": "10.0.0.1", "b": "10.0.0.2", "single": "10.0.0.10", "pairs": "10.0.0.11"}
TOPOLOGY: Final = """
name: linux
guests:
  a: {memory: 32MiB}
  b: {memory: 32MiB, nics: [{kind: e1000}]}
  single: {kind: external, nics: [{kind: virtio-net, ring: packed}]}
  pairs: {kind: external, nics: [{kind: virtio-net, queue_pairs: 2}]}
workloads:
  - {kind: netns, guest: a, address: 10.0.0.1/24}
  - {kind: netns, guest: b, address: 10.0.0.2/24}
"""
CONTENT_BYTES: Final = 10_000_000
PORT: Final = 8000
PATIENCE_SECONDS: Final = 120.0
"""A safety net only."""
SERVER: Final = f"""
mkdir /www
head -c {CONTENT_BYTES} /dev/urandom > /www/content
sha256sum < /www/content > /www/sum
httpd -p {PORT} -h /www
echo serving
sleep 1000
"""
"""What a Linux guest does that others fetch from."""
CLIENT: Final = f"""
for peer in {ADDRESSES["a"]} {ADDRESSES["b"]} {ADDRESSES["single"]}; do
  until ping -c 1 -W 1 $peer >/dev/null; do :; done
  echo "$peer: $(ping -q -c 100 -i 0.01 $peer | grep received)"
done
until wget -q -O /tmp/sum http://{ADDRESSES["single"]}:{PORT}/sum; do usleep 100000; done
wget -q -O - http://{ADDRESSES["single"]}:{PORT}/content | sha256sum | cmp - /tmp/sum && echo equal
wget -q -O - http://{ADDRESSES["a"]}:{PORT}/content | sha256sum
echo "processors $(nproc), queues $(ls -d /sys/class/net/eth0/queues/tx-* | wc -l)"
exit 7
"""
"""What the other one does: ping everybody, fetch 10 MB from the first and from a namespace."""


def inside(guest: str, *program: str) -> list[str]:
    return [sys.executable, "-m", "launcher", "exec", "linux", guest, "--", *program]


def output(guest: str, *program: str) -> bytes:
    return subprocess.run(
        inside(guest, *program), cwd=ROOT, capture_output=True, check=True, timeout=PATIENCE_SECONDS
    ).stdout


def until(process: "subprocess.Popen[str]", text: str) -> list[str]:
    """Return the lines up to the one with a text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if text in line:
            return lines
    raise AssertionError(f"it never said {text!r}: {lines}")


def test_linux_guests_reach_each_other_and_namespaces_of_testbed_guests(tmp_path: Path) -> None:
    content = os.urandom(CONTENT_BYTES)
    (tmp_path / "content").write_bytes(content)
    launched = Launched(TOPOLOGY, tmp_path)
    launched.until("ready in")
    web = inside("a", sys.executable, "-u", "-m", "http.server", "-d", str(tmp_path), str(PORT))
    with (
        subprocess.Popen(web, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as www,
        running_linux("linux", "single", ADDRESSES["single"], SERVER) as server,
        running_linux("linux", "pairs", ADDRESSES["pairs"], CLIENT) as client,
    ):
        said, _ = client.communicate(timeout=PATIENCE_SECONDS)
        until(server, "serving")
        url = f"http://{ADDRESSES['single']}:{PORT}"
        fetched = {guest: output(guest, "curl", "-s", f"{url}/content") for guest in "ab"}
        told = output("b", "curl", "-s", f"{url}/sum").decode().split()[0]
        www.kill()
    os.kill(launched.pid, signal.SIGTERM)

    assert launched.end() == 128 + signal.SIGTERM
    for peer in ("a", "b", "single"):
        assert f"{ADDRESSES[peer]}: 100 packets transmitted, 100 packets received, 0% packet loss" in said
    assert "equal" in said.split()
    assert hashlib.sha256(content).hexdigest() in said
    assert "processors 2, queues 2" in said
    assert client.returncode == 7
    assert {hashlib.sha256(data).hexdigest() for data in fetched.values()} == {told}
    result = launched.result()
    assert (result.died, result.reports) == ((), ())
    counters = result.counters["vmm-h0"]
    assert counters["single.nic0.bytes_in"] > 3 * CONTENT_BYTES
    assert counters["pairs.nic0.bytes_out"] > 2 * CONTENT_BYTES
